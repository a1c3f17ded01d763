/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 beside the copy, in a thread of its own: of a stream it is fed with buffers, files it
 * looks at by itself. One stream of SHA-256 cannot be shared out: what is to be fast is that this
 * thread does nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "worker-private.h"

#define BUFFERS 8u
#define QUEUE (BUFFERS + 2u) /* entries that wait */
#define PIECE (256u << 10)

enum kind { KIND_BUFFER, KIND_ZEROS, KIND_FILE, KIND_END };
struct entry {
    enum kind kind;
    int fd;
    const uint8_t *bytes;
    uint64_t len, scale;
};

struct hash {
    EVP_MD_CTX *context;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock; /* guards the queue and `busy` */
    pthread_cond_t changed;
    struct entry queue[QUEUE];
    size_t head, count;
    unsigned next, busy; /* buffers: the one to be claimed next; how many wait for the hash */
    uint8_t *buffers;
    atomic_bool awaited, stopped; /* nothing else is left to do; nobody wants it any more */
    atomic_uint_fast64_t shown;   /* how far the file is, on the scale of what it becomes */
    struct im_err err;            /* of the thread; read after joining */
};

static const uint8_t zeros[PIECE];

/* Holes are zeros that need not be read. */
static uint64_t hole_at(int fd, uint64_t offset, uint64_t len) {
    off_t data = lseek(fd, (off_t) offset, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? len - offset : 0;
    return (uint64_t) data < len ? (uint64_t) data - offset : len - offset;
}

static void show(struct hash *hash, uint64_t offset, const struct entry *file) {
    uint64_t shown = (uint64_t) ((double) offset / (double) file->len * (double) file->scale);

    atomic_store(&hash->shown, shown);
    if (atomic_load(&hash->awaited))
        report_progress("copy", shown, file->scale);
}

static bool add_data(struct hash *hash, struct view *view, uint64_t offset, uint64_t end,
                     const struct entry *file) {
    while (offset < end && !atomic_load(&hash->stopped)) {
        uint64_t want = end - offset < PIECE ? end - offset : PIECE;
        size_t now;
        const uint8_t *bytes = view_at(view, offset, want, &now, &hash->err);

        if (!bytes)
            return false;
        (void) EVP_DigestUpdate(hash->context, bytes, now);
        offset += now;
        show(hash, offset, file);
    }
    return true;
}

static void add_zeros(struct hash *hash, uint64_t offset, uint64_t end, const struct entry *file) {
    while (offset < end && !atomic_load(&hash->stopped)) {
        size_t now = end - offset < PIECE ? (size_t) (end - offset) : PIECE;

        (void) EVP_DigestUpdate(hash->context, zeros, now);
        offset += now;
        show(hash, offset, file);
    }
}

static bool add_file(struct hash *hash, const struct entry *file) {
    struct view view = {.fd = file->fd, .file_size = file->len};
    uint64_t offset = 0, len = file->len;
    bool fine = true;

    while (fine && offset < len && !atomic_load(&hash->stopped)) {
        uint64_t data = offset + hole_at(file->fd, offset, len);
        off_t end = data < len ? lseek(file->fd, (off_t) data, SEEK_HOLE) : 0;

        if (end <= (off_t) data || (uint64_t) end > len)
            end = (off_t) len;
        add_zeros(hash, offset, data, file);
        fine = add_data(hash, &view, data, (uint64_t) end, file);
        offset = (uint64_t) end;
    }
    view_done(&view);
    return fine;
}

static void add_hole(struct hash *hash, uint64_t len) {
    while (len > 0 && !atomic_load(&hash->stopped)) {
        size_t now = len < PIECE ? (size_t) len : PIECE;

        (void) EVP_DigestUpdate(hash->context, zeros, now);
        len -= now;
    }
}

static struct entry next_entry(struct hash *hash) {
    struct entry entry;

    pthread_mutex_lock(&hash->lock);
    while (hash->count == 0)
        pthread_cond_wait(&hash->changed, &hash->lock);
    entry = hash->queue[hash->head];
    pthread_mutex_unlock(&hash->lock);
    return entry;
}

static void drop_entry(struct hash *hash, enum kind kind) {
    pthread_mutex_lock(&hash->lock);
    hash->head = (hash->head + 1) % QUEUE;
    hash->count--;
    if (kind == KIND_BUFFER)
        hash->busy--;
    pthread_cond_broadcast(&hash->changed);
    pthread_mutex_unlock(&hash->lock);
}

static void *work(void *arg) {
    struct hash *hash = arg;
    bool fine = true;

    for (;;) {
        struct entry entry = next_entry(hash);

        if (entry.kind == KIND_BUFFER)
            (void) EVP_DigestUpdate(hash->context, entry.bytes, (size_t) entry.len);
        else if (entry.kind == KIND_ZEROS)
            add_hole(hash, entry.len);
        else if (entry.kind == KIND_FILE && fine)
            fine = add_file(hash, &entry);
        drop_entry(hash, entry.kind);
        if (entry.kind == KIND_END)
            return NULL;
    }
}

static void push(struct hash *hash, struct entry entry) {
    pthread_mutex_lock(&hash->lock);
    while (hash->count == QUEUE)
        pthread_cond_wait(&hash->changed, &hash->lock);
    hash->queue[(hash->head + hash->count++) % QUEUE] = entry;
    if (entry.kind == KIND_BUFFER)
        hash->busy++;
    pthread_cond_broadcast(&hash->changed);
    pthread_mutex_unlock(&hash->lock);
}

static void join(struct hash *hash) {
    if (hash->joined)
        return;
    push(hash, (struct entry){.kind = KIND_END});
    (void) pthread_join(hash->thread, NULL);
    hash->joined = true;
}

struct hash *hash_new(struct im_err *err) {
    struct hash *hash = im_alloc(sizeof(*hash));
    int failed;

    hash->context = EVP_MD_CTX_new();
    hash->buffers = im_alloc((size_t) BUFFERS * HASH_BUFFER_BYTES);
    (void) pthread_mutex_init(&hash->lock, NULL);
    (void) pthread_cond_init(&hash->changed, NULL);
    atomic_store(&hash->shown, UINT64_MAX);
    hash->joined = true;
    failed = hash->context && EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1
                 ? pthread_create(&hash->thread, NULL, work, hash)
                 : ENOMEM;
    if (failed) {
        hash_free(hash);
        (void) im_fail_sys(err, failed, "no thread for the digest");
        return NULL;
    }
    hash->joined = false;
    return hash;
}

void hash_free(struct hash *hash) {
    if (!hash)
        return;
    atomic_store(&hash->stopped, true);
    join(hash);
    EVP_MD_CTX_free(hash->context);
    free(hash->buffers);
    (void) pthread_mutex_destroy(&hash->lock);
    (void) pthread_cond_destroy(&hash->changed);
    free(hash);
}

uint8_t *hash_claim(struct hash *hash) {
    pthread_mutex_lock(&hash->lock);
    while (hash->busy == BUFFERS)
        pthread_cond_wait(&hash->changed, &hash->lock);
    pthread_mutex_unlock(&hash->lock);
    return hash->buffers + (size_t) hash->next * HASH_BUFFER_BYTES;
}

void hash_push(struct hash *hash, size_t len) {
    push(hash, (struct entry){.kind = KIND_BUFFER,
                              .bytes = hash->buffers + (size_t) hash->next * HASH_BUFFER_BYTES,
                              .len = len});
    hash->next = (hash->next + 1) % BUFFERS;
}

void hash_push_zeros(struct hash *hash, uint64_t len) {
    push(hash, (struct entry){.kind = KIND_ZEROS, .len = len});
}

void hash_push_file(struct hash *hash, int fd, uint64_t len, uint64_t scale) {
    atomic_store(&hash->shown, 0);
    push(hash, (struct entry){.kind = KIND_FILE, .fd = fd, .len = len, .scale = scale});
}

uint64_t hash_shown(struct hash *hash) { return atomic_load(&hash->shown); }

bool hash_finish(struct hash *hash, char ret_hex[65], struct im_err *err) {
    uint8_t digest[EVP_MAX_MD_SIZE];

    atomic_store(&hash->awaited, true);
    join(hash);
    if (hash->err.code) {
        *err = hash->err;
        return false;
    }
    if (EVP_DigestFinal_ex(hash->context, digest, NULL) != 1)
        return im_fail(err, IM_INTERNAL, "libcrypto does not give a digest");
    for (size_t i = 0; i < 32; i++)
        snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
    return true;
}
