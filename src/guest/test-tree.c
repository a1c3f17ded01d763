/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of the systems that test-families.c lists. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-systems.h"

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

struct disk make_system(const struct entry *const *parts, size_t count) {
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

const struct family *family_named(const char *name) {
    for (size_t i = 0; i < family_count; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}
