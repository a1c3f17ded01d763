/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at disks with a Windows: which it is, and each defect one by one. */
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"
#include "registry.h"
#include "test-folder.h"
#include "test-ntfs-disk.h"

static const char *hives; /* make-hive.py */

/* --- Disks ------------------------------------------------------------------------------------ */

#define PUT(at) "dd if=windows of=$D bs=1M seek=" at " conv=notrunc,sparse 2>/dev/null; "
/* With a BIOS: boot code, and an active partition. */
#define BIOS_WITH(extra, then)                                                                     \
    "truncate -s " extra " $D; printf 'label: dos\\n2048,,7,*\\n' | sfdisk -q $D; "                \
    "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; " WINDOWS_TREE("63M", then) PUT("1")
#define BIOS(then) BIOS_WITH("65M", then)
/* What Windows' own boot code says, which is on GPT disks as well. */
#define MICROSOFT_CODE                                                                             \
    "printf '\\063\\300Invalid partition table\\0Error loading operating system\\0Missing "        \
    "operating system' | dd of=$D conv=notrunc 2>/dev/null; "
#define UEFI(then)                                                                                 \
    "truncate -s 120M $D; sgdisk -n 1::+40M -t 1:ef00 -n 2::+1M -t 2:0c01 -n 3:: -t 3:0700 "       \
    "$D; " MICROSOFT_CODE "mformat -i $D@@1M -F -T 81920 ::; mmd -i $D@@1M ::/EFI ::/EFI/Boot "    \
    "::/EFI/Microsoft ::/EFI/Microsoft/Boot; echo x >x; for f in Boot/bootx64.efi "                \
    "Microsoft/Boot/bootmgfw.efi Microsoft/Boot/BCD; do mcopy -i $D@@1M x ::/EFI/$f; "             \
    "done; " WINDOWS_TREE("63M", then) PUT("42")
/* Another Windows. */
#define SAYS(key, value) "sed -i 's/\\t" key "\\t.*/\\t" key "\\t" value "/' software; "
#define SERVER(name, build)                                                                        \
    "rm w/bootmgr w/Boot/BCD; " SAYS("ProductName", "\"" name "\"")                                \
        SAYS("CurrentBuildNumber", "\"" build "\"") SAYS("InstallationType", "\"Server\"") ":"

static struct disk make(const char *script) {
    IM_AUTO(free_auto) char *text = im_printf("K='%s'; PATH=$PATH:/sbin; %s", hives, script);

    return make_disk(text);
}

/* --- Which one -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *script, *os, *version, *osinfo;
    bool bios;
} systems[] = {
    {"Windows 10", BIOS(":"), "Windows 10 Pro 22H2", "10.0.19045", "win10", true},
    {"Windows 11",
     UEFI(SAYS("CurrentBuildNumber", "\"22631\"") SAYS("DisplayVersion", "\"23H2\"") ":"),
     "Windows 11 Pro 23H2", "10.0.22631", "win11", false},
    {"Windows Server 2019",
     UEFI(SERVER("Windows Server 2019 Standard", "17763") "; sed -i "
                                                          "\"/DisplayVersion/d\" software"),
     "Windows Server 2019 Standard", "10.0.17763", "win2k19", false},
    {"Windows Server 2022", UEFI(SERVER("Windows Server 2022 Datacenter", "20348")),
     "Windows Server 2022 Datacenter 22H2", "10.0.20348", "win2k22", false},
    {"Windows Server 2025", UEFI(SERVER("Windows Server 2025 Standard", "26100")),
     "Windows Server 2025 Standard 22H2", "10.0.26100", "win2k25", false},
    {"Windows 7",
     BIOS("sed -i '/NumberX*\\t1*0$/d; /DisplayVersion/d' software; " SAYS("ProductName",
                                                                           "\"Windows 7 Ultimate\"")
              SAYS("CurrentVersion", "\"6.1\"") SAYS("CurrentBuildNumber", "\"7601\"") ":"),
     "Windows 7 Ultimate", "6.1.7601", "win7", true},
    {"the second set of controls",
     BIOS("sed -i 's/^Select.*/Select\\tCurrent\\t3/; "
          "s/^ControlSet001/ControlSet003/' system"),
     "Windows 10 Pro 22H2", "10.0.19045", "win10", true},
};

