/* SPDX-License-Identifier: Apache-2.0 */
/* Calls into libvirt with a deadline, and libvirt's errors as ours. */
#include "libvirt-private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libvirt/virterror.h>

#include "base/str.h"

static const struct {
    int libvirt;
    enum im_code code;
} codes[] = {
    {VIR_ERR_NO_DOMAIN, IM_NOT_FOUND},
    {VIR_ERR_OPERATION_TIMEOUT, IM_TIMEOUT},
    {VIR_ERR_AGENT_UNRESPONSIVE, IM_TIMEOUT},
    {VIR_ERR_AGENT_UNSYNCED, IM_TIMEOUT},
    {VIR_ERR_NO_SUPPORT, IM_UNSUPPORTED},
    {VIR_ERR_CONFIG_UNSUPPORTED, IM_UNSUPPORTED},
    {VIR_ERR_OPERATION_UNSUPPORTED, IM_UNSUPPORTED},
    {VIR_ERR_ARGUMENT_UNSUPPORTED, IM_UNSUPPORTED},
    {VIR_ERR_NO_MEMORY, IM_NO_RESOURCE},
    {VIR_ERR_RESOURCE_BUSY, IM_NO_RESOURCE},
    {VIR_ERR_RPC, IM_BUSY},
};

static enum im_code code_of(const virError *error, const char *message) {
    /* QEMU tells of the host's limits in words only. */
    if (strstr(message, "annot allocate memory") != NULL)
        return IM_NO_RESOURCE;
    if (strstr(message, "domain is not running") != NULL)
        return IM_NOT_FOUND;
    for (size_t i = 0; error != NULL && i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i].libvirt == error->code)
            return codes[i].code;
    return IM_INTERNAL;
}

bool lv_fail(struct im_err *err, const char *format, ...) {
    const virError *error = virGetLastError();
    const char *message = error && error->message ? error->message : "no reason given";
    char what[200];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    im_fail(err, code_of(error, message), "%s: %s", what, message);
    for (size_t len = strlen(err->text); len > 0 && err->text[len - 1] == '\n';)
        err->text[--len] = '\0';
    return false;
}

struct lv_call *lv_call_new(bool (*run)(struct lv_call *call, struct im_err *err)) {
    struct lv_call *call = im_alloc(sizeof(*call));
    pthread_condattr_t attr;

    call->run = run;
    call->refs = 1;
    pthread_mutex_init(&call->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&call->cond, &attr);
    pthread_condattr_destroy(&attr);
    return call;
}

void lv_call_unref(struct lv_call *call) {
    bool last;

    pthread_mutex_lock(&call->lock);
    last = --call->refs == 0;
    pthread_mutex_unlock(&call->lock);
    if (!last)
        return;
    if (call->domain != NULL)
        virDomainFree(call->domain);
    if (call->conn != NULL)
        virConnectClose(call->conn);
    if (call->out_conn != NULL)
        virConnectClose(call->out_conn);
    if (call->out_stats != NULL)
        virDomainStatsRecordListFree(call->out_stats);
    free(call->text);
    free(call->more);
    free(call->out);
    im_strings_done(&call->list);
    pthread_cond_destroy(&call->cond);
    pthread_mutex_destroy(&call->lock);
    free(call);
}

bool lv_call_abandoned(struct lv_call *call) {
    bool abandoned;

    pthread_mutex_lock(&call->lock);
    abandoned = call->abandoned;
    pthread_mutex_unlock(&call->lock);
    return abandoned;
}

static void *run_call(void *arg) {
    struct lv_call *call = arg;
    struct im_err err = {0};
    bool passed = call->run(call, &err);

    pthread_mutex_lock(&call->lock);
    call->passed = passed;
    call->err = err;
    call->done = true;
    pthread_cond_signal(&call->cond);
    pthread_mutex_unlock(&call->lock);
    lv_call_unref(call);
    return NULL;
}

static struct timespec deadline_in(int64_t ms) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

bool lv_call_run(struct lv_call *call, int64_t timeout_ms, struct im_err *err) {
    struct timespec deadline = deadline_in(timeout_ms);
    pthread_t thread;
    bool passed;

    call->refs++; /* the thread's; nobody else knows the call yet */
    if (pthread_create(&thread, NULL, run_call, call) != 0) {
        call->refs--;
        return im_fail(err, IM_NO_RESOURCE, "cannot start a thread");
    }
    pthread_detach(thread);
    pthread_mutex_lock(&call->lock);
    while (!call->done && pthread_cond_timedwait(&call->cond, &call->lock, &deadline) == 0)
        ;
    call->abandoned = !call->done;
    passed = call->done && call->passed;
    if (!call->done)
        im_fail(err, IM_TIMEOUT, "no answer within %lld ms", (long long) timeout_ms);
    else if (!passed)
        *err = call->err;
    pthread_mutex_unlock(&call->lock);
    return passed;
}

bool lv_call_domain(struct virt_driver *driver, const char *name,
                    bool (*run)(struct lv_call *call, struct im_err *err), const char *text,
                    const char *more, uint64_t number, int64_t timeout_ms,
                    struct lv_call **ret_call, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = lv_call_new(run);

    call->domain = lv_domain(driver, name, err);
    if (call->domain == NULL)
        return false;
    call->text = im_strdup(text);
    call->more = im_strdup(more);
    call->number = number;
    if (!lv_call_run(call, timeout_ms, err))
        return im_within(err, "machine %s", name);
    if (ret_call != NULL)
        *ret_call = im_steal(&call);
    return true;
}
