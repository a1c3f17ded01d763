/* SPDX-License-Identifier: Apache-2.0 */
/* Capture with trim: blocks that hold no file any more are not kept with the image. The instance
 * itself goes on without them, as only then nobody needs the layer that has them: it is merged into
 * the one above it, which takes what still shows. */
#include <string.h>

#include "base/log.h"
#include "cloud-private.h"

struct trimmed {
    struct disk_next next;
    int64_t freed_bytes;
};

static bool mend(struct job_run *run, const struct disk_work *work, struct trimmed *trimmed,
                 struct im_err *err) {
    struct disk_wish wish = {.only = "", .seal = "", .trim = true};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_str_done) struct im_str text = {0};
    IM_AUTO(free_auto) char *result = NULL;
    char size[16];

    if (!head_mend(run, trimmed->next.head, work->size_bytes, &wish, &result, err))
        return false;
    doc = wire_parse(result, strlen(result), err);
    if (doc == NULL)
        return false;
    if (!disk_next_judge(wire_root(doc), &text, err))
        return im_within(err, "instance [%s] can be captured without trim", run->item->resource_id);
    trimmed->freed_bytes = wire_get_int(wire_root(doc), "freed_bytes", 0);
    im_info("cloud", "%s: %s: %s", run->item->resource_id, text.len > 0 ? text.data : "unchanged",
            im_size_text((uint64_t) trimmed->freed_bytes, size));
    return true;
}

bool trim_step_run(struct job_run *run, struct im_err *err) {
    struct disk_work work = {0};
    struct trimmed *trimmed;

    if (!disk_work_load(run, NULL, &work, err))
        return false;
    if (work.make[0] == '\0')
        return true;
    run->scratch = trimmed = im_alloc(sizeof(*trimmed));
    return disk_next_begin(run->context, run->item->resource_id, work.from_name, work.make_name,
                           &trimmed->next, err) &&
           mend(run, &work, trimmed, err);
}

bool trim_step_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    const struct trimmed *trimmed = run->scratch;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    struct disk_work work = {0};
    struct image image = {0};

    if (data == NULL || !disk_work_load(run, conn, &work, err))
        return false;
    if (work.make[0] == '\0')
        return true;
    image.image_id = (char *) wire_get_text(wire_root(data), "image", "");
    image.trimmed_bytes = trimmed->freed_bytes;
    return disk_next_commit(conn, run->item->resource_id, work.from, work.make, &trimmed->next,
                            err) &&
           record_update_fields(conn, &image_type, &image,
                                (const char *const[]){"trimmed_bytes", NULL}, err);
}

static bool is_unmade(const struct disk_work *work) {
    return work->make[0] != '\0' && work->made == LAYER_MAKING;
}

bool trim_step_undo(struct job_run *run, struct im_err *err) {
    struct disk_work work = {0};

    return disk_work_load(run, NULL, &work, err) &&
           (!is_unmade(&work) || disk_next_undo(run->context, work.from_name, work.make_name, err));
}

bool trim_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    struct disk_work work = {0};

    return disk_work_load(run, conn, &work, err) &&
           (!is_unmade(&work) || layer_drop(run->context, conn, work.make, err));
}
