/* SPDX-License-Identifier: Apache-2.0 */
/* Names for common sizes of instances: the classic cCmM family and the series s1, e1, p1, e2, drawn
 * from their rules. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

enum { PRESETS_MAX = 192 };
static struct instance_preset presets[PRESETS_MAX];
static size_t preset_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void add(int64_t instance_class, int64_t vcpus, int64_t memory_mb, const char *name) {
    struct instance_preset *preset = &presets[preset_count];

    if (preset_count == PRESETS_MAX)
        return;
    preset_count++;
    preset->vcpus = vcpus;
    preset->memory_mb = memory_mb;
    preset->instance_class = instance_class;
    snprintf(preset->name, sizeof(preset->name), "%s", name);
}

static void add_classic(void) {
    static const int sizes[][2] = {{1, 1}, {1, 2}, {1, 4}, {2, 2}, {2, 4},
                                   {2, 8}, {4, 4}, {4, 8}, {4, 16}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char name[24];

        snprintf(name, sizeof(name), "c%dm%d", sizes[i][0], sizes[i][1]);
        add(0, sizes[i][0], sizes[i][1] * 1024, name);
    }
    add(0, 1, 1024, "small_b");
}

static void add_series(void) {
    static const struct {
        const char *name;
        int vcpus;
    } sizes[] = {{"small", 1},    {"large", 2},    {"xlarge", 4},
                 {"2xlarge", 8},  {"3xlarge", 12}, {"4xlarge", 16},
                 {"6xlarge", 24}, {"8xlarge", 32}, {"16xlarge", 64}};
    static const struct {
        const char *name;
        int instance_class, first, last, max_ratio;
    } series[] = {
        {"s1", 101, 0, 3, 4}, {"e1", 201, 1, 7, 8}, {"p1", 301, 1, 8, 8}, {"e2", 202, 0, 7, 8}};

    for (size_t s = 0; s < sizeof(series) / sizeof(series[0]); s++)
        for (int i = series[s].first; i <= series[s].last; i++)
            for (int ratio = 1; ratio <= series[s].max_ratio; ratio *= 2) {
                char name[24];

                snprintf(name, sizeof(name), "%s.%s.r%d", series[s].name, sizes[i].name, ratio);
                add(series[s].instance_class, sizes[i].vcpus,
                    (int64_t) sizes[i].vcpus * ratio * 1024, name);
            }
}

static void fill(void) {
    add_classic();
    add_series();
}

const struct instance_preset *instance_presets(size_t *ret_count) {
    pthread_once(&once, fill);
    *ret_count = preset_count;
    return presets;
}

const struct instance_preset *instance_preset_find(const char *name) {
    size_t count;
    const struct instance_preset *preset = instance_presets(&count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(preset[i].name, name) == 0)
            return &preset[i];
    return NULL;
}

const char *instance_preset_name(int64_t vcpus, int64_t memory_mb, int64_t instance_class) {
    size_t count;
    const struct instance_preset *preset = instance_presets(&count);

    for (size_t i = 0; i < count; i++)
        if (preset[i].vcpus == vcpus && preset[i].memory_mb == memory_mb &&
            preset[i].instance_class == instance_class)
            return preset[i].name;
    return "custom";
}
