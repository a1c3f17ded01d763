/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs of instances: parameters to a call of the cloud, its ids to the reply. */
#include <string.h>

#include "instance-private.h"

#define NAME_MAX_BYTES 255
#define USERDATA_MAX_BYTES (4 << 20)
#define IDS                                                                                        \
    { "instances", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids" }

/* qingcloud-sdk-go sends these whether its caller set them or not. When they come together, they
 * say nothing about what the caller wants. */
#define GO_CPU_MODEL "Westmere"
#define GO_USERDATA_FILE "/etc/rc.local"

static bool job_reply(struct request *request, bool worked, const char *job_id) {
    if (worked)
        wire_text(&request->reply, "job_id", job_id);
    return worked;
}

/* A number of which 0 means "not given". */
static int64_t positive(const struct request *request, const char *name) {
    int64_t value = request_int(request, name);

    return value <= 0 ? -1 : value;
}

static void go_markers(struct instance_run_args *args) {
    bool model = im_str_equal(args->cpu_model, GO_CPU_MODEL);
    bool file = im_str_equal(args->userdata_file, GO_USERDATA_FILE);

    args->go_defaults = args->cpu == 1 && args->memory == 1024 && (model || file);
    if (model && file)
        args->cpu_model = NULL;
}

bool run_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings vxnets = {0}, ids = {0};
    char job_id[IM_JOB_ID_MAX];
    struct instance_run_args args = {
        .image_id = request_text(request, "image_id"),
        .instance_type = request_text(request, "instance_type"),
        .cpu = positive(request, "cpu"),
        .memory = positive(request, "memory"),
        .os_disk_size = positive(request, "os_disk_size"),
        .count = positive(request, "count") < 0 ? 1 : positive(request, "count"),
        .instance_name = request_text(request, "instance_name"),
        .hostname = request_text(request, "hostname"),
        .login_mode = request_text(request, "login_mode"),
        .login_keypair = request_text(request, "login_keypair"),
        .login_passwd = request_text(request, "login_passwd"),
        .vxnets = &vxnets,
        .instance_class = request_int(request, "instance_class"),
        .cpu_max = positive(request, "cpu_max"),
        .mem_max = positive(request, "mem_max"),
        .nic_mqueue = request_int(request, "nic_mqueue"),
        .cpu_model = request_text(request, "cpu_model"),
        .cpu_topology = request_text(request, "cpu_topology"),
        .need_userdata = request_int(request, "need_userdata"),
        .userdata_type = request_text(request, "userdata_type"),
        .userdata_value = request_text(request, "userdata_value"),
        .userdata_path = request_text(request, "userdata_path"),
        .userdata_file = request_text(request, "userdata_file"),
        .security_group = request_text(request, "security_group"),
        .no_start = request_text(request, "start") != NULL && !request_flag(request, "start"),
    };

    go_markers(&args);
    request_list(request, "vxnets", &vxnets);
    if (!cloud_instances_run(request->cloud, &request->caller, &args, &ids, job_id, err))
        return false;
    wire_strings(&request->reply, "instances", &ids);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

const struct http_param run_instances_params[] = {
    {"image_id", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL,
     "id, symbolic id or family of an image"},
    {"instance_type", HTTP_TEXT, 0, 0, 63, NULL, NULL,
     "a preset; cpu and memory win when they are given"},
    {"cpu", HTTP_INT, HTTP_ZERO_UNSET, 1, 4096, NULL, NULL, "vCPUs"},
    {"memory", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 30, NULL, NULL, "MiB"},
    {"os_disk_size", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 20, NULL, NULL,
     "GiB; that of the image by default"},
    {"count", HTTP_INT, HTTP_ZERO_UNSET, 1, 1000, NULL, NULL, "how many, 1 by default"},
    {"instance_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name"},
    {"hostname", HTTP_TEXT, 0, 0, 63, NULL, NULL, "host name inside; the id by default"},
    {"login_mode", HTTP_WORD, 0, 0, 0, "keypair passwd", NULL, "how to log in"},
    {"login_keypair", HTTP_TEXT, 0, 0, 63, NULL, NULL, "key pair that is let in"},
    {"login_passwd", HTTP_TEXT, HTTP_SECRET, 0, 128, NULL, NULL, "password of the login user"},
    {"vxnets", HTTP_LIST, 0, 0, 64, NULL, NULL,
     "networks: vxnet-0 or vxnet-0|ip; none = no network"},
    {"instance_class", HTTP_INT, 0, 0, 10000, NULL, NULL, "class; kept and shown again"},
    {"cpu_max", HTTP_INT, HTTP_ZERO_UNSET, 1, 4096, NULL, NULL, "kept and shown again"},
    {"mem_max", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 30, NULL, NULL, "kept and shown again"},
    {"nic_mqueue", HTTP_BOOL, 0, 0, 1, NULL, NULL, "several queues on the network card"},
    {"cpu_model", HTTP_TEXT, 0, 0, 63, NULL, NULL, "processor model the guest sees"},
    {"cpu_topology", HTTP_TEXT, 0, 0, 32, NULL, NULL,
     "sockets,cores,threads; their product is cpu"},
    {"need_userdata", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1: the userdata parameters count"},
    {"userdata_type", HTTP_WORD, 0, 0, 0, "plain exec tar", NULL, "what userdata_value is"},
    {"userdata_value", HTTP_TEXT, HTTP_SECRET, 0, USERDATA_MAX_BYTES, NULL, NULL, "base64 text"},
    {"userdata_path", HTTP_TEXT, 0, 0, 1024, NULL, NULL, "folder in the guest"},
    {"userdata_file", HTTP_TEXT, 0, 0, 1024, NULL, NULL, "file that exec writes"},
    {"security_group", HTTP_TEXT, 0, 0, 63, NULL, NULL, "kept and shown again"},
    {"start", HTTP_BOOL, 0, 0, 1, NULL, NULL, "ours: 0 leaves them stopped"},
    {0},
};

#define PLAIN_VERB(verb, call)                                                                     \
    bool verb(struct request *request, struct im_err *err) {                                       \
        IM_AUTO(im_strings_done) struct im_strings ids = {0};                                      \
        char job_id[IM_JOB_ID_MAX];                                                                \
                                                                                                   \
        request_list(request, "instances", &ids);                                                  \
        return job_reply(request, call(request->cloud, &request->caller, &ids, job_id, err),       \
                         job_id);                                                                  \
    }                                                                                              \
    const struct http_param verb##_params[] = {IDS, {0}};
PLAIN_VERB(start_instances, cloud_instances_start)
PLAIN_VERB(restart_instances, cloud_instances_restart)
PLAIN_VERB(cease_instances, cloud_instances_cease)

bool stop_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "instances", &ids);
    return job_reply(request,
                     cloud_instances_stop(request->cloud, &request->caller, &ids,
                                          request_flag(request, "force"), job_id, err),
                     job_id);
}

