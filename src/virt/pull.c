/* SPDX-License-Identifier: Apache-2.0 */
/* What a running machine reads a disk through, and making that shorter: QEMU copies what lies
 * between the head and a layer below into the head, and reads the layers between no more. */
#include "libvirt-private.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libvirt/virterror.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

IM_DEFINE_AUTO(json_t *, json_decref)

enum { END_TRIES = 100, END_LOOK_MS = 20 };

/* --- Looking ---------------------------------------------------------------------------------- */

/* Loads the disks as well; the one that is meant is at *ret_at. */
static bool find_disk(struct virt_driver *driver, const char *name, const char *serial,
                      struct lv_disks *disks, size_t *ret_at, struct im_err *err) {
    if (!lv_disks_load(driver, name, disks, err))
        return false;
    *ret_at = lv_disks_find(disks, serial);
    return *ret_at < disks->count ||
           im_fail(err, IM_NOT_FOUND, "machine %s has no disk %s", name, serial);
}

static bool run_look(struct lv_call *call, struct im_err *err) {
    virDomainBlockJobInfo info = {0};
    int found = virDomainGetBlockJobInfo(call->domain, call->text, &info, 0);

    if (found < 0)
        return lv_fail(err, "cannot ask what becomes of its disk");
    call->number = found > 0;
    return true;
}

bool lv_disk_chain(struct virt_driver *driver, const char *name, const char *serial,
                   struct virt_chain *ret_chain, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;
    size_t at;

    if (!find_disk(driver, name, serial, &disks, &at, err))
        return false;
    if (!driver->test && !lv_call_domain(driver, name, run_look, disks.items[at].target, NULL, 0,
                                         LV_CALL_MS, &call, err))
        return false;
    ret_chain->pulling = call != NULL && call->number > 0;
    virt_xml_chain(disks.items[at].element, &ret_chain->paths);
    return true;
}

/* --- Copying ---------------------------------------------------------------------------------- */

static bool rebase(struct lv_call *call, unsigned flags) {
    return virDomainBlockRebase(call->domain, call->text, call->more, call->number,
                                VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES | flags) == 0;
}

/* To keep the name of the base relative, libvirt (9.0) reads all the headers between, by the names
 * that it knows: of a layer that was merged since, the file is gone or names another one. Then the
 * name is put right in the end. */
static bool run_begin(struct lv_call *call, struct im_err *err) {
    if (!rebase(call, VIR_DOMAIN_BLOCK_REBASE_RELATIVE) && !rebase(call, 0))
        return lv_fail(err, "cannot shorten the chain of its disk");
    if (lv_call_abandoned(call))
        virDomainBlockJobAbort(call->domain, call->text, 0);
    return true;
}

bool lv_pull_begin(struct virt_driver *driver, const char *name, const char *serial,
                   const char *base, uint64_t rate_bytes, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    size_t at;

    return find_disk(driver, name, serial, &disks, &at, err) &&
           lv_call_domain(driver, name, run_begin, disks.items[at].target, base, rate_bytes,
                          LV_CALL_MS, NULL, err);
}

/* libvirt hears of the end from QEMU and takes the layers out in a thread of its own. That it knows
 * of no job any more is said only by a refusal to end it. */
static bool run_end(struct lv_call *call, struct im_err *err) {
    for (int tries = 0; tries < END_TRIES; tries++) {
        if (virDomainBlockJobAbort(call->domain, call->text, 0) < 0) {
            const virError *error = virGetLastError();

            if (error != NULL && error->message != NULL &&
                strstr(error->message, "does not have an active block job") != NULL)
                return true;
            if (error != NULL && error->code == VIR_ERR_NO_DOMAIN)
                return lv_fail(err, "it is gone");
        }
        im_sleep_ms(END_LOOK_MS);
    }
    return lv_fail(err, "it goes on copying into its disk");
}

bool lv_pull_end(struct virt_driver *driver, const char *name, const char *serial,
                 struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    size_t at;

    return find_disk(driver, name, serial, &disks, &at, err) &&
           (driver->test || lv_call_domain(driver, name, run_end, disks.items[at].target, NULL, 0,
                                           LV_CALL_MS, NULL, err));
}

/* --- The end of it ---------------------------------------------------------------------------- */

/* The node that holds the head of a disk, by the alias of the disk's device; owned, NULL if QEMU
 * has none. */
static char *head_node(json_t *disks, const char *alias) {
    IM_AUTO(free_auto) char *folder = im_printf("/machine/peripheral/%s/", alias);
    json_t *disk;
    size_t i;

    json_array_foreach(disks, i, disk) {
        const char *path = json_string_value(json_object_get(disk, "qdev"));
        const char *node =
            json_string_value(json_object_get(json_object_get(disk, "inserted"), "node-name"));

        if (path != NULL && node != NULL && im_starts_with(path, folder))
            return im_strdup(node);
    }
    return NULL;
}

static bool find_node(struct virt_driver *driver, const char *name, const char *serial,
                      char **ret_node, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    IM_AUTO(json_decref_auto) json_t *list = NULL;
    IM_AUTO(free_auto) char *alias = NULL;
    size_t at;

    if (!find_disk(driver, name, serial, &disks, &at, err))
        return false;
    alias = virt_xml_alias(disks.items[at].element);
    list = lv_monitor_list(driver, name, "{\"execute\":\"query-block\"}", err);
    if (list == NULL)
        return false;
    *ret_node = alias != NULL ? head_node(list, alias) : NULL;
    return *ret_node != NULL ||
           im_fail(err, IM_INTERNAL, "machine %s: QEMU does not tell of its disk %s", name, serial);
}

/* An order that answers {"return": …}; *ret_text, if not NULL, is the text that it returned. */
static bool order(struct virt_driver *driver, const char *name, json_t *order_json,
                  struct im_err *err) {
    IM_AUTO(json_decref_auto) json_t *owned = order_json;
    IM_AUTO(free_auto) char *line = json_dumps(owned, JSON_COMPACT);
    IM_AUTO(free_auto) char *answer = NULL;
    IM_AUTO(json_decref_auto) json_t *root = NULL;
    const char *said;

    if (!lv_monitor(driver, name, line, &answer, err))
        return false;
    root = json_loads(answer, 0, NULL);
    said = json_string_value(json_object_get(json_object_get(root, "error"), "desc"));
    if (said == NULL) /* what a person at the monitor would read */
        said = json_string_value(json_object_get(root, "return"));
    return (said == NULL && json_object_get(root, "return") != NULL) || im_str_empty(said) ||
           im_fail(err, IM_INTERNAL, "machine %s: QEMU says: %s", name, said);
}

/* QEMU writes the name into the header it has open, where we could not. What it has copied is in
 * memory in part, and the header of a machine that is killed would name a layer that does not hold
 * it: so all is written out before anybody relies on the name. */
bool lv_disk_settle(struct virt_driver *driver, const char *name, const char *serial,
                    const char *backing, struct im_err *err) {
    IM_AUTO(free_auto) char *node = NULL;
    IM_AUTO(free_auto) char *flush = NULL;

    if (driver->test)
        return true;
    if (!find_node(driver, name, serial, &node, err))
        return false;
    flush = im_printf("qemu-io %s flush", node);
    return order(driver, name,
                 json_pack("{s:s, s:{s:s, s:s, s:s}}", "execute", "change-backing-file",
                           "arguments", "device", node, "image-node-name", node, "backing-file",
                           backing),
                 err) &&
           order(driver, name,
                 json_pack("{s:s, s:{s:s}}", "execute", "human-monitor-command", "arguments",
                           "command-line", flush),
                 err);
}
