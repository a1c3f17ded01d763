/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine that starts lets be seen, and what follows from it. No clock, no I/O, memory of
 * fixed size: bytes of a guest are searched for known texts, and nothing else is done with them.
 * Times are milliseconds since the machine was started, and never go back. */
#ifndef CLOUD_BOOT_WATCH_H
#define CLOUD_BOOT_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clang-format off */
/* How far it came: the time line, in the order in which it mostly goes. */
#define BOOT_MARK_TABLE(X)                                                                         \
    X(FIRMWARE, "firmware")         /* the firmware starts what is on the disk */                  \
    X(LOADER, "boot_loader")                                                                       \
    X(KERNEL, "kernel")                                                                            \
    X(INITRAMFS, "initramfs")                                                                      \
    X(ROOT, "root_mounted")                                                                        \
    X(INIT, "init")                                                                                \
    X(FRAME, "network")             /* it sends anything at all */                                 \
    X(DHCP, "dhcp")                 /* it asks for an address */                                   \
    X(SSH, "ssh")                   /* an SSH server says who it is */                             \
    X(AGENT, "guest_agent")                                                                        \
    X(LOGIN, "login")
#define BOOT_VERDICT_TABLE(X)                                                                      \
    X(NONE, "")                                                                                    \
    X(BOOTS, "boots")                                                                              \
    X(FAILS, "does_not_boot")                                                                      \
    X(SILENT, "no_sign_of_life")    /* also: signs that say neither */
/* Name, code, verdict, a sentence, what to do. */
#define BOOT_REASON_TABLE(X)                                                                       \
    X(NONE, "", NONE, "", "")                                                                      \
    X(LOGIN, "login_prompt", BOOTS, "it asks for a login on its serial console", "")               \
    X(AGENT, "guest_agent", BOOTS, "its guest agent answers", "")                                  \
    X(SSH, "ssh", BOOTS, "its SSH server answers", "")                                             \
    X(DHCP, "dhcp", BOOTS, "its system asks for an address, and nothing speaks against it",        \
      "")                                                                                          \
    X(NO_LOADER, "no_boot_loader", FAILS, "the firmware finds no boot loader on its disk",         \
      "install one on the disk, or try the other firmware: --firmware bios or uefi")               \
    X(DEAD_LOADER, "boot_code_silent", FAILS,                                                      \
      "the firmware starts the boot sector of its disk, and nothing comes of it",                  \
      "install the boot loader on the disk again")                                                 \
    X(RESCUE, "boot_loader_rescue", FAILS, "its boot loader does not find its own files",          \
      "install GRUB on the disk again")                                                            \
    X(PROMPT, "boot_loader_prompt", FAILS,                                                         \
      "its boot loader finds no configuration, and waits for commands",                            \
      "write the configuration anew: update-grub, or grub2-mkconfig -o")                           \
    X(LOADER_ERROR, "boot_loader_error", FAILS, "its boot loader stops with an error",             \
      "the kernel and the disks that its configuration names must exist")                          \
    X(NO_INITRD, "initrd_missing", FAILS,                                                          \
      "its boot loader does not find the initramfs, without which the kernel has no root",         \
      "make it anew, update-initramfs -c -k all or dracut -f, or correct its name")                \
    X(NO_ROOT, "root_not_found", FAILS, "its initramfs does not find the root file system",        \
      "correct root= in the boot loader's configuration, or add the disk's driver to the "         \
      "initramfs")                                                                                 \
    X(INITRAMFS, "initramfs_shell", FAILS, "its initramfs gives up and starts a shell",            \
      "the serial log says why")                                                                   \
    X(NO_INIT, "no_init", FAILS, "its root file system has no init that can be started",           \
      "is root= the right file system, and /sbin/init on it?")                                     \
    X(PANIC, "kernel_panic", FAILS, "its kernel panics", "the serial log says why")                \
    X(EMERGENCY, "emergency_mode", FAILS, "its system ends in emergency mode",                     \
      "mostly an entry of /etc/fstab that cannot be mounted: correct it, or add nofail")           \
    X(RESTARTS, "restarts", FAILS, "it starts again and again",                                    \
      "the serial log says how far it comes")                                                      \
    X(ENDED, "powered_off", FAILS, "it powers itself off before it is up",                         \
      "the serial log says why")                                                                   \
    X(NOTHING, "nothing_seen", SILENT, "nothing of it was seen",                                   \
      "for a serial console give its kernel console=ttyS0; or allow more time")                    \
    X(SCREEN, "screen_only", SILENT,                                                               \
      "nothing of it was seen but changes of its screen: look at the picture",                     \
      "for a serial console give its kernel console=ttyS0")                                        \
    X(TIME, "timed_out", SILENT, "it starts, but was not up in time",                              \
      "allow more time, or read the serial log")
