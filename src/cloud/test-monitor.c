/* SPDX-License-Identifier: Apache-2.0 */
/* Monitoring: counters that go back, gaps, text and back; then rows of the record, read again. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness/test.h"
#include "monitor-private.h"
#include "test-rig.h"

enum { T0 = 1700000100 }; /* where a step begins */

static struct virt_disk_stats disks[] = {{"i-a", 0, 0, 0, 0}, {"vol-a", 0, 0, 0, 0}};
static struct virt_stats machine = {.name = "i-a",
                                    .run = 1,
                                    .vcpus = 2,
                                    .has_cpu = true,
                                    .memory_bytes = 1000,
                                    .memory_used_bytes = 250,
                                    .disks = disks,
                                    .disk_count = 2};

/* The machine after `seconds` more at half of its CPUs, 10 and 20 bytes a second. */
static void go_on(struct monitor_set *set, int64_t *now, int64_t seconds) {
    *now += seconds;
    machine.cpu_ns += (uint64_t) seconds * 1000000000;
    for (size_t i = 0; i < 2; i++) {
        disks[i].read_bytes += (uint64_t) seconds * 10;
        disks[i].written_bytes += (uint64_t) seconds * 20;
    }
    monitor_take(set, &machine, 1, *now, (*now - T0 + 1) * 1000);
}

static struct monitor_value value_of(const struct monitor_set *set, const char *id,
                                     const char *meter) {
    const struct monitored *item = monitor_set_find(set, id);

    for (size_t i = 0; item != NULL && i < item->gauge_count; i++)
        if (strcmp(item->gauges[i].meter, meter) == 0)
            return gauge_value(&item->gauges[i]);
    return (struct monitor_value){0};
}

static void test_counters(void) {
    IM_AUTO(monitor_set_done) struct monitor_set set = {0}, done = {0}, none = {0};
    int64_t now = T0;

    go_on(&set, &now, 0);
    check(!value_of(&set, "i-a", "cpu").known, "one sample is no value");
    go_on(&set, &now, 60);
    check(value_of(&set, "i-a", "cpu").a == 500, "half of its CPUs");
    check(value_of(&set, "i-a", "memory").a == 250, "a quarter of its memory");
    check(value_of(&set, "i-a", "disk-os").a == 10 && value_of(&set, "i-a", "disk-os").b == 20 &&
              value_of(&set, "vol-a", "disk").b == 20,
          "its disks, the volume's by itself");
    machine.run++;
    machine.cpu_ns = 999000000000000;
    go_on(&set, &now, 60);
    check(value_of(&set, "i-a", "cpu").a == 500, "another run is not compared with the last");
    machine.cpu_ns = 0;
    go_on(&set, &now, 60);
    check(value_of(&set, "i-a", "cpu").a == 500, "nor a counter that went back");
    monitor_ripe(&set, now, false, &none);
    check(none.count == 0, "the step is not over");
    go_on(&set, &now, 120);
    monitor_ripe(&set, now, false, &done);
    check(done.count == 2 && done.items[0].bucket == T0 && value_of(&done, "i-a", "cpu").a == 500,
          "over, for both");
    machine.cpu_ns += 77000000000000;
    go_on(&set, &now, 3600);
    check(!value_of(&set, "i-a", "cpu").known, "a pause of an hour is a gap");
    monitor_ripe(&set, now + 900, false, &none);
    monitor_ripe(&set, now + 1800, false, &none);
    check(set.count == 0, "what is not seen any more is forgotten");
}

static void test_text(void) {
    IM_AUTO(monitor_block_done) struct monitor_block block = {0}, back = {0};
    IM_AUTO(free_auto) char *text = NULL;

    monitor_block_put(&block, "cpu", 1, (struct monitor_value){true, false, 7, 0});
    monitor_block_put(&block, "cpu", 1, (struct monitor_value){true, false, 9, 0});
    monitor_block_put(&block, "if-52:54:00:00:00:01", 0, (struct monitor_value){true, true, 1, 2});
    text = monitor_block_text(&block);
    check(im_str_equal(text, "cpu - 8\nif-52:54:00:00:00:01 1/2\n"), "a block as text");
    monitor_block_read(&back, text);
    free(im_steal(&text));
    text = monitor_block_text(&back);
    check(im_str_equal(text, "cpu - 8\nif-52:54:00:00:00:01 1/2\n"), "and back");
    monitor_block_read(&back, "cpu\n\n  \nx 1/ y - \n");
    check(monitor_block_find(&back, "cpu")->slots[1].a == 8, "nonsense is left out");
}

