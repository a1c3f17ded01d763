/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts on machines that start. Known texts are looked for line by line, in what is left when a
 * terminal's control sequences are taken out; what a line says counts by how far the machine has
 * come. A hostile guest can lie here like anywhere on its screen: it is its owner who is told. */
#include "boot-watch.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define X(name, code, verdict, text, hint) {code, BOOT_##verdict, text, hint},
const struct boot_reason_row boot_reasons[BOOT_REASONS] = {BOOT_REASON_TABLE(X)};
#undef X

const char *boot_mark_word(enum boot_mark mark) {
#define X(name, word) word,
    static const char *const words[] = {BOOT_MARK_TABLE(X)};
#undef X
    return words[mark];
}

const char *boot_verdict_word(enum boot_verdict verdict) {
#define X(name, word) word,
    static const char *const words[] = {BOOT_VERDICT_TABLE(X)};
#undef X
    return words[verdict];
}

/* --- How patient one is, in parts of the time that it has in all -------------------------------
 */

enum patience {
    LINGER = 60, /* after a fault, for the lines that explain it */
    GATHER = 20, /* once it is up, for further signs of it */
    GO_ON = 5,   /* after an error that a boot loader may get over, and when nothing follows */
};

static int64_t patience(const struct boot_watch *watch, enum patience which) {
    return watch->timeout_ms / which;
}

/* --- Lines ------------------------------------------------------------------------------------ */

static void keep(char kept[BOOT_EVIDENCE], const char *line) {
    size_t len = 0;

    line += strspn(line, " ");
    for (; *line != '\0' && len < BOOT_EVIDENCE - 1; line++)
        kept[len++] = *line;
    while (len > 0 && kept[len - 1] == ' ')
        len--;
    kept[len] = '\0';
}

static bool has(const char *line, const char *text) { return strstr(line, text) != NULL; }

static void mark(struct boot_watch *watch, enum boot_mark which, int64_t at_ms) {
    if (watch->marks[which] < 0)
        watch->marks[which] = at_ms;
}

/* The machine begins once more: what was in doubt no longer is. */
static void begin_again(struct boot_watch *watch) {
    watch->doubt = BOOT_REASON_NONE;
    watch->no_initrd = false;
    watch->earlier[0] = '\0';
}

/* When there was something from the disk at work. */
static int64_t began(const struct boot_watch *watch) {
    return watch->marks[BOOT_MARK_LOADER] >= 0     ? watch->marks[BOOT_MARK_LOADER]
           : watch->marks[BOOT_MARK_FIRMWARE] >= 0 ? watch->marks[BOOT_MARK_FIRMWARE]
                                                   : 0;
}

/* Lines that say that it goes on, or where it has come to. */
static const struct step {
    const char *text, *but_not;
    enum boot_mark mark;
} steps[] = {
    {"Booting from 0000:7c00", NULL, BOOT_MARK_FIRMWARE},
    {"BdsDxe: starting Boot", "Shell", BOOT_MARK_FIRMWARE},
    {"GRUB loading", NULL, BOOT_MARK_LOADER},
    {"Welcome to GRUB!", NULL, BOOT_MARK_LOADER},
    {"GNU GRUB", NULL, BOOT_MARK_LOADER},
    {"Booting `", NULL, BOOT_MARK_LOADER},
    {"Loading Linux ", NULL, BOOT_MARK_LOADER},
    {"SYSLINUX ", NULL, BOOT_MARK_LOADER},
    {"EXTLINUX ", NULL, BOOT_MARK_LOADER},
    {"EFI stub: ", NULL, BOOT_MARK_LOADER},
    {"FreeBSD/x86 bootstrap loader", NULL, BOOT_MARK_LOADER},
    {"Linux version ", NULL, BOOT_MARK_KERNEL},
    {"Decompressing Linux", NULL, BOOT_MARK_KERNEL},
    {"---<<BOOT>>---", NULL, BOOT_MARK_KERNEL},
    {"Run /init as init process", NULL, BOOT_MARK_INITRAMFS},
    {"Loading, please wait...", NULL, BOOT_MARK_INITRAMFS},
    {"Gave up waiting for root", NULL, BOOT_MARK_INITRAMFS},
    {"Begin: Loading essential drivers", NULL, BOOT_MARK_INITRAMFS},
    {"Begin: Mounting root file system", NULL, BOOT_MARK_INITRAMFS},
    {"dracut", "command line", BOOT_MARK_INITRAMFS},
    {"(Initramfs)", NULL, BOOT_MARK_INITRAMFS},
    {"mounted filesystem", NULL, BOOT_MARK_ROOT},
    {"Begin: Running /scripts/init-bottom", NULL, BOOT_MARK_ROOT},
    {"Ending clean mount", NULL, BOOT_MARK_ROOT},
    {"Mounted /sysroot", NULL, BOOT_MARK_ROOT},
    {"Mounted Root Partition", NULL, BOOT_MARK_ROOT},
    {"running in system mode", "dracut", BOOT_MARK_INIT},
    {"Welcome to ", "GRUB!", BOOT_MARK_INIT},
    {"INIT: version ", NULL, BOOT_MARK_INIT},
    {"init started: BusyBox", NULL, BOOT_MARK_INIT},
    {"OpenRC ", NULL, BOOT_MARK_INIT},
    {"] cloud-init[", NULL, BOOT_MARK_INIT},
    {"Run /sbin/init as init process", NULL, BOOT_MARK_INIT},
    {" login:", "Last login:", BOOT_MARK_LOGIN},
};