/* clang-format on */

#define X(name, word) BOOT_MARK_##name,
enum boot_mark { BOOT_MARK_TABLE(X) BOOT_MARKS };
#undef X
#define X(name, word) BOOT_##name,
enum boot_verdict { BOOT_VERDICT_TABLE(X) BOOT_VERDICTS };
#undef X
#define X(name, ...) BOOT_REASON_##name,
enum boot_reason { BOOT_REASON_TABLE(X) BOOT_REASONS };
#undef X

struct boot_reason_row {
    const char *code;
    enum boot_verdict verdict;
    const char *text, *hint;
};
extern const struct boot_reason_row boot_reasons[BOOT_REASONS];
const char *boot_mark_word(enum boot_mark mark);
const char *boot_verdict_word(enum boot_verdict verdict);

/* Where text comes from. */
enum boot_source { BOOT_SERIAL, BOOT_FIRMWARE, BOOT_SCREEN, BOOT_SOURCES };

enum { BOOT_LINE_MAX = 512, BOOT_EVIDENCE = 240 };

struct boot_line {
    char text[BOOT_LINE_MAX + 1];
    size_t len;
    int escape; /* within a control sequence of a terminal */
};

struct boot_watch {
    bool uefi;
    int64_t timeout_ms;
    struct boot_line lines[BOOT_SOURCES];
    int64_t marks[BOOT_MARKS]; /* -1 = not seen */
    int64_t screen_ms;         /* its screen changed last; -1 = never */
    unsigned pictures;         /* that were new, once it was the disk's turn */
    bool spoke;                /* on its serial console */
    unsigned starts;           /* of boot sector or kernel */
    enum boot_reason fault;    /* that ends it; NONE */
    int64_t fault_ms, good_ms; /* when there was one, or a sign that it is up */
    enum boot_reason doubt;    /* that ends it unless it goes on */
    int64_t doubt_ms;
    bool no_initrd;               /* the boot loader missed it */
    char evidence[BOOT_EVIDENCE]; /* the line that tells, printable ASCII */
    char earlier[BOOT_EVIDENCE];  /* one that explains what follows */
    bool over;
    enum boot_reason reason; /* once it is over */
};

/* With what firmware it starts, and how long it may take; one is patient with it in proportion. */
void boot_watch_begin(struct boot_watch *watch, bool uefi, int64_t timeout_ms);
void boot_watch_text(struct boot_watch *watch, enum boot_source source, const char *bytes,
                     size_t len, int64_t at_ms);
/* A sign that is not text. */
void boot_watch_mark(struct boot_watch *watch, enum boot_mark mark, int64_t at_ms);
/* Its screen shows what it never showed before. */
void boot_watch_screen(struct boot_watch *watch, int64_t at_ms);
/* The machine is off. */
void boot_watch_ended(struct boot_watch *watch, int64_t at_ms);
/* Is it known by now? Then `reason` and `evidence` stand, and nothing changes them any more. */
bool boot_watch_over(struct boot_watch *watch, int64_t now_ms);

#endif
