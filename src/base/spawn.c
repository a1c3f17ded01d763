/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: run to the end with captured output, or start and leave running. */
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

enum { OUTPUT_MAX = 1 << 20 };
extern char **environ;

static bool spawn_with(const char *const argv[], int in, int out, int error, bool session,
                       pid_t *ret_pid, struct im_err *err) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, error, STDERR_FILENO);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        (session ? POSIX_SPAWN_SETSID : 0));
    rc = posix_spawnp(ret_pid, argv[0], &actions, &attr, (char *const *) argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc != 0)
        return im_fail_sys(err, rc, "cannot run %s", argv[0]);
    return true;
}

/* Feeds `input` and gathers both outputs until the child closes them or time is up; false on
 * time-out. */
static bool exchange(int *to_child, int out, int error, const char *input, int64_t deadline,
                     struct im_str *output, struct im_str *complaints) {
    size_t left = input ? strlen(input) : 0;
    bool out_open = true, error_open = true;

    while (out_open || error_open) {
        struct pollfd fds[3] = {{out_open ? out : -1, POLLIN, 0},
                                {error_open ? error : -1, POLLIN, 0},
                                {left > 0 ? *to_child : -1, POLLOUT, 0}};
        int64_t wait_ms = deadline - im_mono_ms();

        if (left == 0 && *to_child >= 0) {
            close(*to_child);
            *to_child = -1;
        }
        if (wait_ms <= 0 ||
            (poll(fds, 3, (int) (wait_ms > 60000 ? 60000 : wait_ms)) < 0 && errno != EINTR))
            return false;
        for (int i = 0; i < 2; i++) {
            struct im_str *into = i == 0 ? output : complaints;
            char buffer[8192];
            ssize_t n;

            if (fds[i].fd < 0 || fds[i].revents == 0)
                continue;
            n = read(fds[i].fd, buffer, sizeof(buffer));
            if (n > 0 && into->len < OUTPUT_MAX)
                im_str_add_bytes(into, buffer, (size_t) n);
            if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
                *(i == 0 ? &out_open : &error_open) = false;
        }
        if (fds[2].fd >= 0 && fds[2].revents != 0) {
            ssize_t n = write(*to_child, input, left);

            if (n < 0 && errno != EINTR && errno != EAGAIN)
                left = 0; /* it does not want to read: its exit status will tell */
            if (n > 0) {
                input += n;
                left -= (size_t) n;
            }
        }
    }
    return true;
}

static const char *last_line(struct im_str *text) {
    char *line;

    while (text->len > 0 && text->data[text->len - 1] == '\n')
        text->data[--text->len] = '\0';
    line = text->data ? strrchr(text->data, '\n') : NULL;
    return line ? line + 1 : text->data ? text->data : "";
}

bool im_run(const char *const argv[], const char *input, int64_t timeout_ms, char **ret_output,
            struct im_err *err) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, error[2] = {-1, -1}, status = 0;
    IM_AUTO(im_str_done) struct im_str output = {0};
    IM_AUTO(im_str_done) struct im_str complaints = {0};
    bool ended, started;
    pid_t pid = -1;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "cannot make a pipe");
    started = spawn_with(argv, in[0], out[1], error[1], false, &pid, err);
    close(in[0]);
    close(out[1]);
    close(error[1]);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    ended = started && exchange(&in[1], out[0], error[0], input, im_mono_ms() + timeout_ms, &output,
                                &complaints);
    if (in[1] >= 0)
        close(in[1]);
    close(out[0]);
    close(error[0]);
    if (!started)
        return false;
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        return im_fail(err, IM_TIMEOUT, "%s did not end within %lld ms", argv[0],
                       (long long) timeout_ms);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return im_fail(err, IM_INTERNAL, "%s failed (%s %d): %s", argv[0],
                       WIFEXITED(status) ? "exit" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                       last_line(&complaints));
    if (ret_output != NULL)
        *ret_output = im_str_take(&output);
    return true;
}

bool im_start(const char *const argv[], const char *log_path, pid_t *ret_pid, struct im_err *err) {
    IM_AUTO(fd_auto) int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    IM_AUTO(fd_auto)
    int out =
        open(log_path ? log_path : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (in < 0 || out < 0)
        return im_fail_sys(err, errno, "cannot open %s", log_path ? log_path : "/dev/null");
    return spawn_with(argv, in, out, out, true, ret_pid, err);
}
