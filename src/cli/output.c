/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the API as tables, key and value, JSON or CSV. */
#include "cli-private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum { PAGE = 100, COLUMNS_MAX = 32 };

/* --- One value ----------------------------------------------------------------------------------
 */

const struct wire_value *wire_path(const struct wire_value *value, const char *path) {
    while (value != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        IM_AUTO(free_auto) char *key = im_strndup(path, len);
        int64_t index;

        if (wire_kind(value) == WIRE_ARRAY)
            value = im_parse_i64(key, 0, 1 << 20, &index) ? wire_at(value, (size_t) index) : NULL;
        else
            value = wire_get(value, key);
        path += len + (path[len] == '.');
    }
    return value;
}

/* Any scalar as it is on the wire; arrays of scalars joined by blanks. */
static void plain(struct im_str *out, const struct wire_value *value) {
    IM_AUTO(free_auto) char *dump = NULL;

    switch (wire_kind(value)) {
    case WIRE_NONE:
    case WIRE_NULL:
        break;
    case WIRE_TEXT:
        im_str_add(out, wire_as_text(value, ""));
        break;
    case WIRE_ARRAY:
        for (size_t i = 0; i < wire_count(value); i++) {
            if (i > 0)
                im_str_add_char(out, ' ');
            plain(out, wire_at(value, i));
        }
        break;
    default:
        dump = wire_dump(value, false);
        im_str_add(out, dump);
    }
}

static void size_text(struct im_str *out, int64_t bytes) {
    char text[16];

    if (bytes > 0)
        im_str_add(out, im_size_text((uint64_t) bytes, text));
    else
        im_str_add(out, "0");
}

/* The server's UTC in the reader's zone. */
static void time_text(struct im_str *out, const char *text) {
    int64_t time_s;
    struct tm local;
    time_t when;
    char shown[32];

    if (!im_time_parse(text, &time_s))
        return;
    when = (time_t) time_s;
    localtime_r(&when, &local);
    strftime(shown, sizeof(shown), "%Y-%m-%d %H:%M", &local);
    im_str_add(out, shown);
}

static void state_text(struct im_str *out, const struct wire_value *object) {
    const char *transition = wire_get_text(object, "transition_status", "");

    im_str_add(out, wire_get_text(object, "status", ""));
    if (*transition != '\0')
        im_str_addf(out, " (%s)", transition);
}

static void progress_text(struct im_str *out, const struct wire_value *object) {
    int64_t percent = wire_get_int(object, "percent", -1);

    if (percent >= 0)
        im_str_addf(out, "%" PRId64 " %%", percent);
}

char *column_text(const struct column *column, const struct wire_value *object, bool raw) {
    const struct wire_value *value = wire_path(object, column->path);
    enum wire_kind kind = wire_kind(value);
    struct im_str out = {0};

    if (raw || kind == WIRE_NONE || kind == WIRE_NULL) {
        plain(&out, value);
        return im_str_take(&out);
    }
    switch (column->form) {
    case FORM_TEXT:
    case FORM_INT:
        plain(&out, value);
        break;
    case FORM_GIB:
        im_str_addf(&out, "%" PRId64 " GiB", wire_as_int(value, 0));
        break;
    case FORM_MIB:
        size_text(&out, wire_as_int(value, 0) << 20);
        break;
    case FORM_BYTES:
        size_text(&out, wire_as_int(value, 0));
        break;
    case FORM_TIME:
        time_text(&out, wire_as_text(value, ""));
        break;
    case FORM_STATE:
        state_text(&out, object);
        break;
    case FORM_LIST:
        plain(&out, value);
        break;
    case FORM_YES:
        im_str_add(&out, wire_as_int(value, 0) ? "yes" : "no");
        break;
    case FORM_PROGRESS:
        progress_text(&out, object);
        break;
    }
    return im_str_take(&out);
}

/* --- Sets ---------------------------------------------------------------------------------------
 */

