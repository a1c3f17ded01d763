/* SPDX-License-Identifier: Apache-2.0 */
/* BootTestImage: the job around a machine that is started to see it start, its disk, and its
 * report. The disk is a head that belongs to the job all the time; the files of a report are there
 * before its row says so, and go after it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "boot-run.h"

enum { TIMEOUT_MIN_S = 10, TIMEOUT_MAX_S = 7200, EXPIRED_PER_ROUND = 256 };

static const char *const kinds[] = {"serial", "screen"};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static char *file_path(const struct cloud *cloud, const char *id, const char *kind) {
    return im_printf("%s/boot-tests/%s.%s", cloud->config.state_dir, id, kind);
}

static void files_remove(const struct cloud *cloud, const char *id) {
    for (size_t i = 0; i < KINDS; i++) {
        IM_AUTO(free_auto) char *path = file_path(cloud, id, kinds[i]);

        if (unlink(path) < 0 && errno != ENOENT)
            im_warn("cloud", "cannot remove %s: %s", path, strerror(errno));
    }
}

/* --- The request ------------------------------------------------------------------------------ */

struct boot_call {
    struct cloud *cloud;
    const struct caller *caller;
    const struct boot_test_args *args;
    char accel[8];
    int64_t vcpus, memory_mib, timeout_s;
    char test_id[IM_ID_MAX];
    char job_id[IM_JOB_ID_MAX];
};

/* What is to be started. */
struct source {
    char id[IM_ID_MAX], layer_id[IM_ID_MAX], firmware[8];
};

static bool find_source(struct db_conn *conn, const struct boot_call *call,
                        struct source *ret_source, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    const char *id = call->args->resource_id, *layer_id, *firmware = call->args->firmware;
    bool is_image = !im_starts_with(id, "ss-"), available;

    if (is_image ? !image_load(conn, call->caller, id, &image, err)
                 : !snapshot_load(conn, call->caller, id, &snapshot, err))
        return false;
    available = is_image ? image->status == IMAGE_AVAILABLE || image->status == IMAGE_DEPRECATED
                         : snapshot->status == SNAPSHOT_AVAILABLE;
    layer_id = is_image ? image->layer_id : snapshot->layer_id;
    if (!available || im_str_empty(layer_id))
        return im_fail(err, IM_WRONG_STATE, "%s [%s] is not available, can not be boot-tested",
                       is_image ? "image" : "snapshot", id);
    if (im_str_empty(firmware))
        firmware = is_image ? image->firmware : snapshot->firmware;
    snprintf(ret_source->id, IM_ID_MAX, "%s", is_image ? image->image_id : snapshot->snapshot_id);
    snprintf(ret_source->layer_id, IM_ID_MAX, "%s", layer_id);
    snprintf(ret_source->firmware, sizeof(ret_source->firmware), "%s",
             im_str_equal(firmware, "uefi") ? "uefi" : "bios");
    return true;
}

static bool boot_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct boot_call *call = arg;
    struct source source;
    char layer_id[IM_ID_MAX];
    IM_AUTO(free_auto) char *data = NULL;
    struct job_order order = {.resource_id = source.id};
    struct boot_test test = {.boot_test_id = call->test_id,
                             .resource_id = source.id,
                             .status = BOOT_TEST_PENDING,
                             .vcpus = call->vcpus,
                             .memory = call->memory_mib,
                             .timeout = call->timeout_s,
                             .firmware = source.firmware,
                             .accel = call->accel,
                             .owner = (char *) call->caller->user_id,
                             .job_id = call->job_id,
                             .create_time = im_now_s(),
                             .layer_id = layer_id};

    im_id_make(call->test_id, BOOT_TEST_PREFIX, 8);
    data = im_printf("{\"boot_test\":\"%s\"}", call->test_id);
    order.data = data;
    return find_source(conn, call, &source, err) &&
           layer_plan(call->cloud, conn, source.layer_id, 0, layer_id, err) &&
           jobs_add(call->cloud->jobs, conn, "BootTestImage", call->caller->user_id, "", &order, 1,
                    call->job_id, err) &&
           record_insert(conn, &boot_test_type, &test, err);
}

