/* SPDX-License-Identifier: Apache-2.0 */
/* A cloud of a few things in memory. It checks nothing that http/ should have checked. */
#include "fake-cloud.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

#define T0 1704164645 /* 2024-01-02T03:04:05Z */

struct cloud {
    int nothing;
};
static struct cloud the_cloud;
struct fake fake = {.generation = 1, .console_peer = -1, .image_count = 3};

struct cloud *fake_cloud(void) {
    return &the_cloud;
}

static void call(const char *name, const struct im_strings *ids) {
    im_strings_done(&fake.ids);
    for (size_t i = 0; ids != NULL && i < ids->count; i++)
        im_strings_add(&fake.ids, ids->items[i]);
    snprintf(fake.last, sizeof(fake.last), "%s", name);
    for (size_t i = 0; i < 4; i++)
        im_replace(&fake.texts[i], NULL);
}

void fake_done(void) { call("", NULL); }

static bool verdict(struct im_err *err) {
    if (fake.fail.code == IM_OK)
        return true;
    *err = fake.fail;
    fake.fail = (struct im_err){0};
    return false;
}

static bool job(const char *name, const struct im_strings *ids, char *ret_job_id,
                struct im_err *err) {
    call(name, ids);
    strcpy(ret_job_id, "j-1v211t6p04l");
    return verdict(err);
}

/* Two steps, a hole of one, a hole of two, and one more; of memory nothing. */
bool cloud_monitor(struct cloud *cloud, const struct caller *caller, const char *resource,
                   const struct im_strings *meters, const struct monitor_span *span,
                   struct monitor_view *ret_view, struct im_err *err) {
    static const int at[] = {1, 2, 4, 7};

    (void) cloud, (void) caller;
    call("monitor", meters);
    if (!verdict(err))
        return false;
    fake.numbers[0] = span->start_s;
    fake.numbers[1] = span->end_s;
    fake.numbers[2] = span->step_s;
    ret_view->resource_id = im_strdup(resource);
    ret_view->meters = im_alloc(meters->count * sizeof(*ret_view->meters));
    for (; ret_view->count < meters->count; ret_view->count++) {
        struct meter_view *view = &ret_view->meters[ret_view->count];

        view->meter = im_strdup(meters->items[ret_view->count]);
        if (im_starts_with(view->meter, "if-")) {
            view->mac = view->meter + 3;
            view->vxnet_id = im_strdup("vxnet-0");
        }
        view->start = span->start_s;
        view->step = span->step_s;
        view->count = fake.numbers[3] ? (size_t) fake.numbers[3] : 8;
        view->values = im_alloc(view->count * sizeof(*view->values));
        for (size_t i = 0; i < 4 && strcmp(view->meter, "memory") != 0; i++)
            view->values[at[i]] = (struct monitor_value){true, strcmp(view->meter, "cpu") != 0,
                                                         10 + at[i], 20 + at[i]};
    }
    return true;
}

void monitor_view_done(struct monitor_view *view) {
    for (size_t i = 0; i < view->count; i++) {
        free(view->meters[i].meter);
        free(view->meters[i].vxnet_id);
        free(view->meters[i].values);
    }
    free(view->meters);
    free(view->resource_id);
    *view = (struct monitor_view){0};
}

/* --- The daemon's side --------------------------------------------------------------------------
 */

uint64_t db_generation(struct db *db) {
    (void) db;
    return fake.generation;
}
struct db *cloud_db(struct cloud *cloud) {
    (void) cloud;
    return NULL;
}
const char *cloud_zone(const struct cloud *cloud) {
    (void) cloud;
    return "test1a";
}

bool cloud_vxnet(struct cloud *cloud, struct vxnet_state *ret_state, struct im_err *err) {
    (void) cloud, (void) err;
    *ret_state = (struct vxnet_state){.bridge = true,
                                      .subnet = "10.180.0.0/20",
                                      .gateway = "10.180.0.1",
                                      .first = "10.180.0.2",
                                      .last = "10.180.15.254",
                                      .free_count = 4092,
                                      .about = "bridge imbr0 on the host"};
    return true;
}

void cloud_health(struct cloud *cloud, struct cloud_health *ret_health) {
    (void) cloud;
    *ret_health = (struct cloud_health){
        .db_ok = true, .virt_ok = true, .pool_ok = true, .images = fake.image_count};
}

