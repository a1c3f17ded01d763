/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that is started to see it start: on a network that nothing leaves, on a disk that is
 * thrown away. Its consoles, its screen, what it sends, SSH and the guest agent are looked at until
 * boot-watch.c knows; then it is asked to power off. Nothing that it says is parsed here. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "boot-run.h"
#include "seed/seed.h"

enum {
    LOOK_MS = 200, /* consoles and network */
    STATE_MS = 1000,
    KNOCK_MS = 3000, /* SSH, guest agent, text of the screen */
    PICTURE_MS = 5000,
    KNOCK_PATIENCE_MS = 20000, /* for a banner, once connected */
    PIECE = 64 << 10,          /* of a log at once */
    BEHIND_MAX = 1 << 20, /* a guest that writes more than is looked at: the rest is left out */
    FRAMES_MAX = 512,     /* looked at, at once */
    PICTURES_KEPT = 16,
    OFF_MS = 60000, /* to power off */
};

/* A log that somebody else writes, and may cut in half. */
struct tail {
    int fd;
    off_t offset;
};

struct boot_run {
    struct cloud *cloud;
    const struct boot_machine *machine;
    struct boot_report *report;
    struct boot_watch *watch; /* within the report */
    int64_t started_ms;
    struct tail serial, firmware;
    int mirror, mirror_port, ssh_port;
    int knock; /* a connection to the port of SSH */
    int64_t knock_ms, state_ms, agent_ms, text_ms, picture_ms;
    char pictures[PICTURES_KEPT][65]; /* digests of those that were seen last */
    size_t picture_count;
};

void boot_report_done(struct boot_report *report) {
    free(report->serial);
    free(report->screen);
    *report = (struct boot_report){0};
}

static void run_done(struct boot_run *run) {
    int *fds[] = {&run->serial.fd, &run->firmware.fd, &run->mirror, &run->knock};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (*fds[i] >= 0)
            (void) close(*fds[i]);
}

static int64_t now(const struct boot_run *run) { return im_mono_ms() - run->started_ms; }

static char *seed_path(const struct boot_run *run) {
    return im_printf("%s/seeds/%s.iso", run->cloud->config.state_dir, run->machine->name);
}

/* --- Consoles --------------------------------------------------------------------------------- */

static void follow(struct boot_run *run, struct tail *tail, const char *path,
                   enum boot_source source) {
    IM_AUTO(free_auto) char *bytes = NULL;
    struct stat st;
    ssize_t n;

    if (tail->fd < 0)
        tail->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (tail->fd < 0 || fstat(tail->fd, &st) < 0)
        return;
    if (st.st_size < tail->offset)
        tail->offset = 0;
    if (st.st_size - tail->offset > BEHIND_MAX)
        tail->offset = st.st_size - PIECE;
    bytes = im_alloc(PIECE);
    n = pread(tail->fd, bytes, PIECE, tail->offset);
    if (n <= 0)
        return;
    tail->offset += n;
    boot_watch_text(run->watch, source, bytes, (size_t) n, now(run));
}

static void look_at_consoles(struct boot_run *run) {
    struct virt *virt = run->cloud->config.virt;
    IM_AUTO(free_auto) char *serial = virt_console_log_path(virt, run->machine->name);
    IM_AUTO(free_auto) char *firmware = virt_firmware_log_path(virt, run->machine->name);

    follow(run, &run->firmware, firmware, BOOT_FIRMWARE);
    follow(run, &run->serial, serial, BOOT_SERIAL);
}

/* --- Network ---------------------------------------------------------------------------------- */

/* The frames of its card come as datagrams, each with its length in front of it. */
static bool open_mirror(struct boot_run *run, struct im_err *err) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    run->mirror = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (run->mirror < 0 || bind(run->mirror, (struct sockaddr *) &address, len) < 0 ||
        getsockname(run->mirror, (struct sockaddr *) &address, &len) < 0)
        return im_fail_sys(err, errno, "cannot listen to the network of a boot test");
    run->mirror_port = ntohs(address.sin_port);
    return true;
}

/* IPv4 without options, UDP, from port 68 to port 67. */
static bool is_dhcp_request(const unsigned char *frame, size_t len) {
    enum { TYPE = 12, VERSION = 14, PROTOCOL = 23, PORTS = 34, LEN = 42 };
    static const unsigned char ports[] = {0, 68, 0, 67};

    return len >= LEN && frame[TYPE] == 8 && frame[TYPE + 1] == 0 && frame[VERSION] == 0x45 &&
           frame[PROTOCOL] == 17 && memcmp(frame + PORTS, ports, sizeof(ports)) == 0;
}

/* QEMU's own network speaks with this address. */
static bool from_guest(const unsigned char *frame, size_t len) {
    static const unsigned char others[] = {0x52, 0x55};

    return len >= 14 && memcmp(frame + 6, others, sizeof(others)) != 0;
}

