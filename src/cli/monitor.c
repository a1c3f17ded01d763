/* SPDX-License-Identifier: Apache-2.0 */
/* imprint instance monitor, imprint volume monitor: series as a table with a small chart each, or
 * value by value for programs. */
#include "cli-private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    STEPS_MAX = 200,
    CHART_MIN = 12,
    CHART_MAX = 72,
    BESIDE_CHART = 62,
    SINCE_MAX_S = 10 * 365 * 86400
};

static const struct {
    const char *word;
    int64_t seconds;
} steps[] = {{"5m", 300}, {"15m", 900}, {"30m", 1800}, {"1h", 3600}, {"2h", 7200}, {"1d", 86400}};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

/* --- What is asked for ------------------------------------------------------------------------ */

struct span {
    const char *step;
    int64_t step_s, start_s, end_s;
};

/* "6h", "90m", "2d"; minutes when it is a bare number. */
static bool read_duration(const char *text, int64_t *ret_s) {
    static const char units[] = "mhdw";
    static const int64_t seconds[] = {60, 3600, 86400, 7 * 86400};
    size_t digits = strspn(text, "0123456789");
    const char *unit = text[digits] ? strchr(units, text[digits]) : units;
    IM_AUTO(free_auto) char *number = im_strndup(text, digits);
    int64_t value;

    if (unit == NULL || (text[digits] && text[digits + 1]) ||
        !im_parse_i64(number, 1, SINCE_MAX_S, &value))
        return false;
    *ret_s = value * seconds[unit - units];
    return *ret_s <= SINCE_MAX_S;
}

/* The shortest step that gives a chart one can look at and is kept for so long. */
static size_t fitting_step(int64_t since_s) {
    size_t i = since_s > 15 * 86400 ? STEPS - 2 : 0;

    while (i + 1 < STEPS && since_s / steps[i].seconds > STEPS_MAX)
        i++;
    return i;
}

static bool read_span(struct cli *cli, struct span *span, struct im_err *err) {
    const char *since = cli_value(cli, "since"), *step = cli_value(cli, "step");
    int64_t since_s = 6 * 3600;
    size_t i;

    if (since != NULL && !read_duration(since, &since_s))
        return cli_usage(cli, err, "--since %s is no duration like 90m, 6h, 2d or 4w", since);
    i = fitting_step(since_s);
    for (size_t j = 0; step != NULL && j < STEPS; j++)
        if (strcmp(steps[j].word, step) == 0)
            i = j;
    span->step = steps[i].word;
    span->step_s = steps[i].seconds;
    span->end_s = im_now_s();
    span->start_s = span->end_s - since_s;
    span->start_s -= span->start_s % span->step_s;
    return true;
}

static void add_meter(struct im_strings *meters, const char *front, const char *id) {
    IM_AUTO(free_auto) char *meter = im_printf("%s%s", front, id);

    if (*id != '\0')
        im_strings_add(meters, meter);
}

/* All that an instance has, but operations per second. */
static void instance_meters(const struct wire_value *instance, struct im_strings *meters) {
    const struct wire_value *volumes = wire_get(instance, "volume_ids");
    const struct wire_value *cards = wire_get(instance, "vxnets");

    im_strings_add(meters, "cpu");
    im_strings_add(meters, "memory");
    im_strings_add(meters, "disk-os");
    for (size_t i = 0; i < wire_count(volumes); i++)
        add_meter(meters, "disk-", wire_as_text(wire_at(volumes, i), ""));
    for (size_t i = 0; i < wire_count(cards); i++)
        add_meter(meters, "if-", wire_get_text(wire_at(cards, i), "nic_id", ""));
}

static bool ask_meters(struct cli *cli, bool is_volume, struct im_strings *meters,
                       struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct im_strings *wanted = cli_values(cli, "meter");
    const struct wire_value *object;
    const char *id = cli->args.items[0];

    for (size_t i = 0; wanted != NULL && i < wanted->count; i++)
        im_strings_add(meters, wanted->items[i]);
    if (wanted != NULL)
        return true;
    if (is_volume) {
        add_meter(meters, "disk-", id);
        add_meter(meters, "disk-iops-", id);
        return true;
    }
    if (!cli_find(cli, "DescribeInstances", "instance_set", "instances", id, &doc, &object, err))
        return false;
    instance_meters(object, meters);
    return true;
}

static bool ask(struct cli *cli, const struct span *span, const struct im_strings *meters,
                struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    char start[IM_TIME_TEXT], end[IM_TIME_TEXT];

    im_time_format(span->start_s, start);
    im_time_format(span->end_s, end);
    client_param(&params, "resource", cli->args.items[0]);
    client_param_list(&params, "meters", meters);
    client_param(&params, "step", span->step);
    client_param(&params, "start_time", start);
    client_param(&params, "end_time", end);
    return cli_call(cli, "GetMonitor", &params, ret_doc, err);
}

/* --- What came -------------------------------------------------------------------------------- */

enum unit { UNIT_PERCENT, UNIT_BYTES, UNIT_OPS };

