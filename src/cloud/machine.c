/* SPDX-License-Identifier: Apache-2.0 */
/* From rows to a running machine: chain of layers, seed, network, and then the hypervisor. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"
#include "seed/seed.h"

enum { BUTTON_MS = 5000 }; /* from one press of the power button to the next */

/* All that a start needs, read from the record in one go. */
struct parts {
    struct instance *instance;
    struct image *image; /* NULL when its row is gone */
    struct nic **nics;
    size_t nic_count;
    struct disk_chain chain; /* of the system disk */
    struct volume **volumes;
    size_t volume_count;
    struct disk_chain *volume_chains; /* one for each volume */
    struct im_strings keys;           /* authorized_keys lines */
};

static void parts_done(struct parts *parts) {
    instance_free(parts->instance);
    image_free(parts->image);
    record_list_free(&nic_type, (void **) parts->nics, parts->nic_count);
    disk_chain_done(&parts->chain);
    for (size_t i = 0; parts->volume_chains != NULL && i < parts->volume_count; i++)
        disk_chain_done(&parts->volume_chains[i]);
    free(parts->volume_chains);
    record_list_free(&volume_type, (void **) parts->volumes, parts->volume_count);
    im_strings_done(&parts->keys);
}

static bool load_keys(struct db_conn *conn, const char *instance_id, struct im_strings *keys,
                      struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(
        conn, err,
        "SELECT k.encrypt_method, k.pub_key, k.keypair_id FROM keypair_links l"
        " JOIN keypairs k ON k.keypair_id = l.keypair_id WHERE l.instance_id = $1 ORDER BY 3",
        "t", instance_id);
    bool more = true;

    if (rows == NULL)
        return false;
    while (db_next(rows, &more, err) && more) {
        IM_AUTO(free_auto)
        char *line = im_printf("%s %s %s", db_text(rows, 0), db_text(rows, 1), db_text(rows, 2));

        im_strings_add(keys, line);
    }
    return !more;
}

/* A volume that is on its way out is left out: whoever takes it out finds it gone. */
static bool load_volumes(struct cloud *cloud, struct db_conn *conn, struct parts *parts,
                         struct im_err *err) {
    if (!volumes_of(conn, parts->instance->instance_id, &parts->volumes, &parts->volume_count, err))
        return false;
    parts->volume_chains = im_alloc((parts->volume_count + 1) * sizeof(*parts->volume_chains));
    for (size_t i = 0; i < parts->volume_count; i++)
        if (parts->volumes[i]->transition_status != TRANSITION_DETACHING &&
            !disk_chain_load(cloud, conn, parts->volumes[i]->layer_id, &parts->volume_chains[i],
                             err))
            return im_within(err, "volume [%s]", parts->volumes[i]->volume_id);
    return true;
}

static bool parts_load(struct cloud *cloud, const char *instance_id, struct parts *parts,
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct im_err missing = {0};

    if (conn == NULL || !record_get(conn, &instance_type, instance_id, &parts->instance, err))
        return false;
    if (!record_get(conn, &image_type, parts->instance->image_id, &parts->image, &missing) &&
        missing.code != IM_NOT_FOUND) {
        *err = missing;
        return false;
    }
    return nics_load(conn, instance_id, &parts->nics, &parts->nic_count, err) &&
           disk_chain_load(cloud, conn, parts->instance->layer_id, &parts->chain, err) &&
           load_volumes(cloud, conn, parts, err) && load_keys(conn, instance_id, &parts->keys, err);
}

/* --- Seed ------------------------------------------------------------------------------------- */

static char *seed_path(struct cloud *cloud, const char *instance_id) {
    return im_printf("%s/seeds/%s.iso", cloud->config.state_dir, instance_id);
}

