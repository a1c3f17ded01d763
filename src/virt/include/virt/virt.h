/* SPDX-License-Identifier: Apache-2.0 */
/* The contract to the hypervisor: machines by name, described by a plain struct. All of libvirt
 * stays behind it.
 *
 * The host is named by a libvirt URI: qemu:///system, qemu:///embed?root=/dir (no daemon; machines
 * go on running when this process ends and are found again), qemu+tls://host/system later,
 * test:///default for tests of logic, and "memory:" for a fake of our own that fills the same
 * table.
 *
 * The machine's name is the instance's id. Threads: all functions may run at once; calls for one
 * machine are ordered by the caller. The process must ignore SIGPIPE: libvirt writes to the sockets
 * of daemons that may have died. A lost connection is opened again by the next call; IM_BUSY
 * ("libvirtd at … does not answer …") while it is not to be had. Codes: IM_NOT_FOUND (no such
 * machine), IM_NO_RESOURCE, IM_TIMEOUT, IM_UNSUPPORTED, IM_INTERNAL. */
#ifndef VIRT_VIRT_H
#define VIRT_VIRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/mem.h"

struct virt;

struct virt_config {
    const char *uri;
    const char *accel;     /* "auto": KVM if a test guest runs under it, else TCG; "kvm": without
                              that test; "tcg" */
    int tb_cache_mib;      /* bound of TCG's translation cache, 0 = 128 */
    const char *state_dir; /* for what we keep beside libvirt: console logs; absolute */
    const char
        *run_as; /* user the machines run as under embed ("" or NULL: the user of this process) */
};

enum virt_state { VIRT_OFF, VIRT_RUNNING, VIRT_PAUSED, VIRT_CRASHED };

/* Called from a thread of virt's when a machine changes state by itself or by us. Must not call
 * virt functions. */
typedef void virt_event(void *arg, const char *name, enum virt_state state);

struct virt *virt_open(const struct virt_config *config, virt_event *event, void *arg,
                       struct im_err *err) IM_MUST_CHECK;
/* Machines go on running. */
void virt_close(struct virt *virt);

enum { VIRT_REASON_MAX = 320 };
struct virt_host {
    uint64_t memory_bytes,
        memory_free_bytes; /* from /proc/meminfo of a local host: virNodeGetInfo is wrong on some */
    unsigned cpus;
    char accel[8];                      /* what machines run with: "kvm" or "tcg" */
    char accel_reason[VIRT_REASON_MAX]; /* why not KVM, though "auto"; else "" */
    char name[64];
};
bool virt_host(struct virt *virt, struct virt_host *ret_host, struct im_err *err) IM_MUST_CHECK;

/* The most disks that a machine can have, counting those that are plugged in while it runs. */
enum { VIRT_DISKS_MAX = 18 };

/* One layer of a disk's chain, the head first. */
struct virt_layer {
    const char *path;
    const char *format;
};
struct virt_disk {
    const char *serial; /* shown as /dev/disk/by-id/virtio-SERIAL in the guest; at most 20
                           characters count */
    const struct virt_layer *layers;
    size_t layer_count;
    bool read_only; /* the seed */
};
enum virt_nic_kind { VIRT_NIC_BRIDGE, VIRT_NIC_USER };
struct virt_nic {
    enum virt_nic_kind kind;
    const char *mac;
    const char
        *bridge;     /* VIRT_NIC_BRIDGE: name of the bridge; a tap is made and plugged by libvirt */
    const char *tap; /* its name, at most 15 characters; NULL: libvirt's choice */
    int ssh_port;    /* VIRT_NIC_USER: 127.0.0.1:ssh_port leads to the guest's port 22; 0 = none */
    bool isolated;   /* VIRT_NIC_USER: no way out of it; only what comes in by ssh_port */
    int mirror_port; /* VIRT_NIC_USER: each frame, either way, also goes to 127.0.0.1:mirror_port,
                        a datagram each; 0 = none */
};
struct virt_machine {
    const char *name;  /* instance id */
    const char *uuid;  /* stable per instance, 36 characters */
    const char *title; /* for people looking with virsh; may be NULL */
    unsigned vcpus;
    uint64_t memory_mib;
    const char *cpu_model; /* "" = default (host-passthrough under KVM, a plain model under TCG) */
    unsigned sockets, cores, threads; /* 0 = not given */
    const char *firmware;             /* "bios" or "uefi" */
    const struct virt_disk *disks;    /* vda, vdb … in this order; the first one boots */
    size_t disk_count;
    const struct virt_nic *nics;
    size_t nic_count;
    const char *graphics_passwd; /* VNC, at most 8 characters count; NULL = none. Never logged */
    bool firmware_log; /* what a BIOS tells of its work is kept in virt_firmware_log_path */
};