const struct http_param stop_instances_params[] = {
    IDS,
    {"force", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 powers off at once"},
    {0},
};

bool terminate_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "instances", &ids);
    return job_reply(request,
                     cloud_instances_terminate(request->cloud, &request->caller, &ids,
                                               request_flag(request, "direct_cease"), job_id, err),
                     job_id);
}

const struct http_param terminate_instances_params[] = {
    IDS,
    {"direct_cease", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 skips the recycle bin"},
    {0},
};

bool resize_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];
    struct instance_resize_args args = {
        .instance_type = request_text(request, "instance_type"),
        .cpu = positive(request, "cpu"),
        .memory = positive(request, "memory"),
        .os_disk_size = positive(request, "os_disk_size"),
        .cpu_model = request_text(request, "cpu_model"),
        .cpu_topology = request_text(request, "cpu_topology"),
    };

    request_list(request, "instances", &ids);
    return job_reply(
        request, cloud_instances_resize(request->cloud, &request->caller, &ids, &args, job_id, err),
        job_id);
}

const struct http_param resize_instances_params[] = {
    IDS,
    {"instance_type", HTTP_TEXT, 0, 0, 63, NULL, NULL,
     "a preset; cpu and memory win when they are given"},
    {"cpu", HTTP_INT, HTTP_ZERO_UNSET, 1, 4096, NULL, NULL, "vCPUs"},
    {"memory", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 30, NULL, NULL, "MiB"},
    {"os_disk_size", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 20, NULL, NULL, "GiB; grows only"},
    {"cpu_model", HTTP_TEXT, 0, 0, 63, NULL, NULL, "processor model the guest sees"},
    {"cpu_topology", HTTP_TEXT, 0, 0, 32, NULL, NULL, "sockets,cores,threads"},
    {0},
};

