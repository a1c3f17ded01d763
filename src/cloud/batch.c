/* SPDX-License-Identifier: Apache-2.0 */
/* One call on several things that exist: each is checked and prepared, and becomes an item of one
 * job, all in one transaction. */
#include <stdlib.h>

#include "cloud-private.h"

struct order {
    const struct batch_call *call;
    const struct im_strings *ids;
    char job_id[IM_JOB_ID_MAX];
};

static bool order_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct order *order = arg;
    const struct batch_call *call = order->call;
    size_t count = order->ids->count;
    IM_AUTO(free_auto) struct job_order *orders = im_alloc(count * sizeof(*orders));
    IM_AUTO(im_strings_done) struct im_strings data = {0};
    bool fine = true;

    for (size_t i = 0; i < count && fine; i++) {
        struct wire_writer writer = {0};

        wire_object_begin(&writer, NULL);
        fine = call->one(call->batch, conn, order->ids->items[i], i, &writer, err);
        wire_object_end(&writer);
        im_strings_add(&data, writer.text.data);
        im_str_done(&writer.text);
    }
    for (size_t i = 0; i < count && fine; i++)
        orders[i] = (struct job_order){.resource_id = order->ids->items[i], .data = data.items[i]};
    return fine && jobs_add(call->cloud->jobs, conn, call->action, call->caller->user_id, "",
                            orders, count, order->job_id, err);
}

bool batch_run(const struct batch_call *call, const char *parameter, const struct im_strings *ids,
               char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct order order = {.call = call, .ids = &unique};

    return ids_unique(parameter, ids, &unique, err) &&
           cloud_order(call->cloud, order_body, &order, order.job_id, ret_job_id, err);
}
