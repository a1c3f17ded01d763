/* SPDX-License-Identifier: Apache-2.0 */
/* Chains inside running machines are kept short, in the background: the hypervisor copies what lies
 * between a head and a layer below into the head, which stands on that layer then.
 *
 *     row in `pulls` ─> copying ─> the machine reads through less ─> header and bytes of the head
 *     are durable ─> graph and row agree
 *
 * A head shows the same on each of the layers that it stood on, as long as it holds what was
 * copied: that is sure only once the machine has written all of it out. Until then the graph has
 * the old chain, which is never wrong, and to which everything returns that was cut short. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

enum { LOOK_MS = 300, SYNC_MS = 1000 };

/* --- The rows --------------------------------------------------------------------------------- */

struct pull {
    char head_id[IM_ID_MAX], base_id[IM_ID_MAX], machine[IM_ID_MAX], disk[IM_ID_MAX];
    bool begun;
};

/* Whatever else is asked of a machine locks it first, and ends what was begun before it acts. */
static bool is_free(struct db_conn *conn, const struct pull *pull, bool *ret_free,
                    struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (!record_get(conn, &instance_type, pull->machine, &instance, err))
        return false;
    *ret_free =
        instance->status == INSTANCE_RUNNING && instance->transition_status == TRANSITION_NONE;
    if (strcmp(pull->disk, pull->machine) == 0) {
        *ret_free = *ret_free && im_str_equal(instance->layer_id, pull->head_id);
        return true;
    }
    if (!record_get(conn, &volume_type, pull->disk, &volume, err))
        return false;
    *ret_free = *ret_free && volume->status == VOLUME_IN_USE && volume->busy == 0 &&
                volume->transition_status == TRANSITION_NONE &&
                im_str_equal(volume->instance_id, pull->machine) &&
                im_str_equal(volume->layer_id, pull->head_id);
    return true;
}

static bool begin_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct pull *pull = arg;

    return is_free(conn, pull, &pull->begun, err) &&
           (!pull->begun ||
            db_exec(conn, NULL, err,
                    "INSERT INTO pulls (layer_id, base_id, machine, disk, create_time)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    "tttti", pull->head_id, pull->base_id, pull->machine, pull->disk, im_now_s()));
}

static bool forget_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return db_exec(conn, NULL, err, "DELETE FROM pulls WHERE layer_id = $1", "t",
                   ((struct pull *) arg)->head_id);
}

static bool done_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct pull *pull = arg;

    return layer_stand_on(conn, pull->head_id, pull->base_id, err) && forget_body(conn, arg, err);
}

/* Those of this disk, or this machine; of all with "". */
static bool rows_load(struct cloud *cloud, const char *id, struct pull **ret_pulls,
                      size_t *ret_count, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    IM_AUTO(free_auto) struct pull *pulls = NULL;
    size_t count = 0, capacity = 0;
    bool more = true;

    if (conn == NULL || (rows = db_query(conn, err,
                                         "SELECT layer_id, base_id, machine, disk FROM pulls"
                                         " WHERE $1 = '' OR machine = $1 OR disk = $1",
                                         "t", id)) == NULL)
        return false;
    while (more) {
        if (!db_next(rows, &more, err))
            return false;
        if (!more)
            break;
        im_grow(&pulls, count, &capacity);
        pulls[count] = (struct pull){.begun = true};
        snprintf(pulls[count].head_id, IM_ID_MAX, "%s", db_text(rows, 0));
        snprintf(pulls[count].base_id, IM_ID_MAX, "%s", db_text(rows, 1));
        snprintf(pulls[count].machine, IM_ID_MAX, "%s", db_text(rows, 2));
        snprintf(pulls[count++].disk, IM_ID_MAX, "%s", db_text(rows, 3));
    }
    *ret_pulls = im_steal(&pulls);
    *ret_count = count;
    return true;
}

/* --- Where it stands -------------------------------------------------------------------------- */

/* The layers of a pull as record and pool have them. Names of what is not there are "". */
struct sides {
    char head[STORAGE_NAME_MAX], parent[STORAGE_NAME_MAX], base[STORAGE_NAME_MAX];
    char *head_path, *base_path;
};

static void sides_done(struct sides *sides) {
    free(sides->head_path);
    free(sides->base_path);
}