bool cloud_secret(struct cloud *cloud, const char *access_key_id, struct caller *ret_caller,
                  char **ret_secret, struct im_err *err) {
    bool admin = strcmp(access_key_id, FAKE_ADMIN_KEY) == 0;

    (void) cloud;
    if (!admin && strcmp(access_key_id, FAKE_USER_KEY) != 0)
        return im_fail(err, IM_AUTH, "access key [%.40s] is not known", access_key_id);
    strcpy(ret_caller->user_id, admin ? "usr-7Hk2mQ9z" : "usr-bbbbbbbb");
    ret_caller->admin = admin;
    *ret_secret = im_strdup(FAKE_SECRET);
    return true;
}

/* --- Lists ---------------------------------------------------------------------------------------
 */

/* Objects lie in an array of pointers; `total` of them, those of the page are kept. */
static size_t page(const struct query *query, size_t total) {
    size_t left = (size_t) query->offset < total ? total - (size_t) query->offset : 0;

    return query->limit > 0 && left > (size_t) query->limit ? (size_t) query->limit : left;
}

static bool id_wanted(const struct query *query, const char *key, const char *id) {
    for (size_t i = 0; i < query->condition_count; i++) {
        bool found = false;

        if (strcmp(query->conditions[i].field, key) != 0)
            continue;
        for (size_t j = 0; j < query->conditions[i].value_count; j++)
            found = found || strcmp(query->conditions[i].values[j], id) == 0;
        if (!found)
            return false;
    }
    return true;
}

static struct image *make_image(int64_t number) {
    struct image *image = object_new(&image_type);

    image->image_id = im_printf("img-%08" PRId64, number);
    image->image_name = im_printf("image %" PRId64, number);
    image->size = 20;
    image->processor_type = im_strdup("64bit");
    image->platform = im_strdup("linux");
    image->os_family = im_strdup("debian");
    image->visibility = im_strdup("private");
    image->provider = im_strdup("self");
    image->owner = im_strdup("usr-7Hk2mQ9z");
    image->status = IMAGE_AVAILABLE;
    image->ui_type = im_strdup("tui");
    image->hypervisor = im_strdup("kvm");
    image->default_user = im_strdup("root");
    image->f_resetpwd = 1;
    image->create_time = image->status_time = T0 + number;
    return image;
}

bool cloud_images(struct cloud *cloud, const struct caller *caller, struct query *query,
                  struct image_list *ret_list, struct im_err *err) {
    (void) cloud, (void) caller;
    fake.image_lists++;
    fake.query = *query;
    *ret_list = (struct image_list){.total = fake.image_count};
    ret_list->count = page(query, (size_t) fake.image_count);
    ret_list->items = im_alloc(sizeof(*ret_list->items) * (ret_list->count + 1));
    for (size_t i = 0; i < ret_list->count; i++)
        ret_list->items[i] = make_image(query->offset + (int64_t) i);
    return verdict(err);
}

void image_list_done(struct image_list *list) {
    for (size_t i = 0; i < list->count; i++)
        image_free(list->items[i]);
    free(list->items);
}

static struct instance *make_instance(void) {
    struct instance *instance = object_new(&instance_type);

    instance->instance_id = im_strdup("i-4kq0z8pw");
    instance->instance_name = im_strdup("web-1");
    instance->instance_type = im_strdup("custom");
    instance->vcpus_current = 2;
    instance->memory_current = 4096;
    instance->status = INSTANCE_RUNNING;
    instance->create_time = instance->status_time = T0;
    instance->zone_id = im_strdup("test1a");
    instance->owner = im_strdup("usr-7Hk2mQ9z");
    instance->platform = im_strdup("linux");
    instance->os_disk_size = 20;
    return instance;
}

static struct nic *make_nic(void) {
    struct nic *nic = object_new(&nic_type);

    nic->nic_id = im_strdup("52:54:9e:01:02:03");
    nic->vxnet_id = im_strdup(VXNET_BASIC);
    nic->private_ip = im_strdup("10.180.0.5");
    nic->role = 1;
    return nic;
}

bool cloud_instances(struct cloud *cloud, const struct caller *caller, struct query *query,
                     bool live, struct instance_list *ret_list, struct im_err *err) {
    struct instance_view *view = im_alloc(sizeof(*view));

    (void) cloud, (void) caller;
    fake.query = *query;
    fake.flags[0] = live;
    view->instance = make_instance();
    view->image = make_image(1);
    view->nics = im_alloc(sizeof(*view->nics));
    view->nics[0] = make_nic();
    view->nic_count = 1;
    im_strings_add(&view->keypair_ids, "kp-bn2n7700");
    *ret_list = (struct instance_list){.items = view, .count = 1, .total = 1};
    return verdict(err);
}