/* QingCloud's metadata file, which scripts inside machines read. */
static char *metadata_json(const struct parts *parts) {
    struct wire_writer writer = {0};
    const struct instance *instance = parts->instance;
    IM_AUTO(im_str_done) struct im_str volume_ids = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "instance_id", instance->instance_id);
    wire_text(&writer, "instance_name", instance->instance_name ? instance->instance_name : "");
    wire_text(&writer, "instance_type", instance->instance_type);
    wire_int(&writer, "vcpus_current", instance->vcpus_current);
    wire_int(&writer, "memory_current", instance->memory_current);
    wire_text(&writer, "image_id", instance->image_id);
    wire_text(&writer, "platform", instance->platform);
    wire_text(&writer, "os_family", parts->image ? parts->image->os_family : "");
    for (size_t i = 0; i < parts->volume_count; i++)
        im_str_addf(&volume_ids, "%s%s", i > 0 ? "," : "", parts->volumes[i]->volume_id);
    wire_text(&writer, "volume_ids", volume_ids.data ? volume_ids.data : "");
    wire_int(&writer, "vxnets_count", (int64_t) parts->nic_count);
    wire_array_begin(&writer, "vxnets");
    for (size_t i = 0; i < parts->nic_count; i++) {
        wire_object_begin(&writer, NULL);
        wire_text(&writer, "vxnet_id", parts->nics[i]->vxnet_id);
        wire_text(&writer, "nic_id", parts->nics[i]->nic_id);
        wire_object_end(&writer);
    }
    wire_array_end(&writer);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

/* The same for shells: NAME=value, lists numbered. */
static char *metadata_env(const struct parts *parts) {
    const struct instance *instance = parts->instance;
    const struct {
        const char *name, *value;
    } texts[] = {{"instance_id", instance->instance_id},
                 {"instance_name", instance->instance_name},
                 {"instance_type", instance->instance_type},
                 {"image_id", instance->image_id},
                 {"platform", instance->platform},
                 {"os_family", parts->image ? parts->image->os_family : ""},
                 {"volume_ids", ""}};
    struct im_str out = {0};

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        im_str_addf(&out, "%s=", texts[i].name);
        im_str_add_shell_quoted(&out, texts[i].value);
        im_str_add_char(&out, '\n');
    }
    im_str_addf(&out, "vcpus_current=%" PRId64 "\nmemory_current=%" PRId64 "\nvxnets_count=%zu\n",
                instance->vcpus_current, instance->memory_current, parts->nic_count);
    for (size_t i = 0; i < parts->nic_count; i++)
        im_str_addf(&out, "vxnets_%zu_vxnet_id='%s'\nvxnets_%zu_nic_id='%s'\n", i,
                    parts->nics[i]->vxnet_id, i, parts->nics[i]->nic_id);
    return im_str_take(&out);
}

/* What first boot goes by: another one is another machine. A password that comes later is only read
 * by cloudbase-init where it sees one. */
static char *seed_identity(const struct instance *instance) {
    struct im_str id = {0};

    im_str_add(&id, instance->instance_id);
    if (instance->generation > 0)
        im_str_addf(&id, ".%" PRId64, instance->generation);
    if (instance->passwd_turn > 0)
        im_str_addf(&id, "-p%" PRId64, instance->passwd_turn);
    return im_str_take(&id);
}

typedef bool seed_writer(struct cloud *cloud, const char *path, const struct seed *seed,
                         struct im_err *err);

static bool write_anew(struct cloud *cloud, const char *path, const struct seed *seed,
                       struct im_err *err) {
    return seed_write(path, seed, cloud->config.machine_uid, cloud->config.machine_gid, err);
}

static bool write_over(struct cloud *cloud, const char *path, const struct seed *seed,
                       struct im_err *err) {
    (void) cloud;
    return seed_rewrite(path, seed, err);
}