bool reset_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];
    struct instance_reset_args args = {
        .image_id = request_text(request, "image_id"),
        .login_mode = request_text(request, "login_mode"),
        .login_keypair = request_text(request, "login_keypair"),
        .login_passwd = request_text(request, "login_passwd"),
        .os_disk_size = positive(request, "os_disk_size"),
    };

    request_list(request, "instances", &ids);
    return job_reply(
        request, cloud_instances_reset(request->cloud, &request->caller, &ids, &args, job_id, err),
        job_id);
}

const struct http_param reset_instances_params[] = {
    IDS,
    {"image_id", HTTP_TEXT, 0, 0, 63, NULL, NULL,
     "another image; the one it was made from by default"},
    {"login_mode", HTTP_WORD, 0, 0, 0, "keypair passwd", NULL,
     "how to log in; as before by default"},
    {"login_keypair", HTTP_TEXT, 0, 0, 63, NULL, NULL, "key pair that is let in"},
    {"login_passwd", HTTP_TEXT, HTTP_SECRET, 0, 128, NULL, NULL, "password of the login user"},
    {"os_disk_size", HTTP_INT, HTTP_ZERO_UNSET, 1, INT64_C(1) << 20, NULL, NULL, "GiB"},
    {0},
};

bool reset_password(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "instances", &ids);
    return job_reply(request,
                     cloud_password_reset(request->cloud, &request->caller, &ids,
                                          request_text(request, "login_passwd"), job_id, err),
                     job_id);
}

const struct http_param reset_password_params[] = {
    IDS,
    {"login_passwd", HTTP_TEXT, HTTP_REQUIRED | HTTP_SECRET, 0, 128, NULL, NULL,
     "new password of the login user"},
    {0},
};

bool modify_instance(struct request *request, struct im_err *err) {
    return cloud_instance_modify(
        request->cloud, &request->caller, request_text(request, "instance"),
        request_raw(request, "instance_name"), request_raw(request, "description"),
        request_int(request, "nic_mqueue"), err);
}

const struct http_param modify_instance_params[] = {
    {"instance", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the instance"},
    {"instance_name", HTTP_TEXT, HTTP_EMPTIES, 0, NAME_MAX_BYTES, NULL, NULL, "new name"},
    {"description", HTTP_TEXT, HTTP_EMPTIES, 0, 4096, NULL, NULL, "new description"},
    {"nic_mqueue", HTTP_BOOL, 0, 0, 1, NULL, NULL, "several queues on the network card"},
    {0},
};

/* Of "instance|volume|copy" those of this instance. */
static void write_volumes_map(struct wire_writer *writer, const char *instance_id,
                              const struct im_strings *volumes) {
    wire_object_begin(writer, "volumes_map");
    for (size_t i = 0; i < volumes->count; i++) {
        IM_AUTO(im_strings_done) struct im_strings parts = {0};

        im_strings_split(&parts, volumes->items[i], "|");
        if (parts.count == 3 && strcmp(parts.items[0], instance_id) == 0)
            wire_text(writer, parts.items[1], parts.items[2]);
    }
    wire_object_end(writer);
}

bool clone_instances(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, vxnets = {0}, made = {0}, volumes = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "instances", &ids);
    request_list(request, "vxnets", &vxnets);
    if (!cloud_instances_clone(request->cloud, &request->caller, &ids, &vxnets, &made, &volumes,
                               job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    wire_strings(&request->reply, "instances", &made);
    wire_object_begin(&request->reply, "instance_set"); /* an object here, keyed by source */
    for (size_t i = 0; i < made.count && i < ids.count; i++) {
        wire_object_begin(&request->reply, ids.items[i]);
        wire_object_begin(&request->reply, "instance_map");
        wire_text(&request->reply, ids.items[i], made.items[i]);
        wire_object_end(&request->reply);
        write_volumes_map(&request->reply, ids.items[i], &volumes);
        wire_object_end(&request->reply);
    }
    wire_object_end(&request->reply);
    return true;
}

const struct http_param clone_instances_params[] = {
    IDS,
    {"vxnets", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "instance|vxnet or instance|vxnet|ip"},
    {0},
};