void instance_list_done(struct instance_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        struct instance_view *view = &list->items[i];

        instance_free(view->instance);
        image_free(view->image);
        for (size_t j = 0; j < view->nic_count; j++)
            nic_free(view->nics[j]);
        free(view->nics);
        im_strings_done(&view->keypair_ids);
    }
    free(list->items);
}

bool cloud_keypairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                    const char *instance_id, struct keypair_list *ret_list, struct im_err *err) {
    struct keypair_view *view = im_alloc(sizeof(*view));

    (void) cloud, (void) caller, (void) instance_id;
    fake.query = *query;
    view->keypair = object_new(&keypair_type);
    view->keypair->keypair_id = im_strdup("kp-bn2n7700");
    view->keypair->keypair_name = im_strdup("k1");
    view->keypair->encrypt_method = im_strdup("ssh-ed25519");
    view->keypair->pub_key = im_strdup("AAAA");
    view->keypair->owner = im_strdup("usr-7Hk2mQ9z");
    view->keypair->create_time = T0;
    *ret_list = (struct keypair_list){.items = view, .count = 1, .total = 1};
    return verdict(err);
}

void keypair_list_done(struct keypair_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        keypair_free(list->items[i].keypair);
        im_strings_done(&list->items[i].instance_ids);
    }
    free(list->items);
}

static struct job_item *make_item(void) {
    struct job_item *item = object_new(&job_item_type);

    item->item_id = im_strdup("j-1v211t6p04l/0");
    item->resource_id = im_strdup("img-0a1b2c3d");
    item->state = ITEM_FAILED;
    item->error_code = im_strdup("NO_SPACE");
    item->error_message = im_strdup("the pool is full");
    return item;
}

bool cloud_jobs(struct cloud *cloud, const struct caller *caller, struct query *query,
                struct job_list *ret_list, struct im_err *err) {
    struct job_view *view = im_alloc(sizeof(*view));
    bool wanted = id_wanted(query, "job_id", "j-1v211t6p04l");

    (void) cloud, (void) caller;
    fake.query = *query;
    view->job = object_new(&job_type);
    view->job->job_id = im_strdup("j-1v211t6p04l");
    view->job->job_action = im_strdup("ImportImage");
    view->job->status = JOB_WORKING;
    view->job->owner = im_strdup("usr-7Hk2mQ9z");
    view->job->create_time = view->job->status_time = T0;
    view->job->done_bytes = 250;
    view->job->total_bytes = 1000;
    view->job->rate_bytes = 100;
    view->items = im_alloc(sizeof(*view->items));
    view->items[0] = make_item();
    view->item_count = 1;
    *ret_list = (struct job_list){.items = view, .count = 1, .total = 1};
    if (!wanted) {
        job_list_done(ret_list);
        *ret_list = (struct job_list){0};
    }
    return verdict(err);
}

void job_list_done(struct job_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        job_free(list->items[i].job);
        for (size_t j = 0; j < list->items[i].item_count; j++)
            job_item_free(list->items[i].items[j]);
        free(list->items[i].items);
    }
    free(list->items);
}

bool cloud_access_keys(struct cloud *cloud, const struct caller *caller, struct query *query,
                       struct access_key_list *ret_list, struct im_err *err) {
    struct access_key *key = object_new(&access_key_type);

    (void) cloud, (void) caller, (void) query;
    key->access_key_id = im_strdup(FAKE_ADMIN_KEY);
    key->secret_sealed = im_strdup("v1:never-shown");
    key->owner = im_strdup("usr-7Hk2mQ9z");
    key->create_time = key->status_time = T0;
    ret_list->items = im_alloc(sizeof(*ret_list->items));
    ret_list->items[0] = key;
    ret_list->count = 1;
    ret_list->total = 1;
    return verdict(err);
}

void access_key_list_done(struct access_key_list *list) {
    for (size_t i = 0; i < list->count; i++)
        access_key_free(list->items[i]);
    free(list->items);
}

bool cloud_user_list(struct cloud *cloud, struct user ***ret_users, size_t *ret_count,
                     struct im_err *err) {
    (void) cloud;
    *ret_users = im_alloc(sizeof(**ret_users));
    (*ret_users)[0] = object_new(&user_type);
    (*ret_users)[0]->user_id = im_strdup("usr-7Hk2mQ9z");
    *ret_count = 1;
    return verdict(err);
}

