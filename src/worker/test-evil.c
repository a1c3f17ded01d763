/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker that was taken over would try: loaded into imprint-worker, it waits until bytes of
 * the image are looked at, tries all it can think of, and tells on stderr what worked.
 *
 * EVIL_FOLDER has a file "secret" and lets anyone make files; EVIL_PORT and EVIL_FOLDER/socket are
 * listened on. With EVIL_AT_ONCE it does so when it is loaded, outside of any sandbox. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef int (*digest_update)(void *context, const void *bytes, size_t len);
int EVP_DigestUpdate(void *context, const void *bytes, size_t len);

static digest_update next_update;
static char folder[200];
static int port;

static void tell(const char *what, int got) {
    if (got >= 0)
        dprintf(STDERR_FILENO, "evil: %s worked\n", what);
}

static const char *below(const char *name) {
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int meet_port(void) {
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t) port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    return fd < 0 ? -1 : connect(fd, (struct sockaddr *) &to, sizeof(to));
}

static int meet_socket(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(to.sun_path, sizeof(to.sun_path), "%.100s", below("socket"));
    return fd < 0 ? -1 : connect(fd, (struct sockaddr *) &to, sizeof(to));
}

static void do_evil(void) {
    tell("reading a file", open(below("secret"), O_RDONLY));
    tell("reading /etc/passwd", open("/etc/passwd", O_RDONLY));
    tell("looking around", open("/usr", O_RDONLY | O_DIRECTORY));
    tell("making a file", open(below("made"), O_WRONLY | O_CREAT, 0666));
    tell("removing a file", unlink(below("victim")));
    tell("a connection", meet_port());
    tell("a connection to a neighbour", meet_socket());
    tell("becoming root", setresuid(0, 0, 0));
    dprintf(STDERR_FILENO, "evil: tried all\n");
    if (getenv("EVIL_EXEC")) {
        (void) unsetenv("LD_PRELOAD");
        (void) execl("/bin/echo", "echo", "evil: a program ran", (char *) NULL);
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("EVIL_FOLDER"), *number = getenv("EVIL_PORT");

    next_update = (digest_update) dlsym(RTLD_NEXT, "EVP_DigestUpdate");
    snprintf(folder, sizeof(folder), "%s", where ? where : "/nowhere");
    port = number ? atoi(number) : 0;
    if (getenv("EVIL_AT_ONCE"))
        do_evil();
}

int EVP_DigestUpdate(void *context, const void *bytes, size_t len) {
    static int done;

    if (!done++)
        do_evil();
    return next_update ? next_update(context, bytes, len) : 0;
}
