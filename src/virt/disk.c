/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of running machines through libvirt: plugged in, taken out, grown. What a machine has is
 * asked from libvirt each time: it may have been started by another imprintd, or have crashed in
 * the middle of the last verb. */
#include "libvirt-private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

/* How often the guest is asked again to let go of a disk: one that was still in its firmware, or
 * did not have its hot-plug driver yet, never saw the first request. */
enum { UNPLUG_AGAIN_MS = 10000, UNPLUG_LOOK_MS = 100, TARGETS_MAX = 702 };

void lv_disks_done(struct lv_disks *disks) {
    virt_xml_disks_free(disks->items, disks->count);
    free(disks->xml);
}

bool lv_disks_load(struct virt_driver *driver, const char *name, struct lv_disks *ret_disks,
                   struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = lv_domain(driver, name, err);

    if (domain == NULL)
        return false;
    ret_disks->xml = virDomainGetXMLDesc(domain, 0);
    if (ret_disks->xml == NULL)
        return lv_fail(err, "machine %s", name);
    virt_xml_disks(ret_disks->xml, &ret_disks->items, &ret_disks->count);
    return true;
}

size_t lv_disks_find(const struct lv_disks *disks, const char *serial) {
    size_t i = 0;

    while (i < disks->count && !im_str_equal(disks->items[i].serial, serial))
        i++;
    return i;
}

static bool no_disk(const char *name, const char *serial, struct im_err *err) {
    return im_fail(err, IM_NOT_FOUND, "machine %s has no disk %s", name, serial);
}

/* --- Plugging in ------------------------------------------------------------------------------ */

static bool run_attach(struct lv_call *call, struct im_err *err) {
    if (virDomainAttachDeviceFlags(call->domain, call->text, VIR_DOMAIN_AFFECT_LIVE) < 0) {
        const virError *error = virGetLastError();

        if (error != NULL && error->message != NULL && strstr(error->message, "PCI") != NULL)
            return im_fail(err, IM_NO_RESOURCE,
                           "it has no free port for another disk; restart it, or detach one");
        return lv_fail(err, "cannot plug the disk in");
    }
    if (lv_call_abandoned(call))
        virDomainDetachDeviceFlags(call->domain, call->text, VIR_DOMAIN_AFFECT_LIVE);
    return true;
}

/* The lowest name that no disk has, as the guest's kernel chooses too. */
static bool free_target(const struct lv_disks *disks, char out[8], struct im_err *err) {
    for (size_t index = 0; index < TARGETS_MAX; index++) {
        size_t i = 0;

        virt_disk_target(index, out);
        while (i < disks->count && !im_str_equal(disks->items[i].target, out))
            i++;
        if (i == disks->count)
            return true;
    }
    return im_fail(err, IM_NO_RESOURCE, "it has too many disks");
}

/* Signs of a disk that a killed owner left in QEMU: its names are taken, or its file is locked. */
static bool is_left_over(const struct im_err *failed) {
    return strstr(failed->text, "Duplicate ") != NULL || strstr(failed->text, " lock") != NULL;
}

bool lv_attach_disk(struct virt_driver *driver, const char *name, const struct virt_disk *disk,
                    struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    IM_AUTO(free_auto) char *xml = NULL;
    struct im_err failed = {0};
    char target[8];
    size_t at;

    if (!lv_disks_load(driver, name, &disks, err))
        return false;
    at = lv_disks_find(&disks, disk->serial);
    if (at < disks.count)
        return im_str_equal(disks.items[at].source, disk->layers[0].path) ||
               im_fail(err, IM_EXISTS, "machine %s has another disk %s", name, disk->serial);
    if (!free_target(&disks, target, err) || !virt_disk_xml(disk, target, &xml, err))
        return im_within(err, "machine %s", name);
    if (lv_call_domain(driver, name, run_attach, xml, NULL, 0, LV_CALL_MS, NULL, &failed))
        return true;
    if (is_left_over(&failed))
        return lv_sweep(driver, name, err) &&
               lv_call_domain(driver, name, run_attach, xml, NULL, 0, LV_CALL_MS, NULL, err);
    *err = failed;
    return false;
}

