/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU has of disks that libvirt does not know: the owner of an embedded driver was killed
 * while it plugged one in, took one out or switched to a new head. It keeps the disk's file locked,
 * and its names taken. */
#include "libvirt-private.h"

#include <string.h>

#include <jansson.h>
#include <libvirt/libvirt-qemu.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

IM_DEFINE_AUTO(json_t *, json_decref)

enum { LET_GO_MS = 10000, LOOK_MS = 100 };

/* An order that QEMU may refuse; that shows in what is there afterwards. */
static bool order(struct virt_driver *driver, const char *name, const char *command,
                  const char *key, const char *value, struct im_err *err) {
    IM_AUTO(json_decref_auto)
    json_t *text = json_pack("{s:s, s:{s:s}}", "execute", command, "arguments", key, value);
    IM_AUTO(free_auto) char *line = json_dumps(text, JSON_COMPACT);
    IM_AUTO(free_auto) char *answer = NULL;

    return lv_monitor(driver, name, line, &answer, err);
}

/* Devices are /machine/peripheral/NAME/…: the names of those with a disk that are not in libvirt's
 * XML. */
static bool strange_devices(struct virt_driver *driver, const char *name,
                            struct im_strings *ret_names, struct im_err *err) {
    static const char folder[] = "/machine/peripheral/";
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    IM_AUTO(json_decref_auto) json_t *list = NULL;
    json_t *device;
    size_t i;

    if (!lv_disks_load(driver, name, &disks, err))
        return false;
    list = lv_monitor_list(driver, name, "{\"execute\":\"query-block\"}", err);
    json_array_foreach(list, i, device) {
        const char *path = json_string_value(json_object_get(device, "qdev"));
        IM_AUTO(free_auto) char *alias = NULL;

        if (path == NULL || !im_starts_with(path, folder))
            continue;
        path += strlen(folder);
        alias = im_printf("<alias name='%.*s'/>", (int) strcspn(path, "/"), path);
        if (strstr(disks.xml, alias) == NULL) {
            IM_AUTO(free_auto) char *id = im_strndup(path, strcspn(path, "/"));

            im_strings_add(ret_names, id);
        }
    }
    return list != NULL;
}

/* The guest has to let go of it, as of every disk. */
static bool remove_devices(struct virt_driver *driver, const char *name, struct im_err *err) {
    int64_t deadline_ms = im_mono_ms() + LET_GO_MS;

    for (bool asked = false;; asked = true) {
        IM_AUTO(im_strings_done) struct im_strings strange = {0};

        if (!strange_devices(driver, name, &strange, err))
            return false;
        if (strange.count == 0)
            return true;
        for (size_t i = 0; i < strange.count && !asked; i++) {
            im_info("virt", "%s has a disk %s that libvirt does not know: it is taken out", name,
                    strange.items[i]);
            if (!order(driver, name, "device_del", "id", strange.items[i], err))
                return false;
        }
        if (im_mono_ms() >= deadline_ms)
            return im_fail(err, IM_WRONG_STATE,
                           "the guest in %s has a disk that was being plugged in when imprintd "
                           "was killed, and does not let go of it; stop and start it",
                           name);
        im_sleep_ms(LOOK_MS);
    }
}

/* QEMU refuses for those that are in use, so each is tried; a file's node after that of the format
 * on it. */
bool lv_sweep_nodes(struct virt_driver *driver, const char *name, struct im_err *err) {
    static const char *const kinds[] = {"-format", "-storage"};
    IM_AUTO(json_decref_auto)
    json_t *nodes = lv_monitor_list(
        driver, name, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}",
        err);
    json_t *node;
    size_t i;

    for (size_t kind = 0; kind < 2; kind++)
        json_array_foreach(nodes, i, node) {
            const char *id = json_string_value(json_object_get(node, "node-name"));

            if (id != NULL && im_starts_with(id, "libvirt-") && im_ends_with(id, kinds[kind]) &&
                !order(driver, name, "blockdev-del", "node-name", id, err))
                return false;
        }
    return nodes != NULL;
}

bool lv_sweep(struct virt_driver *driver, const char *name, struct im_err *err) {
    return driver->test || (remove_devices(driver, name, err) && lv_sweep_nodes(driver, name, err));
}
