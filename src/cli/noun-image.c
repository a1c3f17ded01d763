/* SPDX-License-Identifier: Apache-2.0 */
/* imprint image: list, show, import, export, capture, clone, delete, modify. */
#include "cli-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

static const struct column columns[] = {
    {"ID", "image_id", FORM_TEXT, 0},
    {"NAME", "image_name", FORM_TEXT, 1},
    {"STATE", "status", FORM_STATE, 0},
    {"OS", "os_family", FORM_TEXT, 1},
    {"SIZE", "size", FORM_GIB, 0},
    {"FROM", "provider", FORM_TEXT, 1},
    {"CREATED", "create_time", FORM_TIME, 2},
    {"FAMILY", "family", FORM_TEXT, 3},
    {"LOGIN", "default_user", FORM_TEXT, 3},
    {"OWNER", "owner", FORM_TEXT, 3},
    {"DESCRIPTION", "description", FORM_TEXT, 4},
    {"EXACT SIZE", "size_bytes", FORM_BYTES, 4},
    {"TRIMMED", "trimmed_bytes", FORM_BYTES, 4},
    {0},
};

const struct listing image_listing = {
    "DescribeImages",
    "image_set",
    "image_id",
    "images",
    columns,
    "no images: bring one in with 'imprint image import FILE', or see './quickstart'"};

static bool list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &image_listing, &params, err);
}

static bool show(struct cli *cli, struct im_err *err) { return cli_show(cli, &image_listing, err); }

/* --- Import -------------------------------------------------------------------------------------
 */

/* What cli_finish_job() reads: as if the upload were one call that made image and job. */
static bool finish(struct cli *cli, const char *image_id, const char *job_id, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "action", "ImportImageResponse");
    wire_int(&writer, "ret_code", 0);
    wire_text(&writer, "image_id", image_id);
    wire_text(&writer, "job_id", job_id);
    wire_object_end(&writer);
    doc = wire_parse(writer.text.data, writer.text.len, err);
    im_str_done(&writer.text);
    im_strings_add(&ids, image_id);
    return doc != NULL && cli_finish_job(cli, doc, &ids, &image_listing, err);
}

static bool show_upload(void *context, uint64_t done, uint64_t total) {
    progress_bytes(context, done, total, 0);
    return cli_interrupted == 0;
}

static bool upload(struct cli *cli, const char *image_id, int fd, const char *path,
                   struct im_err *err) {
    IM_AUTO(free_auto) char *what = im_printf("upload %s", image_id);
    IM_AUTO(free_auto) char *job_id = NULL;
    struct progress *progress;
    bool passed;

    cli_catch_interrupts();
    progress = progress_new(cli, what);
    passed = client_upload(cli->client, image_id, fd, show_upload, progress, &job_id, err);
    progress_free(progress, NULL);
    if (!passed) {
        if (err->code == IM_CANCELLED)
            im_fail(err, IM_CANCELLED, "upload of %s stopped", path);
        if (client_fault(cli->client) != CLIENT_ANSWERED || err->code == IM_CANCELLED)
            cli_hint(cli, "imprint image import %s --resume %s", path, image_id);
        return false;
    }
    return finish(cli, image_id, job_id, err);
}

static bool open_file(struct cli *cli, const char *path, int *ret_fd, struct im_err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT) {
        cli->exit = CLI_NOT_FOUND;
        return im_fail(err, IM_NOT_FOUND, "%s does not exist", path);
    }
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot read %s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return im_fail(err, IM_BAD_MESSAGE, "%s is no regular file with something in it", path);
    }
    *ret_fd = fd;
    return true;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static bool begin_import(struct cli *cli, const char *source, const char *name,
                         struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(free_auto) char *plain_name = im_strndup(name, strcspn(name, "?#"));

    client_param(&params, "image_name", plain_name); /* --name outranks it */
    cli_params(cli, &params);
    if (cli_flag(cli, "system"))
        client_param(&params, "visibility", "public");
    client_param(&params, "source", source);
    return cli_call(cli, "ImportImage", &params, ret_doc, err);
}

static bool import_upload(struct cli *cli, const char *path, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(fd_auto) int fd = -1;
    const char *image_id = cli_value(cli, "resume");

    if (!open_file(cli, path, &fd, err))
        return false;
    if (image_id != NULL)
        return cli_client(cli, err) != NULL && upload(cli, image_id, fd, path, err);
    if (!begin_import(cli, NULL, base_name(path), &doc, err))
        return false;
    return upload(cli, wire_get_text(wire_root(doc), "image_id", ""), fd, path, err);
}

