/* SPDX-License-Identifier: Apache-2.0 */
/* A hypervisor that exists only in memory, for tests: a machine runs at once, and powers off a few
 * milliseconds after it was asked to. As with the real one, machines outlive the connection: they
 * are kept per URI and state folder until the process ends. */
#include "virt-private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/fd.h"
#include "base/str.h"

enum { OFF_AFTER_MS = 5 };

/* What every machine is made to do, for virt_stats: tenths of its CPUs and quarters of its memory
 * in use, bytes and operations per second. */
enum {
    CPU_TENTHS = 1,
    MEMORY_QUARTERS = 1,
    READ_BYTES = 1000,
    WRITTEN_BYTES = 2000,
    IN_BYTES = 300,
    OUT_BYTES = 400
};

struct fake_disk {
    char serial[65];
    struct im_strings chain; /* the head first */
    char *base;              /* what is being pulled down to; NULL: nothing */
    unsigned looks;          /* since the pull began */
};

bool (*virt_memory_rebase)(const char *head, const char *base, bool copy);
unsigned virt_memory_looks = 3;

struct fake {
    char name[64];
    bool running;
    bool frozen;
    bool hooked;       /* its title says so: "hooked" */
    bool deaf;         /* the same: "deaf", it has no agent that sets passwords */
    int64_t off_at_ms; /* 0 = not asked to power off */
    struct fake_disk *disks;
    size_t disk_count;
    uint64_t run; /* number of this start */
    int64_t started_ms;
    unsigned vcpus;
    uint64_t memory_mib;
    char (*macs)[18];
    size_t mac_count;
    int console; /* our end, -1 = nobody looks */
};

/* What one host runs; found again by the next open with the same key. */
struct fake_host {
    char *key;
    struct fake *machines;
    size_t count, capacity;
    uint64_t starts;
    struct fake_host *next;
};

struct fake_event {
    char name[64];
    enum virt_state state;
};

struct virt_driver {
    struct fake_host *host;
    char *state_dir;
    virt_event *event;
    void *arg;
    pthread_t thread; /* delivers events, ends machines, echoes consoles */
    int wake[2];
    bool closing;
    struct fake_event *events;
    size_t event_count, event_capacity;
};

/* Guards everything here; never held while an event is delivered. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_host *hosts;

static void lock_auto(pthread_mutex_t **held) { pthread_mutex_unlock(*held); }
#define LOCKED()                                                                                   \
    IM_AUTO(lock_auto) pthread_mutex_t *held_ = &lock;                                             \
    pthread_mutex_lock(held_)

static struct fake *find(struct virt_driver *driver, const char *name) {
    for (size_t i = 0; i < driver->host->count; i++)
        if (strcmp(driver->host->machines[i].name, name) == 0)
            return &driver->host->machines[i];
    return NULL;
}

static struct fake *need(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct fake *fake = find(driver, name);

    if (fake == NULL || !fake->running) {
        im_fail(err, IM_NOT_FOUND, "machine %s is not running", name);
        return NULL;
    }
    return fake;
}

static void wake(struct virt_driver *driver) {
    ssize_t n = write(driver->wake[1], "", 1);

    (void) n; /* a full pipe wakes as well */
}

static void tell(struct virt_driver *driver, const char *name, enum virt_state state) {
    im_grow(&driver->events, driver->event_count, &driver->event_capacity);
    snprintf(driver->events[driver->event_count].name, 64, "%s", name);
    driver->events[driver->event_count++].state = state;
    wake(driver);
}

