/* SPDX-License-Identifier: Apache-2.0 */
/* Chains get shorter inside running machines, and nobody sees a difference: whatever is asked of
 * the machine meanwhile, and wherever it fails or is killed. The machines are made up, the layers
 * are real: qemu-img copies in QEMU's place. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness/run.h"
#include "test-layers.h"

enum { POINTS = 4, MOST = 3, LEFT = 2, MOMENTS_MAX = 80, SURVIVED = 2, FOR_EVER = 1000000 };

static struct rig rig;
static bool full;  /* there is no room to copy to */
static bool stuck; /* headers stay as they are */

static bool rebase(const char *head, const char *base, bool copy) {
    return copy ? !full && RUN("qemu-img", "rebase", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base,
                               head)
                : !stuck && RUN("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2",
                                "-b", base, head);
}

#define COUNT(what) rig_number(&rig, "SELECT COUNT(*) FROM " what)

/* --- A running instance of which points were taken ------------------------------------------ */

struct line {
    char instance[IM_ID_MAX], points[POINTS][IM_ID_MAX];
    char *seen[POINTS + 1]; /* what each point, and the disk in the end, showed */
};

static bool see(struct line *line, int i) {
    static unsigned number;
    IM_AUTO(free_auto) char *path = layers_head(&rig, line->instance);

    line->seen[i] = im_printf("%s/seen-%u.raw", test_folder(), number++);
    return path != NULL &&
           RUN("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, line->seen[i]);
}

static bool line_make(struct line *line) {
    bool made = true;

    *line = (struct line){0};
    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, true, line->instance);
    for (int i = 0; i < POINTS && made; i++)
        made = layers_scribble(&rig, line->instance, i % 4) && see(line, i) &&
               layers_point(&rig, line->instance, line->points[i]);
    return made && layers_scribble(&rig, line->instance, 3) && see(line, POINTS);
}

static bool shows(const char *path, const char *seen) {
    return path != NULL && RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, seen);
}

static bool head_same(const struct line *line) {
    IM_AUTO(free_auto) char *path = layers_head(&rig, line->instance);

    return shows(path, line->seen[POINTS]);
}

static bool line_same(const struct line *line) {
    bool same = head_same(line);

    for (int i = 0; i < POINTS && same; i++) {
        IM_AUTO(free_auto) char *path = layers_of_point(&rig, line->points[i]);

        same = shows(path, line->seen[i]);
    }
    return same;
}

static void line_drop(struct line *line) {
    for (int i = 0; i <= POINTS; i++) {
        unlink(line->seen[i]);
        free(line->seen[i]);
    }
    rig_sweep(&rig);
}

/* How many layers the machine reads through, 0: it does not tell; how many the record says. */
static size_t depth(const struct line *line) {
    IM_AUTO(virt_chain_done) struct virt_chain chain = {0};
    struct im_err err = {0};

    if (virt_disk_chain(rig.virt, line->instance, line->instance, &chain, &err))
        return chain.paths.count;
    test_note("%s", err.text);
    return 0;
}

static int64_t recorded(const struct line *line) {
    IM_AUTO(free_auto)
    char *sql = im_printf("SELECT l.depth FROM layers l JOIN instances i ON i.layer_id = l.layer_id"
                          " WHERE i.instance_id = '%s'",
                          line->instance);

    return rig_number(&rig, sql);
}

/* --- Pulling -------------------------------------------------------------------------------- */

/* *ret_left: of how many layers the chain was to be; 0: there was nothing to do. */
static bool pull_once(size_t *ret_left, struct im_err *err) {
    IM_AUTO(pull_plan_done) struct pull_plan plan = {0};
    IM_AUTO(im_strings_done) struct im_strings leave = {0}, seen = {0};

    *ret_left = 0;
    if (!pull_plan_next(rig.cloud, &leave, &seen, &plan, err))
        return false;
    if (plan.disk[0] == '\0')
        return true;
    *ret_left = plan.left;
    return pull_run(rig.cloud, &plan, err);
}