/* What is not given, by the configuration. */
static bool fill_in(struct boot_call *call, struct im_err *err) {
    const struct cloud_config *config = &call->cloud->config;
    const struct boot_test_args *args = call->args;
    struct machine_limits limits;
    struct virt_host host;

    if (!virt_host(config->virt, &host, err) || !machine_limits(call->cloud, &limits, err))
        return false;
    snprintf(call->accel, sizeof(call->accel), "%s", host.accel);
    call->vcpus = args->cpu > 0 ? args->cpu : config->boot_test_vcpus;
    call->memory_mib = args->memory > 0 ? args->memory : config->boot_test_memory_mib;
    call->timeout_s = args->timeout_s > 0               ? args->timeout_s
                      : im_str_equal(host.accel, "kvm") ? config->boot_test_kvm_s
                                                        : config->boot_test_tcg_s;
    if (args->timeout_s > 0 && (args->timeout_s < TIMEOUT_MIN_S || args->timeout_s > TIMEOUT_MAX_S))
        return im_fail(err, IM_BAD_MESSAGE,
                       "timeout [%" PRId64 "] should be between %d and %d seconds", args->timeout_s,
                       TIMEOUT_MIN_S, TIMEOUT_MAX_S);
    return machine_fits(&limits, call->vcpus, call->memory_mib, err);
}

