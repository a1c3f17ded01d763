/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a real guest agent, which listens on a socket here, runs a hook when it freezes: asked as
 * a machine's is. Nothing is frozen. */
#include "virt-private.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

enum { PATIENCE_MS = 60000 };

static const char *folder;

/* A connection to an agent that has just been started; -1 when it does not listen in time. */
static int agent_connect(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int64_t deadline_ms = im_mono_ms() + PATIENCE_MS;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    while (im_mono_ms() < deadline_ms) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) == 0)
            return fd;
        close(fd);
        im_sleep_ms(20);
    }
    return -1;
}

/* A line there and a line back; its "return", NULL when there is none. */
static json_t *ask(int fd, const char *question) {
    char line[4096];
    size_t len = 0;
    json_t *answer, *result;

    if (write(fd, question, strlen(question)) < 0 || write(fd, "\n", 1) != 1)
        return NULL;
    while (len < sizeof(line) - 1 && read(fd, line + len, 1) == 1 && line[len] != '\n')
        len++;
    line[len] = '\0';
    answer = json_loads(line, 0, NULL);
    result = json_incref(json_object_get(answer, "return"));
    json_decref(answer);
    return result;
}

/* 1 = it runs a hook, 0 = it does not, -1 = it does not tell. */
static int told(int fd) {
    IM_AUTO(free_auto) char *question = virt_hook_question();
    json_t *started = ask(fd, question);
    IM_AUTO(free_auto)
    char *poll = im_printf("{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":%d}}",
                           (int) json_integer_value(json_object_get(started, "pid")));
    int64_t deadline_ms = im_mono_ms() + PATIENCE_MS;
    int found = -1;

    while (started != NULL && found < 0 && im_mono_ms() < deadline_ms) {
        json_t *status = ask(fd, poll);

        if (json_is_true(json_object_get(status, "exited")))
            found = virt_hook_answer((int) json_integer_value(json_object_get(status, "exitcode")));
        json_decref(status);
        im_sleep_ms(20);
    }
    json_decref(started);
    return found;
}

/* What an agent tells that was started with this argument (NULL: none). */
static int agent_tells(const char *argument) {
    IM_AUTO(free_auto) char *path = im_printf("%s/agent", folder);
    IM_AUTO(free_auto) char *pid_file = im_printf("%s/pid", folder);
    const char *const argv[] = {"qemu-ga", "-m", "unix-listen", "-p",     path, "-t",
                                folder,    "-f", pid_file,      argument, NULL};
    pid_t pid = -1;
    int found, fd;

    unlink(path);
    check_ok(im_start(argv, NULL, &pid, &err), "an agent with %s", argument ? argument : "nothing");
    fd = agent_connect(path);
    found = fd >= 0 ? told(fd) : -1;
    if (fd >= 0)
        close(fd);
    if (pid > 0) {
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    return found;
}

static void put(const char *name, const char *text, unsigned mode) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, name);

    unlink(path);
    check_ok(im_write_file(path, text, strlen(text), mode, &err), "there is %s", name);
}

static void test_arguments(void) {
    IM_AUTO(free_auto)
    char *conf_text = im_printf("[general]\nfsfreeze-hook=%s/own hook\n", folder);
    IM_AUTO(free_auto) char *missing = im_printf("-F%s/none", folder);
    IM_AUTO(free_auto) char *own = im_printf("--fsfreeze-hook=%s/own hook", folder);
    IM_AUTO(free_auto) char *conf = im_printf("%s/conf", folder);

    check(agent_tells(NULL) == 0, "it runs none");
    check(agent_tells(missing) == 0, "one that is not there makes nothing quiet");
    put("own hook", "#!/bin/sh\nexit 0\n", 0644);
    check(agent_tells(own) == 0, "nor one that cannot be run");
    put("own hook", "#!/bin/sh\nexit 0\n", 0755);
    check(agent_tells(own) == 1, "one that can be is run");
    put("conf", conf_text, 0644);
    setenv("QGA_CONF", conf, 1);
    check(agent_tells(NULL) == 1, "also where the configuration names it");
}

/* The script that distributions install runs what lies in a folder beside it. */
static void test_folder_of_hooks(void) {
    IM_AUTO(free_auto) char *hooks = im_printf("%s/fsfreeze-hook.d", folder);
    IM_AUTO(free_auto) char *argument = im_printf("-F%s/fsfreeze-hook", folder);

    put("fsfreeze-hook", "#!/bin/sh\nFSFREEZE_D=$(dirname -- \"$0\")/fsfreeze-hook.d\n", 0755);
    check(agent_tells(argument) == 0, "without its folder it does nothing");
    check(mkdir(hooks, 0755) == 0 && agent_tells(argument) == 0, "nor when that is empty");
    put("fsfreeze-hook.d/mysql.sh.sample", "#!/bin/sh\n", 0755);
    put("fsfreeze-hook.d/mysql.sh.dpkg-old", "#!/bin/sh\n", 0755);
    put("fsfreeze-hook.d/README", "read me\n", 0644);
    check(agent_tells(argument) == 0, "samples, old ones and notes are not run");
    put("fsfreeze-hook.d/mysql.sh", "#!/bin/sh\n", 0755);
    check(agent_tells(argument) == 1, "a program is");
}

/* Where commands are forbidden, nobody can know. */
static void test_forbidden(void) {
    IM_AUTO(free_auto)
    char *conf_text = im_printf("[general]\nfsfreeze-hook=%s/own hook\n"
                                "block-rpcs=guest-exec\n",
                                folder);
    IM_AUTO(free_auto) char *conf = im_printf("%s/conf", folder);

    put("conf", conf_text, 0644);
    setenv("QGA_CONF", conf, 1);
    check(agent_tells(NULL) == -1, "an agent that runs no commands does not tell");
}

int main(void) {
    struct im_err err = {0};

    if (!im_run((const char *[]){"qemu-ga", "--version", NULL}, NULL, PATIENCE_MS, NULL, &err))
        test_skip_all("no qemu-ga");
    signal(SIGPIPE, SIG_IGN);
    folder = test_folder();
    test_arguments();
    test_folder_of_hooks();
    test_forbidden();
    return test_end();
}