/* The server reads it by itself: a URL, or a path on its own disks. */
static bool import_source(struct cli *cli, const char *source, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    if (!begin_import(cli, source, base_name(source), &doc, err)) {
        if (cli_flag(cli, "server-path") && err->code == IM_DENIED)
            cli_hint(cli, "without --server-path the file is uploaded");
        return false;
    }
    im_strings_add(&ids, wire_get_text(wire_root(doc), "image_id", ""));
    return cli_finish_job(cli, doc, &ids, &image_listing, err);
}

static bool import(struct cli *cli, struct im_err *err) {
    const char *source = cli->args.items[0];

    if (cli_flag(cli, "resume") && (cli_flag(cli, "server-path") || strstr(source, "://") != NULL))
        return cli_usage(cli, err, "--resume goes on with the upload of a file");
    if (strstr(source, "://") != NULL) {
        if (!im_starts_with(source, "http://") && !im_starts_with(source, "https://"))
            return cli_usage(cli, err, "%s: only http:// and https:// are fetched", source);
        return import_source(cli, source, err);
    }
    if (cli_flag(cli, "server-path")) {
        IM_AUTO(free_auto) char *whole = realpath(source, NULL);

        return import_source(cli, whole != NULL ? whole : source, err);
    }
    return import_upload(cli, source, err);
}

static const struct option import_options[] = {
    {"name", 'N', "NAME", "the file's", "name of the image", "image_name", 0, NULL},
    {"description", 0, "TEXT", NULL, "free text", "description", 0, NULL},
    {"format", 0, "FORMAT", "by its first bytes", "format of the disk", "format", 0,
     "raw qcow2 vmdk vdi vpc vhdx"},
    {"digest", 0, "SHA256", NULL,
     "refuse it unless what comes in has this SHA-256 (hex, perhaps with sha256: in front)",
     "digest", 0, NULL},
    {"force", 0, NULL, NULL, "take the disk whatever is wrong with it", "force", 0, NULL},
    {"platform", 0, "PLATFORM", "linux", "kind of system", "platform", 0, "linux windows"},
    {"os-family", 0, "OS", NULL, "operating system: debian, ubuntu, windows …", "os_family", 0,
     NULL},
    {"default-user", 0, "USER", NULL, "login user of the system in it", "default_user", 0, NULL},
    {"firmware", 0, "FIRMWARE", "bios", "what it boots with", "firmware", 0, "bios uefi"},
    {"system", 0, NULL, NULL, "an image for all users (administrators)", NULL, 0, NULL},
    {"id", 0, "ID", "img-…", "symbolic id, such as debian12x64 (administrators)", "image_id", 0,
     NULL},
    {"family", 0, "FAMILY", NULL,
     "family whose newest image answers to its name, such as debian12 (administrators)", "family",
     0, NULL},
    {"server-path", 0, NULL, NULL,
     "FILE lies on the server's host in a folder that its operator allows: read it there", NULL, 0,
     NULL},
    {"resume", 0, "IMAGE", NULL, "go on with an upload that broke off", NULL, 0, "@image"},
    {0},
};

/* --- Other verbs --------------------------------------------------------------------------------
 */

static bool capture(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    cli_params(cli, &params);
    client_param(&params, "instance", cli->args.items[0]);
    if (!cli_call(cli, "CaptureInstance", &params, &doc, err)) {
        if (err->code == IM_WRONG_STATE)
            cli_hint(cli, "imprint instance stop %s --wait", cli->args.items[0]);
        return false;
    }
    im_strings_add(&ids, wire_get_text(wire_root(doc), "image_id", ""));
    return cli_finish_job(cli, doc, &ids, &image_listing, err);
}

/* --- Inspect ---------------------------------------------------------------------------------- */

static void print_facts(const struct wire_value *os) {
    static const char *const facts[][2] = {
        {"osinfo", "osinfo: "}, {"init", "starts by "}, {"default_user", "login as "}};
    int64_t packages = wire_get_int(os, "packages", 0);
    const char *before = "  ";

    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        const char *value = wire_get_text(os, facts[i][0], "");

        if (value[0] == '\0')
            continue;
        printf("%s%s%s", before, facts[i][1], value);
        before = ", ";
    }
    if (packages > 0)
        printf("%s%lld packages", before, (long long) packages);
    if (packages > 0 || before[0] == ',')
        printf("\n");
}