bool cloud_boot_test(struct cloud *cloud, const struct caller *caller,
                     const struct boot_test_args *args, char ret_boot_test_id[IM_ID_MAX],
                     char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct boot_call call = {.cloud = cloud, .caller = caller, .args = args};

    if (im_str_empty(args->resource_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image] is missing");
    if (!fill_in(&call, err) || !cloud_order(cloud, boot_body, &call, call.job_id, ret_job_id, err))
        return false;
    memcpy(ret_boot_test_id, call.test_id, IM_ID_MAX);
    return true;
}

/* --- The report ------------------------------------------------------------------------------- */

static void write_mark(struct wire_writer *writer, const char *word, int64_t ms) {
    if (ms < 0)
        return;
    wire_object_begin(writer, NULL);
    wire_text(writer, "mark", word);
    wire_int(writer, "ms", ms);
    wire_object_end(writer);
}

/* In the order of time. */
static char *timeline(const struct boot_watch *watch, int64_t off_ms) {
    struct wire_writer writer = {0};
    bool written[BOOT_MARKS] = {false};

    wire_array_begin(&writer, NULL);
    for (size_t i = 0; i < BOOT_MARKS; i++) {
        size_t next = BOOT_MARKS;

        for (size_t k = 0; k < BOOT_MARKS; k++)
            if (!written[k] && watch->marks[k] >= 0 &&
                (next == BOOT_MARKS || watch->marks[k] < watch->marks[next]))
                next = k;
        if (next == BOOT_MARKS)
            break;
        written[next] = true;
        write_mark(&writer, boot_mark_word((enum boot_mark) next), watch->marks[next]);
    }
    write_mark(&writer, "screen_changed", watch->screen_ms);
    write_mark(&writer, "powered_off", off_ms > 0 ? off_ms : -1);
    wire_array_end(&writer);
    return im_str_take(&writer.text);
}

static bool update_timeline(struct db_conn *conn, void *arg, struct im_err *err) {
    return record_update_fields(conn, &boot_test_type, arg, (const char *const[]){"timeline", NULL},
                                err);
}

/* The time line is seen to grow. */
struct watching {
    struct cloud *cloud;
    const char *test_id;
    size_t marks;
};

static void on_seen(void *arg, const struct boot_watch *watch) {
    struct watching *watching = arg;
    IM_AUTO(free_auto) char *text = NULL;
    struct boot_test row = {.boot_test_id = (char *) watching->test_id};
    struct im_err later = {0};
    size_t marks = 0;

    for (size_t i = 0; i < BOOT_MARKS; i++)
        marks += watch->marks[i] >= 0;
    if (marks == watching->marks)
        return;
    watching->marks = marks;
    row.timeline = text = timeline(watch, 0);
    if (!cloud_transact(watching->cloud, update_timeline, &row, &later))
        im_debug("cloud", "%s: %s", watching->test_id, later.text);
}

static bool keep_file(struct cloud *cloud, const char *id, const char *kind, const char *bytes,
                      size_t len, struct im_err *err) {
    IM_AUTO(free_auto) char *path = file_path(cloud, id, kind);

    return bytes == NULL || len == 0 || im_write_file(path, bytes, len, 0600, err);
}

/* What the commit writes, as texts: the row's fields by name. */
static char *result_text(const struct boot_report *report) {
    const struct boot_reason_row *reason = &boot_reasons[report->watch.reason];
    IM_AUTO(free_auto) char *line = timeline(&report->watch, report->off_ms);
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "verdict", boot_verdict_word(reason->verdict));
    wire_text(&writer, "reason", reason->code);
    wire_text(&writer, "message", reason->text);
    wire_text(&writer, "evidence", report->watch.evidence);
    wire_text(&writer, "hint", reason->hint);
    wire_int(&writer, "seconds", (report->over_ms + 500) / 1000);
    wire_int(&writer, "clean_shutdown", report->clean);
    wire_int(&writer, "serial_bytes", (int64_t) report->serial_len);
    wire_int(&writer, "screen_bytes", (int64_t) report->screen_len);
    wire_text(&writer, "timeline", line);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

/* --- The job ---------------------------------------------------------------------------------- */

static bool test_of(const struct job_run *run, struct db_conn *conn, struct boot_test **ret_test,
                    struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           record_get(conn, &boot_test_type, wire_get_text(wire_root(data), "boot_test", ""),
                      ret_test, err);
}

static bool test_load(const struct job_run *run, struct boot_test **ret_test, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && test_of(run, conn, ret_test, err);
}

/* An empty head, whatever an earlier run wrote. */
static bool make_disk(struct cloud *cloud, const char *layer_id, struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    if (conn == NULL || !record_get(conn, &layer_type, layer_id, &layer, err))
        return false;
    db_give(im_steal(&conn));
    return storage_remove(cloud->config.pool, layer->name, err) &&
           layer_make_head(cloud, layer_id, err);
}

static bool start_and_watch(struct job_run *run, const struct boot_test *test,
                            struct boot_report *ret_report, struct im_err *err) {
    struct cloud *cloud = run->context;
    struct watching watching = {.cloud = cloud, .test_id = test->boot_test_id};
    const struct boot_machine machine = {.name = test->boot_test_id,
                                         .layer_id = test->layer_id,
                                         .firmware = test->firmware,
                                         .vcpus = test->vcpus,
                                         .memory_mib = test->memory,
                                         .timeout_ms = test->timeout * 1000,
                                         .cancel = run->cancel,
                                         .seen = on_seen,
                                         .arg = &watching};

    return boot_forget(cloud, test->boot_test_id, err) && make_disk(cloud, test->layer_id, err) &&
           boot_run(cloud, &machine, ret_report, err);
}

/* Tests that are steps of other verbs wait here; those by themselves have waited before. */
static bool enter(struct cloud *cloud, const volatile bool *cancel, struct im_err *err) {
    for (;;) {
        bool entered;

        pthread_mutex_lock(&cloud->lock);
        entered = cloud->boots < (unsigned) cloud->config.boot_test_at_once;
        cloud->boots += entered;
        pthread_mutex_unlock(&cloud->lock);
        if (entered)
            return true;
        if (*cancel)
            return im_fail(err, IM_CANCELLED, "cancelled while other boot tests ran");
        im_sleep_ms(100);
    }
}

static void leave(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->boots--;
    pthread_mutex_unlock(&cloud->lock);
}

static bool boot_step_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    IM_AUTO(boot_report_done) struct boot_report report = {0};
    bool watched;

    if (!test_load(run, &test, err) || !enter(cloud, run->cancel, err))
        return false;
    watched = start_and_watch(run, test, &report, err);
    leave(cloud);
    if (!watched ||
        !keep_file(cloud, test->boot_test_id, "serial", report.serial, report.serial_len, err) ||
        !keep_file(cloud, test->boot_test_id, "screen", report.screen, report.screen_len, err))
        return im_within(err, "boot test of [%s]", run->item->resource_id);
    run->scratch = result_text(&report);
    return true;
}

