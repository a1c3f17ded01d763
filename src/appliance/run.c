/* SPDX-License-Identifier: Apache-2.0 */
/* A program of the guest, run in its own tree, with what programs expect to find there. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "appliance-private.h"
#include "base/mem.h"

enum { SECONDS = 120, LOOK_MS = 100, ARGUMENTS_MAX = 64 };

void run_end_all(void) {
    (void) kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* Where the guest has the folder itself, no link: what is mounted stays in its tree. */
static void show(const char *place, const char *type, const char *source, unsigned long flags) {
    IM_AUTO(fd_auto) int fd = -1;
    char at[40];
    struct stat st;

    fd = tree_open(place, O_PATH | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return;
    snprintf(at, sizeof(at), "/proc/self/fd/%d", fd);
    (void) mount(source, at, type, flags, type && strcmp(type, "tmpfs") == 0 ? "mode=755" : NULL);
}

/* In the child; the mounts are its own and end with it. */
static void __attribute__((noreturn)) become(char *const argv[], int out) {
    char *environment[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"HOME=/root"},
                           (char[]){"LC_ALL=C"}, (char[]){"TERM=dumb"}, NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct im_err ignored = {0};

    /* The root is opened anew, as the old one lies in the other name space. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        !tree_begin(&ignored))
        _exit(127);
    show("/proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    show("/sys", "sysfs", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY);
    show("/dev", "devtmpfs", "devtmpfs", MS_NOSUID);
    show("/run", "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV);
    if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(127);
    if (fchdir(tree_root()) < 0 || chroot(".") < 0 || chdir("/") < 0 || setsid() < 0 ||
        close_range(3, ~0u, 0) < 0)
        _exit(127);
    execvpe(argv[0], argv, environment);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int64_t now_ms(void) {
    struct timespec now;

    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

static void drain(int fd, struct im_str *output) {
    char buffer[4096];
    ssize_t got;

    while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
        size_t room = FRAME_OUTPUT_MAX - output->len;

        im_str_add_bytes(output, buffer, (size_t) got < room ? (size_t) got : room);
    }
}

/* Until the program itself ends; what it left in the background does not hold us up. */
static bool wait_for(pid_t pid, int fd, int64_t seconds, struct im_str *output, int *ret_status) {
    int64_t end = now_ms() + seconds * 1000;

    while (now_ms() < end) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        pid_t got = waitpid(pid, ret_status, WNOHANG);

        if (got == 0)
            (void) poll(&ready, 1, LOOK_MS);
        if (got == 0 && (ready.revents & (POLLIN | POLLHUP)) == POLLHUP)
            (void) usleep(LOOK_MS * 1000);
        drain(fd, output);
        if (got == pid)
            return true;
    }
    return false;
}

static const char *last_line(char *text) {
    char *end = text + strlen(text), *line;

    while (end > text && (end[-1] == '\n' || end[-1] == ' '))
        *--end = '\0';
    line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

static bool judge(const char *program, int status, const char *output, struct im_err *err) {
    IM_AUTO(free_auto) char *copy = im_strdup(output);

    if (WIFSIGNALED(status))
        return im_fail(err, IM_BAD_IMAGE, "%.80s was killed by signal %d", program,
                       WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return im_fail(err, IM_BAD_IMAGE, "%.80s ended with status %d: %.200s", program,
                       WEXITSTATUS(status), last_line(copy));
    return true;
}

static size_t arguments(const struct frame *order, char *argv[ARGUMENTS_MAX + 1]) {
    size_t count = 0;

    for (const char *word = NULL; (word = frame_next(order, "argument", word));) {
        if (count == ARGUMENTS_MAX)
            return 0;
        argv[count++] = (char *) word;
    }
    argv[count] = NULL;
    return count;
}

bool edit_run(const struct frame *order, struct frame *answer, struct im_err *err) {
    int64_t seconds = frame_get_int(order, "seconds", SECONDS);
    char *argv[ARGUMENTS_MAX + 1];
    int pipes[2], status = 0;
    bool ended;
    pid_t pid;

    if (arguments(order, argv) == 0)
        return im_fail(err, IM_BAD_MESSAGE, "argv has 1 to %d words", ARGUMENTS_MAX);
    if (tree_root() < 0)
        return im_fail(err, IM_BAD_MESSAGE, "%s: no root file system is mounted", argv[0]);
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
        return im_fail_sys(err, errno, "%s: no pipe", argv[0]);
    pid = fork();
    if (pid == 0) {
        (void) fcntl(pipes[1], F_SETFL, 0); /* programs expect to wait */
        become(argv, pipes[1]);
    }
    (void) close(pipes[1]);
    ended = pid > 0 && wait_for(pid, pipes[0], seconds, &answer->data, &status);
    run_end_all();
    (void) close(pipes[0]);
    if (pid < 0)
        return im_fail_sys(err, errno, "%s: no process", argv[0]);
    return ended ? judge(argv[0], status, answer->data.len ? answer->data.data : "", err)
                 : im_fail(err, IM_TIMEOUT, "%s did not end within %lld seconds", argv[0],
                           (long long) seconds);
}