/* "[    0.000000] …": a line of the kernel, and its age. */
static bool is_kernel_line(const char *line, int64_t *ret_age_ms) {
    enum { DIGITS_MAX = 7 };
    int64_t seconds = 0;
    size_t len;

    if (*line++ != '[')
        return false;
    line += strspn(line, " ");
    len = strspn(line, "0123456789");
    if (len == 0 || len > DIGITS_MAX || line[len] != '.' ||
        strspn(line + len + 1, "0123456789") != 6 || line[len + 7] != ']')
        return false;
    for (size_t i = 0; i < len; i++)
        seconds = seconds * 10 + (line[i] - '0');
    *ret_age_ms = seconds * 1000;
    return true;
}

/* What is certain, whatever comes next: the first row that fits. */
static const struct end {
    const char *text;
    enum boot_reason reason;
    bool prompt; /* no line of its own, but a wait for input */
} ends[] = {
    {"grub rescue>", BOOT_REASON_RESCUE, true},
    {"grub>", BOOT_REASON_PROMPT, true},
    {"No bootable device", BOOT_REASON_NO_LOADER, false},
    {"No bootable option or device was found", BOOT_REASON_NO_LOADER, false},
    {"UEFI Interactive Shell", BOOT_REASON_NO_LOADER, false},
    {"Missing operating system", BOOT_REASON_NO_LOADER, false},
    {"Operating system not found", BOOT_REASON_NO_LOADER, false},
    {"Error loading operating system", BOOT_REASON_LOADER_ERROR, false},
    {"BOOTMGR is missing", BOOT_REASON_LOADER_ERROR, false},
    {"Failed to boot both default and fallback", BOOT_REASON_LOADER_ERROR, false},
    {"Failed to load ldlinux", BOOT_REASON_LOADER_ERROR, false},
    {"ALERT!", BOOT_REASON_NO_ROOT, false},
    {"No init found. Try passing init=", BOOT_REASON_NO_INIT, false},
    {"No working init found", BOOT_REASON_NO_INIT, false},
    {"Requested init ", BOOT_REASON_NO_INIT, false},
    {"(initramfs)", BOOT_REASON_INITRAMFS, true},
    {"Entering emergency mode. Exit the shell to continue", BOOT_REASON_INITRAMFS, false},
    {"rdsosreport.txt", BOOT_REASON_INITRAMFS, false},
    {"Kernel panic - not syncing", BOOT_REASON_PANIC, false},
    {"You are in emergency mode", BOOT_REASON_EMERGENCY, false},
    {"You are in rescue mode", BOOT_REASON_EMERGENCY, false},
    {"Give root password for maintenance", BOOT_REASON_EMERGENCY, true},
    {"Press Enter for maintenance", BOOT_REASON_EMERGENCY, true},
    {"Cannot open access to console, the root account is locked", BOOT_REASON_EMERGENCY, false},
};

/* What explains a fault that comes later, the most telling first: of two, the line that is further
 * up here is kept. */
static const char *const explanations[] = {
    "Failed to mount ",
    "Dependency failed for ",
    "Timed out waiting for device",
    "does not exist",
    "Unable to mount root fs",
    "Cannot open root device",
    "dracut-initqueue: timeout",
    "dracut-initqueue timeout",
    "Boot failed: ",
    "BdsDxe: failed to load",
};

static size_t explains(const char *line) {
    size_t i = 0;

    while (i < sizeof(explanations) / sizeof(explanations[0]) && !has(line, explanations[i]))
        i++;
    return i;
}

