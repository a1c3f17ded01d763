/* SPDX-License-Identifier: Apache-2.0 */
/* Chains get shorter inside a running QEMU: while its owner is killed, is asked for other things,
 * or has no room left. Usage: test-pull NANO.BIN */
#include "libvirt-private.h"

#include <dirent.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "harness/run.h"
#include "test-guest.h"

/* The image is layer 0; each layer above it has a pattern of its own at its place, and so has the
 * head, the last. */
enum { LAYERS = 7, LAYER_MIB = 4, SLOWLY = 512 << 10 };

static char *uri;
static const char *files[LAYERS], *head; /* of the layers; the head may lie elsewhere */
static char *small;                      /* a file system of a few megabytes */

/* As imprintd gives them. */
static bool hand_over(const char *path) {
    const struct passwd *user = guest_user[0] != '\0' ? getpwnam(guest_user) : NULL;

    return user == NULL || chown(path, user->pw_uid, user->pw_gid) == 0;
}

static bool layer_make(int i) {
    IM_AUTO(free_auto) char *below = im_printf("l%d.qcow2", i - 1);
    IM_AUTO(free_auto)
    char *own = im_printf("write -P %d %dM %dM", i, i * LAYER_MIB, LAYER_MIB);
    IM_AUTO(free_auto) char *over = im_printf("write -P %d 60M 64k", i);

    return RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", files[i]) &&
           RUN("qemu-io", "-f", "qcow2", "-c", own, "-c", over, files[i]);
}

/* Anew, whatever became of them. */
static bool layers_make(void) {
    bool made = unlink(files[0]) == 0 || true;

    made = RUN("qemu-img", "convert", "-f", "raw", "-O", "qcow2", guest_base, files[0]) &&
           RUN("qemu-img", "resize", "-q", "-f", "qcow2", files[0], "64M");
    for (int i = 1; i < LAYERS && made; i++)
        made = layer_make(i);
    head = files[LAYERS - 1];
    return made && hand_over(head);
}

/* What the head and the layers that it is said to stand on hold. */
static bool holds(const char *path, int first) {
    bool all = true;

    for (int i = first; i < LAYERS && all; i++) {
        IM_AUTO(free_auto)
        char *read = im_printf("read -P %d %dM %dM", i, i * LAYER_MIB, LAYER_MIB);
        IM_AUTO(free_auto) char *over = im_printf("read -P %d 60M 64k", LAYERS - 1);

        all = RUN("sh", "-c", "! qemu-io -r -f qcow2 -c \"$1\" -c \"$2\" \"$3\" | grep -q failed",
                  "sh", read, over, path);
    }
    return all;
}

static bool start(struct virt *virt, struct im_err *err) {
    struct virt_layer layers[LAYERS];
    const struct virt_disk disk = {"i-nano", layers, LAYERS, false};
    const struct virt_machine machine = {.name = "i-nano",
                                         .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2d",
                                         .vcpus = 1,
                                         .memory_mib = 16,
                                         .firmware = "bios",
                                         .disks = &disk,
                                         .disk_count = 1};

    for (int i = 0; i < LAYERS; i++)
        layers[i] = (struct virt_layer){i == 0 ? head : files[LAYERS - 1 - i], "qcow2"};
    return virt_start(virt, &machine, err);
}

static struct virt_config config(void) {
    return (struct virt_config){uri, "tcg", 32, guest_state_dir, guest_user};
}

static void set_paths(const char *where) {
    guest_set_paths(where, "libvirt/run/qemu");
    uri = im_printf("qemu:///embed?root=%s/libvirt", where);
    small = im_printf("%s/small", where);
    for (int i = 0; i < LAYERS; i++)
        files[i] = im_printf("%s/l%d.qcow2", where, i);
    head = files[LAYERS - 1];
}

/* The other roles of this program, as one process has one driver: owns it, starts the machine,
 * pulls, and waits to be killed; or is the next owner. */
static int own(const char *rate) {
    struct virt_config its = config();
    struct im_err err = {0};
    struct virt *virt = virt_open(&its, NULL, NULL, &err);

    if (virt == NULL || !start(virt, &err) ||
        !virt_pull_begin(virt, "i-nano", "i-nano", files[1], strtoull(rate, NULL, 10), &err)) {
        fprintf(stderr, "%s\n", err.text);
        _exit(1);
    }
    printf("pulling\n");
    fflush(stdout);
    pause();
    return 0;
}

/* --- Looking ---------------------------------------------------------------------------------- */

/* How many layers the hypervisor says there are; 0: it does not tell, or names another head. */
static size_t depth(struct virt *virt, bool *ret_pulling) {
    IM_AUTO(virt_chain_done) struct virt_chain chain = {0};
    struct im_err err = {0};

    if (!virt_disk_chain(virt, "i-nano", "i-nano", &chain, &err)) {
        test_note("%s", err.text);
        return 0;
    }
    if (ret_pulling != NULL)
        *ret_pulling = chain.pulling;
    return chain.paths.count > 0 && strcmp(chain.paths.items[0], head) == 0 ? chain.paths.count : 0;
}