/* Defines the machine anew (replacing what libvirt had of that name, which must be off) and starts
 * it. Returns when its CPUs run. Repeatable: if it runs already, that is success. On failure
 * nothing stays defined or running. */
bool virt_start(struct virt *virt, const struct virt_machine *machine,
                struct im_err *err) IM_MUST_CHECK;
/* Asks the guest to power off (agent if connected, else ACPI); returns at once. */
bool virt_shutdown(struct virt *virt, const char *name, struct im_err *err) IM_MUST_CHECK;
/* Waits until it is off, at most timeout_ms (IM_TIMEOUT). *cancel (may be NULL) is looked at every
 * 100 ms. */
bool virt_wait_off(struct virt *virt, const char *name, int64_t timeout_ms,
                   const volatile bool *cancel, struct im_err *err) IM_MUST_CHECK;
bool virt_reboot(struct virt *virt, const char *name,
                 struct im_err *err) IM_MUST_CHECK; /* guest-friendly, at once */
bool virt_reset(struct virt *virt, const char *name,
                struct im_err *err) IM_MUST_CHECK; /* the reset button */
/* Power off and forget. Fine if there is no such machine. */
bool virt_destroy(struct virt *virt, const char *name, struct im_err *err) IM_MUST_CHECK;
/* VIRT_OFF also when there is no such machine. */
bool virt_state(struct virt *virt, const char *name, enum virt_state *ret_state,
                struct im_err *err) IM_MUST_CHECK;

struct virt_listed {
    char name[64];
    enum virt_state state;
};
/* All machines of ours on the host. */
bool virt_list(struct virt *virt, struct virt_listed **ret_list, size_t *ret_count,
               struct im_err *err) IM_MUST_CHECK;

/* What a running machine says of itself; never waits longer than a second for the agent. */
struct virt_info {
    int vnc_port; /* on 127.0.0.1; 0 = none */
    bool agent_connected;
    char hostname[256]; /* "" if unknown */
    char ip[46];        /* first global IPv4 the agent tells; "" if unknown */
};
bool virt_info(struct virt *virt, const char *name, struct virt_info *ret_info,
               struct im_err *err) IM_MUST_CHECK;

/* Switches disks of a running machine from their heads to `path` (qcow2, an empty overlay on that
 * head that exists
 * already), all at one instant or none: afterwards the old heads are not written to
 * any more. Never a block commit. Those that were switched before are left as they are. */
struct virt_switch {
    const char *serial, *path;
};
bool virt_switch_disks(struct virt *virt, const char *name, const struct virt_switch *switches,
                       size_t count, struct im_err *err) IM_MUST_CHECK;
/* Whether a running machine has this file open: a head that was made to be switched to is, then,
 * what it writes to. IM_NOT_FOUND when it does not run. */
bool virt_has_file(struct virt *virt, const char *name, const char *path, bool *ret_has,
                   struct im_err *err) IM_MUST_CHECK;
/* The files that a disk of a running machine is read through, the head first, as the hypervisor has
 * them open: under the names that they had, which may be others' or nobody's by now. IM_NOT_FOUND
 * when the machine does not run, or has no such disk. */
