/* SPDX-License-Identifier: Apache-2.0 */
/* One request of the query API from its raw text to its response, in the order that clients rely
 * on: parse, action, common parameters, signature, time, zone, parameters, the verb itself. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/id.h"
#include "base/log.h"
#include "http-private.h"

static const struct http_action *const tables[] = {
    image_actions,      instance_actions, keypair_actions, job_actions,    zone_actions,
    access_key_actions, vxnet_actions,    pool_actions,    repair_actions, user_actions,
    volume_actions,     snapshot_actions, monitor_actions,
};

/* --- The table, sorted once ----------------------------------------------------------------------
 */

static const struct http_action *all[128];
static size_t all_count;
static pthread_once_t all_once = PTHREAD_ONCE_INIT;

static int by_action_name(const void *a, const void *b) {
    return strcmp((*(const struct http_action *const *) a)->name,
                  (*(const struct http_action *const *) b)->name);
}

static void gather(void) {
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct http_action *action = tables[i]; action->name != NULL; action++)
            all[all_count++] = action;
    qsort(all, all_count, sizeof(all[0]), by_action_name);
}

const struct http_action *const *http_actions(size_t *ret_count) {
    pthread_once(&all_once, gather);
    *ret_count = all_count;
    return all;
}

const struct http_action *action_find(const char *name) {
    struct http_action wanted = {.name = name};
    const struct http_action *key = &wanted, *const * found;

    pthread_once(&all_once, gather);
    found = bsearch(&key, all, all_count, sizeof(all[0]), by_action_name);
    return found == NULL ? NULL : *found;
}

/* --- Replies ------------------------------------------------------------------------------------
 */

void error_reply(struct wire_writer *writer, const char *request_id, const struct im_err *err) {
    IM_AUTO(free_auto) char *message = NULL;
    bool hidden =
        err->code == IM_INTERNAL || err->code == IM_UNKNOWN_COMMIT || err->code == IM_NO_RECORD;

    if (hidden) {
        im_error("http", "request %s: %s%s%s", request_id, err->text, err->sys ? ", errno " : "",
                 err->sys ? strerrorname_np(err->sys) : "");
        message = im_printf("%s, %s (request %s; the log of imprintd has more)",
                            im_code_type(err->code), im_code_text(err->code), request_id);
    } else {
        message = im_printf("%s, %s", im_code_type(err->code),
                            err->text[0] != '\0' ? err->text : im_code_text(err->code));
    }
    wire_object_begin(writer, NULL);
    wire_text(writer, "message", message);
    wire_int(writer, "ret_code", im_code_ret(err->code));
    if (hidden)
        wire_text(writer, "request_id", request_id);
    wire_object_end(writer);
}

/* Who asks and what for: everything but what changes from one signing to the next; for the total of
 * a list also without what only says which page of it. */
static char *cache_key(const struct request *request, bool total) {
    static const char *const left_out[] = {
        "access_key_id",     "expires",    "req_id",  "signature", "signature_method",
        "signature_version", "time_stamp", "version", "limit",     "offset",
        "reverse",           "sort_key",   "verbose"};
    size_t left_count = sizeof(left_out) / sizeof(left_out[0]) - (total ? 0 : 5);
    struct im_str key = {0};

    im_str_reserve(&key, 200);
    im_str_add_char(&key, total ? '#' : ' ');
    im_str_add(&key, request->caller.user_id);
    im_str_add_char(&key, request->caller.admin ? '!' : '.');
    for (size_t i = 0; i < request->params.count; i++) {
        const struct param *param = &request->params.items[i];
        bool skip = false;

        for (size_t j = 0; j < left_count && !skip; j++)
            skip = strcmp(param->name, left_out[j]) == 0;
        if (skip)
            continue;
        /* Lengths in front, so that no value can look like the next parameter. */
        im_str_addf(&key, " %zu %zu ", strlen(param->name), strlen(param->value));
        im_str_add(&key, param->name);
        im_str_add(&key, param->value);
    }
    return im_str_take(&key);
}

