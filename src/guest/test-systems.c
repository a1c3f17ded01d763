/* SPDX-License-Identifier: Apache-2.0 */
/* Systems of the families that there are, as their makers' cloud images have them: none of these
 * has anything wrong with it. Then each with one defect, which is found, and nothing else. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-disk.h"
#include "test-systems.h"

/* --- Trees ------------------------------------------------------------------------------------ */

/* All folders on the way to it. */
static void make_folders(const char *path) {
    IM_AUTO(free_auto) char *copy = im_strdup(path);

    for (char *at = strchr(copy + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void) mkdir(copy, 0755);
        *at = '/';
    }
}

static void put(const char *top, const struct entry *entry) {
    IM_AUTO(free_auto) char *path = im_printf("%s%s", top, entry->path);
    FILE *file;

    make_folders(path);
    (void) unlink(path);
    if (entry->text == NULL || im_ends_with(path, "/"))
        return;
    if (im_starts_with(entry->text, LINK)) {
        if (symlink(entry->text + strlen(LINK), path) < 0)
            check(false, "%s cannot be linked", path);
        return;
    }
    file = fopen(path, "we");
    if (file == NULL || fputs(entry->text, file) < 0)
        check(false, "%s cannot be written", path);
    if (file != NULL)
        (void) fclose(file);
}

static struct disk make_system(const struct entry *const *parts, size_t count) {
    static const char script[] =
        "PATH=$PATH:/sbin; if [ -x r/make ]; then (cd r; sh ./make; rm make); fi; "
        "truncate -s 64M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; "
        "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; rm -f part; "
        "truncate -s 63M part; mkfs.ext4 -qF -L root -U " ROOT_UUID " -d r part; "
        "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null; rm -r part r";
    IM_AUTO(free_auto) char *top = im_printf("%s/r", test_folder());
    IM_AUTO(free_auto) char *make = im_printf("%s/make", top);

    for (size_t i = 0; i < count; i++)
        for (const struct entry *entry = parts[i]; entry != NULL && entry->path != NULL; entry++)
            put(top, entry);
    (void) chmod(make, 0755);
    return make_disk(script);
}

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

static const struct family *family_named(const char *name) {
    for (size_t i = 0; i < family_count; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

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

int main(void) {
    for (size_t i = 0; i < family_count; i++)
        test_family(&families[i]);
    for (size_t i = 0; i < defect_count; i++)
        test_defect(&defects[i]);
    return test_end();
}