static bool boot_step_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    IM_AUTO(wire_doc_free_auto)
    struct wire_doc *doc = wire_parse(run->scratch, strlen(run->scratch), err);
    const struct wire_value *result = doc != NULL ? wire_root(doc) : NULL;

    if (doc == NULL || !test_of(run, conn, &test, err) ||
        !layer_drop(run->context, conn, test->layer_id, err))
        return false;
    im_replace(&test->verdict, wire_get_text(result, "verdict", ""));
    im_replace(&test->reason, wire_get_text(result, "reason", ""));
    im_replace(&test->message, wire_get_text(result, "message", ""));
    im_replace(&test->evidence, wire_get_text(result, "evidence", ""));
    im_replace(&test->hint, wire_get_text(result, "hint", ""));
    im_replace(&test->timeline, wire_get_text(result, "timeline", ""));
    im_replace(&test->layer_id, "");
    test->seconds = wire_get_int(result, "seconds", 0);
    test->clean_shutdown = wire_get_int(result, "clean_shutdown", 0);
    test->serial_bytes = wire_get_int(result, "serial_bytes", 0);
    test->screen_bytes = wire_get_int(result, "screen_bytes", 0);
    test->status = BOOT_TEST_DONE;
    test->end_time = im_now_s();
    return record_update(conn, &boot_test_type, test, err);
}

static bool boot_step_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const char *id;

    if (data == NULL)
        return false;
    id = wire_get_text(wire_root(data), "boot_test", "");
    files_remove(run->context, id);
    return boot_forget(run->context, id, err);
}

static bool boot_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                        struct im_err *err) {
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;

    (void) why;
    return test_of(run, conn, &test, err) && layer_drop(run->context, conn, test->layer_id, err) &&
           record_delete(conn, &boot_test_type, test->boot_test_id, err);
}

static unsigned boot_at_once(void *context) {
    const struct cloud *cloud = context;

    return (unsigned) cloud->config.boot_test_at_once;
}

static const struct job_step boot_steps[] = {
    {"boot", boot_step_run, boot_step_commit, boot_step_undo}};
const struct job_verb boot_test_verb = {.action = "BootTestImage",
                                        .steps = boot_steps,
                                        .step_count = 1,
                                        .undone = boot_undone,
                                        .resumes = true,
                                        .cancels = true,
                                        .at_once = boot_at_once};

/* --- As a step on the way to an image --------------------------------------------------------- */

static const char *const gate_kinds[] = {"import", "volume", "instance"};

/* The words of the text, one after the other. */
static bool next_word(const char **at, char word[16]) {
    size_t len;

    *at += strspn(*at, " ,");
    len = strcspn(*at, " ,");
    snprintf(word, 16, "%.*s", (int) (len < 15 ? len : 15), *at);
    *at += len;
    return len > 0;
}

bool boot_gate_kinds(const char *kinds_text, struct im_err *err) {
    char word[16];

    for (const char *at = kinds_text; next_word(&at, word);) {
        bool known = false;

        for (size_t i = 0; i < sizeof(gate_kinds) / sizeof(gate_kinds[0]); i++)
            known = known || strcmp(gate_kinds[i], word) == 0;
        if (!known)
            return im_fail(err, IM_BAD_MESSAGE,
                           "boottest.required: [%s] should be one of: import volume instance",
                           word);
    }
    return true;
}

static bool is_required(const struct cloud *cloud, const char *kind) {
    char word[16];

    for (const char *at = cloud->config.boot_test_required; next_word(&at, word);)
        if (strcmp(word, kind) == 0)
            return true;
    return false;
}

/* {"boot_test":"bt-…", and what was there before; a commit that is tried again has another one. */
static void note_plan(struct job_item *item, const char *test_id) {
    static const char begins[] = "{\"boot_test\":\"";
    const char *rest = im_starts_with(item->data, "{") ? item->data + 1 : "}";
    char *data;

    if (im_starts_with(item->data, begins)) {
        rest = item->data + strlen(begins);
        rest += strcspn(rest, "\"");
        rest += *rest == '"';
        rest += *rest == ',';
    }
    data = im_printf("%s%s\"%s%s", begins, test_id, *rest == '}' ? "" : ",", rest);
    free(item->data);
    item->data = data;
}

/* "" without one. */
static bool planned(const struct job_run *run, char ret_id[IM_ID_MAX], struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = NULL;

    ret_id[0] = '\0';
    if (im_str_empty(run->item->data))
        return true;
    data = item_data(run, err);
    if (data != NULL)
        snprintf(ret_id, IM_ID_MAX, "%s", wire_get_text(wire_root(data), "boot_test", ""));
    return data != NULL;
}

