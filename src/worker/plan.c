/* SPDX-License-Identifier: Apache-2.0 */
/* The verb plan: what would repair or seal a disk. It reads; the verb mend does it. */
#include <openssl/evp.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "guest/repair.h"
#include "worker-private.h"

/* --- The answer ------------------------------------------------------------------------------- */

static void write_edit(struct wire_writer *writer, const struct guest_edit *edit) {
    wire_object_begin(writer, NULL);
    wire_text(writer, "op", guest_edit_name(edit->kind));
    if (edit->path != NULL)
        wire_text(writer, "path", edit->path);
    if (edit->other != NULL)
        wire_text(writer, "from", edit->other);
    if (edit->kind == GUEST_EDIT_RAW)
        wire_int(writer, "offset", (int64_t) edit->offset);
    if (edit->kind == GUEST_EDIT_APPEND)
        wire_int(writer, "align", 4);
    if (edit->kind == GUEST_EDIT_WRITE || edit->kind == GUEST_EDIT_RAW ||
        edit->kind == GUEST_EDIT_APPEND) {
        IM_AUTO(free_auto) char *data = im_alloc((edit->len + 2) / 3 * 4 + 1);

        (void) EVP_EncodeBlock((unsigned char *) data, edit->data, (int) edit->len);
        wire_text(writer, "data", data);
    }
    if (edit->kind == GUEST_EDIT_WRITE || edit->kind == GUEST_EDIT_FOLDER) {
        wire_int(writer, "mode", edit->mode);
        wire_int(writer, "uid", edit->uid);
        wire_int(writer, "gid", edit->gid);
    }
    if (edit->label != NULL)
        wire_text(writer, "label", edit->label);
    if (edit->recursive)
        wire_int(writer, "recursive", 1);
    wire_object_end(writer);
}

static void write_mount(struct wire_writer *writer, const struct guest_mount *mount) {
    wire_object_begin(writer, NULL);
    wire_text(writer, "path", mount->path);
    wire_text(writer, "filesystem", mount->filesystem);
    wire_text(writer, "options", mount->options);
    wire_array_begin(writer, "pieces");
    for (size_t i = 0; i < mount->piece_count; i++) {
        const struct guest_piece *piece = &mount->pieces[i];

        wire_object_begin(writer, NULL);
        wire_int(writer, "bytes", (int64_t) piece->bytes);
        wire_int(writer, "stripe_bytes", (int64_t) piece->stripe_bytes);
        wire_array_begin(writer, "areas");
        for (unsigned k = 0; k < piece->areas; k++)
            wire_int(writer, NULL, (int64_t) piece->area[k]);
        wire_array_end(writer);
        wire_object_end(writer);
    }
    wire_array_end(writer);
    wire_object_end(writer);
}

static void write_repairs(struct wire_writer *writer, const struct guest_plan *plan) {
    wire_array_begin(writer, "repairs");
    for (size_t i = 0; i < plan->repair_count; i++) {
        wire_object_begin(writer, NULL);
        wire_text(writer, "code", plan->repairs[i].code);
        wire_int(writer, "done", plan->repairs[i].done);
        wire_text(writer, "text", plan->repairs[i].text);
        wire_object_end(writer);
    }
    wire_array_end(writer);
    wire_array_begin(writer, "files");
    for (size_t i = 0; i < plan->change_count; i++) {
        wire_object_begin(writer, NULL);
        wire_text(writer, "path", plan->changes[i].path);
        wire_text(writer, "before", plan->changes[i].before);
        wire_text(writer, "diff", plan->changes[i].diff);
        if (plan->changes[i].secret)
            wire_int(writer, "secret", 1);
        wire_object_end(writer);
    }
    wire_array_end(writer);
    wire_strings(writer, "steps", &plan->steps);
}

static void write_plan(struct wire_writer *writer, const struct guest_plan *plan) {
    wire_object_begin(writer, "plan");
    write_repairs(writer, plan);
    wire_array_begin(writer, "mounts");
    for (size_t i = 0; i < plan->mount_count; i++)
        write_mount(writer, &plan->mounts[i]);
    wire_array_end(writer);
    wire_array_begin(writer, "edits");
    for (size_t i = 0; i < plan->edit_count; i++)
        write_edit(writer, &plan->edits[i]);
    wire_array_end(writer);
    wire_object_end(writer);
}

/* --- The verb --------------------------------------------------------------------------------- */

/* Texts stay the request's. */
static void take_login(const struct request *request, struct guest_login *login) {
    const struct wire_value *asked = wire_get(wire_root(request->doc), "login");
    const struct wire_value *keys = wire_get(asked, "keys");

    login->asked = wire_kind(asked) == WIRE_OBJECT;
    login->user = wire_get_text(asked, "user", "");
    login->hash = wire_get_text(asked, "hash", "");
    login->day = wire_get_int(asked, "day", im_now_s() / (24 * 60 * 60));
    login->detach = wire_get_int(asked, "detach", 0) != 0;
    for (size_t i = 0; i < wire_count(keys); i++)
        im_strings_add(&login->keys, wire_as_text(wire_at(keys, i), ""));
}

static bool plan_chain(const struct request *request, struct qcow2_chain *chain,
                       struct im_err *err) {
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(guest_plan_free_auto) struct guest_plan *plan = NULL;
    struct guest_source source = {read_chain, chain, qcow2_chain_size(chain)};
    struct guest_wish wish = {.all = strcmp(request->only, "all") == 0};
    struct wire_writer writer = {0};
    bool fine;

    if (!wish.all)
        im_strings_split(&wish.only, request->only, " ");
    if (strcmp(request->seal, "all") != 0)
        im_strings_split(&wish.seal, request->seal, " ");
    else
        for (const struct guest_seal_item *item = guest_seal_items; item->word != NULL; item++)
            im_strings_add(&wish.seal, item->word);
    take_login(request, &wish.login);
    wish.trim = wire_get_int(wire_root(request->doc), "trim", 0) != 0;
    fine = guest_plan(&source, &wish, &found, &plan, err);
    im_strings_done(&wish.only);
    im_strings_done(&wish.seal);
    im_strings_done(&wish.login.keys);
    if (!fine)
        return false;
    wire_object_begin(&writer, NULL);
    write_report(&writer, "report", found);
    write_plan(&writer, plan);
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
    return true;
}

bool verb_plan(const struct request *request, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    struct sandbox_policy policy = {.user = request->user,
                                    .memory_bytes = LOOK_MEMORY,
                                    .cpu_s = LOOK_CPU_S,
                                    .file_bytes = LOOK_FILE_BYTES};

    return fasten_belts(&policy, err) &&
           layers_open(request->layers, WORKER_FD_SOURCE, &chain, err) &&
           plan_chain(request, chain, err);
}