static bool write_seed(struct cloud *cloud, const struct parts *parts, const char *path,
                       seed_writer *writer, struct im_err *err) {
    const struct instance *instance = parts->instance;
    bool plain = takes_plain(instance->platform), written;
    IM_AUTO(free_auto) char *metadata = metadata_json(parts);
    IM_AUTO(free_auto) char *variables = metadata_env(parts);
    IM_AUTO(free_auto) char *identity = seed_identity(instance);
    IM_AUTO(free_auto) void *userdata = NULL;
    const char *user = parts->image ? parts->image->default_user : NULL;
    size_t userdata_len = 0;
    struct seed seed = {.instance_id = identity,
                        .hostname = instance->hostname,
                        .default_user = !im_str_empty(user) ? user
                                        : plain             ? "Administrator"
                                                            : "root",
                        .public_keys = (const char *const *) parts->keys.items,
                        .public_key_count = parts->keys.count,
                        .passwd_hash = instance->passwd_hash,
                        .userdata_path = instance->userdata_path,
                        .metadata_json = metadata,
                        .metadata_env = variables,
                        .windows = plain};
    char *password = NULL;

    /* With a later password comes a new identity, and what the user gave would be run again. */
    if (!im_str_empty(instance->userdata) && instance->passwd_turn == 0 &&
        !crypto_base64_decode(instance->userdata, &userdata, &userdata_len))
        return im_fail(err, IM_INTERNAL, "instance %s: its user data is damaged",
                       instance->instance_id);
    seed.userdata = userdata;
    seed.userdata_len = userdata_len;
    if (plain && !plain_open(cloud, instance, &password, err))
        return false;
    seed.admin_passwd = password;
    written = writer(cloud, path, &seed, err);
    plain_forget(password);
    return written;
}

bool machine_seed_rewrite(struct cloud *cloud, const char *instance_id, const char *sealed,
                          struct im_err *err) {
    IM_AUTO(free_auto) char *path = seed_path(cloud, instance_id);
    struct parts parts = {0};
    bool written = parts_load(cloud, instance_id, &parts, err);

    if (written) {
        im_replace(&parts.instance->passwd_sealed, sealed);
        written = write_seed(cloud, &parts, path, write_over, err);
    }
    parts_done(&parts);
    return written;
}

/* --- Description for the hypervisor ----------------------------------------------------------- */

void disk_chain_done(struct disk_chain *chain) {
    for (size_t i = 0; i < chain->count; i++)
        storage_source_done(&chain->sources[i]);
    free(chain->sources);
    free(chain->layers);
}

bool disk_chain_load(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                     struct disk_chain *chain, struct im_err *err) {
    struct layer **layers = NULL;
    size_t count = 0;
    bool found = true;

    if (!layer_chain(conn, layer_id, &layers, &count, err))
        return false;
    chain->sources = im_alloc((count + 1) * sizeof(*chain->sources));
    chain->layers = im_alloc((count + 1) * sizeof(*chain->layers));
    for (; found && chain->count < count; chain->count += found) {
        struct storage_source *source = &chain->sources[chain->count];

        found = storage_attach_info(cloud->config.pool, layers[chain->count]->name, source, err);
        if (!found && err->code == IM_NOT_FOUND && !im_str_empty(layers[chain->count]->damage))
            im_fail(err, IM_WRONG_STATE,
                    "layer %s of its disk is lost: %s; roll the disk back to a point that is whole "
                    "(ApplySnapshots), or delete it",
                    layers[chain->count]->layer_id, layers[chain->count]->damage);
        chain->layers[chain->count] =
            (struct virt_layer){.path = source->path, .format = source->format};
    }
    record_list_free(&layer_type, (void **) layers, count);
    return found;
}

/* The system disk, the seed, and the volumes: vda, vdb, vdc … */
struct disks {
    struct virt_layer seed_layer;
    struct virt_disk *items;
    size_t count;
    char *seed;
};

static void disks_done(struct disks *disks) {
    free(disks->items);
    free(disks->seed);
}

static struct virt_disk describe_disk(const char *serial, const struct disk_chain *chain) {
    return (struct virt_disk){
        .serial = serial, .layers = chain->layers, .layer_count = chain->count};
}

