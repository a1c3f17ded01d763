/* SPDX-License-Identifier: Apache-2.0 */
/* DescribeSnapshots: points, and for full ones what their chain holds. */
#include <stdlib.h>

#include "cloud-private.h"

/* Sums over the chains whose full point is on this page. */
static bool fill_chains(struct db_conn *conn, struct snapshot_list *list, struct im_err *err) {
    for (size_t i = 0; i < list->count; i++) {
        struct snapshot_view *view = &list->items[i];
        IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
        bool more = false;

        if (view->snapshot->snapshot_type != SNAPSHOT_FULL)
            continue;
        rows = db_query(conn, err,
                        "SELECT COALESCE(SUM(size), 0), COUNT(*), COALESCE(MAX(snapshot_time), 0)"
                        " FROM snapshots WHERE root_id = $1 AND status <> 'ceased'",
                        "t", view->snapshot->snapshot_id);
        if (rows == NULL || !db_next(rows, &more, err))
            return false;
        view->total_size = db_int(rows, 0);
        view->total_count = db_int(rows, 1);
        view->latest_time = db_int(rows, 2);
    }
    return true;
}

bool cloud_snapshots(struct cloud *cloud, const struct caller *caller, struct query *query,
                     struct snapshot_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(snapshot_list_done) struct snapshot_list list = {0};
    void **found = NULL;

    if (conn == NULL)
        return false;
    query_restrict(caller, query, snapshot_type.key, "ceased");
    if (!record_list(conn, &snapshot_type, query, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc((list.count + 1) * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].snapshot = found[i];
    free(found);
    if (!fill_chains(conn, &list, err))
        return false;
    *ret_list = list;
    list = (struct snapshot_list){0};
    return true;
}

void snapshot_list_done(struct snapshot_list *list) {
    for (size_t i = 0; i < list->count; i++)
        snapshot_free(list->items[i].snapshot);
    free(list->items);
    *list = (struct snapshot_list){0};
}