/* One line of the table: half of a meter with two numbers. NAN: no value. */
struct line {
    const char *meter; /* as it was asked for */
    const char *half;  /* "read", "written", "in", "out"; "" for a meter of one number */
    enum unit unit;
    double *values;
    size_t count;
};
struct lines {
    struct line *items;
    size_t count, capacity;
};

static void lines_done(struct lines *lines) {
    for (size_t i = 0; i < lines->count; i++)
        free(lines->items[i].values);
    free(lines->items);
}

static struct line *add_line(struct lines *lines, const char *meter, const char *half,
                             const struct span *span) {
    struct line *line;
    int64_t count = (span->end_s - span->start_s + span->step_s - 1) / span->step_s;

    im_grow(&lines->items, lines->count, &lines->capacity);
    line = &lines->items[lines->count++];
    *line = (struct line){.meter = meter, .half = half, .count = (size_t) count};
    line->unit = strcmp(half, "") == 0                 ? UNIT_PERCENT
                 : im_starts_with(meter, "disk-iops-") ? UNIT_OPS
                                                       : UNIT_BYTES;
    line->values = im_realloc_array(NULL, line->count + 1, sizeof(*line->values));
    for (size_t i = 0; i < line->count; i++)
        line->values[i] = NAN;
    return line;
}

static bool is_number(const struct wire_value *value) {
    return wire_kind(value) == WIRE_INT || wire_kind(value) == WIRE_REAL;
}

/* Data as it is on the wire: [time, value], then values a step apart, "NA" for none, [seconds since
 * the last, value]. `both` are one or two lines. */
static void expand(const struct wire_value *data, const struct span *span, struct line *both,
                   size_t lines) {
    int64_t at = 0;

    for (size_t i = 0; i < wire_count(data); i++) {
        const struct wire_value *item = wire_at(data, i), *value = item;
        bool jump = wire_kind(item) == WIRE_ARRAY &&
                    (lines == 1 || wire_kind(wire_at(item, 1)) == WIRE_ARRAY);
        int64_t index;

        at += jump ? wire_as_int(wire_at(item, 0), 0) : span->step_s;
        if (jump)
            value = wire_at(item, 1);
        index = (at - span->start_s) / span->step_s;
        if (at < span->start_s || index >= (int64_t) both->count)
            continue;
        for (size_t j = 0; j < lines; j++) {
            const struct wire_value *number = lines == 1 ? value : wire_at(value, j);

            if (is_number(number))
                both[j].values[index] = (double) wire_as_int(number, 0);
        }
    }
}

static void read_lines(const struct wire_doc *doc, const struct im_strings *meters,
                       const struct span *span, struct lines *lines) {
    const struct wire_value *set = wire_get(wire_root(doc), "meter_set");

    for (size_t i = 0; i < meters->count; i++) {
        const char *meter = meters->items[i];
        const struct wire_value *data = wire_get(wire_at(set, i), "data");
        bool pair = im_starts_with(meter, "disk-") || im_starts_with(meter, "if-");
        bool card = im_starts_with(meter, "if-");
        size_t first = lines->count;

        add_line(lines, meter, !pair ? "" : card ? "in" : "read", span);
        if (pair)
            add_line(lines, meter, card ? "out" : "written", span);
        expand(data, span, &lines->items[first], lines->count - first);
    }
}

/* --- As a table ------------------------------------------------------------------------------- */

static const struct column columns[] = {
    {"METER", "meter", FORM_TEXT, 0}, {"LAST", "last", FORM_INT, 0},
    {"MEAN", "mean", FORM_INT, 0},    {"MAX", "max", FORM_INT, 0},
    {"CHART", "chart", FORM_TEXT, 1}, {0},
};
static const struct listing table_listing = {"GetMonitor", "meter_set", "meter",
                                             "resource",   columns,     "no meters"};

static char *value_text(const struct line *line, double value) {
    char size[16];

    if (isnan(value))
        return im_strdup("-");
    if (line->unit == UNIT_PERCENT)
        return im_printf("%.1f %%", value / 10);
    if (line->unit == UNIT_OPS)
        return im_printf("%.0f/s", value);
    return im_printf("%s/s", value < 1 ? "0" : im_size_text((uint64_t) value, size));
}

struct figures {
    double last, mean, max;
    size_t known;
};

static struct figures figures_of(const double *values, size_t count) {
    struct figures figures = {NAN, NAN, NAN, 0};
    double sum = 0;

    for (size_t i = 0; i < count; i++) {
        if (isnan(values[i]))
            continue;
        figures.last = values[i];
        figures.max = figures.known == 0 || values[i] > figures.max ? values[i] : figures.max;
        figures.known++;
        sum += values[i];
    }
    if (figures.known > 0)
        figures.mean = sum / (double) figures.known;
    return figures;
}

/* Of eight heights, the means of `width` equal parts; percent against 100, others against the
 * largest. */
