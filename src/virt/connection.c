/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to libvirt: opened when needed, opened again when lost, its events, and what
 * machines run with there. */
#include "libvirt-private.h"

#include <dirent.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libvirt/virterror.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

enum { TRIM_EVERY_S = 2, RETRY_MS = 5000 };

struct lv_listener {
    pthread_mutex_t lock; /* held during the callback, so that close() waits for one under way */
    atomic_int refs;
    virt_event *event; /* NULL once closed */
    void *arg;
    struct virt_driver *driver; /* NULL once closed */
};

/* Also called by libvirt with its own locks held, which a callback may wait for: takes none. */
static void listener_unref(void *opaque) {
    struct lv_listener *listener = opaque;

    if (atomic_fetch_sub(&listener->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&listener->lock);
    free(listener);
}

static struct lv_listener *listener_ref(struct lv_listener *listener) {
    atomic_fetch_add(&listener->refs, 1);
    return listener;
}

/* One event loop for all connections of the process, as libvirt wants it; it never ends. */
static void *event_loop(void *arg) {
    (void) arg;
    for (;;)
        if (virEventRunDefaultImpl() < 0)
            im_sleep_ms(100);
    return NULL;
}

static void keep_quiet(void *arg, virErrorPtr error) { (void) arg, (void) error; }
static void no_timer(int timer, void *arg) { (void) timer, (void) arg; }

static void start_events(void) {
    pthread_t thread;

    /* libvirt would write each of its errors to our standard error as well. */
    setenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null", 0);
    virInitialize();
    virSetErrorFunc(NULL, keep_quiet);
    if (virEventRegisterDefaultImpl() < 0 || pthread_create(&thread, NULL, event_loop, NULL) != 0)
        abort();
    pthread_detach(thread);
    /* The loop returns with an error while it has nothing to watch; a timer that never fires keeps
     * it asleep instead. */
    virEventAddTimeout(-1, no_timer, NULL, NULL);
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail,
                        void *opaque) {
    struct lv_listener *listener = opaque;
    enum virt_state state;

    (void) conn;
    switch (event) {
    case VIR_DOMAIN_EVENT_STARTED:
    case VIR_DOMAIN_EVENT_RESUMED:
        state = VIRT_RUNNING;
        break;
    case VIR_DOMAIN_EVENT_SUSPENDED:
    case VIR_DOMAIN_EVENT_PMSUSPENDED:
        state = VIRT_PAUSED;
        break;
    case VIR_DOMAIN_EVENT_STOPPED:
        state =
            detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED || detail == VIR_DOMAIN_EVENT_STOPPED_FAILED
                ? VIRT_CRASHED
                : VIRT_OFF;
        break;
    case VIR_DOMAIN_EVENT_CRASHED:
        state = VIRT_CRASHED;
        break;
    default:
        return 0;
    }
    pthread_mutex_lock(&listener->lock);
    if (listener->event != NULL)
        listener->event(listener->arg, virDomainGetName(domain), state);
    pthread_mutex_unlock(&listener->lock);
    return 0;
}

static void close_consoles(int timer, void *opaque) {
    struct lv_listener *listener = opaque;

    virEventRemoveTimeout(timer);
    pthread_mutex_lock(&listener->lock);
    if (listener->driver != NULL)
        lv_consoles_close(listener->driver);
    pthread_mutex_unlock(&listener->lock);
}

/* A daemon that dies says no word to streams: whoever looks at a console would wait for ever. Not
 * closed right here: libvirt holds a lock of the connection's callbacks, and waits for that one
 * with the lock that a stream's end takes. */
static void on_close(virConnectPtr conn, int reason, void *opaque) {
    struct lv_listener *listener = opaque;

    (void) conn, (void) reason;
    if (virEventAddTimeout(0, close_consoles, listener_ref(listener), listener_unref) < 0)
        listener_unref(listener);
}

static bool open_conn(struct lv_call *call, struct im_err *err) {
    call->out_conn = virConnectOpen(call->text);
    if (call->out_conn == NULL) {
        const char *message = virGetLastErrorMessage();

        if (strstr(message, "acquire pid file") != NULL)
            return im_fail(err, IM_UNSUPPORTED,
                           "%s is in use by another process: an embedded libvirt belongs to one "
                           "process at a time, stop that one or choose another root",
                           call->text);
        return im_fail(err, IM_BUSY,
                       "libvirt at %s does not answer (%s); see that its daemon runs and that "
                       "this user may use it",
                       call->text, message);
    }
    if (strstr(call->text, "/embed") != NULL)
        lv_embed_settle(call->out_conn);
    return true;
}

/* With the lock held. The consoles end here too: who finds the connection lost before the event
 * loop does takes its callback away. */
static void drop_conn(struct virt_driver *driver) {
    if (driver->conn == NULL)
        return;
    lv_consoles_close(driver);
    if (driver->callback >= 0)
        virConnectDomainEventDeregisterAny(driver->conn, driver->callback);
    if (!driver->embed && !driver->test)
        virConnectUnregisterCloseCallback(driver->conn, on_close);
    virConnectClose(driver->conn);
    driver->conn = NULL;
    driver->callback = -1;
}

static void listen(struct virt_driver *driver) {
    driver->callback = virConnectDomainEventRegisterAny(
        driver->conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle),
        listener_ref(driver->listener), listener_unref);
    if (driver->callback < 0)
        listener_unref(driver->listener);
    /* Drivers in our own process take the callback, and forget it. */
    if (driver->embed || driver->test)
        return;
    if (virConnectRegisterCloseCallback(driver->conn, on_close, listener_ref(driver->listener),
                                        listener_unref) < 0)
        listener_unref(driver->listener);
}

