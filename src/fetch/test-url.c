/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching from a server with bad habits, on loopback. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/mem.h"
#include "fetch/fetch.h"
#include "harness/test.h"

#define BODY 3000000u

static int port, staging;
static pid_t server;

static void stop_server(void) {
    kill(server, SIGTERM);
    (void) waitpid(server, NULL, 0);
}

static bool start_server(const char *script) {
    char line[32] = "";
    int pipes[2];

    if (pipe(pipes) < 0)
        return false;
    server = fork();
    if (server == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) dup2(pipes[1], 1);
        (void) close(pipes[0]);
        execlp("python3", "python3", script, (char *) NULL);
        _exit(127);
    }
    (void) close(pipes[1]);
    for (size_t i = 0; i < sizeof(line) - 1 && read(pipes[0], line + i, 1) == 1 && line[i] != '\n';
         i++)
        ;
    port = atoi(line);
    (void) close(pipes[0]);
    atexit(stop_server);
    return port > 0;
}

static bool fetch(const char *path, struct fetch_order order, struct fetch_result *result,
                  struct im_err *err) {
    IM_AUTO(free_auto) char *url = im_printf("http://user:secret@127.0.0.1:%d%s", port, path);

    order.url = url;
    order.fd = staging;
    order.pause_ms = 20;
    return fetch_url(&order, result, err);
}

static const struct fetch_order lenient = {.allow_private = true};

static bool staged_right(void) {
    IM_AUTO(free_auto) uint8_t *bytes = malloc(BODY);
    struct stat st;

    if (fstat(staging, &st) < 0 || st.st_size != BODY || pread(staging, bytes, BODY, 0) != BODY)
        return false;
    for (uint32_t i = 0; i < BODY; i++)
        if (bytes[i] != (i * 7 + (i >> 8)) % 251)
            return false;
    return true;
}

static unsigned progress_calls;
static void count_progress(void *arg, uint64_t done, uint64_t total) {
    (void) arg;
    progress_calls += done <= total && total == BODY;
}

static void test_good(void) {
    struct fetch_order order = lenient;
    struct fetch_result result;

    order.progress = count_progress;
    check_ok(fetch("/file", order, &result, &err), "a file is fetched");
    check(result.bytes == BODY && staged_right(), "and is whole");
    check(strcmp(result.etag, "\"one\"") == 0, "its validator is told");
    check(progress_calls > 1, "progress is told");
    check_ok(fetch("/broken", lenient, &result, &err), "a connection that breaks is gone on with");
    check(staged_right(), "and the pieces fit");
    check_ok(fetch("/changes", lenient, &result, &err),
             "a file that changes meanwhile is begun anew");
    check(staged_right(), "and is of one piece");
    check_ok(fetch("/busy", lenient, &result, &err), "a busy server is asked again");
    check_ok(fetch("/hops/4", lenient, &result, &err), "five redirects are followed");
    check(staged_right(), "to the file");
    check_ok(fetch("/empty", lenient, &result, &err), "an empty file is fetched");
    check(result.bytes == 0 && lseek(staging, 0, SEEK_END) == 0,
          "and leaves nothing of the last one");
}

static void test_resume(void) {
    struct fetch_order order = lenient;
    struct fetch_result result;

    order.attempts = 1;
    check_err(fetch("/broken", order, &result, &err), IM_NO_RESOURCE, "one attempt breaks off");
    check(result.bytes > 0 && result.bytes < BODY && result.etag[0],
          "with a part and its validator");
    order.etag = "\"one\"";
    order.attempts = 5;
    check_ok(fetch("/broken", order, &result, &err), "a later fetch goes on with it");
    check(staged_right(), "to the whole file");
    check_ok(fetch("/file", order, &result, &err), "what is there already is no trouble");
    check(staged_right(), "and is whole still");
    order.etag = "\"other\"";
    (void) !ftruncate(staging, 1000);
    check_ok(fetch("/file", order, &result, &err), "a part of another file is replaced");
    check(staged_right(), "wholly");
}

