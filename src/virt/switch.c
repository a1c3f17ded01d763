/* SPDX-License-Identifier: Apache-2.0 */
/* Switching disks of a running machine to new heads. QEMU is asked as well as libvirt: when the
 * owner of an embedded driver is killed in between, only QEMU knows where it writes. */
#include "libvirt-private.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libvirt/libvirt-qemu.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/str.h"

IM_DEFINE_AUTO(json_t *, json_decref)

enum { NODE_TRIES = 16, TRUSTED_MAX = 1000 };

static bool run_query(struct lv_call *call, struct im_err *err) {
    if (virDomainQemuMonitorCommand(call->domain, call->text, &call->out,
                                    VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT) < 0)
        return lv_fail(err, "cannot ask for its disks");
    return true;
}

bool lv_monitor(struct virt_driver *driver, const char *name, const char *question,
                char **ret_answer, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;

    if (!lv_call_domain(driver, name, run_query, question, NULL, 0, LV_CALL_MS, &call, err))
        return false;
    *ret_answer = im_steal(&call->out);
    return true;
}

/* --- QEMU's answers --------------------------------------------------------------------------- */

json_t *lv_monitor_list(struct virt_driver *driver, const char *name, const char *question,
                        struct im_err *err) {
    IM_AUTO(free_auto) char *answer = NULL;
    IM_AUTO(json_decref_auto) json_t *root = NULL;
    json_t *list;

    if (!lv_monitor(driver, name, question, &answer, err))
        return NULL;
    root = json_loads(answer, 0, NULL);
    list = json_object_get(root, "return");
    if (json_is_array(list))
        return json_incref(list);
    im_fail(err, IM_INTERNAL, "machine %s: QEMU's answer cannot be read", name);
    return NULL;
}

/* The nodes that hold the files below those that the machine's disks stand on, as libvirt names
 * them: libvirt-3-format is the disk, libvirt-3-storage its file. */
static void storage_nodes(json_t *disks, struct im_strings *ret_nodes) {
    static const char format[] = "-format";
    json_t *disk;
    size_t i;

    json_array_foreach(disks, i, disk) {
        const char *node =
            json_string_value(json_object_get(json_object_get(disk, "inserted"), "node-name"));
        IM_AUTO(free_auto) char *storage = NULL;

        if (node == NULL || !im_ends_with(node, format))
            continue;
        storage = im_printf("%.*s-storage", (int) (strlen(node) - strlen(format)), node);
        im_strings_add(ret_nodes, storage);
    }
}

/* The files that the machine writes to, not those below them. QEMU's own name for a disk has its
 * whole chain in it, is cut off at 4095 bytes and has the head last: the nodes are asked one by
 * one. A node that was made for a switch which never came stands below no disk. */
static bool heads(struct virt_driver *driver, const char *name, struct im_strings *ret_paths,
                  struct im_err *err) {
    IM_AUTO(json_decref_auto)
    json_t *disks = lv_monitor_list(driver, name, "{\"execute\":\"query-block\"}", err);
    IM_AUTO(json_decref_auto) json_t *nodes = NULL;
    IM_AUTO(im_strings_done) struct im_strings wanted = {0};
    json_t *node;
    size_t i;

    if (disks != NULL)
        nodes = lv_monitor_list(
            driver, name, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}",
            err);
    if (nodes == NULL)
        return false;
    storage_nodes(disks, &wanted);
    json_array_foreach(nodes, i, node) {
        const char *node_name = json_string_value(json_object_get(node, "node-name"));
        const char *file = json_string_value(json_object_get(node, "file"));

        if (node_name != NULL && file != NULL && im_strings_has(&wanted, node_name))
            im_strings_add(ret_paths, file);
    }
    return ret_paths->count == wanted.count ||
           im_fail(err, IM_INTERNAL, "machine %s: QEMU does not tell where it writes", name);
}

