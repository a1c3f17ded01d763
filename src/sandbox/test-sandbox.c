/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox alone, without the gate: plain qemu-img on images that refer to a file of the host.
 * Outside the sandbox each of them lets the file out, which is checked first: else nothing would be
 * proven. And what a process that entered it can no longer do. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "harness/test.h"
#include "sandbox/sandbox.h"

#define SECRET "the secret of the host"

static char *secret;

static char *place(const char *name) { return im_printf("%s/%s", test_folder(), name); }

static bool holds_secret(const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    size_t len;

    return im_read_file(path, 64u << 20, &text, &len, &err) &&
           memmem(text, len, SECRET, strlen(SECRET)) != NULL;
}

static void write_file(const char *path, const char *text) {
    struct im_err err = {0};

    if (!im_write_file(path, text, strlen(text), 0644, &err))
        abort();
}

/* --- The four leaks --------------------------------------------------------------------------- */

static bool make_flat(const char *image) {
    IM_AUTO(free_auto)
    char *text = im_printf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
                           "createType=\"monolithicFlat\"\nRW 8 FLAT \"%s\" 0\n",
                           secret);

    write_file(image, text);
    return true;
}

static bool make_backed(const char *image) {
    const char *argv[] = {"qemu-img", "create", "-q",  "-f",  "qcow2", "-b",
                          secret,     "-F",     "raw", image, NULL};
    struct im_err err = {0};

    return im_run(argv, NULL, 60000, NULL, &err);
}

static bool make_json(const char *image) {
    IM_AUTO(free_auto)
    char *json = im_printf(
        "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}", secret);
    const char *argv[] = {"qemu-img", "create", "-q",  "-u",  "-f",   "qcow2", "-b",
                          json,       "-F",     "raw", image, "4096", NULL};
    struct im_err err = {0};

    return im_run(argv, NULL, 60000, NULL, &err);
}

/* The data file is made over the secret's name, then gets the secret's content back. */
static bool make_data_file(const char *image) {
    IM_AUTO(free_auto) char *options = im_printf("data_file=%s,data_file_raw=on", secret);
    const char *argv[] = {"qemu-img", "create", "-q",  "-f",   "qcow2",
                          "-o",       options,  image, "4096", NULL};
    struct im_err err = {0};
    char page[4096] = SECRET;
    bool fine = im_run(argv, NULL, 60000, NULL, &err);

    return fine && im_write_file(secret, page, sizeof(page), 0644, &err);
}

static const struct {
    const char *name, *format;
    bool (*make)(const char *image);
} leaks[] = {{"flat.vmdk", "vmdk", make_flat},
             {"backing.qcow2", "qcow2", make_backed},
             {"json.qcow2", "qcow2", make_json},
             {"data-file.qcow2", "qcow2", make_data_file}};

static void test_leak(size_t which) {
    IM_AUTO(free_auto) char *image = place(leaks[which].name);
    IM_AUTO(free_auto) char *open_copy = im_printf("%s.open", image);
    IM_AUTO(free_auto) char *shut_copy = im_printf("%s.shut", image);
    const char *outside[] = {
        "/usr/bin/qemu-img", "convert", "-f", leaks[which].format, "-O", "raw", image,
        open_copy,           NULL};
    const char *inside[] = {"/usr/bin/qemu-img", "convert", "-n",  "-f",
                            leaks[which].format, "-O",      "raw", image,
                            shut_copy,           NULL};
    struct sandbox_policy policy = {.readable = (const char *[]){image, NULL},
                                    .writable = (const char *[]){shut_copy, NULL},
                                    .memory_bytes = 4ull << 30};
    IM_AUTO(free_auto) char *output = NULL;
    struct im_err why = {0};

    if (!check(leaks[which].make(image), "%s is made", leaks[which].name))
        return;
    check_ok(im_run(outside, NULL, 60000, NULL, &err), "%s: qemu-img converts it outside",
             leaks[which].name);
    check(holds_secret(open_copy), "%s: and the secret is out", leaks[which].name);
    write_file(shut_copy, "");
    (void) !truncate(shut_copy, 4096);
    (void) chmod(shut_copy, 0666);
    check(!sandbox_exec(&policy, inside, 60000, &output, &why), "%s: in the sandbox it fails: %s",
          leaks[which].name, why.text);
    check(strstr(why.text, "Permission denied") || strstr(why.text, "No such file") ||
              strstr(why.text, "Could not open"),
          "%s: because the file is not there", leaks[which].name);
    check(!holds_secret(shut_copy), "%s: and the secret stays in", leaks[which].name);
}

