/* SPDX-License-Identifier: Apache-2.0 */
/* Copies in a second pool, rot, and pools and records that are lost, on real files. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "qcow2/qcow2.h"
#include "test-verbs.h"

enum { FILLING = 3 << 20 };

static struct rig rig;

/* --- Files ---------------------------------------------------------------------------------- */

static char *file_of(const char *pool, const char *layer_id) {
    return im_printf("%s/%s/layers/%s.qcow2", rig.folder, pool, layer_id);
}

static bool same_bytes(const char *a, const char *b) {
    IM_AUTO(free_auto) char *left = NULL;
    IM_AUTO(free_auto) char *right = NULL;
    size_t left_len = 0, right_len = 0;
    struct im_err err = {0};

    return im_read_file(a, 64 << 20, &left, &left_len, &err) &&
           im_read_file(b, 64 << 20, &right, &right_len, &err) && left_len == right_len &&
           memcmp(left, right, left_len) == 0;
}

/* Bytes behind the image, which no reader of it minds. */
static void fill(const char *path) {
    IM_AUTO(free_auto) char *bytes = im_alloc(FILLING);
    IM_AUTO(fd_auto) int fd = open(path, O_WRONLY | O_CLOEXEC);
    struct im_err err = {0};
    struct stat st = {0};

    im_random(bytes, FILLING);
    check(fd >= 0 && fstat(fd, &st) == 0 &&
              im_pwrite_all(fd, bytes, FILLING, (uint64_t) st.st_size, path, &err),
          "something is written to the disk");
}

/* Turns one bit over, or back. */
static bool flip(const char *path, off_t at) {
    IM_AUTO(fd_auto) int fd = -1;
    unsigned char byte;

    if (chmod(path, 0600) < 0)
        return false;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, at) != 1)
        return false;
    byte ^= 4;
    return pwrite(fd, &byte, 1, at) == 1 && fchmod(fd, 0444) == 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where) {
    (void) st, (void) kind, (void) where;
    return remove(path);
}

static void remove_tree(const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", rig.folder, name);

    check(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s is removed", name);
}

/* --- Points --------------------------------------------------------------------------------- */

typedef bool call_on(struct cloud *cloud, const struct caller *caller, const struct im_strings *ids,
                     char ret_job_id[IM_JOB_ID_MAX], struct im_err *err);

static bool done(const struct caller *caller, call_on *call, const char *id) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (call(rig.cloud, caller, &ids, job_id, &err))
        return rig_done(&rig, job_id);
    test_note("%s", err.text);
    return false;
}

/* The sentence with which a call or its job fails; "" when it does not. */
static char *refusal(const struct caller *caller, call_on *call, const char *id) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    IM_AUTO(job_free_auto) struct job *job = NULL;
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (!call(rig.cloud, caller, &ids, job_id, &err))
        return im_strdup(err.text);
    job = rig_job(&rig, job_id);
    return im_strdup(job != NULL && job->status == JOB_FAILED ? job->error_message : "");
}

static void check_refusal(const struct caller *caller, call_on *call, const char *id,
                          const char *words, const char *what) {
    IM_AUTO(free_auto) char *text = refusal(caller, call, id);

    if (!check(strstr(text, words) != NULL, "%s: %s", what, words))
        test_note("it says: %s", text);
}

static void volume_layer(const char *volume_id, char ret_layer_id[IM_ID_MAX]) {
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(&rig, volume_id);

    snprintf(ret_layer_id, IM_ID_MAX, "%s", volume->layer_id);
}