static bool right_aligned(enum column_form form) {
    return form == FORM_INT || form == FORM_GIB || form == FORM_MIB || form == FORM_BYTES ||
           form == FORM_PROGRESS;
}

static void print_table(struct cli *cli, const struct column *columns,
                        const struct wire_value *set) {
    const char *titles[COLUMNS_MAX];
    const struct column *shown[COLUMNS_MAX];
    bool right[COLUMNS_MAX];
    int ranks[COLUMNS_MAX];
    struct table table = {titles, right, ranks, 0, {0}};
    IM_AUTO(free_auto) char *text = NULL;

    for (const struct column *column = columns; column->title != NULL; column++) {
        if (column->rank >= 4)
            continue;
        shown[table.columns] = column;
        titles[table.columns] = column->title;
        right[table.columns] = right_aligned(column->form);
        ranks[table.columns++] = column->rank;
    }
    for (size_t row = 0; row < wire_count(set); row++)
        for (size_t i = 0; i < table.columns; i++) {
            IM_AUTO(free_auto) char *value = column_text(shown[i], wire_at(set, row), false);

            im_strings_add(&table.cells, value);
        }
    text = table_layout(&table, terminal_width(STDOUT_FILENO), terminal_colours(STDOUT_FILENO));
    fputs(text, cli->out);
    im_strings_done(&table.cells);
}

static void print_csv(struct cli *cli, const struct column *columns, const struct wire_value *set) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    for (const struct column *column = columns; column->title != NULL; column++) {
        im_str_add(&out, column == columns ? "" : ",");
        csv_field(&out, column->path);
    }
    im_str_add(&out, "\r\n");
    for (size_t row = 0; row < wire_count(set); row++) {
        for (const struct column *column = columns; column->title != NULL; column++) {
            IM_AUTO(free_auto) char *value = column_text(column, wire_at(set, row), true);

            im_str_add(&out, column == columns ? "" : ",");
            csv_field(&out, value);
        }
        im_str_add(&out, "\r\n");
    }
    fputs(out.data, cli->out);
}

static void print_json(struct cli *cli, const struct wire_value *value) {
    IM_AUTO(free_auto) char *text = wire_dump(value, true);

    fprintf(cli->out, "%s\n", text);
}

void cli_print_set(struct cli *cli, const struct listing *listing, const struct wire_value *set) {
    if (cli->output == OUTPUT_JSON && !cli->quiet) {
        print_json(cli, set);
    } else if (cli->quiet) {
        for (size_t i = 0; i < wire_count(set); i++)
            fprintf(cli->out, "%s\n", wire_get_text(wire_at(set, i), listing->id, ""));
    } else if (cli->output == OUTPUT_CSV) {
        print_csv(cli, listing->columns, set);
    } else if (wire_count(set) == 0) {
        fprintf(stderr, "%s\n", listing->none);
    } else {
        print_table(cli, listing->columns, set);
    }
}

/* All pages of a list as one document: an array. */
static bool gather(struct cli *cli, const struct listing *listing, struct client_params *params,
                   int64_t limit, struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str all = {0};
    int64_t got = 0, total = 0;

    im_str_add_char(&all, '[');
    do {
        IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
        const struct wire_value *set;
        int64_t want = limit - got < PAGE ? limit - got : PAGE;

        client_param_int(params, "offset", got);
        client_param_int(params, "limit", want);
        if (!cli_call(cli, listing->action, params, &doc, err))
            return false;
        set = wire_get(wire_root(doc), listing->set);
        total = wire_get_int(wire_root(doc), "total_count", (int64_t) wire_count(set));
        for (size_t i = 0; i < wire_count(set); i++) {
            IM_AUTO(free_auto) char *item = wire_dump(wire_at(set, i), false);

            im_str_add(&all, got++ > 0 ? "," : "");
            im_str_add(&all, item);
        }
        if (wire_count(set) == 0)
            break;
    } while (got < total && got < limit);
    im_str_add_char(&all, ']');
    if (total > got && cli->output == OUTPUT_TABLE && !cli->quiet)
        fprintf(stderr, "%" PRId64 " of %" PRId64 " shown; without --limit all are\n", got, total);
    *ret_doc = wire_parse(all.data, all.len, err);
    return *ret_doc != NULL;
}