static bool name_of(struct db_conn *conn, const char *layer_id, char ret_name[STORAGE_NAME_MAX],
                    struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct im_err missing = {0};

    ret_name[0] = '\0';
    if (layer_id == NULL)
        return true;
    if (record_get(conn, &layer_type, layer_id, &layer, &missing)) {
        snprintf(ret_name, STORAGE_NAME_MAX, "%s", layer->name);
        return true;
    }
    *err = missing;
    return missing.code == IM_NOT_FOUND;
}

/* NULL with success: the pool does not have it. */
static bool path_of(struct cloud *cloud, const char *name, char **ret_path, struct im_err *err) {
    struct storage_source source = {0};
    struct im_err missing = {0};

    if (name[0] == '\0')
        return true;
    if (storage_attach_info(cloud->config.pool, name, &source, &missing)) {
        *ret_path = im_steal(&source.path);
        storage_source_done(&source);
        return true;
    }
    *err = missing;
    return missing.code == IM_NOT_FOUND;
}

static bool sides_load(struct cloud *cloud, const struct pull *pull, struct sides *sides,
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *head = NULL;
    struct im_err missing = {0};

    if (conn == NULL)
        return false;
    if (!record_get(conn, &layer_type, pull->head_id, &head, &missing)) {
        *err = missing;
        return missing.code == IM_NOT_FOUND;
    }
    if (head->state == LAYER_HEAD)
        snprintf(sides->head, sizeof(sides->head), "%s", head->name);
    if (!name_of(conn, head->parent_id, sides->parent, err) ||
        !name_of(conn, pull->base_id, sides->base, err))
        return false;
    db_give(im_steal(&conn));
    return path_of(cloud, sides->head, &sides->head_path, err) &&
           path_of(cloud, sides->base, &sides->base_path, err);
}

/* Whether its header names this parent, as layers of a pool name one another. */
static bool names(struct cloud *cloud, const struct sides *sides, const char *parent,
                  bool *ret_names, struct im_err *err) {
    char named[STORAGE_NAME_MAX] = "";
    struct im_err other = {0};

    *ret_names = storage_parent(cloud->config.pool, sides->head, named, &other) &&
                 strcmp(named, parent) == 0;
    if (other.code == IM_OK || other.code == IM_BAD_IMAGE)
        return true;
    *err = other;
    return false;
}

/* What a machine that is off has copied may not all be there, whatever the header says. */
static bool take_back_off(struct cloud *cloud, const struct sides *sides, struct im_err *err) {
    bool named = false;

    return names(cloud, sides, sides->parent, &named, err) &&
           (named || storage_reparent(cloud->config.pool, sides->head, sides->parent, err));
}

static bool settle_running(struct cloud *cloud, const struct pull *pull, const struct sides *sides,
                           bool pulled, struct im_err *err) {
    const char *parent = pulled ? sides->base : sides->parent;
    IM_AUTO(free_auto) char *file = layer_file(cloud, parent, err);
    bool named = false;

    if (file == NULL || !names(cloud, sides, parent, &named, err))
        return false;
    if (named && !pulled)
        return true;
    return virt_disk_settle(cloud->config.virt, pull->machine, pull->disk, file, err) &&
           names(cloud, sides, parent, &named, err) &&
           (named || im_fail(err, IM_INTERNAL, "the header of layer %s does not name %s",
                             sides->head, parent));
}

/* Ends it first. *ret_runs: the machine has the disk open. */
static bool look(struct cloud *cloud, const struct pull *pull, struct virt_chain *ret_chain,
                 bool *ret_runs, struct im_err *err) {
    struct im_err failed = {0};

    *ret_runs = virt_pull_end(cloud->config.virt, pull->machine, pull->disk, &failed) &&
                virt_disk_chain(cloud->config.virt, pull->machine, pull->disk, ret_chain, &failed);
    if (*ret_runs || failed.code == IM_NOT_FOUND)
        return true;
    *err = failed;
    return false;
}

