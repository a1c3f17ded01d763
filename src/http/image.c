/* SPDX-License-Identifier: Apache-2.0 */
/* Images: list, import, capture, clone, delete, rename. */
#include "http-private.h"

#define NAME_MAX_BYTES 255
#define TEXT_MAX_BYTES 4096
#define DISK_ABOUT                                                                                 \
    "an image or a snapshot, or a volume or stopped instance whose disk no machine has open"

/* What every image can take, as old clients ask for it. */
#define FEATURES                                                                                   \
    "{\"set_keypair\":1,\"set_pwd\":1,\"user_data\":1,\"disk_hot_plug\":1,\"nic_hot_plug\":1,"     \
    "\"root_fs_rw_online\":1,\"root_fs_rw_offline\":1,\"reset_fstab\":1,"                          \
    "\"join_multiple_managed_vxnets\":0,\"ipv6_supported\":0}"

/* `instances`: those that any image of the page was used for. */
static void write_image(struct wire_writer *writer, const struct image *image,
                        const struct instance_list *instances, bool verbose) {
    wire_object_begin(writer, NULL);
    wire_fields(writer, &image_type, image);
    wire_raw(writer, "features_supported", FEATURES);
    wire_array_begin(writer, "instance_ids");
    for (size_t i = 0; i < instances->count; i++)
        if (im_str_equal(instances->items[i].instance->image_id, image->image_id))
            wire_text(writer, NULL, instances->items[i].instance->instance_id);
    wire_array_end(writer);
    wire_text(writer, "agent_type", "");
    wire_raw(writer, "tags", "[]");
    if (verbose)
        wire_raw(writer, "inspection", im_str_empty(image->report) ? "null" : image->report);
    wire_object_end(writer);
}

/* Those of the caller that are still there, the newest thousand; with verbose=1 only, as an image
 * may have many. */
static bool find_instances(const struct request *request, const struct image_list *images,
                           struct instance_list *ret_list, struct im_err *err) {
    static const char *const there[] = {"pending", "running", "stopped", "suspended"};
    IM_AUTO(query_done) struct query query = {.limit = 1000};

    if (request_int(request, "verbose") <= 0 || images->count == 0)
        return true;
    for (size_t i = 0; i < images->count; i++)
        query_add(&query, "image_id", CONDITION_IN, images->items[i]->image_id);
    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++)
        query_add(&query, "status", CONDITION_IN, there[i]);
    return cloud_instances(request->cloud, &request->caller, &query, false, ret_list, err);
}

