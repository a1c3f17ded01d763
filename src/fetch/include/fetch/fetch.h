/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing a file in from an address of the net: http and https, at most five redirects, each
 * checked like the first; addresses of this host and of private networks are refused when the
 * connection is made, so that no name can lead there. */
#ifndef FETCH_FETCH_H
#define FETCH_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

struct fetch_order {
    const char *url;    /* may hold a user name and password: they reach no error and no log */
    const char *proxy;  /* "http://host:port", may be NULL; its address is not checked */
    bool allow_private; /* also loopback, private, link-local … addresses */
    uint64_t max_bytes; /* of the file; 0 = no limit */
    int fd;             /* what was fetched; its present content is gone on with when `etag` fits */
    const char *etag;   /* of an earlier, broken attempt whose bytes are in fd; may be NULL */
    int64_t stall_ms;   /* gives up an attempt when so long no byte comes; 0 = 30 s */
    unsigned attempts;  /* in a row that bring nothing; 0 = 5; 1 = a single one; each goes on where
                           the last one broke off */
    int64_t pause_ms;   /* before the next attempt, doubled each time; 0 = 1 s */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* total 0 = unknown */
    void *arg;
};
struct fetch_result {
    uint64_t bytes;
    char etag[256]; /* strong validator (ETag or Last-Modified), "" if the server gave none */
};

/* The whole file is in order->fd (from its beginning) on success; *result is set on failure too, as
 * far as it came. IM_BAD_MESSAGE for an address we do not take, IM_DENIED for one that is not
 * allowed, IM_QUOTA above max_bytes, IM_NOT_FOUND for 404 and 410, IM_TIMEOUT, IM_NO_SPACE, else
 * IM_NO_RESOURCE with the server's or the net's reason. */
bool fetch_url(const struct fetch_order *order, struct fetch_result *result, struct im_err *err)
    __attribute__((warn_unused_result));

/* The address without user name, password, query and fragment: for messages. Owned by the caller.
 */
char *fetch_url_shown(const char *url);
/* Whether a fetch may connect there when private addresses are not allowed. */
bool fetch_address_public(const struct sockaddr *address);

#endif