/* Whether libvirt knows each of them, by its name without folders. */
static bool knows_all(const char *xml, const struct im_strings *paths) {
    for (size_t i = 0; i < paths->count; i++) {
        const char *slash = strrchr(paths->items[i], '/');

        if (strstr(xml, slash ? slash : paths->items[i]) == NULL)
            return false;
    }
    return true;
}

/* --- Switching -------------------------------------------------------------------------------- */

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

/* A killed owner may have left nodes in QEMU: libvirt did not write their numbers down, and takes
 * the next one at each try; and one that has the head open already keeps it locked. */
static bool switch_once_more(struct virt_driver *driver, const char *name, const char *snapshot,
                             struct im_err *err) {
    bool swept = false;

    for (int tries = 1;; tries++) {
        struct im_err failed = {0};
        bool taken, locked;

        if (lv_call_domain(driver, name, run_switch, snapshot, NULL, 0, LV_CALL_MS, NULL, &failed))
            return true;
        taken = strstr(failed.text, "Duplicate nodes with node-name") != NULL;
        locked = strstr(failed.text, "Failed to get \"write\" lock") != NULL && !swept;
        if ((!taken && !locked) || tries == NODE_TRIES) {
            *err = failed;
            return false;
        }
        if (locked && !lv_sweep_nodes(driver, name, err))
            return false;
        swept = swept || locked;
    }
}

/* QEMU's answers grow with the square of the chain's length, so it is asked once for each machine:
 * after that, libvirt has seen all that we do, until something fails. */
static bool is_trusted(struct virt_driver *driver, const char *name) {
    bool trusted;

    pthread_mutex_lock(&driver->trust_lock);
    trusted = im_strings_has(&driver->trusted, name);
    pthread_mutex_unlock(&driver->trust_lock);
    return trusted;
}

static void trust(struct virt_driver *driver, const char *name, bool trusted) {
    pthread_mutex_lock(&driver->trust_lock);
    if (!trusted || driver->trusted.count == TRUSTED_MAX)
        im_strings_done(&driver->trusted);
    if (trusted && !im_strings_has(&driver->trusted, name))
        im_strings_add(&driver->trusted, name);
    pthread_mutex_unlock(&driver->trust_lock);
}

/* Whether libvirt knows where the machine writes; *ret_done: that is where it is to write. The
 * heads that are switched to were all taken at once, so one of them tells for all. */
static bool look_first(struct virt_driver *driver, const char *name, const char *xml,
                       const char *path, bool *ret_done, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings before = {0};

    if (!heads(driver, name, &before, err))
        return false;
    *ret_done = im_strings_has(&before, path);
    if (*ret_done)
        im_warn("virt", "%s was switched when its owner was killed; libvirt does not know", name);
    return *ret_done || knows_all(xml, &before) ||
           im_fail(err, IM_WRONG_STATE,
                   "machine %s writes elsewhere than libvirt knows, since imprintd was killed "
                   "while it was switched; restart it first",
                   name);
}

static bool switch_known(struct virt_driver *driver, const char *name, const char *xml,
                         const char *snapshot, const char *path, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings after = {0};
    struct im_err failed = {0}, unanswered = {0};
    bool done = false;

    if (!is_trusted(driver, name) && !look_first(driver, name, xml, path, &done, err))
        return false;
    if (done)
        return true;
    if (switch_once_more(driver, name, snapshot, &failed)) {
        trust(driver, name, true);
        return true;
    }
    trust(driver, name, false);
    /* Who takes an error for "not switched" removes the file that the machine writes to. */
    if (heads(driver, name, &after, &unanswered) && im_strings_has(&after, path))
        return true;
    *err = failed;
    return false;
}

bool lv_has_file(struct virt_driver *driver, const char *name, const char *path, bool *ret_has,
                 struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings paths = {0};

    if (!heads(driver, name, &paths, err))
        return false;
    *ret_has = im_strings_has(&paths, path);
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
