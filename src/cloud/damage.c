/* SPDX-License-Identifier: Apache-2.0 */
/* Layers whose bytes are lost or have rotted, and what stands on them. Nothing new is made from
 * such a layer; what there is is marked, and says why when it is used. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

/* The nearest damaged one among a layer and its ancestors. */
#define FIRST_DAMAGED                                                                              \
    "WITH RECURSIVE up(layer_id, parent_id, damage, n) AS ("                                       \
    "SELECT layer_id, parent_id, damage, 1 FROM layers WHERE layer_id = $1"                        \
    " UNION ALL SELECT l.layer_id, l.parent_id, l.damage, up.n + 1 FROM layers l"                  \
    " JOIN up ON l.layer_id = up.parent_id WHERE up.n < 4096)"                                     \
    " SELECT layer_id, damage FROM up WHERE damage <> '' ORDER BY n LIMIT 1"

bool layer_usable(struct db_conn *conn, const char *layer_id, struct im_err *err) {
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    if (im_str_empty(layer_id))
        return true;
    rows = db_query(conn, err, FIRST_DAMAGED, "t", layer_id);
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    return !more || im_fail(err, IM_WRONG_STATE, "layer %s, which it needs, is damaged: %s",
                            db_text(rows, 0), db_text(rows, 1));
}

/* --- Marks ------------------------------------------------------------------------------------ */

/* Rows whose mark is not what the layers say. */
#define SPREAD(table)                                                                              \
    "WITH RECURSIVE bad(layer_id) AS (SELECT layer_id FROM layers WHERE damage <> ''"              \
    " UNION SELECT l.layer_id FROM layers l JOIN bad ON l.parent_id = bad.layer_id)"               \
    " UPDATE " table " SET damaged = 1 - damaged WHERE damaged <>"                                 \
    " CASE WHEN status <> 'ceased' AND layer_id IN (SELECT layer_id FROM bad) THEN 1 ELSE 0 END"

bool damage_spread(struct db_conn *conn, struct im_err *err) {
    static const char *const spreads[] = {SPREAD("images"), SPREAD("instances"), SPREAD("volumes"),
                                          SPREAD("snapshots")};

    for (size_t i = 0; i < sizeof(spreads) / sizeof(spreads[0]); i++)
        if (!db_exec(conn, NULL, err, spreads[i], ""))
            return false;
    return true;
}

/* Is there a mark, or a reason for one? Mostly not, and then this is all that is asked. */
static bool damage_known(struct db_conn *conn, bool *ret_known, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(conn, err,
                                    "SELECT 1 FROM layers WHERE damage <> '' UNION ALL"
                                    " SELECT 1 FROM images WHERE damaged = 1 UNION ALL"
                                    " SELECT 1 FROM instances WHERE damaged = 1 UNION ALL"
                                    " SELECT 1 FROM volumes WHERE damaged = 1 UNION ALL"
                                    " SELECT 1 FROM snapshots WHERE damaged = 1 LIMIT 1",
                                    "");

    return rows != NULL && db_next(rows, ret_known, err);
}

static bool round_body(struct db_conn *conn, void *arg, struct im_err *err) {
    bool known = false;

    (void) arg;
    return damage_known(conn, &known, err) && (!known || damage_spread(conn, err));
}

bool damage_round(struct cloud *cloud, struct im_err *err) {
    return cloud_transact(cloud, round_body, NULL, err);
}

bool damage_set(struct db_conn *conn, const char *layer_id, const char *why, struct im_err *err) {
    struct layer layer = {.layer_id = (char *) layer_id, .damage = (char *) why};

    return record_update_fields(conn, &layer_type, &layer, (const char *const[]){"damage", NULL},
                                err) &&
           damage_spread(conn, err);
}

/* --- A pool that is lost ---------------------------------------------------------------------- */

struct loss {
    struct storage_pool *pool;
    struct storage_entry *entries;
    size_t count;
    int64_t lost;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct storage_entry *) a)->name,
                  ((const struct storage_entry *) b)->name);
}

static bool is_there(const struct loss *loss, const char *name) {
    struct storage_entry key = {.partial = false};
    const struct storage_entry *found;

    if (strlen(name) >= sizeof(key.name) || loss->count == 0)
        return false;
    strcpy(key.name, name);
    found = bsearch(&key, loss->entries, loss->count, sizeof(key), by_name);
    return found != NULL;
}

static bool accept_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct loss *loss = arg;
    IM_AUTO(query_done) struct query query = {0};
    struct layer **layers = NULL;
    size_t count = 0;
    bool fine = true;
    char time[IM_TIME_TEXT], why[128];

    im_time_format(im_now_s(), time);
    snprintf(why, sizeof(why), "it was not in its pool when the loss was accepted, %s", time);
    loss->lost = 0;
    query_add(&query, "pool", CONDITION_IN, storage_uri(loss->pool));
    query_add(&query, "state", CONDITION_IN, "head");
    query_add(&query, "state", CONDITION_IN, "frozen");
    if (!record_list(conn, &layer_type, &query, (void ***) &layers, &count, NULL, err))
        return false;
    for (size_t i = 0; i < count && fine; i++) {
        if (is_there(loss, layers[i]->name))
            continue;
        im_replace(&layers[i]->damage, why);
        fine = record_update_fields(conn, &layer_type, layers[i],
                                    (const char *const[]){"damage", NULL}, err);
        loss->lost++;
    }
    record_list_free(&layer_type, (void **) layers, count);
    return fine && damage_spread(conn, err);
}

bool cloud_pool_accept_loss(struct db *db, struct storage_pool *pool, int64_t *ret_lost,
                            struct im_err *err) {
    struct loss loss = {.pool = pool};
    bool accepted;

    if (!storage_list(pool, &loss.entries, &loss.count, err))
        return false;
    if (loss.count > 0)
        qsort(loss.entries, loss.count, sizeof(*loss.entries), by_name);
    accepted = db_transact(db, accept_body, &loss, err);
    free(loss.entries);
    *ret_lost = loss.lost;
    return accepted;
}