static void test_bad(void) {
    struct fetch_order limited = {.allow_private = true, .max_bytes = 1000000},
                       slow = {.allow_private = true, .stall_ms = 1000, .attempts = 1},
                       strict = {0};
    struct fetch_result result;
    struct im_err shown = {0};

    check_err(fetch("/hops/5", lenient, &result, &err), IM_DENIED, "six redirects are too many");
    check_err(fetch("/missing", lenient, &result, &err), IM_NOT_FOUND, "a missing file");
    check_err(fetch("/file", limited, &result, &err), IM_QUOTA, "a file above the limit");
    check_err(fetch("/never", lenient, &result, &err), IM_NO_RESOURCE,
              "a server that never finishes");
    check_err(fetch("/stalls", slow, &result, &err), IM_TIMEOUT, "a server that stalls");
    check_err(fetch("/ftp", lenient, &result, &err), IM_BAD_MESSAGE, "a redirect to ftp");
    check_err(fetch("/local", lenient, &result, &err), IM_BAD_MESSAGE,
              "a redirect to a file of the host");
    check_err(fetch("/file", strict, &result, &err), IM_DENIED, "loopback is not public");
    check(!fetch("/missing", lenient, &result, &shown) && !strstr(shown.text, "secret") &&
              strstr(shown.text, "/missing"),
          "the message names the address without its password: %s", shown.text);
}

static void test_addresses(void) {
    static const struct {
        const char *text;
        bool open;
    } rows[] = {{"8.8.8.8", true},           {"10.1.2.3", false},
                {"172.16.0.1", false},       {"172.32.0.1", true},
                {"192.168.1.1", false},      {"127.0.0.1", false},
                {"169.254.169.254", false},  {"100.64.0.1", false},
                {"0.0.0.0", false},          {"224.0.0.1", false},
                {"255.255.255.255", false},  {"::1", false},
                {"fe80::1", false},          {"fd00:ec2::254", false},
                {"::ffff:127.0.0.1", false}, {"::ffff:8.8.8.8", true},
                {"64:ff9b::7f00:1", false},  {"2002:7f00:1::", false},
                {"2001:db8::1", false},      {"ff02::1", false},
                {"2606:4700::1111", true},   {"::", false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sockaddr_storage address = {0};
        struct sockaddr_in *v4 = (void *) &address;
        struct sockaddr_in6 *v6 = (void *) &address;

        if (inet_pton(AF_INET, rows[i].text, &v4->sin_addr) == 1)
            v4->sin_family = AF_INET;
        else if (inet_pton(AF_INET6, rows[i].text, &v6->sin6_addr) == 1)
            v6->sin6_family = AF_INET6;
        check(fetch_address_public((void *) &address) == rows[i].open, "%s is %s", rows[i].text,
              rows[i].open ? "public" : "not public");
    }
}

static void test_names(void) {
    struct fetch_order order = {.url = "http://localhost:1/x", .attempts = 1, .fd = staging};
    struct fetch_result result;

    check_err(fetch_url(&order, &result, &err), IM_DENIED, "a name that leads to loopback");
    order.url = "http://[::ffff:127.0.0.1]:1/x";
    check_err(fetch_url(&order, &result, &err), IM_DENIED, "loopback in IPv6 clothes");
    order.url = "http://2130706433/";
    check_err(fetch_url(&order, &result, &err), IM_DENIED, "loopback as one number");
    order.url = "file:///etc/passwd";
    check_err(fetch_url(&order, &result, &err), IM_BAD_MESSAGE, "a file of the host");
    order.url = "gopher://127.0.0.1/";
    check_err(fetch_url(&order, &result, &err), IM_BAD_MESSAGE, "gopher");
}

int main(int argc, char **argv) {
    IM_AUTO(free_auto) char *path = im_printf("%s/staging", test_folder());

    if (argc < 2 || !start_server(argv[1]))
        test_skip_all("python3 does not start here");
    staging = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    test_good();
    test_resume();
    test_bad();
    test_names();
    test_addresses();
    return test_end();
}