static struct rig rig;

/* One meter's series, or none when it is refused. */
static struct monitor_view series_of(const struct caller *caller, const char *id, const char *meter,
                                     int64_t step_s, int64_t start_s, int64_t end_s) {
    IM_AUTO(im_strings_done) struct im_strings meters = {0};
    struct monitor_span span = {step_s, start_s, end_s};
    struct monitor_view view = {0};

    im_strings_add(&meters, meter);
    check_ok(cloud_monitor(rig.cloud, caller, id, &meters, &span, &view, &err), "%s of %s", meter,
             id);
    return view;
}

static size_t known(const struct monitor_view *view) {
    size_t count = 0;

    for (size_t i = 0; view->count > 0 && i < view->meters[0].count; i++)
        count += view->meters[0].values[i].known;
    return count;
}

/* --- The record ------------------------------------------------------------------------------- */

static int64_t mono = 1000;

static void rounds(int64_t from, int64_t to, int64_t pause) {
    for (int64_t at = from; at <= to; at += pause, mono += pause * 1000)
        monitor_round(rig.cloud, at, mono, false);
}

static void test_record(const char *id, int64_t now) {
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    static const int64_t steps[] = {900, 7200, 86400};

    rounds(now - 7200, now, 60);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks") >= 2, "rows are there");
    view = series_of(&rig.alice, id, "memory", 300, now - 7200, now);
    check(view.count == 1 && view.meters[0].count == 24, "24 values");
    for (size_t i = 0; i < 24; i++)
        check(view.meters[0].values[i].known && view.meters[0].values[i].a == 250,
              "step %zu has a quarter of its memory", i);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        monitor_view_done(&view);
        view = series_of(&rig.alice, id, "memory", steps[i], now - 7200, now);
        check(view.meters[0].count > 0 && view.meters[0].values[view.meters[0].count - 1].a == 250,
              "the last of %zu steps of %d s", view.meters[0].count, (int) steps[i]);
    }
}

/* What is written and what is open weigh in the mean of two hours as they will when it is over. */
static void test_open_step(const char *id, int64_t now) {
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    struct monitored *item = NULL;

    for (size_t i = 0; i < rig.cloud->monitor->open.count; i++)
        if (strcmp(rig.cloud->monitor->open.items[i].id, id) == 0)
            item = &rig.cloud->monitor->open.items[i];
    if (!check(item != NULL && item->bucket == now, "a step is open"))
        return;
    rounds(now + 60, now + 960, 60); /* three steps of 250 are written, the fourth is open */
    for (size_t i = 0; i < item->gauge_count; i++)
        if (strcmp(item->gauges[i].meter, "memory") == 0)
            item->gauges[i].a = 650 * item->gauges[i].weight;
    view = series_of(&rig.alice, id, "memory", 300, now, now + 1200);
    check(view.meters[0].count == 4 && known(&view) == 4 && view.meters[0].values[0].a == 250 &&
              view.meters[0].values[3].a == 650,
          "four steps, the last one as it is so far");
    monitor_view_done(&view);
    view = series_of(&rig.alice, id, "memory", 7200, now, now + 7200);
    check(view.meters[0].count == 1 && view.meters[0].values[0].a == 350,
          "the mean of 3 times 250 and 650 is 350, not %d", (int) view.meters[0].values[0].a);
    monitor_view_done(&view);
    monitor_ripe(&rig.cloud->monitor->open, now + 960, true, &rig.cloud->monitor->writing);
    view = series_of(&rig.alice, id, "memory", 300, now, now + 1200);
    check(known(&view) == 4 && view.meters[0].values[3].a == 650,
          "a step is told while its row is being written");
    monitor_set_done(&rig.cloud->monitor->writing);
}

/* A hypervisor that does not answer is a hole, and no error to anybody. */
static void test_gap(const char *id, int64_t now) {
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};

    rounds(now, now + 360, 60);
    for (int64_t at = now + 420; at < now + 1800; at += 60, mono += 60000) {
        virt_fault_set(rig.virt, 1, false);
        monitor_round(rig.cloud, at, mono, false);
        check(rig.cloud->monitor->blind, "nothing is seen at %d", (int) (at - now));
    }
    virt_fault_set(rig.virt, 0, false);
    rounds(now + 1800, now + 2700, 60);
    check(!rig.cloud->monitor->blind, "and seen again");
    view = series_of(&rig.alice, id, "memory", 300, now, now + 2700);
    check(view.meters[0].values[0].known && view.meters[0].values[1].known &&
              !view.meters[0].values[2].known && !view.meters[0].values[5].known &&
              view.meters[0].values[6].known && view.meters[0].values[8].known,
          "series go on behind the hole");
}

