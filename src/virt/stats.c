/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of all running machines in one call. libvirt names disks and cards by their place; what
 * they are to us stands in the machine's description, which is read once and kept until its disks
 * or cards change. */
#include "libvirt-private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "base/str.h"

/* What is kept of one machine's description. */
struct lv_known {
    char *name;
    char *shape; /* run, and every disk's and card's place and source: while it is the same, so is
                    the rest */
    bool ours, seen;
    unsigned vcpus;
    struct virt_xml_disk *disks;
    size_t disk_count;
    struct virt_xml_nic *nics;
    size_t nic_count;
};
struct lv_stats {
    struct lv_known *known;
    size_t count, capacity;
};

static void known_clear(struct lv_known *known) {
    free(known->name);
    free(known->shape);
    virt_xml_disks_free(known->disks, known->disk_count);
    virt_xml_nics_free(known->nics, known->nic_count);
}

void lv_stats_free(struct lv_stats *stats) {
    for (size_t i = 0; stats != NULL && i < stats->count; i++)
        known_clear(&stats->known[i]);
    if (stats != NULL)
        free(stats->known);
    free(stats);
}

/* libvirt lists machines in the same order mostly: looking goes on where the last look ended. */
static struct lv_known *known_find(struct lv_stats *stats, const char *name, size_t *at) {
    for (size_t i = 0; i < stats->count; i++) {
        size_t place = (*at + i) % stats->count;

        if (strcmp(stats->known[place].name, name) == 0) {
            *at = place + 1;
            return &stats->known[place];
        }
    }
    im_grow(&stats->known, stats->count, &stats->capacity);
    stats->known[stats->count] = (struct lv_known){.name = im_strdup(name)};
    return &stats->known[stats->count++];
}

static void known_sweep(struct lv_stats *stats) {
    size_t kept = 0;

    for (size_t i = 0; i < stats->count; i++) {
        if (!stats->known[i].seen) {
            known_clear(&stats->known[i]);
            continue;
        }
        stats->known[kept] = stats->known[i];
        stats->known[kept++].seen = false;
    }
    stats->count = kept;
}

static char *shape_of(const virDomainStatsRecord *record) {
    struct im_str shape = {0};

    im_str_addf(&shape, "%u", virDomainGetID(record->dom));
    for (int i = 0; i < record->nparams; i++)
        if (record->params[i].type == VIR_TYPED_PARAM_STRING)
            im_str_addf(&shape, " %s=%s", record->params[i].field, record->params[i].value.s);
    return im_str_take(&shape);
}

/* Reads the description again if something changed. False: the machine is gone, or it never was
 * ours. */
static bool known_refresh(struct virt_driver *driver, struct lv_known *known,
                          const virDomainStatsRecord *record) {
    IM_AUTO(free_auto) char *shape = shape_of(record);
    IM_AUTO(free_auto) char *xml = NULL;

    known->seen = true;
    if (im_str_equal(known->shape, shape))
        return known->ours;
    xml = virDomainGetXMLDesc(record->dom, 0);
    if (xml == NULL)
        return false;
    virt_xml_disks_free(known->disks, known->disk_count);
    virt_xml_nics_free(known->nics, known->nic_count);
    virt_xml_disks(xml, &known->disks, &known->disk_count);
    virt_xml_nics(xml, &known->nics, &known->nic_count);
    known->vcpus = virt_xml_vcpus(xml);
    known->ours = lv_is_ours(driver, record->dom);
    free(known->shape);
    known->shape = im_steal(&shape);
    return known->ours;
}

/* --- From libvirt's flat list of names and values --------------------------------------------- */

static bool number(const virDomainStatsRecord *record, const char *name, uint64_t *ret_value) {
    unsigned long long value = 0;

    if (virTypedParamsGetULLong(record->params, record->nparams, name, &value) != 1)
        return false;
    *ret_value = value;
    return true;
}

/* "PREFIX.INDEX.NAME" */
static bool number_at(const virDomainStatsRecord *record, const char *prefix, unsigned index,
                      const char *name, uint64_t *ret_value) {
    char key[VIR_TYPED_PARAM_FIELD_LENGTH];

    snprintf(key, sizeof(key), "%s.%u.%s", prefix, index, name);
    return number(record, key, ret_value);
}

static const char *text_at(const virDomainStatsRecord *record, const char *prefix, unsigned index,
                           const char *name) {
    char key[VIR_TYPED_PARAM_FIELD_LENGTH];
    const char *value = NULL;

    snprintf(key, sizeof(key), "%s.%u.%s", prefix, index, name);
    return virTypedParamsGetString(record->params, record->nparams, key, &value) == 1 ? value
                                                                                      : NULL;
}

static unsigned count_of(const virDomainStatsRecord *record, const char *name) {
    unsigned count = 0;

    virTypedParamsGetUInt(record->params, record->nparams, name, &count);
    return count;
}

