/* SPDX-License-Identifier: Apache-2.0 */
/* The contract, over the fake in memory and over libvirt's own test driver. */
#include "virt-private.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"

IM_DEFINE_AUTO(struct virt *, virt_close)

static bool switch_disk(struct virt *virt, const char *name, const char *serial, const char *path,
                        struct im_err *err) {
    return virt_switch_disks(virt, name, &(struct virt_switch){serial, path}, 1, err);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int seen[4];

static void on_event(void *arg, const char *name, enum virt_state state) {
    if (arg != seen || strcmp(name, "i-one") != 0)
        return;
    pthread_mutex_lock(&lock);
    seen[state]++;
    pthread_mutex_unlock(&lock);
}

static bool saw(enum virt_state state) {
    for (int i = 0; i < 200; i++) {
        bool there;

        pthread_mutex_lock(&lock);
        there = seen[state] > 0;
        pthread_mutex_unlock(&lock);
        if (there)
            return true;
        im_sleep_ms(20);
    }
    return false;
}

static const struct virt_layer layers[] = {{"/pool/head", "qcow2"}, {"/pool/base", "qcow2"}};
static const struct virt_disk disks[] = {{"i-one", layers, 2, false}};
static const struct virt_machine machine = {.name = "i-one",
                                            .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2d",
                                            .title = "web <1> & \"two\"",
                                            .vcpus = 1,
                                            .memory_mib = 16,
                                            .firmware = "bios",
                                            .disks = disks,
                                            .disk_count = 1};

static enum virt_state state_of(struct virt *virt, const char *name) {
    enum virt_state state = VIRT_CRASHED;

    check_ok(virt_state(virt, name, &state, &err), "%s has a state", name);
    return state;
}

static size_t listed(struct virt *virt) {
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    size_t count = 99, ours = 0;

    check_ok(virt_list(virt, &list, &count, &err), "machines are listed");
    for (size_t i = 0; i < count; i++)
        ours += strcmp(list[i].name, "i-one") == 0 && list[i].state == VIRT_RUNNING;
    return count == ours ? ours : 99;
}

static void test_life(struct virt *virt, const struct virt_config *config) {
    bool cancel = true;

    check(state_of(virt, "i-one") == VIRT_OFF, "a machine that is not there is off");
    check(listed(virt) == 0, "nothing of ours runs");
    check_ok(virt_destroy(virt, "i-one", &err), "destroying nothing is fine");
    check_err(virt_shutdown(virt, "i-one", &err), IM_NOT_FOUND, "nothing to shut down");
    check_ok(virt_start(virt, &machine, &err), "it starts");
    check_ok(virt_start(virt, &machine, &err), "starting it again is success");
    check(state_of(virt, "i-one") == VIRT_RUNNING && listed(virt) == 1, "it runs, and is ours");
    check(saw(VIRT_RUNNING), "its start was told");
    check_err(virt_wait_off(virt, "i-one", 150, NULL, &err), IM_TIMEOUT, "it does not end alone");
    check_err(virt_wait_off(virt, "i-one", 60000, &cancel, &err), IM_CANCELLED,
              "waiting can be cancelled");
    check_ok(virt_reset(virt, "i-one", &err), "reset");
    {
        struct virt_config elsewhere = *config;
        IM_AUTO(free_auto) char *folder = im_printf("%s/other", config->state_dir);
        IM_AUTO(virt_close_auto) struct virt *other = NULL;
        struct im_err err = {0};

        elsewhere.state_dir = folder;
        other = virt_open(&elsewhere, NULL, NULL, &err);
        check(other != NULL && listed(other) == 0, "another owner's list does not have it");
    }
    check_ok(virt_shutdown(virt, "i-one", &err), "it is asked to power off");
    check_ok(virt_wait_off(virt, "i-one", 10000, NULL, &err), "and does");
    check(saw(VIRT_OFF), "its end was told");
    check(state_of(virt, "i-one") == VIRT_OFF && listed(virt) == 0, "nothing stays defined");
    check_ok(virt_start(virt, &machine, &err), "it starts once more");
    check_ok(virt_destroy(virt, "i-one", &err), "the plug is pulled");
    check_ok(virt_wait_off(virt, "i-one", 0, NULL, &err), "it is off at once");
}

static void test_reopen(const struct virt_config *config) {
    struct im_err err = {0};
    struct virt *virt = virt_open(config, NULL, NULL, &err);
    struct virt *keeper = virt_open(config, NULL, NULL, &err);

    check(virt != NULL && keeper != NULL, "open twice");
    check_ok(virt_start(virt, &machine, &err), "start");
    virt_close(virt);
    virt = virt_open(config, NULL, NULL, &err);
    check(virt != NULL && state_of(virt, "i-one") == VIRT_RUNNING && listed(virt) == 1,
          "a machine outlives the connection and is found again");
    check_ok(virt_destroy(virt, "i-one", &err), "destroy");
    virt_close(virt);
    virt_close(keeper);
}

static void test_refusals(struct virt *virt) {
    struct virt_machine bad = machine;
    struct virt_nic nic = {.kind = VIRT_NIC_USER, .mac = "52:54:00:00:00:01,id=x", .ssh_port = 0};
    static const struct virt_layer relative[] = {{"head", "qcow2"}}, probed[] = {{"/head", "auto"}};
    struct virt_disk disk = {"x", relative, 1, false};

    bad.name = "../x";
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a name is not a path");
    bad = machine;
    bad.uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2";
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a short UUID");
    bad = machine;
    bad.nics = &nic;
    bad.nic_count = 1;
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a MAC with more behind it");
    bad = machine;
    bad.disks = &disk;
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a relative layer");
    disk.layers = probed;
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a format to be guessed");
    disk.layers = layers;
    disk.serial = "a'b";
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "a serial with a quote");
    bad = machine;
    bad.firmware = "efi";
    check_err(virt_start(virt, &bad, &err), IM_INTERNAL, "an unknown firmware");
    bad = machine;
    bad.title = "bell \a";
    check(listed(virt) == 0, "nothing was started");
}