static void test_refused(const char *id, int64_t now) {
    static const char *const none[] = {"colour",   "cp",   "cpux",      "disk-", "if-",
                                       "disk-oss", "Cpu",  "disk-vol-", "",      "memory ",
                                       "vxnet-0",  "flow", "disk-iops"};
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    struct monitor_span span = {300, now - 7200, now}, turned = {300, now, now - 7200},
                        empty = {300, now, now}, ahead = {300, now + 86400, now + 2 * 86400},
                        ages_ago = {300, 0, 86400};
    IM_AUTO(im_strings_done)
    struct im_strings cpu = rig_ids("cpu"), foreign = rig_ids("disk-vol-00000000");

    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings meters = rig_ids(none[i]);

        check_err(cloud_monitor(rig.cloud, &rig.alice, id, &meters, &span, &view, &err),
                  IM_BAD_MESSAGE, "[%s] is no meter", none[i]);
    }
    check_err(cloud_monitor(rig.cloud, &rig.bob, id, &cpu, &span, &view, &err), IM_NOT_FOUND,
              "not another's");
    check_err(cloud_monitor(rig.cloud, &rig.alice, "i-00000000", &cpu, &span, &view, &err),
              IM_NOT_FOUND, "nor one that is none");
    check_err(cloud_monitor(rig.cloud, &rig.alice, id, &foreign, &span, &view, &err), IM_NOT_FOUND,
              "nor a volume that is none");
    check_err(cloud_monitor(rig.cloud, &rig.alice, id, &cpu, &turned, &view, &err), IM_BAD_MESSAGE,
              "an end before its start");
    check_err(cloud_monitor(rig.cloud, &rig.alice, id, &cpu, &empty, &view, &err), IM_BAD_MESSAGE,
              "no time at all");
    check_ok(cloud_monitor(rig.cloud, &rig.alice, id, &cpu, &ahead, &view, &err), "the future");
    check(view.meters[0].count == 0, "is empty");
    monitor_view_done(&view);
    check_ok(cloud_monitor(rig.cloud, &rig.alice, id, &cpu, &ages_ago, &view, &err), "long ago");
    check(view.meters[0].count == 0, "is, too");
    monitor_view_done(&view);
    check_ok(cloud_monitor(rig.cloud, &rig.admin, id, &cpu, &span, &view, &err),
             "an administrator may");
}

/* Half a year and more in steps of 2 h: what is kept stays within bounds, far back as means. */
static void test_bounds(const char *id, int64_t now) {
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};

    rounds(now - 200 * 86400, now - 7200, 7200);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks WHERE step = 300") <= 15 * 12 + 3,
          "five-minute means of 15 days");
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks WHERE step = 7200") <= 45 + 3,
          "two-hour means of 180 days");
    check(rig_number(&rig, "SELECT MAX(LENGTH(data)) FROM monitor_blocks") < 2000, "in small rows");
    view = series_of(&rig.alice, id, "memory", 86400, now - 300 * 86400, now);
    check(view.meters[0].count >= 180 && view.meters[0].count <= 182 && known(&view) >= 179,
          "%zu of %zu days are known", known(&view), view.meters[0].count);
    monitor_view_done(&view);
    view = series_of(&rig.alice, id, "memory", 300, now - 300 * 86400, now);
    check(view.meters[0].count <= 15 * 288 + 1 && known(&view) >= 14 * 12, "%zu steps of 5 minutes",
          known(&view));
}

