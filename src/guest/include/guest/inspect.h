/* SPDX-License-Identifier: Apache-2.0 */
/* What is on a disk, and what is wrong with it: partition tables, boot code, file systems, logical
 * volumes, and the system on its root file system. Read only, by our own readers; nothing is
 * mounted.
 *
 * Whatever the bytes say, a look ends soon: it reads at most GUEST_LOOK_BYTES, follows every chain
 * only so far, and keeps at most so many partitions and findings. Texts that come from the disk are
 * cut short and have their control characters replaced. An object belongs to one thread. */
#ifndef GUEST_INSPECT_H
#define GUEST_INSPECT_H

#include "guest/image.h"

#define GUEST_LOOK_BYTES (128u << 20)

/* The disk. `read` fails only when the host cannot read: the range is always inside. */
struct guest_source {
    bool (*read)(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err);
    void *arg;
    uint64_t size_bytes;
};

enum guest_severity {
    GUEST_INFO,
    GUEST_WARNING,
    GUEST_ERROR, /* it will not start, or loses data */
    GUEST_SEVERITIES
};
const char *guest_severity_name(enum guest_severity severity); /* "info", "warning", "error" */

/* What can be found. The codes are for programs and stay as they are. */
/* clang-format off */
#define GUEST_FINDING_TABLE(X)                                                                     \
    X(DISK_EMPTY, "disk.empty", ERROR, "write a system onto the disk first")                       \
    X(DISK_NO_TABLE, "disk.no_table", INFO, "")                                                    \
    X(LOOK_ENDED, "look.ended", WARNING,                                                           \
      "the disk asks for unusually much reading; check it with its own tools")                     \
    X(MBR_ENTRY, "mbr.entry", WARNING, "write the partition table anew with sfdisk")               \
    X(MBR_CHAIN, "mbr.chain", ERROR, "write the partition table anew with sfdisk")                 \
    X(GPT_DAMAGED, "gpt.damaged", ERROR, "write the partition table anew with sgdisk or gdisk")    \
    X(GPT_PRIMARY, "gpt.primary", ERROR, "restore it from its backup: sgdisk --load-backup or "    \
      "the recovery menu of gdisk")                                                                \
    X(GPT_BACKUP, "gpt.backup", WARNING, "write the backup anew: sgdisk --move-second-header")     \
    X(GPT_MISPLACED, "gpt.misplaced", INFO, "move it: sfdisk --relocate gpt-bak-std")              \
    X(PART_BEYOND, "partition.beyond", ERROR,                                                      \
      "the disk was cut short: copy it again, whole, or make the volume larger")                   \
    X(PART_OVERLAP, "partition.overlap", ERROR, "write the partition table anew")                  \
    X(PART_ROOM, "partition.room", INFO, "grow it (growpart), and what lies on it")                \
    X(PART_EMPTY, "partition.none", ERROR, "make partitions, or write a whole disk image")         \
    X(BOOT_NONE, "boot.none", ERROR,                                                               \
      "install a boot loader (grub-install), or copy the first sectors of the disk as well")       \
    X(BOOT_CORE, "boot.core", ERROR, "run grub-install again")                                     \
    X(BOOT_ACTIVE, "boot.active", WARNING,                                                         \
      "mark the boot partition: sfdisk --activate DISK NUMBER")                                    \
    X(BOOT_BIOS_PARTITION, "boot.bios_partition", WARNING,                                         \
      "make a BIOS boot partition of 1 MiB and run grub-install again")                            \
    X(ESP_UNREADABLE, "esp.unreadable", ERROR, "make it anew with mkfs.fat and run grub-install")  \
    X(ESP_EMPTY, "esp.empty", ERROR, "install a boot loader: grub-install --removable")            \
    X(ESP_FALLBACK, "esp.fallback", WARNING,                                                       \
      "a new machine's firmware knows only /EFI/BOOT/BOOTX64.EFI: grub-install --removable")       \
    X(ESP_CONFIG, "esp.config", ERROR, "correct its grub.cfg: the UUID that blkid shows")          \
    X(BOOT_CONFIG, "boot.config", ERROR, "make it: grub-mkconfig -o /boot/grub/grub.cfg")          \
    X(BOOT_DEFAULT, "boot.default", WARNING, "choose one that is there: grub-set-default")         \
    X(BOOT_KERNEL, "boot.kernel", ERROR, "install the kernel again, or make the menu anew")        \
    X(BOOT_KERNEL_DAMAGED, "boot.kernel_damaged", ERROR, "install the kernel again")               \
    X(BOOT_INITRD, "boot.initrd", ERROR,                                                           \
      "make it: update-initramfs -u, dracut -f or mkinitcpio -P")                                  \
    X(BOOT_INITRD_DAMAGED, "boot.initrd_damaged", ERROR,                                           \
      "make it anew: update-initramfs -u, dracut -f or mkinitcpio -P")                             \
    X(BOOT_SEARCH, "boot.search", WARNING,                                                         \
      "make the menu anew: grub-mkconfig -o /boot/grub/grub.cfg")                                  \
    X(BOOT_ROOT, "boot.root", ERROR, "name the root file system by the UUID that blkid shows")     \
    X(BOOT_ROOT_NAME, "boot.root_name", WARNING,                                                   \
      "name the root file system by the UUID that blkid shows")                                    \
    X(BOOT_VOLUME, "boot.volume", ERROR,                                                           \
      "take it out of the kernel's command line, or correct the name")                             \
    X(BOOT_SUBVOLUME, "boot.subvolume", ERROR, "correct the name in rootflags=subvol=")            \
    X(BOOT_RESUME, "boot.resume", WARNING, "take resume= out of the kernel's command line")        \
    X(BOOT_ENTRY, "boot.entry", WARNING,                                                           \
      "make the menu anew: grub-mkconfig -o /boot/grub/grub.cfg")                                  \
    X(BOOT_CONSOLE, "boot.console", WARNING,                                                       \
      "add console=tty0 console=ttyS0 to the kernel's command line")                               \
    X(BOOT_TERMINAL, "boot.terminal", INFO,                                                        \
      "GRUB_TERMINAL=\"console serial\" in /etc/default/grub shows the menu there as well")        \
    X(BOOT_MANAGER, "boot.manager", ERROR,                                                         \
      "from an installation medium: bcdboot C:\\Windows")                                          \
    X(BOOT_BCD, "boot.bcd", ERROR,                                                                 \
      "from an installation medium: bcdboot C:\\Windows")                                          \
    X(DRIVER_DISK, "driver.disk", ERROR,                                                           \
      "add virtio_blk and virtio_pci to the initramfs: /etc/initramfs-tools/modules and "          \
      "update-initramfs -u, or dracut -f --add-drivers")                                           \
    X(DRIVER_ROOT, "driver.root", ERROR,                                                           \
      "make the initramfs anew: update-initramfs -u, dracut -f or mkinitcpio -P")                  \
    X(DRIVER_NET, "driver.net", WARNING, "install the kernel's modules that have virtio_net")      \
    X(DRIVER_VIOSTOR, "driver.viostor", ERROR,                                                     \
      "install the virtio-win drivers while a second disk is attached by virtio, and back it up "  \
      "again")                                                                                     \
    X(DRIVER_NETKVM, "driver.netkvm", WARNING,                                                     \
      "install the virtio-win drivers in Windows")                                                 \
    X(FS_BEYOND, "filesystem.beyond", ERROR,                                                       \
      "the disk was cut short, or the partition made smaller: copy it again, whole")               \
    X(FS_DIRTY, "filesystem.dirty", WARNING,                                                       \
      "unmount it or shut the machine down before the backup; its journal is replayed at start")   \
    X(FS_HIBERNATED, "filesystem.hibernated", WARNING,                                             \
      "in Windows, powercfg /h off, and shut it down again before the backup")                     \
    X(FS_DAMAGED, "filesystem.damaged", WARNING, "check it with fsck")                             \
    X(FS_FULL, "filesystem.full", WARNING, "free some space, or grow it")                          \
    X(FS_ROOM, "filesystem.room", INFO,                                                            \
      "grow it: resize2fs, xfs_growfs, btrfs filesystem resize max")                               \
    X(FS_DEVICES, "filesystem.devices", ERROR,                                                     \
      "move everything onto this disk and back it up again, or attach the others as well")         \
    X(FS_ENCRYPTED, "filesystem.encrypted", INFO, "")                                              \
    X(FS_UNREADABLE, "filesystem.unreadable", INFO, "")                                            \
    X(LVM_DAMAGED, "lvm.damaged", ERROR,                                                           \
      "restore it from /etc/lvm/backup: pvcreate --restorefile for the label, vgcfgrestore")       \
    X(LVM_MISSING, "lvm.missing", ERROR,                                                           \
      "move everything onto this disk (pvmove, vgreduce) and back it up again")                    \
    X(LVM_ROOM, "lvm.room", INFO, "pvresize, lvextend --resizefs -l +100%FREE")                    \
    X(LVM_SEGMENT, "lvm.segment", INFO, "")                                                        \
    X(ROOT_NONE, "root.none", INFO, "")                                                            \
    X(WINDOWS_REGISTRY, "windows.registry", WARNING,                                               \
      "check the disk with chkdsk, and back it up again after a clean shutdown")                   \
    X(FSTAB_UNKNOWN, "fstab.unknown", WARNING, "correct the line, or give it the option nofail")   \
    X(FSTAB_ROOT, "fstab.root", ERROR, "name the file system by the UUID that blkid shows")        \
    X(FSTAB_SUBVOLUME, "fstab.subvolume", WARNING,                                                 \
      "correct the name or the number of the subvolume, or give the line the option nofail")       \
    X(FSTAB_NAME, "fstab.name", WARNING, "name the file system by the UUID that blkid shows")      \
    X(FSTAB_TYPE, "fstab.type", WARNING, "correct the line, or write auto")                        \
    X(FSTAB_TWICE, "fstab.twice", WARNING, "take one of the lines out")                            \
    X(FSTAB_NETWORK, "fstab.network", INFO, "give it the options nofail and _netdev")              \
    X(ID_MACHINE, "identity.machine", WARNING,                                                     \
      "empty /etc/machine-id, so that each machine gets its own")                                  \
    X(ID_SSH, "identity.ssh", WARNING,                                                             \
      "remove /etc/ssh/ssh_host_*, so that each machine makes its own")                            \
    X(ID_NET, "identity.net", WARNING, "take the rule out, or remove the file")                    \
    X(ID_LEASES, "identity.leases", INFO, "seal the image, or remove it: --seal leases")           \
    X(ID_SEED, "identity.seed", INFO, "seal the image, or remove it: --seal random-seed")          \
    X(ID_HOSTNAME, "identity.hostname", INFO, "empty /etc/hostname, or install cloud-init")        \
    X(NET_MAC, "network.mac", WARNING, "name the network card by what it is called, or not at all")\
    X(NET_ADDRESS, "network.address", WARNING, "let it ask for one: DHCP")                         \
    X(NET_NAME, "network.name", WARNING, "name all that it may be called, as en* and eth*")        \
    X(NET_NONE, "network.none", WARNING, "set up DHCP on any network card, or install cloud-init") \
    X(CLOUD_OFF, "os.cloud_init_off", WARNING,                                                     \
      "remove /etc/cloud/cloud-init.disabled, or enable its services")                             \
    X(CLOUD_SOURCE, "os.cloud_init_source", WARNING,                                               \
      "add NoCloud to datasource_list, or take the list out")                                      \
    X(NO_AGENT, "os.no_agent", INFO, "install qemu-guest-agent")                                   \
    X(AGENT_OFF, "os.agent_off", INFO, "enable qemu-guest-agent")                                  \
    X(NO_CLOUDBASE, "os.no_cloudbase", INFO,                                                       \
      "install cloudbase-init for passwords, names and growth at first start")                     \
    X(NO_CLOUD_INIT, "os.no_cloud_init", INFO,                                                     \
      "install cloud-init for keys, passwords and growth at first start")
