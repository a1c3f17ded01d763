/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy between libpq and the cluster of postgres.h that cuts a connection around a COMMIT. */
#ifndef TEST_PROXY_H
#define TEST_PROXY_H

#include <stdbool.h>

enum proxy_cut {
    PROXY_PASS,
    PROXY_CUT_BEFORE, /* COMMIT never reaches the server */
    PROXY_CUT_AFTER,  /* it does, and is answered; the answer never reaches the client */
    PROXY_CUT_LATE,   /* the client is cut at once, the server sees COMMIT half a second later */
    PROXY_CUT_STAY,   /* as BEFORE, and nobody can connect until PROXY_PASS is said */
};

/* Starts it in a thread; URI of the database through the proxy, the caller's, NULL when that fails.
 * `uri` is what postgres_database() gave. */
char *proxy_start(const char *uri);
/* What to do with the next COMMIT that comes by; then it passes everything again. */
void proxy_next(enum proxy_cut cut);

#endif