/* Writes to the volume and takes a point of it. */
static void take_point(const char *volume_id, char ret_point[IM_ID_MAX],
                       char ret_layer[IM_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings made = {0}, ids = rig_ids(volume_id);
    struct snapshot_create_args args = {.resources = &ids, .snapshot_name = "a point"};
    IM_AUTO(free_auto) char *path = NULL;
    char job_id[IM_JOB_ID_MAX];

    volume_layer(volume_id, ret_layer);
    path = file_of("pool", ret_layer);
    fill(path);
    check_ok(cloud_snapshots_create(rig.cloud, &rig.alice, &args, &made, job_id, &err) ||
                 (test_note("%s", err.text), false),
             "a point is asked for");
    check(rig_done(&rig, job_id), "and taken");
    snprintf(ret_point, IM_ID_MAX, "%s", made.count > 0 ? made.items[0] : "");
}

static void make_volume(char ret_id[IM_ID_MAX]) {
    struct volume_create_args args = {.size = 20, .volume_type = 0, .count = 1};
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    check(cloud_volumes_create(rig.cloud, &rig.alice, &args, &made, job_id, &err) &&
              rig_done(&rig, job_id),
          "a volume %s", err.text);
    snprintf(ret_id, IM_ID_MAX, "%s", made.count > 0 ? made.items[0] : "");
}

static bool volume_from(const struct caller *caller, const char *point, char ret_why[512]) {
    char volume_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};
    bool made = cloud_snapshot_volume(rig.cloud, caller, point, "of it", volume_id, job_id, &err) &&
                rig_done(&rig, job_id);

    snprintf(ret_why, 512, "%s", err.text);
    return made;
}

static bool damaged(const char *point) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(&rig, point);

    return snapshot != NULL && snapshot->damaged == 1;
}

static char *scrub(void) {
    IM_AUTO(job_free_auto) struct job *job = NULL;
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (!cloud_pool_scrub(rig.cloud, &rig.admin, -1, job_id, &err))
        return im_strdup(err.text);
    job = rig_job(&rig, job_id);
    return im_strdup(job->status == JOB_SUCCESSFUL ? "" : job->error_message);
}

static void open_rig(const char *name) {
    struct rig_options options = {.local = true};
    IM_AUTO(free_auto) char *folder = im_printf("%s/%s", test_folder(), name);
    bool fresh = access(folder, F_OK) != 0;

    rig_open(&rig, folder, &options);
    if (fresh)
        rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
}

/* --- Copies --------------------------------------------------------------------------------- */

static void copies_take_only_what_is_new(void) {
    char volume[IM_ID_MAX], first[IM_ID_MAX], second[IM_ID_MAX], below[IM_ID_MAX], above[IM_ID_MAX];
    IM_AUTO(copy_list_done) struct copy_list all = {0}, of_bob = {0};
    struct stat before = {0}, after = {0};
    struct im_err err = {0};

    open_rig("copies");
    make_volume(volume);
    take_point(volume, first, below);
    check(done(&rig.alice, cloud_snapshots_copy, first), "a point is copied");
    {
        IM_AUTO(free_auto) char *there = file_of("second", below);
        IM_AUTO(free_auto) char *here = file_of("pool", below);

        check(same_bytes(here, there) && stat(there, &before) == 0, "byte for byte");
        check((before.st_mode & 0222) == 0, "and read-only");
        take_point(volume, second, above);
        check(done(&rig.alice, cloud_snapshots_copy, second), "the next point is copied");
        check(stat(there, &after) == 0 && after.st_ino == before.st_ino &&
                  after.st_mtim.tv_nsec == before.st_mtim.tv_nsec,
              "what was there is not copied again");
    }
    check(cloud_copies(rig.cloud, &rig.alice, &all, &err) && all.count == 2 && all.items[0].whole &&
              all.items[1].whole && all.items[0].file_bytes + all.items[1].file_bytes > 3 * FILLING,
          "both are listed, and whole");
    check(cloud_copies(rig.cloud, &rig.bob, &of_bob, &err) && of_bob.count == 0,
          "somebody else sees none");
    check_refusal(&rig.bob, cloud_snapshots_copy, first, "does not exist", "nor may copy it");
    check_refusal(&rig.bob, cloud_snapshots_restore, first, "does not exist", "nor restore it");
    check_refusal(&rig.bob, cloud_copies_delete, first, "does not exist", "nor delete the copy");
    check(done(&rig.alice, cloud_copies_delete, second), "a copy is deleted");
    {
        IM_AUTO(free_auto) char *stays = file_of("second", below);
        IM_AUTO(free_auto) char *goes = file_of("second", above);

        check(access(stays, F_OK) == 0 && access(goes, F_OK) != 0,
              "its layer goes, the one that the other needs stays");
    }
    rig_check_clean(&rig, "copies");
    rig_close(&rig);
}

/* A layer that is merged keeps its name, and gets other bytes and another parent. */
struct merge {
    const char *layer_id;
};