static void test_faults(struct virt *virt) {
    unsigned before = virt_fault_calls(virt);

    virt_fault_set(virt, 2, false);
    check(state_of(virt, "i-one") == VIRT_OFF, "call 1 passes");
    check_err(virt_start(virt, &machine, &err), IM_INTERNAL, "call 2 fails before its effect");
    check(state_of(virt, "i-one") == VIRT_OFF, "which is not there");
    virt_fault_set(virt, 1, true);
    check_err(virt_start(virt, &machine, &err), IM_INTERNAL, "call fails after its effect");
    check(state_of(virt, "i-one") == VIRT_RUNNING, "which is there");
    virt_fault_set(virt, 1, false);
    virt_fault_set(virt, 0, false);
    check_ok(virt_destroy(virt, "i-one", &err), "no fault is left");
    check(virt_fault_calls(virt) == before + 6, "calls are counted");
}

static void test_host(struct virt *virt) {
    struct virt_host host = {0};

    check_ok(virt_host(virt, &host, &err), "the host tells of itself");
    check(host.memory_bytes > 64 << 20 && host.memory_free_bytes <= host.memory_bytes &&
              host.cpus >= 1 && host.name[0] != '\0' && strcmp(host.accel, "tcg") == 0,
          "memory %llu, %u CPUs, %s, %s", (unsigned long long) host.memory_bytes, host.cpus,
          host.accel, host.name);
}

/* Counters of the fake: they grow at known rates, and begin anew with each start. */
static void test_stats(struct virt *virt) {
    struct virt_stats *stats = NULL;
    size_t count = 0;
    uint64_t run = 0, cpu_ns = 0;

    for (int round = 0; round < 2; round++) {
        check_ok(virt_start(virt, &machine, &err), "start");
        im_sleep_ms(100);
        check_ok(virt_stats(virt, &stats, &count, &err), "counters");
        if (!check(count == 1 && strcmp(stats[0].name, "i-one") == 0, "of one machine"))
            return;
        check(stats[0].has_cpu && stats[0].vcpus == 1 && stats[0].cpu_ns >= 10000000,
              "a tenth of its CPU: %llu ns", (unsigned long long) stats[0].cpu_ns);
        check(stats[0].memory_bytes == 16 << 20 && stats[0].memory_used_bytes == 4 << 20,
              "a quarter of its memory");
        check(stats[0].disk_count == 1 && strcmp(stats[0].disks[0].serial, "i-one") == 0 &&
                  stats[0].disks[0].written_bytes == 2 * stats[0].disks[0].read_bytes,
              "its disk");
        check(round == 0 || (stats[0].run != run && cpu_ns > 0), "another run after a start");
        run = stats[0].run;
        cpu_ns = stats[0].cpu_ns;
        virt_stats_free(stats, count);
        check_ok(virt_destroy(virt, "i-one", &err), "destroy");
    }
    check_ok(virt_stats(virt, &stats, &count, &err), "counters");
    check(count == 0, "of nothing");
    virt_stats_free(stats, count);
}

