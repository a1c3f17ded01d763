/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords and keys of stopped machines without cloud-init: nothing in such a system would read a
 * seed, so its own files are changed, in a layer of their own. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud-private.h"

enum { LAYERS_MAX = 192, EDITS_AT_ONCE = 4 /* each may have a machine of some hundred MiB */ };
static const char no_cloud_init[] = "os.no_cloud_init";

bool login_edit_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                     struct wire_writer *data, struct im_err *err) {
    char make[IM_ID_MAX];

    return instance->status != INSTANCE_STOPPED ||
           disk_next_plan(cloud, conn, instance, data, make, err);
}

static struct login_edit *edit_new(const char *text) {
    struct login_edit *edit = im_alloc(sizeof(*edit) + strlen(text) + 1);

    strcpy(edit->text, text);
    return edit;
}

/* --- Whether the disk has to be changed ------------------------------------------------------- */

static bool reads_no_seed(const struct wire_value *report) {
    const struct wire_value *findings = wire_get(report, "findings");

    if (!im_str_equal(wire_get_text(wire_get(report, "os"), "platform", ""), "linux"))
        return false;
    for (size_t i = 0; i < wire_count(findings); i++)
        if (im_str_equal(wire_get_text(wire_at(findings, i), "code", ""), no_cloud_init))
            return true;
    return false;
}

static bool look(struct job_run *run, const struct disk_work *work, bool *ret_needed,
                 struct im_err *err) {
    IM_AUTO(layer_files_done) struct layer_files files = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *text = NULL;

    if (!layer_files_open(run->context, work->from_name, LAYER_END_HEAD, LAYERS_MAX, &files, err) ||
        !disk_look(run->context, &files, NULL, run->cancel, &text, err))
        return false;
    doc = wire_parse(text, strlen(text), err);
    if (doc == NULL)
        return false;
    *ret_needed = reads_no_seed(wire_root(doc));
    return true;
}

/* --- The edit --------------------------------------------------------------------------------- */

static char *login_text(const struct disk_login *login) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "user", login->user);
    wire_text(&writer, "hash", login->hash);
    wire_array_begin(&writer, "keys");
    for (size_t i = 0; i < login->line_count; i++)
        wire_text(&writer, NULL, login->lines[i]);
    wire_array_end(&writer);
    wire_int(&writer, "detach", login->detach);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

/* In a disk that needs nothing, as it has the key already, nothing is begun. */
static bool edit(struct job_run *run, const struct disk_work *work, const struct disk_login *login,
                 struct login_edit **ret_edit, struct im_err *err) {
    IM_AUTO(free_auto) char *wanted = login_text(login);
    struct disk_wish wish = {.only = "", .seal = "", .login = wanted};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_str_done) struct im_str text = {0};
    IM_AUTO(free_auto) char *result = NULL;
    struct disk_next next = {0};
    bool changed;

    if (!appliance_there(run->context, err) ||
        !disk_next_begin(run->context, run->item->resource_id, work->from_name, work->make_name,
                         &next, err) ||
        !head_mend(run, next.head, work->size_bytes, &wish, &result, err))
        return false;
    doc = wire_parse(result, strlen(result), err);
    if (doc == NULL || !disk_next_judge(wire_root(doc), &text, err))
        return false;
    changed = wire_get_int(wire_root(doc), "changed", 0) != 0;
    if (!changed && !disk_next_undo(run->context, work->from_name, work->make_name, err))
        return false;
    im_info("cloud", "%s: %s", run->item->resource_id, text.len > 0 ? text.data : "unchanged");
    *ret_edit = edit_new("");
    (*ret_edit)->needed = true;
    (*ret_edit)->edited = changed;
    (*ret_edit)->next = next;
    return true;
}

bool login_edit_run(struct job_run *run, const struct disk_login *login,
                    struct login_edit **ret_edit, struct im_err *err) {
    struct disk_work work = {0};
    struct im_err blind = {0};
    bool needed = false;

    if (!disk_work_load(run, NULL, &work, err))
        return false;
    if (work.make[0] != '\0' && !disk_next_undo(run->context, work.from_name, work.make_name, err))
        return false;
    if (work.make[0] != '\0' && !look(run, &work, &needed, &blind))
        im_info("cloud", "%s: whether it has cloud-init is not known: %s", run->item->resource_id,
                blind.text);
    if (needed)
        return edit(run, &work, login, ret_edit, err) ||
               im_within(err, "instance [%s] has no cloud-init", run->item->resource_id);
    *ret_edit = edit_new(blind.text);
    return true;
}

bool login_edit_commit(struct job_run *run, struct db_conn *conn, const struct login_edit *edit,
                       struct im_err *err) {
    struct disk_work work = {0};

    if (!disk_work_load(run, conn, &work, err))
        return false;
    if (work.make[0] == '\0')
        return true;
    return edit->edited ? disk_next_commit(conn, run->item->resource_id, work.from, work.make,
                                           &edit->next, err)
                        : layer_drop(run->context, conn, work.make, err);
}

bool login_edit_undo(struct job_run *run, struct im_err *err) {
    struct disk_work work = {0};

    return disk_work_load(run, NULL, &work, err) &&
           (work.make[0] == '\0' ||
            disk_next_undo(run->context, work.from_name, work.make_name, err));
}

bool login_edit_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                       struct im_err *err) {
    struct disk_work work = {0};

    (void) why;
    return disk_work_load(run, conn, &work, err) &&
           (work.make[0] == '\0' || layer_drop(run->context, conn, work.make, err)) &&
           instance_unlock(conn, run->item->resource_id, err);
}

unsigned login_edits_at_once(void *context) {
    (void) context;
    return EDITS_AT_ONCE;
}
