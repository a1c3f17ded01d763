/* SPDX-License-Identifier: Apache-2.0 */
/* The appliance's machine: QEMU on a chain of descriptors. Each layer is named with its format and
 * what it stands on, so that no name in a file's header is followed and nothing is guessed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "mend-private.h"

enum { FILES_MORE = 128, CPU_S = 600 };
#define MACHINE_MEMORY "256"
#define ADDRESS_SPACE (3ull << 30)
#define FILE_MORE (1ull << 30) /* of the head: its tables, and what is written twice */

static const char *const programs[] = {"/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"};

static const char *program_find(struct im_err *err) {
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        if (access(programs[i], X_OK) == 0)
            return programs[i];
    im_fail(err, IM_UNSUPPORTED, "%s is missing: install qemu-system-x86", programs[0]);
    return NULL;
}

/* --- Its command line ------------------------------------------------------------------------- */

static void add(struct im_strings *argv, const char *option, char *value) {
    im_strings_add(argv, option);
    im_strings_add(argv, value);
    free(value);
}

/* Layer `i` of `count`, whose descriptor is 3 + i; the last stands on nothing. */
static void add_layer(struct im_strings *argv, size_t i, size_t count, const char *format) {
    struct wire_writer file = {0}, layer = {0};
    IM_AUTO(free_auto) char *set = im_printf("/dev/fdset/%zu", i);
    IM_AUTO(free_auto) char *file_name = im_printf("file%zu", i);
    IM_AUTO(free_auto) char *name = im_printf("layer%zu", i);
    IM_AUTO(free_auto) char *below = im_printf("layer%zu", i + 1);

    add(argv, "-add-fd", im_printf("fd=%zu,set=%zu", WORKER_FD_SOURCE + i, i));
    wire_object_begin(&file, NULL);
    wire_text(&file, "driver", "file");
    wire_text(&file, "node-name", file_name);
    wire_text(&file, "filename", set);
    wire_bool(&file, "read-only", i > 0);
    wire_bool(&file, "auto-read-only", false);
    wire_text(&file, "locking", "off");
    wire_text(&file, "discard", "unmap");
    wire_raw(&file, "cache", "{\"direct\":false,\"no-flush\":true}");
    wire_object_end(&file);
    wire_object_begin(&layer, NULL);
    wire_text(&layer, "driver", format);
    wire_text(&layer, "node-name", name);
    wire_text(&layer, "file", file_name);
    wire_bool(&layer, "read-only", i > 0);
    wire_text(&layer, "discard", "unmap");
    if (strcmp(format, "qcow2") == 0)
        wire_text(&layer, "backing", i + 1 < count ? below : NULL);
    wire_object_end(&layer);
    add(argv, "-blockdev", im_str_take(&file.text));
    add(argv, "-blockdev", im_str_take(&layer.text));
}

static const char kernel_options[] =
    "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off tsc=reliable no_timer_check "
    "cryptomgr.notests random.trust_cpu=on selinux=0 apparmor=0 audit=0";

static void add_machine(struct im_strings *argv, const struct request *request, unsigned link) {
    /* The port comes before the disk: the kernel numbers them in this order, and init knows it as
     * vport0p1. */
    static const char *const fixed[] = {
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-name",
        "imprint-mend",
        "-machine",
        "pc,vmport=off",
        "-m",
        MACHINE_MEMORY,
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=link,name=imprint.mend",
        "-device",
        "virtio-blk-pci,drive=layer0"};

    if (request->kvm)
        add(argv, "-accel", im_strdup("kvm"));
    add(argv, "-accel", im_strdup("tcg,tb-size=64"));
    add(argv, "-cpu", im_strdup("max"));
    add(argv, "-kernel", im_printf("%s/kernel", request->appliance));
    add(argv, "-initrd", im_printf("%s/initrd", request->appliance));
    add(argv, "-append", im_strdup(kernel_options));
    add(argv, "-chardev", im_printf("socket,id=link,fd=%u", link));
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        im_strings_add(argv, fixed[i]);
}

static bool add_layers(struct im_strings *argv, const struct im_strings *formats,
                       struct im_err *err) {
    if (formats->count == 0)
        return im_fail(err, IM_BAD_MESSAGE, "the request names no layers");
    for (size_t i = formats->count; i-- > 0;) { /* what something stands on is named before it */
        const char *format = formats->items[i];

        if (strcmp(format, "qcow2") != 0 && (strcmp(format, "raw") != 0 || i + 1 < formats->count))
            return im_fail(err, IM_BAD_MESSAGE,
                           "layers are qcow2, the last may be raw, but not [%.32s]", format);
        if (fcntl(WORKER_FD_SOURCE + (int) i, F_GETFD) < 0)
            return im_fail(err, IM_BAD_MESSAGE, "descriptor %zu (a layer) is not open",
                           WORKER_FD_SOURCE + i);
        add_layer(argv, i, formats->count, format);
    }
    return true;
}

/* --- Its start -------------------------------------------------------------------------------- */

static bool check_appliance(const struct request *request, struct im_err *err) {
    IM_AUTO(free_auto) char *kernel = im_printf("%s/kernel", request->appliance);

    return (request->appliance[0] == '/' && access(kernel, R_OK) == 0) ||
           im_fail(err, IM_UNSUPPORTED,
                   "there is no appliance in [%s]: install a kernel (on Debian the package "
                   "linux-image-cloud-amd64) and make it with make-appliance",
                   request->appliance);
}

/* What the head may become: the whole disk, and room for its tables. */
static uint64_t head_limit(const struct request *request) {
    return request->max_bytes + request->max_bytes / 512 + FILE_MORE;
}

bool appliance_start(const struct request *request, int link, pid_t *ret_pid, int *ret_console,
                     struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings argv = {0}, formats = {0};
    const char *program = program_find(err);
    const char *readable[] = {request->appliance, NULL};
    int place;

    im_strings_split(&formats, request->layers, " ");
    place = WORKER_FD_SOURCE + (int) formats.count;
    if (!program || !check_appliance(request, err))
        return false;
    im_strings_add(&argv, program);
    if (!add_layers(&argv, &formats, err))
        return false;
    add_machine(&argv, request, (unsigned) place);
    if (link == place ? fcntl(link, F_SETFD, 0) < 0 : dup2(link, place) < 0)
        return im_fail_sys(err, errno, "the link to the appliance");
    im_grow(&argv.items, argv.count, &argv.capacity);
    argv.items[argv.count] = NULL;
    if (!sandbox_start(&(struct sandbox_policy){.user = request->user,
                                                .kvm = request->kvm,
                                                .memory_bytes = ADDRESS_SPACE,
                                                .cpu_s = CPU_S,
                                                .file_bytes = head_limit(request),
                                                .files = 3 * (unsigned) formats.count + FILES_MORE,
                                                .readable = readable},
                       (const char *const *) argv.items, (unsigned) formats.count + 1, ret_pid,
                       ret_console, err))
        return false;
    if (link != place)
        (void) close(place);
    return true;
}