static void explain(struct boot_watch *watch, const char *line) {
    if (!watch->no_initrd && explains(line) < sizeof(explanations) / sizeof(explanations[0]) &&
        explains(line) < explains(watch->earlier))
        keep(watch->earlier, line);
}

/* A shell of dracut on account of a root that is not there says so before. */
static enum boot_reason refine(const struct boot_watch *watch, enum boot_reason reason,
                               const char *line) {
    bool no_root = has(line, "Unable to mount root fs") || has(line, "Cannot open root device");

    if (reason == BOOT_REASON_PANIC && no_root && watch->no_initrd)
        return BOOT_REASON_NO_INITRD;
    if (reason == BOOT_REASON_PANIC && no_root)
        return BOOT_REASON_NO_ROOT;
    if (reason == BOOT_REASON_PANIC &&
        (has(line, "No working init") || has(line, "Requested init")))
        return BOOT_REASON_NO_INIT;
    if (reason == BOOT_REASON_INITRAMFS && has(watch->earlier, "does not exist"))
        return BOOT_REASON_NO_ROOT;
    return reason;
}

static void fault(struct boot_watch *watch, enum boot_reason reason, const char *line,
                  int64_t at_ms) {
    bool own = reason != BOOT_REASON_EMERGENCY && reason != BOOT_REASON_NO_LOADER &&
               reason != BOOT_REASON_NO_INITRD &&
               !(reason == BOOT_REASON_NO_ROOT && !has(line, "ALERT!") && !has(line, "panic"));

    if (watch->fault != BOOT_REASON_NONE)
        return;
    watch->fault = reason;
    watch->fault_ms = at_ms;
    if (reason == BOOT_REASON_LOADER_ERROR && watch->doubt != BOOT_REASON_NONE)
        return; /* the first error tells most */
    if (own || watch->earlier[0] == '\0')
        keep(watch->evidence, line);
    else
        memcpy(watch->evidence, watch->earlier, sizeof(watch->evidence));
}

/* Boot loaders get over some of their errors: another entry, a missing font. */
static void doubt(struct boot_watch *watch, enum boot_reason reason, const char *line,
                  int64_t at_ms) {
    if (watch->fault != BOOT_REASON_NONE || watch->doubt != BOOT_REASON_NONE)
        return;
    watch->doubt = reason;
    watch->doubt_ms = at_ms;
    keep(watch->evidence, line);
}

static void loader_line(struct boot_watch *watch, const char *line, int64_t at_ms) {
    bool initrd = has(line, "initrd") || has(line, "initramfs");

    if (has(line, ">>Start PXE over") || has(line, ">>Start HTTP Boot over"))
        doubt(watch, BOOT_REASON_NO_LOADER, line, at_ms);
    if (has(line, "Could not find kernel image") || has(line, "Could not find ramdisk image") ||
        (has(line, "Loading ") && has(line, " failed: ")))
        doubt(watch,
              initrd || has(line, "ramdisk") ? BOOT_REASON_NO_INITRD : BOOT_REASON_LOADER_ERROR,
              line, at_ms);
    if (!im_starts_with(line, "error: "))
        return;
    if (initrd && (has(line, "not found") || has(line, "no such"))) {
        watch->no_initrd = true;
        keep(watch->earlier, line);
    }
    doubt(watch, initrd ? BOOT_REASON_NO_INITRD : BOOT_REASON_LOADER_ERROR, line, at_ms);
}

static bool before_kernel(const struct boot_watch *watch) {
    return watch->marks[BOOT_MARK_KERNEL] < 0 && watch->marks[BOOT_MARK_INITRAMFS] < 0 &&
           watch->marks[BOOT_MARK_INIT] < 0;
}

/* --- A line, whole or as far as it has come ----------------------------------------------------
 */

static void take_step(struct boot_watch *watch, const struct step *step, int64_t at_ms) {
    mark(watch, step->mark, at_ms);
    if (step->mark >= BOOT_MARK_KERNEL && watch->doubt != BOOT_REASON_NONE &&
        watch->fault == BOOT_REASON_NONE) {
        watch->doubt = BOOT_REASON_NONE;
        watch->evidence[0] = '\0';
    }
    if (step->mark == BOOT_MARK_LOGIN && watch->good_ms < 0)
        watch->good_ms = at_ms;
}

/* Counted once for each start: by the firmware's words where it has any, else by the kernel's. */
static void count_start(struct boot_watch *watch, enum boot_source source, const char *line) {
    const char *text = watch->marks[BOOT_MARK_FIRMWARE] >= 0 && !watch->uefi
                           ? "Booting from 0000:7c00"
                       : watch->uefi ? "BdsDxe: starting Boot"
                                     : "Linux version ";

    if (source == BOOT_SCREEN || !has(line, text) || has(line, "Shell"))
        return;
    watch->starts++;
    begin_again(watch);
}

