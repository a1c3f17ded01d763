/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk holds is changed, without a machine of its own: one worker looks and plans, another
 * carries the plan out in an appliance, and a third looks whether the disk is the better for it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cloud-private.h"
#include "jobs/worker.h"

enum { LAYERS_MAX = 192, SILENCE_MS = 120 * 1000 };
static const char dirty[] = "filesystem.dirty";

/* --- The appliance ---------------------------------------------------------------------------- */

bool appliance_there(const struct cloud *cloud, struct im_err *err) {
    IM_AUTO(free_auto) char *kernel = im_printf("%s/kernel", cloud->config.appliance);

    return access(kernel, F_OK) == 0 ||
           im_fail(err, IM_UNSUPPORTED,
                   "disks are changed in a small machine of their own, and there is none in [%s]: "
                   "make it with make-appliance --fetch /tmp/kernel %s",
                   cloud->config.appliance, cloud->config.appliance);
}

/* Where machines run under KVM, and on this host, so does the appliance. */
static bool has_kvm(const struct cloud *cloud) {
    struct im_err unknown = {0};
    struct virt_host host;

    return access("/dev/kvm", R_OK | W_OK) == 0 && virt_host(cloud->config.virt, &host, &unknown) &&
           im_str_equal(host.accel, "kvm");
}

/* --- One disk --------------------------------------------------------------------------------- */

struct mending {
    struct job_run *run;
    struct layer_files files;
    int64_t size_bytes;
    const struct disk_wish *wish;
    struct wire_doc *first;  /* what was found and planned */
    struct wire_doc *second; /* the same once journals were replayed; NULL: there were none */
    struct wire_doc *after;  /* the report; NULL: nothing was changed */
    int64_t freed_bytes;
};

static void mending_done(struct mending *mending) {
    layer_files_done(&mending->files);
    wire_doc_free(mending->first);
    wire_doc_free(mending->second);
    wire_doc_free(mending->after);
}

static const struct wire_value *part(const struct wire_doc *doc, const char *key) {
    return doc != NULL ? wire_get(wire_root(doc), key) : NULL;
}

static bool look(struct mending *mending, const struct disk_wish *wish, struct wire_doc **ret_doc,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;

    if (!disk_look(mending->run->context, &mending->files, wish, mending->run->cancel, &text, err))
        return false;
    *ret_doc = wire_parse(text, strlen(text), err);
    if (*ret_doc == NULL)
        return false;
    return wish == NULL || wire_kind(part(*ret_doc, "plan")) == WIRE_OBJECT ||
           im_fail(err, IM_INTERNAL, "the worker has made no plan");
}

/* Without edits the file systems are only mounted. */
static char *mend_request(const struct mending *mending, const struct wire_value *plan,
                          bool edits) {
    const struct cloud *cloud = mending->run->context;
    IM_AUTO(free_auto) char *formats = layer_files_formats(&mending->files);
    IM_AUTO(free_auto) char *mounts = wire_dump(wire_get(plan, "mounts"), false);
    IM_AUTO(free_auto) char *list = wire_dump(wire_get(plan, "edits"), false);
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "layers", formats);
    wire_text(&writer, "user", cloud->config.worker_user);
    wire_text(&writer, "appliance", cloud->config.appliance);
    wire_int(&writer, "kvm", has_kvm(cloud));
    wire_int(&writer, "max_bytes", mending->size_bytes);
    wire_raw(&writer, "mounts", mounts);
    wire_raw(&writer, "edits", edits ? list : "[]");
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool mend(struct mending *mending, const struct wire_value *plan, bool edits,
                 struct im_err *err) {
    const struct cloud *cloud = mending->run->context;
    IM_AUTO(free_auto) char *request = mend_request(mending, plan, edits);
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *result = NULL;

    if (!worker_run(&(struct worker_call){.program = cloud->config.worker_program,
                                          .verb = "mend",
                                          .request = request,
                                          .fds = mending->files.fds,
                                          .fd_count = mending->files.count,
                                          .cancel = mending->run->cancel,
                                          .silence_ms = SILENCE_MS},
                    &result, err))
        return false;
    doc = wire_parse(result, strlen(result), err);
    if (doc != NULL)
        mending->freed_bytes = wire_get_int(wire_root(doc), "freed_bytes", 0);
    return doc != NULL;
}

