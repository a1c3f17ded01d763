/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapped calls. */
#include "test-moments.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "db/db.h"
#include "jobs/worker.h"
#include "net/net.h"
#include "seed/seed.h"
#include "storage/storage.h"
#include "virt/virt.h"

static struct moments moments;
static atomic_bool armed, entered;
static atomic_uint calls;
static const char *_Atomic what = "";
struct moment_machines *moment_machines;

void moments_arm(const struct moments *chosen) {
    moments = *chosen;
    calls = 0;
    what = "";
    armed = true;
}

unsigned moments_disarm(void) {
    armed = false;
    return calls;
}

const char *moments_what(void) { return what; }
void moments_enter(void) { entered = true; }
void moments_leave(void) { entered = false; }

/* The number of this call; 0 when it does not count. */
static unsigned moment(void) {
    pthread_t self = pthread_self();

    if (!armed || (!moments.background_too && pthread_equal(self, moments.exempt)) ||
        (pthread_equal(self, moments.main) && !entered))
        return 0;
    return atomic_fetch_add(&calls, 1) + 1;
}

static enum im_code code_of(const char *name, bool after) {
    if (strcmp(name, "db_take") == 0)
        return IM_NO_RECORD;
    return after && strcmp(name, "db_transact") == 0 ? IM_UNKNOWN_COMMIT : moments.code;
}

static bool ends(unsigned number, bool after, const char *name, struct im_err *err) {
    if (number == 0 || number != moments.at || after != moments.after)
        return false;
    what = name;
    if (moments.end == MOMENT_KILLS)
        kill(getpid(), SIGKILL);
    im_fail(err, code_of(name, after), "%s fails on purpose", name);
    return true;
}

