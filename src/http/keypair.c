/* SPDX-License-Identifier: Apache-2.0 */
/* Key pairs: all six actions. */
#include <stdlib.h>

#include "http-private.h"

static void write_keypair(struct wire_writer *writer, const struct keypair_view *view) {
    wire_object_begin(writer, NULL);
    wire_fields(writer, &keypair_type, view->keypair);
    wire_strings(writer, "instance_ids", &view->instance_ids);
    wire_strings(writer, "resource_ids", &view->instance_ids);
    wire_raw(writer, "tags", "[]");
    wire_object_end(writer);
}

static bool describe_keypairs(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(keypair_list_done) struct keypair_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_keypairs(request->cloud, &request->caller, &query,
                        request_text(request, "instance_id"), &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_keypair(&request->reply, &list.items[i]);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_keypairs_params[] = {
    {"keypairs", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "keypair_id", "ids"},
    {"instance_id", HTTP_TEXT, 0, 0, 63, NULL, NULL, "only pairs on this instance"},
    {"encrypt_method", HTTP_LIST, 0, 0, 16, NULL, "encrypt_method", "types of key"},
    {"keypair_name", HTTP_LIST, HTTP_CONTAINS, 0, 100, NULL, "keypair_name", "part of the name"},
    {0},
};

static bool create_keypair(struct request *request, struct im_err *err) {
    bool user = im_str_equal(request_text(request, "mode"), "user");
    const char *method = request_text(request, "encrypt_method");
    const char *public_key = request_text(request, "public_key");
    char id[IM_ID_MAX];
    char *private_key = NULL;

    if (user && public_key == NULL)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [public_key] is missing");
    if (!cloud_keypair_create(
            request->cloud, &request->caller, request_text(request, "keypair_name"),
            method != NULL ? method : "ssh-rsa", user ? public_key : NULL, id, &private_key, err))
        return false;
    wire_text(&request->reply, "keypair_id", id);
    wire_text(&request->reply, "private_key", private_key != NULL ? private_key : "");
    free(private_key);
    return true;
}

static const struct http_param create_keypair_params[] = {
    {"keypair_name", HTTP_TEXT, 0, 0, 255, NULL, NULL, "name"},
    {"mode", HTTP_WORD, 0, 0, 0, "system user", NULL, "system makes a pair, user takes public_key"},
    {"encrypt_method", HTTP_TEXT, 0, 0, 63, NULL, NULL,
     "system mode: ssh-rsa, ssh-ed25519, ecdsa-sha2-nistp521"},
    {"public_key", HTTP_TEXT, 0, 0, 16384, NULL, NULL, "user mode: a line of authorized_keys"},
    {0},
};

static bool change_keypairs(struct request *request, bool detach, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, instances = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "keypairs", &ids);
    request_list(request, "instances", &instances);
    if (!cloud_keypairs_attach(request->cloud, &request->caller, &ids, &instances, detach, job_id,
                               err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static bool attach_keypairs(struct request *request, struct im_err *err) {
    return change_keypairs(request, false, err);
}

static bool detach_keypairs(struct request *request, struct im_err *err) {
    return change_keypairs(request, true, err);
}

static const struct http_param attach_keypairs_params[] = {
    {"keypairs", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"instances", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "running or stopped instances"},
    {0},
};

static bool delete_keypairs(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    request_list(request, "keypairs", &ids);
    if (!cloud_keypairs_delete(request->cloud, &request->caller, &ids, err))
        return false;
    wire_strings(&request->reply, "keypairs", &ids);
    return true;
}

static const struct http_param delete_keypairs_params[] = {
    {"keypairs", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {0},
};

static bool modify_keypair(struct request *request, struct im_err *err) {
    return cloud_keypair_modify(request->cloud, &request->caller, request_text(request, "keypair"),
                                request_raw(request, "keypair_name"),
                                request_raw(request, "description"), err);
}

static const struct http_param modify_keypair_params[] = {
    {"keypair", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the key pair"},
    {"keypair_name", HTTP_TEXT, HTTP_EMPTIES, 0, 255, NULL, NULL, "new name"},
    {"description", HTTP_TEXT, HTTP_EMPTIES, 0, 4096, NULL, NULL, "new description"},
    {0},
};

const struct http_action keypair_actions[] = {
    {"DescribeKeyPairs", describe_keypairs_params, HTTP_CACHED, &keypair_type, describe_keypairs,
     "lists key pairs"},
    {"CreateKeyPair", create_keypair_params, 0, NULL, create_keypair,
     "makes a key pair or takes a public key; the private key is shown only here"},
    {"AttachKeyPairs", attach_keypairs_params, 0, NULL, attach_keypairs,
     "lets key pairs into instances"},
    {"DetachKeyPairs", attach_keypairs_params, 0, NULL, detach_keypairs,
     "takes key pairs out of instances"},
    {"DeleteKeyPairs", delete_keypairs_params, 0, NULL, delete_keypairs,
     "deletes key pairs that are on no instance"},
    {"ModifyKeyPairAttributes", modify_keypair_params, 0, NULL, modify_keypair,
     "changes name and description"},
    {0},
};
