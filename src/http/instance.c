/* SPDX-License-Identifier: Apache-2.0 */
/* Instances: the list and what an instance looks like on the wire. The verbs are in
 * instance-verb.c. */
#include <inttypes.h>
#include <string.h>

#include "instance-private.h"

static void write_nested_image(struct wire_writer *writer, const struct image *image) {
    wire_object_begin(writer, "image");
    wire_text(writer, "image_id", image->image_id ? image->image_id : "");
    wire_text(writer, "image_name", image->image_name ? image->image_name : "");
    wire_int(writer, "image_size", image->size);
    wire_text(writer, "processor_type", image->processor_type ? image->processor_type : "");
    wire_text(writer, "platform", image->platform ? image->platform : "");
    wire_text(writer, "os_family", image->os_family ? image->os_family : "");
    wire_text(writer, "provider", image->provider ? image->provider : "");
    wire_text(writer, "ui_type", image->ui_type ? image->ui_type : "");
    wire_int(writer, "features", image->features);
    wire_raw(writer, "features_supported", "{\"set_keypair\":1,\"set_pwd\":1,\"user_data\":1}");
    wire_int(writer, "f_resetpwd", image->f_resetpwd);
    wire_text(writer, "default_user", image->default_user ? image->default_user : "");
    wire_text(writer, "default_passwd", image->default_passwd ? image->default_passwd : "");
    wire_text(writer, "agent_type", "");
    wire_object_end(writer);
}

static void write_vxnets(struct wire_writer *writer, const struct instance_view *view) {
    wire_array_begin(writer, "vxnets");
    for (size_t i = 0; i < view->nic_count; i++) {
        const struct nic *nic = view->nics[i];
        bool basic = im_str_equal(nic->vxnet_id, VXNET_BASIC);

        wire_object_begin(writer, NULL);
        wire_text(writer, "vxnet_id", nic->vxnet_id ? nic->vxnet_id : "");
        wire_text(writer, "vxnet_name", nic->vxnet_id ? nic->vxnet_id : "");
        wire_int(writer, "vxnet_type", basic ? 2 : 1);
        wire_text(writer, "nic_id", nic->nic_id);
        wire_text(writer, "private_ip", nic->private_ip ? nic->private_ip : "");
        wire_int(writer, "role", nic->role);
        wire_text(writer, "ipv6_address", "");
        wire_object_end(writer);
    }
    wire_array_end(writer);
}

static void write_extra(struct wire_writer *writer, const struct instance *instance) {
    wire_object_begin(writer, "extra");
    wire_int(writer, "os_disk_size", instance->os_disk_size);
    wire_int(writer, "cpu_max", instance->cpu_max);
    wire_int(writer, "mem_max", instance->mem_max);
    wire_text(writer, "cpu_model", instance->cpu_model ? instance->cpu_model : "");
    wire_text(writer, "hypervisor", "kvm");
    wire_int(writer, "features", 0);
    wire_int(writer, "nic_mqueue", instance->nic_mqueue);
    wire_int(writer, "no_limit", 0);
    wire_int(writer, "no_restrict", 0);
    wire_int(writer, "usb", 0);
    wire_text(writer, "block_bus", "");
    wire_text(writer, "boot_dev", "");
    wire_int(writer, "gpu", 0);
    wire_int(writer, "gpu_class", 0);
    wire_text(writer, "gpu_pci_nums", "");
    wire_raw(writer, "ivshmem", "[]");
    wire_text(writer, "firmware", instance->firmware ? instance->firmware : "");
    wire_object_end(writer);
}

/* Members for what this cloud does not have yet, in the form that clients read without harm. */
static void write_absent(struct wire_writer *writer, const struct instance *instance) {
    const char *owner = instance->owner ? instance->owner : "";

    wire_text(writer, "root_user_id", owner);
    wire_text(writer, "controller", "self");
    wire_text(writer, "console_id", "imprint");
    wire_text(writer, "alarm_status", "");
    wire_text(writer, "repl", "rpp-00000002");
    wire_text(writer, "device", "");
    wire_null(writer, "eip");
    wire_raw(writer, "eips", "[]");
    wire_raw(writer, "security_groups", "[]");
    wire_raw(writer, "tags", "[]");
    wire_raw(writer, "dns_aliases", "[]");
    wire_raw(writer, "resource_project_info", "[]");
    wire_null(writer, "instance_group");
    wire_null(writer, "lastest_snapshot_time");
}

