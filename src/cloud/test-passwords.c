/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords of Windows: sealed in the record, plain on the seed only, and gone from both when the
 * machine has had them. Those of other systems stay hashes. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "test-verbs.h"

#define IMAGE "img-windows1"
#define FIRST "Secret4first"
#define SECOND "Secret4second"
#define THIRD "Secret4third"

static struct rig rig;

/* --- Looking -------------------------------------------------------------------------------- */

static struct {
    const char *text;
    size_t files, seeds;
} hunt;

static int hunt_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    IM_AUTO(free_auto) char *bytes = NULL;
    struct im_err err = {0};
    size_t len = 0;

    (void) at;
    if (type != FTW_F || !S_ISREG(st->st_mode) || st->st_size > 32 << 20 ||
        !im_read_file(path, 32 << 20, &bytes, &len, &err) ||
        memmem(bytes, len, hunt.text, strlen(hunt.text)) == NULL)
        return 0;
    hunt.files++;
    hunt.seeds += strstr(path, "/seeds/") != NULL;
    return 0;
}

/* In which files of the cloud the text stands: how many, and all of them seeds? -1: not all. */
static int seeds_with(const char *text) {
    hunt.text = text;
    hunt.files = hunt.seeds = 0;
    nftw(rig.folder, hunt_one, 16, FTW_PHYS);
    return hunt.files == hunt.seeds ? (int) hunt.files : -1;
}

static bool seed_has(const char *id, const char *text) {
    IM_AUTO(free_auto) char *path = im_printf("%s/seeds/%s.iso", rig.folder, id);
    IM_AUTO(free_auto) char *bytes = NULL;
    struct im_err err = {0};
    size_t len = 0;

    return im_read_file(path, 32 << 20, &bytes, &len, &err) &&
           memmem(bytes, len, text, strlen(text)) != NULL;
}

static bool sealed_is(const char *id, const char *password) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(&rig, id);
    struct im_err err = {0};
    char *plain = NULL;
    bool is;

    if (password == NULL)
        return im_str_empty(instance->passwd_sealed) && im_str_empty(instance->passwd_hash);
    is = plain_open(rig.cloud, instance, &plain, &err) && im_str_equal(plain, password) &&
         im_str_empty(instance->passwd_hash);
    plain_forget(plain);
    return is;
}

/* --- Doing ---------------------------------------------------------------------------------- */

static void sql(const char *text) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig.db, &err);
    int64_t changed = 0;

    if (conn == NULL || !db_exec(conn, &changed, &err, text, "") || changed == 0)
        check(false, "%s: %s", text, err.text);
}

/* A machine with a password and a script; its title tells the hypervisor in memory whether it has
 * an agent. */
static void run(const char *title, bool start, char ret_id[IM_ID_MAX]) {
    struct instance_run_args args = rig_run_args(IMAGE);
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX] = "";

    args.instance_name = title;
    args.login_mode = "passwd";
    args.login_passwd = FIRST;
    args.no_start = !start;
    args.need_userdata = 1;
    args.userdata_value = "I3BzMQo="; /* "#ps1\n" */
    check_ok(cloud_instances_run(rig.cloud, &rig.alice, &args, &ids, job_id, &err), "a machine");
    check(rig_done(&rig, job_id), "is made");
    snprintf(ret_id, IM_ID_MAX, "%s", ids.count > 0 ? ids.items[0] : "");
}

static void reset(const char *id, const char *password) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    char job_id[IM_JOB_ID_MAX] = "";

    check_ok(cloud_password_reset(rig.cloud, &rig.alice, &ids, password, job_id, &err),
             "ResetPassword");
    check(rig_done(&rig, job_id), "is done");
}

static void power(const char *id, bool on) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    struct im_err err = {0};
    char job_id[IM_JOB_ID_MAX] = "";

    check((on ? cloud_instances_start(rig.cloud, &rig.alice, &ids, job_id, &err)
              : cloud_instances_stop(rig.cloud, &rig.alice, &ids, true, job_id, &err)) &&
              rig_done(&rig, job_id),
          "%s: %s", on ? "on" : "off", err.text);
}

