/* SPDX-License-Identifier: Apache-2.0 */
/* Values of parameters as handlers want them, the check against the action's table, and queries. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http-private.h"

#define LIMIT_DEFAULT 20
#define LIMIT_MAX 100

const struct http_param http_common_params[] = {
    {"action", HTTP_TEXT, HTTP_REQUIRED, 1, 64, NULL, NULL, "name of the action"},
    {"zone", HTTP_TEXT, 0, 0, 64, NULL, NULL, "the zone; needed by all that works in one"},
    {"time_stamp", HTTP_TEXT, HTTP_REQUIRED, 0, 32, NULL, NULL, "UTC, YYYY-MM-DDThh:mm:ssZ"},
    {"access_key_id", HTTP_TEXT, HTTP_REQUIRED, 0, 64, NULL, NULL, "who asks"},
    {"version", HTTP_INT, 0, 1, 1, NULL, NULL, "of the API"},
    {"signature_method", HTTP_WORD, HTTP_REQUIRED, 0, 0, "HmacSHA256 HmacSHA1", NULL,
     "how it is signed"},
    {"signature_version", HTTP_INT, HTTP_REQUIRED, 1, 1, NULL, NULL, "of the way to sign"},
    {"signature", HTTP_TEXT, HTTP_REQUIRED, 0, 128, NULL, NULL, "base64 of the HMAC"},
    {"expires", HTTP_TEXT, 0, 0, 32, NULL, NULL, "good until then, at most a day after time_stamp"},
    {"req_id", HTTP_TEXT, 0, 0, 64, NULL, NULL, "not looked at"},
    {0},
};
const struct http_param http_list_params[] = {
    {"search_word", HTTP_TEXT, 0, 0, 255, NULL, NULL, "substring of the id or the name"},
    {"owner", HTTP_TEXT, 0, 0, 64, NULL, "owner", "only what belongs to this user"},
    {"tags", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "nothing has tags yet: matches nothing"},
    {"verbose", HTTP_INT, 0, 0, 10, NULL, NULL, "1 shows more where there is more"},
    {"offset", HTTP_INT, 0, 0, INT64_C(1) << 40, NULL, NULL, "first row that is wanted, from 0"},
    {"limit", HTTP_INT, 0, 0, INT64_MAX, NULL, NULL, "number of rows; 0 = 20, never more than 100"},
    {"sort_key", HTTP_TEXT, 0, 0, 64, NULL, NULL, "field to sort by"},
    {"reverse", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 turns the order round: oldest first"},
    {0},
};

const char *request_raw(const struct request *request, const char *name) {
    const char *value = params_get(&request->params, name);

    if (value == NULL) {
        char first[72];

        /* A list where one value belongs: its first item. */
        snprintf(first, sizeof(first), "%s.1", name);
        value = params_get(&request->params, first);
        if (value == NULL) {
            snprintf(first, sizeof(first), "%s.0", name);
            value = params_get(&request->params, first);
        }
    }
    return value;
}

const char *request_text(const struct request *request, const char *name) {
    const char *value = request_raw(request, name);

    return im_str_empty(value) ? NULL : value;
}

static bool parse_bool(const char *text, bool *ret_value) {
    if (strcmp(text, "1") == 0 || strcasecmp(text, "true") == 0)
        *ret_value = true;
    else if (strcmp(text, "0") == 0 || strcasecmp(text, "false") == 0)
        *ret_value = false;
    else
        return false;
    return true;
}

static const struct http_param *find_param(const struct http_param *params, const char *name) {
    for (; params != NULL && params->name != NULL; params++)
        if (strcmp(params->name, name) == 0)
            return params;
    return NULL;
}

int64_t request_int(const struct request *request, const char *name) {
    const struct http_param *param = find_param(request->action->params, name);
    const char *text = request_text(request, name);
    int64_t value = -1;
    bool flag;

    if (text == NULL)
        return -1;
    if (!im_parse_i64(text, INT64_MIN, INT64_MAX, &value) && parse_bool(text, &flag))
        value = flag;
    return value == 0 && param != NULL && (param->flags & HTTP_ZERO_UNSET) ? -1 : value;
}

bool request_flag(const struct request *request, const char *name) {
    const char *text = request_text(request, name);
    bool value = false;

    return text != NULL && parse_bool(text, &value) && value;
}

void request_list(const struct request *request, const char *name, struct im_strings *list) {
    params_list(&request->params, name, list);
}

/* --- Checking -----------------------------------------------------------------------------------
 */

static bool check_word(const struct http_param *param, const char *text, struct im_err *err) {
    size_t len = strlen(text);

    for (const char *at = param->words; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, " ");

        if (word == len && strncmp(at, text, len) == 0)
            return true;
        at += word + strspn(at + word, " ");
    }
    return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] must be one of: %s", param->name,
                   param->words);
}