/* With the lock held. */
static bool connect_now(struct virt_driver *driver, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = lv_call_new(open_conn);

    if (im_mono_ms() < driver->retry_ms)
        return im_fail(err, IM_BUSY, "libvirt at %s does not answer; restart its daemon",
                       driver->uri);
    call->text = im_strdup(driver->uri);
    if (!lv_call_run(call, driver->embed ? LV_OPEN_EMBED_MS : LV_OPEN_MS, err)) {
        if (err->code != IM_TIMEOUT)
            return false;
        /* Whoever waits for the lock must not wait as long again, one after the other. */
        driver->retry_ms = im_mono_ms() + RETRY_MS;
        return im_fail(err, IM_BUSY, "libvirt at %s does not answer in time; restart its daemon",
                       driver->uri);
    }
    driver->conn = im_steal(&call->out_conn);
    /* A daemon that hangs is noticed within 20 s, and every call to it ends. */
    if (!driver->embed)
        virConnectSetKeepAlive(driver->conn, 5, 3);
    listen(driver);
    return true;
}

virConnectPtr lv_connection(struct virt_driver *driver, struct im_err *err) {
    virConnectPtr conn = NULL;

    pthread_mutex_lock(&driver->lock);
    if (driver->conn != NULL && virConnectIsAlive(driver->conn) != 1)
        drop_conn(driver);
    if (driver->conn != NULL || connect_now(driver, err)) {
        conn = driver->conn;
        virConnectRef(conn);
    }
    pthread_mutex_unlock(&driver->lock);
    return conn;
}

virDomainPtr lv_domain(struct virt_driver *driver, const char *name, struct im_err *err) {
    /* A daemon that went away is often noticed only by the call itself: once more, then. */
    for (int attempt = 0;; attempt++) {
        IM_AUTO(virConnectClose_auto) virConnectPtr conn = lv_connection(driver, err);
        virDomainPtr domain;

        if (conn == NULL)
            return NULL;
        domain = virDomainLookupByName(conn, name);
        if (domain != NULL && virDomainIsActive(domain) == 1)
            return domain;
        if (domain != NULL) {
            virDomainFree(domain);
            im_fail(err, IM_NOT_FOUND, "machine %s is not running", name);
            return NULL;
        }
        if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN) {
            im_fail(err, IM_NOT_FOUND, "machine %s is not running", name);
            return NULL;
        }
        if (virConnectIsAlive(conn) == 1 || attempt > 0) {
            lv_fail(err, "machine %s", name);
            return NULL;
        }
    }
}

