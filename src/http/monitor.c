/* SPDX-License-Identifier: Apache-2.0 */
/* GetMonitor and GetMonitors: series in the API's compressed form. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http-private.h"

/* Series of 100 instances in steps of five minutes over 15 days fit in. */
enum { RESOURCES_MAX = 100, METERS_MAX = 100, VALUES_MAX = 500000 };

static void write_value(struct wire_writer *writer, const struct monitor_value *value) {
    if (!value->pair) {
        wire_int(writer, NULL, value->a);
        return;
    }
    wire_array_begin(writer, NULL);
    wire_int(writer, NULL, value->a);
    wire_int(writer, NULL, value->b);
    wire_array_end(writer);
}

/* [time of the first, value], then values a step apart; "NA" for one that is not known, [seconds
 * since the last, value] after several. */
static void write_data(struct wire_writer *writer, const struct meter_view *meter) {
    size_t last = SIZE_MAX;

    wire_array_begin(writer, "data");
    for (size_t i = 0; i < meter->count; i++) {
        if (!meter->values[i].known)
            continue;
        if (last != SIZE_MAX && i - last == 2)
            wire_text(writer, NULL, "NA");
        if (last == SIZE_MAX || i - last > 2) {
            wire_array_begin(writer, NULL);
            wire_int(writer, NULL,
                     last == SIZE_MAX ? meter->start + (int64_t) i * meter->step
                                      : (int64_t) (i - last) * meter->step);
            write_value(writer, &meter->values[i]);
            wire_array_end(writer);
        } else {
            write_value(writer, &meter->values[i]);
        }
        last = i;
    }
    wire_array_end(writer);
}

static void write_view(struct wire_writer *writer, const struct monitor_view *view) {
    wire_text(writer, "resource_id", view->resource_id);
    wire_array_begin(writer, "meter_set");
    for (size_t i = 0; i < view->count; i++) {
        const struct meter_view *meter = &view->meters[i];

        wire_object_begin(writer, NULL);
        wire_text(writer, "meter_id", meter->mac ? meter->mac : meter->meter);
        if (meter->vxnet_id != NULL) {
            wire_text(writer, "vxnet_id", meter->vxnet_id);
            wire_int(writer, "sequence", meter->sequence);
        }
        write_data(writer, meter);
        wire_object_end(writer);
    }
    wire_array_end(writer);
}

static bool read_time(const struct request *request, const char *name, int64_t *ret_s,
                      struct im_err *err) {
    return im_time_parse(request_text(request, name), ret_s) ||
           im_fail(err, IM_BAD_MESSAGE, "parameter [%s] is no time like 2030-01-02T03:04:05Z",
                   name);
}

static bool read_span(const struct request *request, struct monitor_span *span,
                      struct im_err *err) {
    static const struct {
        const char *word;
        int64_t seconds;
    } steps[] = {{"5m", 300},  {"15m", 900}, {"30m", 1800},
                 {"1h", 3600}, {"2h", 7200}, {"1d", 86400}};
    const char *step = request_text(request, "step");

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (strcmp(step, steps[i].word) == 0)
            span->step_s = steps[i].seconds;
    return read_time(request, "start_time", &span->start_s, err) &&
           read_time(request, "end_time", &span->end_s, err);
}

static bool get_monitor(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings meters = {0};
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    struct monitor_span span = {0};

    request_list(request, "meters", &meters);
    if (!read_span(request, &span, err) ||
        !cloud_monitor(request->cloud, &request->caller, request_text(request, "resource"), &meters,
                       &span, &view, err))
        return false;
    write_view(&request->reply, &view);
    return true;
}

/* --- GetMonitors ------------------------------------------------------------------------------ */

#define PAIRS "resource_meters_pairs."

/* resource_meters_pairs.N.resource, and the meters that go with it. */
struct pair {
    int64_t number;
    const char *resource, *meters; /* borrowed from the parameters */
};
struct pairs {
    struct pair items[RESOURCES_MAX];
    size_t count;
};

static int by_number(const void *a, const void *b) {
    const struct pair *left = a, *right = b;

    return left->number < right->number ? -1 : left->number > right->number;
}

/* N of PAIRS "N.resource"; false for any other name. */
static bool pair_number(const char *name, int64_t *ret_number) {
    IM_AUTO(free_auto) char *number = NULL;

    if (!im_starts_with(name, PAIRS) || !im_ends_with(name, ".resource") ||
        strlen(name) < sizeof(PAIRS ".resource"))
        return false;
    number = im_strndup(name + strlen(PAIRS), strlen(name) - strlen(PAIRS ".resource"));
    return im_parse_i64(number, 0, INT64_MAX, ret_number);
}