#define WRAP(name, params, ...)                                                                    \
    bool __real_##name params;                                                                     \
    bool __wrap_##name params;                                                                     \
    bool __wrap_##name params {                                                                    \
        unsigned number_ = moment();                                                               \
        return !ends(number_, false, #name, err) && __real_##name(__VA_ARGS__) &&                  \
               !ends(number_, true, #name, err);                                                   \
    }

#define POOL struct storage_pool *pool
#define ERR struct im_err *err
WRAP(storage_create, (POOL, const char *name, uint64_t size, ERR), pool, name, size, err)
WRAP(storage_clone, (POOL, const char *parent, const char *name, uint64_t size, ERR), pool, parent,
     name, size, err)
WRAP(storage_freeze_begin,
     (POOL, const char *head, const char *next, char ret_frozen[STORAGE_NAME_MAX],
      char ret_head[STORAGE_NAME_MAX], ERR),
     pool, head, next, ret_frozen, ret_head, err)
WRAP(storage_freeze_end, (POOL, const char *frozen, ERR), pool, frozen, err)
WRAP(storage_freeze_undo, (POOL, const char *head, const char *next, ERR), pool, head, next, err)
WRAP(storage_resize, (POOL, const char *head, uint64_t size, ERR), pool, head, size, err)
WRAP(storage_remove, (POOL, const char *name, ERR), pool, name, err)
WRAP(storage_import_begin, (POOL, const char *name, int *ret_fd, ERR), pool, name, ret_fd, err)
WRAP(storage_import_end, (POOL, const char *name, int fd, ERR), pool, name, fd, err)
WRAP(storage_put_begin, (POOL, const char *name, int *ret_fd, ERR), pool, name, ret_fd, err)
WRAP(storage_put_end, (POOL, const char *name, const char *parent, int fd, ERR), pool, name, parent,
     fd, err)
WRAP(storage_put_undo, (POOL, const char *name, ERR), pool, name, err)
WRAP(storage_sync, (POOL, const char *name, ERR), pool, name, err)
WRAP(storage_reparent, (POOL, const char *head, const char *parent, ERR), pool, head, parent, err)
WRAP(storage_note_put, (POOL, const char *name, const char *text, ERR), pool, name, text, err)
WRAP(storage_note_remove, (POOL, const char *name, ERR), pool, name, err)

#define VIRT struct virt *virt, const char *name
WRAP(virt_host, (struct virt * virt, struct virt_host *ret_host, ERR), virt, ret_host, err)
WRAP(virt_state, (VIRT, enum virt_state *ret_state, ERR), virt, name, ret_state, err)
WRAP(virt_resize_disk, (VIRT, const char *serial, uint64_t size, ERR), virt, name, serial, size,
     err)
WRAP(virt_pull_begin, (VIRT, const char *serial, const char *base, uint64_t rate_bytes, ERR), virt,
     name, serial, base, rate_bytes, err)
WRAP(virt_pull_end, (VIRT, const char *serial, ERR), virt, name, serial, err)
WRAP(virt_disk_settle, (VIRT, const char *serial, const char *backing, ERR), virt, name, serial,
     backing, err)
WRAP(virt_pause, (VIRT, ERR), virt, name, err)
WRAP(virt_resume, (VIRT, ERR), virt, name, err)
WRAP(virt_fs_freeze, (VIRT, int64_t timeout_ms, bool *ret_frozen, ERR), virt, name, timeout_ms,
     ret_frozen, err)
WRAP(virt_fs_thaw, (VIRT, ERR), virt, name, err)
WRAP(virt_fs_hooked, (VIRT, int64_t timeout_ms, bool *ret_hooked, ERR), virt, name, timeout_ms,
     ret_hooked, err)
WRAP(virt_set_password, (VIRT, const char *user, enum virt_secret kind, const char *secret, ERR),
     virt, name, user, kind, secret, err)
WRAP(virt_authorized_keys,
     (VIRT, const char *user, const char *const keys[], size_t count, bool removing, ERR), virt,
     name, user, keys, count, removing, err)

WRAP(net_plug, (struct net * net, const char *mac, const char *ip, const char *hostname, ERR), net,
     mac, ip, hostname, err)
WRAP(net_unplug, (struct net * net, const char *mac, ERR), net, mac, err)
WRAP(seed_write, (const char *path, const struct seed *seed, uint32_t uid, uint32_t gid, ERR), path,
     seed, uid, gid, err)
WRAP(db_transact,
     (struct db * db, bool (*body)(struct db_conn *conn, void *arg, struct im_err *err), void *arg,
      ERR),
     db, body, arg, err)

/* What they hand over is not handed over when they fail: only before. */
#define WRAP_BEFORE(type, nothing, name, params, ...)                                              \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params {                                                                    \
        return ends(moment(), false, #name, err) ? nothing : __real_##name(__VA_ARGS__);           \
    }
WRAP_BEFORE(bool, false, storage_attach_info,
            (POOL, const char *name, struct storage_source *ret_source, ERR), pool, name,
            ret_source, err)
WRAP_BEFORE(bool, false, storage_read,
            (POOL, const char *name, int *ret_fd, char ret_parent[STORAGE_NAME_MAX], ERR), pool,
            name, ret_fd, ret_parent, err)
WRAP_BEFORE(bool, false, storage_open_head,
            (POOL, const char *head, bool writable, int *ret_fd, char ret_parent[STORAGE_NAME_MAX],
             ERR),
            pool, head, writable, ret_fd, ret_parent, err)
WRAP_BEFORE(bool, false, storage_parent,
            (POOL, const char *name, char ret_parent[STORAGE_NAME_MAX], ERR), pool, name,
            ret_parent, err)
WRAP_BEFORE(bool, false, virt_disk_chain,
            (VIRT, const char *serial, struct virt_chain *ret_chain, ERR), virt, name, serial,
            ret_chain, err)
WRAP_BEFORE(bool, false, storage_note_get, (POOL, const char *name, char **ret_text, ERR), pool,
            name, ret_text, err)
WRAP_BEFORE(bool, false, virt_has_file, (VIRT, const char *path, bool *ret_has, ERR), virt, name,
            path, ret_has, err)
WRAP_BEFORE(bool, false, worker_run, (const struct worker_call *call, char **ret_result, ERR), call,
            ret_result, err)
WRAP_BEFORE(struct db_conn *, NULL, db_take, (struct db * db, ERR), db, err)

/* --- Other things that tests want to know or to bend ---------------------------------------------
 */

static atomic_uint statements;
static atomic_int deaf;

unsigned moments_statements(void) { return atomic_exchange(&statements, 0); }
void moments_deaf(int presses) { deaf = presses; }
int moments_presses_left(void) { return deaf; }

struct db_rows *__real_db_query_values(struct db_conn *conn, ERR, const char *sql,
                                       const struct db_value *values, size_t count);
struct db_rows *__wrap_db_query_values(struct db_conn *conn, ERR, const char *sql,
                                       const struct db_value *values, size_t count);
struct db_rows *__wrap_db_query_values(struct db_conn *conn, ERR, const char *sql,
                                       const struct db_value *values, size_t count) {
    statements += pthread_equal(pthread_self(), moments.main) ? 1 : 0;
    return __real_db_query_values(conn, err, sql, values, count);
}

bool __real_virt_shutdown(VIRT, ERR);
bool __wrap_virt_shutdown(VIRT, ERR);
static bool press(VIRT, ERR) {
    return atomic_fetch_sub(&deaf, 1) > 0 || __real_virt_shutdown(virt, name, err);
}
bool __wrap_virt_shutdown(VIRT, ERR) {
    unsigned number = moment();

    return !ends(number, false, "virt_shutdown", err) && press(virt, name, err) &&
           !ends(number, true, "virt_shutdown", err);
}

/* --- Calls that change which machines run, and with which disks ------------------------------- */

static pthread_mutex_t machines_lock = PTHREAD_MUTEX_INITIALIZER;

/* The entry of that name; a free one, cleared, if there is none and `make` is set; else NULL. */
static struct moment_machine *machine_of(const char *name, bool make) {
    struct moment_machine *free_one = NULL;

    for (int i = 0; moment_machines != NULL && i < MOMENT_MACHINES; i++) {
        struct moment_machine *machine = &moment_machines->items[i];

        if (strcmp(machine->name, name) == 0)
            return machine;
        if (machine->name[0] == '\0' && free_one == NULL)
            free_one = machine;
    }
    if (!make || free_one == NULL)
        return NULL;
    *free_one = (struct moment_machine){0};
    snprintf(free_one->name, sizeof(free_one->name), "%s", name);
    return free_one;
}

/* A path of NULL takes the disk away. */
static void note_disk(struct moment_machine *machine, const char *serial, const char *path) {
    int at = -1;

    for (int i = 0; i < MOMENT_DISKS; i++)
        if (strcmp(machine->disks[i].serial, serial) == 0)
            at = i;
    for (int i = 0; i < MOMENT_DISKS && at < 0; i++)
        if (machine->disks[i].serial[0] == '\0')
            at = i;
    if (at < 0)
        return;
    snprintf(machine->disks[at].serial, sizeof(machine->disks[at].serial), "%s",
             path ? serial : "");
    snprintf(machine->disks[at].path, sizeof(machine->disks[at].path), "%s", path ? path : "");
}

static void note_start(const struct virt_machine *started) {
    struct moment_machine *machine;

    pthread_mutex_lock(&machines_lock);
    machine = machine_of(started->name, true);
    for (size_t i = 0; machine != NULL && i < started->disk_count; i++)
        note_disk(machine, started->disks[i].serial, started->disks[i].layers[0].path);
    pthread_mutex_unlock(&machines_lock);
}

static void note_off(const char *name) {
    struct moment_machine *machine;

    pthread_mutex_lock(&machines_lock);
    machine = machine_of(name, false);
    if (machine != NULL)
        machine->name[0] = '\0';
    pthread_mutex_unlock(&machines_lock);
}

static void note_switches(const char *name, const struct virt_switch *switches, size_t count) {
    struct moment_machine *machine;

    pthread_mutex_lock(&machines_lock);
    machine = machine_of(name, false);
    for (size_t i = 0; machine != NULL && i < count; i++)
        note_disk(machine, switches[i].serial, switches[i].path);
    pthread_mutex_unlock(&machines_lock);
}

#define WRAP_CHANGE(function, params, noted, ...)                                                  \
    bool __real_##function params;                                                                 \
    bool __wrap_##function params;                                                                 \
    bool __wrap_##function params {                                                                \
        unsigned number_ = moment();                                                               \
        if (ends(number_, false, #function, err) || !__real_##function(__VA_ARGS__))               \
            return false;                                                                          \
        noted;                                                                                     \
        return !ends(number_, true, #function, err);                                               \
    }
WRAP_CHANGE(virt_start, (struct virt * virt, const struct virt_machine *machine, ERR),
            note_start(machine), virt, machine, err)
WRAP_CHANGE(virt_destroy, (VIRT, ERR), note_off(name), virt, name, err)
WRAP_CHANGE(virt_wait_off, (VIRT, int64_t timeout_ms, const volatile bool *cancel, ERR),
            note_off(name), virt, name, timeout_ms, cancel, err)
WRAP_CHANGE(virt_switch_disks, (VIRT, const struct virt_switch *switches, size_t count, ERR),
            note_switches(name, switches, count), virt, name, switches, count, err)
WRAP_CHANGE(virt_attach_disk, (VIRT, const struct virt_disk *disk, ERR),
            note_switches(name, &(struct virt_switch){disk->serial, disk->layers[0].path}, 1), virt,
            name, disk, err)
WRAP_CHANGE(virt_detach_disk,
            (VIRT, const char *serial, int64_t timeout_ms, const volatile bool *cancel, ERR),
            note_switches(name, &(struct virt_switch){serial, NULL}, 1), virt, name, serial,
            timeout_ms, cancel, err)

/* --- Which calls ------------------------------------------------------------------------------ */

enum { FIRST_CALLS = 6, STRIDE = 5 };
static bool each_call;

void moments_all(int *argc, char **argv) {
    each_call = *argc > 1 && strcmp(argv[1], "all") == 0;
    if (each_call) {
        argv[1] = argv[0];
        --*argc;
    }
}

unsigned moment_next(unsigned n, size_t verb) {
    if (each_call || n < FIRST_CALLS)
        return n + 1;
    return n == FIRST_CALLS ? n + 1 + (unsigned) (verb % STRIDE) : n + STRIDE;
}