/* `whole`: the line is over. A prompt is only one while its line is not. */
static void look(struct boot_watch *watch, enum boot_source source, const char *line, bool whole,
                 int64_t at_ms) {
    static const struct step kernel = {NULL, NULL, BOOT_MARK_KERNEL};
    int64_t age_ms = 0;

    if (whole)
        count_start(watch, source, line);
    /* One that is told to be quiet is heard of late, but says since when it runs. */
    if (whole && is_kernel_line(line, &age_ms))
        take_step(watch, &kernel, age_ms < at_ms - began(watch) ? at_ms - age_ms : began(watch));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if ((whole || steps[i].mark == BOOT_MARK_LOGIN) && has(line, steps[i].text) &&
            (steps[i].but_not == NULL || !has(line, steps[i].but_not)))
            take_step(watch, &steps[i], at_ms);
    if (whole && before_kernel(watch))
        loader_line(watch, line, at_ms);
    if (whole)
        explain(watch, line);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if ((whole || ends[i].prompt) && has(line, ends[i].text)) {
            fault(watch, refine(watch, ends[i].reason, line), line, at_ms);
            return;
        }
}

static void line_end(struct boot_watch *watch, enum boot_source source, int64_t at_ms) {
    struct boot_line *line = &watch->lines[source];

    if (line->len > 0)
        look(watch, source, line->text, true, at_ms);
    line->len = 0;
    line->text[0] = '\0';
}

/* Where the cursor is put elsewhere, another line begins; colours and the like mean nothing. */
static bool in_escape(struct boot_line *line, unsigned char c, bool *ret_moves) {
    enum { PLAIN, BEGUN, CONTROL };

    *ret_moves = false;
    if (line->escape == PLAIN && c == 0x1b) {
        line->escape = BEGUN;
        return true;
    }
    if (line->escape == BEGUN) {
        line->escape = c == '[' ? CONTROL : PLAIN;
        return true;
    }
    if (line->escape == CONTROL) {
        if (c >= 0x40 && c <= 0x7e) {
            line->escape = PLAIN;
            *ret_moves = c == 'H' || c == 'f' || c == 'J';
        }
        return true;
    }
    return false;
}

/* A line that is too long is looked at as far as it fits, and goes on as another one that repeats
 * enough of its end for a text across both to be seen. */
static void add_char(struct boot_watch *watch, enum boot_source source, char c, int64_t at_ms) {
    enum { REPEAT = 80 };
    struct boot_line *line = &watch->lines[source];

    if (line->len == BOOT_LINE_MAX) {
        char end[REPEAT];

        memcpy(end, line->text + BOOT_LINE_MAX - REPEAT, REPEAT);
        line_end(watch, source, at_ms);
        memcpy(line->text, end, REPEAT);
        line->len = REPEAT;
    }
    line->text[line->len++] = c;
    line->text[line->len] = '\0';
}

void boot_watch_text(struct boot_watch *watch, enum boot_source source, const char *bytes,
                     size_t len, int64_t at_ms) {
    struct boot_line *line = &watch->lines[source];

    if (watch->over || len == 0)
        return;
    watch->spoke = watch->spoke || source == BOOT_SERIAL;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char) bytes[i];
        bool moves;

        if (in_escape(line, c, &moves)) {
            if (moves)
                line_end(watch, source, at_ms);
        } else if (c == '\n' || c == '\r') {
            line_end(watch, source, at_ms);
        } else if ((c >= 0x20 && c < 0x7f) || c >= 0xc0) { /* one sign for each that is not ASCII */
            add_char(watch, source, c < 0x7f ? (char) c : '?', at_ms);
        }
    }
    if (line->len > 0) /* prompts have no end of line */
        look(watch, source, line->text, false, at_ms);
}

/* --- Other signs ------------------------------------------------------------------------------ */

void boot_watch_begin(struct boot_watch *watch, bool uefi, int64_t timeout_ms) {
    *watch =
        (struct boot_watch){.uefi = uefi, .timeout_ms = timeout_ms, .screen_ms = -1, .good_ms = -1};
    for (size_t i = 0; i < BOOT_MARKS; i++)
        watch->marks[i] = -1;
}

/* An address is also asked for by firmware that boots over the network, and by an initramfs that
 * mounts its root over it: by itself that does not end the test. */