static bool merged_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct layer layer = {.layer_id = (char *) ((struct merge *) arg)->layer_id, .depth = 1};

    return record_update_fields(conn, &layer_type, &layer,
                                (const char *const[]){"parent_id", "depth", NULL}, err);
}

static void merge(const char *layer_id) {
    struct merge arg = {layer_id};
    IM_AUTO(fd_auto) int fd = -1;
    struct im_err err = {0};
    bool merged = layer_rewrite_begin(rig.cloud, layer_id, &err) &&
                  storage_put_begin(rig.pool, layer_id, &fd, &err) &&
                  qcow2_overlay_write(fd, NULL, NULL, 20ull << 30, &err) &&
                  storage_put_end(rig.pool, layer_id, "", fd, &err) &&
                  cloud_transact(rig.cloud, merged_body, &arg, &err);

    layer_rewrite_end(rig.cloud, layer_id);
    check(merged, "a layer is merged with its parent %s", err.text);
}

static void copies_outlive_merges(void) {
    char volume[IM_ID_MAX], point[3][IM_ID_MAX], layer[3][IM_ID_MAX], why[512];
    IM_AUTO(free_auto) char *bad = NULL;
    struct reading_since since;
    enum verdict verdict = VERDICT_GOOD;

    open_rig("merges");
    make_volume(volume);
    for (int i = 0; i < 2; i++)
        take_point(volume, point[i], layer[i]);
    check(done(&rig.alice, cloud_snapshots_copy, point[1]), "a chain is copied");
    rig_discard(&rig, point[0]);
    take_point(volume, point[2], layer[2]);
    check(rig_number(&rig, "SELECT COUNT(*) FROM snapshots WHERE status = 'available'") >= 1,
          "a later point stands on it");
    since = reading_begin(rig.cloud);
    merge(layer[1]);
    check_ok(reading_judge(rig.cloud, layer[1], &since, "sha256:of the file before", NULL, &verdict,
                           &err),
             "a reading from before the merge is judged");
    check(verdict == VERDICT_STALE, "it counts for nothing");
    bad = scrub();
    check(bad[0] == '\0', "new bytes of a merged layer are no rot %s", bad);
    check(done(&rig.alice, cloud_snapshots_copy, point[2]), "the later point is copied");
    for (int i = 1; i < 3; i++) {
        IM_AUTO(free_auto) char *path = file_of("pool", layer[i]);

        check(unlink(path) == 0, "a layer is lost");
    }
    im_replace(&bad, NULL);
    bad = scrub();
    check(strstr(bad, layer[1]) != NULL && damaged(point[2]), "the scrub names it: %.120s", bad);
    check(done(&rig.alice, cloud_snapshots_restore, point[2]), "the point is restored");
    check(!damaged(point[2]) && volume_from(&rig.alice, point[2], why), "and can be used %s", why);
    rig_check_clean(&rig, "a chain that was merged after it was copied");
    rig_close(&rig);
}

/* --- Rot ------------------------------------------------------------------------------------ */

static void rot_is_found(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX], why[512];
    IM_AUTO(pool_report_done) struct pool_report report = {0};
    IM_AUTO(free_auto) char *path = NULL;
    IM_AUTO(free_auto) char *before = NULL;
    IM_AUTO(free_auto) char *after = NULL;
    IM_AUTO(free_auto) char *later = NULL;
    struct im_err err = {0};
    char job_id[IM_JOB_ID_MAX];

    open_rig("rot");
    make_volume(volume);
    take_point(volume, point, layer);
    path = file_of("pool", layer);
    check_err(cloud_pool_scrub(rig.cloud, &rig.alice, 0, job_id, &err), IM_DENIED,
              "only an administrator scrubs");
    before = scrub();
    check(before[0] == '\0', "all is well at first %s", before);
    check(flip(path, FILLING), "a bit turns over");
    after = scrub();
    check(strstr(after, layer) != NULL && damaged(point), "the scrub names the layer: %s", after);
    check(cloud_pool_check(rig.cloud, &rig.admin, &report, &err) && report.damaged.count == 1 &&
              report.unread == 0 && report.oldest_check > 0,
          "so does the check: %s", report.damaged.count ? report.damaged.items[0] : "nothing");
    check(!volume_from(&rig.alice, point, why) && strstr(why, "damaged") != NULL,
          "nothing is made from it: %s", why);
    check_refusal(&rig.alice, cloud_snapshots_copy, point, "damaged", "nor is it copied");
    check(flip(path, FILLING), "the bit turns back");
    later = scrub();
    check(later[0] == '\0' && !damaged(point) && volume_from(&rig.alice, point, why),
          "then all is well again %s%s", later, why);
    rig_check_clean(&rig, "rot");
    rig_close(&rig);
}

