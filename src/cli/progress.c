/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on standard error: a bar or a spinner that is drawn over on a terminal, a line at every
 * tenth elsewhere. And following a job with it. */
#include "cli-private.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"

enum { DRAW_EVERY_MS = 100, BAR_MIN = 6, BAR_MAX = 30, RATE_OVER_MS = 3000 };

struct progress {
    char *what;
    bool terminal, silent, drawn;
    bool named; /* `what` tells the job's action */
    int64_t started_ms, drawn_ms;
    unsigned frame, cells;
    int tenth;            /* the last one that was said */
    char *said;           /* the last step that was said */
    uint64_t first_bytes; /* where the bytes stood when the rate was begun to be measured */
    int64_t first_ms;
};

struct progress *progress_new(const struct cli *cli, const char *what) {
    struct progress *progress = im_alloc(sizeof(*progress));

    progress->what = im_strdup(what);
    progress->silent = cli->quiet;
    progress->terminal = isatty(STDERR_FILENO) && !im_str_equal(getenv("TERM"), "dumb");
    progress->started_ms = im_mono_ms();
    progress->tenth = -1;
    return progress;
}

static void draw(struct progress *progress, const char *line) {
    IM_AUTO(im_str_done) struct im_str out = {0};
    unsigned width = terminal_width(STDERR_FILENO);

    im_str_add_char(&out, '\r');
    text_fit(&out, line, width > 1 ? width - 1 : 79, false);
    im_str_add(&out, "\033[K");
    fputs(out.data, stderr);
    fflush(stderr);
    progress->drawn = true;
}

static bool due(struct progress *progress) {
    int64_t now_ms = im_mono_ms();

    if (now_ms - progress->drawn_ms < DRAW_EVERY_MS && progress->drawn)
        return false;
    progress->drawn_ms = now_ms;
    progress->frame++;
    return true;
}

static void duration_text(int64_t seconds, char out[32]) {
    if (seconds < 120)
        snprintf(out, 32, "%" PRId64 " s", seconds);
    else if (seconds < 7200)
        snprintf(out, 32, "%" PRId64 " min", (seconds + 30) / 60);
    else
        snprintf(out, 32, "%" PRId64 " h", (seconds + 1800) / 3600);
}

/* Bytes per second over the last seconds, for transfers of our own. */
static int64_t measure(struct progress *progress, uint64_t done) {
    int64_t now_ms = im_mono_ms(), passed_ms = now_ms - progress->first_ms;
    int64_t rate;

    if (progress->first_ms == 0 || done < progress->first_bytes) {
        progress->first_ms = now_ms;
        progress->first_bytes = done;
        return 0;
    }
    if (passed_ms < 200)
        return 0;
    rate = (int64_t) (done - progress->first_bytes) * 1000 / passed_ms;
    if (passed_ms > RATE_OVER_MS) { /* let half of what was measured go */
        progress->first_bytes += (done - progress->first_bytes) / 2;
        progress->first_ms += passed_ms / 2;
    }
    return rate;
}

/* The bar takes what the words leave; it never grows back, or it would jump with them. */
static unsigned bar_cells(struct progress *progress, unsigned words) {
    unsigned width = terminal_width(STDERR_FILENO), cells = 0;

    if (width > words + 2 + BAR_MIN)
        cells = width - words - 3 > BAR_MAX ? BAR_MAX : width - words - 3;
    if (progress->cells == 0 || cells < progress->cells)
        progress->cells = cells;
    return progress->cells;
}

static void bar(struct im_str *out, unsigned cells, uint64_t done, uint64_t total) {
    unsigned full = (unsigned) ((double) cells * (double) done / (double) total);

    for (unsigned i = 0; i < cells; i++)
        im_str_add(out, i < full ? "█" : "░");
}