static void pass(int64_t seconds) {
    IM_AUTO(free_auto)
    char *text = im_printf("UPDATE instances SET passwd_time = passwd_time - %lld WHERE "
                           "passwd_sealed <> ''",
                           (long long) seconds);

    sql(text);
    check_ok(plain_round(rig.cloud, &err), "%lld s pass", (long long) seconds);
}

/* --- What is tried -------------------------------------------------------------------------- */

static void handed_over(void) {
    char id[IM_ID_MAX];

    run("web", false, id);
    check(sealed_is(id, FIRST) && seeds_with(FIRST) == 0, "before a start it is sealed only");
    power(id, true);
    check(sealed_is(id, FIRST) && seeds_with(FIRST) == 1 && seed_has(id, "admin_pass") &&
              seed_has(id, "Administrator") && seed_has(id, "#ps1"),
          "a start has it on its seed, and nothing else has it");
    pass(60);
    check(sealed_is(id, FIRST) && seed_has(id, FIRST), "for a minute at least");
    pass(3600);
    check(sealed_is(id, NULL) && seeds_with(FIRST) == 0,
          "when its agent is there it goes, all of it");
    check(seed_has(id, "admin_username") && !seed_has(id, "admin_pass") && seed_has(id, id),
          "the seed is that of the same machine still");
    reset(id, SECOND);
    check(sealed_is(id, NULL) && seeds_with(SECOND) == 0, "an agent sets a new one, none is kept");
    power(id, false);
    reset(id, THIRD);
    check(sealed_is(id, THIRD) && seeds_with(THIRD) == 0, "stopped, it waits for the seed");
    power(id, true);
    check(seeds_with(THIRD) == 1 && seed_has(id, "-p1") && !seed_has(id, "#ps1"),
          "which cloudbase-init sees as new, without what has run before");
    rig_discard(&rig, id);
}

static void without_agent(void) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char id[IM_ID_MAX];

    run("deaf", true, id);
    pass(3600);
    check(sealed_is(id, FIRST), "without an agent it may still have to read it");
    reset(id, SECOND);
    check(sealed_is(id, SECOND) && seeds_with(FIRST) == 0 && seeds_with(SECOND) == 1,
          "so a new one takes its place at once");
    instance = rig_instance_row(&rig, id);
    check(instance->unapplied != NULL && strstr(instance->unapplied, "seed") &&
              strstr(instance->unapplied, SECOND) == NULL,
          "and is told to be on its way: %s", instance->unapplied);
    power(id, false);
    power(id, true);
    check(seed_has(id, SECOND) && seed_has(id, "-p1"), "the next start offers it anew");
    pass(5 * 3600);
    check(sealed_is(id, NULL) && seeds_with(SECOND) == 0, "after hours it goes all the same");
    rig_discard(&rig, id);
}

static void given_up(void) {
    char id[IM_ID_MAX];

    run("deaf", true, id);
    rig_discard(&rig, id);
    rig_sweep(&rig);
    check(sealed_is(id, NULL) && seeds_with(FIRST) == 0, "with the machine its password goes");
}

static void others(void) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char id[IM_ID_MAX];

    sql("UPDATE images SET platform = 'linux' WHERE image_id = '" IMAGE "'");
    run("web", true, id);
    instance = rig_instance_row(&rig, id);
    check(im_starts_with(instance->passwd_hash, "$6$") && im_str_empty(instance->passwd_sealed) &&
              seeds_with(FIRST) == 0 && seed_has(id, "user-data"),
          "a Linux gets the hash, and nothing but the hash is kept");
    rig_discard(&rig, id);
    sql("UPDATE images SET platform = 'windows' WHERE image_id = '" IMAGE "'");
}

int main(void) {
    struct rig_options options = {0};

    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, IMAGE, rig.alice.user_id, false);
    sql("UPDATE images SET platform = 'windows', default_user = '' WHERE image_id = '" IMAGE "'");
    handed_over();
    without_agent();
    others();
    given_up();
    rig_check_clean(&rig, "at the end");
    rig_close(&rig);
    return test_end();
}
