/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into disks: a worker reads the layers of one, and its report stays with the image. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cloud-private.h"
#include "jobs/worker.h"

enum {
    LAYERS_MAX = 256, /* as many descriptors as a worker is given */
    LOOKS_MAX = 2,    /* on demand, at once: each takes a thread of the server */
    SILENCE_MS = 60 * 1000
};

/* --- The layers ------------------------------------------------------------------------------- */

static bool layer_name(struct cloud *cloud, const char *layer_id, char **ret_name,
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;

    if (conn == NULL || !record_get(conn, &layer_type, layer_id, &layer, err))
        return false;
    *ret_name = im_steal(&layer->name);
    return true;
}

static char *worker_request(const struct cloud *cloud, const struct layer_files *files,
                            const struct disk_wish *wish) {
    IM_AUTO(free_auto) char *formats = layer_files_formats(files);
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "layers", formats);
    wire_text(&writer, "user", cloud->config.worker_user);
    if (wish != NULL) {
        wire_text(&writer, "only", wish->only);
        wire_text(&writer, "seal", wish->seal);
    }
    if (wish != NULL && wish->login != NULL)
        wire_raw(&writer, "login", wish->login);
    if (wish != NULL && wish->trim)
        wire_int(&writer, "trim", 1);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

bool disk_look(struct cloud *cloud, const struct layer_files *files, const struct disk_wish *wish,
               const volatile bool *cancel, char **ret_report, struct im_err *err) {
    IM_AUTO(free_auto) char *request = worker_request(cloud, files, wish);

    return worker_run(&(struct worker_call){.program = cloud->config.worker_program,
                                            .verb = wish != NULL ? "plan" : "inspect",
                                            .request = request,
                                            .fds = files->fds,
                                            .fd_count = files->count,
                                            .cancel = cancel,
                                            .silence_ms = SILENCE_MS},
                      ret_report, err);
}

static bool layer_look(struct cloud *cloud, const char *layer_id, enum layer_end end,
                       const struct disk_wish *wish, const volatile bool *cancel, char **ret_report,
                       struct im_err *err) {
    IM_AUTO(layer_files_done) struct layer_files files = {0};
    IM_AUTO(free_auto) char *name = NULL;

    return layer_name(cloud, layer_id, &name, err) &&
           layer_files_open(cloud, name, end, LAYERS_MAX, &files, err) &&
           disk_look(cloud, &files, wish, cancel, ret_report, err);
}

bool layer_inspect(struct cloud *cloud, const char *layer_id, const volatile bool *cancel,
                   char **ret_report, struct im_err *err) {
    return layer_look(cloud, layer_id, LAYER_END_FROZEN, NULL, cancel, ret_report, err);
}

/* --- The report ------------------------------------------------------------------------------- */

bool report_publishes(const struct wire_value *report, struct im_err *err) {
    const struct wire_value *findings = wire_get(report, "findings"), *first = NULL;
    const char *hint;

    if (wire_get_int(report, "errors", 0) == 0)
        return true;
    for (size_t i = 0; first == NULL && i < wire_count(findings); i++)
        if (im_str_equal(wire_get_text(wire_at(findings, i), "severity", ""), "error"))
            first = wire_at(findings, i);
    hint = wire_get_text(first, "hint", "");
    return im_fail(err, IM_WRONG_STATE,
                   "%s [%s]: %s%sforce=1 (imprint: --force) takes it all the same, imprint image "
                   "plan then shows what can be repaired",
                   wire_get_text(first, "text", "something is wrong with the disk"),
                   wire_get_text(first, "code", "unknown"), hint, hint[0] != '\0' ? "; " : "");
}

/* What a report tells of the system: its keys are the fields of an image. The last is NULL. */
static const char *const facts[] = {"platform",     "os_family", "processor_type",
                                    "default_user", "ui_type",   NULL};

static void fill(struct image *image, const struct wire_value *report, size_t fact,
                 bool fill_anew) {
    char **const slots[] = {&image->platform, &image->os_family, &image->processor_type,
                            &image->default_user, &image->ui_type};
    const char *found = wire_get_text(wire_get(report, "os"), facts[fact], "");

    if (found[0] != '\0' && (fill_anew || im_str_empty(*slots[fact])))
        im_replace(slots[fact], found);
}