static bool read_pairs(const struct request *request, struct pairs *pairs, struct im_err *err) {
    for (size_t i = 0; i < request->params.count; i++) {
        const struct param *param = &request->params.items[i];
        IM_AUTO(free_auto) char *meters = NULL;
        int64_t number;

        if (!pair_number(param->name, &number))
            continue;
        if (pairs->count == RESOURCES_MAX)
            return im_fail(err, IM_BAD_MESSAGE, "more than %d resources are asked for",
                           RESOURCES_MAX);
        meters = im_printf(PAIRS "%" PRId64 ".meters", number);
        pairs->items[pairs->count++] =
            (struct pair){number, param->value, params_get(&request->params, meters)};
    }
    if (pairs->count == 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [" PAIRS "n.resource] is missing");
    qsort(pairs->items, pairs->count, sizeof(pairs->items[0]), by_number);
    return true;
}

/* A JSON array of names. */
static bool read_meters(const struct pair *pair, struct im_strings *meters, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct im_err ignored = {0};
    const struct wire_value *root;

    if (!im_str_empty(pair->meters))
        doc = wire_parse(pair->meters, strlen(pair->meters), &ignored);
    root = doc ? wire_root(doc) : NULL;
    if (wire_kind(root) != WIRE_ARRAY || wire_count(root) == 0 || wire_count(root) > METERS_MAX)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [" PAIRS "%" PRId64
                       ".meters] is no JSON array of 1 to %d meters like [\"cpu\",\"memory\"]",
                       pair->number, METERS_MAX);
    for (size_t i = 0; i < wire_count(root); i++)
        im_strings_add(meters, wire_as_text(wire_at(root, i), ""));
    return true;
}

struct views {
    struct monitor_view items[RESOURCES_MAX];
    size_t count;
};

static void views_done(struct views *views) {
    for (size_t i = 0; i < views->count; i++)
        monitor_view_done(&views->items[i]);
}

/* All of it is gathered before a byte is written, so it is bounded. */
static bool add_view(struct request *request, const struct pair *pair,
                     const struct monitor_span *span, struct views *views, size_t *values,
                     struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings meters = {0};
    struct monitor_view *view = &views->items[views->count];

    if (!read_meters(pair, &meters, err) ||
        !cloud_monitor(request->cloud, &request->caller, pair->resource, &meters, span, view, err))
        return false;
    views->count++;
    for (size_t i = 0; i < view->count; i++)
        *values += view->meters[i].count;
    return *values <= VALUES_MAX || im_fail(err, IM_BAD_MESSAGE,
                                            "more than %d values are asked for: take a longer "
                                            "step, a shorter time or fewer resources",
                                            VALUES_MAX);
}

static bool get_monitors(struct request *request, struct im_err *err) {
    IM_AUTO(views_done) struct views views = {0};
    struct monitor_span span = {0};
    struct pairs pairs = {0};
    size_t values = 0;

    if (!read_span(request, &span, err) || !read_pairs(request, &pairs, err))
        return false;
    for (size_t i = 0; i < pairs.count; i++)
        if (!add_view(request, &pairs.items[i], &span, &views, &values, err))
            return false;
    wire_array_begin(&request->reply, "monitors");
    for (size_t i = 0; i < views.count; i++) {
        wire_object_begin(&request->reply, NULL);
        write_view(&request->reply, &views.items[i]);
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

#define SPAN_PARAMS                                                                                \
    {"step",                                                                                       \
     HTTP_WORD,                                                                                    \
     HTTP_REQUIRED,                                                                                \
     0,                                                                                            \
     0,                                                                                            \
     "5m 15m 30m 1h 2h 1d",                                                                        \
     NULL,                                                                                         \
     "length of one value's time"},                                                                \
        {"start_time", HTTP_TEXT, HTTP_REQUIRED, 1, 40, NULL, NULL, "first time, UTC"}, {          \
        "end_time", HTTP_TEXT, HTTP_REQUIRED, 1, 40, NULL, NULL, "time behind the last one"        \
    }

static const struct http_param get_monitor_params[] = {
    {"resource", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "an instance or volume"},
    {"meters", HTTP_LIST, HTTP_REQUIRED, 0, METERS_MAX, NULL, NULL, "what was measured"},
    SPAN_PARAMS,
    {0},
};

static const struct http_param get_monitors_params[] = {
    {PAIRS "n.resource", HTTP_TEXT, 0, 1, 63, NULL, NULL, "an instance or volume"},
    {PAIRS "n.meters", HTTP_TEXT, 0, 1, 8192, NULL, NULL, "its meters, as a JSON array"},
    SPAN_PARAMS,
    {0},
};

const struct http_action monitor_actions[] = {
    {"GetMonitor", get_monitor_params, 0, NULL, get_monitor,
     "tells what an instance or volume used"},
    {"GetMonitors", get_monitors_params, 0, NULL, get_monitors,
     "tells what up to 100 instances and volumes used"},
    {0},
};