/* The same command on a sound image works: the sandbox is no mere wall. */
static void test_sound(void) {
    IM_AUTO(free_auto) char *image = place("sound.qcow2");
    IM_AUTO(free_auto) char *copy = place("sound.raw");
    const char *create[] = {"qemu-img", "create", "-q", "-f", "qcow2", image, "1M", NULL};
    const char *fill[] = {"qemu-io", "-c", "write -P 7 0 64k", image, NULL};
    const char *inside[] = {
        "/usr/bin/qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, copy, NULL};
    struct sandbox_policy policy = {.readable = (const char *[]){image, NULL},
                                    .writable = (const char *[]){copy, NULL},
                                    .memory_bytes = 4ull << 30};
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err why = {0};
    size_t len = 0;

    check(im_run(create, NULL, 60000, NULL, &why) && im_run(fill, NULL, 60000, NULL, &why),
          "a sound image is made");
    (void) chmod(image, 0644);
    write_file(copy, "");
    (void) !truncate(copy, 1 << 20);
    (void) chmod(copy, 0666);
    check_ok(sandbox_exec(&policy, inside, 60000, NULL, &err),
             "the sandbox converts a sound image");
    check(im_read_file(copy, 2u << 20, &text, &len, &why) && len == 1 << 20 && text[0] == 7 &&
              text[65535] == 7 && text[65536] == 0,
          "to its content");
}

static void test_exec(void) {
    struct sandbox_policy policy = {0};
    IM_AUTO(free_auto) char *echo = NULL, *other = NULL;
    const char *sleeper[] = {"/usr/bin/sleep", "60", NULL};
    const char *cat[] = {"/usr/bin/cat", secret, NULL};
    const char *says[] = {"/usr/bin/echo", "word", NULL};
    const char *missing[] = {"/usr/bin/there-is-no-such-program", NULL};

    check_ok(sandbox_exec(&policy, says, 10000, &echo, &err), "a program is run");
    check(echo && strcmp(echo, "word\n") == 0, "and its words come back");
    check_err(sandbox_exec(&policy, cat, 10000, &other, &err), IM_INTERNAL,
              "it reads no file of the host");
    check_err(sandbox_exec(&policy, sleeper, 300, NULL, &err), IM_TIMEOUT,
              "it is killed when it takes too long");
    check_err(sandbox_exec(&policy, missing, 10000, NULL, &err), IM_INTERNAL,
              "what is not there is not run");
}

/* --- A process of ours ------------------------------------------------------------------------ */

struct seen {
    struct sandbox_report report;
    bool entered, opens, sockets, writes_big, keeps_fd, root;
    char text[200];
};

static void look(const struct sandbox_policy *policy, struct seen *seen, int held) {
    struct im_err err = {0};
    char byte[1 << 16] = "";

    seen->entered = sandbox_enter(policy, &seen->report, &err);
    snprintf(seen->text, sizeof(seen->text), "%.199s", err.text);
    if (!seen->entered)
        return;
    seen->opens = open(secret, O_RDONLY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0;
    seen->keeps_fd = pread(held, byte, 8, 0) == 8;
    seen->writes_big = pwrite(held, byte, sizeof(byte), 0) == (ssize_t) sizeof(byte);
    seen->root = getuid() == 0 || setresuid(0, 0, 0) == 0;
    if (seen->report.fastened[SANDBOX_SYSCALLS] || seen->report.fastened[SANDBOX_NO_TCP]) {
        struct sockaddr_in to = {
            .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        seen->sockets =
            fd >= 0 && connect(fd, (void *) &to, sizeof(to)) < 0 && errno == ECONNREFUSED;
    }
}

/* In a child; -1 or the signal it died of. */
static int in_child(const struct sandbox_policy *policy, struct seen *seen, bool run_program) {
    IM_AUTO(free_auto) char *path = place("held");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), pipes[2], status = 0;
    pid_t pid;

    *seen = (struct seen){0};
    (void) !pwrite(fd, "12345678", 8, 0);
    if (pipe(pipes) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        look(policy, seen, fd);
        (void) !write(pipes[1], seen, sizeof(*seen));
        if (run_program)
            execl("/usr/bin/true", "true", (char *) NULL);
        _exit(0);
    }
    (void) close(pipes[1]);
    (void) !read(pipes[0], seen, sizeof(*seen));
    (void) close(pipes[0]);
    (void) close(fd);
    (void) waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static void test_enter(void) {
    struct sandbox_policy policy = {.file_bytes = 1000}, as_root = {.user = "root"};
    struct seen seen;
    char text[1024];
    int signal = in_child(&policy, &seen, true);

    check(seen.entered, "a process enters the sandbox %s", seen.text);
    test_note("%s", sandbox_report_text(&seen.report, text, sizeof(text)));
    check(!seen.opens, "it opens no file");
    check(seen.keeps_fd, "it reads what was open before");
    check(!seen.writes_big, "it writes no file beyond the limit");
    check(!seen.sockets, "it talks to nobody");
    check(!seen.root, "it is not root");
    check(seen.report.fastened[SANDBOX_USER] && seen.report.fastened[SANDBOX_LIMITS] &&
              seen.report.fastened[SANDBOX_NO_NEW],
          "the belts that every host has are fastened");
    if (seen.report.fastened[SANDBOX_SYSCALLS])
        check(signal == SIGSYS, "running a program is its end");
    if (geteuid() == 0) {
        (void) in_child(&as_root, &seen, false);
        check(!seen.entered && strstr(seen.text, "root"), "who would stay root is refused: %s",
              seen.text);
    }
}

static void test_report(void) {
    struct sandbox_report report = {.fastened = {[SANDBOX_USER] = true},
                                    .why = {[SANDBOX_LANDLOCK] = "because"}};
    char text[1024], little[10];

    sandbox_report_text(&report, text, sizeof(text));
    check(strstr(text, "user") == text && strstr(text, "without landlock (because)"),
          "the report is text: %s", text);
    check(sandbox_report_weak(&report), "neither landlock nor namespaces is weak");
    report.fastened[SANDBOX_LANDLOCK] = true;
    check(!sandbox_report_weak(&report), "one of them is enough");
    check(strlen(sandbox_report_text(&report, little, sizeof(little))) < sizeof(little),
          "a short buffer is kept");
}

int main(void) {
    struct im_err err = {0};
    const char *tool[] = {"qemu-img", "--version", NULL};
    char page[4096] = SECRET;

    secret = place("secret");
    (void) chmod(test_folder(), 0755);
    if (!im_write_file(secret, page, sizeof(page), 0644, &err))
        return 1;
    test_report();
    test_enter();
    test_exec();
    if (im_run(tool, NULL, 10000, NULL, &err)) {
        test_sound();
        for (size_t i = 0; i < sizeof(leaks) / sizeof(leaks[0]); i++)
            test_leak(i);
    } else
        test_note("qemu-img is missing: the leaks are not tried");
    free(secret);
    return test_end();
}