int64_t request_find_total(const struct request *request) {
    IM_AUTO(free_auto) char *key = NULL;
    struct text_ref *text;
    int64_t total = 0;

    if (request->generation == 0)
        return 0;
    key = cache_key(request, true);
    text = cache_find(request->http->cache, key, request->generation);
    if (text != NULL && !im_parse_i64(text->bytes, 0, INT64_MAX, &total))
        total = 0;
    text_unref(text);
    return total;
}

void request_keep_total(const struct request *request, int64_t total) {
    IM_AUTO(free_auto) char *key = NULL;
    struct im_str digits = {0};
    struct text_ref *text;

    if (request->generation == 0)
        return;
    key = cache_key(request, true);
    im_str_addf(&digits, "%" PRId64, total);
    text = text_ref_new(&digits);
    cache_put(request->http->cache, key, request->generation, text);
    text_unref(text);
}

/* --- One request ---------------------------------------------------------------------------------
 */

static bool check_zone(const struct request *request, struct im_err *err) {
    const char *zone = params_get(&request->params, "zone");

    if (request->action->flags & HTTP_NO_ZONE)
        return true;
    if (im_str_empty(zone))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [zone] is missing");
    if (strcmp(zone, cloud_zone(request->cloud)) != 0)
        return im_fail(err, IM_DENIED, "access denied for zone [%.40s]", zone);
    return true;
}

/* Everything up to the verb; on success the caller is known and the parameters are good. */
static bool prepare(struct request *request, const char *raw, size_t len, struct im_err *err) {
    const char *name;

    if (!params_parse(&request->params, raw, len, err))
        return false;
    name = params_get(&request->params, "action");
    if (im_str_empty(name))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [action] is missing");
    request->action = action_find(name);
    if (request->action == NULL)
        return im_fail(err, IM_BAD_ACTION, "action [%.60s] is not known", name);
    if (!request_authenticate(request, raw, len, err) || !check_zone(request, err))
        return false;
    if ((request->action->flags & HTTP_ADMIN) && !request->caller.admin)
        return im_fail(err, IM_DENIED, "action [%s] is for administrators only",
                       request->action->name);
    return request_check(request, err);
}

static struct text_ref *run(struct request *request, struct im_err *err) {
    bool may_keep = (request->action->flags & HTTP_CACHED) && request->http->cache != NULL;
    /* Asked before the record is read: a change in between makes the kept reply look older. */
    uint64_t generation = may_keep ? db_generation(cloud_db(request->cloud)) : 0;
    IM_AUTO(free_auto) char *key = generation != 0 ? cache_key(request, false) : NULL;
    struct text_ref *text;

    if (key != NULL && (text = cache_find(request->http->cache, key, generation)) != NULL)
        return text;
    request->generation = generation;
    request_begin_reply(request);
    if (!request->action->handle(request, err))
        return NULL;
    wire_object_end(&request->reply);
    text = text_ref_new(&request->reply.text);
    if (key != NULL && !request->live)
        cache_put(request->http->cache, key, generation, text);
    return text;
}

static int64_t now_micros(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct text_ref *api_answer(struct http *http, const char *method, const char *path,
                            const char *raw, size_t len) {
    struct request request = {.http = http, .cloud = http->cloud, .method = method, .path = path};
    struct text_ref *text = NULL;
    struct im_err err = {0};
    int64_t start = now_micros();

    if (prepare(&request, raw, len, &err))
        text = run(&request, &err);
    if (text == NULL) {
        struct wire_writer writer = {0};

        im_id_make(request.id, "r-", 12);
        error_reply(&writer, request.id, &err);
        text = text_ref_new(&writer.text);
    }
    metrics_count(http->metrics, request.action, err.code, now_micros() - start);
    im_str_done(&request.reply.text);
    params_done(&request.params);
    return text;
}