/* --- Better or not ---------------------------------------------------------------------------- */

static size_t count_findings(const struct wire_value *report, const char *code, bool errors_only) {
    const struct wire_value *findings = wire_get(report, "findings");
    size_t count = 0;

    for (size_t i = 0; i < wire_count(findings); i++) {
        const struct wire_value *finding = wire_at(findings, i);

        count += strcmp(wire_get_text(finding, "code", ""), code) == 0 &&
                 (!errors_only || strcmp(wire_get_text(finding, "severity", ""), "error") == 0);
    }
    return count;
}

static const char *finding_text(const struct wire_value *report, const char *code) {
    const struct wire_value *findings = wire_get(report, "findings");

    for (size_t i = 0; i < wire_count(findings); i++)
        if (strcmp(wire_get_text(wire_at(findings, i), "code", ""), code) == 0)
            return wire_get_text(wire_at(findings, i), "text", "");
    return "";
}

/* Some of them were planned to stay. */
static bool is_partial(const struct wire_value *repairs, const char *code) {
    for (size_t i = 0; i < wire_count(repairs); i++)
        if (strcmp(wire_get_text(wire_at(repairs, i), "code", ""), code) == 0 &&
            wire_get_int(wire_at(repairs, i), "done", 0) == 0)
            return true;
    return false;
}

/* A file system that nothing mounts stays dirty, which is no reason to refuse the rest. */
static bool counts(const struct wire_value *repairs, const struct wire_value *repair) {
    return wire_get_int(repair, "done", 0) != 0 &&
           (wire_count(repairs) == 1 || strcmp(wire_get_text(repair, "code", ""), dirty) != 0);
}

static bool repairs_hold(const struct wire_value *repairs, const struct wire_value *before,
                         const struct wire_value *after, struct im_err *err) {
    for (size_t i = 0; i < wire_count(repairs); i++) {
        const char *code = wire_get_text(wire_at(repairs, i), "code", "");
        size_t had = count_findings(before, code, false);
        size_t has = count_findings(after, code, false);

        if (counts(repairs, wire_at(repairs, i)) && has > 0 && had > 0 &&
            (has >= had || !is_partial(repairs, code)))
            return im_fail(err, IM_WRONG_STATE,
                           "nothing was changed, as the repaired disk still has [%s]: %.300s", code,
                           finding_text(after, code));
    }
    return true;
}

static bool no_new_errors(const struct wire_value *before, const struct wire_value *after,
                          struct im_err *err) {
    const struct wire_value *findings = wire_get(after, "findings");

    for (size_t i = 0; i < wire_count(findings); i++) {
        const char *code = wire_get_text(wire_at(findings, i), "code", "");

        if (count_findings(after, code, true) > count_findings(before, code, true))
            return im_fail(err, IM_WRONG_STATE,
                           "nothing was changed, as the repaired disk would have a new error "
                           "[%s]: %.300s",
                           code, finding_text(after, code));
    }
    return true;
}

static bool judge(const struct mending *mending, struct im_err *err) {
    const struct wire_value *before = part(mending->first, "report");
    const struct wire_value *after = wire_root(mending->after);

    return repairs_hold(wire_get(part(mending->first, "plan"), "repairs"), before, after, err) &&
           (mending->second == NULL ||
            repairs_hold(wire_get(part(mending->second, "plan"), "repairs"), before, after, err)) &&
           no_new_errors(before, after, err);
}

/* --- All of it -------------------------------------------------------------------------------- */

static void write_repairs(struct wire_writer *writer, const struct wire_value *repairs,
                          const char *only) {
    for (size_t i = 0; i < wire_count(repairs); i++) {
        IM_AUTO(free_auto) char *text = wire_dump(wire_at(repairs, i), false);

        if (only == NULL || strcmp(wire_get_text(wire_at(repairs, i), "code", ""), only) == 0)
            wire_raw(writer, NULL, text);
    }
}