void progress_bytes(struct progress *progress, uint64_t done, uint64_t total, int64_t rate) {
    IM_AUTO(im_str_done) struct im_str line = {0};
    char done_text[16], total_text[16], rate_text[16], left[32] = "";
    int percent = total == 0 ? 0 : (int) ((double) done * 100 / (double) total);
    IM_AUTO(im_str_done) struct im_str words = {0};
    unsigned cells;

    if (progress->silent || total == 0)
        return;
    if (done > total)
        done = total, percent = 100;
    if (progress->terminal ? !due(progress) : percent / 10 == progress->tenth)
        return;
    progress->tenth = percent / 10;
    if (rate <= 0)
        rate = measure(progress, done);
    if (rate > 0 && done < total)
        duration_text((int64_t) ((total - done) / (uint64_t) rate), left);
    im_size_text(done, done_text);
    im_size_text(total, total_text);
    im_size_text(rate > 0 ? (uint64_t) rate : 0, rate_text);
    if (!progress->terminal) {
        fprintf(stderr, "%s: %d %% (%s of %s%s%s%s)\n", progress->what, percent, done_text,
                total_text, rate > 0 ? ", " : "", rate > 0 ? rate_text : "", rate > 0 ? "/s" : "");
        return;
    }
    im_str_addf(&words, "%3d %%  %s of %s", percent, done_text, total_text);
    if (rate > 0)
        im_str_addf(&words, "  %s/s", rate_text);
    if (left[0] != '\0')
        im_str_addf(&words, "  %s left", left);
    cells = bar_cells(progress, text_width(progress->what) + 2 + text_width(words.data));
    im_str_addf(&line, "%s  ", progress->what);
    bar(&line, cells, done, total);
    im_str_addf(&line, "%s%s", cells > 0 ? " " : "", words.data);
    draw(progress, line.data);
}

