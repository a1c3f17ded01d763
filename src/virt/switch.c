/* SPDX-License-Identifier: Apache-2.0 */
/* Switching a running machine's disk to a new head. QEMU is asked as well as libvirt: when the
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

/* Only that disk, all or nothing, onto our own overlay, and without a trace in libvirt's own list
 * of snapshots: the graph of layers is in our record. */
static bool run_switch(struct lv_call *call, struct im_err *err) {
    virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(
        call->domain, call->text,
        VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
            VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT);

    if (snapshot == NULL)
        return lv_fail(err, "cannot switch the disk to %s", call->more);
    virDomainSnapshotFree(snapshot);
    return true;
}

/* A killed owner may have left a node in QEMU whose number libvirt did not write down: each try
 * takes the next number. */
static bool switch_once_more(struct virt_driver *driver, const char *name, const char *snapshot,
                             const char *path, struct im_err *err) {
    for (int tries = 1;; tries++) {
        struct im_err failed = {0};

        if (lv_call_domain(driver, name, run_switch, snapshot, path, 0, LV_CALL_MS, NULL, &failed))
            return true;
        if (strstr(failed.text, "Duplicate nodes with node-name") == NULL || tries == NODE_TRIES) {
            *err = failed;
            return false;
        }
    }
}

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
    if (switch_once_more(driver, name, snapshot, path, &failed))
        return true;
    /* Who takes an error for "not switched" removes the file that the machine writes to. */
    if (query(driver, name, &after, &unanswered) && has_file(after, path))
        return true;
    *err = failed;
    return false;
}

bool lv_switch_disk(struct virt_driver *driver, const char *name, const char *serial,
                    const char *path, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = lv_domain(driver, name, err);
    IM_AUTO(free_auto) char *xml = domain ? virDomainGetXMLDesc(domain, 0) : NULL;
    IM_AUTO(free_auto) char *target = NULL;
    IM_AUTO(free_auto) char *source = NULL;
    IM_AUTO(free_auto) char *snapshot = NULL;
    size_t count;

    if (domain == NULL)
        return false;
    if (xml == NULL)
        return lv_fail(err, "machine %s", name);
    if (!virt_xml_find_disk(xml, serial, &count, &target, &source) || target == NULL)
        return im_fail(err, IM_NOT_FOUND, "machine %s has no disk %s", name, serial);
    if (im_str_equal(source, path))
        return true; /* done before */
    if (!virt_snapshot_xml(target, count, path, &snapshot, err))
        return im_within(err, "machine %s", name);
    return driver->test ? switch_once_more(driver, name, snapshot, path, err)
                        : switch_known(driver, name, xml, snapshot, path, err);
}