static void write_part(struct wire_writer *writer, const char *key,
                       const struct wire_value *value) {
    IM_AUTO(free_auto) char *text = value != NULL ? wire_dump(value, false) : NULL;

    if (text != NULL)
        wire_raw(writer, key, text);
    else
        wire_null(writer, key);
}

static char *result_text(const struct mending *mending) {
    const struct wire_doc *last = mending->second ? mending->second : mending->first;
    const struct wire_value *plan = part(last, "plan");
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_int(&writer, "changed", mending->after != NULL);
    wire_int(&writer, "freed_bytes", mending->freed_bytes);
    write_part(&writer, "before", part(mending->first, "report"));
    write_part(&writer, "after", mending->after ? wire_root(mending->after) : NULL);
    wire_object_begin(&writer, "changes");
    wire_array_begin(&writer, "repairs");
    if (mending->second != NULL)
        write_repairs(&writer, wire_get(part(mending->first, "plan"), "repairs"), dirty);
    write_repairs(&writer, wire_get(plan, "repairs"), NULL);
    wire_array_end(&writer);
    write_part(&writer, "files", wire_get(plan, "files"));
    write_part(&writer, "steps", wire_get(plan, "steps"));
    wire_object_end(&writer);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool has_work(const struct wire_value *plan) {
    return wire_count(wire_get(plan, "edits")) > 0 || wire_count(wire_get(plan, "mounts")) > 0;
}

/* What a journal still holds is not seen by who looks at the files: it is replayed before they are
 * planned anew. */
static bool replay(struct mending *mending, struct im_err *err) {
    const struct wire_value *plan = part(mending->first, "plan");

    if (count_findings(part(mending->first, "report"), dirty, false) == 0 ||
        wire_count(wire_get(plan, "mounts")) == 0)
        return true;
    return mend(mending, plan, false, err) && look(mending, mending->wish, &mending->second, err);
}

/* Who wants a disk without its keys does not want one that has them. Codes of findings have a dot,
 * items of sealing have none. */
static bool can_be_sealed(const struct mending *mending, const struct wire_value *plan,
                          struct im_err *err) {
    const struct wire_value *repairs = wire_get(plan, "repairs");

    for (size_t i = 0; !im_str_empty(mending->wish->seal) && i < wire_count(repairs); i++) {
        const struct wire_value *repair = wire_at(repairs, i);
        const char *code = wire_get_text(repair, "code", "");

        if (wire_get_int(repair, "done", 0) == 0 && strchr(code, '.') == NULL)
            return im_fail(err, IM_WRONG_STATE, "[%s] cannot be sealed: %.300s", code,
                           wire_get_text(repair, "text", ""));
    }
    return true;
}

static bool change(struct mending *mending, struct im_err *err) {
    const struct wire_value *plan;
    bool works;

    if (!look(mending, mending->wish, &mending->first, err) || !replay(mending, err))
        return false;
    plan = part(mending->second ? mending->second : mending->first, "plan");
    if (!can_be_sealed(mending, plan, err))
        return false;
    works = has_work(plan);
    if (!works && mending->second == NULL)
        return true;
    return (!works || mend(mending, plan, true, err)) &&
           look(mending, NULL, &mending->after, err) && judge(mending, err);
}

bool head_mend(struct job_run *run, const char *head, int64_t size_bytes,
               const struct disk_wish *wish, char **ret_result, struct im_err *err) {
    IM_AUTO(mending_done)
    struct mending mending = {.run = run, .size_bytes = size_bytes, .wish = wish};

    if (!appliance_there(run->context, err) ||
        !layer_files_open(run->context, head, LAYER_END_WRITABLE, LAYERS_MAX, &mending.files,
                          err) ||
        !change(&mending, err))
        return false;
    *ret_result = result_text(&mending);
    return true;
}