static void trim_all(const char *folder) {
    DIR *dir = opendir(folder);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, entry->d_name);
        struct im_err err = {0};

        if (im_ends_with(entry->d_name, ".log"))
            (void) !virt_log_trim(path, &err); /* tried again in two seconds */
    }
    if (dir != NULL)
        closedir(dir);
}

/* A guest may write without end: QEMU's log has no bound of its own. */
static void *keep_logs(void *arg) {
    struct virt_driver *driver = arg;
    IM_AUTO(free_auto) char *folder = im_printf("%s/console", driver->state_dir);

    pthread_mutex_lock(&driver->lock);
    while (!driver->closing) {
        struct timespec until = im_wall_after(TRIM_EVERY_S * 1000);

        pthread_cond_timedwait(&driver->wake, &driver->lock, &until);
        pthread_mutex_unlock(&driver->lock);
        trim_all(folder);
        pthread_mutex_lock(&driver->lock);
    }
    pthread_mutex_unlock(&driver->lock);
    return NULL;
}

static struct lv_listener *listener_new(struct virt_driver *driver, virt_event *event, void *arg) {
    struct lv_listener *listener = im_alloc(sizeof(*listener));

    pthread_mutex_init(&listener->lock, NULL);
    listener->refs = 1;
    listener->event = event;
    listener->arg = arg;
    listener->driver = driver;
    return listener;
}

IM_DEFINE_AUTO(struct virt_driver *, lv_close)

struct virt_driver *lv_open(const struct virt_config *config, virt_event *event, void *arg,
                            struct im_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    IM_AUTO(lv_close_auto) struct virt_driver *driver = NULL;
    bool embed = strstr(config->uri, "/embed") != NULL;
    virConnectPtr conn;

    pthread_once(&once, start_events);
    driver = im_alloc(sizeof(*driver));
    driver->uri = im_strdup(config->uri);
    driver->state_dir = im_strdup(config->state_dir);
    snprintf(driver->wanted_accel, sizeof(driver->wanted_accel), "%s",
             im_str_empty(config->accel) ? "auto" : config->accel);
    driver->tb_cache_mib = config->tb_cache_mib;
    driver->embed = embed;
    driver->test = im_starts_with(config->uri, "test:");
    driver->listener = listener_new(driver, event, arg);
    driver->callback = -1;
    pthread_mutex_init(&driver->lock, NULL);
    pthread_cond_init(&driver->wake, NULL);
    pthread_mutex_init(&driver->stats_lock, NULL);
    pthread_mutex_init(&driver->console_lock, NULL);
    pthread_mutex_init(&driver->trust_lock, NULL);
    if (pthread_create(&driver->keeper, NULL, keep_logs, driver) != 0)
        abort();
    if (embed && !lv_embed_prepare(driver, config->run_as, err))
        return NULL;
    /* A daemon that is not up yet is no reason to refuse: the next call finds it. Anything else
     * would never get better. */
    conn = lv_connection(driver, err);
    if (conn == NULL && (embed || err->code != IM_BUSY))
        return NULL;
    if (conn != NULL && lv_accel(driver, conn, err) == NULL) {
        virConnectClose(conn);
        return NULL;
    }
    if (conn != NULL)
        virConnectClose(conn);
    err->code = IM_OK;
    return im_steal(&driver);
}

void lv_close(struct virt_driver *driver) {
    pthread_mutex_lock(&driver->lock);
    driver->closing = true;
    pthread_cond_signal(&driver->wake);
    pthread_mutex_unlock(&driver->lock);
    pthread_join(driver->keeper, NULL);
    pthread_mutex_lock(&driver->listener->lock);
    driver->listener->event = NULL;
    driver->listener->driver = NULL;
    pthread_mutex_unlock(&driver->listener->lock);
    drop_conn(driver);
    listener_unref(driver->listener);
    pthread_mutex_destroy(&driver->lock);
    lv_stats_free(driver->stats);
    pthread_mutex_destroy(&driver->stats_lock);
    pthread_mutex_destroy(&driver->console_lock);
    pthread_mutex_destroy(&driver->trust_lock);
    im_strings_done(&driver->trusted);
    pthread_cond_destroy(&driver->wake);
    free(driver->uri);
    free(driver->state_dir);
    free(driver->emulator);
    im_strings_done(&driver->taken_back);
    free(driver);
}

