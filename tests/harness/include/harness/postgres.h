/* SPDX-License-Identifier: Apache-2.0 */
/* A private PostgreSQL cluster for tests: on a socket in a folder of its own, as user postgres when
 * we are root, gone when the program ends. */
#ifndef TEST_POSTGRES_H
#define TEST_POSTGRES_H

#include <stdbool.h>

/* Makes and starts the cluster at the first call. False where PostgreSQL is not installed or can
 * not be started; the reason is printed as a remark. */
bool postgres_start(void);
/* URI of a new, empty database; the caller's. NULL when that fails. */
char *postgres_database(const char *name);
/* SIGKILL to the postmaster, and a new start on the same data. */
bool postgres_crash(void);
/* The two halves of it. */
void postgres_kill(void);
bool postgres_again(void);

#endif
