/* SPDX-License-Identifier: Apache-2.0 */
/* RunInstances: any number of machines from one image, each with a disk of its own in constant
 * time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum { HOSTNAME_MAX = 63 };

/* --- What the caller asked for, checked and completed ----------------------------------------- */

struct run {
    struct cloud *cloud;
    const struct caller *caller;
    const struct instance_run_args *args;
    int64_t vcpus, memory_mib, count;
    struct login login;
    char *userdata; /* owned */
    struct im_strings *ret_ids;
    char job_id[IM_JOB_ID_MAX];
};

static void run_done(struct run *run) {
    login_done(&run->login);
    free(run->userdata);
}

static bool sized(struct run *run, struct im_err *err) {
    const struct instance_run_args *args = run->args;
    const struct instance_preset *preset = NULL;
    struct machine_limits limits;
    bool numbers = args->cpu > 0 && args->memory > 0;

    if (!im_str_empty(args->instance_type) && (!numbers || args->go_defaults)) {
        preset = instance_preset_find(args->instance_type);
        if (preset == NULL)
            return im_fail(err, IM_NOT_FOUND, "instance type [%.64s] does not exist",
                           args->instance_type);
    }
    if (preset == NULL && !numbers)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [instance_type] is missing, or [cpu] and [memory] together");
    run->vcpus = preset ? preset->vcpus : args->cpu;
    run->memory_mib = preset ? preset->memory_mb : args->memory;
    return machine_limits(run->cloud, &limits, err) &&
           machine_fits(&limits, run->vcpus, run->memory_mib, err);
}

bool cpu_shape_fits(const char *model, const char *topology, int64_t vcpus, struct im_err *err) {
    unsigned sockets, cores, threads;
    char rest;

    if (!im_str_empty(model) && !im_id_valid(model))
        return im_fail(err, IM_BAD_MESSAGE,
                       "cpu_model [%.64s] should consist of letters, digits, dots and dashes",
                       model);
    if (im_str_empty(topology))
        return true;
    if (sscanf(topology, "%u,%u,%u%c", &sockets, &cores, &threads, &rest) != 3 || sockets > 64 ||
        cores > 512 || threads > 8 || (int64_t) sockets * cores * threads != vcpus)
        return im_fail(
            err, IM_BAD_MESSAGE,
            "cpu_topology [%.32s] should be sockets,cores,threads with a product of %" PRId64,
            topology, vcpus);
    return true;
}

static bool hostname_fits(const char *hostname, struct im_err *err) {
    size_t len = hostname ? strlen(hostname) : 0;

    if (len > HOSTNAME_MAX || (len > 0 && (hostname[0] == '-' || hostname[len - 1] == '-')))
        return im_fail(err, IM_BAD_MESSAGE,
                       "hostname [%.64s] should have at most %d characters and no dash at its ends",
                       hostname, HOSTNAME_MAX);
    for (size_t i = 0; i < len; i++)
        if (!((hostname[i] >= 'a' && hostname[i] <= 'z') ||
              (hostname[i] >= 'A' && hostname[i] <= 'Z') ||
              (hostname[i] >= '0' && hostname[i] <= '9') || hostname[i] == '-'))
            return im_fail(err, IM_BAD_MESSAGE,
                           "hostname [%.64s] should consist of letters, digits and dashes",
                           hostname);
    return true;
}

static bool userdata_fits(struct run *run, struct im_err *err) {
    const struct instance_run_args *args = run->args;
    IM_AUTO(free_auto) void *bytes = NULL;
    const char *type = im_str_empty(args->userdata_type) ? "plain" : args->userdata_type;
    size_t len = 0;

    if (args->need_userdata != 1 || im_str_empty(args->userdata_value))
        return true;
    if (strcmp(type, "plain") != 0 && strcmp(type, "exec") != 0)
        return im_fail(err, IM_BAD_MESSAGE, "userdata_type [%.32s] should be plain or exec", type);
    if (!crypto_base64_decode(args->userdata_value, &bytes, &len))
        return im_fail(err, IM_BAD_MESSAGE, "userdata_value is not base64");
    if (len > USERDATA_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "userdata_value has %zu bytes, at most %d are allowed",
                       len, USERDATA_MAX);
    if (strcmp(type, "exec") == 0 && (len < 2 || memcmp(bytes, "#!", 2) != 0)) {
        struct im_str script = {0};

        im_str_add(&script, "#!/bin/sh\n");
        im_str_add_bytes(&script, bytes, len);
        run->userdata = crypto_base64(script.data, script.len);
        im_str_done(&script);
        return true;
    }
    run->userdata = crypto_base64(bytes, len);
    return true;
}