static void heads_take_up(void) {
    char another[IM_ID_MAX];
    struct line line;
    size_t left;

    check(line_make(&line), "a machine of which points were taken");
    rig.cloud->config.running_chain_max = POINTS + 2;
    check_ok(pull_once(&left, &err), "while its chain is short enough");
    check(left == 0, "there is nothing to do");
    rig.cloud->config.running_chain_max = MOST;
    check(depth(&line) == POINTS + 2 && recorded(&line) == POINTS + 2, "a chain of %d layers",
          POINTS + 2);
    check_ok(pull_once(&left, &err), "is shortened");
    check(left == LEFT && depth(&line) == LEFT, "to two in the machine: %zu", depth(&line));
    check(recorded(&line) == LEFT, "and in the record");
    check(line_same(&line), "all points show what they did, and so does the disk");
    rig_check_clean(&rig, "then");
    check_ok(pull_once(&left, &err), "once more");
    check(left == 0, "there is nothing to do");
    check(layers_point(&rig, line.instance, another) && line_same(&line), "another point is taken");
    line_drop(&line);
    rig_check_clean(&rig, "without the points");
    check(COUNT("layers") == 1, "the layers go with them");
}

/* What nobody else needs is collected at once. */
static void needless_layers_go(void) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];
    struct line line;
    size_t left;

    check(line_make(&line), "a machine of which points were taken");
    im_strings_add(&ids, line.points[0]);
    check_ok(cloud_snapshots_delete(rig.cloud, &rig.alice, &ids, false, true, job_id, &err),
             "which are deleted");
    check(rig_done(&rig, job_id), "all");
    check(COUNT("layers") == POINTS + 2, "their layers stay, as the machine has them open");
    check_ok(pull_once(&left, &err), "its chain is shortened");
    rig_check_clean(&rig, "then");
    check(COUNT("layers") == LEFT && head_same(&line), "they go");
    line_drop(&line);
}

static void no_room(void) {
    struct line line;
    size_t left;

    check(line_make(&line), "a machine of which points were taken");
    full = true;
    check_err(pull_once(&left, &err), IM_NO_SPACE, "there is no room to copy to");
    full = false;
    check(depth(&line) == POINTS + 2 && recorded(&line) == POINTS + 2 && line_same(&line),
          "nothing has changed");
    rig_check_clean(&rig, "and");
    line_drop(&line);
}

/* --- Failures ------------------------------------------------------------------------------- */

/* False when the pull got through. */
static bool fails_at(struct line *line, unsigned n, bool after) {
    struct im_err err = {0}, later = {0};
    size_t left;
    bool pulled, fine;
    unsigned calls;

    layers_arm(&rig, n, after, MOMENT_FAILS);
    pulled = pull_once(&left, &err);
    moments_leave();
    calls = moments_disarm();
    fine = pull_settle(rig.cloud, &later);
    if (!fine)
        test_note("%s", later.text);
    fine = fine && head_same(line) && (pulled || err.text[0] != '\0');
    if (calls >= n) {
        IM_AUTO(free_auto) char *faults = rig_faults(&rig);

        check(fine && faults[0] == '\0', "call %u fails %s (%s): %s %s", n,
              after ? "after its effect" : "at once", moments_what(),
              pulled ? "done all the same" : err.text, faults);
    }
    return calls >= n;
}

static void fails_anywhere(bool after) {
    struct line line;
    unsigned n = 1;

    check(line_make(&line), "a chain");
    while (n < MOMENTS_MAX && fails_at(&line, n, after)) {
        if (depth(&line) < POINTS + 2) { /* it was done: another one to try on */
            line_drop(&line);
            check(line_make(&line), "another chain");
        }
        n++;
    }
    check(n > 10 && n < MOMENTS_MAX && depth(&line) == LEFT && recorded(&line) == LEFT,
          "it gets through in %u calls", n - 1);
    rig_check_clean(&rig, "then");
    line_drop(&line);
}

/* --- Killed --------------------------------------------------------------------------------- */

static void set_up(void) {
    struct rig_options options = {.local = true};

    rig_open(&rig, test_folder(), &options);
    rig.cloud->config.running_chain_max = MOST;
}

static void die_at(unsigned n, bool after) {
    struct im_err err = {0};
    size_t left;

    set_up();
    layers_arm(&rig, n, after, MOMENT_KILLS);
    if (!pull_once(&left, &err))
        _exit(1);
    moments_leave();
    _exit(moments_disarm() >= n ? SURVIVED : 0); /* some calls end before their effect only */
}

/* What the one who is killed did in the machine is gone with him, as the machine is made up; the
 * files, and the record, are as he left them. */