struct virt_chain {
    struct im_strings paths;
    bool pulling;
};
bool virt_disk_chain(struct virt *virt, const char *name, const char *serial,
                     struct virt_chain *ret_chain, struct im_err *err) IM_MUST_CHECK;
void virt_chain_done(struct virt_chain *chain);
/* Begins to copy into the head what the layers between it and `base` hold, at most rate_bytes a
 * second (0: as fast as it goes), and returns; the machine goes on. When all is copied the head
 * stands on `base`, and the layers between are closed; when that fails nothing has changed, but
 * that the head may hold some of it already. While it goes on the disk is not switched, taken out
 * or grown. */
bool virt_pull_begin(struct virt *virt, const char *name, const char *serial, const char *base,
                     uint64_t rate_bytes, struct im_err *err) IM_MUST_CHECK;
/* Returns when nothing is being copied any more: the chain tells whether it was done. Fine if
 * nothing was. IM_NOT_FOUND as above. */
bool virt_pull_end(struct virt *virt, const char *name, const char *serial,
                   struct im_err *err) IM_MUST_CHECK;
/* For a disk that nothing is copied into: the header of its head names `backing`, whatever it named
 * before, and all that the disk holds is written out. */
bool virt_disk_settle(struct virt *virt, const char *name, const char *serial, const char *backing,
                      struct im_err *err) IM_MUST_CHECK;
/* Plugs one more disk into a running machine, as the next free vdX. Repeatable: a disk with this
 * serial and head that is there already is success. IM_NO_RESOURCE when all ports are taken. */
bool virt_attach_disk(struct virt *virt, const char *name, const struct virt_disk *disk,
                      struct im_err *err) IM_MUST_CHECK;
/* Asks the guest to let go of a disk and waits until it has: IM_TIMEOUT after timeout_ms (the disk
 * is still there then), IM_CANCELLED when *cancel (may be NULL) turns true. Fine if there is no
 * such disk or machine. */
bool virt_detach_disk(struct virt *virt, const char *name, const char *serial, int64_t timeout_ms,
                      const volatile bool *cancel, struct im_err *err) IM_MUST_CHECK;
/* Grows a disk of a running machine; the guest sees it at once. */
bool virt_resize_disk(struct virt *virt, const char *name, const char *serial, uint64_t size_bytes,
                      struct im_err *err) IM_MUST_CHECK;
/* Stops and continues a machine's CPUs, within milliseconds: one instant for several machines.
 * Repeatable. */
bool virt_pause(struct virt *virt, const char *name, struct im_err *err) IM_MUST_CHECK;
bool virt_resume(struct virt *virt, const char *name, struct im_err *err) IM_MUST_CHECK;

/* What the guest calls its disks, asked from the agent: IM_UNSUPPORTED without one. Disks without a
 * serial are left out. */
struct virt_device {
    char serial[65];
    char device[64]; /* "/dev/vdc" */
};
bool virt_disk_devices(struct virt *virt, const char *name, struct virt_device **ret_devices,
                       size_t *ret_count, struct im_err *err) IM_MUST_CHECK;
/* Freezes the guest's file systems through the agent for the time of the switch, if it has one:
 * *ret_frozen tells. */
bool virt_fs_freeze(struct virt *virt, const char *name, int64_t timeout_ms, bool *ret_frozen,
                    struct im_err *err) IM_MUST_CHECK;
bool virt_fs_thaw(struct virt *virt, const char *name, struct im_err *err) IM_MUST_CHECK;
/* Whether its agent runs a hook around a freeze that makes programs quiet: a machine that was just
 * frozen had them quiet, then, for a hook that fails fails the freeze. Asked within the guest, as
 * nothing else tells: fails where the agent may not run commands, or does not answer in time. */
bool virt_fs_hooked(struct virt *virt, const char *name, int64_t timeout_ms, bool *ret_hooked,
                    struct im_err *err) IM_MUST_CHECK;
