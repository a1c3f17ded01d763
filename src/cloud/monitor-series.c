/* SPDX-License-Identifier: Apache-2.0 */
/* Counters to averages, averages to text and back: all of monitoring that needs no I/O. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor-private.h"

/* --- Blocks ----------------------------------------------------------------------------------- */

void monitor_block_done(struct monitor_block *block) {
    for (size_t i = 0; i < block->count; i++)
        free(block->items[i].slots);
    free(block->items);
    *block = (struct monitor_block){0};
}

const struct series *monitor_block_find(const struct monitor_block *block, const char *meter) {
    for (size_t i = 0; i < block->count; i++)
        if (strcmp(block->items[i].meter, meter) == 0)
            return &block->items[i];
    return NULL;
}

struct monitor_value monitor_mean(const struct monitor_value *values, size_t count) {
    struct monitor_value mean = {0};
    double a = 0, b = 0;
    size_t known = 0;

    for (size_t i = 0; i < count; i++) {
        if (!values[i].known)
            continue;
        known++;
        a += (double) values[i].a;
        b += (double) values[i].b;
        mean.pair = values[i].pair;
    }
    if (known == 0)
        return mean;
    mean.known = true;
    mean.a = llround(a / (double) known);
    mean.b = llround(b / (double) known);
    return mean;
}

static struct monitor_value *slot_of(struct monitor_block *block, const char *meter, size_t slot) {
    struct series *series = (struct series *) monitor_block_find(block, meter);

    if (series == NULL) {
        im_grow(&block->items, block->count, &block->capacity);
        series = &block->items[block->count++];
        *series = (struct series){0};
        snprintf(series->meter, sizeof(series->meter), "%s", meter);
    }
    if (slot >= series->count) {
        series->slots = im_realloc_array(series->slots, slot + 1, sizeof(*series->slots));
        for (; series->count <= slot; series->count++)
            series->slots[series->count] = (struct monitor_value){0};
    }
    return &series->slots[slot];
}

void monitor_block_set(struct monitor_block *block, const char *meter, size_t slot,
                       struct monitor_value value) {
    *slot_of(block, meter, slot) = value;
}

void monitor_block_put(struct monitor_block *block, const char *meter, size_t slot,
                       struct monitor_value value) {
    struct monitor_value *place = slot_of(block, meter, slot);

    *place = monitor_mean((struct monitor_value[]){*place, value}, 2);
}

char *monitor_block_text(const struct monitor_block *block) {
    struct im_str text = {0};

    for (size_t i = 0; i < block->count; i++) {
        const struct series *series = &block->items[i];

        im_str_add(&text, series->meter);
        for (size_t j = 0; j < series->count; j++) {
            const struct monitor_value *value = &series->slots[j];

            if (!value->known)
                im_str_add(&text, " -");
            else if (value->pair)
                im_str_addf(&text, " %" PRId64 "/%" PRId64, value->a, value->b);
            else
                im_str_addf(&text, " %" PRId64, value->a);
        }
        im_str_add_char(&text, '\n');
    }
    return im_str_take(&text);
}

static struct monitor_value value_read(const char *word) {
    struct monitor_value value = {0};
    char *end;

    value.a = strtoll(word, &end, 10);
    value.known = end != word;
    if (value.known && *end == '/') {
        value.pair = true;
        value.b = strtoll(end + 1, NULL, 10);
    }
    return value;
}

void monitor_block_read(struct monitor_block *block, const char *text) {
    IM_AUTO(free_auto) char *copy = im_strdup(text ? text : "");

    for (char *rest = copy, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *meter = strsep(&line, " ");
        size_t slot = 0;

        for (char *word; (word = strsep(&line, " ")) != NULL; slot++)
            if (strcmp(word, "-") != 0 && slot < 1000)
                monitor_block_put(block, meter, slot, value_read(word));
    }
}

/* --- Counters --------------------------------------------------------------------------------- */

static void monitored_clear(struct monitored *monitored) {
    free(monitored->counters);
    free(monitored->gauges);
}

void monitor_set_done(struct monitor_set *set) {
    for (size_t i = 0; i < set->count; i++)
        monitored_clear(&set->items[i]);
    free(set->items);
    *set = (struct monitor_set){0};
}