/* clang-format on */

enum guest_found {
#define X(name, code, severity, hint) GUEST_FOUND_##name,
    GUEST_FINDING_TABLE(X)
#undef X
        GUEST_FOUND_KINDS
};

struct guest_finding {
    const char *code, *hint; /* literals; the hint is "" where there is nothing to do */
    enum guest_severity severity;
    char *text; /* a sentence, as those of errors */
};

struct guest_part {
    unsigned number;      /* 0: the whole disk, or a logical volume */
    uint64_t offset, len; /* bytes of the disk; a logical volume has no one offset */
    char name[80];        /* "/dev/vda1" as a guest would say, "vg/lv" */
    char type[24];        /* what the table calls it: "linux", "esp", "0x83" …; "" = unknown */
    char filesystem[24];  /* "ext4", "xfs", "LVM2_member" …; "" = none that we know */
    uint64_t filesystem_bytes; /* by its superblock; 0 = it does not say */
    char label[64], uuid[40];
    char partuuid[40], partlabel[40];
    bool active;
};

struct guest_os {
    char id[32], name[96], version[32], hostname[80]; /* "" where not found */
    char root[80];                                    /* name of the part it lies on */
    char user[40];                                    /* who logs in, by cloud-init */
    char processor[8];                                /* "64bit", "32bit" */
    char architecture[16];                            /* "x86_64", "aarch64" … */
    char platform[12];                                /* "linux", "windows", "bsd" */
    char osinfo[32];   /* libosinfo's short id: "debian12", "ubuntu22.04" */
    char init[12];     /* "systemd", "openrc", "sysvinit", "upstart", "rc" … */
    char ui[4];        /* "tui", "gui" */
    unsigned packages; /* installed; 0 = not known */
};

