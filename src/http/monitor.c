/* SPDX-License-Identifier: Apache-2.0 */
/* GetMonitor and GetMonitors: series in the API's compressed form. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http-private.h"

enum { RESOURCES_MAX = 100 };

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
    {"meters", HTTP_LIST, HTTP_REQUIRED, 0, 100, NULL, NULL, "what was measured"},
    SPAN_PARAMS,
    {0},
};

const struct http_action monitor_actions[] = {
    {"GetMonitor", get_monitor_params, 0, NULL, get_monitor,
     "tells what an instance or volume used"},
    {0},
};