void image_take_report(struct image *image, const struct wire_value *report,
                       const struct wire_value *given) {
    bool bios = wire_get_int(report, "bios", 0) != 0, uefi = wire_get_int(report, "uefi", 0) != 0;

    free(image->report);
    image->report = wire_dump(report, false);
    for (size_t i = 0; facts[i] != NULL; i++)
        fill(image, report, i, im_str_empty(wire_get_text(given, facts[i], "")));
    if (bios != uefi && im_str_empty(wire_get_text(given, "firmware", "")))
        im_replace(&image->firmware, uefi ? "uefi" : "bios");
}

/* --- After the fact --------------------------------------------------------------------------- */

static bool image_layer(struct cloud *cloud, const char *image_id, char **ret_layer_id,
                        struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (conn == NULL || !record_get(conn, &image_type, image_id, &image, err))
        return false;
    if (im_str_empty(image->layer_id))
        return im_fail(err, IM_NOT_FOUND, "image [%s] is gone again", image_id);
    *ret_layer_id = im_steal(&image->layer_id);
    return true;
}

bool published_look_run(struct job_run *run, const char *image_id, struct im_err *err) {
    IM_AUTO(free_auto) char *layer_id = NULL;
    bool known = image_layer(run->context, image_id, &layer_id, err);
    char *report = NULL;

    if (known && layer_inspect(run->context, layer_id, run->cancel, &report, err)) {
        run->scratch = report;
        return true;
    }
    if (!known && err->code == IM_NO_RECORD)
        return false; /* it is done again when the record is back, */
    if (*run->cancel) /* or at the next start */
        return im_fail(err, IM_CANCELLED, "image [%s] is looked into later", image_id);
    im_warn("cloud", "image %s was not looked into: %s", image_id, err->text);
    *err = (struct im_err){0};
    return true;
}

bool published_look_commit(struct job_run *run, struct db_conn *conn, const char *image_id,
                           struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (run->scratch == NULL)
        return true;
    doc = wire_parse(run->scratch, strlen(run->scratch), err);
    if (doc == NULL || !record_get(conn, &image_type, image_id, &image, err))
        return false;
    for (size_t i = 0; facts[i] != NULL; i++)
        fill(image, wire_root(doc), i, false);
    im_replace(&image->report, run->scratch);
    return record_update_fields(conn, &image_type, image, facts, err) &&
           record_update_fields(conn, &image_type, image, (const char *const[]){"report", NULL},
                                err);
}

/* --- On demand -------------------------------------------------------------------------------- */

struct demand {
    const struct caller *caller;
    const char *id, *kind;
    char layer_id[IM_ID_MAX];
    enum layer_end end;
    bool keeps; /* the report is written to the caller's own image */
};

static bool not_available(const struct demand *demand, struct im_err *err) {
    return im_fail(err, IM_WRONG_STATE, "%s [%s] is not available, can not be inspected",
                   demand->kind, demand->id);
}

static void take_layer(struct demand *demand, const char *kind, const char *layer_id,
                       enum layer_end end) {
    demand->kind = kind;
    demand->end = end;
    snprintf(demand->layer_id, sizeof(demand->layer_id), "%s", layer_id ? layer_id : "");
}

static bool find_image(struct db_conn *conn, struct demand *demand, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    struct im_err denied = {0};

    if (!image_load(conn, demand->caller, demand->id, &image, err))
        return false;
    take_layer(demand, "image", image->layer_id, LAYER_END_FROZEN);
    demand->keeps = image_owned(demand->caller, image, &denied);
    return image->status == IMAGE_AVAILABLE || not_available(demand, err);
}

static bool find_snapshot(struct db_conn *conn, struct demand *demand, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

    if (!snapshot_load(conn, demand->caller, demand->id, &snapshot, err))
        return false;
    take_layer(demand, "snapshot", snapshot->layer_id, LAYER_END_FROZEN);
    return snapshot->status == SNAPSHOT_AVAILABLE || not_available(demand, err);
}

/* What a machine writes to just now would be nonsense to who reads it. */
static bool find_volume(struct db_conn *conn, struct demand *demand, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (!volume_load(conn, demand->caller, demand->id, &volume, err) ||
        !volume_allows(volume, "InspectImage", err) ||
        (!im_str_empty(volume->instance_id) &&
         !record_get(conn, &instance_type, volume->instance_id, &instance, err)))
        return false;
    take_layer(demand, "volume", volume->layer_id, LAYER_END_HEAD);
    return instance == NULL || instance->status != INSTANCE_RUNNING ||
           im_fail(err, IM_WRONG_STATE,
                   "volume [%s] is attached to instance [%s], which is running: stop it or "
                   "detach the volume first",
                   demand->id, instance->instance_id);
}

