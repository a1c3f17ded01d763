/* SPDX-License-Identifier: Apache-2.0 */
/* Passes bytes between unix sockets, one thread for each connection, and looks for COMMIT. */
#include "harness/proxy.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"

static struct sockaddr_un server = {.sun_family = AF_UNIX};
static volatile int next_cut;

void proxy_next(enum proxy_cut cut) { __atomic_store_n(&next_cut, (int) cut, __ATOMIC_SEQ_CST); }

/* What to do with this COMMIT; all others pass. */
static enum proxy_cut take_cut(void) {
    int cut = __atomic_load_n(&next_cut, __ATOMIC_SEQ_CST);

    if (cut != PROXY_CUT_STAY)
        __atomic_store_n(&next_cut, PROXY_PASS, __ATOMIC_SEQ_CST);
    return (enum proxy_cut) cut;
}

/* Copies what there is; false at the end. */
static bool pass(int from, int to, bool from_client, enum proxy_cut *ret_cut) {
    char bytes[65536];
    ssize_t len = read(from, bytes, sizeof(bytes));

    if (len <= 0)
        return false;
    if (from_client && memmem(bytes, (size_t) len, "COMMIT", 6) != NULL)
        *ret_cut = take_cut();
    if (*ret_cut == PROXY_CUT_BEFORE || *ret_cut == PROXY_CUT_STAY)
        return false;
    if (*ret_cut == PROXY_CUT_LATE && from_client) {
        shutdown(from, SHUT_RDWR);
        im_sleep_ms(500);
    }
    if (*ret_cut == PROXY_CUT_AFTER && !from_client)
        return false; /* the answer is here: so the server is done */
    return write(to, bytes, (size_t) len) == len;
}

static void *serve(void *arg) {
    int client = (int) (intptr_t) arg, up = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd fds[2] = {{client, POLLIN, 0}, {up, POLLIN, 0}};
    enum proxy_cut cut = PROXY_PASS;
    bool open = __atomic_load_n(&next_cut, __ATOMIC_SEQ_CST) != PROXY_CUT_STAY &&
                connect(up, (const struct sockaddr *) &server, sizeof(server)) == 0;

    while (open && poll(fds, 2, -1) > 0) {
        if (fds[0].revents != 0)
            open = pass(client, up, true, &cut);
        if (open && fds[1].revents != 0)
            open = pass(up, client, false, &cut);
    }
    close(client);
    close(up);
    return NULL;
}

static void *listen_on(void *arg) {
    for (;;) {
        int client = accept4((int) (intptr_t) arg, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;

        if (client >= 0 && pthread_create(&thread, NULL, serve, (void *) (intptr_t) client) == 0)
            pthread_detach(thread);
    }
    return NULL;
}

char *proxy_start(const char *uri) {
    const char *host = strstr(uri, "host=") + strlen("host=");
    const char *rest = strchr(host, ' ');
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;

    snprintf(server.sun_path, sizeof(server.sun_path), "%.*s/.s.PGSQL.5432", (int) (rest - host),
             host);
    snprintf(own.sun_path, sizeof(own.sun_path), "%s/.s.PGSQL.5432", test_folder());
    signal(SIGPIPE, SIG_IGN);
    if (bind(fd, (struct sockaddr *) &own, sizeof(own)) < 0 || listen(fd, 16) < 0 ||
        pthread_create(&thread, NULL, listen_on, (void *) (intptr_t) fd) != 0)
        return NULL;
    pthread_detach(thread);
    return im_printf("postgresql:host=%s%s", test_folder(), rest);
}