static void rot_is_put_right(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX];
    IM_AUTO(free_auto) char *here = NULL;
    IM_AUTO(free_auto) char *there = NULL;
    IM_AUTO(free_auto) char *first = NULL;
    IM_AUTO(free_auto) char *second = NULL;
    IM_AUTO(free_auto) char *third = NULL;

    open_rig("repair");
    make_volume(volume);
    take_point(volume, point, layer);
    here = file_of("pool", layer);
    there = file_of("second", layer);
    check(done(&rig.alice, cloud_snapshots_copy, point), "a point is copied");
    check(flip(here, 4096) && !same_bytes(here, there), "a bit of the original turns over");
    first = scrub();
    check(first[0] == '\0' && !damaged(point) && same_bytes(here, there),
          "the scrub puts it right from the copy %s", first);
    check(flip(here, 4096) && flip(there, 8192), "bits of both turn over");
    second = scrub();
    check(strstr(second, layer) != NULL && damaged(point), "then it stays damaged: %s", second);
    check_refusal(&rig.alice, cloud_snapshots_restore, point, "copy of layer",
                  "and a bad copy is not brought back");
    check(flip(there, 8192) && done(&rig.alice, cloud_snapshots_restore, point) &&
              !damaged(point) && same_bytes(here, there),
          "a good one is");
    check(flip(there, 8192), "a bit of the copy turns over");
    third = scrub();
    check(strstr(third, "second pool") != NULL && strstr(third, layer) != NULL && !damaged(point),
          "the scrub names the copy: %s", third);
    check(done(&rig.alice, cloud_snapshots_copy, point) && same_bytes(here, there),
          "the next copy renews it");
    rig_check_clean(&rig, "repair");
    rig_close(&rig);
}

static void digests_come_by_themselves(void) {
    struct rig_options options = {.local = true, .scrub_rate = 1 << 30};
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX];
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;
    static const char unread[] = "SELECT COUNT(*) FROM layers WHERE state = 'frozen'"
                                 " AND COALESCE(file_digest, '') = ''";
    static const char found[] = "SELECT COUNT(*) FROM layers WHERE damage <> ''";
    IM_AUTO(free_auto) char *folder = im_printf("%s/itself", test_folder());
    IM_AUTO(free_auto) char *path = NULL;

    open_rig("itself");
    make_volume(volume);
    take_point(volume, point, layer);
    rig_close(&rig);
    rig_open(&rig, folder, &options);
    while (rig_number(&rig, unread) > 0 && im_mono_ms() < deadline)
        im_sleep_ms(20);
    check(rig_number(&rig, unread) == 0, "frozen layers get digests in the background");
    rig_close(&rig);
    open_rig("itself");
    path = file_of("pool", layer);
    check(flip(path, FILLING), "a bit turns over");
    rig.cloud->config.scrub_rate_bytes = 1 << 30;
    rig.cloud->config.scrub_interval_s = -5;
    {
        struct im_err err = {0};

        check(scrub_start(rig.cloud, &err), "the background reads again %s", err.text);
    }
    deadline = im_mono_ms() + RIG_WAIT_MS;
    while (rig_number(&rig, found) == 0 && im_mono_ms() < deadline)
        im_sleep_ms(20);
    check(rig_number(&rig, found) == 1 && damaged(point), "and finds it");
    rig_close(&rig);
}

/* --- Losses --------------------------------------------------------------------------------- */

static void reopen_after_loss(const char *name, int64_t *ret_lost) {
    struct rig_options options = {.local = true, .not_started = true};
    IM_AUTO(free_auto) char *folder = im_printf("%s/%s", test_folder(), name);

    rig_open(&rig, folder, &options);
    check_ok(cloud_pool_accept_loss(rig.db, rig.pool, ret_lost, &err), "the loss is accepted");
    check_ok(cloud_start(rig.cloud, &err), "and all starts");
}