bool cli_list(struct cli *cli, const struct listing *listing, struct client_params *params,
              struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const char *limit_text = cli_value(cli, "limit");
    int64_t limit = INT64_MAX;

    if (limit_text != NULL && !im_parse_i64(limit_text, 1, INT64_MAX, &limit))
        return cli_usage(cli, err, "--limit begins at 1");
    cli_params(cli, params);
    if (cli->args.count > 0)
        client_param_list(params, listing->ids_param, &cli->args);
    if (!gather(cli, listing, params, limit, &doc, err))
        return false;
    cli_print_set(cli, listing, wire_root(doc));
    return true;
}

bool cli_print_ids(struct cli *cli, const struct listing *listing, const struct im_strings *ids,
                   struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    client_param_list(&params, listing->ids_param, ids);
    client_param(&params, "verbose", "1");
    if (!gather(cli, listing, &params, INT64_MAX, &doc, err))
        return false;
    cli_print_set(cli, listing, wire_root(doc));
    return true;
}

/* --- Show ---------------------------------------------------------------------------------------
 */

static void print_pair(struct cli *cli, const char *key, const char *value, unsigned key_width) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    text_fit(&out, key, key_width, true);
    im_str_add(&out, "  ");
    text_fit(&out, value, 100000, false);
    fprintf(cli->out, "%s\n", out.data);
}

struct pairs {
    struct im_strings keys, values;
};

static void add_pair(struct pairs *pairs, const char *key, const char *value) {
    if (*value == '\0')
        return;
    im_strings_add(&pairs->keys, key);
    im_strings_add(&pairs->values, value);
}

/* "status=done step=3": the members of an object in one line, what is empty or zero left out. */
static void one_line(struct im_str *out, const struct wire_value *object) {
    for (size_t i = 0; i < wire_count(object); i++) {
        IM_AUTO(im_str_done) struct im_str value = {0};

        plain(&value, wire_member_at(object, i));
        if (value.len > 0 && strcmp(value.data, "0") != 0)
            im_str_addf(out, "%s%s=%s", out->len > 0 ? " " : "", wire_key_at(object, i),
                        value.data);
    }
}

static bool is_column(const struct listing *listing, const char *path) {
    for (const struct column *column = listing->columns; column->title != NULL; column++)
        if (strcmp(column->path, path) == 0)
            return true;
    return strcmp(path, "transition_status") == 0;
}

/* Members that no column shows: nested objects under a dotted name, arrays of objects a line each.
 * Zeros are told at the top only, where each field is the object's own. */
static void add_members(struct pairs *pairs, const struct listing *listing, const char *prefix,
                        const struct wire_value *object) {
    for (size_t i = 0; i < wire_count(object); i++) {
        const struct wire_value *value = wire_member_at(object, i);
        IM_AUTO(free_auto)
        char *path = im_printf("%s%s%s", prefix, *prefix ? "." : "", wire_key_at(object, i));
        IM_AUTO(im_str_done) struct im_str text = {0};

        if (is_column(listing, path))
            continue;
        if (wire_kind(value) == WIRE_OBJECT) {
            add_members(pairs, listing, path, value);
        } else if (wire_kind(wire_at(value, 0)) == WIRE_OBJECT) {
            for (size_t j = 0; j < wire_count(value); j++) {
                IM_AUTO(free_auto) char *numbered = im_printf("%s.%zu", path, j);
                IM_AUTO(im_str_done) struct im_str line = {0};

                one_line(&line, wire_at(value, j));
                add_pair(pairs, numbered, line.data ? line.data : "");
            }
        } else {
            plain(&text, value);
            if (*prefix == '\0' || !im_str_equal(text.data, "0"))
                add_pair(pairs, path, text.data ? text.data : "");
        }
    }
}