static char *chart(const struct line *line, double max, size_t width) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double top = line->unit == UNIT_PERCENT ? 1000 : max;
    struct im_str out = {0};

    width = line->count < width ? line->count : width;
    for (size_t i = 0; i < width; i++) {
        size_t from = i * line->count / width, to = (i + 1) * line->count / width;
        double mean = figures_of(&line->values[from], to - from).mean;
        double part = top > 0 ? mean / top : 0;

        if (isnan(mean))
            im_str_add(&out, "·");
        else
            im_str_add(&out, bars[part >= 1 ? 7 : (size_t) (part * 8)]);
    }
    return im_str_take(&out);
}

static size_t chart_width(void) {
    unsigned columns_there = terminal_width(STDOUT_FILENO);

    if (columns_there < BESIDE_CHART + CHART_MIN)
        return columns_there == 0 ? CHART_MAX : CHART_MIN;
    return columns_there - BESIDE_CHART < CHART_MAX ? columns_there - BESIDE_CHART : CHART_MAX;
}

static char *line_name(const struct line *line) {
    return im_printf("%s%s%s", line->meter, *line->half ? " " : "", line->half);
}

static void write_line(struct wire_writer *writer, const struct line *line, size_t width) {
    struct figures figures = figures_of(line->values, line->count);
    const double shown[] = {figures.last, figures.mean, figures.max};
    static const char *const names[] = {"last", "mean", "max"};
    IM_AUTO(free_auto) char *name = line_name(line);
    IM_AUTO(free_auto) char *drawn = chart(line, figures.max, width);

    wire_object_begin(writer, NULL);
    wire_text(writer, "meter", name);
    for (size_t i = 0; i < 3; i++) {
        IM_AUTO(free_auto) char *text = value_text(line, shown[i]);

        wire_text(writer, names[i], text);
    }
    wire_text(writer, "chart", drawn);
    wire_object_end(writer);
}

/* --- Value by value --------------------------------------------------------------------------- */

static const struct column value_columns[] = {
    {"METER", "meter", FORM_TEXT, 0},
    {"TIME", "time", FORM_TEXT, 0},
    {"VALUE", "value", FORM_INT, 0},
    {"UNIT", "unit", FORM_TEXT, 0},
    {0},
};
static const struct listing value_listing = {"GetMonitor", "meter_set",   "meter",
                                             "resource",   value_columns, "no values"};

/* Steps that have a value, as the API counts. */
static void write_values(struct wire_writer *writer, const struct line *line,
                         const struct span *span) {
    static const char *const units[] = {"permille", "bytes/s", "operations/s"};
    IM_AUTO(free_auto) char *name = line_name(line);

    for (size_t i = 0; i < line->count; i++) {
        if (isnan(line->values[i]))
            continue;
        wire_object_begin(writer, NULL);
        wire_text(writer, "meter", name);
        wire_time(writer, "time", span->start_s + (int64_t) i * span->step_s);
        wire_int(writer, "value", (int64_t) line->values[i]);
        wire_text(writer, "unit", units[line->unit]);
        wire_object_end(writer);
    }
}

/* --- The verbs -------------------------------------------------------------------------------- */

static bool print(struct cli *cli, const struct lines *lines, const struct span *span,
                  struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct wire_writer writer = {0};
    size_t known = 0, width = chart_width();
    bool table = cli->output == OUTPUT_TABLE;

    wire_array_begin(&writer, NULL);
    for (size_t i = 0; i < lines->count; i++) {
        const struct line *line = &lines->items[i];

        known += figures_of(line->values, line->count).known;
        if (table)
            write_line(&writer, line, width);
        else
            write_values(&writer, line, span);
    }
    wire_array_end(&writer);
    doc = wire_parse(writer.text.data, writer.text.len, err);
    im_str_done(&writer.text);
    if (doc == NULL)
        return false;
    cli_print_set(cli, table ? &table_listing : &value_listing, wire_root(doc));
    if (known == 0)
        fprintf(stderr,
                "no values in this time: what runs is measured from its second minute on\n");
    else if (table && !cli->quiet)
        fprintf(stderr, "%zu steps of %s, the last one ends now\n", lines->items[0].count,
                span->step);
    return true;
}

static bool monitor(struct cli *cli, bool is_volume, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings meters = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(lines_done) struct lines lines = {0};
    struct span span = {0};

    if (!read_span(cli, &span, err) || !ask_meters(cli, is_volume, &meters, err) ||
        !ask(cli, &span, &meters, &doc, err))
        return false;
    read_lines(doc, &meters, &span, &lines);
    return print(cli, &lines, &span, err);
}

bool cli_instance_monitor(struct cli *cli, struct im_err *err) { return monitor(cli, false, err); }

bool cli_volume_monitor(struct cli *cli, struct im_err *err) { return monitor(cli, true, err); }

const struct option cli_monitor_options[] = {
    {"since", 0, "DURATION", "6h", "how far back: 90m, 6h, 2d, 4w", NULL, 0, NULL},
    {"step", 0, "STEP", "what fits", "time that each value is the mean of", NULL, 0,
     "5m 15m 30m 1h 2h 1d"},
    {"meter", 'm', "METER", NULL, "only these: cpu, memory, disk-os, disk-iops-os, disk-VOLUME …",
     NULL, OPTION_MANY, NULL},
    {0},
};