static bool pulling(struct virt *virt) {
    bool now = false;

    return depth(virt, &now) > 0 && now;
}

static void await_end(struct virt *virt) {
    int64_t deadline = im_mono_ms() + GUEST_PATIENCE_MS;

    while (pulling(virt) && im_mono_ms() < deadline)
        im_sleep_ms(20);
}

/* How many layers QEMU's process really has open. */
static unsigned open_layers(void) {
    IM_AUTO(free_auto) char *folder = im_printf("/proc/%d/fd", (int) guest_pid());
    DIR *dir = opendir(folder);
    struct dirent *entry;
    unsigned count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char target[PATH_MAX] = "";

        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1) > 0)
            count += strstr(target, ".qcow2") != NULL;
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

/* What the header of the head names, as another program reads it. */
static bool names_already(const char *backing) {
    IM_AUTO(free_auto) char *line = im_printf("\"backing-filename\": \"%s\"", backing);
    struct im_err ignored = {0};

    return im_run((const char *[]){"sh", "-c",
                                   "qemu-img info -U --output=json \"$1\" | grep -qF \"$2\"", "sh",
                                   head, line, NULL},
                  NULL, TEST_RUN_MS, NULL, &ignored);
}

static bool header_names(const char *backing) {
    return names_already(backing) && RUN("sh", "-c",
                                         "qemu-img info -U --output=json \"$1\" | "
                                         "grep -qF '\"backing-filename-format\": \"qcow2\"'",
                                         "sh", head);
}

/* --- The tests -------------------------------------------------------------------------------- */

static void stop(struct virt *virt) {
    check_ok(virt_destroy(virt, "i-nano", &err), "the plug is pulled");
    virt_forget(virt, "i-nano"); /* what it said */
}

static void goes_on(struct virt *virt, int boots) {
    IM_AUTO(free_auto) char *said = im_printf("boots=%08x", boots);

    check_ok(virt_reset(virt, "i-nano", &err), "reset");
    check(guest_said(said), "the guest reads and writes its disk");
}

static void ended_early(struct virt *virt) {
    struct virt_switch other = {"i-nano", "/nowhere.qcow2"};
    IM_AUTO(virt_chain_done) struct virt_chain chain = {0};

    check(layers_make(), "layers");
    check_ok(start(virt, &err), "a machine on them");
    check(guest_said("boots=00000001"), "boots");
    check(depth(virt, NULL) == LAYERS && !pulling(virt), "its disk is %d layers", LAYERS);
    check_ok(virt_disk_chain(virt, "i-nano", "i-nano", &chain, &err), "each of them");
    for (int i = 0; i < LAYERS; i++)
        check(strcmp(chain.paths.items[i], files[LAYERS - 1 - i]) == 0, "%s", chain.paths.items[i]);
    check_err(virt_disk_chain(virt, "i-nano", "vol-x", &chain, &err), IM_NOT_FOUND,
              "a disk that it does not have");
    check_err(virt_pull_end(virt, "i-none", "vol-x", &err), IM_NOT_FOUND, "another machine");
    check_ok(virt_pull_end(virt, "i-nano", "i-nano", &err), "nothing is ended");
    check_ok(virt_pull_begin(virt, "i-nano", "i-nano", files[1], SLOWLY, &err), "it is pulled");
    check(pulling(virt), "slowly");
    check(!virt_switch_disks(virt, "i-nano", &other, 1, &(struct im_err){0}),
          "meanwhile the disk is not switched");
    check_ok(virt_pull_end(virt, "i-nano", "i-nano", &err), "that is ended");
    check(!pulling(virt) && depth(virt, NULL) == LAYERS, "and the chain is what it was");
    check(header_names("l5.qcow2"), "for others too");
    goes_on(virt, 2);
}

static void shortened(struct virt *virt) {
    check_ok(virt_pull_begin(virt, "i-nano", "i-nano", files[1], 0, &err), "pulled once more");
    await_end(virt);
    check(depth(virt, NULL) == 3, "the disk is three layers");
    check(open_layers() == 3, "and QEMU has three open: %u", open_layers());
    check(header_names("l1.qcow2"), "whose head names the lowest but one without a folder");
    check_ok(virt_disk_settle(virt, "i-nano", "i-nano", "l1.qcow2", &err), "that is written down");
    check(header_names("l1.qcow2"), "without a folder");
    goes_on(virt, 3);
    stop(virt);
    for (int i = 2; i < LAYERS - 1; i++)
        unlink(files[i]);
    check(holds(head, 1), "without the layers between the disk holds all");
    check(RUN("qemu-img", "check", "-q", head), "and is whole");
}

