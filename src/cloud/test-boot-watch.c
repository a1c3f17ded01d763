/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts on what real machines said (tests/corpus/boot, its folder is the argument), and on what
 * none ever should. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "boot-watch.h"
#include "harness/test.h"

enum { TIMEOUT_MS = 300000, LATE_MS = 60000 };
static const char *folder;

static struct boot_watch watch;

static void begin(bool uefi) { boot_watch_begin(&watch, uefi, TIMEOUT_MS); }

static void say(enum boot_source source, const char *text, int64_t at_ms) {
    boot_watch_text(&watch, source, text, strlen(text), at_ms);
}

/* As it was recorded, in pieces of `piece` bytes. */
static void replay(enum boot_source source, const char *name, size_t piece, int64_t at_ms) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, name);
    IM_AUTO(free_auto) char *text = NULL;
    size_t len = 0;

    check_ok(im_read_file(path, 1 << 20, &text, &len, &err), "a record of it is there");
    for (size_t i = 0; i < len; i += piece)
        boot_watch_text(&watch, source, text + i, len - i < piece ? len - i : piece, at_ms);
}

static void is(enum boot_reason reason, const char *evidence, const char *text) {
    bool good = watch.over && watch.reason == reason && strstr(watch.evidence, evidence) != NULL;

    if (!check(good, text))
        test_note("over %d, reason %s, evidence \"%s\"", watch.over,
                  boot_reasons[watch.reason].code, watch.evidence);
}

/* --- Real machines ---------------------------------------------------------------------------- */

static const struct record {
    const char *name;
    bool uefi;
    enum boot_source source;
    enum boot_reason reason;
    const char *evidence, *text;
} records[] = {
    {"debian", false, BOOT_SERIAL, BOOT_REASON_LOGIN, "", "a Debian that boots"},
    {"debian-uefi", true, BOOT_SERIAL, BOOT_REASON_LOGIN, "", "a Debian that boots with UEFI"},
    {"debian-wrong-root", false, BOOT_SERIAL, BOOT_REASON_NO_ROOT,
     "ALERT!  UUID=deadbeef-d4c8-485d-8fc8-0a9569882a65 does not exist.",
     "root= names a disk that is not there"},
    {"debian-no-initrd", false, BOOT_SERIAL, BOOT_REASON_NO_INITRD,
     "error: file `/initrd.img' not found.", "no initrd"},
    {"debian-no-kernel", false, BOOT_SERIAL, BOOT_REASON_LOADER_ERROR,
     "error: file `/vmlinuz' not found.", "no kernel"},
    {"debian-panic", false, BOOT_SERIAL, BOOT_REASON_PANIC,
     "Kernel panic - not syncing: Attempted to kill init!", "a panic"},
    {"debian-emergency", false, BOOT_SERIAL, BOOT_REASON_EMERGENCY,
     "Dependency failed for data.mount - /data.", "a file system of fstab that is not there"},
    {"bios-empty-disk", false, BOOT_FIRMWARE, BOOT_REASON_NO_LOADER,
     "Boot failed: not a bootable disk", "an empty disk"},
    {"uefi-empty-disk", true, BOOT_SERIAL, BOOT_REASON_NO_LOADER, "BdsDxe: failed to load Boot0001",
     "an empty disk with UEFI"},
    {"debian-no-grub-cfg.screen", false, BOOT_SCREEN, BOOT_REASON_PROMPT, "grub>",
     "GRUB without configuration, on the screen"},
    {"syslinux-no-kernel.screen", false, BOOT_SCREEN, BOOT_REASON_LOADER_ERROR,
     "Loading /vmlinuz failed: No such file or directory", "SYSLINUX without kernel"},
    {"debian.screen", false, BOOT_SCREEN, BOOT_REASON_LOGIN, "", "a login on the screen"},
};

static void real_ones(void) {
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        for (size_t piece = 1; piece <= 4096; piece *= 64) {
            IM_AUTO(free_auto)
            char *text = im_printf("%s, %zu bytes at once", records[i].text, piece);

            begin(records[i].uefi);
            if (!records[i].uefi && records[i].source != BOOT_FIRMWARE)
                replay(BOOT_FIRMWARE, "bios-boots", piece, 2000);
            replay(records[i].source, records[i].name, piece, 100000);
            check(!boot_watch_over(&watch, 100000), "more may be said at once");
            check(boot_watch_over(&watch, 100000 + LATE_MS), "but then it is known");
            is(records[i].reason, records[i].evidence, text);
        }
}

