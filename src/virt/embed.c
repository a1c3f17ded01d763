/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of an embedded driver, qemu:///embed?root=FOLDER: what makes it work beside no daemon.
 */
#include "libvirt-private.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define OURS "# Written by imprintd at each start. A file without this line is yours and stays.\n"

/* Owned; NULL without an absolute root. */
char *lv_embed_root(const char *uri) {
    const char *at = strstr(uri, "root=");

    if (at == NULL || at[5] != '/')
        return NULL;
    return im_strndup(at + 5, strcspn(at + 5, "&"));
}

/* QEMU's output goes to files (there is no virtlogd), no private /dev (needs mount rights), no
 * owner kept in attributes, no security module that wants its own daemon. */
static bool write_conf(const char *path, const struct passwd *user, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str text = {0};
    const struct group *group = user ? getgrgid(user->pw_gid) : NULL;

    im_str_add(&text, OURS "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n"
                           "namespaces = []\nremember_owner = 0\n");
    if (user != NULL && group == NULL)
        return im_fail(err, IM_UNSUPPORTED, "the group of user %s does not exist", user->pw_name);
    if (user != NULL)
        im_str_addf(&text, "user = \"%s\"\ngroup = \"%s\"\n", user->pw_name, group->gr_name);
    return im_write_file(path, text.data, text.len, 0644, err);
}

/* Where /dev/kvm opens for root but not for the machines' user, libvirt (9.0) finds at each look
 * that what it knows of QEMU is out of date: it asks QEMU with root's rights and compares with the
 * user's. Starts then take a minute. A QEMU that cannot open it when asked either ends that. */
static bool write_emulator(struct virt_driver *driver, const char *root, struct im_err *err) {
    static const char script[] = "#!/bin/sh\n"
                                 "# QEMU without the right to open what its user may not.\n"
                                 "exec setpriv --inh-caps=-all --ambient-caps=-all "
                                 "/usr/bin/qemu-system-x86_64 \"$@\"\n";
    IM_AUTO(free_auto) char *folder = im_printf("%s/bin", root);
    IM_AUTO(free_auto) char *path = im_printf("%s/qemu-system-x86_64", folder);

    if (!im_make_dirs(folder, 0711, err) || !im_write_file(path, script, strlen(script), 0755, err))
        return false;
    driver->emulator = im_steal(&path);
    return true;
}

static bool prepare(struct virt_driver *driver, const char *run_as, const char *root,
                    struct im_err *err) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/etc", root);
    IM_AUTO(free_auto) char *path = im_printf("%s/qemu.conf", folder);
    IM_AUTO(free_auto) char *old = NULL;
    const struct passwd *user = NULL;
    struct im_err ignored = {0};
    struct stat st;

    if (!im_make_dirs(folder, 0711, err))
        return false;
    if (stat(path, &st) == 0 &&
        (!im_read_file(path, 1 << 20, &old, NULL, &ignored) || !im_starts_with(old, OURS)))
        return true; /* whom machines run as is for libvirt to tell, then */
    if (geteuid() == 0) {
        user = getpwnam(im_str_empty(run_as) ? "root" : run_as);
        if (user == NULL)
            return im_fail(err, IM_UNSUPPORTED, "there is no user %s to run machines as", run_as);
    }
    driver->user = user ? user->pw_uid : geteuid();
    driver->user_known = true;
    if (!write_conf(path, user, err))
        return false;
    return driver->user == geteuid() || virt_kvm_opens(driver->user) || !virt_kvm_opens(0) ||
           write_emulator(driver, root, err);
}

bool lv_embed_prepare(struct virt_driver *driver, const char *run_as, struct im_err *err) {
    IM_AUTO(free_auto) char *root = lv_embed_root(driver->uri);

    if (root == NULL)
        return im_fail(err, IM_UNSUPPORTED, "%s: an embedded libvirt needs ?root=/folder",
                       driver->uri);
    lv_embed_recover(driver, root);
    return prepare(driver, run_as, root, err) || im_within(err, "%s", driver->uri);
}