static void a_lost_pool_comes_back(void) {
    char volume[IM_ID_MAX], first[IM_ID_MAX], second[IM_ID_MAX], below[IM_ID_MAX], above[IM_ID_MAX];
    char instance[IM_ID_MAX], why[512];
    int64_t lost = 0;

    open_rig("pool-lost");
    make_volume(volume);
    take_point(volume, first, below);
    take_point(volume, second, above);
    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, false, instance);
    check(done(&rig.alice, cloud_snapshots_copy, second), "a point with its chain is copied");
    rig_close(&rig);
    open_rig("pool-lost"); /* for its folder */
    remove_tree("pool");
    rig_close(&rig);
    reopen_after_loss("pool-lost", &lost);
    check(lost == 5, "all its layers are marked (%d)", (int) lost);
    check(damaged(first) && damaged(second), "so are the points");
    check_refusal(&rig.alice, cloud_instances_start, instance, "lost",
                  "an instance says why it does not start");
    check(!volume_from(&rig.alice, second, why) && strstr(why, "damaged") != NULL,
          "nothing is made from a point: %s", why);
    check(done(&rig.alice, cloud_snapshots_restore, second), "the copied point is restored");
    check(!damaged(first) && !damaged(second), "and with it the one that it stands on");
    {
        IM_AUTO(free_auto) char *here = file_of("pool", above);
        IM_AUTO(free_auto) char *there = file_of("second", above);

        check(same_bytes(here, there), "byte for byte");
    }
    check(done(&rig.alice, cloud_snapshots_apply, second), "the lost volume is rolled back to it");
    {
        IM_AUTO(volume_free_auto) struct volume *row = NULL;

        rig_round(&rig);
        for (int64_t until = im_mono_ms() + RIG_WAIT_MS;
             (row = rig_volume_row(&rig, volume))->damaged && im_mono_ms() < until; im_sleep_ms(20))
            volume_free(im_steal(&row));
        check(row->damaged == 0, "and is whole again");
    }
    check(volume_from(&rig.alice, first, why), "volumes are made of the points %s", why);
    rig_discard(&rig, instance);
    rig_close(&rig);
}

/* It was only not mounted after all. */
static void a_pool_was_not_lost(void) {
    char instance[IM_ID_MAX];
    IM_AUTO(free_auto) char *here = NULL;
    IM_AUTO(free_auto) char *aside = NULL;
    IM_AUTO(free_auto) char *text = NULL;
    int64_t lost = 0;

    open_rig("not-lost");
    here = im_printf("%s/pool", rig.folder);
    aside = im_printf("%s/aside", rig.folder);
    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, false, instance);
    rig_close(&rig);
    check(rename(here, aside) == 0, "a pool is away");
    reopen_after_loss("not-lost", &lost);
    check(lost == 2, "its layers are taken for lost");
    rig_close(&rig);
    rig.folder = im_printf("%s/not-lost", test_folder());
    remove_tree("pool");
    free(rig.folder);
    check(rename(aside, here) == 0, "it is there again");
    open_rig("not-lost");
    text = scrub();
    check(text[0] == '\0' &&
              rig_number(&rig, "SELECT COUNT(*) FROM layers WHERE damage <> ''") == 0,
          "the scrub takes the marks away %s", text);
    check(done(&rig.alice, cloud_instances_start, instance), "its instance starts");
    rig_check_clean(&rig, "a pool that was not lost");
    rig_close(&rig);
}

