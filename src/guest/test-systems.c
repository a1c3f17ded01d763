/* SPDX-License-Identifier: Apache-2.0 */
/* Systems of the families that there are, as their makers' cloud images have them: none of these
 * has anything wrong with it. Then each with one defect, which is found, and nothing else. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-disk.h"
#include "test-systems.h"

/* Of the families' own weight: what no machine is refused or blamed for. */
static char *blame_of(const struct guest_inspection *found) {
    struct im_str text = {0};

    for (size_t i = 0; i < found->finding_count; i++)
        if (found->findings[i].severity != GUEST_INFO)
            im_str_addf(&text, "%s%s", text.len > 0 ? " " : "", found->findings[i].code);
    return im_str_take(&text);
}

static void tell(const struct guest_inspection *found) {
    for (size_t i = 0; i < found->finding_count; i++)
        test_note("%s: %s", found->findings[i].code, found->findings[i].text);
}

/* --- As they come ----------------------------------------------------------------------------- */

static void test_family(const struct family *family) {
    struct disk disk = make_system(&family->entries, 1);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *blame = NULL;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    blame = blame_of(found);
    if (!check(blame[0] == '\0', "%s as it comes: nothing is wrong [%s]", family->name, blame))
        tell(found);
    check(strcmp(found->os.osinfo, family->osinfo) == 0 &&
              strcmp(found->os.init, family->init) == 0 &&
              strcmp(found->os.ui, family->desktop ? "gui" : "tui") == 0 &&
              found->os.packages == family->packages,
          "%s: %s, %s, %s, %u packages", family->name, found->os.osinfo, found->os.init,
          found->os.ui, found->os.packages);
    drop_disk(&disk);
}

/* --- One defect at a time --------------------------------------------------------------------- */

static void test_defect(const struct defect *defect) {
    const struct family *family = family_named(defect->family);
    const struct entry *const parts[] = {family->entries, defect->entries};
    struct disk disk = make_system(parts, 2);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *codes = NULL;
    bool told = false;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    codes = defect->all ? codes_of(found) : blame_of(found);
    for (size_t i = 0; i < found->finding_count; i++)
        told |= defect->words == NULL || strstr(found->findings[i].text, defect->words) != NULL;
    if (!check(strcmp(codes, defect->codes) == 0 && (told || defect->codes[0] == '\0'),
               "%s, %s: finds [%s]", family->name, defect->name, codes))
        tell(found);
    drop_disk(&disk);
}

/* --- Harm ------------------------------------------------------------------------------------- */

/* Nothing but our own readers stands between these and the host: what follows them there tells the
 * secret. The scripts run within the folder that becomes the disk; $S is the secret's file. */
#define SECRET "the-secret-of-the-host"
#define RELEASE "rm -f etc/os-release usr/lib/os-release; "
static const struct {
    const char *name, *script;
    bool system; /* it is still one */
} harms[] = {
    {"a release that is a link to a file of the host", RELEASE "ln -s $S etc/os-release", false},
    {"the same, climbing", RELEASE "ln -s ../../../../../../../../../..$S etc/os-release", false},
    {"a release that is a link to /proc", RELEASE "ln -s /proc/self/environ etc/os-release", false},
    {"a release that is a pipe", RELEASE "mkfifo etc/os-release", false},
    {"a release that is a device", RELEASE "mknod etc/os-release c 1 5", false},
    {"a release that is a folder", RELEASE "mkdir etc/os-release", false},
    {"a release that is a link to itself", RELEASE "ln -s os-release etc/os-release", false},
    {"a folder that is a link to itself", "rm -rf etc; ln -s etc etc", true},
    {"links in a ring", "rm -f etc/fstab; ln -s a etc/fstab; ln -s b etc/a; ln -s a etc/b", true},
    {"a host name that is a link to a file of the host", "ln -sf $S etc/hostname", true},
    {"a host name that is a link through many folders",
     "ln -sf ./$(printf 'x/../%.0s' $(seq 150))hostname etc/hostname", true},
    {"an fstab of 40 MiB", "yes '/dev/sda1 / ext4 defaults 0 1' | head -c 40M >etc/fstab", true},
    {"a menu that includes itself",
     "mkdir -p boot/grub; echo source /boot/grub/grub.cfg >boot/grub/grub.cfg", true},
    {"a menu of a million entries",
     "mkdir -p boot/grub; yes 'menuentry x { linux /x' | head -c 20M >boot/grub/grub.cfg", true},
    {"YAML that is nested deep",
     "mkdir -p etc/netplan; yes '[' | head -c 60000 | tr -d '\\n' >etc/netplan/1.yaml", true},
    {"YAML that stands for more than it is",
     "mkdir -p etc/netplan; (echo 'a0: &a0 [x, x]'; for i in $(seq 40); do echo \"a$i: &a$i "
     "[*a$((i - 1)), *a$((i - 1))]\"; done) >etc/netplan/1.yaml",
     true},
    {"files without number",
     "mkdir -p etc/netplan; for i in $(seq 900); do : >etc/netplan/$i.yaml; done", true},
};

static bool tells_secret(const struct guest_inspection *found) {
    bool told = strstr(found->os.name, SECRET) != NULL || strstr(found->os.id, SECRET) != NULL ||
                strstr(found->os.hostname, SECRET) != NULL;

    for (size_t i = 0; i < found->finding_count; i++)
        told |= strstr(found->findings[i].text, SECRET) != NULL;
    return told;
}

static void test_harm(size_t which, const char *secret) {
    IM_AUTO(free_auto)
    char *script = im_printf("S='%s'\n%s\n", secret, harms[which].script);
    const struct entry harm[] = {{"/make-more", script}, {NULL, NULL}};
    const struct entry *const parts[] = {family_named("Debian 12")->entries, harm};
    struct disk disk = make_system(parts, 2);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    check(found->read_bytes < 16 * MIB && (found->os.id[0] != '\0') == harms[which].system,
          "%s: %llu KiB are read, %s", harms[which].name,
          (unsigned long long) found->read_bytes >> 10,
          found->os.id[0] != '\0' ? found->os.id : "no system");
    check(!tells_secret(found), "%s: the secret of the host is kept", harms[which].name);
    drop_disk(&disk);
}

static void test_harms(void) {
    IM_AUTO(free_auto) char *secret = im_printf("%s/secret", test_folder());
    const char *text = "ID=" SECRET "\nPRETTY_NAME=" SECRET "\n";
    struct im_err err = {0};

    if (!im_write_file(secret, text, strlen(text), 0644, &err))
        check(false, "%s", err.text);
    for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++)
        test_harm(i, secret);
}

int main(void) {
    test_harms();
    for (size_t i = 0; i < family_count; i++)
        test_family(&families[i]);
    for (size_t i = 0; i < defect_count; i++)
        test_defect(&defects[i]);
    return test_end();
}
