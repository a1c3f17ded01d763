/* SPDX-License-Identifier: Apache-2.0 */
/* Chains get shorter and nobody sees a difference: whatever layers hold, and wherever a fold fails
 * or is killed. The layers are real ones, written by QEMU's tools and compared by them. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "harness/run.h"
#include "qcow2/fold.h"
#include "test-layers.h"

enum { POINTS = 3, MOMENTS_MAX = 60, SURVIVED = 2, SLOW_RATE = 987654321 };

static struct rig rig;

/* --- The worker: this program, started again ------------------------------------------------ */

static bool slowly(void *arg, uint64_t done, uint64_t copied, struct im_err *err) {
    (void) done, (void) copied, (void) err;
    im_sleep_ms(*(int *) arg);
    return true;
}

static int play_fold(void) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct qcow2_layer layers[FOLD_MAX];
    struct qcow2_fold fold = {.layers = layers, .pace = slowly};
    char request[4096] = "";
    struct im_err err = {0};
    uint64_t copied = 0;
    struct stat st;
    int nap_ms;

    (void) !fread(request, 1, sizeof(request) - 1, stdin);
    doc = wire_parse(request, strlen(request), &err);
    nap_ms = doc && wire_get_int(wire_root(doc), "rate", 0) == SLOW_RATE ? 300 : 0;
    fold.arg = &nap_ms;
    fold.backing = doc ? wire_get_text(wire_root(doc), "backing", "") : "";
    if (fold.backing[0] == '\0')
        fold.backing = NULL;
    for (; fold.count < FOLD_MAX && fstat(4 + (int) fold.count, &st) == 0; fold.count++)
        layers[fold.count] =
            (struct qcow2_layer){.fd = 4 + (int) fold.count, .file_size = (uint64_t) st.st_size};
    if (doc == NULL || !qcow2_fold(3, &fold, &copied, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("{\"result\":{\"copied_bytes\":%llu}}\n", (unsigned long long) copied);
    return 0;
}

/* It is asked for nothing else; whatever comes, it must not take itself for the test again. */
static int play_worker(const char *verb) {
    if (strcmp(verb, "fold") == 0)
        return play_fold();
    if (strcmp(verb, "inspect") != 0) {
        fprintf(stderr, "%s is not played here\n", verb);
        return 1;
    }
    puts("{\"result\":" RIG_REPORT "}");
    return 0;
}

/* --- A stopped instance with images taken of it, one after the other ------------------------ */

struct line {
    char instance[IM_ID_MAX], images[POINTS][IM_ID_MAX];
    char *seen; /* what the instance's disk held in the end */
};

static bool capture(struct line *line, int point) {
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};
    struct image_capture_args args = {.instance_id = line->instance, .image_name = "point"};

    if (cloud_image_capture(rig.cloud, &rig.alice, &args, line->images[point], job_id, &err))
        return rig_done(&rig, job_id);
    test_note("%s", err.text);
    return false;
}

static bool line_make(struct line *line) {
    static unsigned number;
    IM_AUTO(free_auto) char *path = NULL;
    bool made = true;

    *line = (struct line){.seen = im_printf("%s/seen-%u.raw", test_folder(), number++)};
    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, false, line->instance);
    for (int i = 0; i < POINTS && made; i++)
        made = layers_scribble(&rig, line->instance, i) && capture(line, i);
    path = made && layers_scribble(&rig, line->instance, POINTS) ? layers_head(&rig, line->instance)
                                                                 : NULL;
    return path != NULL && RUN("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, line->seen);
}

static bool image_delete(const char *image_id) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(image_id);
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    return cloud_images_delete(rig.cloud, &rig.alice, &ids, true, job_id, &err) &&
           rig_done(&rig, job_id);
}

/* All images but the last are given up: their layers serve nobody but the next one. */
static bool line_thin(const struct line *line) {
    bool thinned = true;

    for (int i = 0; i < POINTS - 1; i++)
        thinned = thinned && image_delete(line->images[i]);
    return thinned;
}

static bool line_same(const struct line *line) {
    IM_AUTO(free_auto) char *path = layers_head(&rig, line->instance);

    return path != NULL &&
           RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, line->seen);
}

static void line_drop(struct line *line) {
    unlink(line->seen);
    free(line->seen);
    rig_sweep(&rig);
}

/* --- Folding -------------------------------------------------------------------------------- */

static bool fold_once(size_t *ret_layers, struct im_err *err) {
    IM_AUTO(fold_plan_done) struct fold_plan plan = {0};
    static const struct im_strings nothing;

    *ret_layers = 0;
    if (!fold_plan_next(rig.cloud, &nothing, &plan, err))
        return false;
    *ret_layers = plan.count;
    return plan.count == 0 || fold_run(rig.cloud, &plan, err);
}

