/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: the basic one, vxnet-0, which every instance may join. */
#include <string.h>

#include "http-private.h"

static bool is_wanted(const struct request *request) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    const char *word = request_text(request, "search_word");
    int64_t type = request_int(request, "vxnet_type");
    bool wanted;

    request_list(request, "vxnets", &ids);
    wanted = ids.count == 0;
    for (size_t i = 0; i < ids.count && !wanted; i++)
        wanted = strcmp(ids.items[i], VXNET_BASIC) == 0;
    return wanted && (type < 0 || type == 2) &&
           (word == NULL || strstr(VXNET_BASIC, word) != NULL) &&
           request_int(request, "offset") <= 0;
}

/* The instances of the caller that are on it; with verbose=1 only, as it reads them all. */
static bool write_instances(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(instance_list_done) struct instance_list list = {0};

    wire_array_begin(&request->reply, "instance_ids");
    if (request_int(request, "verbose") > 0) {
        if (!cloud_instances(request->cloud, &request->caller, &query, false, &list, err))
            return false;
        for (size_t i = 0; i < list.count; i++)
            for (size_t j = 0; j < list.items[i].nic_count; j++)
                if (im_str_equal(list.items[i].nics[j]->vxnet_id, VXNET_BASIC))
                    wire_text(&request->reply, NULL, list.items[i].instance->instance_id);
    }
    wire_array_end(&request->reply);
    return true;
}

/* What the host really has: the sentence says which mode, and why. */
static bool write_state(struct request *request, struct im_err *err) {
    struct vxnet_state state;

    if (!cloud_vxnet(request->cloud, &state, err))
        return false;
    wire_text(&request->reply, "description", state.about);
    wire_int(&request->reply, "available_ip_count", state.free_count);
    wire_text(&request->reply, "mode", state.bridge ? "bridge" : "user");
    wire_text(&request->reply, "ip_network", state.subnet);
    wire_text(&request->reply, "gateway", state.gateway);
    wire_text(&request->reply, "dyn_ip_start", state.first);
    wire_text(&request->reply, "dyn_ip_end", state.last);
    return true;
}

static bool describe_vxnets(struct request *request, struct im_err *err) {
    bool wanted = is_wanted(request);

    wire_int(&request->reply, "total_count", wanted);
    wire_array_begin(&request->reply, "vxnet_set");
    if (wanted) {
        wire_object_begin(&request->reply, NULL);
        wire_text(&request->reply, "vxnet_id", VXNET_BASIC);
        wire_text(&request->reply, "vxnet_name", VXNET_BASIC);
        wire_int(&request->reply, "vxnet_type", 2);
        if (!write_state(request, err))
            return false;
        wire_null(&request->reply, "create_time");
        wire_text(&request->reply, "owner", request->caller.user_id);
        wire_text(&request->reply, "vpc_router_id", "");
        wire_text(&request->reply, "zone_id", cloud_zone(request->cloud));
        if (!write_instances(request, err))
            return false;
        wire_raw(&request->reply, "tags", "[]");
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_vxnets_params[] = {
    {"vxnets", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"vxnet_type", HTTP_INT, 0, 0, 2, NULL, NULL, "2 is the basic network"},
    {"search_word", HTTP_TEXT, 0, 0, 255, NULL, NULL, "substring of the id"},
    {"verbose", HTTP_INT, 0, 0, 10, NULL, NULL, "1 adds instance_ids"},
    {"offset", HTTP_INT, 0, 0, INT64_MAX, NULL, NULL, "first row that is wanted, from 0"},
    {"limit", HTTP_INT, 0, 0, INT64_MAX, NULL, NULL, "number of rows"},
    {0},
};

const struct http_action vxnet_actions[] = {
    {"DescribeVxnets", describe_vxnets_params, 0, NULL, describe_vxnets,
     "lists networks: the basic one"},
    {0},
};