/* The columns first, as people read them; then every other member as it is on the wire. */
static void print_object(struct cli *cli, const struct listing *listing,
                         const struct wire_value *object) {
    struct pairs pairs = {0};
    unsigned key_width = 0;

    for (const struct column *column = listing->columns; column->title != NULL; column++) {
        IM_AUTO(free_auto) char *value = column_text(column, object, false);

        add_pair(&pairs, column->title, value);
    }
    add_members(&pairs, listing, "", object);
    for (size_t i = 0; i < pairs.keys.count; i++) {
        unsigned wide = text_width(pairs.keys.items[i]);

        key_width = wide > key_width ? wide : key_width;
    }
    for (size_t i = 0; i < pairs.keys.count; i++)
        print_pair(cli, pairs.keys.items[i], pairs.values.items[i], key_width);
    im_strings_done(&pairs.keys);
    im_strings_done(&pairs.values);
}

static bool holds_id(const struct wire_value *set, const char *key, const char *id) {
    for (size_t i = 0; i < wire_count(set); i++)
        if (strcmp(wire_get_text(wire_at(set, i), key, ""), id) == 0)
            return true;
    return false;
}

bool cli_show(struct cli *cli, const struct listing *listing, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *set;

    client_param_list(&params, listing->ids_param, &cli->args);
    client_param(&params, "verbose", "1");
    client_param(&params, "limit", "100");
    if (!cli_call(cli, listing->action, &params, &doc, err))
        return false;
    set = wire_get(wire_root(doc), listing->set);
    if (cli->output != OUTPUT_TABLE || cli->quiet) {
        if (cli->output == OUTPUT_JSON && wire_count(set) == 1 && cli->args.count == 1)
            print_json(cli, wire_at(set, 0));
        else if (wire_count(set) > 0)
            cli_print_set(cli, listing, set);
    } else {
        for (size_t i = 0; i < wire_count(set); i++) {
            if (i > 0)
                fputc('\n', cli->out);
            print_object(cli, listing, wire_at(set, i));
        }
    }
    for (size_t i = 0; i < cli->args.count; i++)
        if (!holds_id(set, listing->id, cli->args.items[i])) {
            cli_hint(cli, "imprint %s list", cli->noun->name);
            return im_fail(err, IM_NOT_FOUND, "%s %s does not exist", cli->noun->name,
                           cli->args.items[i]);
        }
    return true;
}

void cli_print_done(struct cli *cli, const struct wire_doc *doc, const struct im_strings *ids,
                    const char *format, ...) {
    va_list args;

    if (cli->quiet) {
        for (size_t i = 0; i < ids->count; i++)
            fprintf(cli->out, "%s\n", ids->items[i]);
        return;
    }
    if (cli->output == OUTPUT_JSON) {
        print_json(cli, wire_root(doc));
        return;
    }
    va_start(args, format);
    vfprintf(cli->out, format, args);
    va_end(args);
    fputc('\n', cli->out);
}

bool cli_modify(struct cli *cli, const char *action, const char *param, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    cli_params(cli, &params);
    if (params.names.count == 0)
        return cli_usage(cli, err, "what shall be changed? --name or --description");
    client_param(&params, param, cli->args.items[0]);
    if (!cli_call(cli, action, &params, &doc, err))
        return false;
    cli_print_done(cli, doc, &cli->args, "%s is changed", cli->args.items[0]);
    return true;
}

void cli_reply_ids(const struct wire_doc *doc, const char *key, struct im_strings *ids) {
    const struct wire_value *set = wire_get(wire_root(doc), key);

    for (size_t i = 0; i < wire_count(set); i++)
        im_strings_add(ids, wire_as_text(wire_at(set, i), ""));
}