static void describe_disks(struct cloud *cloud, const struct parts *parts, struct disks *disks) {
    disks->seed = seed_path(cloud, parts->instance->instance_id);
    disks->seed_layer = (struct virt_layer){.path = disks->seed, .format = "raw"};
    disks->items = im_alloc((2 + parts->volume_count) * sizeof(*disks->items));
    disks->items[0] = describe_disk(parts->instance->instance_id, &parts->chain);
    disks->items[1] = (struct virt_disk){
        .serial = "seed", .layers = &disks->seed_layer, .layer_count = 1, .read_only = true};
    disks->count = 2;
    for (size_t i = 0; i < parts->volume_count; i++)
        if (parts->volume_chains[i].count > 0)
            disks->items[disks->count++] =
                describe_disk(parts->volumes[i]->volume_id, &parts->volume_chains[i]);
}

static struct virt_nic *describe_nics(struct cloud *cloud, const struct parts *parts) {
    bool user = net_kind(cloud->config.net) == NET_USER;
    size_t count = parts->nic_count;
    /* One block: the names of the taps lie behind the cards. */
    struct virt_nic *nics = im_alloc(count * (sizeof(*nics) + NET_TAP_TEXT));
    char(*taps)[NET_TAP_TEXT] = (char(*)[NET_TAP_TEXT])(nics + count);

    for (size_t i = 0; i < count; i++) {
        net_tap_name(parts->nics[i]->nic_id, taps[i]);
        nics[i] = (struct virt_nic){.kind = user ? VIRT_NIC_USER : VIRT_NIC_BRIDGE,
                                    .mac = parts->nics[i]->nic_id,
                                    .bridge = user ? NULL : net_bridge_name(cloud->config.net),
                                    .tap = user ? NULL : taps[i],
                                    .ssh_port = (int) parts->nics[i]->ssh_port};
    }
    return nics;
}

/* "sockets,cores,threads"; anything else was refused when it came in. */
static void describe_topology(const char *text, struct virt_machine *machine) {
    if (im_str_empty(text) ||
        sscanf(text, "%u,%u,%u", &machine->sockets, &machine->cores, &machine->threads) != 3)
        machine->sockets = machine->cores = machine->threads = 0;
}

static bool plug(struct cloud *cloud, const struct parts *parts, struct im_err *err) {
    for (size_t i = 0; i < parts->nic_count; i++)
        if (!net_plug(cloud->config.net, parts->nics[i]->nic_id, parts->nics[i]->private_ip,
                      parts->instance->hostname, err))
            return false;
    return true;
}

static bool start_described(struct cloud *cloud, const struct parts *parts,
                            const struct disks *disks, struct im_err *err) {
    const struct instance *instance = parts->instance;
    IM_AUTO(free_auto) struct virt_nic *nics = describe_nics(cloud, parts);
    char uuid[37];
    struct virt_machine machine = {
        .name = instance->instance_id,
        .uuid = uuid,
        .title = instance->instance_name,
        .vcpus = (unsigned) instance->vcpus_current,
        .memory_mib = (uint64_t) instance->memory_current,
        .cpu_model = instance->cpu_model,
        .firmware = im_str_empty(instance->firmware) ? "bios" : instance->firmware,
        .disks = disks->items,
        .disk_count = disks->count,
        .nics = nics,
        .nic_count = parts->nic_count,
        .graphics_passwd = instance->graphics_passwd};

    crypto_uuid(instance->instance_id, uuid);
    describe_topology(instance->cpu_topology, &machine);
    return virt_start(cloud->config.virt, &machine, err);
}

static bool start_parts(struct cloud *cloud, const struct parts *parts, struct im_err *err) {
    struct disks disks = {0};
    bool started;

    describe_disks(cloud, parts, &disks);
    started = plain_hand_over(cloud, parts->instance, err) &&
              write_seed(cloud, parts, disks.seed, write_anew, err) &&
              nics_settle(cloud, parts->nics, parts->nic_count, false, err) &&
              plug(cloud, parts, err);

    if (started && !start_described(cloud, parts, &disks, err)) {
        struct im_err again = {0};

        /* In user mode a stranger may have taken the port since: once more with another one. */
        started = net_kind(cloud->config.net) == NET_USER && parts->nic_count > 0 &&
                  err->code == IM_INTERNAL &&
                  nics_settle(cloud, parts->nics, parts->nic_count, true, &again) &&
                  start_described(cloud, parts, &disks, &again);
    }
    disks_done(&disks);
    return started;
}

