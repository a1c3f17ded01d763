/* SPDX-License-Identifier: Apache-2.0 */
/* The appliance's init: takes orders from the worker one by one, answers each, and powers off when
 * it is told to. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "appliance-private.h"

#define PORT "/dev/vport0p1" /* of the first virtio device, as the machine has it */

static const char *path_of(const struct frame *order) {
    const char *path = frame_get(order, "path");

    return path ? path : "";
}

static bool do_mount(const struct frame *order, struct frame *answer, struct im_err *err) {
    (void) answer;
    return disk_mount(order, err);
}

static bool do_raw(const struct frame *order, struct frame *answer, struct im_err *err) {
    (void) answer;
    return disk_raw(order, err);
}

static bool do_trim(const struct frame *order, struct frame *answer, struct im_err *err) {
    uint64_t bytes;

    if (!disk_trim(path_of(order), &bytes, err))
        return false;
    frame_put_int(answer, "bytes", (int64_t) bytes);
    return true;
}

static bool do_grow(const struct frame *order, struct frame *answer, struct im_err *err) {
    uint64_t bytes;

    if (!disk_grow(path_of(order), &bytes, err))
        return false;
    frame_put_int(answer, "bytes", (int64_t) bytes);
    return true;
}

static bool do_end(const struct frame *order, struct frame *answer, struct im_err *err) {
    (void) order, (void) answer;
    return disk_close(err);
}

static const struct {
    const char *name;
    bool (*run)(const struct frame *order, struct frame *answer, struct im_err *err);
    bool anytime; /* needs no root file system */
} orders[] = {{"mount", do_mount, true},      {"raw", do_raw, true},
              {"end", do_end, true},          {"write", edit_write, false},
              {"append", edit_append, false}, {"remove", edit_remove, false},
              {"empty", edit_empty, false},   {"link", edit_link, false},
              {"copy", edit_copy, false},     {"directory", edit_folder, false},
              {"run", edit_run, false},       {"fstrim", do_trim, false},
              {"grow", do_grow, false}};

/* A file system that went wrong meanwhile has told the kernel's log why. */
static bool obey(const struct frame *order, struct frame *answer, struct im_err *err) {
    const char *name = frame_get(order, "op");
    size_t i = 0;

    klog_mark();
    while (i < sizeof(orders) / sizeof(orders[0]) && name && strcmp(orders[i].name, name) != 0)
        i++;
    if (!name || i == sizeof(orders) / sizeof(orders[0]))
        return im_fail(err, IM_BAD_MESSAGE, "there is no edit [%.32s]", name ? name : "");
    if (!orders[i].anytime && tree_root() < 0)
        return im_fail(err, IM_BAD_MESSAGE, "no root file system is mounted");
    if (orders[i].run(order, answer, err))
        return true;
    if (err->sys == EIO || err->sys == EROFS || err->sys == EUCLEAN)
        klog_add(err);
    return false;
}

static void answer_one(const struct frame_link *link, const struct frame *order) {
    struct frame answer = {0};
    struct im_err err = {0};
    bool done = obey(order, &answer, &err);

    frame_put_int(&answer, "done", done);
    if (!done)
        frame_put(&answer, "error", err.text);
    if (!frame_send(link, &answer, &err))
        fprintf(stderr, "%s\n", err.text);
    frame_done(&answer);
}

/* The first word: which kernel this is. */
static bool greet(const struct frame_link *link, struct im_err *err) {
    struct frame hello = {0};
    struct utsname name;
    bool fine;

    (void) uname(&name);
    frame_put(&hello, "kernel", name.release);
    fine = frame_send(link, &hello, err);
    frame_done(&hello);
    return fine;
}

static bool serve(struct im_err *err) {
    struct frame_link link = {.data_max = FRAME_DATA_MAX, .patient = true};
    bool more = true;

    link.fd = open(PORT, O_RDWR | O_CLOEXEC);
    if (link.fd < 0)
        return im_fail_sys(err, errno, PORT);
    if (!greet(&link, err))
        return false;
    while (more) {
        struct frame order = {0};

        if (!frame_receive(&link, &order, err))
            return false;
        more = strcmp(frame_get(&order, "op") ? frame_get(&order, "op") : "", "end") != 0;
        answer_one(&link, &order);
        frame_done(&order);
    }
    return true;
}

static void set_up(void) {
    int console;

    (void) mkdir("/proc", 0755);
    (void) mkdir("/sys", 0755);
    (void) mkdir("/dev", 0755);
    (void) mkdir(GUEST, 0755);
    (void) mount("proc", "/proc", "proc", 0, NULL);
    (void) mount("sysfs", "/sys", "sysfs", 0, NULL);
    (void) mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    console = open("/dev/console", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        (void) dup2(console, fd);
    klog_open();
    module_load("virtio_pci");
    module_load("virtio_console");
    module_load("virtio_blk");
}

int main(void) {
    struct im_err err = {0};

    set_up();
    if (!device_wait(PORT, &err) || !device_wait(DISK, &err) || !serve(&err))
        fprintf(stderr, "appliance: %s\n", err.text);
    (void) reboot(RB_POWER_OFF);
    return 1;
}