#define COUNT(what) rig_number(&rig, "SELECT COUNT(*) FROM " what)
#define DEEPEST rig_number(&rig, "SELECT MAX(depth) FROM layers WHERE state = 'frozen'")

static void needless_layers_go(void) {
    struct line line;
    size_t layers;

    check(line_make(&line), "an instance of which images were taken");
    check_ok(fold_once(&layers, &err), "while each layer is somebody's");
    check(layers == 0, "there is nothing to fold");
    check(line_thin(&line), "all but the last are deleted");
    check(DEEPEST == 4, "and stay as layers");
    check_ok(fold_once(&layers, &err), "these are folded");
    check(layers == POINTS, "at once, into that of the last: %zu", layers);
    check(line_same(&line), "the disk holds the same");
    rig_check_clean(&rig, "after a fold");
    check(COUNT("layers") == 3 && DEEPEST == 2, "its chain is image, layer, head");
    check(rig_number(&rig, "SELECT MAX(depth) FROM layers") == 3, "and each knows its depth");
    check_ok(fold_once(&layers, &err), "once more");
    check(layers == 0, "finds nothing to do");
    check(layers_scribble(&rig, line.instance, 1) && capture(&line, 0), "the instance goes on");
    line_drop(&line);
}

/* Layers that others read, and heads, are left alone. */
static void shared_layers_stay(void) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    struct instance_run_args args;
    char job_id[IM_JOB_ID_MAX];
    struct line line;
    size_t layers;

    check(line_make(&line), "images of an instance");
    args = rig_run_args(line.images[0]);
    args.no_start = true;
    check_ok(cloud_instances_run(rig.cloud, &rig.alice, &args, &made, job_id, &err),
             "another instance");
    check(rig_done(&rig, job_id), "stands on the first");
    check(line_thin(&line), "which is deleted, as is the second");
    check_ok(fold_once(&layers, &err), "what one alone reads is folded");
    check(layers == 2, "%zu layers", layers);
    check_ok(fold_once(&layers, &err), "what two read");
    check(layers == 0 && line_same(&line), "is not");
    line_drop(&line);
}

/* --- Long chains ---------------------------------------------------------------------------- */

/* Every layer is a point's: none is needless, and each holds on to what its point showed. */
static void long_chains_shorten(void) {
    enum { CHAIN = 9, MOST = 4 };
    char instance[IM_ID_MAX], points[CHAIN][IM_ID_MAX];
    IM_AUTO(im_strings_done) struct im_strings seen = {0};
    unsigned folds = 0;
    size_t layers = 1;

    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, false, instance);
    for (int i = 0; i < CHAIN; i++) {
        IM_AUTO(free_auto) char *copy = im_printf("%s/point-%d.raw", test_folder(), i);
        IM_AUTO(free_auto) char *path = layers_head(&rig, instance);

        im_strings_add(&seen, copy);
        if (!layers_scribble(&rig, instance, i % 4) ||
            !RUN("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, copy) ||
            !layers_point(&rig, instance, points[i]))
            check(false, "point %d is taken", i);
    }
    check(DEEPEST == CHAIN + 1, "a chain of %lld layers", (long long) DEEPEST);
    rig.cloud->config.chain_max = MOST;
    for (; layers > 0 && folds<2 * CHAIN; folds += layers> 0)
        check_ok(fold_once(&layers, &err), "is shortened");
    rig.cloud->config.chain_max = 0;
    check(folds > 1 && folds < CHAIN && DEEPEST <= MOST, "to %lld in %u steps", (long long) DEEPEST,
          folds);
    for (int i = 0; i < CHAIN; i++) {
        IM_AUTO(free_auto) char *path = layers_of_point(&rig, points[i]);

        check(RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, seen.items[i]),
              "point %d shows what it did", i);
        unlink(seen.items[i]);
    }
    rig_check_clean(&rig, "after shortening");
    rig_sweep(&rig);
    rig_check_clean(&rig, "without the points");
}

/* --- Rot ------------------------------------------------------------------------------------ */