static bool describe_images(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(image_list_done) struct image_list list = {0};
    IM_AUTO(instance_list_done) struct instance_list instances = {0};

    if (!request_query(request, &query, err) ||
        !cloud_images(request->cloud, &request->caller, &query, &list, err) ||
        !find_instances(request, &list, &instances, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_image(&request->reply, list.items[i], &instances,
                    request_int(request, "verbose") > 0);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_images_params[] = {
    {"images", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "image_id", "ids"},
    {"image_name", HTTP_LIST, HTTP_CONTAINS, 0, HTTP_ID_LIST_MAX, NULL, "image_name",
     "part of the name"},
    {"processor_type", HTTP_LIST, 0, 0, 16, NULL, "processor_type", "64bit or 32bit"},
    {"os_family", HTTP_LIST, 0, 0, 64, NULL, "os_family", "debian, ubuntu, windows …"},
    {"platform", HTTP_LIST, 0, 0, 16, NULL, "platform", "linux or windows"},
    {"visibility", HTTP_LIST, 0, 0, 16, NULL, "visibility", "public or private"},
    {"provider", HTTP_LIST, 0, 0, 16, NULL, "provider", "system or self"},
    {"family", HTTP_LIST, 0, 0, 64, NULL, "family", "ours: family of system images"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status",
     "pending, available, deprecated, suspended, deleted, ceased"},
    {0},
};

static bool import_image(struct request *request, struct im_err *err) {
    struct image_import_args args = {
        .image_name = request_text(request, "image_name"),
        .description = request_text(request, "description"),
        .source = request_text(request, "source"),
        .format = request_text(request, "format"),
        .digest = request_text(request, "digest"),
        .platform = request_text(request, "platform"),
        .os_family = request_text(request, "os_family"),
        .processor_type = request_text(request, "processor_type"),
        .default_user = request_text(request, "default_user"),
        .firmware = request_text(request, "firmware"),
        .ui_type = request_text(request, "ui_type"),
        .force = request_int(request, "force"),
        .image_id = request_text(request, "image_id"),
        .visibility = request_text(request, "visibility"),
        .family = request_text(request, "family"),
    };
    char image_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    if (!cloud_image_import(request->cloud, &request->caller, &args, image_id, job_id, err))
        return false;
    wire_text(&request->reply, "image_id", image_id);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param import_image_params[] = {
    {"source", HTTP_TEXT, 0, 1, TEXT_MAX_BYTES, NULL, NULL,
     "URL or absolute path; without it the bytes come by upload to /data/images/ID"},
    {"image_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name"},
    {"description", HTTP_TEXT, 0, 0, TEXT_MAX_BYTES, NULL, NULL, "free text"},
    {"format", HTTP_WORD, 0, 0, 0, "raw qcow2 vmdk vdi vpc vhdx", NULL,
     "format; without it, by its first bytes"},
    {"digest", HTTP_TEXT, 0, 0, 80, NULL, NULL,
     "SHA-256 of what comes in, hex, perhaps with sha256: in front"},
    {"platform", HTTP_WORD, 0, 0, 0, "linux windows", NULL, "platform, linux by default"},
    {"os_family", HTTP_TEXT, 0, 0, 32, NULL, NULL, "debian, ubuntu, windows …"},
    {"processor_type", HTTP_WORD, 0, 0, 0, "64bit 32bit", NULL, "processor type, 64bit by default"},
    {"default_user", HTTP_TEXT, 0, 0, 32, NULL, NULL, "login user of the system in it"},
    {"firmware", HTTP_WORD, 0, 0, 0, "bios uefi", NULL, "what it boots with, bios by default"},
    {"ui_type", HTTP_WORD, 0, 0, 0, "tui gui", NULL, "text or graphics, tui by default"},
    {"force", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 takes the disk whatever is wrong with it"},
    {"image_id", HTTP_TEXT, 0, 1, 63, NULL, NULL,
     "administrators: a symbolic id such as debian12x64"},
    {"visibility", HTTP_WORD, 0, 0, 0, "public private", NULL,
     "administrators: public makes a system image"},
    {"family", HTTP_TEXT, 0, 0, 63, NULL, NULL,
     "administrators: family whose newest image answers to its name"},
    {0},
};

static bool export_image(struct request *request, struct im_err *err) {
    char export_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    const char *image_id = request_text(request, "image");

    if (!cloud_image_export(request->cloud, &request->caller, image_id,
                            request_text(request, "format"), export_id, job_id, err))
        return false;
    wire_text(&request->reply, "image_id", image_id);
    wire_text(&request->reply, "export_id", export_id);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param export_image_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the image"},
    {"format", HTTP_WORD, 0, 0, 0, "qcow2 raw raw.zst vmdk", NULL,
     "format of the file, qcow2 by default"},
    {0},
};

static bool describe_exports(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(image_export_list_done) struct image_export_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_image_exports(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++) {
        wire_object_begin(&request->reply, NULL);
        wire_fields(&request->reply, &image_export_type, list.items[i]);
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_exports_params[] = {
    {"exports", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "export_id", "ids"},
    {"images", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "image_id", "only those of these images"},
    {"format", HTTP_LIST, 0, 0, 16, NULL, "format", "qcow2, raw, raw.zst or vmdk"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status", "pending or available"},
    {0},
};

static bool delete_exports(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    request_list(request, "exports", &ids);
    if (!cloud_image_exports_delete(request->cloud, &request->caller, &ids, err))
        return false;
    wire_strings(&request->reply, "exports", &ids);
    return true;
}

static const struct http_param delete_exports_params[] = {
    {"exports", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {0},
};

static bool boot_test_image(struct request *request, struct im_err *err) {
    struct boot_test_args args = {.resource_id = request_text(request, "image"),
                                  .firmware = request_text(request, "firmware"),
                                  .cpu = request_int(request, "cpu"),
                                  .memory = request_int(request, "memory"),
                                  .timeout_s = request_int(request, "timeout")};
    char test_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    if (!cloud_boot_test(request->cloud, &request->caller, &args, test_id, job_id, err))
        return false;
    wire_text(&request->reply, "image_id", args.resource_id);
    wire_text(&request->reply, "boot_test_id", test_id);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param boot_test_image_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "an image or a snapshot"},
    {"firmware", HTTP_WORD, 0, 0, 0, "bios uefi", NULL, "what it boots with, as the image says"},
    {"cpu", HTTP_INT, HTTP_ZERO_UNSET, 1, 512, NULL, NULL, "CPUs, as configured"},
    {"memory", HTTP_INT, HTTP_ZERO_UNSET, 1, 1 << 20, NULL, NULL, "MiB, as configured"},
    {"timeout", HTTP_INT, HTTP_ZERO_UNSET, 10, 7200, NULL, NULL,
     "seconds that it may take to be up, as configured"},
    {0},
};

static bool describe_boot_tests(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(boot_test_list_done) struct boot_test_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_boot_tests(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++) {
        const char *timeline = list.items[i]->timeline;

        wire_object_begin(&request->reply, NULL);
        wire_fields(&request->reply, &boot_test_type, list.items[i]);
        wire_raw(&request->reply, "timeline", im_str_empty(timeline) ? "[]" : timeline);
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_boot_tests_params[] = {
    {"boot_tests", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "boot_test_id", "ids"},
    {"images", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "resource_id",
     "only those of these images or snapshots"},
    {"verdict", HTTP_LIST, 0, 0, 32, NULL, "verdict", "boots, does_not_boot or no_sign_of_life"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status", "pending or done"},
    {0},
};

static bool capture_instance(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings seal = {0};
    struct image_capture_args args = {.instance_id = request_text(request, "instance"),
                                      .image_name = request_text(request, "image_name"),
                                      .seal = &seal,
                                      .trim = request_flag(request, "trim")};
    char image_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    request_list(request, "seal_items", &seal);
    if (seal.count == 0 && request_flag(request, "seal"))
        im_strings_add(&seal, "all");
    if (!cloud_image_capture(request->cloud, &request->caller, &args, image_id, job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    wire_text(&request->reply, "image_id", image_id);
    return true;
}

static const struct http_param capture_instance_params[] = {
    {"instance", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "a stopped instance"},
    {"image_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the new image"},
    {"seal", HTTP_BOOL, 0, 0, 1, NULL, NULL,
     "ours: 1 takes out of it what each machine should have of its own"},
    {"seal_items", HTTP_LIST, 0, 0, 32, NULL, NULL,
     "ours: only these: machine-id, ssh-keys, leases, random-seed, net-rules, cloud-init, logs, "
     "history"},
    {"trim", HTTP_BOOL, 0, 0, 1, NULL, NULL,
     "1: what holds no file any more is not kept, for the instance neither"},
    {0},
};

static bool clone_images(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];
    int64_t count = request_int(request, "count");

    if (!cloud_image_clone(request->cloud, &request->caller, request_text(request, "image"),
                           count < 1 ? 1 : count, request_text(request, "image_name"), &ids, job_id,
                           err))
        return false;
    wire_strings(&request->reply, "images", &ids);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param clone_images_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the image to clone"},
    {"count", HTTP_INT, HTTP_ZERO_UNSET, 1, 100, NULL, NULL, "how many, 1 by default"},
    {"image_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the clones"},
    {0},
};

static bool delete_images(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "images", &ids);
    if (!cloud_images_delete(request->cloud, &request->caller, &ids,
                             request_flag(request, "direct_cease"), job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param delete_images_params[] = {
    {"images", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"direct_cease", HTTP_BOOL, 0, 0, 1, NULL, NULL, "ours: 1 skips the recycle bin"},
    {0},
};

static bool modify_image(struct request *request, struct im_err *err) {
    const char *id = request_text(request, "image");

    if (!cloud_image_modify(request->cloud, &request->caller, id,
                            request_raw(request, "image_name"), request_raw(request, "description"),
                            err))
        return false;
    wire_text(&request->reply, "image_id", id);
    return true;
}

static const struct http_param modify_image_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the image"},
    {"image_name", HTTP_TEXT, HTTP_EMPTIES, 0, NAME_MAX_BYTES, NULL, NULL, "new name"},
    {"description", HTTP_TEXT, HTTP_EMPTIES, 0, TEXT_MAX_BYTES, NULL, NULL, "new description"},
    {0},
};

static bool inspect_image(struct request *request, struct im_err *err) {
    const char *id = request_text(request, "image");
    IM_AUTO(free_auto) char *report = NULL;

    if (!cloud_inspect(request->cloud, &request->caller, id, &report, err))
        return false;
    wire_text(&request->reply, "image_id", id);
    wire_raw(&request->reply, "inspection", report);
    return true;
}

static const struct http_param inspect_image_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, DISK_ABOUT},
    {0},
};

static bool plan_image_repair(struct request *request, struct im_err *err) {
    const char *id = request_text(request, "image");
    IM_AUTO(im_strings_done) struct im_strings codes = {0};
    IM_AUTO(im_strings_done) struct im_strings seal = {0};
    IM_AUTO(free_auto) char *plan = NULL;

    request_list(request, "findings", &codes);
    request_list(request, "seal", &seal);
    if (!cloud_repair_plan(request->cloud, &request->caller, id, &codes, &seal, &plan, err))
        return false;
    wire_text(&request->reply, "image_id", id);
    wire_raw(&request->reply, "plan", plan);
    return true;
}

static const struct http_param plan_image_repair_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, DISK_ABOUT},
    {"findings", HTTP_LIST, 0, 0, 32, NULL, NULL,
     "codes of findings; without them, all that can be repaired"},
    {"seal", HTTP_LIST, 0, 0, 32, NULL, NULL,
     "what else is taken out: machine-id, ssh-keys, leases, random-seed, net-rules, cloud-init, "
     "logs, history"},
    {0},
};

const struct http_action image_actions[] = {
    {"DescribeImages", describe_images_params, HTTP_CACHED, &image_type, describe_images,
     "lists images: one's own and those of the system; verbose=1 adds instance_ids and inspection"},
    {"ImportImage", import_image_params, 0, NULL, import_image,
     "ours: brings in a disk image from a URL, a path or an upload"},
    {"ExportImage", export_image_params, 0, NULL, export_image,
     "ours: makes a file of an image, to be downloaded from /data/exports/ID"},
    {"DescribeImageExports", describe_exports_params, HTTP_CACHED, &image_export_type,
     describe_exports, "ours: lists one's files of images"},
    {"DeleteImageExports", delete_exports_params, 0, NULL, delete_exports,
     "ours: gives files of images up before they expire"},
    {"InspectImage", inspect_image_params, 0, NULL, inspect_image,
     "ours: looks into a disk, and says what is wrong with it"},
    {"BootTestImage", boot_test_image_params, 0, NULL, boot_test_image,
     "ours: starts a machine of an image or snapshot, on its own, and says whether it comes up"},
    {"DescribeBootTests", describe_boot_tests_params, HTTP_CACHED, &boot_test_type,
     describe_boot_tests, "ours: lists one's boot tests, with their verdicts and time lines"},
    {"PlanImageRepair", plan_image_repair_params, 0, NULL, plan_image_repair,
     "ours: says what would repair a disk, and changes nothing"},
    {"CaptureInstance", capture_instance_params, 0, NULL, capture_instance,
     "makes an image of a stopped instance, in constant time"},
    {"CloneImages", clone_images_params, 0, NULL, clone_images,
     "makes images of one's own of an image"},
    {"DeleteImages", delete_images_params, 0, NULL, delete_images,
     "moves images to the recycle bin"},
    {"ModifyImageAttributes", modify_image_params, 0, NULL, modify_image,
     "changes name and description"},
    {0},
};