/* --- Taking out ------------------------------------------------------------------------------- */

static bool run_detach(struct lv_call *call, struct im_err *err) {
    return virDomainDetachDeviceFlags(call->domain, call->text, VIR_DOMAIN_AFFECT_LIVE) == 0 ||
           lv_fail(err, "cannot take the disk out");
}

/* True when there is no such disk, or no machine, any more. */
static bool is_gone(struct virt_driver *driver, const char *name, const char *serial,
                    char **ret_element, bool *ret_gone, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    struct im_err failed = {0};
    size_t at;

    *ret_gone = false;
    if (!lv_disks_load(driver, name, &disks, &failed)) {
        *ret_gone = failed.code == IM_NOT_FOUND;
        if (!*ret_gone)
            *err = failed;
        return *ret_gone;
    }
    at = lv_disks_find(&disks, serial);
    *ret_gone = at == disks.count;
    if (!*ret_gone && *ret_element == NULL)
        *ret_element = im_steal(&disks.items[at].element);
    return true;
}

/* libvirt's call returns when it has asked, at the latest after five seconds: whether the guest
 * let go shows only in the list of disks. */
bool lv_detach_disk(struct virt_driver *driver, const char *name, const char *serial,
                    int64_t timeout_ms, const volatile bool *cancel, struct im_err *err) {
    int64_t deadline_ms = im_mono_ms() + timeout_ms, ask_ms = 0;
    IM_AUTO(free_auto) char *element = NULL;
    struct im_err asked = {0}, left = {0};

    for (;;) {
        bool gone = false;

        if (!is_gone(driver, name, serial, &element, &gone, err))
            return false;
        /* One that was never asked for may be a killed owner's, of which QEMU still has something.
         */
        if (gone && ask_ms == 0 && !lv_sweep(driver, name, &left) && left.code != IM_NOT_FOUND)
            im_warn("virt", "%s: %s", name, left.text);
        if (gone)
            return true;
        if (cancel != NULL && *cancel)
            return im_fail(err, IM_CANCELLED, "machine %s: taking out %s was cancelled", name,
                           serial);
        if (im_mono_ms() >= deadline_ms)
            return im_fail(err, IM_TIMEOUT,
                           "the guest in %s did not let go of %s within %lld s%s%s; unmount it "
                           "there and try again, or stop the machine first",
                           name, serial, (long long) timeout_ms / 1000,
                           asked.code == IM_OK ? "" : ": ", asked.text);
        if (im_mono_ms() >= ask_ms) {
            asked = (struct im_err){0};
            if (lv_call_domain(driver, name, run_detach, element, NULL, 0, LV_CALL_MS, NULL,
                               &asked))
                asked = (struct im_err){0};
            ask_ms = im_mono_ms() + UNPLUG_AGAIN_MS;
        }
        im_sleep_ms(UNPLUG_LOOK_MS);
    }
}

/* --- Growing ---------------------------------------------------------------------------------- */

static bool run_resize(struct lv_call *call, struct im_err *err) {
    return virDomainBlockResize(call->domain, call->text, call->number,
                                VIR_DOMAIN_BLOCK_RESIZE_BYTES) == 0 ||
           lv_fail(err, "cannot grow the disk");
}

bool lv_resize_disk(struct virt_driver *driver, const char *name, const char *serial,
                    uint64_t size_bytes, struct im_err *err) {
    IM_AUTO(lv_disks_done) struct lv_disks disks = {0};
    size_t at;

    if (!lv_disks_load(driver, name, &disks, err))
        return false;
    at = lv_disks_find(&disks, serial);
    if (at == disks.count)
        return no_disk(name, serial, err);
    return lv_call_domain(driver, name, run_resize, disks.items[at].target, NULL, size_bytes,
                          LV_CALL_MS, NULL, err);
}