/* What rotted is not copied into a layer that is whole. */
static void rot_stays_where_it_is(void) {
    IM_AUTO(free_auto) char *path = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    struct line line;
    size_t layers;

    check(line_make(&line), "images of an instance");
    image = rig_image_row(&rig, line.images[0]);
    path = layers_path(&rig, image->layer_id);
    check(line_thin(&line), "all but the last are deleted");
    rig.cloud->fold_cancel = true;
    check_err(fold_once(&layers, &err), IM_CANCELLED, "a fold is cancelled while it reads");
    rig.cloud->fold_cancel = false;
    layers_arm(&rig, 8, false, MOMENT_FAILS);
    check(!fold_once(&layers, &(struct im_err){0}), "another fails once all was read");
    moments_leave();
    (void) moments_disarm();
    check_ok(fold_settle(rig.cloud, &err), "and is settled");
    check(chmod(path, 0644) == 0, "a layer that cannot be read right now");
    check_err(fold_once(&layers, &err), IM_UNSUPPORTED, "is not folded");
    check(COUNT("layers WHERE damage <> ''") == 0 && chmod(path, 0444) == 0, "nor marked");
    check(layers_rot(path), "a byte of a layer flips");
    check_err(fold_once(&layers, &err), IM_WRONG_STATE, "it is not folded");
    check(DEEPEST == 4 && COUNT("layers WHERE damage <> ''") == 1 && COUNT("folds") == 0,
          "but marked as damaged");
    line_drop(&line);
    rig_check_clean(&rig, "without it");
}

/* --- Failures ------------------------------------------------------------------------------- */

/* False when the fold got through. */
static bool fails_at(struct line *line, unsigned n, bool after) {
    struct im_err err = {0}, later = {0};
    size_t layers;
    bool folded, fine;
    unsigned calls;

    layers_arm(&rig, n, after, MOMENT_FAILS);
    folded = fold_once(&layers, &err);
    moments_leave();
    calls = moments_disarm();
    fine = fold_settle(rig.cloud, &later);
    if (!fine)
        test_note("%s", later.text);
    fine = fine && line_same(line) && (folded || err.text[0] != '\0');
    if (calls >= n) {
        IM_AUTO(free_auto) char *faults = rig_faults(&rig);

        check(fine && faults[0] == '\0', "call %u fails %s (%s): %s %s", n,
              after ? "after its effect" : "at once", moments_what(),
              folded ? "done all the same" : err.text, faults);
    }
    return calls >= n;
}

static void fails_anywhere(bool after) {
    struct line line;
    unsigned n = 1;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    while (n < MOMENTS_MAX && fails_at(&line, n, after)) {
        if (DEEPEST < 4) { /* it was done: another one to try on */
            line_drop(&line);
            check(line_make(&line) && line_thin(&line), "more layers to fold");
        }
        n++;
    }
    check(n > 5 && n < MOMENTS_MAX && DEEPEST == 2, "it gets through in %u calls", n - 1);
    rig_check_clean(&rig, "then");
    line_drop(&line);
}

/* --- Killed --------------------------------------------------------------------------------- */

static void die_at(unsigned n, bool after) {
    struct rig_options options = {.local = true};
    struct im_err err = {0};
    size_t layers;

    rig_open(&rig, test_folder(), &options);
    rig.cloud->config.worker_program = im_strdup("/proc/self/exe");
    layers_arm(&rig, n, after, MOMENT_KILLS);
    if (!fold_once(&layers, &err))
        _exit(1);
    moments_leave();
    _exit(moments_disarm() >= n ? SURVIVED : 0); /* some calls end before their effect only */
}

static bool killed_at(struct line *line, unsigned n, bool after) {
    struct rig_options options = {.local = true};
    IM_AUTO(free_auto) char *faults = NULL;
    int status = 0;
    pid_t pid;

    fflush(stdout);
    rig_close(&rig);
    pid = fork();
    if (pid == 0)
        die_at(n, after);
    waitpid(pid, &status, 0);
    rig_open(&rig, test_folder(), &options);
    free((char *) rig.cloud->config.worker_program);
    rig.cloud->config.worker_program = im_strdup("/proc/self/exe");
    faults = rig_faults(&rig);
    check(faults[0] == '\0' && line_same(line) && COUNT("folds") == 0,
          "killed %s call %u, started again, at depth %lld %s", after ? "after" : "at", n,
          (long long) DEEPEST, faults);
    if (WIFSIGNALED(status))
        return true;
    check(WEXITSTATUS(status) != 1 && DEEPEST == 2, "and folded");
    return WEXITSTATUS(status) == SURVIVED;
}

static void killed_anywhere(bool after) {
    struct line line;
    unsigned n = 1;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    while (n < MOMENTS_MAX && killed_at(&line, n, after)) {
        if (DEEPEST < 4) {
            line_drop(&line);
            check(line_make(&line) && line_thin(&line), "more layers to fold");
        }
        n++;
    }
    check(n > 5 && n < MOMENTS_MAX, "it gets through in %u calls", n - 1);
    line_drop(&line);
}

/* --- While others go on --------------------------------------------------------------------- */

static void *fold_in_thread(void *arg) {
    struct im_err *err = arg;
    size_t layers;

    (void) fold_once(&layers, err);
    return NULL;
}