/* The guest's own view where its kernel has a balloon driver, as any Linux of the last ten years
 * does; else what QEMU holds of the host's memory for it. */
static void read_memory(const virDomainStatsRecord *record, struct virt_stats *stats) {
    uint64_t total = 0, left = 0, rss = 0;

    if (number(record, "balloon.available", &total) && total > 0 &&
        (number(record, "balloon.usable", &left) || number(record, "balloon.unused", &left))) {
        stats->memory_bytes = total << 10;
        stats->memory_used_bytes = (left < total ? total - left : 0) << 10;
        return;
    }
    if (number(record, "balloon.maximum", &total) && number(record, "balloon.rss", &rss)) {
        stats->memory_bytes = total << 10;
        stats->memory_used_bytes = (rss < total ? rss : total) << 10;
    }
}

static void read_disks(const virDomainStatsRecord *record, const struct lv_known *known,
                       struct virt_stats *stats) {
    unsigned count = count_of(record, "block.count");

    stats->disks = im_alloc((count + 1) * sizeof(*stats->disks));
    for (unsigned i = 0; i < count; i++) {
        struct virt_disk_stats *disk = &stats->disks[stats->disk_count];
        const char *target = text_at(record, "block", i, "name");
        size_t at = 0;

        while (at < known->disk_count && !im_str_equal(known->disks[at].target, target))
            at++;
        if (at == known->disk_count || im_str_empty(known->disks[at].serial) ||
            !number_at(record, "block", i, "rd.bytes", &disk->read_bytes) ||
            !number_at(record, "block", i, "wr.bytes", &disk->written_bytes) ||
            !number_at(record, "block", i, "rd.reqs", &disk->reads) ||
            !number_at(record, "block", i, "wr.reqs", &disk->writes))
            continue;
        snprintf(disk->serial, sizeof(disk->serial), "%s", known->disks[at].serial);
        stats->disk_count++;
    }
}

static void read_nics(const virDomainStatsRecord *record, const struct lv_known *known,
                      struct virt_stats *stats) {
    unsigned count = count_of(record, "net.count");

    stats->nics = im_alloc((count + 1) * sizeof(*stats->nics));
    for (unsigned i = 0; i < count; i++) {
        struct virt_nic_stats *nic = &stats->nics[stats->nic_count];
        const char *target = text_at(record, "net", i, "name");
        size_t at = 0;

        while (at < known->nic_count && !im_str_equal(known->nics[at].target, target))
            at++;
        if (at == known->nic_count || known->nics[at].mac == NULL ||
            !number_at(record, "net", i, "rx.bytes", &nic->in_bytes) ||
            !number_at(record, "net", i, "tx.bytes", &nic->out_bytes))
            continue;
        snprintf(nic->mac, sizeof(nic->mac), "%s", known->nics[at].mac);
        stats->nic_count++;
    }
}

static void read_record(const virDomainStatsRecord *record, const struct lv_known *known,
                        struct virt_stats *stats) {
    snprintf(stats->name, sizeof(stats->name), "%s", known->name);
    stats->run = virDomainGetID(record->dom);
    stats->vcpus = known->vcpus;
    stats->has_cpu = number(record, "cpu.time", &stats->cpu_ns);
    read_memory(record, stats);
    read_disks(record, known, stats);
    read_nics(record, known, stats);
}

/* A machine that is busy with another call, or hangs, tells what it can without waiting. */
static bool run_stats(struct lv_call *call, struct im_err *err) {
    call->out_stats_count = virConnectGetAllDomainStats(
        call->conn,
        VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_INTERFACE |
            VIR_DOMAIN_STATS_BLOCK,
        &call->out_stats,
        VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    return call->out_stats_count >= 0 || lv_fail(err, "cannot read the machines' counters");
}

bool lv_stats(struct virt_driver *driver, struct virt_stats **ret_stats, size_t *ret_count,
              struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = lv_call_new(run_stats);
    struct virt_stats *stats;
    size_t count = 0, at = 0;

    call->conn = lv_connection(driver, err);
    if (call->conn == NULL || !lv_call_run(call, LV_CALL_MS, err))
        return false;
    stats = im_alloc(((size_t) call->out_stats_count + 1) * sizeof(*stats));
    pthread_mutex_lock(&driver->stats_lock);
    if (driver->stats == NULL)
        driver->stats = im_alloc(sizeof(*driver->stats));
    for (int i = 0; i < call->out_stats_count; i++) {
        const virDomainStatsRecord *record = call->out_stats[i];
        struct lv_known *known = known_find(driver->stats, virDomainGetName(record->dom), &at);

        if (known_refresh(driver, known, record))
            read_record(record, known, &stats[count++]);
    }
    known_sweep(driver->stats);
    pthread_mutex_unlock(&driver->stats_lock);
    *ret_stats = stats;
    *ret_count = count;
    return true;
}