static void print_disk(const struct wire_value *report) {
    bool bios = wire_get_int(report, "bios", 0) != 0, uefi = wire_get_int(report, "uefi", 0) != 0;
    const struct wire_value *os = wire_get(report, "os");
    const char *name = wire_get_text(os, "name", ""), *root = wire_get_text(os, "root", "");
    char size[16];

    printf("%s, partition table: %s, starts with: %s\n",
           im_size_text((uint64_t) wire_get_int(report, "size_bytes", 0), size),
           wire_get_text(report, "partition_table", "none"),
           bios && uefi ? "BIOS and UEFI"
           : bios       ? "BIOS"
           : uefi       ? "UEFI"
                        : "nothing");
    if (name[0] != '\0')
        printf("%s (%s) on %s\n", name, wire_get_text(os, "architecture", ""), root);
    print_facts(os);
}

static void print_parts(const struct wire_value *report) {
    const struct wire_value *parts = wire_get(report, "partitions");

    for (size_t i = 0; i < wire_count(parts); i++) {
        const struct wire_value *part = wire_at(parts, i);
        char size[16];

        printf("  %-16s %10s  %-16s %-12s %s\n", wire_get_text(part, "name", ""),
               im_size_text((uint64_t) wire_get_int(part, "size_bytes", 0), size),
               wire_get_text(part, "type", ""), wire_get_text(part, "filesystem", ""),
               wire_get_text(part, "uuid", ""));
    }
}

static void print_findings(const struct wire_value *report) {
    const struct wire_value *findings = wire_get(report, "findings");

    if (wire_count(findings) == 0)
        printf("nothing is wrong with it\n");
    for (size_t i = 0; i < wire_count(findings); i++) {
        const struct wire_value *finding = wire_at(findings, i);
        const char *hint = wire_get_text(finding, "hint", "");

        printf("%s: %s [%s]\n", wire_get_text(finding, "severity", ""),
               wire_get_text(finding, "text", ""), wire_get_text(finding, "code", ""));
        if (hint[0] != '\0')
            printf("    %s\n", hint);
    }
}

static bool inspect(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *report;

    client_param(&params, "image", cli->args.items[0]);
    if (!cli_call(cli, "InspectImage", &params, &doc, err))
        return false;
    report = wire_get(wire_root(doc), "inspection");
    if (cli_flag(cli, "json") || cli->output == OUTPUT_JSON) {
        IM_AUTO(free_auto) char *text = wire_dump(report, true);

        printf("%s\n", text);
    } else {
        print_disk(report);
        print_parts(report);
        print_findings(report);
    }
    if (wire_get_int(report, "errors", 0) > 0)
        cli->exit = CLI_FAILED;
    return true;
}

static const struct option inspect_options[] = {
    {"json", 0, NULL, NULL, "the report as JSON, as with -o json", NULL, 0, NULL},
    {0},
};

/* --- Options and commands ------------------------------------------------------------------------
 */

static const struct option plan_options[] = {
    {"only", 0, "CODE", NULL, "only findings of these codes", "findings", OPTION_MANY, NULL},
    {"seal", 0, "ITEM", NULL,
     "what would be taken out of an image for others: machine-id, ssh-keys, leases, random-seed, "
     "net-rules, cloud-init, logs or history",
     "seal", OPTION_MANY, NULL},
    {0},
};

static const struct option capture_options[] = {
    {"name", 'N', "NAME", NULL, "name of the image", "image_name", 0, NULL},
    {"seal", 0, NULL, NULL,
     "take out of it what each machine should have of its own: machine-id, ssh-keys, leases, "
     "random-seed, net-rules, cloud-init, logs and history",
     "seal", 0, NULL},
    {"seal-only", 0, "ITEM", NULL, "take out only these", "seal_items", OPTION_MANY,
     "machine-id ssh-keys leases random-seed net-rules cloud-init logs history"},
    {"trim", 0, NULL, NULL, "give back what of the disk holds no file any more", "trim", 0, NULL},
    {0},
};

static bool clone(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    const struct wire_value *made;

    cli_params(cli, &params);
    client_param(&params, "image", cli->args.items[0]);
    if (!cli_call(cli, "CloneImages", &params, &doc, err))
        return false;
    made = wire_get(wire_root(doc), "images");
    for (size_t i = 0; i < wire_count(made); i++)
        im_strings_add(&ids, wire_as_text(wire_at(made, i), ""));
    return cli_finish_job(cli, doc, &ids, &image_listing, err);
}

static const struct option clone_options[] = {
    {"count", 'c', "COUNT", "1", "how many", "count", OPTION_INT, NULL},
    {"name", 'N', "NAME", "the source's", "name of the clones", "image_name", 0, NULL},
    {0},
};