static bool run_check(struct run *run, struct im_err *err) {
    const struct instance_run_args *args = run->args;

    run->count = args->count <= 0 ? 1 : args->count;
    if (im_str_empty(args->image_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image_id] is missing");
    if (run->count > INSTANCES_MAX_PER_CALL)
        return im_fail(err, IM_BAD_MESSAGE, "count [%" PRId64 "] should be between 1 and %d",
                       run->count, INSTANCES_MAX_PER_CALL);
    if (run->count > 1 && args->vxnets != NULL)
        for (size_t i = 0; i < args->vxnets->count; i++)
            if (strchr(args->vxnets->items[i], '|') != NULL)
                return im_fail(err, IM_BAD_MESSAGE,
                               "an address can be chosen for one instance only, count is %" PRId64,
                               run->count);
    return text_fits("instance_name", args->instance_name, 255, err) &&
           hostname_fits(args->hostname, err) && sized(run, err) &&
           cpu_shape_fits(args->cpu_model, args->cpu_topology, run->vcpus, err) &&
           userdata_fits(run, err) &&
           login_check(run->cloud, args->login_mode, args->login_keypair, args->login_passwd,
                       &run->login, err);
}

/* --- Rows ------------------------------------------------------------------------------------- */

static bool disk_size(struct run *run, const struct image *image, int64_t *ret_gib,
                      struct im_err *err) {
    int64_t gib = run->args->os_disk_size > 0 ? run->args->os_disk_size : image->size;

    if (gib < image->size || gib > run->cloud->config.max_disk_gib)
        return im_fail(err, IM_BAD_MESSAGE,
                       "os_disk_size [%" PRId64 " GB] should be between %" PRId64
                       " (the image's size) and %" PRId64,
                       gib, image->size, run->cloud->config.max_disk_gib);
    *ret_gib = gib;
    return true;
}

/* What is asked of first boot stays "not confirmed" until the guest shows it: an image without
 * cloud-init boots all the same, and then this sentence is the truth. */
static char *unconfirmed(const struct run *run) {
    const struct instance_run_args *args = run->args;

    return im_printf(
        "host name%s%s%s: offered on the seed disk, the guest has not confirmed them yet",
        im_str_empty(args->login_keypair) ? "" : ", key pair",
        im_str_empty(run->login.hash) ? "" : ", password",
        run->userdata == NULL ? "" : ", user data");
}

static bool add_instance(struct run *run, struct db_conn *conn, const struct image *image,
                         int64_t disk_gib, int64_t number, struct im_err *err) {
    const struct instance_run_args *args = run->args;
    char id[IM_ID_MAX], layer_id[IM_ID_MAX], graphics[GRAPHICS_PASSWORD + 1],
        hostname[IM_ID_MAX + 8];
    IM_AUTO(free_auto) char *note = unconfirmed(run);
    bool plain = takes_plain(image->platform);
    struct instance instance = {
        .instance_id = id,
        .instance_name = (char *) (args->instance_name ? args->instance_name : ""),
        .instance_class = args->instance_class < 0 ? 0 : args->instance_class,
        .vcpus_current = run->vcpus,
        .memory_current = run->memory_mib,
        .cpu_topology = (char *) args->cpu_topology,
        .status = INSTANCE_PENDING,
        .transition_status = TRANSITION_CREATING,
        .create_time = im_now_s(),
        .status_time = im_now_s(),
        .zone_id = (char *) run->cloud->config.zone_id,
        .owner = (char *) run->caller->user_id,
        .platform = image->platform,
        .hostname = hostname,
        .graphics_protocol = "vnc",
        .graphics_passwd = graphics,
        .unapplied = note,
        .image_id = image->image_id,
        .layer_id = layer_id,
        .os_disk_size = disk_gib,
        .cpu_max = args->cpu_max < 0 ? 0 : args->cpu_max,
        .mem_max = args->mem_max < 0 ? 0 : args->mem_max,
        .nic_mqueue = args->nic_mqueue < 0 ? 0 : args->nic_mqueue,
        .cpu_model = (char *) (args->go_defaults ? "" : args->cpu_model),
        .login_mode = (char *) args->login_mode,
        .passwd_hash = plain ? NULL : run->login.hash,
        .passwd_sealed = plain ? run->login.sealed : NULL,
        .userdata = run->userdata,
        .userdata_path = (char *) args->userdata_path,
        .firmware = image->firmware};

    instance.instance_type =
        (char *) instance_preset_name(run->vcpus, run->memory_mib, instance.instance_class);
    im_id_make(id, "i-", 8);
    graphics_password(graphics);
    if (im_str_empty(args->hostname))
        snprintf(hostname, sizeof(hostname), "%s", id);
    else if (run->count == 1)
        snprintf(hostname, sizeof(hostname), "%s", args->hostname);
    else
        snprintf(hostname, sizeof(hostname), "%.58s-%" PRId64, args->hostname, number + 1);
    im_strings_add(run->ret_ids, id);
    return layer_plan(run->cloud, conn, image->layer_id, disk_gib * GIB, layer_id, err) &&
           record_insert(conn, &instance_type, &instance, err) &&
           nics_plan(run->cloud, conn, &instance, args->vxnets, args->security_group, err) &&
           (im_str_empty(args->login_keypair) ||
            keypair_link_add(conn, args->login_keypair, id, err));
}

static char *run_directive(const struct run *run) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "image_id", run->args->image_id);
    wire_int(&writer, "count", run->count);
    wire_int(&writer, "cpu", run->vcpus);
    wire_int(&writer, "memory", run->memory_mib);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool run_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct run *run = arg;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(free_auto) struct job_order *orders = im_alloc((size_t) run->count * sizeof(*orders));
    IM_AUTO(free_auto) char *directive = run_directive(run);
    int64_t disk_gib = 0;

    im_strings_done(run->ret_ids); /* a transaction may be tried again */
    if (!image_load(conn, run->caller, run->args->image_id, &image, err) ||
        !image_allows(image, "RunInstances", err) || !disk_size(run, image, &disk_gib, err) ||
        !login_fits(conn, run->caller, image->platform, run->args->login_keypair, err))
        return false;
    for (int64_t i = 0; i < run->count; i++) {
        if (!add_instance(run, conn, image, disk_gib, i, err))
            return false;
        orders[i] = (struct job_order){.resource_id = run->ret_ids->items[i],
                                       .data = run->args->no_start ? "{\"start\":0}" : "{}"};
    }
    return jobs_add(run->cloud->jobs, conn, "RunInstances", run->caller->user_id, directive, orders,
                    (size_t) run->count, run->job_id, err);
}