/* The user that QEMU runs as, from <baselabel type='kvm'>+64055:+64055</baselabel>. */
static uid_t qemu_user(struct virt_driver *driver, virConnectPtr conn) {
    IM_AUTO(free_auto) char *xml = driver->user_known ? NULL : virConnectGetCapabilities(conn);
    const char *dac = xml ? strstr(xml, "<model>dac</model>") : NULL;
    const char *label = dac ? strstr(dac, "<baselabel type='kvm'>+") : NULL;

    if (driver->user_known)
        return driver->user;
    return label ? (uid_t) strtoul(label + strlen("<baselabel type='kvm'>+"), NULL, 10)
                 : VIRT_USER_SAME;
}

/* QEMU itself must be able to open /dev/kvm: libvirt does not open it for it. */
static bool may_open(uid_t uid, bool embed, struct im_err *err) {
    const struct passwd *user = uid == VIRT_USER_SAME ? NULL : getpwuid(uid);
    IM_AUTO(free_auto) char *name = im_strdup(user ? user->pw_name : "that QEMU runs as");

    if (access("/dev/kvm", F_OK) < 0)
        return im_fail(err, IM_UNSUPPORTED, "there is no /dev/kvm");
    if (virt_kvm_opens(uid))
        return true;
    if (!virt_kvm_opens(0))
        return im_fail(err, IM_UNSUPPORTED, "the user %s may not open /dev/kvm", name);
    return im_fail(err, IM_UNSUPPORTED,
                   "the user %s may not open /dev/kvm%s; give it the right with: chgrp kvm "
                   "/dev/kvm; chmod 660 /dev/kvm",
                   name,
                   embed ? ""
                         : ", and libvirt asks QEMU anew at every start because of that, which "
                           "takes a minute");
}

static bool kvm_usable(struct virt_driver *driver, virConnectPtr conn, struct im_err *err) {
    IM_AUTO(free_auto) char *xml = NULL;

    /* "qemu:///…", "qemu+unix:///…": no host between "//" and "/" means this one. */
    if (strstr(driver->uri, ":///") != NULL) {
        uid_t uid = qemu_user(driver, conn);

        return may_open(uid, driver->embed, err) &&
               (strcmp(driver->wanted_accel, "kvm") == 0 ||
                virt_kvm_works(driver->state_dir, uid, err) || im_within(err, "/dev/kvm"));
    }
    xml = virConnectGetDomainCapabilities(conn, NULL, "x86_64", "q35", "kvm", 0);
    return xml != NULL || im_fail(err, IM_UNSUPPORTED, "libvirt at %s has no KVM", driver->uri);
}

/* With the lock held. */
static bool find_accel(struct virt_driver *driver, virConnectPtr conn, struct im_err *err) {
    struct im_err why = {0};

    if (!driver->test && strcmp(driver->wanted_accel, "tcg") != 0) {
        if (kvm_usable(driver, conn, &why)) {
            snprintf(driver->accel, sizeof(driver->accel), "kvm");
            return true;
        }
        if (strcmp(driver->wanted_accel, "kvm") == 0)
            return im_fail(err, IM_UNSUPPORTED, "KVM is wanted, but %s", why.text);
        snprintf(driver->accel_reason, sizeof(driver->accel_reason), "%s", why.text);
    }
    snprintf(driver->accel, sizeof(driver->accel), "tcg");
    return true;
}

const char *lv_accel(struct virt_driver *driver, virConnectPtr conn, struct im_err *err) {
    bool found;

    pthread_mutex_lock(&driver->lock);
    found = driver->accel[0] != '\0' || find_accel(driver, conn, err);
    pthread_mutex_unlock(&driver->lock);
    return found ? driver->accel : NULL;
}
