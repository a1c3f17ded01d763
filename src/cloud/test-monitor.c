/* SPDX-License-Identifier: Apache-2.0 */
/* Monitoring: counters that go back, gaps, text and back; then rows of the record, read again. */
#include <string.h>

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

static void test_record(void) {
    char id[IM_ID_MAX];
    IM_AUTO(im_strings_done) struct im_strings meters = {0};
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    int64_t now = im_now_s() / 7200 * 7200, mono = 1000;
    struct monitor_span span = {300, now - 7200, now};
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job[IM_JOB_ID_MAX];

    rig_image(&rig, "img-m", NULL, true);
    rig_instance(&rig, &rig.alice, "img-m", true, id);
    im_strings_add(&ids, id);
    for (int64_t at = now - 7200; at <= now; at += 60, mono += 60000)
        monitor_round(rig.cloud, at, mono, false);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks") >= 2, "rows are there");
    im_strings_add(&meters, "memory");
    im_strings_add(&meters, "cpu");
    check_ok(cloud_monitor(rig.cloud, &rig.alice, id, &meters, &span, &view, &err), "series");
    check(view.count == 2 && view.meters[0].count == 24, "of 24 values");
    for (size_t i = 0; i < 24; i++)
        check(view.meters[0].values[i].known && view.meters[0].values[i].a == 250,
              "step %zu has a quarter of its memory", i);
    monitor_view_done(&view);
    for (size_t step = 0; step < 3; step++) {
        static const int64_t steps[] = {900, 7200, 86400};

        span.step_s = steps[step];
        check_ok(cloud_monitor(rig.cloud, &rig.alice, id, &meters, &span, &view, &err), "series");
        check(view.meters[0].count > 0 && view.meters[0].values[view.meters[0].count - 1].a == 250,
              "the last of %zu steps of %d s", view.meters[0].count, (int) span.step_s);
        monitor_view_done(&view);
    }
    check_err(cloud_monitor(rig.cloud, &rig.bob, id, &meters, &span, &view, &err), IM_NOT_FOUND,
              "not another's");
    im_strings_add(&meters, "colour");
    check_err(cloud_monitor(rig.cloud, &rig.alice, id, &meters, &span, &view, &err), IM_BAD_MESSAGE,
              "a meter that is none");
    check_ok(cloud_instances_terminate(rig.cloud, &rig.alice, &ids, true, job, &err), "end it");
    check(rig_done(&rig, job), "ended");
    monitor_round(rig.cloud, now + 900, mono + 900000, false);
    check(rig_number(&rig, "SELECT COUNT(*) FROM monitor_blocks") == 0, "its series went with it");
}

int main(void) {
    struct rig_options options = {0};

    test_counters();
    test_text();
    rig_open(&rig, test_folder(), &options);
    test_record();
    rig_close(&rig);
    return test_end();
}