/* --- Locks ------------------------------------------------------------------------------------ */

void machine_lock(struct cloud *cloud, const char *instance_id) {
    pthread_mutex_lock(&cloud->lock);
    while (im_strings_has(&cloud->machines_locked, instance_id))
        pthread_cond_wait(&cloud->machine_free, &cloud->lock);
    im_strings_add(&cloud->machines_locked, instance_id);
    pthread_mutex_unlock(&cloud->lock);
}

void machine_unlock(struct cloud *cloud, const char *instance_id) {
    pthread_mutex_lock(&cloud->lock);
    im_strings_drop(&cloud->machines_locked, instance_id);
    pthread_cond_broadcast(&cloud->machine_free);
    pthread_mutex_unlock(&cloud->lock);
}

/* --- Start and stop --------------------------------------------------------------------------- */

struct rename {
    const char *volume_id, *device;
};

static bool rename_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct rename *rename = arg;
    struct volume volume = {.volume_id = (char *) rename->volume_id,
                            .device = (char *) rename->device};

    return record_update_fields(conn, &volume_type, &volume, (const char *const[]){"device", NULL},
                                err);
}

/* A guest that comes up names its disks in a row, so the gaps that were left by volumes taken out
 * close. Those on their way out are not plugged in and keep what they have. */
static bool close_gaps(struct cloud *cloud, const struct parts *parts, struct im_err *err) {
    enum virt_state state = VIRT_OFF;
    char next = 'c';

    if (!virt_state(cloud->config.virt, parts->instance->instance_id, &state, err))
        return false;
    for (size_t i = 0; i < parts->volume_count && state == VIRT_OFF; i++) {
        const struct volume *volume = parts->volumes[i];
        char device[16];

        if (parts->volume_chains[i].count == 0)
            continue;
        snprintf(device, sizeof(device), "/dev/vd%c", next++);
        if (strcmp(device, volume->device) != 0 &&
            !cloud_transact(cloud, rename_body, &(struct rename){volume->volume_id, device}, err))
            return false;
    }
    return true;
}

bool machine_start(struct cloud *cloud, const char *instance_id, struct im_err *err) {
    struct parts parts = {0};
    bool started;

    if (!pull_stop(cloud, instance_id, err))
        return im_within(err, "instance [%s]", instance_id);
    machine_lock(cloud, instance_id);
    chains_hold(cloud);
    started = parts_load(cloud, instance_id, &parts, err) && close_gaps(cloud, &parts, err) &&
              machine_memory_free(cloud, parts.instance->memory_current, err) &&
              start_parts(cloud, &parts, err);
    chains_release(cloud);
    machine_unlock(cloud, instance_id);
    parts_done(&parts);
    return started ? true : im_within(err, "instance [%s]", instance_id);
}

/* Again and again: firmware and boot loaders do not hear the button. */
bool machine_ask_off(struct cloud *cloud, const char *instance_id, int64_t timeout_ms,
                     const volatile bool *cancel, struct im_err *err) {
    int64_t deadline = im_mono_ms() + timeout_ms;

    if (!virt_shutdown(cloud->config.virt, instance_id, err))
        return false;
    for (;;) {
        int64_t left = deadline - im_mono_ms();
        struct im_err deaf = {0};

        *err = (struct im_err){0};
        if (virt_wait_off(cloud->config.virt, instance_id, left < BUTTON_MS ? left : BUTTON_MS,
                          cancel, err))
            return true;
        if (err->code != IM_TIMEOUT || left <= BUTTON_MS)
            return false;
        /* It may be on its way down, where neither agent nor button answer. */
        if (!virt_shutdown(cloud->config.virt, instance_id, &deaf))
            im_debug("cloud", "%s: %s", instance_id, deaf.text);
    }
}

