/* SPDX-License-Identifier: Apache-2.0 */
/* What a hypervisor driver fills in. The wrapper in virt.c has checked names and descriptions
 * before, and counts calls and injects faults after; drivers stay thin. */
#ifndef VIRT_VIRT_PRIVATE_H
#define VIRT_VIRT_PRIVATE_H

#include <sys/types.h>

#include "virt/virt.h"

struct virt_driver; /* each driver's own */

/* All functions as in virt.h; entries may run in several threads at once. Entries that are NULL
 * are "not supported by this hypervisor". */
struct virt_ops {
    const char *scheme; /* how URIs of this driver begin; "" takes what is left */
    struct virt_driver *(*open)(const struct virt_config *config, virt_event *event, void *arg,
                                struct im_err *err);
    void (*close)(struct virt_driver *driver);
    bool (*host)(struct virt_driver *driver, struct virt_host *ret_host, struct im_err *err);
    bool (*start)(struct virt_driver *driver, const struct virt_machine *machine,
                  struct im_err *err);
    bool (*shutdown)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*reboot)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*reset)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*destroy)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*state)(struct virt_driver *driver, const char *name, enum virt_state *ret_state,
                  struct im_err *err);
    bool (*list)(struct virt_driver *driver, struct virt_listed **ret_list, size_t *ret_count,
                 struct im_err *err);
    bool (*info)(struct virt_driver *driver, const char *name, struct virt_info *ret_info,
                 struct im_err *err);
    bool (*switch_disks)(struct virt_driver *driver, const char *name,
                         const struct virt_switch *switches, size_t count, struct im_err *err);
    bool (*has_file)(struct virt_driver *driver, const char *name, const char *path, bool *ret_has,
                     struct im_err *err);
    bool (*disk_chain)(struct virt_driver *driver, const char *name, const char *serial,
                       struct virt_chain *ret_chain, struct im_err *err);
    bool (*pull_begin)(struct virt_driver *driver, const char *name, const char *serial,
                       const char *base, uint64_t rate_bytes, struct im_err *err);
    bool (*pull_end)(struct virt_driver *driver, const char *name, const char *serial,
                     struct im_err *err);
    bool (*disk_settle)(struct virt_driver *driver, const char *name, const char *serial,
                        const char *backing, struct im_err *err);
    bool (*attach_disk)(struct virt_driver *driver, const char *name, const struct virt_disk *disk,
                        struct im_err *err);
    bool (*detach_disk)(struct virt_driver *driver, const char *name, const char *serial,
                        int64_t timeout_ms, const volatile bool *cancel, struct im_err *err);
    bool (*resize_disk)(struct virt_driver *driver, const char *name, const char *serial,
                        uint64_t size_bytes, struct im_err *err);
    bool (*pause)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*resume)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*disk_devices)(struct virt_driver *driver, const char *name,
                         struct virt_device **ret_devices, size_t *ret_count, struct im_err *err);
    bool (*fs_freeze)(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                      bool *ret_frozen, struct im_err *err);
    bool (*fs_thaw)(struct virt_driver *driver, const char *name, struct im_err *err);
    bool (*fs_hooked)(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                      bool *ret_hooked, struct im_err *err);
    bool (*set_password)(struct virt_driver *driver, const char *name, const char *user,
                         enum virt_secret kind, const char *secret, struct im_err *err);
    bool (*authorized_keys)(struct virt_driver *driver, const char *name, const char *user,
                            const char *const keys[], size_t count, bool remove,
                            struct im_err *err);
    bool (*console_open)(struct virt_driver *driver, const char *name, int *ret_fd,
                         struct im_err *err);
    bool (*screenshot)(struct virt_driver *driver, const char *name, char **ret_bytes,
                       size_t *ret_len, struct im_err *err);
    bool (*screen_text)(struct virt_driver *driver, const char *name, char **ret_text,
                        struct im_err *err);
    bool (*stats)(struct virt_driver *driver, struct virt_stats **ret_stats, size_t *ret_count,
                  struct im_err *err);
};
extern const struct virt_ops virt_memory_ops;
extern const struct virt_ops virt_libvirt_ops;

/* Files beside the hypervisor; owned by the caller. */
char *virt_log_path(const char *state_dir, const char *name);
char *virt_firmware_path(const char *state_dir, const char *name);
char *virt_nvram_path(const char *state_dir, const char *name);