void progress_step(struct progress *progress, const char *step) {
    static const char *const frames[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
    IM_AUTO(im_str_done) struct im_str line = {0};
    char passed[32];

    if (progress->silent)
        return;
    if (!progress->terminal) {
        if (im_str_equal(progress->said, step))
            return;
        im_replace(&progress->said, step);
        fprintf(stderr, "%s: %s\n", progress->what, step);
        return;
    }
    if (!due(progress))
        return;
    duration_text((im_mono_ms() - progress->started_ms) / 1000, passed);
    im_str_addf(&line, "%s %s: %s  %s", frames[progress->frame % 10], progress->what, step, passed);
    draw(progress, line.data);
}

void progress_free(struct progress *progress, const char *last) {
    if (progress == NULL)
        return;
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    if (last != NULL && !progress->silent)
        fprintf(stderr, "%s\n", last);
    fflush(stderr);
    free(progress->what);
    free(progress->said);
    free(progress);
}

/* --- Jobs ---------------------------------------------------------------------------------------
 */

/* "RunInstances i-4kq0z8pw", or "RunInstances i-4kq0z8pw and 9 more". */
static void name_job(struct progress *progress, const struct client_job *job) {
    size_t first = strcspn(job->resource_ids, " ");

    if (progress->named || job->unreachable)
        return;
    progress->named = true;
    free(progress->what);
    progress->what = im_printf("%s %.*s", job->action, (int) first, job->resource_ids);
    if (job->items > 1) {
        IM_AUTO(free_auto) char *one = im_steal(&progress->what);

        progress->what = im_printf("%s and %zu more", one, job->items - 1);
    }
}

static void seen(void *context, const struct client_job *job) {
    struct progress *progress = context;
    IM_AUTO(free_auto) char *step = NULL;

    name_job(progress, job);
    if (job->unreachable) {
        progress_step(progress, "the server does not answer, waiting for it");
    } else if (job->total_bytes > 0 && !job->over) {
        progress_bytes(progress, (uint64_t) job->done_bytes, (uint64_t) job->total_bytes,
                       job->rate_bytes);
    } else if (!job->over) {
        step = job->items > 1
                   ? im_printf("%s, %zu of %zu done", job->status, job->items_over, job->items)
                   : im_strdup(job->status);
        progress_step(progress, step);
    }
}

/* What came out for each resource, for a job that did not go well with all of them. */
static void tell_items(const struct wire_value *items) {
    for (size_t i = 0; i < wire_count(items); i++) {
        const struct wire_value *item = wire_at(items, i);
        const char *message = wire_get_text(item, "message", "");

        fprintf(stderr, "  %s: %s%s%s\n", wire_get_text(item, "resource_id", ""),
                wire_get_text(item, "status", ""), *message ? ": " : "", message);
    }
}

static size_t count_items(const struct wire_value *items, const char *status) {
    size_t count = 0;

    for (size_t i = 0; i < wire_count(items); i++)
        count += im_str_equal(wire_get_text(wire_at(items, i), "status", ""), status);
    return count;
}

/* The code of the first resource that failed, for the exit status. */
static enum im_code item_code(const struct wire_value *items) {
    for (size_t i = 0; i < wire_count(items); i++) {
        const char *name = wire_get_text(wire_at(items, i), "error_code", "");

        if (*name != '\0')
            return im_code_from_name(name);
    }
    return IM_INTERNAL;
}

/* Success, failure, or some of both. */
static bool judge(struct cli *cli, const struct wire_value *job, struct im_err *err) {
    const char *id = wire_get_text(job, "job_id", ""), *status = wire_get_text(job, "status", "");
    const char *reason = wire_get_text(job, "error_message", "");
    const struct wire_value *items = wire_get(job, "items");
    bool some = count_items(items, "done") > 0;

    if (strcmp(status, "successful") == 0)
        return true;
    if (wire_count(items) > 1)
        tell_items(items);
    cli->job_failed = true;
    if (some || strcmp(status, "done with failure") == 0)
        cli->exit = CLI_PARTLY;
    cli_hint(cli, "imprint job show %s", id);
    return im_fail(err, item_code(items), "job %s %s: %s", id,
                   cli->exit == CLI_PARTLY ? "was done in part" : "failed",
                   *reason ? reason : "the server gave no reason");
}

/* What stays to be done when we stop looking. */
static void hint_goes_on(struct cli *cli, const char *job_id, struct im_err *err) {
    if (err->code == IM_CANCELLED) {
        im_fail(err, IM_CANCELLED, "stopped waiting; job %s goes on", job_id);
        cli_hint(cli, "'imprint job show %s' looks at it, 'imprint job cancel %s' stops it", job_id,
                 job_id);
    } else if (err->code == IM_TIMEOUT && client_fault(cli->client) == CLIENT_FINE) {
        cli_hint(cli, "imprint job wait %s", job_id);
    }
}

bool cli_follow_job(struct cli *cli, const char *job_id, struct wire_doc **ret_doc,
                    struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct progress *progress;
    int64_t timeout_s = 0;
    bool passed;

    if (cli_value(cli, "timeout") != NULL)
        (void) im_parse_i64(cli_value(cli, "timeout"), 0, INT64_MAX / 1000, &timeout_s);
    if (cli_client(cli, err) == NULL)
        return false;
    cli_catch_interrupts();
    progress = progress_new(cli, job_id);
    passed = client_wait_job(cli->client, job_id, seen, progress, timeout_s * 1000, &doc, err);
    progress_free(progress, NULL);
    if (!passed) {
        hint_goes_on(cli, job_id, err);
        return false;
    }
    passed = judge(cli, wire_at(wire_get(wire_root(doc), "job_set"), 0), err);
    if (ret_doc != NULL)
        *ret_doc = im_steal(&doc);
    return passed;
}

static void print_ids(struct cli *cli, const struct im_strings *ids) {
    for (size_t i = 0; i < ids->count; i++)
        fprintf(cli->out, "%s\n", ids->items[i]);
}

/* The reply names new resources, which may be there although the job did not go well. */
static bool made_something(const struct wire_value *reply) {
    return wire_get(reply, "instances") != NULL || wire_get(reply, "images") != NULL ||
           wire_get(reply, "image_id") != NULL;
}

static void print_started(struct cli *cli, const struct wire_doc *doc, const struct im_strings *ids,
                          const char *job_id) {
    IM_AUTO(free_auto) char *joined = im_strings_join(ids, " ");

    if (cli->quiet) {
        print_ids(cli, ids);
    } else if (cli->output == OUTPUT_JSON) {
        IM_AUTO(free_auto) char *text = wire_dump(wire_root(doc), true);

        fprintf(cli->out, "%s\n", text);
    } else if (cli->output == OUTPUT_CSV) {
        fputs("resource_id,job_id\r\n", cli->out);
        for (size_t i = 0; i < ids->count; i++)
            fprintf(cli->out, "%s,%s\r\n", ids->items[i], job_id);
    } else {
        fprintf(cli->out, "%s\n%s\n", joined, job_id);
        fprintf(stderr, "next: imprint job wait %s\n", job_id);
    }
}

bool cli_finish_job(struct cli *cli, const struct wire_doc *doc, const struct im_strings *ids,
                    const struct listing *listing, struct im_err *err) {
    const struct wire_value *job = wire_get(wire_root(doc), "job_id");
    /* CreateSnapshots may tell it as an array of one. */
    const char *job_id = wire_as_text(wire_count(job) > 0 ? wire_at(job, 0) : job, "");

    if (!cli_flag(cli, "wait")) {
        print_started(cli, doc, ids, job_id);
        return true;
    }
    if (!cli_follow_job(cli, job_id, NULL, err)) {
        if (made_something(wire_root(doc)) && (cli->quiet || cli->output == OUTPUT_TABLE))
            print_ids(cli, ids);
        return false;
    }
    if (cli->quiet || listing == NULL) {
        print_ids(cli, ids);
        return true;
    }
    return cli_print_ids(cli, listing, ids, err);
}