static void test_volume(const char *id, int64_t now) {
    IM_AUTO(im_strings_done) struct im_strings volumes = {0};
    struct volume_create_args args = {.count = 1, .size = 10};
    IM_AUTO(free_auto) char *meter = NULL;
    IM_AUTO(im_strings_done) struct im_strings cpu = rig_ids("cpu");
    struct monitor_span span = {300, now - 7200, now};
    struct monitor_view view = {0};
    char job[IM_JOB_ID_MAX];

    check_ok(cloud_volumes_create(rig.cloud, &rig.alice, &args, &volumes, job, &err), "a volume");
    check(rig_done(&rig, job), "made");
    meter = im_printf("disk-%s", volumes.items[0]);
    view = series_of(&rig.alice, volumes.items[0], meter, 300, now - 7200, now);
    check(known(&view) == 0, "has no series before it is used");
    monitor_view_done(&view);
    check_err(cloud_monitor(rig.cloud, &rig.alice, volumes.items[0], &cpu, &span, &view, &err),
              IM_BAD_MESSAGE, "nor a CPU");
    check_err(cloud_monitor(rig.cloud, &rig.alice, id, &(struct im_strings){&meter, 1, 1}, &span,
                            &view, &err),
              IM_NOT_FOUND, "nor any beside an instance that does not have it");
    check_ok(cloud_volumes_attach(rig.cloud, &rig.alice, &volumes, id, job, &err), "attached");
    check(rig_done(&rig, job), "it is");
    for (int i = 0; i < 3; i++, mono += 60000) {
        im_sleep_ms(20); /* the hypervisor in memory counts bytes as time goes by */
        monitor_round(rig.cloud, now + i * 60, mono, false);
    }
    monitor_round(rig.cloud, now, mono, true);
    view = series_of(&rig.alice, volumes.items[0], meter, 300, now - 300, now + 300);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks WHERE resource_id LIKE 'vol-%' "
                           "AND data LIKE '%disk %/%' AND data LIKE '%disk-iops %/%'") == 2,
          "it has series of its own");
    monitor_view_done(&view);
    view = series_of(&rig.alice, id, meter, 300, now - 300, now + 300);
    check(view.count == 1, "that its instance shows");
    monitor_view_done(&view);
}

static void test_end_of_it(const char *id, int64_t now) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    char job[IM_JOB_ID_MAX];

    rounds(now, now + 600, 60);
    check_ok(cloud_instances_terminate(rig.cloud, &rig.alice, &ids, true, job, &err), "end it");
    check(rig_done(&rig, job), "ended");
    monitor_round(rig.cloud, now + 900, mono + 900000, false);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks WHERE resource_id LIKE 'i-%'") == 0,
          "its series went with it");
    view = series_of(&rig.alice, id, "memory", 300, now - 7200, now);
    check(known(&view) == 0, "there is nothing to tell of what has ceased");
}

/* --- kill -9 ---------------------------------------------------------------------------------- */

struct will {
    char id[IM_ID_MAX];
    int64_t now;
};

/* Counts for half an hour, and is killed in the middle of a step. */
static void live_and_die(struct will *will, const char *folder) {
    struct rig_options options = {.local = true};

    if (freopen("/dev/null", "w", stdout) == NULL)
        _exit(1);
    rig_open(&rig, folder, &options);
    rig_image(&rig, "img-m", NULL, true);
    rig_instance(&rig, &rig.alice, "img-m", true, will->id);
    will->now = im_now_s() / 7200 * 7200;
    rounds(will->now - 7200, will->now - 5400 + 120, 60);
    raise(SIGKILL);
}

static void test_killed(struct will *will, const char *folder) {
    struct rig_options options = {.local = true};
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};

    rig_open(&rig, folder, &options);
    view = series_of(&rig.alice, will->id, "memory", 300, will->now - 7200, will->now);
    check(known(&view) == 6, "%zu of 6 steps outlive kill -9, all that were over", known(&view));
    monitor_view_done(&view);
    view = series_of(&rig.alice, will->id, "memory", 7200, will->now - 7200, will->now);
    check(known(&view) == 1, "and the mean over two hours");
    rig_close(&rig);
}

/* In the child only: nothing of the parent's may run beside it. */
static bool killed(struct will *will, const char *folder) {
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        live_and_die(will, folder);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

int main(void) {
    struct rig_options options = {0};
    IM_AUTO(free_auto) char *grave = im_printf("%s/grave", test_folder());
    struct will *will =
        mmap(NULL, sizeof(*will), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t now = im_now_s() / 7200 * 7200 - 7200; /* all of it lies in the past */
    char id[IM_ID_MAX];

    check(killed(will, grave), "one that counts is killed");
    test_killed(will, grave);
    test_counters();
    test_text();
    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, "img-m", NULL, true);
    rig_instance(&rig, &rig.alice, "img-m", true, id);
    test_bounds(id, now - 21600);
    test_gap(id, now - 14400);
    test_record(id, now);
    test_open_step(id, now);
    test_refused(id, now);
    test_volume(id, now);
    test_end_of_it(id, now);
    rig_close(&rig);
    return test_end();
}