static void a_lost_record_comes_back(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX], why[512];
    IM_AUTO(copy_list_done) struct copy_list list = {0};
    struct im_err err = {0};

    open_rig("record-lost");
    make_volume(volume);
    take_point(volume, point, layer);
    check(done(&rig.alice, cloud_snapshots_copy, point), "a point is copied");
    rig_close(&rig);
    rig.folder = im_printf("%s/record-lost", test_folder());
    remove_tree("pool");
    for (int i = 0; i < 3; i++) {
        static const char *const ends[] = {"", "-wal", "-shm"};
        IM_AUTO(free_auto) char *path = im_printf("%s/record%s", rig.folder, ends[i]);

        check(unlink(path) == 0 || errno == ENOENT, "the record%s is removed", ends[i]);
    }
    free(rig.folder);
    open_rig("record-lost");
    check(rig_snapshot_row(&rig, point) == NULL, "nothing is known of it");
    check_refusal(&rig.alice, cloud_snapshots_restore, point, "does not exist",
                  "who is not its owner cannot have it");
    check(cloud_copies(rig.cloud, &rig.admin, &list, &err) && list.count == 1 &&
              im_str_equal(list.items[0].snapshot->snapshot_id, point) && list.items[0].whole,
          "an administrator sees the copy");
    check(done(&rig.admin, cloud_snapshots_restore, point), "and restores it");
    check(volume_from(&rig.admin, point, why), "volumes are made of it %s", why);
    rig_check_clean(&rig, "a lost record");
    rig_close(&rig);
}

/* --- A second pool in trouble --------------------------------------------------------------- */

static void second_is_away(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX];
    IM_AUTO(free_auto) char *there = NULL;
    IM_AUTO(free_auto) char *aside = NULL;

    open_rig("away");
    there = im_printf("%s/second", rig.folder);
    aside = im_printf("%s/aside", rig.folder);
    make_volume(volume);
    take_point(volume, point, layer);
    check(done(&rig.alice, cloud_snapshots_copy, point), "a point is copied");
    check(rename(there, aside) == 0 && mkdir(there, 0755) == 0, "the second pool is not mounted");
    check_refusal(&rig.alice, cloud_snapshots_copy, point, "mounted",
                  "nothing is copied beside it");
    check_refusal(&rig.alice, cloud_snapshots_restore, point, "mounted", "nor restored");
    check(rmdir(there) == 0, "nothing was written there");
    check(rename(aside, there) == 0 && done(&rig.alice, cloud_snapshots_copy, point),
          "once it is mounted all goes on");
    rig_check_clean(&rig, "a second pool that was away");
    rig_close(&rig);
}

static void second_is_full(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX];
    IM_AUTO(free_auto) char *there = NULL;
    bool copied = false;
    int files = 0, full = 0;

    open_rig("full");
    there = im_printf("%s/second", rig.folder);
    make_volume(volume);
    take_point(volume, point, layer);
    if (mkdir(there, 0755) < 0 || mount("full", there, "tmpfs", 0, "size=1m") < 0) {
        test_note("no file system of a megabyte can be mounted: %s", strerror(errno));
        rig_close(&rig);
        return;
    }
    check_refusal(&rig.alice, cloud_snapshots_copy, point, "too full", "it is seen before");
    while (!copied && files < 64) {
        IM_AUTO(free_auto) char *options = im_printf("size=16m,nr_inodes=%d", ++files);
        IM_AUTO(free_auto) char *text = NULL;

        if (mount("full", there, "tmpfs", MS_REMOUNT, options) < 0)
            continue; /* less than there is */
        text = refusal(&rig.alice, cloud_snapshots_copy, point);
        copied = text[0] == '\0';
        full += strstr(text, "No space left") != NULL;
        if (!copied && strstr(text, "No space left") == NULL)
            check(false, "with room for %d files: %s", files, text);
    }
    check(copied && full > 1, "full at %d steps, each time told; with room it is copied", full);
    rig_check_clean(&rig, "a full second pool");
    check(umount(there) == 0, "it goes");
    rig_close(&rig);
}

/* Writes a note as somebody else might. */
static void put_note(const char *name, const char *text) {
    IM_AUTO(free_auto) char *path = im_printf("%s/second/notes/%s.json", rig.folder, name);
    struct im_err err = {0};

    check(im_write_file(path, text, strlen(text), 0600, &err), "a strange note %s", err.text);
}

static char *read_note(const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("%s/second/notes/%s.json", rig.folder, name);
    char *text = NULL;
    struct im_err err = {0};

    return im_read_file(path, STORAGE_NOTE_MAX, &text, NULL, &err) ? text : im_strdup("");
}

static char *with(const char *text, const char *old, const char *new) {
    const char *at = strstr(text, old);

    return at ? im_printf("%.*s%s%s", (int) (at - text), text, new, at + strlen(old))
              : im_strdup("{}");
}