bool boot_gate_plan(struct job_run *run, struct db_conn *conn, const struct image *image,
                    const char *kind, bool *ret_planned, struct im_err *err) {
    struct cloud *cloud = run->context;
    struct boot_test_args args = {.cpu = -1, .memory = -1, .timeout_s = -1};
    struct boot_call call = {.cloud = cloud, .args = &args};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = item_data(run, err);
    char layer_id[IM_ID_MAX];
    struct boot_test test = {.boot_test_id = call.test_id,
                             .resource_id = image->image_id,
                             .status = BOOT_TEST_PENDING,
                             .firmware = im_str_equal(image->firmware, "uefi") ? "uefi" : "bios",
                             .accel = call.accel,
                             .owner = image->owner,
                             .job_id = run->job->job_id,
                             .create_time = im_now_s(),
                             .layer_id = layer_id};

    *ret_planned = false;
    if (wish == NULL)
        return false;
    if (!is_required(cloud, kind) || wire_get_int(wire_root(wish), "force", 0) > 0)
        return true;
    if (!fill_in(&call, err) || !layer_plan(cloud, conn, image->layer_id, 0, layer_id, err))
        return false;
    im_id_make(call.test_id, BOOT_TEST_PREFIX, 8);
    test.vcpus = call.vcpus;
    test.memory = call.memory_mib;
    test.timeout = call.timeout_s;
    if (!record_insert(conn, &boot_test_type, &test, err))
        return false;
    note_plan(run->item, call.test_id);
    *ret_planned = true;
    return true;
}

static bool report_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return boot_step_commit(arg, conn, err);
}

bool boot_gate_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    IM_AUTO(boot_test_free_auto) struct boot_test *done = NULL;
    char id[IM_ID_MAX];

    if (!planned(run, id, err))
        return false;
    if (id[0] == '\0')
        return true;
    if (!test_load(run, &test, err))
        return false;
    /* The report stays, so it is written by itself, and a step that is done again finds it. */
    if (test->status != BOOT_TEST_DONE &&
        (!boot_step_run(run, err) || !cloud_transact(run->context, report_body, run, err)))
        return false;
    if (!test_load(run, &done, err))
        return false;
    if (im_str_equal(done->verdict, boot_verdict_word(BOOT_BOOTS)))
        return true;
    return im_fail(err, IM_WRONG_STATE,
                   "%s [%s]%s%s; boot test [%s] has the rest, force=1 takes it "
                   "all the same",
                   done->message, done->reason, im_str_empty(done->evidence) ? "" : ": ",
                   done->evidence, id);
}

bool boot_gate_undo(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    struct im_err missing = {0};
    char id[IM_ID_MAX];

    if (!planned(run, id, err) ||
        (id[0] != '\0' && (conn = db_take(cloud->config.db, err)) == NULL))
        return false;
    if (id[0] == '\0' ||
        (record_get(conn, &boot_test_type, id, &test, &missing) && test->status == BOOT_TEST_DONE))
        return true;
    db_give(im_steal(&conn));
    return boot_step_undo(run, err);
}

bool boot_gate_publish(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    char id[IM_ID_MAX];

    return planned(run, id, err) &&
           (id[0] == '\0' || image_settle(conn, run->item->resource_id, IMAGE_AVAILABLE, err));
}

bool boot_gate_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    struct im_err missing = {0};
    char id[IM_ID_MAX];

    if (!planned(run, id, err))
        return false;
    if (id[0] == '\0' || !record_get(conn, &boot_test_type, id, &test, &missing))
        return missing.code == IM_OK || missing.code == IM_NOT_FOUND ||
               im_fail(err, missing.code, "%s", missing.text);
    return test->status == BOOT_TEST_DONE || (layer_drop(run->context, conn, test->layer_id, err) &&
                                              record_delete(conn, &boot_test_type, id, err));
}

/* --- Looking, downloading --------------------------------------------------------------------- */

bool cloud_boot_tests(struct cloud *cloud, const struct caller *caller, struct query *query,
                      struct boot_test_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct boot_test_list list = {0};

    if (conn == NULL)
        return false;
    query_restrict(caller, query, "boot_test_id", NULL);
    if (!record_list(conn, &boot_test_type, query, (void ***) &list.items, &list.count, &list.total,
                     err))
        return false;
    *ret_list = list;
    return true;
}