static void test_systems(void) {
    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        struct disk disk = make(systems[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        const struct guest_os *os;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        os = &found->os;
        codes = codes_of(found);
        check(codes[0] == '\0', "%s: nothing is wrong [%s]", systems[i].name, codes);
        check(strcmp(os->name, systems[i].os) == 0 &&
                  strcmp(os->version, systems[i].version) == 0 &&
                  strcmp(os->osinfo, systems[i].osinfo) == 0,
              "%s: is called %s, %s, %s", systems[i].name, os->name, os->version, os->osinfo);
        check(strcmp(os->id, "windows") == 0 && strcmp(os->platform, "windows") == 0 &&
                  strcmp(os->user, "Administrator") == 0 && strcmp(os->ui, "gui") == 0 &&
                  strcmp(os->architecture, "x86_64") == 0 && strcmp(os->processor, "64bit") == 0 &&
                  strcmp(os->hostname, "win-1") == 0,
              "%s: on %s, %s, host %s", systems[i].name, os->root, os->architecture, os->hostname);
        check(found->bios == systems[i].bios && found->uefi == !systems[i].bios,
              "%s: starts with %s", systems[i].name, systems[i].bios ? "BIOS" : "UEFI");
        check(found->read_bytes < 2 * MIB, "%s: %u KiB are read", systems[i].name,
              (unsigned) (found->read_bytes >> 10));
        drop_disk(&disk);
    }
}

/* --- One defect at a time --------------------------------------------------------------------- */

static const struct {
    const char *name, *script, *codes, *words;
} defects[] = {
    {"no driver of virtio disks", BIOS("sed -i '/viostor/d' system"), "driver.viostor",
     "INACCESSIBLE_BOOT_DEVICE"},
    {"a driver that is not started at boot",
     BIOS("sed -i 's/viostor\\tStart\\t0/viostor\\tStart\\t3/' system"), "driver.viostor",
     "Start is 3"},
    {"a driver whose file is gone", BIOS("rm w/Windows/System32/drivers/viostor.sys"),
     "driver.viostor", "/Windows/System32/drivers/viostor.sys, does not exist"},
    {"a driver where Windows keeps packages of them",
     BIOS("mkdir -p w/Windows/System32/DriverStore/x; "
          "mv w/Windows/System32/drivers/viostor.sys w/Windows/System32/DriverStore/x/; "
          "sed -i 's/.SystemRoot.System32.drivers/System32\\\\DriverStore\\\\x/' system"),
     "", NULL},
    {"no driver of virtio network cards", BIOS("sed -i '/netkvm/d' system"), "driver.netkvm",
     "no driver"},
    {"a driver of network cards that is off",
     BIOS("sed -i 's/netkvm\\tStart\\t3/netkvm\\tStart\\t4/' system"), "driver.netkvm",
     "switched off"},
    {"no cloudbase-init and no agent", BIOS("sed -i '/cloudbase/d; /QEMU-GA/d' system"),
     "os.no_cloudbase os.no_agent", NULL},
    {"no boot manager", BIOS("rm w/bootmgr"), "boot.manager", "\\bootmgr"},
    {"no boot configuration", BIOS("rm w/Boot/BCD"), "boot.bcd", "\\Boot\\BCD"},
    {"no boot manager for UEFI", UEFI(":") "mdel -i $D@@1M ::/EFI/Microsoft/Boot/bootmgfw.efi",
     "boot.manager", "bootmgfw.efi"},
    {"no boot configuration for UEFI", UEFI(":") "mdel -i $D@@1M ::/EFI/Microsoft/Boot/BCD",
     "boot.bcd", "\\EFI\\Microsoft\\Boot\\BCD"},
    {"hibernated", BIOS("printf hibr >w/hiberfil.sys"), "filesystem.hibernated", "fast startup"},
    {"a registry that is damaged",
     BIOS(":")
         NTFS_MOUNT("windows") "printf x | dd of=m/Windows/System32/config/SYSTEM conv=notrunc "
                               "2>/dev/null; " NTFS_UNMOUNT PUT("1"),
     "windows.registry", "SYSTEM on /dev/vda1 is damaged"},
    {"a registry whose root is lost",
     BIOS(":") NTFS_MOUNT("windows") "printf '\\377\\377\\377\\177' | dd "
                                     "of=m/Windows/System32/config/SOFTWARE bs=1 seek=36 "
                                     "conv=notrunc 2>/dev/null; " NTFS_UNMOUNT PUT("1"),
     "windows.registry", "SOFTWARE on /dev/vda1 is damaged"},
    {"a registry that is packed as system files may be",
     BIOS(":") NTFS_MOUNT(
         "windows") "python3 -c 'import os; os.setxattr(\"m/Windows/System32/config/"
                    "SOFTWARE\", \"system.ntfs_reparse_data\", bytes.fromhex("
                    "\"17000080100000000100000002000000\" \"0100000000000000\"))'; " NTFS_UNMOUNT
                        PUT("1"),
     "windows.registry", "WOF"},
    {"hardly any room",
     BIOS(":") NTFS_MOUNT(
         "windows") "dd if=/dev/zero of=m/filler bs=64k 2>/dev/null || :; " NTFS_UNMOUNT PUT("1"),
     "filesystem.full", NULL},
};

static void test_defects(void) {
    for (size_t i = 0; i < sizeof(defects) / sizeof(defects[0]); i++) {
        struct disk disk = make(defects[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        bool told = defects[i].words == NULL;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        for (size_t j = 0; j < found->finding_count; j++)
            told |= !told && strstr(found->findings[j].text, defects[i].words) != NULL;
        if (!check(strcmp(codes, defects[i].codes) == 0 && told, "%s: finds [%s]", defects[i].name,
                   codes))
            for (size_t j = 0; j < found->finding_count; j++)
                test_note("%s", found->findings[j].text);
        drop_disk(&disk);
    }
}

/* --- Hives ------------------------------------------------------------------------------------ */

/* What hivexsh, which shares nothing with our reader, has written is read. */
#define BY_HIVEX                                                                                   \
    "hivexsh -w hive <<'END' >/dev/null\nadd Select\ncd Select\nsetval 2\nCurrent\ndword:7\n"      \
    "Name\nstring:caf\nadd Above\nadd Below\ncd Below\nadd x\ncommit\nEND\n"

static void check_hive(struct opened *opened, const char *name) {
    struct hive hive;
    const char *why = hive_open(&opened->tree, "/hive", &hive);
    uint32_t number = 0, key;
    char text[8] = "";

    if (!check(why == NULL, "%s: can be opened", name))
        return;
    key = hive_key(&hive, hive.root, "sElect");
    check(hive_number(&hive, key, "CURRENT", &number) && number == 7 &&
              hive_text(&hive, key, "Name", text, sizeof(text)) && strcmp(text, "caf") == 0,
          "%s: has the values", name);
    check(hive_key(&hive, key, "Below\\X") != HIVE_NOWHERE &&
              hive_key(&hive, key, "Below\\y") == HIVE_NOWHERE &&
              hive_key(&hive, hive.root, "Selec") == HIVE_NOWHERE &&
              !hive_text(&hive, key, "Current", text, sizeof(text)) &&
              !hive_number(&hive, key, "Name", &number),
          "%s: and no other keys and values", name);
}

static void test_hives(void) {
    static const char *const kinds[] = {"lf", "lh", "li", "ri", "hivex"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        IM_AUTO(free_auto)
        char *script = im_printf(
            "K='%s'; cat >values <<'END'\nAnother\nMore\nZ\n%sEND\npython3 $K hive %s <values; %s"
            "truncate -s 20M $D; mkntfs -qF $D 2>/dev/null; ntfscp -f $D hive hive 2>/dev/null",
            hives,
            i < 4 ? "Select\tCurrent\t7\nSelect\tName\t\"caf\"\nSelect\\Below\\x\nSelect\\Above\n"
                  : "",
            i < 4 ? kinds[i] : "lf", i < 4 ? "" : BY_HIVEX);
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(script, kinds[i]);

        if (opened != NULL)
            check_hive(opened, kinds[i]);
    }
}

static bool can_write(void) {
    bool can = access("/dev/fuse", R_OK | W_OK) == 0 &&
               run("exec >/dev/null 2>&1; rm -f t.img; " NTFS_MAKE("t.img", "20M", "")
                       NTFS_MOUNT("t.img") NTFS_UNMOUNT,
                   "");

    if (!can)
        test_note("ntfs-3g cannot mount here: systems are left out");
    return can;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    maker = hives = argv[1];
    test_hives();
    if (!can_write())
        return test_end();
    test_systems();
    test_defects();
    return test_end();
}