static void wait_fold(void) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    while (COUNT("folds") == 0 && im_mono_ms() < deadline)
        im_sleep_ms(5);
}

/* The worker naps at each MiB, so there is time to do something meanwhile. */
static bool fold_slowly(pthread_t *thread, struct im_err *err) {
    rig.cloud->config.merge_rate = SLOW_RATE;
    if (pthread_create(thread, NULL, fold_in_thread, err) != 0)
        return false;
    wait_fold();
    rig.cloud->config.merge_rate = 0;
    return COUNT("folds") == 1;
}

static void given_up_meanwhile(void) {
    struct im_err err = {0};
    struct line line;
    pthread_t thread;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    check(fold_slowly(&thread, &err), "a fold is under way");
    line_drop(&line);
    check(COUNT("layers") > 1, "its layers stay while everything on them is deleted");
    pthread_join(thread, NULL);
    check(err.code == IM_OK, "it ends well %s", err.text);
    rig_check_clean(&rig, "then");
    check(COUNT("layers") == 1, "and they go");
}

static void cancelled(void) {
    struct im_err err = {0};
    struct line line;
    pthread_t thread;
    size_t layers;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    check(fold_slowly(&thread, &err), "a fold is under way");
    rig.cloud->fold_cancel = true;
    pthread_join(thread, NULL);
    rig.cloud->fold_cancel = false;
    check(err.code == IM_CANCELLED, "it is cancelled: %s", err.text);
    check(COUNT("folds") == 0 && DEEPEST == 4 && line_same(&line), "nothing has changed");
    rig_check_clean(&rig, "and");
    check_ok(fold_once(&layers, &err), "later it is done");
    check(line_same(&line), "all the same");
    line_drop(&line);
}

/* The graph and the files do not change while somebody is on his way from the one to the others. */
static void held_chains_stay(void) {
    struct im_err err = {0};
    struct line line;
    pthread_t thread;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    chains_hold(rig.cloud);
    check(pthread_create(&thread, NULL, fold_in_thread, &err) == 0, "a fold begins");
    wait_fold();
    im_sleep_ms(300);
    check(COUNT("folds") == 1 && DEEPEST == 4, "and waits for who holds the chains");
    chains_release(rig.cloud);
    pthread_join(thread, NULL);
    check(err.code == IM_OK && line_same(&line), "then it ends %s", err.text);
    rig_check_clean(&rig, "well");
    line_drop(&line);
}

static void wake(void) {
    pthread_mutex_lock(&rig.cloud->lock);
    pthread_cond_signal(&rig.cloud->fold_wake);
    pthread_mutex_unlock(&rig.cloud->lock);
}

/* By itself, as in imprintd, but not while it is paused. */
static void thread_folds(void) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;
    struct line line;

    check(line_make(&line) && line_thin(&line), "layers to fold");
    check_err(cloud_merging_pause(rig.cloud, &rig.alice, true, &err), IM_DENIED,
              "not anybody pauses");
    check_ok(cloud_merging_pause(rig.cloud, &rig.admin, true, &err), "an administrator does");
    rig.cloud->config.merge_rate = 1 << 30;
    check_ok(fold_start(rig.cloud, &err), "the thread starts");
    for (int i = 0; i < 20; i++) {
        wake();
        im_sleep_ms(10);
    }
    check(DEEPEST == 4 && strcmp(fold_mode(rig.cloud), "paused") == 0, "it is still paused");
    check_ok(cloud_merging_pause(rig.cloud, &rig.admin, false, &err), "it is resumed");
    check_ok(cloud_merging_pause(rig.cloud, &rig.admin, false, &err), "twice");
    while (DEEPEST > 2 && im_mono_ms() < deadline) {
        wake();
        im_sleep_ms(10);
    }
    check(line_same(&line), "the disk holds the same");
    rig_check_clean(&rig, "when it has folded");
    check(DEEPEST == 2, "and the chain is short");
    line_drop(&line);
}

int main(int argc, char **argv) {
    struct rig_options options = {.local = true};

    if (argc > 1)
        return play_worker(argv[1]);
    rig_open(&rig, test_folder(), &options);
    free((char *) rig.cloud->config.worker_program);
    rig.cloud->config.worker_program = im_strdup("/proc/self/exe");
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    needless_layers_go();
    shared_layers_stay();
    long_chains_shorten();
    rot_stays_where_it_is();
    fails_anywhere(false);
    fails_anywhere(true);
    killed_anywhere(false);
    killed_anywhere(true);
    given_up_meanwhile();
    cancelled();
    held_chains_stay();
    thread_folds();
    rig_check_clean(&rig, "in the end");
    rig_close(&rig);
    return test_end();
}