static void notes_are_not_believed(void) {
    char volume[IM_ID_MAX], point[IM_ID_MAX], layer[IM_ID_MAX];
    IM_AUTO(free_auto) char *good = NULL;
    IM_AUTO(free_auto) char *good_layer = NULL;
    IM_AUTO(free_auto) char *here = NULL;
    IM_AUTO(free_auto) char *fifo = NULL;

    open_rig("notes");
    make_volume(volume);
    take_point(volume, point, layer);
    check(done(&rig.alice, cloud_snapshots_copy, point), "a point is copied");
    here = file_of("pool", layer);
    check(unlink(here) == 0, "its layer is lost");
    free(scrub());
    /* The scrub has brought it back. */
    check(access(here, F_OK) == 0 && unlink(here) == 0, "and again");
    good = read_note(point);
    good_layer = read_note(layer);
    {
        IM_AUTO(free_auto) char *self = im_printf("\"parent\":\"%s\"", layer);
        IM_AUTO(free_auto) char *other = im_printf("\"layer\":\"%s\"", layer);
        const struct {
            const char *name, *from, *old, *new, *words;
        } cases[] = {
            {point, "", "", "", "line 1"},
            {point, "[1,2", "", "", "line 1"},
            {point, good, "snapshot 1", "snapshot 9", "another program"},
            {point, good, other, "\"layer\":\"../../pool\"", "of no layer"},
            {point, good, point, "ss-another1", "another snapshot"},
            {point, good, "\"disk_size\":20", "\"disk_size\":-1", "out of range"},
            {point, good, "\"resource_type\":\"volume\"", "\"resource_type\":7", "resource_type"},
            {point, good, "a point", "a\\u0007point", "control character"},
            {layer, good_layer, "\"parent\":\"\"", self, "no name"},
            {layer, good_layer, "\"parent\":\"\"", "\"parent\":\"../x\"", "no name"},
            {layer, good_layer, "\"parent\":\"\"", "\"parent\":\"l-gone\"", "no note of l-gone"},
            {layer, good_layer, "sha256:", "sha256:zz", "out of range"},
            {layer, good_layer, "\"size_bytes\":", "\"size_bytes\":1,\"x\":", "out of range"},
            {layer, good_layer, "\"size_bytes\":", "\"size_bytes\":1024,\"x\":", "another layer"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            IM_AUTO(free_auto)
            char *text = cases[i].old[0] ? with(cases[i].from, cases[i].old, cases[i].new)
                                         : im_strdup(cases[i].from);

            put_note(cases[i].name, text);
            check_refusal(&rig.alice, cloud_snapshots_restore, point, cases[i].words, "refused");
            put_note(point, good);
            put_note(layer, good_layer);
        }
    }
    fifo = im_printf("%s/second/notes/%s.json", rig.folder, point);
    check(unlink(fifo) == 0 && mkfifo(fifo, 0600) == 0, "a note that is a fifo");
    check_refusal(&rig.alice, cloud_snapshots_restore, point, "no regular file", "refused");
    check(unlink(fifo) == 0, "it goes");
    put_note(point, good);
    check(done(&rig.alice, cloud_snapshots_restore, point) && access(here, F_OK) == 0,
          "the good notes lead to the layer");
    put_note("ss-strange1", "{");
    check(done(&rig.alice, cloud_copies_delete, point), "a copy is deleted beside a strange note");
    {
        IM_AUTO(free_auto) char *there = file_of("second", layer);

        check(access(there, F_OK) == 0, "nothing is swept out while one note cannot be read");
    }
    check(done(&rig.admin, cloud_copies_delete, "ss-strange1"), "an administrator removes it");
    {
        IM_AUTO(free_auto) char *there = file_of("second", layer);

        check(access(there, F_OK) != 0, "then it is");
    }
    rig_check_clean(&rig, "strange notes");
    rig_close(&rig);
}

int main(void) {
    copies_take_only_what_is_new();
    copies_outlive_merges();
    rot_is_found();
    rot_is_put_right();
    digests_come_by_themselves();
    a_lost_pool_comes_back();
    a_pool_was_not_lost();
    a_lost_record_comes_back();
    second_is_away();
    second_is_full();
    notes_are_not_believed();
    return test_end();
}
