/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to imprintd, one line each, written at once. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "worker-private.h"

#define EVERY_MS 250
#define ALIVE_S 5

static struct {
    pthread_mutex_t lock; /* guards the rest, and keeps lines whole */
    pthread_cond_t changed;
    bool keep_alive, started;
    int64_t last_ms;
    struct worker_message progress;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Whoever reads us is gone when this fails: then there is nobody to tell. */
static void send(const struct worker_message *message) {
    struct im_str line = {0};
    struct im_err ignored = {0};

    wire_worker_write(&line, message);
    (void) im_write_all(STDOUT_FILENO, line.data, line.len, "stdout", &ignored);
    im_str_done(&line);
}

static void locked_send(const struct worker_message *message) {
    pthread_mutex_lock(&state.lock);
    send(message);
    pthread_mutex_unlock(&state.lock);
}

void report_progress(const char *phase, uint64_t done_bytes, uint64_t total_bytes) {
    int64_t now = im_mono_ms();

    pthread_mutex_lock(&state.lock);
    state.progress = (struct worker_message){.kind = WORKER_PROGRESS,
                                             .phase = phase,
                                             .done_bytes = (int64_t) done_bytes,
                                             .total_bytes = (int64_t) total_bytes};
    if (now - state.last_ms >= EVERY_MS || (total_bytes && done_bytes == total_bytes)) {
        state.last_ms = now;
        send(&state.progress);
    }
    pthread_mutex_unlock(&state.lock);
}

static void *repeat(void *arg) {
    (void) arg;
    pthread_mutex_lock(&state.lock);
    for (;;) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += ALIVE_S;
        (void) pthread_cond_timedwait(&state.changed, &state.lock, &until);
        if (state.keep_alive && state.progress.phase)
            send(&state.progress);
    }
    return NULL;
}

void report_keep_alive(bool on) {
    pthread_t thread;

    pthread_mutex_lock(&state.lock);
    state.keep_alive = on;
    if (on && !state.started && pthread_create(&thread, NULL, repeat, NULL) == 0) {
        (void) pthread_detach(thread);
        state.started = true;
    }
    pthread_mutex_unlock(&state.lock);
}

void report_log(const char *format, ...) {
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    locked_send(&(struct worker_message){.kind = WORKER_LOG, .text = text});
}

void report_result(const char *json) {
    locked_send(&(struct worker_message){.kind = WORKER_RESULT, .text = json});
}

void report_error(const struct im_err *err) {
    locked_send(&(struct worker_message){.kind = WORKER_ERROR, .err = *err});
}