static bool settle_head(struct cloud *cloud, struct pull *pull, const struct sides *sides,
                        struct im_err *err) {
    IM_AUTO(virt_chain_done) struct virt_chain chain = {0};
    bool runs = false, pulled;

    if (!look(cloud, pull, &chain, &runs, err))
        return false;
    if (!runs)
        return take_back_off(cloud, sides, err) && cloud_transact(cloud, forget_body, pull, err);
    if (chain.paths.count < 2 || !im_str_equal(chain.paths.items[0], sides->head_path)) {
        im_warn("cloud", "%s: its machine writes to %s, not to %s", pull->disk,
                chain.paths.count > 0 ? chain.paths.items[0] : "nothing", sides->head_path);
        return cloud_transact(cloud, forget_body, pull, err);
    }
    pulled = im_str_equal(chain.paths.items[1], sides->base_path);
    return settle_running(cloud, pull, sides, pulled, err) &&
           cloud_transact(cloud, pulled ? done_body : forget_body, pull, err);
}

/* With the machine locked. A head that was given up meanwhile, or is lost, is nobody's any more. */
static bool settle(struct cloud *cloud, struct pull *pull, struct im_err *err) {
    IM_AUTO(sides_done) struct sides sides = {0};

    return (sides_load(cloud, pull, &sides, err) &&
            (sides.head_path == NULL || sides.parent[0] == '\0'
                 ? cloud_transact(cloud, forget_body, pull, err)
                 : settle_head(cloud, pull, &sides, err))) ||
           im_within(err, "layer %s", pull->head_id);
}

/* --- Ending it -------------------------------------------------------------------------------- */

