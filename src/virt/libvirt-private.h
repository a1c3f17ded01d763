/* SPDX-License-Identifier: Apache-2.0 */
/* The libvirt driver's own: its connection, calls with a deadline, and consoles. */
#ifndef VIRT_LIBVIRT_PRIVATE_H
#define VIRT_LIBVIRT_PRIVATE_H

#include <pthread.h>

#include <libvirt/libvirt.h>

#include "base/mem.h"
#include "virt-private.h"

IM_DEFINE_AUTO(virConnectPtr, virConnectClose)
IM_DEFINE_AUTO(virDomainPtr, virDomainFree)
IM_DEFINE_AUTO(virStreamPtr, virStreamFree)

/* How long each kind of call may take. Generous: a busy host without KVM is ten times slower. */
enum {
    LV_OPEN_MS = 15000,        /* a daemon that answers at all */
    LV_OPEN_EMBED_MS = 120000, /* the first time, libvirt asks QEMU for all it can */
    LV_START_MS = 240000,
    LV_CALL_MS = 30000,
    LV_AGENT_MS = 15000,
    LV_INFO_MS = 1000,
};

struct lv_listener; /* who hears of events; outlives the driver while libvirt holds it */
struct lv_console;
struct lv_stats; /* what the machines' descriptions said */

struct virt_driver {
    char *uri;
    char *state_dir;
    char wanted_accel[8];
    int tb_cache_mib;
    bool embed, test;
    struct im_strings taken_back; /* machines half started by a killed owner; fixed once opened */
    bool user_known;              /* `user`: whom QEMU runs as, where that is our choice */
    uid_t user;
    char *emulator; /* in place of the distribution's QEMU; NULL = that one */
    struct lv_listener *listener;

    pthread_mutex_t lock; /* guards what follows; taken before any lock of libvirt's */
    virConnectPtr conn;   /* NULL before the first use and after a loss */
    int callback;         /* of its lifecycle events */
    int64_t retry_ms;     /* not asked again before, after it timed out */
    char accel[8];        /* "" until found out */
    char accel_reason[VIRT_REASON_MAX];
    bool closing;
    pthread_cond_t wake;
    pthread_t keeper; /* keeps console logs bounded */

    pthread_mutex_t stats_lock; /* held while descriptions are read; after `lock` */
    struct lv_stats *stats;     /* NULL before the first look */

    pthread_mutex_t console_lock;
    struct lv_console *consoles;

    pthread_mutex_t trust_lock;
    struct im_strings trusted; /* machines of which libvirt is known to know where they write */
};

/* A connection that is alive, with a reference of the caller's. */
virConnectPtr lv_connection(struct virt_driver *driver, struct im_err *err) IM_MUST_CHECK;
/* A running machine; IM_NOT_FOUND if there is none. */
virDomainPtr lv_domain(struct virt_driver *driver, const char *name,
                       struct im_err *err) IM_MUST_CHECK;