/* Drops the older half of a console log that has grown above VIRT_LOG_MAX; safe while QEMU appends
 * to it. */
enum { VIRT_LOG_MAX = 1 << 20 };
bool virt_log_trim(const char *path, struct im_err *err) IM_MUST_CHECK;

/* Total and available bytes of this host's memory. */
bool virt_meminfo(uint64_t *ret_total, uint64_t *ret_available, struct im_err *err) IM_MUST_CHECK;

/* KVM on this host, for machines whose QEMU runs as user `uid`. */
#define VIRT_USER_SAME ((uid_t) -1) /* as ourselves */
/* May that user open /dev/kvm? */
bool virt_kvm_opens(uid_t uid);
/* Does a guest really run under it? Tried once per boot of the host, then remembered in state_dir;
 * fails with the reason. */
bool virt_kvm_works(const char *state_dir, uid_t uid, struct im_err *err) IM_MUST_CHECK;
/* The two halves of a trial: the guest as a disk, and its run under "kvm" or, to test the guest
 * itself, "tcg". */
bool virt_kvm_disk(const char *path, struct im_err *err) IM_MUST_CHECK;
bool virt_kvm_try(const char *disk, uid_t uid, const char *accel, struct im_err *err) IM_MUST_CHECK;

/* A machine as libvirt reads it. What differs between hypervisors and hosts: */
struct virt_xml_options {
    const char *type;     /* "kvm", "qemu" or "test" */
    int tb_cache_mib;     /* TCG's translation cache */
    const char *emulator; /* NULL = the one libvirt chooses */
    const char *owner;    /* goes into our mark, by which virt_list() knows machines of ours */
    const char *log_path; /* console log, NULL = none */
    const char *firmware_log_path; /* NULL = none */
    const char *loader;            /* UEFI firmware and its variables' template; NULL for BIOS */
    const char *nvram;             /* the machine's own variables */
    const char *nvram_template;
};
#define VIRT_MARK_URI "https://imprint.internal/libvirt/1"
/* Owned text. Fails with IM_INTERNAL when a value cannot be said in XML (control characters). */
bool virt_domain_xml(const struct virt_machine *machine, const struct virt_xml_options *options,
                     char **ret_xml, struct im_err *err) IM_MUST_CHECK;
/* One disk of a machine, on its own, for plugging it in as `target`. */
bool virt_disk_xml(const struct virt_disk *disk, const char *target, char **ret_xml,
                   struct im_err *err) IM_MUST_CHECK;

/* A disk of a running machine, as libvirt tells of it; all owned, NULL where it says nothing. */
struct virt_xml_disk {
    char *serial, *target, *source;
    char *element; /* the whole "<disk …</disk>" */
};
void virt_xml_disks_free(struct virt_xml_disk *disks, size_t count);
/* All disks of the machine; *ret_disks is freed with virt_xml_disks_free. */
void virt_xml_disks(const char *xml, struct virt_xml_disk **ret_disks, size_t *ret_count);
/* The files of one disk, by its element, the head first. */
void virt_xml_chain(const char *element, struct im_strings *ret_paths);
/* The name of its device; owned, NULL where there is none. */
char *virt_xml_alias(const char *element);
/* Cards that libvirt knows of, those on a bridge; all owned, NULL where it says nothing. */
struct virt_xml_nic {
    char *mac, *target;
};
void virt_xml_nics_free(struct virt_xml_nic *nics, size_t count);
void virt_xml_nics(const char *xml, struct virt_xml_nic **ret_nics, size_t *ret_count);
/* The description of a disk-only snapshot that moves those of the `count` disks whose entry of
 * `paths` is not NULL. */
bool virt_snapshot_xml(const struct virt_xml_disk *disks, const char *const *paths, size_t count,
                       char **ret_xml, struct im_err *err) IM_MUST_CHECK;
/* "vda", "vdb", … "vdaa" */
void virt_disk_target(size_t index, char out[8]);

/* The agent's command that finds out whether it runs a hook when it freezes, owned; and what the
 * exit status of that command says. */
char *virt_hook_question(void);
bool virt_hook_answer(int exit_status);

/* Reading back what libvirt says of a running machine: its own output, so plain search will do. */
int virt_xml_vnc_port(const char *xml);
bool virt_xml_agent_connected(const char *xml);
unsigned virt_xml_vcpus(const char *xml); /* at least 1 */
#endif