static void time_line(void) {
    begin(false);
    replay(BOOT_FIRMWARE, "bios-boots", 100, 900);
    say(BOOT_SERIAL, "\033[H\033[J  Booting `Debian GNU/Linux'\n\r\n", 1500);
    say(BOOT_SERIAL, "[   41.283776] cloud-init[243]: Cloud-init v. 22.4.2 running\r\n", 45000);
    say(BOOT_SERIAL, "\r\nDebian GNU/Linux 12 localhost ttyS0\r\n\r\nlocalhost ", 60000);
    check(watch.marks[BOOT_MARK_LOGIN] < 0, "a host name is no login yet");
    say(BOOT_SERIAL, "login: ", 61000);
    check(watch.marks[BOOT_MARK_FIRMWARE] == 900 && watch.marks[BOOT_MARK_LOADER] == 1500,
          "the loader follows the firmware");
    check(watch.marks[BOOT_MARK_KERNEL] == 4000, "the kernel says since when it runs");
    check(watch.marks[BOOT_MARK_INIT] == 45000 && watch.marks[BOOT_MARK_LOGIN] == 61000,
          "init, and a login");
    check(watch.marks[BOOT_MARK_DHCP] < 0, "what was not seen is not there");
    boot_watch_mark(&watch, BOOT_MARK_SSH, 62000);
    boot_watch_mark(&watch, BOOT_MARK_AGENT, 63000);
    check(boot_watch_over(&watch, 63000), "with all signs there is nothing to wait for");
    is(BOOT_REASON_LOGIN, "", "it boots");
}

/* --- Signs that are no text ------------------------------------------------------------------- */

static void silent_ones(void) {
    begin(false);
    boot_watch_screen(&watch, 0);
    replay(BOOT_FIRMWARE, "bios-boots", 100, 900);
    boot_watch_screen(&watch, 5000);
    boot_watch_screen(&watch, 15000);
    check(!boot_watch_over(&watch, 50000) && boot_watch_over(&watch, 61000),
          "one waits a while for what a boot sector does");
    is(BOOT_REASON_DEAD_LOADER, "", "it did nothing, although the cursor blinks");

    begin(false);
    replay(BOOT_FIRMWARE, "bios-boots", 100, 900);
    boot_watch_screen(&watch, 5000);
    boot_watch_screen(&watch, 15000);
    boot_watch_screen(&watch, 25000);
    check(!boot_watch_over(&watch, 200000) && boot_watch_over(&watch, TIMEOUT_MS),
          "something is drawn: one waits to the end");
    is(BOOT_REASON_SCREEN, "", "only the screen was seen");

    begin(false);
    check(boot_watch_over(&watch, TIMEOUT_MS), "time ends it");
    is(BOOT_REASON_NOTHING, "", "nothing was seen");

    begin(false);
    replay(BOOT_FIRMWARE, "bios-boots", 100, 900);
    boot_watch_mark(&watch, BOOT_MARK_DHCP, 40000);
    check(!boot_watch_over(&watch, TIMEOUT_MS - 1) && boot_watch_over(&watch, TIMEOUT_MS),
          "a request for an address is no end");
    is(BOOT_REASON_DHCP, "", "but a sign of life in the end");

    begin(true);
    boot_watch_mark(&watch, BOOT_MARK_DHCP, 4000);
    check(boot_watch_over(&watch, TIMEOUT_MS), "time ends it");
    is(BOOT_REASON_NOTHING, "", "UEFI firmware asks for addresses itself");

    begin(false);
    boot_watch_mark(&watch, BOOT_MARK_SSH, 40000);
    check(boot_watch_over(&watch, 40000 + LATE_MS), "SSH is enough");
    is(BOOT_REASON_SSH, "", "it boots");

    begin(false);
    boot_watch_mark(&watch, BOOT_MARK_SSH, 40000);
    say(BOOT_SERIAL, "[   42.0] x\r\n[   42.284000] Kernel panic - not syncing: x\n", 41000);
    check(boot_watch_over(&watch, 41000 + LATE_MS), "a fault after it is seen");
    is(BOOT_REASON_PANIC, "Kernel panic", "it does not");
}

/* --- In doubt --------------------------------------------------------------------------------- */