static void look_at_network(struct boot_run *run) {
    unsigned char frame[2048];

    for (int i = 0; i < FRAMES_MAX; i++) {
        ssize_t n = recv(run->mirror, frame, sizeof(frame), MSG_DONTWAIT);

        if (n < 0)
            return;
        if (!from_guest(frame, (size_t) n))
            continue;
        boot_watch_mark(run->watch, BOOT_MARK_FRAME, now(run));
        if (is_dhcp_request(frame, (size_t) n))
            boot_watch_mark(run->watch, BOOT_MARK_DHCP, now(run));
    }
}

static void stop_knocking(struct boot_run *run) {
    if (run->knock >= 0)
        (void) close(run->knock);
    run->knock = -1;
}

/* QEMU takes every connection, and ends it when the guest does not. */
static void knock(struct boot_run *run) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t) run->ssh_port)};
    int64_t at = now(run);

    if (at - run->knock_ms < KNOCK_MS)
        return;
    run->knock_ms = at;
    run->knock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (run->knock >= 0 && connect(run->knock, (struct sockaddr *) &address, sizeof(address)) < 0 &&
        errno != EINPROGRESS)
        stop_knocking(run);
}

static void look_at_ssh(struct boot_run *run) {
    char banner[64] = "";
    ssize_t n;

    if (run->watch->marks[BOOT_MARK_SSH] >= 0 || run->watch->marks[BOOT_MARK_FRAME] < 0)
        return;
    if (run->knock < 0) {
        knock(run);
        return;
    }
    n = recv(run->knock, banner, sizeof(banner) - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
        if (now(run) - run->knock_ms > KNOCK_PATIENCE_MS)
            stop_knocking(run);
        return;
    }
    if (n > 0 && im_starts_with(banner, "SSH-"))
        boot_watch_mark(run->watch, BOOT_MARK_SSH, now(run));
    stop_knocking(run);
}

/* --- The machine itself ----------------------------------------------------------------------- */

static bool due(int64_t *last_ms, int64_t at, int64_t every_ms) {
    if (*last_ms >= 0 && at - *last_ms < every_ms)
        return false;
    *last_ms = at;
    return true;
}

static void look_at_agent(struct boot_run *run) {
    struct virt_info info = {0};
    struct im_err silent = {0};

    if (run->watch->marks[BOOT_MARK_AGENT] < 0 && due(&run->agent_ms, now(run), KNOCK_MS) &&
        virt_info(run->cloud->config.virt, run->machine->name, &info, &silent) &&
        info.agent_connected && info.hostname[0] != '\0')
        boot_watch_mark(run->watch, BOOT_MARK_AGENT, now(run));
}

static void take_picture(struct boot_run *run) {
    struct boot_report *report = run->report;
    struct im_err none = {0};
    char *bytes = NULL, digest[65];
    size_t len = 0;

    if (!virt_screenshot(run->cloud->config.virt, run->machine->name, &bytes, &len, &none))
        return;
    free(report->screen);
    report->screen = bytes;
    report->screen_len = len;
    crypto_sha256_hex(bytes, len, digest);
    for (size_t i = 0; i < run->picture_count && i < PICTURES_KEPT; i++)
        if (strcmp(run->pictures[i], digest) == 0)
            return;
    memcpy(run->pictures[run->picture_count++ % PICTURES_KEPT], digest, sizeof(digest));
    boot_watch_screen(run->watch, now(run));
}

static void look_at_screen(struct boot_run *run) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err none = {0};

    if (due(&run->picture_ms, now(run), PICTURE_MS))
        take_picture(run);
    if (run->watch->uefi || !due(&run->text_ms, now(run), KNOCK_MS) ||
        !virt_screen_text(run->cloud->config.virt, run->machine->name, &text, &none))
        return;
    boot_watch_text(run->watch, BOOT_SCREEN, text, strlen(text), now(run));
}

static bool look_at_state(struct boot_run *run, struct im_err *err) {
    enum virt_state state = VIRT_RUNNING;

    if (!due(&run->state_ms, now(run), STATE_MS))
        return true;
    if (!virt_state(run->cloud->config.virt, run->machine->name, &state, err))
        return false;
    if (state == VIRT_OFF || state == VIRT_CRASHED) {
        look_at_consoles(run); /* its last words */
        boot_watch_ended(run->watch, now(run));
    }
    return true;
}

static void tell(const struct boot_run *run) {
    if (run->machine->seen != NULL)
        run->machine->seen(run->machine->arg, run->watch);
}

static bool look(struct boot_run *run, struct im_err *err) {
    const volatile bool *cancel = run->machine->cancel;
    int64_t pause =
        run->machine->timeout_ms / 20 < LOOK_MS ? run->machine->timeout_ms / 20 : LOOK_MS;

    for (;;) {
        look_at_consoles(run);
        look_at_network(run);
        look_at_ssh(run);
        look_at_agent(run);
        look_at_screen(run);
        if (!look_at_state(run, err))
            return false;
        tell(run);
        if (boot_watch_over(run->watch, now(run)))
            return true;
        if (cancel != NULL && *cancel)
            return im_fail(err, IM_CANCELLED, "the boot test was cancelled");
        im_sleep_ms(pause);
    }
}

