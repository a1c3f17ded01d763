/* SPDX-License-Identifier: Apache-2.0 */
/* Switching disks of a running machine to new heads. QEMU is asked as well as libvirt: when the
 * owner of an embedded driver is killed in between, only QEMU knows where it writes. */
#include "libvirt-private.h"

#include <stdlib.h>
#include <string.h>

#include <libvirt/libvirt-qemu.h>

#include "base/log.h"
#include "base/str.h"

enum { NODE_TRIES = 16 };

static bool run_query(struct lv_call *call, struct im_err *err) {
    if (virDomainQemuMonitorCommand(call->domain, "{\"execute\":\"query-block\"}", &call->out,
                                    VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT) < 0)
        return lv_fail(err, "cannot ask for its disks");
    return true;
}

static bool query(struct virt_driver *driver, const char *name, char **ret_answer,
                  struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;

    if (!lv_call_domain(driver, name, run_query, NULL, NULL, 0, LV_CALL_MS, &call, err))
        return false;
    *ret_answer = im_steal(&call->out);
    return true;
}

/* Nothing lies on top of a head that has just been made: if QEMU has it at all, it writes there.
 * QEMU names files plainly or, in an escaped text, with their options. */
static bool has_file(const char *answer, const char *path) {
    size_t len = strlen(path);

    for (const char *at = answer; (at = strstr(at, path)) != NULL; at += len)
        if (at[len] == '"' || at[len] == '\\')
            return true;
    return false;
}

/* Whether libvirt knows each file that QEMU has, by its name without folders. */
static bool knows_all(const char *xml, const char *answer) {
    static const char *const marks[] = {"\"filename\":\"/", "\\\"filename\\\": \\\"/"};

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        for (const char *at = answer; (at = strstr(at, marks[i])) != NULL;) {
            IM_AUTO(free_auto) char *path = NULL;

            at += strlen(marks[i]) - 1;
            path = im_strndup(at, strcspn(at, "\"\\"));
            if (strstr(xml, strrchr(path, '/')) == NULL)
                return false;
        }
    return true;
}

/* All or nothing, onto our own overlays, and without a trace in libvirt's own list of snapshots:
 * the graph of layers is in our record. */
static bool run_switch(struct lv_call *call, struct im_err *err) {
    virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(
        call->domain, call->text,
        VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
            VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT);

    if (snapshot == NULL)
        return lv_fail(err, "cannot switch its disks");
    virDomainSnapshotFree(snapshot);
    return true;
}

/* A killed owner may have left a node in QEMU whose number libvirt did not write down: each try
 * takes the next number. */
static bool switch_once_more(struct virt_driver *driver, const char *name, const char *snapshot,
                             struct im_err *err) {
    for (int tries = 1;; tries++) {
        struct im_err failed = {0};

        if (lv_call_domain(driver, name, run_switch, snapshot, NULL, 0, LV_CALL_MS, NULL, &failed))
            return true;
        if (strstr(failed.text, "Duplicate nodes with node-name") == NULL || tries == NODE_TRIES) {
            *err = failed;
            return false;
        }
    }
}

/* The heads that are switched to were all taken at once, so one of them tells for all. */
static bool switch_known(struct virt_driver *driver, const char *name, const char *xml,
                         const char *snapshot, const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *before = NULL;
    IM_AUTO(free_auto) char *after = NULL;
    struct im_err failed = {0}, unanswered = {0};

    if (!query(driver, name, &before, err))
        return false;
    if (has_file(before, path)) {
        im_warn("virt", "%s was switched when its owner was killed; libvirt does not know", name);
        return true;
    }
    if (!knows_all(xml, before))
        return im_fail(err, IM_WRONG_STATE,
                       "machine %s writes elsewhere than libvirt knows, since imprintd was killed "
                       "while it was switched; restart it first",
                       name);
    if (switch_once_more(driver, name, snapshot, &failed))
        return true;
    /* Who takes an error for "not switched" removes the file that the machine writes to. */
    if (query(driver, name, &after, &unanswered) && has_file(after, path))
        return true;
    *err = failed;
    return false;
}

bool lv_has_file(struct virt_driver *driver, const char *name, const char *path, bool *ret_has,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *answer = NULL;

    if (!query(driver, name, &answer, err))
        return false;
    *ret_has = has_file(answer, path);
    return true;
}

/* The paths of those disks that are still to be switched, by their place among all. *ret_first is
 * one of them, NULL when there is none. */
static bool choose(const struct lv_disks *disks, const char *name,
                   const struct virt_switch *switches, size_t count, const char **paths,
                   const char **ret_first, struct im_err *err) {
    *ret_first = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t at = lv_disks_find(disks, switches[i].serial);

        if (at == disks->count)
            return im_fail(err, IM_NOT_FOUND, "machine %s has no disk %s", name,
                           switches[i].serial);
        if (im_str_equal(disks->items[at].source, switches[i].path))
            continue; /* done before */
        paths[at] = *ret_first = switches[i].path;
    }
    return true;
}

bool lv_switch_disks(struct virt_driver *driver, const char *name,
                     const struct virt_switch *switches, size_t count, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    IM_AUTO(free_auto) const char **paths = NULL;
    IM_AUTO(free_auto) char *snapshot = NULL;
    const char *first = NULL;

    if (!lv_disks_load(driver, name, &disks, err))
        return false;
    paths = im_alloc((disks.count + 1) * sizeof(*paths));
    if (!choose(&disks, name, switches, count, paths, &first, err))
        return false;
    if (first == NULL)
        return true;
    if (!virt_snapshot_xml(disks.items, paths, disks.count, &snapshot, err))
        return im_within(err, "machine %s", name);
    return driver->test ? switch_once_more(driver, name, snapshot, err)
                        : switch_known(driver, name, disks.xml, snapshot, first, err);
}
