/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers are to be folded into one. */
#include <stdio.h>
#include <stdlib.h>

#include "cloud-private.h"

/* Frozen, read through by one other layer only, and for nothing else than that. */
#define NEEDLESS(layer)                                                                            \
    layer ".state = 'frozen' AND " LAYER_UNNAMED(                                                  \
        layer) " AND (SELECT COUNT(*) FROM layers n WHERE n.parent_id = " layer ".layer_id) = 1"
/* The sizes of points are measured before their layers change. */
#define SETTLED                                                                                    \
    " AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.layer_id = c.layer_id"                     \
    " AND s.transition_status <> '')"

/* Its parent is needless and, so that a row of needless layers is copied once, no child of it would
 * take it up. */
static const char needless_below[] =
    "SELECT c.layer_id FROM layers c JOIN layers p ON p.layer_id = c.parent_id"
    " WHERE c.state = 'frozen' AND " NEEDLESS("p") " AND NOT (" NEEDLESS(
        "c") " AND EXISTS (SELECT 1 FROM layers k WHERE k.parent_id = c.layer_id"
             " AND k.state = 'frozen'))" SETTLED " ORDER BY c.create_time, c.layer_id";
/* The lowest first: whatever stands on it gains too. */
static const char too_deep[] = "SELECT c.layer_id FROM layers c WHERE c.state = 'frozen'"
                               " AND c.depth > $1" SETTLED " ORDER BY c.depth, c.layer_id";

static bool is_needless(struct db_conn *conn, const char *layer_id, bool *ret_needless,
                        struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows =
        db_query(conn, err, "SELECT 1 FROM layers p WHERE p.layer_id = $1 AND " NEEDLESS("p"), "t",
                 layer_id);

    return rows != NULL && db_next(rows, ret_needless, err);
}

void fold_plan_done(struct fold_plan *plan) {
    record_list_free(&layer_type, (void **) plan->layers, plan->chain);
    *plan = (struct fold_plan){0};
}

/* The rest of the chain is kept in the plan as well, as it is freed together. */
static bool plan_for(struct db_conn *conn, const char *layer_id, bool deep, struct fold_plan *plan,
                     struct im_err *err) {
    bool more = true;

    if (!layer_chain(conn, layer_id, &plan->layers, &plan->chain, err))
        return false;
    for (plan->count = 1; more && plan->count < plan->chain && plan->count < FOLD_MAX;) {
        if (deep) /* what all of them stand on is an image mostly, and stays shared */
            more = plan->count + 1 < plan->chain;
        else if (!is_needless(conn, plan->layers[plan->count]->layer_id, &more, err))
            return false;
        plan->count += more;
    }
    return true;
}

const struct layer *fold_onto(const struct fold_plan *plan) {
    return plan->count < plan->chain ? plan->layers[plan->count] : NULL;
}

/* The first one of the query that is not to be left out. */
static bool choose(struct db_rows *rows, const struct im_strings *leave, char ret_id[IM_ID_MAX],
                   struct im_err *err) {
    bool more = true;

    ret_id[0] = '\0';
    if (rows == NULL)
        return false;
    while (ret_id[0] == '\0' && more) {
        if (!db_next(rows, &more, err))
            return false;
        if (more && !im_strings_has(leave, db_text(rows, 0)))
            snprintf(ret_id, IM_ID_MAX, "%s", db_text(rows, 0));
    }
    return true;
}

static bool choose_needless(struct db_conn *conn, const struct im_strings *leave,
                            char ret_id[IM_ID_MAX], struct im_err *err) {
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = db_query(conn, err, needless_below, "");

    return choose(rows, leave, ret_id, err);
}

static bool choose_deep(struct cloud *cloud, struct db_conn *conn, const struct im_strings *leave,
                        char ret_id[IM_ID_MAX], struct im_err *err) {
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;

    ret_id[0] = '\0';
    if (cloud->config.chain_max == 0)
        return true;
    rows = db_query(conn, err, too_deep, "i", cloud->config.chain_max);
    return choose(rows, leave, ret_id, err);
}

bool fold_plan_next(struct cloud *cloud, const struct im_strings *leave, struct fold_plan *ret_plan,
                    struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(fold_plan_done) struct fold_plan plan = {0};
    char layer_id[IM_ID_MAX];
    bool deep = false;

    if (conn == NULL || !choose_needless(conn, leave, layer_id, err))
        return false;
    if (layer_id[0] == '\0') {
        deep = true;
        if (!choose_deep(cloud, conn, leave, layer_id, err))
            return false;
    }
    if (layer_id[0] != '\0' && !plan_for(conn, layer_id, deep, &plan, err))
        return false;
    if (plan.count < 2)
        return true;
    *ret_plan = plan;
    plan = (struct fold_plan){0};
    return true;
}
