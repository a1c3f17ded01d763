/* SPDX-License-Identifier: Apache-2.0 */
/* For each verb the process is killed at its n-th call to a room below, n = 1, 2, 3 … until the
 * verb gets through (with the argument `all`, else not at each of them); machines go on running.
 * After the next start every job is finished or undone, and record, pool and machines agree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "test-moments.h"
#include "test-verbs.h"

enum { MOMENTS_MAX = 200 };

/* What the process that dies tells the one that comes after it. */
struct will {
    struct moment_machines machines;
    char subject[IM_ID_MAX], companion[IM_ID_MAX], made[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
};
static struct will *will;

static struct rig rig;

/* Also what the background does after them. */
static void jobs_end(void) {
    static const char left[] =
        "SELECT (SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'working'))"
        " + (SELECT COUNT(*) FROM layers WHERE state = 'dropping')";
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    while (im_mono_ms() < deadline && rig_number(&rig, left) > 0) {
        background_collect(rig.cloud);
        im_sleep_ms(5);
    }
}

/* --- The process that dies ------------------------------------------------------------------ */

static void live(const struct rig_verb *verb, unsigned n) {
    struct rig_options options = {.local = true};
    struct moments moments = {
        .at = n, .end = MOMENT_KILLS, .background_too = true, .main = pthread_self()};
    struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX] = "";
    struct im_err err = {0};
    bool ordered;

    rig_open(&rig, test_folder(), &options);
    rig_subject(&rig, &rig.alice, verb->subject, will->subject);
    memcpy(will->companion, rig.companion, sizeof(will->companion));
    jobs_end();
    moments_arm(&moments);
    moments_enter();
    ordered = verb->call(&rig, &rig.alice, will->subject, &made, job_id, &err);
    moments_leave();
    if (ordered) {
        snprintf(will->job_id, sizeof(will->job_id), "%s", job_id);
        snprintf(will->made, sizeof(will->made), "%s", made.count > 0 ? made.items[0] : "");
    }
    jobs_end();
    _exit(ordered ? 0 : 1);
}

/* --- The one that comes after it ------------------------------------------------------------ */

static void runs_on(const struct moment_machine *before) {
    struct virt_layer layers[MOMENT_DISKS];
    struct virt_disk disks[MOMENT_DISKS];
    struct virt_machine machine = {.name = before->name,
                                   .uuid = "00000000-0000-4000-8000-000000000000",
                                   .vcpus = 1,
                                   .memory_mib = RIG_MEMORY_MIB,
                                   .firmware = "bios",
                                   .disks = disks};
    struct im_err err = {0};

    for (int i = 0; i < MOMENT_DISKS; i++) {
        if (before->disks[i].serial[0] == '\0')
            continue;
        layers[i] = (struct virt_layer){.path = before->disks[i].path, .format = "qcow2"};
        disks[machine.disk_count++] = (struct virt_disk){
            .serial = before->disks[i].serial, .layers = &layers[i], .layer_count = 1};
    }
    if (!virt_start(rig.virt, &machine, &err))
        test_note("%s", err.text);
}

/* Machines do not end with the process that started them. */
static void machines_ran_on(void) {
    struct moment_machines before = will->machines;

    for (int i = 0; i < MOMENT_MACHINES; i++)
        if (before.items[i].name[0] != '\0')
            runs_on(&before.items[i]);
}

/* A job that calls itself successful must have led to the verb's end. */
static bool as_told(const struct rig_verb *verb) {
    IM_AUTO(job_free_auto) struct job *job = NULL;

    if (will->job_id[0] == '\0')
        return true;
    job = rig_job(&rig, will->job_id);
    return job != NULL &&
           (job->status != JOB_SUCCESSFUL || verb->reached(&rig, will->subject, will->made));
}

static void come_after(const struct rig_verb *verb) {
    struct rig_options options = {.local = true, .not_started = true};
    IM_AUTO(free_auto) char *faults = NULL;
    IM_AUTO(free_auto) char *later = NULL;
    struct im_err err = {0};
    bool told;

    rig_open(&rig, test_folder(), &options);
    memcpy(rig.companion, will->companion, sizeof(rig.companion));
    machines_ran_on();
    if (!cloud_start(rig.cloud, &err))
        test_note("start: %s", err.text);
    jobs_end();
    faults = rig_faults(&rig);
    if (faults[0] != '\0')
        test_note("%s", faults);
    told = as_told(verb);
    rig_sweep(&rig);
    jobs_end();
    later = rig_faults(&rig);
    if (later[0] != '\0')
        test_note("when all is given up: %s", later);
    rig_close(&rig);
    fflush(stdout);
    _exit(faults[0] == '\0' && later[0] == '\0' && told ? 0 : 1);
}

/* --- Both, one after the other -------------------------------------------------------------- */

static int child(void (*body)(const struct rig_verb *verb, unsigned n), const struct rig_verb *verb,
                 unsigned n) {
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        body(verb, n);
    waitpid(pid, &status, 0);
    return status;
}

static void after(const struct rig_verb *verb, unsigned n) {
    (void) n;
    come_after(verb);
}

static void prepare(const struct rig_verb *verb, unsigned n) {
    struct rig_options options = {.local = true};

    (void) verb, (void) n;
    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    rig_close(&rig);
    _exit(0);
}

/* False when the verb got through, or when going on makes no sense. */
static bool round_once(const struct rig_verb *verb, unsigned n) {
    int died, fine;

    will->job_id[0] = will->made[0] = '\0';
    died = child(live, verb, n);
    fine = child(after, verb, n);
    if (!WIFSIGNALED(died) && died != 0)
        return check(false, "%s is ordered", verb->name);
    return check(fine == 0, "%s, killed at call %u", verb->name, n) && WIFSIGNALED(died);
}

int main(int argc, char **argv) {
    will = mmap(NULL, sizeof(*will), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    moment_machines = &will->machines;
    (void) test_folder();
    moments_all(&argc, argv);
    check(child(prepare, NULL, 0) == 0, "an image to begin with");
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++) {
        unsigned n = 1;

        if (argc > 1 && strstr(verb->name, argv[1]) == NULL)
            continue;
        while (n < MOMENTS_MAX && round_once(verb, n))
            n = moment_next(n, (size_t) (verb - rig_verbs));
        check(n > 1 && n < MOMENTS_MAX, "%s gets through in fewer than %u calls", verb->name, n);
    }
    return test_end();
}