/* Where it is or would be: the set is sorted by id. */
static size_t place_of(const struct monitor_set *set, const char *id) {
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(set->items[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct monitored *monitor_set_find(const struct monitor_set *set, const char *id) {
    size_t at = place_of(set, id);

    return at < set->count && strcmp(set->items[at].id, id) == 0 ? &set->items[at] : NULL;
}

static struct monitored *monitored_get(struct monitor_set *set, const char *id) {
    size_t at = place_of(set, id);

    if (at < set->count && strcmp(set->items[at].id, id) == 0)
        return &set->items[at];
    im_grow(&set->items, set->count, &set->capacity);
    memmove(&set->items[at + 1], &set->items[at], (set->count++ - at) * sizeof(*set->items));
    set->items[at] = (struct monitored){0};
    snprintf(set->items[at].id, sizeof(set->items[at].id), "%s", id);
    return &set->items[at];
}

static void gauge_add(struct monitored *monitored, const char *meter, bool pair, double a, double b,
                      double weight) {
    size_t i = 0;

    while (i < monitored->gauge_count && strcmp(monitored->gauges[i].meter, meter) != 0)
        i++;
    if (i == monitored->gauge_count) {
        im_grow(&monitored->gauges, monitored->gauge_count, &monitored->gauge_capacity);
        monitored->gauges[monitored->gauge_count++] = (struct gauge){.pair = pair};
        snprintf(monitored->gauges[i].meter, sizeof(monitored->gauges[i].meter), "%s", meter);
    }
    monitored->gauges[i].a += a;
    monitored->gauges[i].b += b;
    monitored->gauges[i].weight += weight;
}

struct monitor_value gauge_value(const struct gauge *gauge) {
    struct monitor_value value = {.known = gauge->weight > 0, .pair = gauge->pair};

    if (value.known) {
        value.a = llround(gauge->a / gauge->weight);
        value.b = llround(gauge->b / gauge->weight);
    }
    return value;
}

/* One moment of a resource: what is compared with the last one. */
struct moment {
    struct monitored *of;
    double seconds; /* since the last one; 0 = nothing to compare with */
};

static struct moment moment_begin(struct monitor_set *set, const char *id, uint64_t run,
                                  int64_t now_s, int64_t mono_ms) {
    struct monitored *of = monitored_get(set, id);
    int64_t ms = mono_ms - of->seen_ms;
    struct moment moment = {.of = of};

    /* A pause of a whole step, another run of the machine: what lies between is not known. */
    if (of->seen_ms != 0 && of->run == run && ms > 0 && ms <= MONITOR_FINE_S * 1000)
        moment.seconds = (double) ms / 1000;
    else
        of->counter_count = 0;
    if (of->bucket == 0) {
        int64_t middle = now_s - (int64_t) (moment.seconds / 2);

        of->bucket = middle - middle % MONITOR_FINE_S;
    }
    of->run = run;
    of->seen_ms = mono_ms;
    return moment;
}

/* A counter that went back began anew: no value this time. `scale` turns a second's worth into the
 * meter's unit. */
static void moment_count(const struct moment *moment, const char *meter, bool pair, double scale,
                         uint64_t a, uint64_t b) {
    struct monitored *of = moment->of;
    size_t i = 0;

    while (i < of->counter_count && strcmp(of->counters[i].meter, meter) != 0)
        i++;
    if (i == of->counter_count) {
        im_grow(&of->counters, of->counter_count, &of->counter_capacity);
        snprintf(of->counters[of->counter_count++].meter, MONITOR_NAME_MAX, "%s", meter);
    } else if (moment->seconds > 0 && a >= of->counters[i].a && b >= of->counters[i].b) {
        double da = (double) (a - of->counters[i].a) * scale;
        double most = 1000 * moment->seconds;

        if (!pair && da > most)
            da = most; /* threads of the machine beside its vCPUs count as well */
        gauge_add(of, meter, pair, da, (double) (b - of->counters[i].b) * scale, moment->seconds);
    }
    of->counters[i].a = a;
    of->counters[i].b = b;
}

static void take_disk(struct monitor_set *set, const struct virt_stats *stats,
                      const struct virt_disk_stats *disk, int64_t now_s, int64_t mono_ms) {
    bool os = strcmp(disk->serial, stats->name) == 0;
    struct moment moment =
        os ? (struct moment){0} : moment_begin(set, disk->serial, stats->run, now_s, mono_ms);

    if (os)
        return;
    moment_count(&moment, "disk", true, 1, disk->read_bytes, disk->written_bytes);
    moment_count(&moment, "disk-iops", true, 1, disk->reads, disk->writes);
}

static void take_machine(struct monitor_set *set, const struct virt_stats *stats, int64_t now_s,
                         int64_t mono_ms) {
    struct moment moment = moment_begin(set, stats->name, stats->run, now_s, mono_ms);
    char meter[MONITOR_NAME_MAX];

    if (stats->has_cpu && stats->vcpus > 0)
        moment_count(&moment, "cpu", false, 1e-6 / stats->vcpus, stats->cpu_ns, 0);
    if (stats->memory_bytes > 0)
        gauge_add(moment.of, "memory", false,
                  1000.0 * (double) stats->memory_used_bytes / (double) stats->memory_bytes, 0, 1);
    for (size_t i = 0; i < stats->disk_count; i++)
        if (strcmp(stats->disks[i].serial, stats->name) == 0) {
            moment_count(&moment, "disk-os", true, 1, stats->disks[i].read_bytes,
                         stats->disks[i].written_bytes);
            moment_count(&moment, "disk-iops-os", true, 1, stats->disks[i].reads,
                         stats->disks[i].writes);
        }
    for (size_t i = 0; i < stats->nic_count; i++) {
        snprintf(meter, sizeof(meter), "if-%s", stats->nics[i].mac);
        moment_count(&moment, meter, true, 1, stats->nics[i].in_bytes, stats->nics[i].out_bytes);
    }
}

void monitor_take(struct monitor_set *set, const struct virt_stats *stats, size_t count,
                  int64_t now_s, int64_t mono_ms) {
    for (size_t i = 0; i < count; i++) {
        take_machine(set, &stats[i], now_s, mono_ms);
        for (size_t j = 0; j < stats[i].disk_count; j++)
            take_disk(set, &stats[i], &stats[i].disks[j], now_s, mono_ms);
    }
}

void monitor_ripe(struct monitor_set *set, int64_t now_s, bool all, struct monitor_set *ret_done) {
    size_t kept = 0;

    for (size_t i = 0; i < set->count; i++) {
        struct monitored *item = &set->items[i];
        bool over = item->bucket != 0 &&
                    (all || item->bucket + MONITOR_FINE_S <= now_s || item->bucket > now_s);

        if (over && item->gauge_count > 0) {
            struct monitored *done = monitored_get(ret_done, item->id);

            done->bucket = item->bucket;
            done->gauges = im_steal(&item->gauges);
            done->gauge_count = item->gauge_count;
            item->gauge_count = item->gauge_capacity = 0;
        } else if (over) {
            monitored_clear(item); /* not seen for a whole bucket */
            continue;
        }
        if (over)
            item->bucket = now_s - now_s % MONITOR_FINE_S;
        set->items[kept++] = *item;
    }
    set->count = kept;
}
