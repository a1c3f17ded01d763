/* SPDX-License-Identifier: Apache-2.0 */
/* Which disk of a running machine is read through too many layers, and what its head should stand
 * on. The record cannot tell: its chains get shorter while machines go on with what they opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cloud-private.h"

/* Nobody has locked them. */
static const char running_disks[] =
    "SELECT i.instance_id, i.instance_id, i.layer_id FROM instances i WHERE i.status = 'running'"
    " AND i.transition_status = ''"
    " UNION ALL SELECT i.instance_id, v.volume_id, v.layer_id FROM volumes v"
    " JOIN instances i ON i.instance_id = v.instance_id WHERE i.status = 'running'"
    " AND i.transition_status = '' AND v.status = 'in-use' AND v.transition_status = ''"
    " AND v.busy = 0";

void pull_plan_done(struct pull_plan *plan) {
    record_list_free(&layer_type, (void **) plan->layers, plan->chain);
    free(plan->base_path);
    *plan = (struct pull_plan){0};
}

/* --- The base --------------------------------------------------------------------------------- */

/* Where the machine has this file, counted from the head; the count of its layers if nowhere. */
static size_t place_of(const struct virt_chain *chain, const char *path) {
    size_t i = 0;

    while (i < chain->paths.count && strcmp(chain->paths.items[i], path) != 0)
        i++;
    return i;
}

/* A layer that both sides have shows the same on both, whatever became of those below it. Takes the
 * highest one in the lower half of what is allowed, so that the next time comes late and little is
 * copied; else the lowest there is, mostly the image. */
static bool choose_base(struct cloud *cloud, const struct virt_chain *chain, struct pull_plan *plan,
                        struct im_err *err) {
    size_t half = (size_t) cloud->config.running_chain_max / 2;
    bool low = false;

    for (size_t i = 1; i < plan->chain && !low; i++) {
        struct storage_source source = {0};
        struct im_err lost = {0};
        size_t place;

        if (!storage_attach_info(cloud->config.pool, plan->layers[i]->name, &source, &lost)) {
            if (lost.code == IM_NOT_FOUND)
                continue; /* nothing can stand on it */
            *err = lost;
            return false;
        }
        place = place_of(chain, source.path);
        if (place >= 2 && place < chain->paths.count) {
            plan->base = i;
            plan->left = chain->paths.count - place + 1;
            im_replace(&plan->base_path, source.path);
            low = plan->left - 1 <= half;
        }
        storage_source_done(&source);
    }
    return true;
}

/* --- The disk --------------------------------------------------------------------------------- */

static bool plan_for(struct cloud *cloud, const char *machine, const char *disk,
                     const char *layer_id, struct im_strings *leave, struct im_strings *seen,
                     struct pull_plan *plan, struct im_err *err) {
    IM_AUTO(virt_chain_done) struct virt_chain chain = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    struct im_err away = {0};

    if (!virt_disk_chain(cloud->config.virt, machine, disk, &chain, &away)) {
        if (away.code == IM_NOT_FOUND) /* it has just stopped, or does not have it yet */
            return true;
        if (away.code != IM_BUSY && away.code != IM_TIMEOUT) {
            *err = away;
            return false;
        }
        im_warn("cloud", "%s: how deep its chain is will be asked later: %s", disk, away.text);
        im_strings_add(leave, disk); /* one that hangs does not keep the others waiting */
        return true;
    }
    plan->depth = chain.paths.count;
    if (plan->depth <= (size_t) cloud->config.running_chain_max) {
        im_strings_add(seen, layer_id);
        return true;
    }
    conn = db_take(cloud->config.db, err);
    if (conn == NULL || !layer_chain(conn, layer_id, &plan->layers, &plan->chain, err) ||
        !choose_base(cloud, &chain, plan, err))
        return false;
    if (plan->base == 0)
        return true;
    snprintf(plan->machine, sizeof(plan->machine), "%s", machine);
    snprintf(plan->disk, sizeof(plan->disk), "%s", disk);
    return true;
}

struct running {
    struct im_strings machines, disks, layers; /* side by side */
};

static void running_done(struct running *running) {
    im_strings_done(&running->machines);
    im_strings_done(&running->disks);
    im_strings_done(&running->layers);
}

static bool running_load(struct cloud *cloud, struct running *running, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = true;

    if (conn == NULL || (rows = db_query(conn, err, running_disks, "")) == NULL)
        return false;
    while (more) {
        if (!db_next(rows, &more, err))
            return false;
        if (!more)
            break;
        im_strings_add(&running->machines, db_text(rows, 0));
        im_strings_add(&running->disks, db_text(rows, 1));
        im_strings_add(&running->layers, db_text(rows, 2));
    }
    return true;
}

/* A disk gets deeper only with another head, so each head is asked for once. */
bool pull_plan_next(struct cloud *cloud, struct im_strings *leave, struct im_strings *seen,
                    struct pull_plan *ret_plan, struct im_err *err) {
    IM_AUTO(running_done) struct running running = {0};
    struct im_strings still = {0};
    bool planned = true;

    if (cloud->config.running_chain_max == 0)
        return true;
    if (!running_load(cloud, &running, err))
        return false;
    for (size_t i = 0; i < running.layers.count && planned && ret_plan->disk[0] == '\0'; i++) {
        const char *layer_id = running.layers.items[i];

        if (im_strings_has(seen, layer_id))
            im_strings_add(&still, layer_id);
        else if (!im_strings_has(leave, running.disks.items[i])) {
            pull_plan_done(ret_plan);
            planned = plan_for(cloud, running.machines.items[i], running.disks.items[i], layer_id,
                               leave, &still, ret_plan, err);
        }
    }
    if (planned && ret_plan->disk[0] == '\0') { /* all were looked at: the others are gone */
        im_strings_done(seen);
        *seen = still;
        still = (struct im_strings){0};
    }
    im_strings_done(&still);
    return planned;
}