void boot_test_list_done(struct boot_test_list *list) {
    record_list_free(&boot_test_type, (void **) list->items, list->count);
    *list = (struct boot_test_list){0};
}

bool cloud_boot_test_open(struct cloud *cloud, const struct caller *caller,
                          const char *boot_test_id, const char *what, struct export_file *ret_file,
                          struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    bool screen = im_str_equal(what, "screen");
    IM_AUTO(free_auto) char *path = file_path(cloud, boot_test_id, screen ? "screen" : "serial");
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;

    if (conn == NULL || !boot_test_load(conn, caller, boot_test_id, &test, err))
        return false;
    if (test->status != BOOT_TEST_DONE)
        return im_fail(err, IM_WRONG_STATE, "boot test [%s] is under way, job [%s]", boot_test_id,
                       test->job_id);
    if ((screen ? test->screen_bytes : test->serial_bytes) == 0)
        return im_fail(err, IM_NOT_FOUND, "boot test [%s] has %s", boot_test_id,
                       screen ? "no picture of a screen" : "heard nothing on the serial console");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot open the %s of boot test [%s]", what, boot_test_id);
    *ret_file = (struct export_file){.size_bytes = (uint64_t) st.st_size,
                                     .type = screen ? "image/png" : "text/plain"};
    snprintf(ret_file->name, sizeof(ret_file->name), "%s.%s", boot_test_id, screen ? "png" : "log");
    ret_file->fd = im_steal_fd(&fd);
    return true;
}

/* --- What expires, and what a crash left ------------------------------------------------------ */

void boot_test_stray(struct cloud *cloud, struct db_conn *conn, const char *name) {
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    struct im_err err = {0};

    if (record_get(conn, &boot_test_type, name, &test, &err) ? test->status == BOOT_TEST_PENDING
                                                             : err.code != IM_NOT_FOUND)
        return;
    err = (struct im_err){0};
    if (!boot_forget(cloud, name, &err))
        im_warn("cloud", "%s: %s", name, err.text);
}

static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return record_delete(conn, &boot_test_type, arg, err);
}

bool boot_tests_expire(struct cloud *cloud, struct im_err *err) {
    int64_t before = im_now_s() - cloud->config.boot_test_keep_s;
    IM_AUTO(query_done)
    struct query query = {
        .limit = EXPIRED_PER_ROUND, .sort_field = "create_time", .ascending = true};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct boot_test_list list = {0};
    bool fine = true;

    query_add(&query, "status", CONDITION_IN, "done");
    if (conn == NULL ||
        !record_list(conn, &boot_test_type, &query, (void ***) &list.items, &list.count, NULL, err))
        return false;
    db_give(im_steal(&conn));
    for (size_t i = 0; i < list.count && fine; i++) {
        const char *id = list.items[i]->boot_test_id;

        if (list.items[i]->end_time >= before)
            continue;
        fine = cloud_transact(cloud, delete_body, (void *) id, err);
        if (fine)
            files_remove(cloud, id);
    }
    boot_test_list_done(&list);
    return fine;
}

/* BT-ID.KIND, or what was being written with that name. */
static bool is_known(struct db_conn *conn, const char *file) {
    IM_AUTO(free_auto) char *id = im_strndup(file, strcspn(file, "."));
    IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;
    struct im_err missing = {0};

    return record_get(conn, &boot_test_type, id, &test, &missing) || missing.code != IM_NOT_FOUND;
}

bool boot_tests_sweep(const struct cloud *cloud, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(free_auto) char *folder = im_printf("%s/boot-tests", cloud->config.state_dir);
    struct dirent *entry;
    DIR *dir;

    if (conn == NULL)
        return false;
    dir = opendir(folder);
    if (dir == NULL)
        return im_fail_sys(err, errno, "cannot look into %s", folder);
    while ((entry = readdir(dir)) != NULL) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, entry->d_name);

        if (entry->d_name[0] != '.' && !is_known(conn, entry->d_name) && unlink(path) < 0)
            im_warn("cloud", "cannot remove %s: %s", path, strerror(errno));
    }
    (void) closedir(dir);
    return true;
}
