/* SPDX-License-Identifier: Apache-2.0 */
/* The serial console, both ways: bytes go between a libvirt stream and our end of a socket pair,
 * moved by libvirt's event loop, no thread per console. */
#include "libvirt-private.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libvirt/virterror.h>

#include "base/mem.h"

struct half {
    char bytes[8192];
    size_t len;
};

/* Referenced by the driver's list, by the stream's callback and by the socket's. */
struct lv_console {
    pthread_mutex_t lock;
    atomic_int refs;
    char name[64];
    virStreamPtr stream; /* NULL once closed */
    int fd, watch;
    struct half from_guest, to_guest; /* read on one side, not yet written on the other */
    struct lv_console *next;
};

/* Also called by libvirt, when the socket's callback is removed: must not take the lock. */
static void console_unref(void *opaque) {
    struct lv_console *console = opaque;

    if (atomic_fetch_sub(&console->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&console->lock);
    free(console);
}

static void *abort_stream(void *arg) {
    virStreamPtr stream = arg;

    virStreamAbort(stream);
    virStreamFree(stream);
    return NULL;
}

/* Waits for the daemon's answer. In the event loop, where we mostly are, that would also keep the
 * loop from noticing that a daemon which hangs does not answer any more. */
static void abort_elsewhere(virStreamPtr stream) {
    pthread_t thread;

    if (pthread_create(&thread, NULL, abort_stream, stream) == 0)
        pthread_detach(thread);
    else
        virStreamFree(stream);
}

/* In the event loop, so that a callback of the stream that waits for our lock is over. */
static void let_go(int timer, void *opaque) {
    virEventRemoveTimeout(timer);
    console_unref(opaque);
}

/* With the lock held. The far end of the pair sees the end of file. The stream's reference is not
 * left to libvirt: it frees at once in one driver, never in another (9.0, remote). */
static void finish(struct lv_console *console) {
    virStreamPtr stream = im_steal(&console->stream);

    if (stream == NULL)
        return;
    virStreamEventRemoveCallback(stream);
    virEventAddTimeout(0, let_go, console, NULL);
    abort_elsewhere(stream);
    virEventRemoveHandle(console->watch);
    close(console->fd);
}

static void consumed(struct half *half, size_t len) {
    half->len -= len;
    memmove(half->bytes, half->bytes + len, half->len);
}

/* Both directions as far as they go without waiting; false when one side has ended. */
static bool move(struct lv_console *console) {
    struct half *out = &console->from_guest, *in = &console->to_guest;

    if (out->len == 0) {
        int n = virStreamRecv(console->stream, out->bytes, sizeof(out->bytes));

        if (n == 0 || n == -1)
            return false;
        out->len = n > 0 ? (size_t) n : 0;
    }
    if (out->len > 0) {
        ssize_t n = send(console->fd, out->bytes, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        consumed(out, n > 0 ? (size_t) n : 0);
    }
    if (in->len == 0) {
        ssize_t n = recv(console->fd, in->bytes, sizeof(in->bytes), MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        in->len = n > 0 ? (size_t) n : 0;
    }
    if (in->len > 0) {
        int n = virStreamSend(console->stream, in->bytes, in->len);

        if (n == -1)
            return false;
        consumed(in, n > 0 ? (size_t) n : 0);
    }
    return true;
}

static void advance(struct lv_console *console, bool ended) {
    int stream_events = 0, fd_events = 0;

    pthread_mutex_lock(&console->lock);
    if (console->stream != NULL) {
        if (!move(console) || ended) {
            finish(console);
        } else {
            *(console->from_guest.len == 0 ? &stream_events : &fd_events) |=
                console->from_guest.len == 0 ? (int) VIR_STREAM_EVENT_READABLE
                                             : (int) VIR_EVENT_HANDLE_WRITABLE;
            *(console->to_guest.len == 0 ? &fd_events : &stream_events) |=
                console->to_guest.len == 0 ? (int) VIR_EVENT_HANDLE_READABLE
                                           : (int) VIR_STREAM_EVENT_WRITABLE;
            virStreamEventUpdateCallback(console->stream, stream_events);
            virEventUpdateHandle(console->watch, fd_events);
        }
    }
    pthread_mutex_unlock(&console->lock);
}

static void on_stream(virStreamPtr stream, int events, void *opaque) {
    (void) stream;
    advance(opaque, (events & (VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP)) != 0);
}

static void on_socket(int watch, int fd, int events, void *opaque) {
    (void) watch, (void) fd;
    advance(opaque, (events & (VIR_EVENT_HANDLE_ERROR | VIR_EVENT_HANDLE_HANGUP)) != 0);
}

/* With the driver's console lock held: ends those of this name (all for NULL), and drops from the
 * list those that have ended by themselves. */
static void sweep(struct virt_driver *driver, const char *name) {
    struct lv_console **slot = &driver->consoles;

    while (*slot != NULL) {
        struct lv_console *console = *slot;
        bool gone;

        pthread_mutex_lock(&console->lock);
        if (name == NULL || strcmp(console->name, name) == 0)
            finish(console);
        gone = console->stream == NULL;
        pthread_mutex_unlock(&console->lock);
        if (!gone) {
            slot = &console->next;
            continue;
        }
        *slot = console->next;
        console_unref(console);
    }
}

void lv_consoles_close(struct virt_driver *driver) {
    pthread_mutex_lock(&driver->console_lock);
    sweep(driver, NULL);
    pthread_mutex_unlock(&driver->console_lock);
}

static struct lv_console *console_new(const char *name, virStreamPtr *stream, int fd) {
    struct lv_console *console = im_alloc(sizeof(*console));

    pthread_mutex_init(&console->lock, NULL);
    console->refs = 3;
    snprintf(console->name, sizeof(console->name), "%s", name);
    console->stream = im_steal(stream);
    console->fd = fd;
    return console;
}

static bool relay(struct virt_driver *driver, const char *name, virStreamPtr *stream, int *ret_fd,
                  struct im_err *err) {
    struct lv_console *console;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return im_fail_sys(err, errno, "machine %s: cannot make a socket pair", name);
    console = console_new(name, stream, pair[0]);
    pthread_mutex_lock(&console->lock);
    console->watch =
        virEventAddHandle(pair[0], VIR_EVENT_HANDLE_READABLE, on_socket, console, console_unref);
    if (console->watch < 0 || virStreamEventAddCallback(console->stream, VIR_STREAM_EVENT_READABLE,
                                                        on_stream, console, NULL) < 0) {
        lv_fail(err, "machine %s: cannot watch its console", name);
        /* A callback that was never added drops nothing. */
        atomic_fetch_sub(&console->refs, console->watch < 0 ? 1 : 0);
        finish(console);
        pthread_mutex_unlock(&console->lock);
        console_unref(console);
        close(pair[1]);
        return false;
    }
    pthread_mutex_unlock(&console->lock);
    console->next = driver->consoles;
    driver->consoles = console;
    *ret_fd = pair[1];
    return true;
}

bool lv_console_open(struct virt_driver *driver, const char *name, int *ret_fd,
                     struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = lv_domain(driver, name, err);
    IM_AUTO(virStreamFree_auto) virStreamPtr stream = NULL;
    bool passed;

    if (domain == NULL)
        return false;
    stream = virStreamNew(virDomainGetConnect(domain), VIR_STREAM_NONBLOCK);
    if (stream == NULL)
        return lv_fail(err, "machine %s: cannot open its console", name);
    pthread_mutex_lock(&driver->console_lock);
    sweep(driver, name);
    passed = virDomainOpenConsole(domain, NULL, stream, VIR_DOMAIN_CONSOLE_FORCE) == 0
                 ? relay(driver, name, &stream, ret_fd, err)
                 : lv_fail(err, "machine %s: cannot open its console", name);
    pthread_mutex_unlock(&driver->console_lock);
    return passed;
}