static bool killed_at(struct line *line, unsigned n, bool after) {
    IM_AUTO(free_auto) char *faults = NULL;
    int status = 0;
    pid_t pid;

    fflush(stdout);
    rig_close(&rig);
    pid = fork();
    if (pid == 0)
        die_at(n, after);
    waitpid(pid, &status, 0);
    set_up();
    faults = rig_faults(&rig);
    check(faults[0] == '\0' && head_same(line),
          "killed %s call %u, started again, at depth %lld %s", after ? "after" : "at", n,
          (long long) recorded(line), faults);
    if (WIFSIGNALED(status))
        return true;
    check(WEXITSTATUS(status) != 1 && recorded(line) == LEFT, "and shortened");
    return WEXITSTATUS(status) == SURVIVED;
}

static void killed_anywhere(bool after) {
    struct line line;
    unsigned n = 1;

    check(line_make(&line), "a chain");
    while (n < MOMENTS_MAX && killed_at(&line, n, after)) {
        if (recorded(&line) < POINTS + 2) {
            line_drop(&line);
            check(line_make(&line), "another chain");
        }
        n++;
    }
    check(n > 10 && n < MOMENTS_MAX, "it gets through in %u calls", n - 1);
    line_drop(&line);
}

/* The machine ends after QEMU has named the base in the header, and before all is written out. */
static void machine_killed(void) {
    IM_AUTO(free_auto) char *head = NULL;
    IM_AUTO(free_auto) char *name = NULL;
    char named[STORAGE_NAME_MAX] = "";
    struct line line;
    size_t left;

    check(line_make(&line), "a chain");
    head = layers_head(&rig, line.instance);
    stuck = true;
    check_err(pull_once(&left, &err), IM_INTERNAL, "the header is not put right");
    stuck = false;
    check(COUNT("pulls") == 1 && depth(&line) == LEFT && recorded(&line) == POINTS + 2,
          "a machine reads through less, which is not written down");
    check_ok(virt_destroy(rig.virt, line.instance, &err), "it is killed");
    name = im_strndup(strrchr(head, '/') + 1, strcspn(strrchr(head, '/') + 1, "."));
    check_err(storage_parent(rig.pool, name, named, &err), IM_BAD_IMAGE,
              "its head names a layer in a way of its own");
    check_ok(pull_settle(rig.cloud, &err), "that is settled");
    check(recorded(&line) == POINTS + 2 && COUNT("pulls") == 0 && head_same(&line),
          "nothing has changed");
    rig_round(&rig);
    rig_check_clean(&rig, "and");
    line_drop(&line);
}

/* --- While others go on --------------------------------------------------------------------- */

static void *pull_in_thread(void *arg) {
    struct im_err *err = arg;
    size_t left;

    (void) !pull_once(&left, err);
    return NULL;
}

static bool pull_slowly(pthread_t *thread, struct im_err *err) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    virt_memory_looks = FOR_EVER;
    if (pthread_create(thread, NULL, pull_in_thread, err) != 0)
        return false;
    while (COUNT("pulls") == 0 && im_mono_ms() < deadline)
        im_sleep_ms(5);
    return COUNT("pulls") == 1;
}

static void rot_stays_where_it_is(void) {
    IM_AUTO(free_auto) char *path = NULL;
    struct im_err stopped = {0};
    struct line line;
    pthread_t thread;
    size_t left;

    check(line_make(&line), "a machine of which points were taken");
    virt_memory_looks = FOR_EVER;
    check(pull_slowly(&thread, &stopped), "its layers were read");
    rig.cloud->fold_cancel = true;
    pthread_join(thread, NULL);
    rig.cloud->fold_cancel = false;
    virt_memory_looks = 3;
    check(stopped.code == IM_CANCELLED && COUNT("pulls") == 0, "and it was cancelled");
    path = layers_of_point(&rig, line.points[2]);
    check(layers_rot(path), "a bit of one flips");
    check_err(pull_once(&left, &err), IM_WRONG_STATE, "it is not taken up");
    check(depth(&line) == POINTS + 2 && COUNT("layers WHERE damage <> ''") == 1,
          "but marked as damaged");
    line_drop(&line);
    rig_check_clean(&rig, "without it");
}

static bool asks_point(const struct line *line, char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(line->instance), made = {0};
    struct snapshot_create_args args = {.resources = &ids};

    return cloud_snapshots_create(rig.cloud, &rig.alice, &args, &made, ret_job_id, err);
}

static bool asks_stop(const struct line *line, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(line->instance);

    return cloud_instances_stop(rig.cloud, &rig.alice, &ids, false, ret_job_id, err);
}

static bool asks_clone(const struct line *line, char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) {
    IM_AUTO(im_strings_done)
    struct im_strings ids = rig_ids(line->instance), made = {0}, volumes = {0};

    return cloud_instances_clone(rig.cloud, &rig.alice, &ids, NULL, &made, &volumes, ret_job_id,
                                 err);
}