bool cloud_pool_check(struct cloud *cloud, const struct caller *caller,
                      struct pool_report *ret_report, struct im_err *err) {
    (void) cloud, (void) caller;
    *ret_report = (struct pool_report){.layers = 2, .merging = "on"};
    im_strings_add(&ret_report->orphans, "file x belongs to no layer");
    return verdict(err);
}

void pool_report_done(struct pool_report *report) {
    im_strings_done(&report->orphans);
    im_strings_done(&report->missing);
    im_strings_done(&report->wrong);
}

bool cloud_usage(struct cloud *cloud, const struct caller *caller, struct usage_report *ret_report,
                 struct im_err *err) {
    (void) cloud, (void) caller;
    *ret_report = (struct usage_report){
        .lines = im_alloc(sizeof(struct usage_line)), .count = 1, .pool_total_bytes = 100};
    ret_report->lines[0] =
        (struct usage_line){.id = "i-4kq0z8pw", .kind = "instance", .virtual_bytes = 10};
    return verdict(err);
}

void usage_report_done(struct usage_report *report) { free(report->lines); }

/* --- Verbs ------------------------------------------------------------------------------------ */

#define UNUSED (void) cloud, (void) caller

bool cloud_access_keys_delete(struct cloud *cloud, const struct caller *caller,
                              const struct im_strings *ids, struct im_err *err) {
    UNUSED;
    call("access_keys_delete", ids);
    return verdict(err);
}

bool cloud_user_add(struct cloud *cloud, const char *name, const char *email, bool admin,
                    char ret_user_id[IM_ID_MAX], struct im_err *err) {
    (void) cloud, (void) email;
    call("user_add", NULL);
    im_replace(&fake.texts[0], name);
    fake.flags[0] = admin;
    strcpy(ret_user_id, "usr-cccccccc");
    return verdict(err);
}

bool cloud_access_key_add(struct cloud *cloud, const char *user_name, const char *key_name,
                          char **ret_key_id, char **ret_secret, struct im_err *err) {
    (void) cloud, (void) key_name, (void) user_name;
    call("access_key_add", NULL);
    if (!verdict(err))
        return false;
    *ret_key_id = im_strdup("AAAA");
    *ret_secret = im_strdup("BBBB");
    return true;
}

bool cloud_image_import(struct cloud *cloud, const struct caller *caller,
                        const struct image_import_args *args, char ret_image_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    job("image_import", NULL, ret_job_id, err);
    im_replace(&fake.texts[0], args->source);
    fake.numbers[0] = args->force;
    strcpy(ret_image_id, "img-0a1b2c3d");
    return err->code == IM_OK;
}

bool cloud_image_export(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *format, char ret_export_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    (void) cloud, (void) caller;
    if (!job("image_export", NULL, ret_job_id, err))
        return false;
    im_replace(&fake.texts[0], image_id);
    im_replace(&fake.texts[1], format);
    snprintf(ret_export_id, IM_ID_MAX, "exp-0a1b2c3d");
    return true;
}

bool cloud_image_exports(struct cloud *cloud, const struct caller *caller, struct query *query,
                         struct image_export_list *ret_list, struct im_err *err) {
    (void) cloud, (void) caller;
    *ret_list = (struct image_export_list){0};
    fake.query = *query;
    return verdict(err);
}
void image_export_list_done(struct image_export_list *list) { (void) list; }
bool cloud_image_exports_delete(struct cloud *cloud, const struct caller *caller,
                                const struct im_strings *ids, struct im_err *err) {
    (void) cloud, (void) caller;
    call("image_exports_delete", ids);
    return verdict(err);
}

bool cloud_boot_test(struct cloud *cloud, const struct caller *caller,
                     const struct boot_test_args *args, char ret_boot_test_id[IM_ID_MAX],
                     char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    (void) cloud, (void) caller;
    if (!job("boot_test", NULL, ret_job_id, err))
        return false;
    im_replace(&fake.texts[0], args->resource_id);
    snprintf(ret_boot_test_id, IM_ID_MAX, "bt-0a1b2c3d");
    return true;
}

