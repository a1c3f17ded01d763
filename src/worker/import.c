/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs import and probe: fetch if asked, give up rights, look, copy. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "unpack/unpack.h"
#include "guest/image.h"
#include "worker-private.h"

#define CPU_S 86400

bool fasten_belts(const struct sandbox_policy *policy, struct im_err *err) {
    struct sandbox_report report;
    char text[1024];

    if (!sandbox_enter(policy, &report, err))
        return false;
    (void) sandbox_report_text(&report, text, sizeof(text));
    im_debug("worker", "sandbox: %s", text);
    if (sandbox_report_weak(&report))
        report_log("the sandbox is weak on this host: %s", text);
    return true;
}

bool enter_sandbox(const struct request *request, struct im_err *err) {
    struct sandbox_policy policy = {.user = request->user,
                                    /* the image's tables take 8 bytes for each cluster */
                                    .memory_bytes = (1ull << 30) + request->max_bytes / 8192,
                                    .cpu_s = CPU_S,
                                    .file_bytes = request->max_bytes + request->max_bytes / 512 +
                                                  (64ull << 20)};

    return fasten_belts(&policy, err);
}

static bool is_open(int fd, const char *what, struct im_err *err) {
    if (fcntl(fd, F_GETFD) < 0)
        return im_fail(err, IM_BAD_MESSAGE, "descriptor %d (%s) is not open", fd, what);
    return true;
}

/* Has no name, so it goes with us. Opened while we still may; few imports need it, so that only a
 * folder that was named must be there. */
static bool open_scratch(const struct request *request, int *ret_fd, struct im_err *err) {
    bool named = request->scratch_dir[0] != '\0';

    *ret_fd = open(named ? request->scratch_dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return *ret_fd >= 0 || !named ||
           im_fail_sys(err, errno, "no temporary file in %s", request->scratch_dir);
}

/* What came in, now that it is an image of ours. */
static bool look_into_image(struct guest_inspection **ret_found, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    int flags = fcntl(WORKER_FD_IMAGE, F_GETFL);

    if (flags >= 0)
        (void) fcntl(WORKER_FD_IMAGE, F_SETFL,
                     flags & ~O_DIRECT); /* as the writing may have left it */
    return layers_open("qcow2", WORKER_FD_IMAGE, &chain, err) &&
           inspect_chain(chain, ret_found, err);
}

static void tell_result(const struct copy_result *result, const struct guest_inspection *found) {
    struct wire_writer writer = {0};
    IM_AUTO(free_auto) char *digest = im_printf("sha256:%s", result->digest);

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "format", result->format);
    wire_text(&writer, "compression", result->compression);
    wire_int(&writer, "size_bytes", (int64_t) result->size_bytes);
    wire_text(&writer, "digest", digest);
    wire_int(&writer, "received_bytes", (int64_t) result->received_bytes);
    wire_int(&writer, "data_bytes", (int64_t) result->data_bytes);
    wire_text(&writer, "partition_table", result->table);
    wire_text(&writer, "firmware", result->uefi ? "uefi" : "bios");
    write_report(&writer, "report", found);
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
}

bool verb_import(const struct request *request, struct im_err *err) {
    IM_AUTO(fd_auto) int scratch = -1;
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct copy_result result = {0};

    if (!is_open(WORKER_FD_SOURCE, "the source", err) ||
        !is_open(WORKER_FD_IMAGE, "the image", err) || !open_scratch(request, &scratch, err))
        return false;
    if (request->from_url && !fetch_in_child(request, err))
        return false;
    if (!enter_sandbox(request, err) ||
        !copy_image(request, WORKER_FD_SOURCE, WORKER_FD_IMAGE, scratch, &result, err) ||
        !look_into_image(&found, err))
        return false;
    tell_result(&result, found);
    return true;
}

/* --- probe ------------------------------------------------------------------------------------ */

static void tell_report(const struct guest_report *report) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "format", guest_format_name(report->format));
    wire_text(&writer, "compression", "");
    wire_int(&writer, "size_bytes", (int64_t) report->size_bytes);
    wire_text(&writer, "partition_table", guest_table_name(report->disk.table));
    wire_text(&writer, "firmware", report->disk.uefi ? "uefi" : "bios");
    wire_int(&writer, "partitions", report->disk.partitions);
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
}

/* Of a compressed file only what its beginning tells. */
static bool probe_packed(const struct request *request, enum packing packing, uint64_t size,
                         struct im_err *err) {
    struct unpacker_limits limits = {.max_bytes = request->max_bytes};
    IM_AUTO(unpacker_free_auto) struct unpacker *unpacker = unpacker_new(packing, &limits, err);
    size_t in_len = size < HASH_BUFFER_BYTES ? (size_t) size : HASH_BUFFER_BYTES, len = 0, got = 1;
    IM_AUTO(free_auto) uint8_t *in = im_alloc(in_len), *out = im_alloc(GUEST_HEAD_BYTES);
    struct wire_writer writer = {0};
    enum guest_format format;

    if (!unpacker || !im_pread_all(WORKER_FD_SOURCE, in, in_len, 0, "what came in", err))
        return false;
    unpacker_feed(unpacker, in, in_len, in_len == size);
    while (len < GUEST_HEAD_BYTES && got > 0) {
        if (!unpacker_take(unpacker, out + len, GUEST_HEAD_BYTES - len, &got, err))
            return false;
        len += got;
    }
    if (!guest_image_sniff(out, len, NULL, request->format, &format, err))
        return false;
    wire_object_begin(&writer, NULL);
    wire_text(&writer, "format", guest_format_name(format));
    wire_text(&writer, "compression", packing_name(packing));
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
    return true;
}

bool verb_probe(const struct request *request, struct im_err *err) {
    struct guest_limits limits = {.max_bytes = request->max_bytes};
    struct guest_report report;
    uint8_t head[8] = {0};
    enum packing packing;
    struct stat st;
    uint64_t size;

    if (!is_open(WORKER_FD_SOURCE, "the source", err) || !enter_sandbox(request, err))
        return false;
    if (fstat(WORKER_FD_SOURCE, &st) < 0 || !S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_MESSAGE, "what came in is not a regular file");
    size = (uint64_t) st.st_size;
    if (!im_pread_all(WORKER_FD_SOURCE, head, size < 8 ? size : 8, 0, "what came in", err))
        return false;
    packing = packing_detect(head, size < 8 ? size : 8);
    if (packing != PACKING_NONE)
        return probe_packed(request, packing, size, err);
    if (!guest_probe(WORKER_FD_SOURCE, size, request->format, request->force, &limits, &report,
                     err))
        return false;
    tell_report(&report);
    return true;
}
