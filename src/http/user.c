/* SPDX-License-Identifier: Apache-2.0 */
/* Users and their keys, for administrators. */
#include <stdlib.h>

#include "http-private.h"

static bool describe_users(struct request *request, struct im_err *err) {
    struct user **users = NULL;
    size_t count = 0;

    if (!cloud_user_list(request->cloud, &users, &count, err))
        return false;
    wire_int(&request->reply, "total_count", (int64_t) count);
    wire_array_begin(&request->reply, "user_set");
    for (size_t i = 0; i < count; i++) {
        wire_object_begin(&request->reply, NULL);
        wire_fields(&request->reply, &user_type, users[i]);
        wire_object_end(&request->reply);
        user_free(users[i]);
    }
    free(users);
    wire_array_end(&request->reply);
    return true;
}

static bool create_user(struct request *request, struct im_err *err) {
    char id[IM_ID_MAX];

    if (!cloud_user_add(request->cloud, request_text(request, "user_name"),
                        request_text(request, "email"),
                        im_str_equal(request_text(request, "role"), "admin"), id, err))
        return false;
    wire_text(&request->reply, "user_id", id);
    return true;
}

static bool create_access_key(struct request *request, struct im_err *err) {
    IM_AUTO(free_auto) char *id = NULL, *secret = NULL;

    if (!cloud_access_key_add(request->cloud, request_text(request, "user_name"),
                              request_text(request, "access_key_name"), &id, &secret, err))
        return false;
    wire_text(&request->reply, "access_key_id", id);
    wire_text(&request->reply, "secret_access_key", secret);
    return true;
}

static const struct http_param none[] = {{0}};
static const struct http_param create_user_params[] = {
    {"user_name", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "name"},
    {"email", HTTP_TEXT, 0, 0, 255, NULL, NULL, "address"},
    {"role", HTTP_WORD, 0, 0, 0, "user admin", NULL, "user by default"},
    {0},
};
static const struct http_param create_access_key_params[] = {
    {"user_name", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "whose key it will be"},
    {"access_key_name", HTTP_TEXT, 0, 0, 255, NULL, NULL, "name of the key"},
    {0},
};

const struct http_action user_actions[] = {
    {"DescribeUsers", none, HTTP_NO_ZONE | HTTP_ADMIN, NULL, describe_users, "ours: lists users"},
    {"CreateUser", create_user_params, HTTP_NO_ZONE | HTTP_ADMIN, NULL, create_user,
     "ours: adds a user"},
    {"CreateAccessKey", create_access_key_params, HTTP_NO_ZONE | HTTP_ADMIN, NULL,
     create_access_key, "ours: makes an access key; its secret is shown only here"},
    {0},
};