bool cloud_boot_tests(struct cloud *cloud, const struct caller *caller, struct query *query,
                      struct boot_test_list *ret_list, struct im_err *err) {
    (void) cloud, (void) caller;
    *ret_list = (struct boot_test_list){0};
    fake.query = *query;
    return verdict(err);
}
void boot_test_list_done(struct boot_test_list *list) { (void) list; }
/* The file at fake.upload_path. */
static bool open_upload(const char *type, struct export_file *ret_file, struct im_err *err) {
    struct stat st;

    *ret_file =
        (struct export_file){.fd = open(fake.upload_path, O_RDONLY | O_CLOEXEC), .type = type};
    if (ret_file->fd < 0 || fstat(ret_file->fd, &st) < 0)
        return im_fail_sys(err, errno, "the file");
    ret_file->size_bytes = (uint64_t) st.st_size;
    return true;
}

bool cloud_boot_test_open(struct cloud *cloud, const struct caller *caller,
                          const char *boot_test_id, const char *what, struct export_file *ret_file,
                          struct im_err *err) {
    (void) cloud, (void) caller;
    call("boot_test_open", NULL);
    im_replace(&fake.texts[0], what);
    if (!verdict(err) || !open_upload("image/png", ret_file, err))
        return false;
    snprintf(ret_file->name, sizeof(ret_file->name), "%s.png", boot_test_id);
    return true;
}

bool cloud_export_open(struct cloud *cloud, const struct caller *caller, const char *export_id,
                       struct export_file *ret_file, struct im_err *err) {
    (void) cloud, (void) caller;
    call("export_open", NULL);
    if (!verdict(err))
        return false;
    if (strcmp(export_id, "exp-0a1b2c3d") != 0)
        return im_fail(err, IM_NOT_FOUND, "export [%s] does not exist", export_id);
    if (!open_upload("application/octet-stream", ret_file, err))
        return false;
    snprintf(ret_file->digest, sizeof(ret_file->digest), "%064d", 7);
    snprintf(ret_file->name, sizeof(ret_file->name), "img-0a1b2c3d.qcow2");
    return true;
}

bool cloud_upload_begin(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        struct upload *ret_upload, struct im_err *err) {
    struct stat st;

    UNUSED;
    if (strcmp(image_id, "img-0a1b2c3d") != 0)
        return im_fail(err, IM_NOT_FOUND, "image [%s] does not exist", image_id);
    if (!fake.upload_waits)
        return im_fail(err, IM_WRONG_STATE, "image [%s] waits for no upload", image_id);
    snprintf(ret_upload->path, sizeof(ret_upload->path), "%s", fake.upload_path);
    ret_upload->received_bytes = stat(fake.upload_path, &st) == 0 ? (uint64_t) st.st_size : 0;
    return true;
}

bool cloud_upload_finish(struct cloud *cloud, const struct caller *caller, const char *image_id,
                         uint64_t total_bytes, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) image_id;
    job("upload_finish", NULL, ret_job_id, err);
    fake.numbers[0] = (int64_t) total_bytes;
    fake.upload_waits = false;
    return err->code == IM_OK;
}

bool cloud_image_capture(struct cloud *cloud, const struct caller *caller,
                         const struct image_capture_args *args, char ret_image_id[IM_ID_MAX],
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    job("image_capture", args->seal, ret_job_id, err);
    im_replace(&fake.texts[0], args->instance_id);
    im_replace(&fake.texts[1], args->image_name);
    fake.numbers[0] = args->trim;
    strcpy(ret_image_id, "img-0a1b2c3d");
    return err->code == IM_OK;
}

bool cloud_image_clone(struct cloud *cloud, const struct caller *caller, const char *image_id,
                       int64_t count, const char *image_name, struct im_strings *ret_image_ids,
                       char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) image_id, (void) image_name;
    fake.numbers[0] = count;
    for (int64_t i = 0; i < count; i++)
        im_strings_add(ret_image_ids, "img-11111111");
    return job("image_clone", NULL, ret_job_id, err);
}

bool cloud_password_reset(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *instance_ids, const char *password,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) password;
    return job("password_reset", instance_ids, ret_job_id, err);
}

bool cloud_images_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *image_ids, bool direct_cease,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    fake.flags[0] = direct_cease;
    return job("images_delete", image_ids, ret_job_id, err);
}

bool cloud_image_modify(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *image_name, const char *description, struct im_err *err) {
    UNUSED;
    call("image_modify", NULL);
    im_replace(&fake.texts[0], image_id);
    im_replace(&fake.texts[1], image_name);
    im_replace(&fake.texts[2], description);
    return verdict(err);
}