static bool asks_terminate(const struct line *line, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(line->instance);

    return cloud_instances_terminate(rig.cloud, &rig.alice, &ids, true, ret_job_id, err);
}

static const struct {
    const char *name;
    bool (*ask)(const struct line *line, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err);
    bool leaves; /* the disk */
} verbs[] = {{"a snapshot", asks_point, true},
             {"a stop", asks_stop, true},
             {"a clone", asks_clone, true},
             {"a termination", asks_terminate, false}};

/* The made-up machine refuses, as QEMU does, while anything is copied. */
static void verbs_come_first(void) {
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        struct im_err err = {0}, asked = {0};
        char job_id[IM_JOB_ID_MAX];
        struct line line;
        pthread_t thread;

        check(line_make(&line), "a chain");
        check(pull_slowly(&thread, &err), "is being shortened");
        check(verbs[i].ask(&line, job_id, &asked) && rig_done(&rig, job_id),
              "%s does not wait for that %s", verbs[i].name, asked.text);
        pthread_join(thread, NULL);
        virt_memory_looks = 3;
        check(err.code == IM_BUSY, "which ends: %s", err.text);
        check(!verbs[i].leaves || head_same(&line), "and has done no harm");
        rig_check_clean(&rig, verbs[i].name);
        line_drop(&line);
    }
}

/* --- Volumes -------------------------------------------------------------------------------- */

static void volume_verbs_come_first(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};
    pthread_t thread;

    rig_subject(&rig, &rig.alice, ON_ATTACHED, volume);
    for (int i = 0; i < POINTS; i++)
        check(layers_point(&rig, volume, point), "a point of a volume");
    for (int i = 0; i < 2; i++) {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(volume);

        err = (struct im_err){0};
        check(pull_slowly(&thread, &err), "its chain is being shortened");
        check_ok(i == 0 ? cloud_volumes_resize(rig.cloud, &rig.alice, &ids, 50, job_id, &err)
                        : cloud_volumes_detach(rig.cloud, &rig.alice, &ids, NULL, job_id, &err),
                 "it is %s", i == 0 ? "grown" : "taken out");
        check(rig_done(&rig, job_id), "at once");
        pthread_join(thread, NULL);
        check(err.code == IM_BUSY, "which ends the other: %s", err.text);
        rig_check_clean(&rig, "then");
    }
    virt_memory_looks = 3;
    rig_sweep(&rig);
}

/* --- By itself ------------------------------------------------------------------------------ */

static void wake(void) {
    pthread_mutex_lock(&rig.cloud->lock);
    pthread_cond_signal(&rig.cloud->fold_wake);
    pthread_mutex_unlock(&rig.cloud->lock);
}

static bool await(int64_t rows) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    while (COUNT("pulls") != rows && im_mono_ms() < deadline) {
        wake();
        im_sleep_ms(10);
    }
    return COUNT("pulls") == rows;
}

static void thread_pulls(void) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;
    struct line line;

    check(line_make(&line), "a chain");
    virt_memory_looks = FOR_EVER;
    rig.cloud->config.merge_rate = 1 << 30;
    check_ok(fold_start(rig.cloud, &err), "the thread starts");
    check(await(1), "and shortens it");
    check_ok(cloud_merging_pause(rig.cloud, &rig.admin, true, &err), "it is paused");
    check(await(0) && depth(&line) == POINTS + 2, "and ends that");
    virt_memory_looks = 3;
    check_ok(cloud_merging_pause(rig.cloud, &rig.admin, false, &err), "it is resumed");
    while (recorded(&line) > LEFT && im_mono_ms() < deadline) {
        wake();
        im_sleep_ms(10);
    }
    check(recorded(&line) == LEFT && depth(&line) == LEFT && line_same(&line), "and gets done");
    rig_check_clean(&rig, "then");
    line_drop(&line);
}

int main(void) {
    virt_memory_rebase = rebase;
    set_up();
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    heads_take_up();
    needless_layers_go();
    no_room();
    rot_stays_where_it_is();
    fails_anywhere(false);
    fails_anywhere(true);
    killed_anywhere(false);
    killed_anywhere(true);
    machine_killed();
    verbs_come_first();
    volume_verbs_come_first();
    thread_pulls();
    rig_check_clean(&rig, "in the end");
    rig_close(&rig);
    return test_end();
}
