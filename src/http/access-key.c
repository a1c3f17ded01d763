/* SPDX-License-Identifier: Apache-2.0 */
/* Access keys. Secrets are never listed. */
#include "http-private.h"

static bool describe_access_keys(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(access_key_list_done) struct access_key_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_access_keys(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++) {
        const struct access_key *key = list.items[i];

        wire_object_begin(&request->reply, NULL);
        wire_fields(&request->reply, &access_key_type, key);
        wire_text(&request->reply, "root_user_id", key->owner ? key->owner : "");
        wire_text(&request->reply, "controller", "self");
        wire_text(&request->reply, "console_id", "imprint");
        wire_text(&request->reply, "ip_white_list", "");
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_access_keys_params[] = {
    {"access_keys", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "access_key_id", "ids"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status", "active, inactive, disabled"},
    {0},
};

static bool delete_access_keys(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    request_list(request, "access_keys", &ids);
    if (!cloud_access_keys_delete(request->cloud, &request->caller, &ids, err))
        return false;
    wire_strings(&request->reply, "access_keys", &ids);
    return true;
}

static const struct http_param delete_access_keys_params[] = {
    {"access_keys", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {0},
};

const struct http_action access_key_actions[] = {
    {"DescribeAccessKeys", describe_access_keys_params, HTTP_NO_ZONE, &access_key_type,
     describe_access_keys, "lists access keys, without their secrets"},
    {"DeleteAccessKeys", delete_access_keys_params, HTTP_NO_ZONE, NULL, delete_access_keys,
     "deletes access keys"},
    {0},
};