/* A connected agent sets the password of `user`, given as its crypt(3) hash or, where the guest
 * takes none (Windows), as it is. IM_UNSUPPORTED without agent. */
enum virt_secret { VIRT_SECRET_HASH, VIRT_SECRET_PLAIN };
bool virt_set_password(struct virt *virt, const char *name, const char *user, enum virt_secret kind,
                       const char *secret, struct im_err *err) IM_MUST_CHECK;
/* Puts public keys (authorized_keys lines) for `user` in place, adding or removing; IM_UNSUPPORTED
 * without agent. */
bool virt_authorized_keys(struct virt *virt, const char *name, const char *user,
                          const char *const keys[], size_t count, bool remove,
                          struct im_err *err) IM_MUST_CHECK;

/* The serial console's log: state_dir/console/NAME.log, appended over starts, bounded to 1 MiB
 * (older half dropped). */
char *virt_console_log_path(struct virt *virt, const char *name);
/* As bounded. */
char *virt_firmware_log_path(struct virt *virt, const char *name);
/* The console itself, both ways, over a socket pair: bytes of the guest come out of *ret_fd, what
 * is written goes in. Closing it ends the connection. One at a time; a second one takes it over. */
bool virt_console_open(struct virt *virt, const char *name, int *ret_fd,
                       struct im_err *err) IM_MUST_CHECK;
/* PNG of the screen, owned. IM_UNSUPPORTED without a display. */
bool virt_screenshot(struct virt *virt, const char *name, char **ret_bytes, size_t *ret_len,
                     struct im_err *err) IM_MUST_CHECK;
/* What a screen in text mode has shown lately: lines of printable ASCII, owned. In other modes it
 * says nothing, or nonsense. IM_UNSUPPORTED where that cannot be read. */
bool virt_screen_text(struct virt *virt, const char *name, char **ret_text,
                      struct im_err *err) IM_MUST_CHECK;
/* Removes what is kept of a machine beside libvirt (console log). */
void virt_forget(struct virt *virt, const char *name);

/* Counters of all running machines of ours, from one call to the hypervisor; nothing in the guests
 * is needed. A machine whose `run` differs from the last time has started anew, and its counters at
 * zero. A counter that could not be read is left out (a machine that hangs keeps nobody waiting).
 * Cards in user mode are not known here: QEMU counts nothing for them. */
struct virt_disk_stats {
    char serial[65];
    uint64_t read_bytes, written_bytes, reads, writes;
};
struct virt_nic_stats {
    char mac[18];
    uint64_t in_bytes, out_bytes; /* as the guest sees it */
};
struct virt_stats {
    char name[64];
    uint64_t run;
    unsigned vcpus;
    bool has_cpu;
    uint64_t cpu_ns; /* of all vCPUs together */
    /* What the guest's balloon driver tells is in use, else what the host gave; 0 of 0: unknown. */
    uint64_t memory_bytes, memory_used_bytes;
    struct virt_disk_stats *disks; /* those with a serial */
    size_t disk_count;
    struct virt_nic_stats *nics;
    size_t nic_count;
};
bool virt_stats(struct virt *virt, struct virt_stats **ret_stats, size_t *ret_count,
                struct im_err *err) IM_MUST_CHECK;
void virt_stats_free(struct virt_stats *stats, size_t count);

/* For tests with "memory:", which copies nothing by itself: called when the head of a disk takes up
 * what lies between it and the file `base` (`copy`), or its header is to name that; false: it
 * fails. A pull is done when it is looked at for the virt_memory_looks-th time. NULL: nothing is
 * called. */
extern unsigned virt_memory_looks;
extern bool (*virt_memory_rebase)(const char *head, const char *base, bool copy);

/* For tests: from now on the n-th virt call (1 = the next) fails with IM_INTERNAL, before or after
 * it took effect. 0: none. */
void virt_fault_set(struct virt *virt, unsigned n, bool after);
unsigned virt_fault_calls(const struct virt *virt);

#endif
