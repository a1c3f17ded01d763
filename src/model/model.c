/* SPDX-License-Identifier: Apache-2.0 */
/* The field tables of all objects, the words of all states, and the verbs' rules. */
#include "model/model.h"

#include <string.h>

#define X(name, word) word,
static const char *const image_status_words[] = {IMAGE_STATUS_TABLE(X) NULL};
static const char *const instance_status_words[] = {INSTANCE_STATUS_TABLE(X) NULL};
static const char *const volume_status_words[] = {VOLUME_STATUS_TABLE(X) NULL};
static const char *const snapshot_status_words[] = {SNAPSHOT_STATUS_TABLE(X) NULL};
static const char *const export_status_words[] = {EXPORT_STATUS_TABLE(X) NULL};
static const char *const boot_test_status_words[] = {BOOT_TEST_STATUS_TABLE(X) NULL};
static const char *const repair_status_words[] = {REPAIR_STATUS_TABLE(X) NULL};
static const char *const job_status_words[] = {JOB_STATUS_TABLE(X) NULL};
static const char *const transition_words[] = {TRANSITION_TABLE(X) NULL};
static const char *const layer_state_words[] = {LAYER_STATE_TABLE(X) NULL};
static const char *const item_state_words[] = {ITEM_STATE_TABLE(X) NULL};
static const char *const user_role_words[] = {USER_ROLE_TABLE(X) NULL};
static const char *const account_status_words[] = {ACCOUNT_STATUS_TABLE(X) NULL};
#undef X

const char *image_status_word(enum image_status status) { return image_status_words[status]; }
const char *instance_status_word(enum instance_status status) {
    return instance_status_words[status];
}
const char *volume_status_word(enum volume_status status) { return volume_status_words[status]; }
const char *snapshot_status_word(enum snapshot_status status) {
    return snapshot_status_words[status];
}
const char *transition_word(enum transition transition) { return transition_words[transition]; }

/* --- Field tables: the order is the order of keys in replies ---------------------------------- */