bool cloud_instances_run(struct cloud *cloud, const struct caller *caller,
                         const struct instance_run_args *args, struct im_strings *ret_instance_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(run_done)
    struct run run = {.cloud = cloud, .caller = caller, .args = args, .ret_ids = ret_instance_ids};

    if (run_check(&run, err) && cloud_order(cloud, run_body, &run, run.job_id, ret_job_id, err))
        return true;
    im_strings_done(ret_instance_ids);
    return false;
}

/* --- The job ---------------------------------------------------------------------------------- */

static bool load_instance(struct db_conn *conn, const struct job_run *run,
                          struct instance **ret_instance, struct im_err *err) {
    return record_get(conn, &instance_type, run->item->resource_id, ret_instance, err);
}

static bool disk_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && load_instance(conn, run, &instance, err) &&
           layer_make_head(cloud, instance->layer_id, err);
}

static bool disk_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    return load_instance(conn, run, &instance, err) &&
           layer_set_state(conn, instance->layer_id, LAYER_HEAD, err);
}

static bool starts(const struct job_run *run) {
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, &err);

    return data == NULL || wire_get_int(wire_root(data), "start", 1) != 0;
}

static bool start_run(struct job_run *run, struct im_err *err) {
    return !starts(run) || machine_start(run->context, run->item->resource_id, err);
}

static bool start_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return instance_settle(conn, run->item->resource_id,
                           starts(run) ? INSTANCE_RUNNING : INSTANCE_STOPPED, err);
}

static bool start_undo(struct job_run *run, struct im_err *err) {
    return machine_forget(run->context, run->item->resource_id, err);
}

static bool run_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                       struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    (void) why;
    if (!load_instance(conn, run, &instance, err))
        return false;
    instance->sub_code = 1;
    return instance_cease(run->context, conn, instance, err);
}

static const struct job_step run_steps[] = {
    {"disk", disk_run, disk_commit, NULL},
    {"start", start_run, start_commit, start_undo},
};
const struct job_verb instance_run_verb = {.action = "RunInstances",
                                           .steps = run_steps,
                                           .step_count = 2,
                                           .undone = run_undone,
                                           .resumes = true,
                                           .cancels = true};