static bool delete (struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    cli_params(cli, &params);
    client_param_list(&params, "images", &cli->args);
    return cli_call(cli, "DeleteImages", &params, &doc, err) &&
           cli_finish_job(cli, doc, &cli->args, &image_listing, err);
}

static const struct option delete_options[] = {
    {"now", 0, NULL, NULL, "skip the recycle bin", "direct_cease", 0, NULL},
    {0},
};

static bool modify(struct cli *cli, struct im_err *err) {
    return cli_modify(cli, "ModifyImageAttributes", "image", err);
}

static const struct option modify_options[] = {
    {"name", 'N', "NAME", NULL, "new name", "image_name", OPTION_EMPTY, NULL},
    {"description", 0, "TEXT", NULL, "new description; \"\" removes it", "description",
     OPTION_EMPTY, NULL},
    {0},
};

static const struct option list_options[] = {
    {"provider", 0, "PROVIDER", NULL, "only the system's or one's own", "provider", 0,
     "system self"},
    {"os-family", 0, "OS", NULL, "only these: debian, ubuntu, windows …", "os_family", OPTION_MANY,
     NULL},
    {"family", 0, "FAMILY", NULL, "only these families: debian12 …", "family", OPTION_MANY, NULL},
    {0},
};

static const struct option export_options[] = {
    {"format", 0, "FORMAT", "qcow2", "format of the file; vmdk is streamOptimized", "format", 0,
     "qcow2 raw raw.zst vmdk"},
    {"file", 'f', "FILE", "IMAGE.FORMAT", "where to save it", NULL, 0, "@file"},
    {"url", 0, NULL, NULL, "do not download it: print a URL for any program", NULL, 0, NULL},
    {"valid", 0, "HOURS", "24", "how long the URL is good, at most 24", NULL, OPTION_INT, NULL},
    {"timeout", 0, "SECONDS", "none", "stop waiting for the file after so long; its job goes on",
     NULL, OPTION_INT, NULL},
    {0},
};

static const struct option boot_test_options[] = {
    {"timeout", 0, "SECONDS", "60 with KVM, 300 without", "how long it may take to be up",
     "timeout", OPTION_INT, NULL},
    {"firmware", 0, "FIRMWARE", "the image's", "what it boots with", "firmware", 0, "bios uefi"},
    {"cpu", 0, "COUNT", "1", "its CPUs", "cpu", OPTION_INT, NULL},
    {"memory", 0, "SIZE", "1G", "its memory, in MiB or as 2G", "memory", OPTION_SIZE_MIB, NULL},
    {"serial", 0, NULL, NULL, "print what its serial console said, in place of the report", NULL, 0,
     NULL},
    {"screen", 0, "FILE", NULL, "save a picture of its screen, a PNG", NULL, 0, "@file"},
    {0},
};

static const struct option boot_tests_options[] = {
    {"of", 0, "ID", NULL, "only those of these images or snapshots", "images", OPTION_MANY,
     "@image"},
    {0},
};