static bool find_instance(struct db_conn *conn, struct demand *demand, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (!instance_load(conn, demand->caller, demand->id, &instance, err) ||
        !instance_allows(instance, "InspectImage", err))
        return false;
    take_layer(demand, "instance", instance->layer_id, LAYER_END_HEAD);
    return true;
}

static bool find_layer(struct cloud *cloud, struct demand *demand, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    bool found =
        conn != NULL && (im_starts_with(demand->id, "ss-")    ? find_snapshot(conn, demand, err)
                         : im_starts_with(demand->id, "vol-") ? find_volume(conn, demand, err)
                         : im_starts_with(demand->id, "i-")   ? find_instance(conn, demand, err)
                                                              : find_image(conn, demand, err));

    return found && (demand->layer_id[0] != '\0' || not_available(demand, err)) &&
           layer_usable(conn, demand->layer_id, err);
}

struct keep {
    const char *image_id;
    char *report;
};

static bool keep_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct keep *keep = arg;
    struct image image = {.image_id = (char *) keep->image_id, .report = keep->report};

    return record_update_fields(conn, &image_type, &image, (const char *const[]){"report", NULL},
                                err);
}

/* Fails with IM_BUSY rather than let looks take all the server's threads. */
static bool enter(struct cloud *cloud, struct im_err *err) {
    bool entered;

    pthread_mutex_lock(&cloud->lock);
    entered = cloud->looks < LOOKS_MAX;
    cloud->looks += entered ? 1 : 0;
    pthread_mutex_unlock(&cloud->lock);
    return entered ||
           im_fail(err, IM_BUSY, "other disks are being inspected, try again in a moment");
}

static void leave(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->looks--;
    pthread_mutex_unlock(&cloud->lock);
}

static bool look(struct cloud *cloud, struct demand *demand, const struct disk_wish *wish,
                 char **ret_report, struct im_err *err) {
    bool looked;

    if (im_str_empty(demand->id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image] is missing");
    if (!find_layer(cloud, demand, err) || !enter(cloud, err))
        return false;
    looked = layer_look(cloud, demand->layer_id, demand->end, wish, NULL, ret_report, err);
    leave(cloud);
    return looked || im_within(err, "%s [%s]", demand->kind, demand->id);
}

bool cloud_inspect(struct cloud *cloud, const struct caller *caller, const char *id,
                   char **ret_report, struct im_err *err) {
    struct demand demand = {.caller = caller, .id = id};
    IM_AUTO(free_auto) char *report = NULL;
    struct keep keep = {.image_id = id};

    if (!look(cloud, &demand, NULL, &report, err))
        return false;
    keep.report = report;
    if (demand.keeps && !cloud_transact(cloud, keep_body, &keep, err))
        return false;
    *ret_report = im_steal(&report);
    return true;
}

/* --- What would repair it --------------------------------------------------------------------- */

/* How it would be done is between workers. */
static char *plan_for_people(const struct wire_value *plan) {
    static const char *const keys[] = {"repairs", "files", "steps"};
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        IM_AUTO(free_auto) char *part = wire_dump(wire_get(plan, keys[i]), false);

        wire_raw(&writer, keys[i], part);
    }
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

bool cloud_repair_plan(struct cloud *cloud, const struct caller *caller, const char *id,
                       const struct im_strings *codes, const struct im_strings *seal,
                       char **ret_plan, struct im_err *err) {
    struct demand demand = {.caller = caller, .id = id};
    IM_AUTO(free_auto) char *only = im_strings_join(codes, " ");
    IM_AUTO(free_auto) char *items = im_strings_join(seal, " ");
    struct disk_wish wish = {.only = only, .seal = items};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *text = NULL;
    const struct wire_value *plan;

    if (only[0] == '\0' && items[0] == '\0')
        wish.only = "all";
    if (!look(cloud, &demand, &wish, &text, err))
        return false;
    doc = wire_parse(text, strlen(text), err);
    if (doc == NULL)
        return false;
    plan = wire_get(wire_root(doc), "plan");
    if (wire_kind(plan) != WIRE_OBJECT)
        return im_fail(err, IM_INTERNAL, "the worker has made no plan");
    *ret_plan = plan_for_people(plan);
    return true;
}