bool machine_stop(struct cloud *cloud, const char *instance_id, bool soft,
                  const volatile bool *cancel, struct im_err *err) {
    struct im_err patience = {0};

    pull_stop_anyway(cloud, instance_id);
    if (soft &&
        !machine_ask_off(cloud, instance_id, cloud->config.stop_timeout_ms, cancel, &patience)) {
        if (patience.code == IM_CANCELLED) {
            *err = patience;
            return false;
        }
        if (patience.code != IM_NOT_FOUND)
            im_info("cloud", "%s does not stop by itself, powering it off: %s", instance_id,
                    patience.text);
    }
    return virt_destroy(cloud->config.virt, instance_id, err);
}

bool machine_forget(struct cloud *cloud, const char *instance_id, struct im_err *err) {
    IM_AUTO(free_auto) char *seed = seed_path(cloud, instance_id);
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    struct nic **nics = NULL;
    size_t count = 0;
    bool unplugged = true;

    pull_stop_anyway(cloud, instance_id);
    if (!virt_destroy(cloud->config.virt, instance_id, err))
        return false;
    conn = db_take(cloud->config.db, err);
    if (conn == NULL || !nics_load(conn, instance_id, &nics, &count, err))
        return false;
    for (size_t i = 0; i < count && unplugged; i++)
        unplugged = net_unplug(cloud->config.net, nics[i]->nic_id, err);
    record_list_free(&nic_type, (void **) nics, count);
    unlink(seed);
    virt_forget(cloud->config.virt, instance_id);
    return unplugged;
}

/* --- Limits ----------------------------------------------------------------------------------- */

bool machine_limits(struct cloud *cloud, struct machine_limits *ret_limits, struct im_err *err) {
    struct virt_host host;
    struct machine_limits limits = {.vcpus = cloud->config.max_vcpus,
                                    .memory_mib = cloud->config.max_memory_mib,
                                    .least_memory_mib = cloud->config.min_memory_mib};

    if (!virt_host(cloud->config.virt, &host, err))
        return false;
    if (limits.vcpus == 0)
        limits.vcpus = (int64_t) host.cpus * 8;
    if (limits.memory_mib == 0)
        limits.memory_mib = (int64_t) (host.memory_bytes >> 20) - cloud->config.memory_reserve_mib;
    *ret_limits = limits;
    return true;
}

bool machine_fits(const struct machine_limits *limits, int64_t vcpus, int64_t memory_mib,
                  struct im_err *err) {
    if (vcpus < 1 || vcpus > limits->vcpus)
        return im_fail(err, IM_BAD_MESSAGE,
                       "cpu [%" PRId64 "] should be between 1 and %" PRId64 " on this host", vcpus,
                       limits->vcpus);
    if (memory_mib < limits->least_memory_mib || memory_mib > limits->memory_mib)
        return im_fail(err, IM_BAD_MESSAGE,
                       "memory [%" PRId64 " MB] should be between %" PRId64 " and %" PRId64
                       " on this host",
                       memory_mib, limits->least_memory_mib, limits->memory_mib);
    return true;
}

bool machine_memory_free(struct cloud *cloud, int64_t memory_mib, struct im_err *err) {
    struct virt_host host;
    int64_t free_mib;

    if (!virt_host(cloud->config.virt, &host, err))
        return false;
    free_mib = (int64_t) (host.memory_free_bytes >> 20) - cloud->config.memory_reserve_mib;
    if (memory_mib > free_mib)
        return im_fail(err, IM_NO_RESOURCE,
                       "%" PRId64 " MB of memory wanted, %" PRId64
                       " free on the host; stop other instances or choose less memory",
                       memory_mib, free_mib < 0 ? 0 : free_mib);
    return true;
}