const struct command image_commands[] = {
    {"list", "[IMAGE…]", 0, SIZE_MAX, "@image", GROUP_LIST, list_options, list,
     "Lists your images and the system's.", NULL,
     "imprint image list\n"
     "imprint image list --provider system -o json"},
    {"show", "IMAGE…", 1, 100, "@image", 0, cli_no_options, show,
     "Shows all that is known of images.", NULL, "imprint image show debian12x64"},
    {"import", "FILE|URL", 1, 1, "@file", GROUP_WAIT, import_options, import,
     "Makes an image of a disk: a file that is uploaded, or a URL that the server fetches.",
     "Formats: raw, qcow2, VMDK, VDI, VHD and VHDX, also compressed with gzip, xz, zstd or bzip2. "
     "An upload that broke off goes on with --resume.",
     "imprint image import disk.qcow2 --name web --wait\n"
     "imprint image import https://example.org/debian-12.qcow2 --default-user debian --wait"},
    {"export", "IMAGE", 1, 1, "@image", 0, export_options, cli_image_export,
     "Makes a file of an image and downloads it.",
     "A download that broke off goes on when the command is given again, from FILE.part; the "
     "SHA-256 is checked in the end. The server keeps the file for a while, see image exports.",
     "imprint image export img-0a1b2c3d\n"
     "imprint image export debian12x64 --format raw.zst --file /backup/debian.raw.zst\n"
     "curl -C - -fo debian.vmdk \"$(imprint image export debian12x64 --format vmdk --url -q)\""},
    {"exports", "[EXPORT…]", 0, SIZE_MAX, "@export", GROUP_LIST, cli_no_options, cli_image_exports,
     "Lists the files of images that the server keeps for download.", NULL,
     "imprint image exports"},
    {"unexport", "EXPORT…", 1, 1000, "@export", 0, cli_no_options, cli_image_unexport,
     "Removes files of images from the server before they expire.", NULL,
     "imprint image unexport exp-0a1b2c3d"},
    {"capture", "INSTANCE", 1, 1, "@instance", GROUP_WAIT, capture_options, capture,
     "Makes an image of a stopped instance, at once whatever its size. What is found on its disk "
     "is "
     "shown with the image and does not keep it from being one.",
     "With --trim, what holds no file any more is not kept, for the instance neither, and the "
     "image "
     "tells how much that was; this takes some seconds.",
     "imprint instance stop i-4kq0z8pw --wait\n"
     "imprint image capture i-4kq0z8pw --name web-v1 --wait\n"
     "imprint image capture i-4kq0z8pw --name web-v1 --seal --trim --wait"},
    {"inspect", "IMAGE|SNAPSHOT", 1, 1, "@image", 0, inspect_options, inspect,
     "Looks into the disk of an image or snapshot: partitions, file systems, boot loader, system.",
     "Each thing that is wrong is told with its code and what to do. Exits with 1 when there is an "
     "error: no machine would start from it, or data is lost.",
     "imprint image inspect img-0a1b2c3d\n"
     "imprint image inspect ss-8s3hc600 --json"},
    {"boot-test", "IMAGE|SNAPSHOT|TEST", 1, 1, "@image", 0, boot_test_options, cli_image_boot_test,
     "Starts a machine of an image or snapshot to see whether it comes up, and says why not.",
     "It has a disk that is thrown away and a network that nothing leaves; nothing is changed. "
     "Given "
     "a test, shows its report again. Exits with 1 unless it boots.",
     "imprint image boot-test img-0a1b2c3d\n"
     "imprint image boot-test debian12x64 --timeout 600 --screen screen.png\n"
     "imprint image boot-test bt-3xw0a9fd --serial"},
    {"boot-tests", "[TEST…]", 0, SIZE_MAX, "@boot-test", GROUP_LIST, boot_tests_options,
     cli_image_boot_tests, "Lists boot tests and their verdicts.", NULL,
     "imprint image boot-tests"},
    {"repair", "IMAGE", 1, 1, "@image", GROUP_WAIT, cli_repair_options, cli_image_repair,
     "Repairs the disk of an image, as 'imprint image plan' says.",
     "It is changed in a new layer and looked into again; the image keeps its id, instances that "
     "were made from it go on unchanged. The disk as it was is kept: --undo takes the last repair "
     "back, in an instant. A disk that is no better for it is left as it was.",
     "imprint image repair img-0a1b2c3d --dry-run\n"
     "imprint image repair img-0a1b2c3d --wait\n"
     "imprint image repair img-0a1b2c3d --undo --wait"},
    {"repairs", "[REPAIR|DISK…]", 0, SIZE_MAX, "@repair", GROUP_LIST, cli_no_options,
     cli_image_repairs,
     "Lists repairs, or shows what was changed by some, or on the disks of some images, volumes or "
     "instances.",
     NULL,
     "imprint image repairs\n"
     "imprint image repairs img-0a1b2c3d"},
    {"plan", "IMAGE|SNAPSHOT", 1, 1, "@image", 0, plan_options, cli_repair_plan,
     "Says what would repair the disk of an image or snapshot, file by file. Nothing is changed.",
     "Text files are shown as differences, everything else as steps. A finding that cannot be "
     "repaired is told with the reason.",
     "imprint image plan img-0a1b2c3d\n"
     "imprint image plan img-0a1b2c3d --only fstab.name\n"
     "imprint image plan ss-8s3hc600 --seal machine-id,ssh-keys,logs"},
    {"clone", "IMAGE", 1, 1, "@image", GROUP_WAIT, clone_options, clone,
     "Makes images of your own of an image.", NULL,
     "imprint image clone debian12x64 --name my-debian"},
    {"delete", "IMAGE…", 1, 1000, "@image", GROUP_WAIT, delete_options, delete,
     "Moves images to the recycle bin. Instances made from them go on.", NULL,
     "imprint image delete img-0a1b2c3d"},
    {"modify", "IMAGE", 1, 1, "@image", 0, modify_options, modify,
     "Changes name and description of an image.", NULL,
     "imprint image modify img-0a1b2c3d --name web-v2"},
    {0},
};