/* As when imprintd merges layers under it: the names are others' now. */
static void names_mislead(struct virt *virt) {
    check(layers_make(), "layers");
    check_ok(start(virt, &err), "a machine on them");
    check(guest_said("boots=00000001"), "boots");
    check(unlink(files[3]) == 0 && RUN("cp", files[4], guest_next) &&
              RUN("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "l2.qcow2",
                  guest_next) &&
              rename(guest_next, files[4]) == 0,
          "two of them have become one for the others");
    check_ok(virt_pull_begin(virt, "i-nano", "i-nano", files[1], 0, &err), "it is pulled");
    await_end(virt);
    check(depth(virt, NULL) == 3 && open_layers() == 3, "to three layers");
    check_ok(virt_disk_settle(virt, "i-nano", "i-nano", "l1.qcow2", &err), "that is written down");
    check(header_names("l1.qcow2"), "without a folder");
    kill(guest_pid(), SIGKILL);
    check_ok(virt_wait_off(virt, "i-nano", GUEST_PATIENCE_MS, NULL, &err), "QEMU is killed");
    stop(virt);
    unlink(files[2]);
    check(holds(head, 1), "the disk holds all");
}

/* The layers of a head that is nearly full: libvirt is told where it is. */
static void no_room(struct virt *virt) {
    check(layers_make(), "layers");
    if (mkdir(small, 0755) < 0 || mount("small", small, "tmpfs", 0, "size=6m") < 0) {
        test_note("no small file system can be mounted");
        return;
    }
    head = im_printf("%s/head.qcow2", small);
    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", files[LAYERS - 2], "-F", "qcow2",
              head) &&
              hand_over(head),
          "a head with little room");
    check_ok(start(virt, &err), "a machine on it");
    check(guest_said("boots=00000001"), "boots");
    check_ok(virt_pull_begin(virt, "i-nano", "i-nano", files[1], 0, &err), "it is pulled");
    await_end(virt);
    check_ok(virt_pull_end(virt, "i-nano", "i-nano", &err), "that ends");
    check(depth(virt, NULL) == LAYERS && header_names(files[LAYERS - 2]), "and nothing changed");
    check_ok(virt_disk_settle(virt, "i-nano", "i-nano", files[LAYERS - 2], &err), "all is kept");
    goes_on(virt, 2);
    stop(virt);
    umount2(small, MNT_DETACH);
}

static pid_t owner_start(const char *self, const char *rate) {
    IM_AUTO(free_auto) char *log = im_printf("%s/owner-%s.log", guest_folder, rate);
    struct im_err err = {0};
    pid_t owner = -1;

    check_ok(im_start((const char *[]){self, "--own", guest_folder, rate, NULL}, log, &owner, &err),
             "an owner starts");
    if (!check(guest_file_has(log, "pulling"), "its machine is being pulled"))
        (void) !RUN("sh", "-c", "cat \"$1\" >&2; false", "sh", log);
    (void) err;
    return owner;
}

/* Its owner was killed in the middle of it. */
static int own_next(void) {
    struct virt_config its = config();
    struct im_err err = {0};
    struct virt *virt = virt_open(&its, NULL, NULL, &err);
    bool well = virt != NULL && pulling(virt) && depth(virt, NULL) == LAYERS &&
                virt_pull_end(virt, "i-nano", "i-nano", &err) && !pulling(virt) &&
                depth(virt, NULL) == LAYERS && virt_destroy(virt, "i-nano", &err);

    fprintf(stderr, "%s\n", err.text);
    _exit(!well);
}

static void kill_owner(pid_t owner) {
    check(kill(owner, SIGKILL) == 0 && waitpid(owner, NULL, 0) == owner, "its owner is killed");
}

/* QEMU goes on alone, and gets done, or the next owner ends it. */
static struct virt *owner_dies(const char *self) {
    struct virt_config its = config();
    int64_t deadline = im_mono_ms() + GUEST_PATIENCE_MS;
    struct im_err err = {0};
    struct virt *virt;
    pid_t owner;

    check(layers_make(), "layers");
    kill_owner(owner_start(self, "524288"));
    check(RUN(self, "--next", guest_folder, ""), "the next finds it being pulled, and ends that");

    check(layers_make(), "layers");
    owner = owner_start(self, "4194304");
    check(kill(owner, SIGSTOP) == 0, "its owner does not look");
    while (!names_already("l1.qcow2") && im_mono_ms() < deadline)
        im_sleep_ms(100);
    kill_owner(owner);
    virt = virt_open(&its, NULL, NULL, &err);
    if (!check(virt != NULL, "a new one opens %s", err.text))
        return NULL;
    check_ok(virt_pull_end(virt, "i-nano", "i-nano", &err), "nothing is ended");
    check(depth(virt, NULL) == 3 && open_layers() == 3, "it finds three layers: %u", open_layers());
    stop(virt);
    return virt;
}

int main(int argc, char **argv) {
    struct virt *virt;

    if (argc == 4) {
        set_paths(argv[2]);
        return argv[3][0] != '\0' ? own(argv[3]) : own_next();
    }
    if (!guest_have("qemu-system-x86_64") || !guest_have("qemu-img"))
        test_skip_all("QEMU is not installed");
    set_paths(test_folder());
    atexit(guest_kill);
    chmod(guest_folder, 0755);
    check(argc == 2 && guest_make_disk(argv[1]), "a disk with a boot sector");
    virt = owner_dies(argv[0]);
    if (virt != NULL) {
        ended_early(virt);
        shortened(virt);
        names_mislead(virt);
        no_room(virt);
        virt_close(virt);
    }
    umount2(small, MNT_DETACH);
    return test_end();
}