#define TEXT(type, name, flags)                                                                    \
    { #name, FIELD_TEXT, offsetof(struct type, name), flags, NULL }
#define INT(type, name, flags)                                                                     \
    { #name, FIELD_INT, offsetof(struct type, name), flags, NULL }
#define TIME(type, name)                                                                           \
    { #name, FIELD_TIME, offsetof(struct type, name), 0, NULL }
#define ENUM(type, name, flags, words)                                                             \
    { #name, FIELD_ENUM, offsetof(struct type, name), flags, words }
#define TYPE(symbol, word, table_name, key_name, title_name)                                       \
    const struct object_type symbol##_type = {.name = word,                                        \
                                              .table = table_name,                                 \
                                              .key = key_name,                                     \
                                              .title = title_name,                                 \
                                              .size = sizeof(struct symbol),                       \
                                              .fields = symbol##_fields,                           \
                                              .field_count = sizeof(symbol##_fields) /             \
                                                             sizeof(symbol##_fields[0])}

static const struct field user_fields[] = {
    TEXT(user, user_id, 0),
    TEXT(user, user_name, 0),
    TEXT(user, email, 0),
    ENUM(user, role, 0, user_role_words),
    ENUM(user, status, 0, account_status_words),
    TIME(user, create_time),
};
TYPE(user, "user", "users", "user_id", "user_name");

static const struct field access_key_fields[] = {
    TEXT(access_key, access_key_id, 0),
    TEXT(access_key, access_key_name, 0),
    TEXT(access_key, description, 0),
    TEXT(access_key, owner, 0),
    TEXT(access_key, secret_sealed, FIELD_PRIVATE),
    ENUM(access_key, status, 0, account_status_words),
    TIME(access_key, create_time),
    TIME(access_key, status_time),
};
TYPE(access_key, "access_key", "access_keys", "access_key_id", "access_key_name");

static const struct field layer_fields[] = {
    TEXT(layer, layer_id, 0),
    TEXT(layer, pool, 0),
    TEXT(layer, name, 0),
    TEXT(layer, parent_id, FIELD_NULL),
    ENUM(layer, state, 0, layer_state_words),
    INT(layer, size_bytes, 0),
    INT(layer, depth, 0),
    TEXT(layer, digest, FIELD_NULL),
    TIME(layer, create_time),
    TEXT(layer, file_digest, FIELD_NULL),
    TIME(layer, checked_time),
    TEXT(layer, damage, FIELD_NULL),
};
TYPE(layer, "layer", "layers", "layer_id", NULL);

static const struct field image_fields[] = {
    TEXT(image, image_id, 0),
    TEXT(image, image_name, 0),
    TEXT(image, description, FIELD_NULL),
    INT(image, size, 0),
    TEXT(image, processor_type, 0),
    TEXT(image, platform, 0),
    TEXT(image, os_family, 0),
    TEXT(image, visibility, 0),
    TEXT(image, provider, 0),
    TEXT(image, owner, 0),
    TEXT(image, recommended_type, 0),
    ENUM(image, status, 0, image_status_words),
    ENUM(image, transition_status, 0, transition_words),
    INT(image, sub_code, 0),
    TEXT(image, ui_type, 0),
    TEXT(image, hypervisor, 0),
    TEXT(image, default_user, 0),
    TEXT(image, default_passwd, 0),
    INT(image, f_resetpwd, 0),
    INT(image, features, 0),
    INT(image, feature, 0),
    TEXT(image, architecture, 0),
    TEXT(image, root_id, 0),
    TEXT(image, billing_id, FIELD_NULL),
    TEXT(image, app_billing_id, FIELD_NULL),
    TEXT(image, family, 0),
    TEXT(image, firmware, 0),
    TEXT(image, source, 0),
    TEXT(image, digest, 0),
    INT(image, size_bytes, 0),
    INT(image, damaged, 0),
    INT(image, trimmed_bytes, 0),
    TEXT(image, layer_id, FIELD_PRIVATE),
    TEXT(image, report, FIELD_PRIVATE),
    TIME(image, create_time),
    TIME(image, status_time),
};
TYPE(image, "image", "images", "image_id", "image_name");

static const struct field image_export_fields[] = {
    TEXT(image_export, export_id, 0),
    TEXT(image_export, image_id, 0),
    TEXT(image_export, format, 0),
    ENUM(image_export, status, 0, export_status_words),
    INT(image_export, size_bytes, 0),
    INT(image_export, disk_bytes, 0),
    INT(image_export, stored_bytes, 0),
    TEXT(image_export, digest, 0),
    TEXT(image_export, owner, 0),
    TEXT(image_export, job_id, 0),
    TIME(image_export, create_time),
    TIME(image_export, expire_time),
    TEXT(image_export, layer_id, FIELD_PRIVATE),
};
TYPE(image_export, "image_export", "image_exports", "export_id", NULL);

static const struct field boot_test_fields[] = {
    TEXT(boot_test, boot_test_id, 0),
    TEXT(boot_test, resource_id, 0),
    ENUM(boot_test, status, 0, boot_test_status_words),
    TEXT(boot_test, verdict, 0),
    TEXT(boot_test, reason, 0),
    TEXT(boot_test, message, 0),
    TEXT(boot_test, evidence, 0),
    TEXT(boot_test, hint, 0),
    INT(boot_test, vcpus, 0),
    INT(boot_test, memory, 0),
    INT(boot_test, timeout, 0),
    INT(boot_test, seconds, 0),
    INT(boot_test, clean_shutdown, 0),
    TEXT(boot_test, firmware, 0),
    TEXT(boot_test, accel, 0),
    INT(boot_test, serial_bytes, 0),
    INT(boot_test, screen_bytes, 0),
    TEXT(boot_test, owner, 0),
    TEXT(boot_test, job_id, 0),
    TIME(boot_test, create_time),
    TIME(boot_test, end_time),
    TEXT(boot_test, timeline, FIELD_PRIVATE),
    TEXT(boot_test, layer_id, FIELD_PRIVATE),
};
TYPE(boot_test, "boot_test", "boot_tests", "boot_test_id", NULL);

static const struct field repair_fields[] = {
    TEXT(repair, repair_id, 0),
    TEXT(repair, resource_id, 0),
    ENUM(repair, status, 0, repair_status_words),
    TEXT(repair, findings, 0),
    TEXT(repair, seal, 0),
    INT(repair, undoable, 0),
    TEXT(repair, owner, 0),
    TEXT(repair, job_id, 0),
    TIME(repair, create_time),
    TIME(repair, end_time),
    TEXT(repair, changes, FIELD_PRIVATE),
    TEXT(repair, report, FIELD_PRIVATE),
    TEXT(repair, layer_id, FIELD_PRIVATE | FIELD_NULL),
    TEXT(repair, made_id, FIELD_PRIVATE),
};
TYPE(repair, "repair", "repairs", "repair_id", NULL);

static const struct field instance_fields[] = {
    TEXT(instance, instance_id, 0),
    TEXT(instance, instance_name, 0),
    TEXT(instance, description, FIELD_NULL),
    TEXT(instance, instance_type, 0),
    INT(instance, instance_class, 0),
    INT(instance, vcpus_current, 0),
    INT(instance, memory_current, 0),
    TEXT(instance, cpu_topology, 0),
    ENUM(instance, status, 0, instance_status_words),
    ENUM(instance, transition_status, 0, transition_words),
    INT(instance, sub_code, 0),
    TIME(instance, create_time),
    TIME(instance, status_time),
    TEXT(instance, zone_id, 0),
    TEXT(instance, owner, 0),
    TEXT(instance, platform, 0),
    TEXT(instance, hostname, 0),
    TEXT(instance, host_machine, 0),
    TEXT(instance, graphics_protocol, 0),
    TEXT(instance, graphics_passwd, 0),
    TEXT(instance, graphics_port, 0),
    TEXT(instance, agent_state, 0),
    TEXT(instance, unapplied, 0),
    INT(instance, damaged, 0),
    TEXT(instance, image_id, FIELD_PRIVATE),
    TEXT(instance, layer_id, FIELD_PRIVATE),
    INT(instance, os_disk_size, FIELD_PRIVATE),
    INT(instance, cpu_max, FIELD_PRIVATE),
    INT(instance, mem_max, FIELD_PRIVATE),
    INT(instance, nic_mqueue, FIELD_PRIVATE),
    TEXT(instance, cpu_model, FIELD_PRIVATE),
    TEXT(instance, login_mode, FIELD_PRIVATE),
    TEXT(instance, passwd_hash, FIELD_PRIVATE),
    TEXT(instance, passwd_sealed, FIELD_PRIVATE),
    INT(instance, passwd_time, FIELD_PRIVATE),
    INT(instance, passwd_turn, FIELD_PRIVATE),
    TEXT(instance, userdata, FIELD_PRIVATE),
    TEXT(instance, userdata_path, FIELD_PRIVATE),
    INT(instance, generation, FIELD_PRIVATE),
    TEXT(instance, firmware, FIELD_PRIVATE),
};
TYPE(instance, "instance", "instances", "instance_id", "instance_name");

static const struct field volume_fields[] = {
    TEXT(volume, volume_id, 0),
    TEXT(volume, volume_name, 0),
    TEXT(volume, description, FIELD_NULL),
    INT(volume, size, 0),
    INT(volume, volume_type, 0),
    ENUM(volume, status, 0, volume_status_words),
    ENUM(volume, transition_status, 0, transition_words),
    INT(volume, sub_code, 0),
    TIME(volume, create_time),
    TIME(volume, status_time),
    TEXT(volume, owner, 0),
    TEXT(volume, zone_id, 0),
    TEXT(volume, repl, 0),
    TEXT(volume, place_group_id, 0),
    TEXT(volume, device, 0),
    INT(volume, damaged, 0),
    TEXT(volume, instance_id, FIELD_PRIVATE),
    TEXT(volume, layer_id, FIELD_PRIVATE),
    INT(volume, latest_snapshot_time, FIELD_PRIVATE),
    INT(volume, busy, FIELD_PRIVATE),
};
TYPE(volume, "volume", "volumes", "volume_id", "volume_name");

static const struct field snapshot_fields[] = {
    TEXT(snapshot, snapshot_id, 0),
    TEXT(snapshot, snapshot_name, 0),
    TEXT(snapshot, description, FIELD_NULL),
    INT(snapshot, snapshot_type, 0),
    ENUM(snapshot, status, 0, snapshot_status_words),
    ENUM(snapshot, transition_status, 0, transition_words),
    INT(snapshot, sub_code, 0),
    TEXT(snapshot, parent_id, 0),
    TEXT(snapshot, root_id, 0),
    INT(snapshot, is_head, 0),
    INT(snapshot, is_taken, 0),
    INT(snapshot, head_chain, 0),
    INT(snapshot, size, 0),
    INT(snapshot, virtual_size, 0),
    TIME(snapshot, snapshot_time),
    TIME(snapshot, create_time),
    TIME(snapshot, status_time),
    TEXT(snapshot, provider, 0),
    TEXT(snapshot, visibility, 0),
    TEXT(snapshot, owner, 0),
    TEXT(snapshot, consistency, 0),
    INT(snapshot, is_manually, 0),
    INT(snapshot, damaged, 0),
    TIME(snapshot, copy_time),
    TEXT(snapshot, resource_id, FIELD_PRIVATE),
    TEXT(snapshot, resource_name, FIELD_PRIVATE),
    TEXT(snapshot, resource_type, FIELD_PRIVATE),
    TEXT(snapshot, layer_id, FIELD_PRIVATE),
    INT(snapshot, own_bytes, FIELD_PRIVATE),
    INT(snapshot, disk_size, FIELD_PRIVATE),
    INT(snapshot, volume_type, FIELD_PRIVATE),
    TEXT(snapshot, image_id, FIELD_PRIVATE),
    TEXT(snapshot, platform, FIELD_PRIVATE),
    TEXT(snapshot, firmware, FIELD_PRIVATE),
    TEXT(snapshot, instance_type, FIELD_PRIVATE),
};
TYPE(snapshot, "snapshot", "snapshots", "snapshot_id", "snapshot_name");

static const struct field nic_fields[] = {
    TEXT(nic, nic_id, 0),
    TEXT(nic, nic_name, 0),
    TEXT(nic, status, 0),
    TEXT(nic, instance_id, 0),
    TEXT(nic, vxnet_id, 0),
    TEXT(nic, private_ip, 0),
    INT(nic, role, 0),
    INT(nic, sequence, 0),
    TEXT(nic, security_group, 0),
    TEXT(nic, owner, 0),
    INT(nic, ssh_port, FIELD_PRIVATE),
    TIME(nic, create_time),
    TIME(nic, status_time),
};
TYPE(nic, "nic", "nics", "nic_id", "nic_name");

static const struct field keypair_fields[] = {
    TEXT(keypair, keypair_id, 0),
    TEXT(keypair, keypair_name, 0),
    TEXT(keypair, description, FIELD_NULL),
    TEXT(keypair, encrypt_method, 0),
    TEXT(keypair, pub_key, 0),
    TEXT(keypair, owner, 0),
    TIME(keypair, create_time),
};
TYPE(keypair, "keypair", "keypairs", "keypair_id", "keypair_name");

static const struct field keypair_link_fields[] = {
    TEXT(keypair_link, link_id, 0),
    TEXT(keypair_link, keypair_id, 0),
    TEXT(keypair_link, instance_id, 0),
};
TYPE(keypair_link, "keypair_link", "keypair_links", "link_id", NULL);

static const struct field job_fields[] = {
    TEXT(job, job_id, 0),
    TEXT(job, job_action, 0),
    ENUM(job, status, 0, job_status_words),
    TEXT(job, resource_ids, 0),
    TEXT(job, owner, 0),
    TEXT(job, error_codes, 0),
    TEXT(job, directive, 0),
    TIME(job, create_time),
    TIME(job, status_time),
    TEXT(job, error_message, 0),
    INT(job, done_bytes, 0),
    INT(job, total_bytes, 0),
    INT(job, rate_bytes, 0),
    INT(job, cancel, FIELD_PRIVATE),
    TEXT(job, worker, FIELD_PRIVATE),
};
TYPE(job, "job", "jobs", "job_id", "resource_ids");

static const struct field job_item_fields[] = {
    TEXT(job_item, item_id, 0),     TEXT(job_item, job_id, FIELD_PRIVATE),
    TEXT(job_item, resource_id, 0), ENUM(job_item, state, 0, item_state_words),
    INT(job_item, step, 0),         TEXT(job_item, data, FIELD_PRIVATE),
    TEXT(job_item, error_code, 0),  TEXT(job_item, error_message, 0),
};
TYPE(job_item, "job_item", "job_items", "item_id", NULL);

/* --- Rules ------------------------------------------------------------------------------------ */

#define ON(status) (1u << (status))
#define ALIVE (ON(INSTANCE_RUNNING) | ON(INSTANCE_STOPPED))

const struct verb_rule instance_rules[] = {
    {"StartInstances", ON(INSTANCE_STOPPED), TRANSITION_STARTING, "can not be started"},
    {"StopInstances", ON(INSTANCE_RUNNING), TRANSITION_STOPPING, "can not be stopped"},
    {"RestartInstances", ON(INSTANCE_RUNNING), TRANSITION_RESTARTING, "can not be restarted"},
    {"ResizeInstances", ON(INSTANCE_STOPPED), TRANSITION_UPDATING, "can not be resized"},
    {"ResetInstances", ALIVE, TRANSITION_RESETTING, "can not be reset"},
    {"CaptureInstance", ON(INSTANCE_STOPPED), TRANSITION_UPDATING, "can not be captured"},
    {"CloneInstances", ALIVE, TRANSITION_UPDATING, "can not be cloned"},
    {"TerminateInstances", ALIVE | ON(INSTANCE_SUSPENDED), TRANSITION_TERMINATING,
     "can not be terminated"},
    {"CeaseInstances", ON(INSTANCE_TERMINATED), TRANSITION_TERMINATING, "can not be ceased"},
    {"RepairImage", ON(INSTANCE_STOPPED), TRANSITION_UPDATING, "can not be repaired"},
    {"InspectImage", ON(INSTANCE_STOPPED), TRANSITION_NONE, "can not be inspected"},
    {"AttachKeyPairs", ALIVE, TRANSITION_UPDATING, "can not take key pairs"},
    {"DetachKeyPairs", ALIVE, TRANSITION_UPDATING, "can not take key pairs"},
    {"ResetPassword", ALIVE, TRANSITION_UPDATING, "can not get a new password"},
    {"AttachVolumes", ALIVE, TRANSITION_NONE, "can not take volumes"},
    {"DetachVolumes", ALIVE, TRANSITION_NONE, "can not give volumes back"},
    {"CreateSnapshots", ALIVE, TRANSITION_NONE, "can not be backed up"},
    {"ApplySnapshots", ALIVE, TRANSITION_UPDATING, "can not be rolled back"},
    {"RecoverResources", ON(INSTANCE_TERMINATED), TRANSITION_RECOVERING, "can not be recovered"},
    {NULL, 0, TRANSITION_NONE, NULL},
};

const struct verb_rule image_rules[] = {
    {"RunInstances", ON(IMAGE_AVAILABLE), TRANSITION_NONE, "can not be used for new instances"},
    {"ResetInstances", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED), TRANSITION_NONE,
     "can not be used for a reset"},
    {"CloneInstances", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED), TRANSITION_NONE,
     "can not be used for a clone"},
    {"CloneImages", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED), TRANSITION_NONE,
     "can not be cloned"},
    {"ExportImage", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED), TRANSITION_NONE,
     "can not be exported"},
    {"RepairImage", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED), TRANSITION_NONE,
     "can not be repaired"},
    {"DeleteImages", ON(IMAGE_AVAILABLE) | ON(IMAGE_DEPRECATED) | ON(IMAGE_SUSPENDED),
     TRANSITION_DELETING, "can not be deleted"},
    {"RecoverResources", ON(IMAGE_DELETED), TRANSITION_RECOVERING, "can not be recovered"},
    {NULL, 0, TRANSITION_NONE, NULL},
};

#define PRESENT (ON(VOLUME_AVAILABLE) | ON(VOLUME_IN_USE))

const struct verb_rule volume_rules[] = {
    {"AttachVolumes", ON(VOLUME_AVAILABLE), TRANSITION_ATTACHING, "can not be attached"},
    {"DetachVolumes", ON(VOLUME_IN_USE), TRANSITION_DETACHING, "can not be detached"},
    {"ResizeVolumes", PRESENT, TRANSITION_NONE, "can not be resized"},
    {"CloneVolumes", PRESENT, TRANSITION_NONE, "can not be cloned"},
    {"RepairImage", PRESENT, TRANSITION_NONE, "can not be repaired"},
    {"InspectImage", PRESENT, TRANSITION_NONE, "can not be inspected"},
    {"DeleteVolumes", ON(VOLUME_AVAILABLE) | ON(VOLUME_SUSPENDED), TRANSITION_DELETING,
     "can not be deleted"},
    {"CreateSnapshots", PRESENT, TRANSITION_NONE, "can not be backed up"},
    {"ApplySnapshots", PRESENT, TRANSITION_NONE, "can not be rolled back"},
    {"RecoverResources", ON(VOLUME_DELETED), TRANSITION_RECOVERING, "can not be recovered"},
    {NULL, 0, TRANSITION_NONE, NULL},
};

const struct verb_rule snapshot_rules[] = {
    {"DeleteSnapshots", ON(SNAPSHOT_AVAILABLE) | ON(SNAPSHOT_SUSPENDED), TRANSITION_DELETING,
     "can not be deleted"},
    {"ApplySnapshots", ON(SNAPSHOT_AVAILABLE), TRANSITION_APPLYING, "can not be applied"},
    {"CreateVolumeFromSnapshot", ON(SNAPSHOT_AVAILABLE), TRANSITION_NONE,
     "can not create volume from it"},
    {"CaptureInstanceFromSnapshot", ON(SNAPSHOT_AVAILABLE), TRANSITION_NONE,
     "can not be made an image"},
    {"CaptureImageFromSnapshot", ON(SNAPSHOT_AVAILABLE), TRANSITION_NONE,
     "can not be made an image"},
    {"CopySnapshots", ON(SNAPSHOT_AVAILABLE), TRANSITION_NONE, "can not be copied"},
    {"RestoreSnapshots", ON(SNAPSHOT_AVAILABLE) | ON(SNAPSHOT_CEASED), TRANSITION_RECOVERING,
     "can not be restored"},
    {"RecoverResources", ON(SNAPSHOT_DELETED), TRANSITION_RECOVERING, "can not be recovered"},
    {NULL, 0, TRANSITION_NONE, NULL},
};

const struct verb_rule *verb_rule_find(const struct verb_rule *rules, const char *action) {
    for (; rules->action != NULL; rules++)
        if (strcmp(rules->action, action) == 0)
            return rules;
    return NULL;
}