/* Translates libvirt's last error of this thread; the sentence follows `format`. Returns false. */
bool lv_fail(struct im_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One call into libvirt on a thread of its own, so that a hung daemon, QEMU or guest agent costs
 * the caller no more than the deadline. Owned by whoever comes last. Arguments and results live in
 * the call, for the caller's stack may be gone. */
struct lv_call {
    bool (*run)(struct lv_call *call, struct im_err *err);
    virConnectPtr conn; /* references of the call's own */
    virDomainPtr domain;
    char *text, *more; /* arguments; owned */
    struct im_strings list;
    uint64_t number;
    char *out; /* results; owned */
    size_t out_len;
    virConnectPtr out_conn;
    virDomainStatsRecordPtr *out_stats;
    int out_stats_count;

    int refs;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done, passed;
    bool abandoned; /* nobody waits any more: undo what should not stay */
    struct im_err err;
};
struct lv_call *lv_call_new(bool (*run)(struct lv_call *call, struct im_err *err));
void lv_call_unref(struct lv_call *call);
IM_DEFINE_AUTO(struct lv_call *, lv_call_unref)
bool lv_call_abandoned(struct lv_call *call);
/* Runs it and waits; IM_TIMEOUT when it takes longer. */
bool lv_call_run(struct lv_call *call, int64_t timeout_ms, struct im_err *err) IM_MUST_CHECK;
/* The same for a running machine, with `run` and the texts (may be NULL) copied. On success the
 * call is in *ret_call if that is not NULL. */
bool lv_call_domain(struct virt_driver *driver, const char *name,
                    bool (*run)(struct lv_call *call, struct im_err *err), const char *text,
                    const char *more, uint64_t number, int64_t timeout_ms,
                    struct lv_call **ret_call, struct im_err *err) IM_MUST_CHECK;

/* Opening and closing, for the driver's table. */
struct virt_driver *lv_open(const struct virt_config *config, virt_event *event, void *arg,
                            struct im_err *err);
void lv_close(struct virt_driver *driver);
/* "kvm" or "tcg" (borrowed), found out once. */
const char *lv_accel(struct virt_driver *driver, virConnectPtr conn,
                     struct im_err *err) IM_MUST_CHECK;

/* Writes what an embedded driver needs into its folder; before the connection is opened. */
bool lv_embed_prepare(struct virt_driver *driver, const char *run_as,
                      struct im_err *err) IM_MUST_CHECK;
/* Before an embedded driver is opened, and right after: see recover.c. */
void lv_embed_recover(struct virt_driver *driver, const char *root);
/* Before such a machine is started again, or once it should be off: libvirt knows nothing of it. */
void lv_embed_kill_late(struct virt_driver *driver, const char *name);
/* FOLDER of qemu:///embed?root=FOLDER, owned; NULL if it is not absolute. */
char *lv_embed_root(const char *uri);
void lv_embed_settle(virConnectPtr conn);

/* Fails with IM_UNSUPPORTED when no guest agent is connected. */
bool lv_need_agent(virDomainPtr domain, struct im_err *err) IM_MUST_CHECK;
/* The guest agent, for the driver's table. */
bool lv_fs_freeze(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                  bool *ret_frozen, struct im_err *err);
bool lv_fs_thaw(struct virt_driver *driver, const char *name, struct im_err *err);
bool lv_fs_hooked(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                  bool *ret_hooked, struct im_err *err);
bool lv_set_password(struct virt_driver *driver, const char *name, const char *user,
                     enum virt_secret kind, const char *secret, struct im_err *err);
bool lv_authorized_keys(struct virt_driver *driver, const char *name, const char *user,
                        const char *const keys[], size_t count, bool remove, struct im_err *err);
bool lv_info(struct virt_driver *driver, const char *name, struct virt_info *ret_info,
             struct im_err *err);

bool lv_disk_devices(struct virt_driver *driver, const char *name, struct virt_device **ret_devices,
                     size_t *ret_count, struct im_err *err);

/* The disks of a running machine, and the XML that tells of them. Zero-initialise. */
struct lv_disks {
    char *xml;
    struct virt_xml_disk *items;
    size_t count;
};
void lv_disks_done(struct lv_disks *disks);
bool lv_disks_load(struct virt_driver *driver, const char *name, struct lv_disks *ret_disks,
                   struct im_err *err) IM_MUST_CHECK;
/* The index of the disk with this serial, or the count. */
size_t lv_disks_find(const struct lv_disks *disks, const char *serial);

/* One line to QEMU's monitor, and its answer. The second: an answer that is a list, the caller's to
 * free; NULL with `err` set otherwise. */
struct json_t;
bool lv_monitor(struct virt_driver *driver, const char *name, const char *question,
                char **ret_answer, struct im_err *err) IM_MUST_CHECK;
struct json_t *lv_monitor_list(struct virt_driver *driver, const char *name, const char *question,
                               struct im_err *err) IM_MUST_CHECK;

/* Takes out of QEMU what it has of disks that libvirt does not know. Fails when the guest does not
 * let go of such a disk. */
bool lv_sweep(struct virt_driver *driver, const char *name, struct im_err *err) IM_MUST_CHECK;
/* Only the files that it has open for no disk. */
bool lv_sweep_nodes(struct virt_driver *driver, const char *name, struct im_err *err) IM_MUST_CHECK;

/* Disks of a running machine, for the driver's table. */
bool lv_switch_disks(struct virt_driver *driver, const char *name,
                     const struct virt_switch *switches, size_t count, struct im_err *err);
bool lv_has_file(struct virt_driver *driver, const char *name, const char *path, bool *ret_has,
                 struct im_err *err);
bool lv_disk_chain(struct virt_driver *driver, const char *name, const char *serial,
                   struct virt_chain *ret_chain, struct im_err *err);
bool lv_pull_begin(struct virt_driver *driver, const char *name, const char *serial,
                   const char *base, uint64_t rate_bytes, struct im_err *err);
bool lv_pull_end(struct virt_driver *driver, const char *name, const char *serial,
                 struct im_err *err);
bool lv_disk_settle(struct virt_driver *driver, const char *name, const char *serial,
                    const char *backing, struct im_err *err);
bool lv_attach_disk(struct virt_driver *driver, const char *name, const struct virt_disk *disk,
                    struct im_err *err);
bool lv_detach_disk(struct virt_driver *driver, const char *name, const char *serial,
                    int64_t timeout_ms, const volatile bool *cancel, struct im_err *err);
bool lv_resize_disk(struct virt_driver *driver, const char *name, const char *serial,
                    uint64_t size_bytes, struct im_err *err);

/* The screen as text, for the driver's table. */
bool lv_screen_text(struct virt_driver *driver, const char *name, char **ret_text,
                    struct im_err *err);

/* Counters, for the driver's table. */
bool lv_stats(struct virt_driver *driver, struct virt_stats **ret_stats, size_t *ret_count,
              struct im_err *err);
void lv_stats_free(struct lv_stats *stats); /* NULL is fine */
/* Did we start it? */
bool lv_is_ours(struct virt_driver *driver, virDomainPtr domain);

bool lv_console_open(struct virt_driver *driver, const char *name, int *ret_fd, struct im_err *err);
void lv_consoles_close(struct virt_driver *driver);

#endif