static bool check_value(const struct http_param *param, const char *text, struct im_err *err) {
    int64_t value;
    bool flag;

    switch (param->type) {
    case HTTP_TEXT:
        if (strlen(text) > (size_t) param->max || strlen(text) < (size_t) param->min)
            return im_fail(err, IM_BAD_MESSAGE,
                           "parameter [%s] must have %" PRId64 " to %" PRId64 " bytes", param->name,
                           param->min, param->max);
        return true;
    case HTTP_INT:
        if (im_parse_i64(text, param->min, param->max, &value) ||
            ((param->flags & HTTP_ZERO_UNSET) && strcmp(text, "0") == 0))
            return true;
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [%s] must be a whole number from %" PRId64 " to %" PRId64,
                       param->name, param->min, param->max);
    case HTTP_BOOL:
        if (parse_bool(text, &flag))
            return true;
        return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] must be 0 or 1", param->name);
    case HTTP_WORD:
        return check_word(param, text, err);
    case HTTP_LIST:
        break;
    }
    return true;
}

static bool check_list(const struct request *request, const struct http_param *param,
                       struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};

    request_list(request, param->name, &list);
    if (list.count == 0 && (param->flags & HTTP_REQUIRED))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [%s.n] is missing", param->name);
    if (list.count > (size_t) param->max)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [%s.n] has %zu items; %" PRId64 " are allowed", param->name,
                       list.count, param->max);
    for (size_t i = 0; i < list.count; i++)
        if (strlen(list.items[i]) > 255)
            return im_fail(err, IM_BAD_MESSAGE,
                           "an item of parameter [%s.n] is longer than 255 bytes", param->name);
    return true;
}

static bool check_table(const struct request *request, const struct http_param *params,
                        struct im_err *err) {
    for (; params != NULL && params->name != NULL; params++) {
        const char *value;

        if (params->type == HTTP_LIST) {
            if (!check_list(request, params, err))
                return false;
            continue;
        }
        value = request_raw(request, params->name);
        if (im_str_empty(value)) {
            if (params->flags & HTTP_REQUIRED)
                return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] is missing", params->name);
            continue;
        }
        if (!check_value(params, value, err))
            return false;
    }
    return true;
}

bool request_check(const struct request *request, struct im_err *err) {
    return check_table(request, request->action->params, err) &&
           (request->action->type == NULL || check_table(request, http_list_params, err));
}

/* --- Queries ------------------------------------------------------------------------------------
 */

static void add_filters(const struct request *request, const struct http_param *params,
                        struct query *query) {
    for (; params != NULL && params->name != NULL; params++) {
        IM_AUTO(im_strings_done) struct im_strings list = {0};

        if (params->field == NULL || object_field(request->action->type, params->field) == NULL)
            continue;
        request_list(request, params->name, &list);
        for (size_t i = 0; i < list.count; i++) {
            if ((params->flags & HTTP_ZERO_UNSET) && strcmp(list.items[i], "0") == 0)
                continue;
            query_add(query, params->field,
                      params->flags & HTTP_CONTAINS ? CONDITION_CONTAINS : CONDITION_IN,
                      list.items[i]);
        }
    }
}

bool request_query(const struct request *request, struct query *ret_query, struct im_err *err) {
    const struct object_type *type = request->action->type;
    const char *sort = request_text(request, "sort_key");
    const struct field *field = sort == NULL ? NULL : object_field(type, sort);
    IM_AUTO(im_strings_done) struct im_strings tags = {0};
    int64_t limit = request_int(request, "limit"), offset = request_int(request, "offset");

    if (sort != NULL && (field == NULL || (field->flags & FIELD_PRIVATE)))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [sort_key] names no field of %s objects",
                       type->name);
    add_filters(request, request->action->params, ret_query);
    add_filters(request, http_list_params, ret_query);
    request_list(request, "tags", &tags);
    if (tags.count > 0)
        query_add(ret_query, type->key, CONDITION_IN, "");
    ret_query->search = im_strdup(request_text(request, "search_word"));
    ret_query->limit = limit <= 0 ? LIMIT_DEFAULT : limit > LIMIT_MAX ? LIMIT_MAX : limit;
    ret_query->offset = offset < 0 ? 0 : offset;
    ret_query->sort_field = field == NULL ? NULL : field->name;
    ret_query->ascending = request_flag(request, "reverse");
    ret_query->total = request_find_total(request);
    return true;
}

void request_begin_reply(struct request *request) {
    char response[96];

    snprintf(response, sizeof(response), "%sResponse", request->action->name);
    im_str_reserve(&request->reply.text, 1000);
    wire_object_begin(&request->reply, NULL);
    wire_text(&request->reply, "action", response);
    wire_int(&request->reply, "ret_code", 0);
}

void request_begin_set(struct request *request, int64_t total) {
    char set[64];

    snprintf(set, sizeof(set), "%s_set", request->action->type->name);
    request_keep_total(request, total);
    wire_int(&request->reply, "total_count", total);
    wire_array_begin(&request->reply, set);
}
