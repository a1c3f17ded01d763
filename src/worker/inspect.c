/* SPDX-License-Identifier: Apache-2.0 */
/* The verb inspect: looks at a disk through all layers of its chain. */
#include "base/mem.h"
#include "guest/repair.h"
#include "qcow2/chain.h"
#include "worker-private.h"

/* --- The report ------------------------------------------------------------------------------- */

static void write_part(struct wire_writer *writer, const struct guest_part *part) {
    wire_object_begin(writer, NULL);
    wire_text(writer, "name", part->name);
    wire_int(writer, "number", part->number);
    wire_int(writer, "start_bytes", (int64_t) part->offset);
    wire_int(writer, "size_bytes", (int64_t) part->len);
    wire_text(writer, "type", part->type);
    wire_text(writer, "filesystem", part->filesystem);
    wire_text(writer, "label", part->label);
    wire_text(writer, "uuid", part->uuid);
    wire_text(writer, "partuuid", part->partuuid);
    wire_text(writer, "partlabel", part->partlabel);
    wire_int(writer, "active", part->active);
    wire_object_end(writer);
}

static void write_finding(struct wire_writer *writer, const struct guest_finding *finding) {
    wire_object_begin(writer, NULL);
    wire_text(writer, "code", finding->code);
    wire_text(writer, "severity", guest_severity_name(finding->severity));
    wire_text(writer, "text", finding->text);
    wire_text(writer, "hint", finding->hint);
    wire_int(writer, "repairable", guest_repairable(finding->code));
    wire_object_end(writer);
}

static void write_os(struct wire_writer *writer, const struct guest_os *os) {
    wire_object_begin(writer, "os");
    wire_text(writer, "name", os->name);
    wire_text(writer, "platform", os->platform);
    wire_text(writer, "os_family", os->id);
    wire_text(writer, "version", os->version);
    wire_text(writer, "architecture", os->architecture);
    wire_text(writer, "processor_type", os->processor);
    wire_text(writer, "hostname", os->hostname);
    wire_text(writer, "default_user", os->user);
    wire_text(writer, "root", os->root);
    wire_text(writer, "osinfo", os->osinfo);
    wire_text(writer, "init", os->init);
    wire_text(writer, "ui_type", os->ui);
    wire_int(writer, "packages", os->packages);
    wire_object_end(writer);
}

static void write_boot(struct wire_writer *writer, const struct guest_boot *boot) {
    wire_object_begin(writer, "boot");
    wire_text(writer, "loader", boot->loader);
    wire_text(writer, "config", boot->config);
    wire_text(writer, "title", boot->title);
    wire_text(writer, "part", boot->part);
    wire_text(writer, "kernel", boot->kernel);
    wire_text(writer, "version", boot->version);
    wire_text(writer, "initrd", boot->initrd);
    wire_text(writer, "cmdline", boot->cmdline);
    wire_int(writer, "packed", boot->packed);
    wire_object_end(writer);
}

void write_report(struct wire_writer *writer, const char *key,
                  const struct guest_inspection *found) {
    wire_object_begin(writer, key);
    wire_int(writer, "size_bytes", (int64_t) found->size_bytes);
    wire_text(writer, "partition_table", guest_table_name(found->table));
    wire_int(writer, "bios", found->bios);
    wire_int(writer, "uefi", found->uefi);
    write_os(writer, &found->os);
    write_boot(writer, &found->boot);
    wire_int(writer, "errors", found->counts[GUEST_ERROR]);
    wire_int(writer, "warnings", found->counts[GUEST_WARNING]);
    wire_array_begin(writer, "findings");
    for (int severity = GUEST_ERROR; severity >= 0; severity--)
        for (size_t i = 0; i < found->finding_count; i++)
            if ((int) found->findings[i].severity == severity)
                write_finding(writer, &found->findings[i]);
    wire_array_end(writer);
    wire_array_begin(writer, "partitions");
    for (size_t i = 0; i < found->part_count; i++)
        write_part(writer, &found->parts[i]);
    wire_array_end(writer);
    wire_object_end(writer);
}

/* --- The disk --------------------------------------------------------------------------------- */

bool read_chain(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    return qcow2_chain_read(arg, offset, bytes, len, err);
}

bool inspect_chain(struct qcow2_chain *chain, struct guest_inspection **ret_found,
                   struct im_err *err) {
    struct guest_source source = {read_chain, chain, qcow2_chain_size(chain)};

    return guest_inspect(&source, ret_found, err);
}

bool verb_inspect(const struct request *request, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct sandbox_policy policy = {.user = request->user,
                                    .memory_bytes = LOOK_MEMORY,
                                    .cpu_s = LOOK_CPU_S,
                                    .file_bytes = LOOK_FILE_BYTES};
    struct wire_writer writer = {0};

    if (!fasten_belts(&policy, err) ||
        !layers_open(request->layers, WORKER_FD_SOURCE, &chain, err) ||
        !inspect_chain(chain, &found, err))
        return false;
    write_report(&writer, NULL, found);
    report_result(writer.text.data);
    im_str_done(&writer.text);
    return true;
}
