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
    if (virDomainQemuMonitorCommand(call->domain, call->text, &call->out,
                                    VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT) < 0)
        return lv_fail(err, "cannot ask for its disks");
    return true;
}

static bool query(struct virt_driver *driver, const char *name, const char *question,
                  char **ret_answer, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;

    if (!lv_call_domain(driver, name, run_query, question, NULL, 0, LV_CALL_MS, &call, err))
        return false;
    *ret_answer = im_steal(&call->out);
    return true;
}

/* --- QEMU's answers --------------------------------------------------------------------------- */

/* Where the object, array or text that begins here ends; other values at once. */
static const char *value_end(const char *at) {
    size_t depth = 0;

    do {
        if (*at == '"') {
            for (at++; *at != '"' && *at != '\0'; at++)
                at += *at == '\\' && at[1] != '\0';
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && depth > 0) {
            depth--;
        }
        at += *at != '\0';
    } while (depth > 0 && *at != '\0');
    return at;
}

/* A text that the object itself has, not one inside it; NULL if there is none. */
static char *member(const char *object, const char *key) {
    IM_AUTO(free_auto) char *start = im_printf("\"%s\":\"", key);

    for (const char *at = object + 1; *at == '"';) {
        if (im_starts_with(at, start))
            return im_strndup(at + strlen(start),
                              (size_t) (value_end(at + strlen(start) - 1) - at) - strlen(start) -
                                  1);
        at = value_end(at);
        at += *at == ':';
        at = *at == '"' || *at == '{' || *at == '[' ? value_end(at) : at + strcspn(at, ",}");
        at += *at == ',';
    }
    return NULL;
}

/* The names of the files below the nodes that the machine's disks stand on, as libvirt names them:
 * libvirt-3-format is the disk, libvirt-3-storage its file. */
static void storage_nodes(const char *answer, struct im_strings *ret_nodes) {
    static const char mark[] = "\"node-name\":\"", format[] = "-format";

    for (const char *at = answer; (at = strstr(at, mark)) != NULL;) {
        size_t len;

        at += strlen(mark);
        len = strcspn(at, "\"");
        if (len > strlen(format) && im_starts_with(at + len - strlen(format), format)) {
            IM_AUTO(free_auto)
            char *node = im_printf("%.*s-storage", (int) (len - strlen(format)), at);

            im_strings_add(ret_nodes, node);
        }
    }
}

/* The files that the machine writes to, not those below them. QEMU's own name for a disk has its
 * whole chain in it, is cut off at 4095 bytes and has the head last: the nodes are asked one by
 * one. A node that was made for a switch which never came stands below no disk. */
static bool heads(struct virt_driver *driver, const char *name, struct im_strings *ret_paths,
                  struct im_err *err) {
    IM_AUTO(free_auto) char *disks = NULL;
    IM_AUTO(free_auto) char *nodes = NULL;
    IM_AUTO(im_strings_done) struct im_strings wanted = {0};
    const char *at;

    if (!query(driver, name, "{\"execute\":\"query-block\"}", &disks, err) ||
        !query(driver, name,
               "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}", &nodes,
               err))
        return false;
    storage_nodes(disks, &wanted);
    at = strchr(nodes, '[');
    for (at = at ? at + 1 : ""; *at == '{'; at += *at == ',') {
        IM_AUTO(free_auto) char *node = member(at, "node-name");
        IM_AUTO(free_auto) char *file = member(at, "file");

        if (node != NULL && file != NULL && im_strings_has(&wanted, node))
            im_strings_add(ret_paths, file);
        at = value_end(at);
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
    IM_AUTO(im_strings_done) struct im_strings before = {0}, after = {0};
    struct im_err failed = {0}, unanswered = {0};

    if (!heads(driver, name, &before, err))
        return false;
    if (im_strings_has(&before, path)) {
        im_warn("virt", "%s was switched when its owner was killed; libvirt does not know", name);
        return true;
    }
    if (!knows_all(xml, &before))
        return im_fail(err, IM_WRONG_STATE,
                       "machine %s writes elsewhere than libvirt knows, since imprintd was killed "
                       "while it was switched; restart it first",
                       name);
    if (switch_once_more(driver, name, snapshot, &failed))
        return true;
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
