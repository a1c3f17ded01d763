/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine tells of itself and does for us through the guest agent, which may be absent,
 * slow, or never answer. */
#include "libvirt-private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "base/mem.h"
#include "base/str.h"

static bool connected(virDomainPtr domain) {
    IM_AUTO(free_auto) char *xml = virDomainGetXMLDesc(domain, 0);

    return xml != NULL && virt_xml_agent_connected(xml);
}

bool lv_need_agent(virDomainPtr domain, struct im_err *err) {
    return connected(domain) ||
           im_fail(err, IM_UNSUPPORTED, "no guest agent is connected, install qemu-guest-agent");
}

/* How long libvirt itself waits for the agent, whole seconds; after that it gives up the channel's
 * lock, so that the next caller has a chance. */
static void agent_patience(virDomainPtr domain, int64_t timeout_ms) {
    int seconds = (int) ((timeout_ms + 999) / 1000);

    virDomainAgentSetResponseTimeout(domain, seconds < 1 ? 1 : seconds, 0);
}

static bool global_ipv4(const char *address) {
    return !im_starts_with(address, "127.") && !im_starts_with(address, "169.254.") &&
           strcmp(address, "0.0.0.0") != 0;
}

/* Reads in the guest's own words: the host name becomes `text`-like output before the first line
 * end, the address after it. */
static bool run_ask(struct lv_call *call, struct im_err *err) {
    IM_AUTO(free_auto) char *hostname = NULL;
    virDomainInterfacePtr *nics = NULL;
    const char *ip = "";
    int count;

    (void) err;
    agent_patience(call->domain, LV_INFO_MS);
    hostname = virDomainGetHostname(call->domain, VIR_DOMAIN_GET_HOSTNAME_AGENT);
    if (hostname == NULL)
        return im_fail(err, IM_TIMEOUT, "the guest agent does not answer");
    count = virDomainInterfaceAddresses(call->domain, &nics,
                                        VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0);
    for (int i = 0; i < count; i++)
        for (unsigned j = 0; j < nics[i]->naddrs; j++)
            if (ip[0] == '\0' && nics[i]->addrs[j].type == VIR_IP_ADDR_TYPE_IPV4 &&
                global_ipv4(nics[i]->addrs[j].addr))
                ip = nics[i]->addrs[j].addr;
    call->out = im_printf("%s\n%s", hostname, ip);
    for (int i = 0; i < count; i++)
        virDomainInterfaceFree(nics[i]);
    free(nics);
    return true;
}

bool lv_info(struct virt_driver *driver, const char *name, struct virt_info *ret_info,
             struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = lv_domain(driver, name, err);
    IM_AUTO(free_auto) char *xml = domain ? virDomainGetXMLDesc(domain, 0) : NULL;
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;
    struct virt_info info = {0};
    struct im_err ignored = {0};
    char *line_end;

    if (domain == NULL)
        return false;
    if (xml == NULL)
        return lv_fail(err, "machine %s", name);
    info.vnc_port = virt_xml_vnc_port(xml);
    info.agent_connected = virt_xml_agent_connected(xml);
    /* A silent agent is no error: the machine runs, it only does not tell. */
    if (info.agent_connected &&
        lv_call_domain(driver, name, run_ask, NULL, NULL, 0, LV_INFO_MS, &call, &ignored)) {
        line_end = strrchr(call->out, '\n');
        *line_end = '\0';
        snprintf(info.hostname, sizeof(info.hostname), "%s", call->out);
        snprintf(info.ip, sizeof(info.ip), "%s", line_end + 1);
    }
    *ret_info = info;
    return true;
}

/* A freeze that nobody waits for any more, or that libvirt gave up on, may still happen in the
 * guest, and nobody would ever thaw it: we do. */
static bool run_freeze(struct lv_call *call, struct im_err *err) {
    if (!lv_need_agent(call->domain, err))
        return false;
    agent_patience(call->domain, (int64_t) call->number);
    if (virDomainFSFreeze(call->domain, NULL, 0, 0) < 0) {
        lv_fail(err, "cannot freeze its file systems");
        if (err->code == IM_TIMEOUT)
            virDomainFSThaw(call->domain, NULL, 0, 0);
        return false;
    }
    if (lv_call_abandoned(call))
        virDomainFSThaw(call->domain, NULL, 0, 0);
    return true;
}

bool lv_fs_freeze(struct virt_driver *driver, const char *name, int64_t timeout_ms,
                  bool *ret_frozen, struct im_err *err) {
    struct im_err failed = {0};

    if (lv_call_domain(driver, name, run_freeze, NULL, NULL, (unsigned) timeout_ms, timeout_ms,
                       NULL, &failed)) {
        *ret_frozen = true;
        return true;
    }
    if (failed.code == IM_UNSUPPORTED) {
        *ret_frozen = false;
        return true;
    }
    *err = failed;
    return false;
}