void boot_watch_mark(struct boot_watch *watch, enum boot_mark which, int64_t at_ms) {
    if (watch->over)
        return;
    mark(watch, which, at_ms);
    if ((which == BOOT_MARK_AGENT || which == BOOT_MARK_SSH) && watch->good_ms < 0)
        watch->good_ms = at_ms;
}

void boot_watch_screen(struct boot_watch *watch, int64_t at_ms) {
    if (watch->over)
        return;
    watch->screen_ms = at_ms;
    watch->pictures += watch->marks[BOOT_MARK_FIRMWARE] >= 0;
}

static bool conclude(struct boot_watch *watch, enum boot_reason reason) {
    watch->over = true;
    watch->reason = reason;
    if (boot_reasons[reason].verdict != BOOT_FAILS)
        watch->evidence[0] = '\0';
    return true;
}

static enum boot_reason best_sign(const struct boot_watch *watch) {
    return watch->marks[BOOT_MARK_LOGIN] >= 0   ? BOOT_REASON_LOGIN
           : watch->marks[BOOT_MARK_AGENT] >= 0 ? BOOT_REASON_AGENT
                                                : BOOT_REASON_SSH;
}

static enum boot_reason fault_or_end(const struct boot_watch *watch) {
    return watch->fault != BOOT_REASON_NONE   ? watch->fault
           : watch->doubt != BOOT_REASON_NONE ? watch->doubt
                                              : BOOT_REASON_ENDED;
}

void boot_watch_ended(struct boot_watch *watch, int64_t at_ms) {
    for (int source = 0; source < BOOT_SOURCES && !watch->over; source++)
        line_end(watch, (enum boot_source) source, at_ms);
    if (!watch->over)
        conclude(watch, watch->good_ms >= 0 && watch->fault == BOOT_REASON_NONE
                            ? best_sign(watch)
                            : fault_or_end(watch));
}

/* Nothing followed after the firmware had done its part: what it wrote last makes one picture, and
 * the cursor that blinks there another one. */
static bool is_dead(const struct boot_watch *watch) {
    return watch->marks[BOOT_MARK_FIRMWARE] >= 0 && !watch->spoke && watch->pictures <= 2 &&
           watch->marks[BOOT_MARK_FRAME] < 0 && watch->marks[BOOT_MARK_DHCP] < 0 &&
           before_kernel(watch) && watch->marks[BOOT_MARK_LOADER] < 0;
}

/* The time is over. */
static enum boot_reason judge_late(const struct boot_watch *watch) {
    bool kernel = !before_kernel(watch), loader = watch->marks[BOOT_MARK_LOADER] >= 0;

    if (watch->doubt != BOOT_REASON_NONE)
        return watch->doubt;
    if (watch->marks[BOOT_MARK_DHCP] >= 0 && (kernel || !watch->uefi))
        return BOOT_REASON_DHCP;
    if (kernel || loader)
        return BOOT_REASON_TIME;
    if (is_dead(watch))
        return BOOT_REASON_DEAD_LOADER;
    return watch->spoke            ? BOOT_REASON_TIME
           : watch->screen_ms >= 0 ? BOOT_REASON_SCREEN
                                   : BOOT_REASON_NOTHING;
}

bool boot_watch_over(struct boot_watch *watch, int64_t now_ms) {
    enum { STARTS_MAX = 3 };
    bool all = watch->marks[BOOT_MARK_LOGIN] >= 0 && watch->marks[BOOT_MARK_AGENT] >= 0 &&
               watch->marks[BOOT_MARK_SSH] >= 0;

    if (watch->over)
        return true;
    if (watch->fault != BOOT_REASON_NONE)
        return (now_ms - watch->fault_ms >= patience(watch, LINGER) ||
                now_ms >= watch->timeout_ms) &&
               conclude(watch, watch->fault);
    if (watch->good_ms >= 0)
        return (all || now_ms - watch->good_ms >= patience(watch, GATHER) ||
                now_ms >= watch->timeout_ms) &&
               conclude(watch, best_sign(watch));
    if (watch->starts > STARTS_MAX)
        return conclude(watch, BOOT_REASON_RESTARTS);
    if (watch->doubt != BOOT_REASON_NONE && now_ms - watch->doubt_ms >= patience(watch, GO_ON))
        return conclude(watch, watch->doubt);
    if (is_dead(watch) && now_ms - watch->marks[BOOT_MARK_FIRMWARE] >= patience(watch, GO_ON))
        return conclude(watch, BOOT_REASON_DEAD_LOADER);
    return now_ms >= watch->timeout_ms && conclude(watch, judge_late(watch));
}