static void say(struct virt_driver *driver, struct fake *fake, const char *text) {
    IM_AUTO(free_auto) char *path = virt_log_path(driver->state_dir, fake->name);
    IM_AUTO(fd_auto) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    struct im_err err = {0};

    if (fd >= 0)
        (void) im_write_all(fd, text, strlen(text), path, &err);
    if (fake->console >= 0)
        (void) !send(fake->console, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void disk_done(struct fake_disk *disk) {
    im_strings_done(&disk->chain);
    free(disk->base);
}

static void disk_make(struct fake_disk *disk, const struct virt_disk *like) {
    *disk = (struct fake_disk){0};
    snprintf(disk->serial, sizeof(disk->serial), "%s", like->serial ? like->serial : "");
    for (size_t i = 0; i < like->layer_count; i++)
        im_strings_add(&disk->chain, like->layers[i].path);
}

static const char *head_of(const struct fake_disk *disk) { return disk->chain.items[0]; }

static void done(struct fake *fake) {
    for (size_t i = 0; i < fake->disk_count; i++)
        disk_done(&fake->disks[i]);
    free(fake->disks);
    free(fake->macs);
    if (fake->console >= 0)
        close(fake->console);
}

/* Takes the machine out, as libvirt does with one that was never defined. */
static void power_off(struct virt_driver *driver, struct fake *fake) {
    tell(driver, fake->name, VIRT_OFF);
    done(fake);
    *fake = driver->host->machines[--driver->host->count];
}

/* Milliseconds until the next thing is due, -1 = nothing. */
static int end_due(struct virt_driver *driver) {
    int64_t now = im_mono_ms(), wait = -1;

    for (size_t i = driver->host->count; i-- > 0;) {
        struct fake *fake = &driver->host->machines[i];

        if (fake->off_at_ms == 0)
            continue;
        if (fake->off_at_ms <= now)
            power_off(driver, fake);
        else if (wait < 0 || fake->off_at_ms - now < wait)
            wait = fake->off_at_ms - now;
    }
    return (int) wait;
}

static void echo(struct virt_driver *driver, const char *name) {
    struct fake *fake = find(driver, name);
    char bytes[513];
    ssize_t n;

    if (fake == NULL || fake->console < 0)
        return;
    n = recv(fake->console, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);
    if (n == 0) {
        close(fake->console);
        fake->console = -1;
    }
    if (n > 0) {
        bytes[n] = '\0';
        say(driver, fake, bytes);
    }
}

static void deliver(struct virt_driver *driver) {
    while (driver->event_count > 0) {
        struct fake_event event = driver->events[0];

        memmove(driver->events, driver->events + 1,
                --driver->event_count * sizeof(*driver->events));
        if (driver->event == NULL)
            continue;
        pthread_mutex_unlock(&lock);
        driver->event(driver->arg, event.name, event.state);
        pthread_mutex_lock(&lock);
    }
}

static void *run(void *arg) {
    struct virt_driver *driver = arg;

    pthread_mutex_lock(&lock);
    while (!driver->closing) {
        int wait = end_due(driver);
        size_t count = driver->host->count;
        IM_AUTO(free_auto) struct pollfd *fds = im_alloc((count + 1) * sizeof(*fds));
        IM_AUTO(free_auto) struct virt_listed *names = im_alloc((count + 1) * sizeof(*names));

        deliver(driver);
        count = count < driver->host->count ? count : driver->host->count;
        fds[count] = (struct pollfd){driver->wake[0], POLLIN, 0};
        for (size_t i = 0; i < count; i++) {
            fds[i] = (struct pollfd){driver->host->machines[i].console, POLLIN, 0};
            memcpy(names[i].name, driver->host->machines[i].name, 64);
        }
        pthread_mutex_unlock(&lock);
        poll(fds, count + 1, wait);
        pthread_mutex_lock(&lock);
        if (fds[count].revents != 0) {
            char drop[64];
            ssize_t n = read(driver->wake[0], drop, sizeof(drop));

            (void) n;
        }
        for (size_t i = 0; i < count; i++)
            if (fds[i].fd >= 0 && fds[i].revents != 0)
                echo(driver, names[i].name);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static struct fake_host *host_of(const struct virt_config *config) {
    IM_AUTO(free_auto) char *key = im_printf("%s %s", config->uri, config->state_dir);
    struct fake_host *host = hosts;

    while (host != NULL && strcmp(host->key, key) != 0)
        host = host->next;
    if (host == NULL) {
        host = im_alloc(sizeof(*host));
        host->key = im_steal(&key);
        host->next = hosts;
        hosts = host;
    }
    return host;
}

static struct virt_driver *memory_open(const struct virt_config *config, virt_event *event,
                                       void *arg, struct im_err *err) {
    struct virt_driver *driver = im_alloc(sizeof(*driver));
    LOCKED();

    if (pipe2(driver->wake, O_CLOEXEC | O_NONBLOCK) < 0) {
        im_fail_sys(err, errno, "cannot make a pipe");
        free(driver);
        return NULL;
    }
    driver->host = host_of(config);
    driver->state_dir = im_strdup(config->state_dir);
    driver->event = event;
    driver->arg = arg;
    if (pthread_create(&driver->thread, NULL, run, driver) != 0)
        abort();
    return driver;
}

static void memory_close(struct virt_driver *driver) {
    pthread_mutex_lock(&lock);
    driver->closing = true;
    wake(driver);
    pthread_mutex_unlock(&lock);
    pthread_join(driver->thread, NULL);
    close(driver->wake[0]);
    close(driver->wake[1]);
    free(driver->events);
    free(driver->state_dir);
    free(driver);
}

static bool memory_host(struct virt_driver *driver, struct virt_host *ret_host,
                        struct im_err *err) {
    struct virt_host host = {.cpus = (unsigned) sysconf(_SC_NPROCESSORS_ONLN), .accel = "tcg"};

    (void) driver;
    if (!virt_meminfo(&host.memory_bytes, &host.memory_free_bytes, err))
        return false;
    snprintf(host.name, sizeof(host.name), "memory");
    *ret_host = host;
    return true;
}

static bool memory_start(struct virt_driver *driver, const struct virt_machine *machine,
                         struct im_err *err) {
    struct fake fake = {.running = true, .console = -1};
    LOCKED();

    (void) err;
    if (find(driver, machine->name) != NULL)
        return true;
    snprintf(fake.name, sizeof(fake.name), "%s", machine->name);
    fake.disks = im_alloc(machine->disk_count * sizeof(*fake.disks));
    fake.disk_count = machine->disk_count;
    for (size_t i = 0; i < machine->disk_count; i++)
        disk_make(&fake.disks[i], &machine->disks[i]);
    fake.run = ++driver->host->starts;
    fake.started_ms = im_mono_ms();
    fake.vcpus = machine->vcpus;
    fake.hooked = im_str_equal(machine->title, "hooked");
    fake.deaf = im_str_equal(machine->title, "deaf");
    fake.memory_mib = machine->memory_mib;
    fake.macs = im_alloc((machine->nic_count + 1) * sizeof(*fake.macs));
    fake.mac_count = machine->nic_count;
    for (size_t i = 0; i < machine->nic_count; i++)
        snprintf(fake.macs[i], sizeof(*fake.macs), "%s", machine->nics[i].mac);
    im_grow(&driver->host->machines, driver->host->count, &driver->host->capacity);
    driver->host->machines[driver->host->count++] = fake;
    say(driver, &driver->host->machines[driver->host->count - 1], "FAKE up\r\nfake login: ");
    tell(driver, machine->name, VIRT_RUNNING);
    return true;
}

static bool memory_shutdown(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    fake->off_at_ms = im_mono_ms() + OFF_AFTER_MS;
    wake(driver);
    return true;
}

static bool memory_reset(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    say(driver, fake, "FAKE up\r\nfake login: ");
    return true;
}

static bool memory_destroy(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    (void) err;
    fake = find(driver, name);
    if (fake != NULL)
        power_off(driver, fake);
    return true;
}

static bool memory_state(struct virt_driver *driver, const char *name, enum virt_state *ret_state,
                         struct im_err *err) {
    LOCKED();

    (void) err;
    *ret_state = find(driver, name) != NULL ? VIRT_RUNNING : VIRT_OFF;
    return true;
}

static bool memory_list(struct virt_driver *driver, struct virt_listed **ret_list,
                        size_t *ret_count, struct im_err *err) {
    LOCKED();

    (void) err;
    *ret_list = im_alloc((driver->host->count + 1) * sizeof(**ret_list));
    *ret_count = driver->host->count;
    for (size_t i = 0; i < driver->host->count; i++) {
        memcpy((*ret_list)[i].name, driver->host->machines[i].name, 64);
        (*ret_list)[i].state = VIRT_RUNNING;
    }
    return true;
}

static bool memory_info(struct virt_driver *driver, const char *name, struct virt_info *ret_info,
                        struct im_err *err) {
    const struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    *ret_info = (struct virt_info){.vnc_port = 0, .agent_connected = !fake->deaf};
    snprintf(ret_info->hostname, sizeof(ret_info->hostname), "%s", name);
    return true;
}

static struct fake_disk *find_disk(struct fake *fake, const char *serial) {
    for (size_t i = 0; i < fake->disk_count; i++)
        if (strcmp(fake->disks[i].serial, serial) == 0)
            return &fake->disks[i];
    return NULL;
}

static struct fake_disk *need_disk(struct virt_driver *driver, const char *name, const char *serial,
                                   struct im_err *err) {
    struct fake *fake = need(driver, name, err);
    struct fake_disk *disk = fake != NULL ? find_disk(fake, serial) : NULL;

    if (fake != NULL && disk == NULL)
        im_fail(err, IM_NOT_FOUND, "machine %s has no disk %s", name, serial);
    return disk;
}

/* As libvirt refuses it. */
static bool is_idle(const struct fake_disk *disk, struct im_err *err) {
    return disk->base == NULL || im_fail(err, IM_INTERNAL, "disk %s is being pulled", disk->serial);
}

/* In front of the others. */
static void put_head(struct fake_disk *disk, const char *path) {
    struct im_strings chain = {0};

    im_strings_add(&chain, path);
    for (size_t i = 0; i < disk->chain.count; i++)
        im_strings_add(&chain, disk->chain.items[i]);
    im_strings_done(&disk->chain);
    disk->chain = chain;
}

static bool memory_switch_disks(struct virt_driver *driver, const char *name,
                                const struct virt_switch *switches, size_t count,
                                struct im_err *err) {
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct fake_disk *disk = need_disk(driver, name, switches[i].serial, err);

        if (disk == NULL || !is_idle(disk, err))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct fake_disk *disk = find_disk(fake, switches[i].serial);

        if (strcmp(head_of(disk), switches[i].path) != 0)
            put_head(disk, switches[i].path);
    }
    return true;
}

static bool memory_has_file(struct virt_driver *driver, const char *name, const char *path,
                            bool *ret_has, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    *ret_has = false;
    for (size_t i = 0; i < fake->disk_count; i++)
        *ret_has = *ret_has || strcmp(head_of(&fake->disks[i]), path) == 0;
    return true;
}

/* The layers between the head and the base are closed. */
static void cut_chain(struct fake_disk *disk) {
    struct im_strings chain = {0};
    bool below = false;

    im_strings_add(&chain, head_of(disk));
    for (size_t i = 1; i < disk->chain.count; i++) {
        below = below || strcmp(disk->chain.items[i], disk->base) == 0;
        if (below)
            im_strings_add(&chain, disk->chain.items[i]);
    }
    im_strings_done(&disk->chain);
    disk->chain = chain;
}

static void end_pull(struct fake_disk *disk, bool whole) {
    if (disk->base != NULL && whole &&
        (virt_memory_rebase == NULL || virt_memory_rebase(head_of(disk), disk->base, true)))
        cut_chain(disk);
    free(im_steal(&disk->base));
}

static bool memory_disk_chain(struct virt_driver *driver, const char *name, const char *serial,
                              struct virt_chain *ret_chain, struct im_err *err) {
    struct fake_disk *disk;
    LOCKED();

    disk = need_disk(driver, name, serial, err);
    if (disk == NULL)
        return false;
    if (disk->base != NULL && ++disk->looks >= virt_memory_looks)
        end_pull(disk, true);
    ret_chain->pulling = disk->base != NULL;
    for (size_t i = 0; i < disk->chain.count; i++)
        im_strings_add(&ret_chain->paths, disk->chain.items[i]);
    return true;
}

static bool memory_pull_begin(struct virt_driver *driver, const char *name, const char *serial,
                              const char *base, uint64_t rate_bytes, struct im_err *err) {
    struct fake_disk *disk;
    LOCKED();

    (void) rate_bytes;
    disk = need_disk(driver, name, serial, err);
    if (disk == NULL || !is_idle(disk, err))
        return false;
    if (!im_strings_has(&disk->chain, base))
        return im_fail(err, IM_INTERNAL, "disk %s does not stand on %s", serial, base);
    disk->base = im_strdup(base);
    disk->looks = 0;
    return true;
}

static bool memory_pull_end(struct virt_driver *driver, const char *name, const char *serial,
                            struct im_err *err) {
    struct fake_disk *disk;
    LOCKED();

    disk = need_disk(driver, name, serial, err);
    if (disk == NULL)
        return false;
    end_pull(disk, false);
    return true;
}

static bool memory_disk_settle(struct virt_driver *driver, const char *name, const char *serial,
                               const char *backing, struct im_err *err) {
    const struct fake_disk *disk;
    LOCKED();

    disk = need_disk(driver, name, serial, err);
    return disk != NULL && is_idle(disk, err) &&
           (virt_memory_rebase == NULL || virt_memory_rebase(head_of(disk), backing, false) ||
            im_fail(err, IM_INTERNAL, "disk %s: its header stays as it is", serial));
}

static bool memory_attach_disk(struct virt_driver *driver, const char *name,
                               const struct virt_disk *disk, struct im_err *err) {
    struct fake *fake;
    struct fake_disk *there;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    there = find_disk(fake, disk->serial);
    if (there != NULL)
        return strcmp(head_of(there), disk->layers[0].path) == 0 ||
               im_fail(err, IM_EXISTS, "machine %s has another disk %s", name, disk->serial);
    fake->disks = im_realloc_array(fake->disks, fake->disk_count + 1, sizeof(*fake->disks));
    disk_make(&fake->disks[fake->disk_count++], disk);
    return true;
}

static bool memory_detach_disk(struct virt_driver *driver, const char *name, const char *serial,
                               int64_t timeout_ms, const volatile bool *cancel,
                               struct im_err *err) {
    struct fake *fake;
    struct fake_disk *disk;
    LOCKED();

    (void) timeout_ms, (void) cancel;
    fake = find(driver, name);
    disk = fake != NULL ? find_disk(fake, serial) : NULL;
    if (disk == NULL)
        return true;
    if (!is_idle(disk, err))
        return false;
    disk_done(disk);
    fake->disk_count--;
    memmove(disk, disk + 1, (size_t) (fake->disks + fake->disk_count - disk) * sizeof(*disk));
    return true;
}

static bool memory_resize_disk(struct virt_driver *driver, const char *name, const char *serial,
                               uint64_t size_bytes, struct im_err *err) {
    const struct fake_disk *disk;
    LOCKED();

    (void) size_bytes;
    disk = need_disk(driver, name, serial, err);
    return disk != NULL && is_idle(disk, err);
}

static bool memory_pause(struct virt_driver *driver, const char *name, struct im_err *err) {
    LOCKED();

    return need(driver, name, err) != NULL;
}

static bool memory_disk_devices(struct virt_driver *driver, const char *name,
                                struct virt_device **ret_devices, size_t *ret_count,
                                struct im_err *err) {
    struct virt_device *devices;
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    devices = im_alloc((fake->disk_count + 1) * sizeof(*devices));
    for (size_t i = 0; i < fake->disk_count; i++) {
        char target[8];

        virt_disk_target(i, target);
        memcpy(devices[i].serial, fake->disks[i].serial, sizeof(devices->serial));
        snprintf(devices[i].device, sizeof(devices->device), "/dev/%s", target);
    }
    *ret_devices = devices;
    *ret_count = fake->disk_count;
    return true;
}

static bool memory_freeze(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                          bool *ret_frozen, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    (void) timeout_ms;
    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    *ret_frozen = fake->frozen = true;
    return true;
}

static bool memory_thaw(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    fake->frozen = false;
    return true;
}

static bool memory_hooked(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                          bool *ret_hooked, struct im_err *err) {
    const struct fake *fake;
    LOCKED();

    (void) timeout_ms;
    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    *ret_hooked = fake->hooked;
    return true;
}

static bool memory_password(struct virt_driver *driver, const char *name, const char *user,
                            enum virt_secret kind, const char *secret, struct im_err *err) {
    struct fake *fake;
    LOCKED();

    (void) user, (void) kind, (void) secret;
    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    return !fake->deaf || im_fail(err, IM_UNSUPPORTED, "machine %s has no agent", name);
}

static bool memory_keys(struct virt_driver *driver, const char *name, const char *user,
                        const char *const keys[], size_t count, bool remove, struct im_err *err) {
    LOCKED();

    (void) user, (void) keys, (void) count, (void) remove;
    return need(driver, name, err) != NULL;
}

static bool memory_console(struct virt_driver *driver, const char *name, int *ret_fd,
                           struct im_err *err) {
    struct fake *fake;
    int pair[2];
    LOCKED();

    fake = need(driver, name, err);
    if (fake == NULL)
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return im_fail_sys(err, errno, "machine %s: cannot make a socket pair", name);
    if (fake->console >= 0)
        close(fake->console);
    fake->console = pair[0];
    wake(driver);
    *ret_fd = pair[1];
    return true;
}

/* One grey pixel. */
static bool memory_screenshot(struct virt_driver *driver, const char *name, char **ret_bytes,
                              size_t *ret_len, struct im_err *err) {
    static const unsigned char png[] = {
        0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,    0,    13,   'I',  'H',
        'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    0,    0,    0,
        0,    0x3a, 0x7e, 0x9b, 0x55, 0,    0,    0,    10,   'I',  'D',  'A',  'T',  0x78,
        0x9c, 0x63, 0x68, 0,    0,    0,    0x82, 0,    0x81, 0x77, 0xcd, 0x72, 0xb6, 0,
        0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};
    LOCKED();

    if (need(driver, name, err) == NULL)
        return false;
    *ret_bytes = im_alloc(sizeof(png));
    memcpy(*ret_bytes, png, sizeof(png));
    *ret_len = sizeof(png);
    return true;
}

static bool memory_screen_text(struct virt_driver *driver, const char *name, char **ret_text,
                               struct im_err *err) {
    LOCKED();

    if (need(driver, name, err) == NULL)
        return false;
    *ret_text = im_strdup("FAKE screen\n");
    return true;
}

static void fake_stats(const struct fake *fake, struct virt_stats *stats) {
    uint64_t ms = (uint64_t) (im_mono_ms() - fake->started_ms);

    *stats = (struct virt_stats){.run = fake->run, .vcpus = fake->vcpus, .has_cpu = true};
    memcpy(stats->name, fake->name, sizeof(stats->name));
    stats->cpu_ns = ms * 1000000 * fake->vcpus * CPU_TENTHS / 10;
    stats->memory_bytes = fake->memory_mib << 20;
    stats->memory_used_bytes = stats->memory_bytes * MEMORY_QUARTERS / 4;
    stats->disks = im_alloc((fake->disk_count + 1) * sizeof(*stats->disks));
    for (size_t i = 0; i < fake->disk_count; i++) {
        struct virt_disk_stats *disk = &stats->disks[stats->disk_count];

        if (fake->disks[i].serial[0] == '\0')
            continue;
        memcpy(disk->serial, fake->disks[i].serial, sizeof(disk->serial));
        disk->read_bytes = ms * READ_BYTES / 1000;
        disk->written_bytes = ms * WRITTEN_BYTES / 1000;
        disk->reads = ms / 1000;
        disk->writes = ms * 2 / 1000;
        stats->disk_count++;
    }
    stats->nics = im_alloc((fake->mac_count + 1) * sizeof(*stats->nics));
    for (; stats->nic_count < fake->mac_count; stats->nic_count++) {
        struct virt_nic_stats *nic = &stats->nics[stats->nic_count];

        memcpy(nic->mac, fake->macs[stats->nic_count], sizeof(nic->mac));
        nic->in_bytes = ms * IN_BYTES / 1000;
        nic->out_bytes = ms * OUT_BYTES / 1000;
    }
}

static bool memory_stats(struct virt_driver *driver, struct virt_stats **ret_stats,
                         size_t *ret_count, struct im_err *err) {
    LOCKED();

    (void) err;
    *ret_stats = im_alloc((driver->host->count + 1) * sizeof(**ret_stats));
    *ret_count = driver->host->count;
    for (size_t i = 0; i < driver->host->count; i++)
        fake_stats(&driver->host->machines[i], &(*ret_stats)[i]);
    return true;
}

const struct virt_ops virt_memory_ops = {
    .scheme = "memory:",
    .open = memory_open,
    .close = memory_close,
    .host = memory_host,
    .start = memory_start,
    .shutdown = memory_shutdown,
    .reboot = memory_reset,
    .reset = memory_reset,
    .destroy = memory_destroy,
    .state = memory_state,
    .list = memory_list,
    .info = memory_info,
    .switch_disks = memory_switch_disks,
    .has_file = memory_has_file,
    .disk_chain = memory_disk_chain,
    .pull_begin = memory_pull_begin,
    .pull_end = memory_pull_end,
    .disk_settle = memory_disk_settle,
    .attach_disk = memory_attach_disk,
    .detach_disk = memory_detach_disk,
    .resize_disk = memory_resize_disk,
    .pause = memory_pause,
    .resume = memory_pause,
    .disk_devices = memory_disk_devices,
    .fs_freeze = memory_freeze,
    .fs_thaw = memory_thaw,
    .fs_hooked = memory_hooked,
    .set_password = memory_password,
    .authorized_keys = memory_keys,
    .console_open = memory_console,
    .screenshot = memory_screenshot,
    .screen_text = memory_screen_text,
    .stats = memory_stats,
};