static void doubts(void) {
    begin(false);
    say(BOOT_SERIAL, "error: no such device: 1234.\r\n", 2000);
    say(BOOT_SERIAL, "[    0.000000] Linux version 6.1\r\n", 4000);
    check(!boot_watch_over(&watch, 100000), "GRUB got over its error");
    say(BOOT_SERIAL, "x login: ", 100000);
    check(boot_watch_over(&watch, 100000 + LATE_MS), "it is up");
    is(BOOT_REASON_LOGIN, "", "it boots");

    begin(false);
    say(BOOT_SERIAL, "error: no such device: 1234.\r\nEntering rescue mode...\r\ngrub rescue> ",
        2000);
    check(boot_watch_over(&watch, 2000 + LATE_MS), "GRUB's rescue mode is certain");
    is(BOOT_REASON_RESCUE, "grub rescue>", "it does not boot");

    begin(false);
    for (int start = 0; start < 5; start++) {
        replay(BOOT_FIRMWARE, "bios-boots", 100, 2000 + start * 10000);
        say(BOOT_SERIAL, "GRUB loading.\r\n", 3000 + start * 10000);
    }
    check(boot_watch_over(&watch, 50000), "it begins again and again");
    is(BOOT_REASON_RESTARTS, "", "it does not boot");

    begin(false);
    say(BOOT_SERIAL, "[    0.000000] Linux version 6.1\r\n[ 10.000000] reboot: Power down\r\n", 9);
    boot_watch_ended(&watch, 10000);
    is(BOOT_REASON_ENDED, "", "it was off before it was up");

    begin(false);
    say(BOOT_SERIAL, "[    0.000000] Linux version 6.1\r\n", 9);
    check(boot_watch_over(&watch, TIMEOUT_MS), "time ends it");
    is(BOOT_REASON_TIME, "", "it was not up in time");

    begin(false);
    say(BOOT_SERIAL, "Last login: yesterday\r\nWelcome to GRUB!\r\n", 9);
    check(watch.marks[BOOT_MARK_LOGIN] < 0 && watch.marks[BOOT_MARK_INIT] < 0,
          "what only looks like it is not taken for it");

    begin(false);
    say(BOOT_SERIAL,
        "[  OK  ] x\r\nWarning: /dev/disk/by-uuid/12 does not exist\r\n"
        "Generating \"/run/initramfs/rdsosreport.txt\"\r\n\r\nEntering emergency mode. Exit the "
        "shell to continue.\r\n",
        9000);
    check(boot_watch_over(&watch, 9000 + LATE_MS), "dracut's shell is certain");
    is(BOOT_REASON_NO_ROOT, "/dev/disk/by-uuid/12 does not exist", "and says what is missing");
}

/* --- Hostile bytes ---------------------------------------------------------------------------- */

static void hostile(void) {
    IM_AUTO(free_auto) char *bytes = im_alloc(1 << 20);
    uint64_t state = 88172645463325252u;

    begin(false);
    for (int round = 0; round < 16; round++) {
        for (size_t i = 0; i < 1 << 20; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[i] = (char) (state >> (round * 4));
        }
        boot_watch_text(&watch, (enum boot_source)(round % BOOT_SOURCES), bytes, 1 << 20, 1000);
    }
    check(watch.marks[BOOT_MARK_LOGIN] < 0, "noise is no login");
    begin(false);
    memset(bytes, 'a', 1 << 20);
    memcpy(bytes + BOOT_LINE_MAX * 3 - 5, "Kernel panic - not syncing", 26);
    boot_watch_text(&watch, BOOT_SERIAL, bytes, 1 << 20, 1000);
    boot_watch_text(&watch, BOOT_SERIAL, "\n", 1, 1000);
    check(boot_watch_over(&watch, 1000 + LATE_MS), "a line without end is looked through");
    is(BOOT_REASON_PANIC, "", "also where it is cut");
    check(strlen(watch.evidence) < BOOT_EVIDENCE, "and what is kept of it is short");
}

static void tables(void) {
    for (size_t i = 1; i < BOOT_REASONS; i++) {
        check(boot_reasons[i].verdict != BOOT_NONE && boot_reasons[i].text[0] != '\0',
              boot_reasons[i].code);
        for (size_t k = 0; k < i; k++)
            check(strcmp(boot_reasons[i].code, boot_reasons[k].code) != 0, "codes differ");
    }
}

/* The manual names the same reasons and marks. */
static void manual(const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    const char *section;

    check_ok(im_read_file(path, 1 << 20, &text, NULL, &err), "the manual is there");
    section = text != NULL ? strstr(text, ".Sh BOOT TESTS") : NULL;
    check(section != NULL, "and has a section on boot tests");
    for (size_t i = 1; section != NULL && i < BOOT_REASONS; i++) {
        IM_AUTO(free_auto) char *item = im_printf(".It Li %s\n", boot_reasons[i].code);

        check(strstr(section, item) != NULL, "which knows the reason %s", boot_reasons[i].code);
    }
    for (size_t i = 0; section != NULL && i < BOOT_MARKS; i++)
        check(strstr(section, boot_mark_word((enum boot_mark) i)) != NULL, "and the mark %s",
              boot_mark_word((enum boot_mark) i));
}

int main(int argc, char **argv) {
    folder = argc > 1 ? argv[1] : ".";
    manual(argc > 2 ? argv[2] : "imprint-api.7");
    real_ones();
    time_line();
    silent_ones();
    doubts();
    hostile();
    tables();
    return test_end();
}