static bool settle_machine(struct cloud *cloud, const char *id, struct im_err *err) {
    IM_AUTO(free_auto) struct pull *pulls = NULL;
    size_t count = 0;

    if (!rows_load(cloud, id, &pulls, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!settle(cloud, &pulls[i], err))
            return false;
    return true;
}

/* The rows are read again once the machine is locked: who began them may have ended them. */
bool pull_stop(struct cloud *cloud, const char *id, struct im_err *err) {
    IM_AUTO(free_auto) struct pull *pulls = NULL;
    size_t count = 0;
    bool settled = true;

    if (!rows_load(cloud, id, &pulls, &count, err))
        return false;
    for (size_t i = 0; i < count && settled; i++) {
        machine_lock(cloud, pulls[i].machine);
        settled = settle_machine(cloud, pulls[i].disk, err);
        machine_unlock(cloud, pulls[i].machine);
    }
    return settled;
}

void pull_stop_anyway(struct cloud *cloud, const char *id) {
    struct im_err later = {0};

    if (!pull_stop(cloud, id, &later))
        im_warn("cloud", "%s: what it was taking up is settled later: %s", id, later.text);
}

bool pull_settle(struct cloud *cloud, struct im_err *err) { return pull_stop(cloud, "", err); }

/* --- Beginning it ----------------------------------------------------------------------------- */

/* Under the lock, so that who ends it comes before, and it is not begun, or after. */
static bool begin(struct cloud *cloud, const struct pull_plan *plan, struct pull *pull,
                  struct im_err *err) {
    struct im_err later = {0};
    bool begun;

    machine_lock(cloud, pull->machine);
    begun = cloud_transact(cloud, begin_body, pull, err) &&
            (!pull->begun ||
             virt_pull_begin(cloud->config.virt, pull->machine, pull->disk, plan->base_path,
                             (uint64_t) cloud->config.merge_rate, err));
    if (!begun && !settle_machine(cloud, pull->disk, &later))
        im_warn("cloud", "%s: what it was taking up is settled later: %s", pull->disk, later.text);
    machine_unlock(cloud, pull->machine);
    return begun;
}

/* Until nothing is copied any more, or somebody has ended it. What was copied is written out beside
 * it: else the next point would wait for all of that. */
static bool watch(struct cloud *cloud, const struct pull *pull, const char *head,
                  struct im_err *err) {
    int64_t sync_ms = im_mono_ms() + SYNC_MS;

    for (bool stay = true;; stay = fold_wait(cloud, LOOK_MS)) {
        IM_AUTO(virt_chain_done) struct virt_chain chain = {0};
        IM_AUTO(free_auto) struct pull *pulls = NULL;
        struct im_err away = {0};
        size_t count = 0;

        if (!stay || cloud->fold_cancel)
            return im_fail(err, IM_CANCELLED, "it was told to end");
        if (!rows_load(cloud, pull->disk, &pulls, &count, err))
            return false;
        if (count == 0)
            return true;
        /* A hypervisor that is away for a while copies on. */
        if (virt_disk_chain(cloud->config.virt, pull->machine, pull->disk, &chain, &away)
                ? !chain.pulling
                : away.code == IM_NOT_FOUND)
            return true;
        if (im_mono_ms() >= sync_ms) {
            if (!storage_sync(cloud->config.pool, head, &away))
                im_debug("cloud", "%s", away.text);
            sync_ms = im_mono_ms() + SYNC_MS;
        }
    }
}

/* What came of it is told by the record. */
static bool outcome(struct cloud *cloud, const struct pull *pull, bool ended_here,
                    struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *head = NULL;
    struct storage_space space = {0};
    struct im_err gone = {0}, unknown = {0};
    bool still = false;

    if (conn == NULL || !storage_space(cloud->config.pool, &space, &unknown))
        im_debug("cloud", "%s", unknown.text);
    if (conn == NULL)
        return false;
    if (record_get(conn, &layer_type, pull->head_id, &head, &gone) &&
        im_str_equal(head->parent_id, pull->base_id))
        return true;
    if (!ended_here || head == NULL || !is_free(conn, pull, &still, &gone) || !still)
        return im_fail(err, IM_BUSY, "something else was asked of it");
    return im_fail(err, IM_NO_SPACE,
                   "its machine could not copy that; %llu MiB are free in the pool",
                   (unsigned long long) (space.free_bytes >> 20));
}

static bool run_begun(struct cloud *cloud, const struct pull *pull, const char *head,
                      struct im_err *err) {
    struct im_err watched = {0};
    IM_AUTO(free_auto) struct pull *left = NULL;
    size_t count = 0;
    bool over = watch(cloud, pull, head, &watched);

    if (!rows_load(cloud, pull->disk, &left, &count, err) || !pull_stop(cloud, pull->disk, err))
        return false;
    if (!over && watched.code != IM_CANCELLED) {
        *err = watched;
        return false;
    }
    if (outcome(cloud, pull, count > 0, err))
        return true;
    if (!over)
        *err = watched;
    return false;
}

bool pull_run(struct cloud *cloud, const struct pull_plan *plan, struct im_err *err) {
    const struct layer *base = plan->layers[plan->base];
    struct pull pull = {0};

    snprintf(pull.head_id, IM_ID_MAX, "%s", plan->layers[0]->layer_id);
    snprintf(pull.base_id, IM_ID_MAX, "%s", base->layer_id);
    snprintf(pull.machine, IM_ID_MAX, "%s", plan->machine);
    snprintf(pull.disk, IM_ID_MAX, "%s", plan->disk);
    if (!layers_fit(cloud, plan->layers + 1, plan->base - 1, err) ||
        !layers_whole(cloud, plan->layers + 1, plan->base - 1, err) ||
        !begin(cloud, plan, &pull, err))
        return im_within(err, "%s", plan->disk);
    if (!pull.begun)
        return im_fail(err, IM_BUSY, "%s: something else was asked of it", plan->disk);
    if (!run_begun(cloud, &pull, plan->layers[0]->name, err))
        return im_within(err, "%s", plan->disk);
    background_collect(cloud);
    im_info("cloud", "%s: read through %zu layers in place of %zu, stands on %s", plan->disk,
            plan->left, plan->depth, base->layer_id);
    return true;
}

/* --- In the thread ---------------------------------------------------------------------------- */

/* What is interrupted, for one, is not begun again at once: it would be copied into each head anew.
 */
bool pull_round(struct cloud *cloud, struct im_strings *leave) {
    while (!cloud->fold_cancel) {
        IM_AUTO(pull_plan_done) struct pull_plan plan = {0};
        struct im_err err = {0};

        if (!pull_settle(cloud, &err) ||
            !pull_plan_next(cloud, leave, &cloud->pull_seen, &plan, &err)) {
            im_warn("cloud", "chains of running machines are shortened later: %s", err.text);
            return false;
        }
        if (plan.disk[0] == '\0')
            return true;
        if (!pull_run(cloud, &plan, &err)) {
            if (err.code == IM_CANCELLED)
                return false;
            if (err.code == IM_BUSY)
                im_info("cloud", "its chain stays as it is for now: %s", err.text);
            else
                im_warn("cloud", "its chain stays as it is for now: %s", err.text);
            im_strings_add(leave, plan.disk);
        }
    }
    return false;
}