/* --- From start to end ------------------------------------------------------------------------ */

/* As for an instance without any login. */
static bool write_seed(const struct boot_run *run, struct im_err *err) {
    const struct cloud_config *config = &run->cloud->config;
    IM_AUTO(free_auto) char *path = seed_path(run);
    struct seed seed = {
        .instance_id = run->machine->name, .hostname = "boot-test", .default_user = "root"};

    return seed_write(path, &seed, config->machine_uid, config->machine_gid, err);
}

static bool start_on(struct boot_run *run, const struct disk_chain *chain, struct im_err *err) {
    IM_AUTO(free_auto) char *seed = seed_path(run);
    const struct virt_layer seed_layer = {.path = seed, .format = "raw"};
    const struct virt_disk disks[] = {
        {.serial = run->machine->name, .layers = chain->layers, .layer_count = chain->count},
        {.serial = "seed", .layers = &seed_layer, .layer_count = 1, .read_only = true}};
    const struct virt_nic nic = {.kind = VIRT_NIC_USER,
                                 .mac = "52:54:00:b0:07:01",
                                 .ssh_port = run->ssh_port,
                                 .isolated = true,
                                 .mirror_port = run->mirror_port};
    char uuid[37];
    const struct virt_machine machine = {.name = run->machine->name,
                                         .uuid = uuid,
                                         .title = "boot test",
                                         .vcpus = (unsigned) run->machine->vcpus,
                                         .memory_mib = (uint64_t) run->machine->memory_mib,
                                         .firmware = run->machine->firmware,
                                         .disks = disks,
                                         .disk_count = 2,
                                         .nics = &nic,
                                         .nic_count = 1,
                                         .firmware_log = true};

    crypto_uuid(run->machine->name, uuid);
    run->started_ms = im_mono_ms();
    return virt_start(run->cloud->config.virt, &machine, err);
}

static bool start(struct boot_run *run, struct im_err *err) {
    struct cloud *cloud = run->cloud;
    IM_AUTO(disk_chain_done) struct disk_chain chain = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    bool started;

    if (!machine_memory_free(cloud, run->machine->memory_mib, err) || !write_seed(run, err) ||
        !open_mirror(run, err) || !net_free_port(NULL, 0, &run->ssh_port, err))
        return false;
    chains_hold(cloud);
    conn = db_take(cloud->config.db, err);
    started = conn != NULL && disk_chain_load(cloud, conn, run->machine->layer_id, &chain, err) &&
              start_on(run, &chain, err);
    chains_release(cloud);
    return started;
}

static void power_off(struct boot_run *run) {
    struct im_err deaf = {0};
    int64_t most = run->machine->timeout_ms < OFF_MS ? run->machine->timeout_ms : OFF_MS;

    run->report->clean =
        machine_ask_off(run->cloud, run->machine->name, most, run->machine->cancel, &deaf);
    if (run->report->clean)
        run->report->off_ms = now(run);
    look_at_consoles(run);
}

static void keep_serial(struct boot_run *run) {
    IM_AUTO(free_auto)
    char *path = virt_console_log_path(run->cloud->config.virt, run->machine->name);
    struct im_err none = {0};

    (void) !im_read_file(path, BOOT_SERIAL_MAX, &run->report->serial, &run->report->serial_len,
                         &none);
}

bool boot_forget(struct cloud *cloud, const char *name, struct im_err *err) {
    IM_AUTO(free_auto) char *seed = im_printf("%s/seeds/%s.iso", cloud->config.state_dir, name);

    if (!virt_destroy(cloud->config.virt, name, err))
        return false;
    unlink(seed);
    virt_forget(cloud->config.virt, name);
    return true;
}

bool boot_run(struct cloud *cloud, const struct boot_machine *machine,
              struct boot_report *ret_report, struct im_err *err) {
    IM_AUTO(boot_report_done) struct boot_report report = {0};
    IM_AUTO(run_done)
    struct boot_run run = {.cloud = cloud,
                           .machine = machine,
                           .report = &report,
                           .watch = &report.watch,
                           .serial = {.fd = -1},
                           .firmware = {.fd = -1},
                           .mirror = -1,
                           .knock = -1,
                           .knock_ms = -KNOCK_MS,
                           .state_ms = -1,
                           .agent_ms = -1,
                           .text_ms = -1,
                           .picture_ms = -1};

    boot_watch_begin(&report.watch, strcmp(machine->firmware, "uefi") == 0, machine->timeout_ms);
    if (!boot_forget(cloud, machine->name, err) || !start(&run, err) || !look(&run, err))
        return false;
    report.over_ms = now(&run);
    take_picture(&run);
    if (boot_reasons[report.watch.reason].verdict == BOOT_BOOTS)
        power_off(&run);
    keep_serial(&run);
    if (!boot_forget(cloud, machine->name, err))
        return false;
    *ret_report = report;
    report = (struct boot_report){0};
    return true;
}