/* What only the fake has of these two. */
static void test_fake(struct virt *virt) {
    IM_AUTO(free_auto) char *log = virt_console_log_path(virt, "i-one");
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(fd_auto) int first = -1;
    IM_AUTO(fd_auto) int second = -1;
    struct virt_info info;
    struct stat st;
    bool frozen = false;
    char bytes[8];

    check_ok(virt_start(virt, &machine, &err), "start");
    check_ok(switch_disk(virt, "i-one", "i-one", "/pool/next", &err), "switch its disk");
    check_err(switch_disk(virt, "i-one", "vol-x", "/pool/next", &err), IM_NOT_FOUND,
              "a disk it does not have");
    check_ok(virt_fs_freeze(virt, "i-one", 1000, &frozen, &err), "freeze");
    check(frozen, "it is frozen");
    check_ok(virt_fs_thaw(virt, "i-one", &err), "thaw");
    check_ok(virt_info(virt, "i-one", &info, &err), "info");
    check(info.agent_connected && strcmp(info.hostname, "i-one") == 0, "its agent answers");
    check_ok(virt_console_open(virt, "i-one", &first, &err), "open its console");
    check_ok(virt_console_open(virt, "i-one", &second, &err), "once more");
    check(read(first, bytes, sizeof(bytes)) == 0, "the second one takes it over");
    check(write(second, "hey", 3) == 3 && read(second, bytes, sizeof(bytes)) == 3 &&
              memcmp(bytes, "hey", 3) == 0,
          "it echoes");
    check_ok(im_read_file(log, 1000, &text, NULL, &err), "it has a log");
    check(text != NULL && im_ends_with(text, "FAKE up\r\nfake login: hey"), "with all it said");
    check_ok(virt_destroy(virt, "i-one", &err), "destroy");
    virt_forget(virt, "i-one");
    check(stat(log, &st) < 0, "its log is gone when it is forgotten");
}

static void test_driver(const char *uri, const char *folder) {
    IM_AUTO(free_auto) char *state_dir = im_printf("%s/%c", test_folder(), folder[0]);
    struct virt_config config = {uri, "auto", 0, state_dir, NULL};
    IM_AUTO(virt_close_auto) struct virt *virt = NULL;
    struct im_err err = {0};

    test_note("%s", uri);
    memset(seen, 0, sizeof(seen));
    virt = virt_open(&config, on_event, seen, &err);
    if (!check(virt != NULL, "%s opens", uri)) {
        test_note("%s", err.text);
        return;
    }
    test_host(virt);
    test_life(virt, &config);
    test_reopen(&config);
    test_refusals(virt);
    test_faults(virt);
    if (im_starts_with(uri, "memory:"))
        test_stats(virt);
    if (im_starts_with(uri, "memory:"))
        test_fake(virt);
    else
        check_err(virt_start(virt,
                             &(struct virt_machine){.name = "i-two",
                                                    .uuid = machine.uuid,
                                                    .title = "bell \a",
                                                    .vcpus = 1,
                                                    .memory_mib = 16,
                                                    .firmware = "bios",
                                                    .disks = disks,
                                                    .disk_count = 1},
                             &err),
                  IM_INTERNAL, "a control character does not reach libvirt");
}

/* The log keeps its newer half, and a writer that appends goes on at the end. */
static void test_trim(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/c.log", test_folder());
    IM_AUTO(fd_auto) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    IM_AUTO(free_auto) char *text = NULL;
    char line[17];
    size_t len = 0;
    bool whole = true;

    for (int i = 0; i < (VIRT_LOG_MAX + (1 << 19)) / 16; i++) {
        snprintf(line, sizeof(line), "line %10d\n", i);
        whole &= write(fd, line, 16) == 16;
    }
    check(whole, "a log of 1.5 MiB");
    check_ok(virt_log_trim(path, &err), "is trimmed");
    check(write(fd, "the end\n", 8) == 8, "and written to by who held it open");
    check_ok(im_read_file(path, 4 << 20, &text, &len, &err), "read it");
    check(len < VIRT_LOG_MAX && len >= VIRT_LOG_MAX / 2 && len % 16 == 8, "%zu bytes are left",
          len);
    snprintf(line, sizeof(line), "line %10d\n", (VIRT_LOG_MAX + (1 << 19)) / 16 - 1);
    check(text != NULL && len > 24 && memcmp(text + len - 24, line, 16) == 0 &&
              strcmp(text + len - 8, "the end\n") == 0,
          "the newest ones");
    check_ok(virt_log_trim(path, &err), "a short log stays");
    free(im_steal(&text));
    check_ok(im_read_file(path, 4 << 20, &text, &len, &err), "read it again");
    check(len % 16 == 8 && len >= VIRT_LOG_MAX / 2, "as it was");
    check_ok(virt_log_trim("/nonexistent/x.log", &err), "no log is fine");
}

int main(void) {
    struct im_err err = {0};

    test_trim();
    test_driver("memory:", "m");
    test_driver("test:///default", "t");
    check(virt_open(&(struct virt_config){.uri = "qemu:///embed", .state_dir = test_folder()}, NULL,
                    NULL, &err) == NULL &&
              err.code == IM_UNSUPPORTED,
          "an embedded driver needs a root: %s", err.text);
    return test_end();
}