static bool run_thaw(struct lv_call *call, struct im_err *err) {
    agent_patience(call->domain, LV_AGENT_MS);
    return virDomainFSThaw(call->domain, NULL, 0, 0) >= 0 ||
           lv_fail(err, "cannot thaw its file systems");
}

bool lv_fs_thaw(struct virt_driver *driver, const char *name, struct im_err *err) {
    return lv_call_domain(driver, name, run_thaw, NULL, NULL, 0, 2 * LV_AGENT_MS, NULL, err);
}

static bool run_password(struct lv_call *call, struct im_err *err) {
    if (!lv_need_agent(call->domain, err))
        return false;
    agent_patience(call->domain, LV_AGENT_MS);
    return virDomainSetUserPassword(call->domain, call->text, call->more,
                                    (unsigned) call->number) == 0 ||
           lv_fail(err, "cannot set the password of %s", call->text);
}

bool lv_set_password(struct virt_driver *driver, const char *name, const char *user,
                     enum virt_secret kind, const char *secret, struct im_err *err) {
    return lv_call_domain(driver, name, run_password, user, secret,
                          kind == VIRT_SECRET_HASH ? VIR_DOMAIN_PASSWORD_ENCRYPTED : 0,
                          2 * LV_AGENT_MS, NULL, err);
}

static bool run_keys(struct lv_call *call, struct im_err *err) {
    if (!lv_need_agent(call->domain, err))
        return false;
    agent_patience(call->domain, LV_AGENT_MS);
    return virDomainAuthorizedSSHKeysSet(call->domain, call->text, (const char **) call->list.items,
                                         (unsigned) call->list.count,
                                         (unsigned) call->number) == 0 ||
           lv_fail(err, "cannot change the keys of %s", call->text);
}

bool lv_authorized_keys(struct virt_driver *driver, const char *name, const char *user,
                        const char *const keys[], size_t count, bool remove, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = lv_call_new(run_keys);

    if (count == 0)
        return true;
    call->domain = lv_domain(driver, name, err);
    if (call->domain == NULL)
        return false;
    call->text = im_strdup(user);
    call->number = remove ? VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE
                          : VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND;
    for (size_t i = 0; i < count; i++)
        im_strings_add(&call->list, keys[i]);
    return lv_call_run(call, 2 * LV_AGENT_MS, err) || im_within(err, "machine %s", name);
}

/* One "serial\tdevice" line per disk. */
static bool run_devices(struct lv_call *call, struct im_err *err) {
    virTypedParameterPtr params = NULL;
    struct im_str lines = {0};
    int count = 0;

    if (!lv_need_agent(call->domain, err))
        return false;
    agent_patience(call->domain, LV_INFO_MS);
    if (virDomainGetGuestInfo(call->domain, VIR_DOMAIN_GUEST_INFO_DISKS, &params, &count, 0) < 0)
        return lv_fail(err, "the guest agent does not tell of its disks");
    for (int i = 0; i < count; i++) {
        const char *name = NULL, *end = strrchr(params[i].field, '.');
        char key[VIR_TYPED_PARAM_FIELD_LENGTH + 8];

        if (end == NULL || strcmp(end, ".serial") != 0 || params[i].type != VIR_TYPED_PARAM_STRING)
            continue;
        snprintf(key, sizeof(key), "%.*s.name", (int) (end - params[i].field), params[i].field);
        if (virTypedParamsGetString(params, count, key, &name) == 1)
            im_str_addf(&lines, "%s\t%s\n", params[i].value.s, name);
    }
    virTypedParamsFree(params, count);
    call->out = im_str_take(&lines);
    return true;
}

bool lv_disk_devices(struct virt_driver *driver, const char *name, struct virt_device **ret_devices,
                     size_t *ret_count, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;
    struct virt_device *devices = NULL;
    size_t count = 0, capacity = 0;

    if (!lv_call_domain(driver, name, run_devices, NULL, NULL, 0, LV_INFO_MS, &call, err))
        return false;
    for (char *rest = call->out, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *tab = strchr(line, '\t');

        if (tab == NULL)
            continue;
        im_grow(&devices, count, &capacity);
        snprintf(devices[count].serial, sizeof(devices->serial), "%.*s", (int) (tab - line), line);
        snprintf(devices[count++].device, sizeof(devices->device), "%s", tab + 1);
    }
    *ret_devices = devices;
    *ret_count = count;
    return true;
}
