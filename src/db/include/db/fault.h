/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the rooms above: commits that fail as a full disk or a lost server make them fail,
 * over either driver. */
#ifndef DB_FAULT_H
#define DB_FAULT_H

#include "db/db.h"

enum db_fault {
    DB_FAULT_NONE,
    DB_FAULT_FULL,   /* nothing is committed: IM_NO_RECORD */
    DB_FAULT_ANSWER, /* committed, but the caller is told IM_UNKNOWN_COMMIT */
};

/* From now on db_commit succeeds `fine` times, then fails `failing` times in the given way. What is
 * committed by a statement outside a transaction does not count. */
void db_fault_commits(struct db *db, enum db_fault kind, unsigned fine, unsigned failing);
/* How many of the failures have not come yet. */
unsigned db_fault_left(struct db *db);

#endif