/* What is started when nobody chooses, by the boot loader's configuration; "" where not found.
 * Paths are as the boot loader takes them: within the file system on `part`. */
struct guest_boot {
    char loader[16];  /* "grub", "grub-legacy", "extlinux", "systemd-boot", "uki", "freebsd" */
    char config[160]; /* the file that says so, and where it lies */
    char title[128];
    char part[80];
    char kernel[256], initrd[512]; /* initrd: several with a blank between them */
    char version[80];              /* of the kernel, as its modules' folder is called */
    char cmdline[1024];
    bool packed; /* the kernel has initramfs and command line in it */
};

struct guest_inspection {
    uint64_t size_bytes;
    enum guest_table table;
    bool bios, uefi;          /* there is what such a firmware starts */
    struct guest_part *parts; /* the partitions, then the logical volumes */
    size_t part_count, part_capacity;
    struct guest_finding *findings;
    size_t finding_count, finding_capacity;
    unsigned counts[GUEST_SEVERITIES];
    struct guest_os os;
    struct guest_boot boot;
    uint64_t read_bytes;
};

/* Fails only with what `read` failed with. */
bool guest_inspect(const struct guest_source *source, struct guest_inspection **ret_inspection,
                   struct im_err *err) IM_MUST_CHECK;
void guest_inspection_free(struct guest_inspection *inspection); /* NULL is fine */
IM_DEFINE_AUTO(struct guest_inspection *, guest_inspection_free)

#endif