bool cloud_instances_run(struct cloud *cloud, const struct caller *caller,
                         const struct instance_run_args *args, struct im_strings *ret_instance_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    job("instances_run", args->vxnets, ret_job_id, err);
    im_replace(&fake.texts[0], args->image_id);
    im_replace(&fake.texts[1], args->instance_type);
    im_replace(&fake.texts[2], args->cpu_model);
    im_replace(&fake.texts[3], args->instance_name);
    fake.numbers[0] = args->cpu;
    fake.numbers[1] = args->memory;
    fake.numbers[2] = args->count;
    fake.numbers[3] = args->instance_class;
    fake.flags[0] = args->go_defaults;
    fake.flags[1] = args->no_start;
    for (int64_t i = 0; i < args->count; i++)
        im_strings_add(ret_instance_ids, "i-4kq0z8pw");
    return err->code == IM_OK;
}

#define PLAIN(verb)                                                                                \
    bool cloud_instances_##verb(struct cloud *cloud, const struct caller *caller,                  \
                                const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],      \
                                struct im_err *err) {                                              \
        UNUSED;                                                                                    \
        return job("instances_" #verb, ids, ret_job_id, err);                                      \
    }
PLAIN(start)
PLAIN(restart)
PLAIN(cease)
#define FLAGGED(verb)                                                                              \
    bool cloud_instances_##verb(struct cloud *cloud, const struct caller *caller,                  \
                                const struct im_strings *ids, bool flag,                           \
                                char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {              \
        UNUSED;                                                                                    \
        fake.flags[0] = flag;                                                                      \
        return job("instances_" #verb, ids, ret_job_id, err);                                      \
    }
FLAGGED(stop)
FLAGGED(terminate)

bool cloud_instances_resize(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, const struct instance_resize_args *args,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    fake.numbers[0] = args->cpu;
    fake.numbers[1] = args->memory;
    fake.numbers[2] = args->os_disk_size;
    return job("instances_resize", ids, ret_job_id, err);
}

bool cloud_instances_reset(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct instance_reset_args *args,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    fake.numbers[0] = args->os_disk_size;
    return job("instances_reset", ids, ret_job_id, err);
}

bool cloud_instance_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                           const char *instance_name, const char *description, int64_t nic_mqueue,
                           struct im_err *err) {
    UNUSED;
    call("instance_modify", NULL);
    im_replace(&fake.texts[0], id);
    im_replace(&fake.texts[1], instance_name);
    im_replace(&fake.texts[2], description);
    fake.numbers[0] = nic_mqueue;
    return verdict(err);
}

bool cloud_instances_clone(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *vxnets,
                           struct im_strings *ret_instance_ids, struct im_strings *ret_volumes,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) vxnets;
    for (size_t i = 0; i < ids->count; i++) {
        IM_AUTO(free_auto) char *copied = im_printf("%s|vol-f9ufyi00|vol-df3m8o00", ids->items[i]);

        im_strings_add(ret_instance_ids, "i-clone000");
        im_strings_add(ret_volumes, copied);
    }
    return job("instances_clone", ids, ret_job_id, err);
}

bool cloud_instance_ssh(struct cloud *cloud, const struct caller *caller, const char *id,
                        struct ssh_address *ret_address, struct im_err *err) {
    UNUSED;
    (void) id;
    *ret_address = (struct ssh_address){.host = "127.0.0.1", .port = 2222, .user = "root"};
    return verdict(err);
}

bool cloud_instance_console(struct cloud *cloud, const struct caller *caller, const char *id,
                            int *ret_fd, struct im_err *err) {
    int pair[2];

    UNUSED;
    if (strcmp(id, "i-4kq0z8pw") != 0)
        return im_fail(err, IM_NOT_FOUND, "instance [%s] does not exist", id);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return im_fail(err, IM_INTERNAL, "no socket pair");
    *ret_fd = pair[0];
    fake.console_peer = pair[1];
    return true;
}

bool cloud_instance_console_log(struct cloud *cloud, const struct caller *caller, const char *id,
                                char **ret_bytes, size_t *ret_len, struct im_err *err) {
    UNUSED;
    (void) id;
    *ret_bytes = im_strdup("login: ");
    *ret_len = 7;
    return verdict(err);
}

bool cloud_keypair_create(struct cloud *cloud, const struct caller *caller, const char *name,
                          const char *method, const char *public_key,
                          char ret_keypair_id[IM_ID_MAX], char **ret_private_key,
                          struct im_err *err) {
    UNUSED;
    call("keypair_create", NULL);
    im_replace(&fake.texts[0], name);
    im_replace(&fake.texts[1], method);
    im_replace(&fake.texts[2], public_key);
    strcpy(ret_keypair_id, "kp-bn2n7700");
    *ret_private_key = im_strdup(public_key == NULL ? "-----BEGIN" : "");
    return verdict(err);
}

