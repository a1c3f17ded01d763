/* SPDX-License-Identifier: Apache-2.0 */
/* User mode needs one thing of the host: a port on 127.0.0.1 for each machine. */
#include "net/net.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/id.h"

enum { PORT_FIRST = 20000, PORT_LAST = PORT_FIRST + NET_PORTS - 1 };

static bool port_free(int port) {
    IM_AUTO(fd_auto) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t) port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
}

/* From a random place on, so that two processes rarely want the same. */
bool net_free_port(const int64_t *taken, size_t count, int *ret_port, struct im_err *err) {
    unsigned start, range = PORT_LAST - PORT_FIRST + 1;

    im_random(&start, sizeof(start));
    for (unsigned i = 0; i < range; i++) {
        int port = PORT_FIRST + (int) ((start + i) % range);
        bool used = false;

        for (size_t j = 0; j < count && !used; j++)
            used = taken[j] == port;
        if (!used && port_free(port)) {
            *ret_port = port;
            return true;
        }
    }
    return im_fail(err, IM_NO_RESOURCE, "no port between %d and %d is free on 127.0.0.1",
                   PORT_FIRST, PORT_LAST);
}