static void write_volumes(struct wire_writer *writer, const struct instance_view *view) {
    wire_array_begin(writer, "volume_ids");
    for (size_t i = 0; i < view->volume_count; i++)
        wire_text(writer, NULL, view->volumes[i]->volume_id);
    wire_array_end(writer);
    wire_array_begin(writer, "volumes");
    for (size_t i = 0; i < view->volume_count; i++) {
        wire_object_begin(writer, NULL);
        wire_text(writer, "volume_id", view->volumes[i]->volume_id);
        wire_text(writer, "device", view->volumes[i]->device ? view->volumes[i]->device : "");
        wire_object_end(writer);
    }
    wire_array_end(writer);
}

static void write_instance(struct wire_writer *writer, const struct instance_view *view) {
    const struct instance *instance = view->instance;

    wire_object_begin(writer, NULL);
    wire_fields(writer, &instance_type, instance);
    wire_int(writer, "vcpus_max", instance->cpu_max ? instance->cpu_max : instance->vcpus_current);
    wire_int(writer, "memory_max",
             instance->mem_max ? instance->mem_max : instance->memory_current);
    wire_text(writer, "login_mode", instance->login_mode ? instance->login_mode : "");
    write_nested_image(writer, view->image);
    write_vxnets(writer, view);
    if (view->nic_count > 0 && !im_str_empty(view->nics[0]->security_group)) {
        wire_object_begin(writer, "security_group");
        wire_text(writer, "security_group_id", view->nics[0]->security_group);
        wire_text(writer, "security_group_name", view->nics[0]->security_group);
        wire_int(writer, "is_default", 0);
        wire_object_end(writer);
    } else {
        wire_null(writer, "security_group");
    }
    wire_strings(writer, "keypair_ids", &view->keypair_ids);
    write_extra(writer, instance);
    write_volumes(writer, view);
    write_absent(writer, instance);
    wire_object_end(writer);
}