bool cloud_keypairs_delete(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, struct im_err *err) {
    UNUSED;
    call("keypairs_delete", ids);
    return verdict(err);
}

bool cloud_keypair_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                          const char *name, const char *description, struct im_err *err) {
    UNUSED;
    call("keypair_modify", NULL);
    im_replace(&fake.texts[0], id);
    im_replace(&fake.texts[1], name);
    im_replace(&fake.texts[2], description);
    return verdict(err);
}

bool cloud_keypairs_attach(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *instance_ids,
                           bool detach, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) instance_ids;
    fake.flags[0] = detach;
    return job("keypairs_attach", ids, ret_job_id, err);
}

bool cloud_jobs_cancel(struct cloud *cloud, const struct caller *caller,
                       const struct im_strings *ids, struct im_err *err) {
    UNUSED;
    call("jobs_cancel", ids);
    return verdict(err);
}

/* --- Volumes and snapshots -------------------------------------------------------------------- */

bool cloud_volumes(struct cloud *cloud, const struct caller *caller, struct query *query, bool live,
                   struct volume_list *ret_list, struct im_err *err) {
    struct volume *volume = object_new(&volume_type);

    UNUSED;
    (void) live;
    fake.query = *query;
    im_replace(&volume->volume_id, "vol-f9ufyi00");
    im_replace(&volume->volume_name, "data");
    im_replace(&volume->instance_id, "i-4kq0z8pw");
    im_replace(&volume->device, "/dev/vdc");
    volume->status = VOLUME_IN_USE;
    volume->size = 20;
    volume->create_time = volume->status_time = T0;
    *ret_list = (struct volume_list){.count = 1, .total = 1};
    ret_list->items = im_alloc(sizeof(*ret_list->items));
    ret_list->items[0] = (struct volume_view){volume, im_strdup("web-1")};
    return verdict(err);
}

void volume_list_done(struct volume_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        volume_free(list->items[i].volume);
        free(list->items[i].instance_name);
    }
    free(list->items);
}

bool cloud_volumes_create(struct cloud *cloud, const struct caller *caller,
                          const struct volume_create_args *args, struct im_strings *ret_volume_ids,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) args;
    im_strings_add(ret_volume_ids, "vol-df3m8o00");
    return job("volumes_create", NULL, ret_job_id, err);
}

bool cloud_volumes_delete(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, bool direct_cease,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    fake.flags[0] = direct_cease;
    return job("volumes_delete", ids, ret_job_id, err);
}

bool cloud_volumes_attach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) instance_id;
    return job("volumes_attach", ids, ret_job_id, err);
}

bool cloud_volumes_detach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) instance_id;
    return job("volumes_detach", ids, ret_job_id, err);
}

bool cloud_volumes_resize(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, int64_t size,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) size;
    return job("volumes_resize", ids, ret_job_id, err);
}

bool cloud_volumes_clone(struct cloud *cloud, const struct caller *caller,
                         const struct volume_clone_args *args, struct im_strings *ret_volume_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) args;
    im_strings_add(ret_volume_ids, "vol-df3m8o00");
    return job("volumes_clone", NULL, ret_job_id, err);
}

bool cloud_volume_modify(struct cloud *cloud, const struct caller *caller, const char *volume_id,
                         const char *volume_name, const char *description, struct im_err *err) {
    UNUSED;
    call("volume_modify", NULL);
    im_replace(&fake.texts[0], volume_id);
    im_replace(&fake.texts[1], volume_name);
    im_replace(&fake.texts[2], description);
    return verdict(err);
}

bool cloud_snapshots(struct cloud *cloud, const struct caller *caller, struct query *query,
                     struct snapshot_list *ret_list, struct im_err *err) {
    struct snapshot *snapshot = object_new(&snapshot_type);

    UNUSED;
    fake.query = *query;
    im_replace(&snapshot->snapshot_id, "ss-8s3hc600");
    im_replace(&snapshot->snapshot_name, "full");
    im_replace(&snapshot->parent_id, SNAPSHOT_SELF);
    im_replace(&snapshot->root_id, "ss-8s3hc600");
    im_replace(&snapshot->resource_id, "vol-f9ufyi00");
    im_replace(&snapshot->resource_type, "volume");
    snapshot->snapshot_type = SNAPSHOT_FULL;
    snapshot->status = SNAPSHOT_AVAILABLE;
    snapshot->snapshot_time = snapshot->create_time = snapshot->status_time = T0;
    *ret_list = (struct snapshot_list){.count = 1, .total = 1};
    ret_list->items = im_alloc(sizeof(*ret_list->items));
    ret_list->items[0] = (struct snapshot_view){snapshot, 10312, 2, T0};
    return verdict(err);
}

void snapshot_list_done(struct snapshot_list *list) {
    for (size_t i = 0; i < list->count; i++)
        snapshot_free(list->items[i].snapshot);
    free(list->items);
}

bool cloud_snapshots_create(struct cloud *cloud, const struct caller *caller,
                            const struct snapshot_create_args *args,
                            struct im_strings *ret_snapshot_ids, char ret_job_id[IM_JOB_ID_MAX],
                            struct im_err *err) {
    UNUSED;
    im_strings_add(ret_snapshot_ids, "ss-8s3hc600");
    fake.flags[0] = args->is_full;
    return job("snapshots_create", args->resources, ret_job_id, err);
}

bool cloud_snapshots_delete(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, bool merge, bool direct_cease,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    (void) direct_cease;
    fake.flags[0] = merge;
    return job("snapshots_delete", ids, ret_job_id, err);
}

bool cloud_snapshots_apply(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    UNUSED;
    return job("snapshots_apply", ids, ret_job_id, err);
}

bool cloud_snapshots_copy(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                          struct im_err *err) {
    (void) cloud, (void) caller;
    return job("snapshots_copy", ids, ret_job_id, err);
}

bool cloud_snapshots_restore(struct cloud *cloud, const struct caller *caller,
                             const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                             struct im_err *err) {
    (void) cloud, (void) caller;
    return job("snapshots_restore", ids, ret_job_id, err);
}

bool cloud_copies_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                         struct im_err *err) {
    (void) cloud, (void) caller;
    return job("copies_delete", ids, ret_job_id, err);
}

bool cloud_copies(struct cloud *cloud, const struct caller *caller, struct copy_list *ret_list,
                  struct im_err *err) {
    struct snapshot *snapshot = object_new(&snapshot_type);

    (void) cloud, (void) caller, (void) err;
    im_replace(&snapshot->snapshot_id, "ss-8s3hc600");
    *ret_list = (struct copy_list){.items = im_alloc(sizeof(*ret_list->items)), .count = 1};
    ret_list->items[0] = (struct copy_view){.snapshot = snapshot, .whole = true, .file_bytes = 7};
    return true;
}

void copy_list_done(struct copy_list *list) {
    for (size_t i = 0; i < list->count; i++)
        snapshot_free(list->items[i].snapshot);
    free(list->items);
}

bool cloud_merging_pause(struct cloud *cloud, const struct caller *caller, bool pause,
                         struct im_err *err) {
    (void) cloud, (void) caller, (void) pause;
    return verdict(err);
}

bool cloud_pool_scrub(struct cloud *cloud, const struct caller *caller, int64_t rate_bytes,
                      char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    (void) cloud, (void) caller, (void) rate_bytes;
    return job("pool_scrub", NULL, ret_job_id, err);
}

bool cloud_snapshot_modify(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *snapshot_name,
                           const char *description, struct im_err *err) {
    UNUSED;
    call("snapshot_modify", NULL);
    im_replace(&fake.texts[0], snapshot_id);
    im_replace(&fake.texts[1], snapshot_name);
    im_replace(&fake.texts[2], description);
    return verdict(err);
}

bool cloud_snapshot_volume(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *volume_name,
                           char ret_volume_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    UNUSED;
    (void) snapshot_id, (void) volume_name;
    strcpy(ret_volume_id, "vol-df3m8o00");
    return job("snapshot_volume", NULL, ret_job_id, err);
}

bool cloud_snapshot_image(struct cloud *cloud, const struct caller *caller,
                          const struct snapshot_image_args *args, char ret_image_id[IM_ID_MAX],
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    UNUSED;
    fake.flags[0] = args->instance_only;
    strcpy(ret_image_id, "img-01234567");
    return job("snapshot_image", NULL, ret_job_id, err);
}

bool cloud_recover(struct cloud *cloud, const struct caller *caller, const struct im_strings *ids,
                   struct im_err *err) {
    UNUSED;
    call("recover", ids);
    return verdict(err);
}