static bool describe_instances(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(instance_list_done) struct instance_list list = {0};

    request->live = request_int(request, "verbose") > 0;
    if (!request_query(request, &query, err) ||
        !cloud_instances(request->cloud, &request->caller, &query, request->live, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_instance(&request->reply, &list.items[i]);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_instances_params[] = {
    {"instances", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "instance_id", "ids"},
    {"image_id", HTTP_LIST, 0, 0, 100, NULL, "image_id", "made from these images"},
    {"instance_type", HTTP_LIST, 0, 0, 100, NULL, "instance_type", "names of presets, or custom"},
    {"instance_class", HTTP_LIST, 0, 0, 32, NULL, "instance_class", "classes"},
    {"vcpus_current", HTTP_LIST, HTTP_ZERO_UNSET, 0, 32, NULL, "vcpus_current", "numbers of vCPUs"},
    {"memory_current", HTTP_LIST, HTTP_ZERO_UNSET, 0, 32, NULL, "memory_current",
     "sizes of memory, MiB"},
    {"os_disk_size", HTTP_LIST, HTTP_ZERO_UNSET, 0, 32, NULL, "os_disk_size",
     "sizes of the system disk, GiB"},
    {"instance_name", HTTP_LIST, HTTP_CONTAINS, 0, 100, NULL, "instance_name", "part of the name"},
    {"platform", HTTP_LIST, 0, 0, 16, NULL, "platform", "linux or windows"},
    {"host_machine", HTTP_LIST, 0, 0, 100, NULL, "host_machine", "on these hosts"},
    {"transition_status", HTTP_LIST, 0, 0, 16, NULL, "transition_status",
     "creating, starting, stopping …"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status",
     "pending, running, stopped, suspended, terminated, ceased"},
    {0},
};

static bool describe_types(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings wanted = {0};
    const struct instance_preset *presets;
    size_t count;
    int64_t total = 0;

    (void) err;
    request_list(request, "instance_types", &wanted);
    presets = instance_presets(&count);
    wire_array_begin(&request->reply, "instance_type_set");
    for (size_t i = 0; i < count; i++) {
        bool take = wanted.count == 0;
        IM_AUTO(free_auto) char *name = NULL;

        for (size_t j = 0; j < wanted.count && !take; j++)
            take = strcmp(wanted.items[j], presets[i].name) == 0;
        if (!take)
            continue;
        total++;
        name = im_printf("%" PRId64 "C%" PRId64 "G", presets[i].vcpus, presets[i].memory_mb / 1024);
        wire_object_begin(&request->reply, NULL);
        wire_text(&request->reply, "instance_type_id", presets[i].name);
        wire_text(&request->reply, "instance_type_name", name);
        wire_text(&request->reply, "description", "");
        wire_int(&request->reply, "vcpus_current", presets[i].vcpus);
        wire_int(&request->reply, "memory_current", presets[i].memory_mb);
        wire_int(&request->reply, "instance_class", presets[i].instance_class);
        wire_text(&request->reply, "status", "available");
        wire_text(&request->reply, "zone_id", cloud_zone(request->cloud));
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    wire_int(&request->reply, "total_count", total);
    return true;
}

static const struct http_param describe_types_params[] = {
    {"instance_types", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, NULL, "names of presets"},
    {0},
};

static bool get_ssh(struct request *request, struct im_err *err) {
    struct ssh_address address = {0};

    if (!cloud_instance_ssh(request->cloud, &request->caller, request_text(request, "instance"),
                            &address, err))
        return false;
    wire_text(&request->reply, "instance_id", request_text(request, "instance"));
    wire_text(&request->reply, "host", address.host);
    wire_int(&request->reply, "port", address.port);
    wire_text(&request->reply, "user", address.user);
    return true;
}

static const struct http_param get_ssh_params[] = {
    {"instance", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "a running instance"},
    {0},
};

const struct http_action instance_actions[] = {
    {"DescribeInstances", describe_instances_params, HTTP_CACHED, &instance_type,
     describe_instances, "lists instances; verbose=1 also asks the machines themselves"},
    {"DescribeInstanceTypes", describe_types_params, HTTP_CACHED, NULL, describe_types,
     "lists the presets; any other vCPU count and memory can be had too"},
    {"GetInstanceSSH", get_ssh_params, 0, NULL, get_ssh,
     "ours: how to reach an instance by SSH from the host"},
    {"RunInstances", run_instances_params, 0, NULL, run_instances, "makes instances from an image"},
    {"StartInstances", start_instances_params, 0, NULL, start_instances, "starts instances"},
    {"StopInstances", stop_instances_params, 0, NULL, stop_instances,
     "asks instances to power off; force=1 powers them off"},
    {"RestartInstances", restart_instances_params, 0, NULL, restart_instances,
     "restarts running instances"},
    {"TerminateInstances", terminate_instances_params, 0, NULL, terminate_instances,
     "moves instances to the recycle bin"},
    {"CeaseInstances", cease_instances_params, 0, NULL, cease_instances,
     "ends instances in the recycle bin for good"},
    {"ResizeInstances", resize_instances_params, 0, NULL, resize_instances,
     "changes vCPUs, memory and disk size of stopped instances"},
    {"ResetPassword", reset_password_params, 0, NULL, reset_password,
     "ours: sets the login user's password, at once through the guest agent or at the next boot; "
     "in a stopped Linux without cloud-init, in its disk"},
    {"ResetInstances", reset_instances_params, 0, NULL, reset_instances,
     "makes the system disk anew from the image"},
    {"ModifyInstanceAttributes", modify_instance_params, 0, NULL, modify_instance,
     "changes name and description"},
    {"CloneInstances", clone_instances_params, 0, NULL, clone_instances,
     "makes copies of instances, disks included"},
    {0},
};
