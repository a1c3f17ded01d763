/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 beside the copy: hashing and writing take about as long as one another, so each gets a
 * thread, and both look at the same buffers while these are warm in the cache. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "worker-private.h"

#define BUFFERS 8u
#define QUEUE 16u /* entries that wait: all buffers, and runs of zeros between them */
#define PIECE (256u << 10)

enum kind { KIND_BUFFER, KIND_ZEROS, KIND_FILE, KIND_END };
struct entry {
    enum kind kind;
    int fd;
    const uint8_t *bytes;
    uint64_t len;
};

struct hash {
    EVP_MD_CTX *context;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock; /* guards the queue and `busy` */
    pthread_cond_t changed;
    struct entry queue[QUEUE];
    size_t head, count;
    unsigned next, busy;      /* buffers: the one to be claimed next; how many wait for the hash */
    uint8_t *buffers, *piece; /* the thread's own, for files */
    struct im_err err;        /* of the thread; read after joining */
};

static const uint8_t zeros[PIECE];

static void add_zeros(struct hash *hash, uint64_t len) {
    while (len > 0) {
        size_t now = len < PIECE ? (size_t) len : PIECE;

        (void) EVP_DigestUpdate(hash->context, zeros, now);
        len -= now;
    }
}

/* Holes are zeros that need not be read. */
static uint64_t hole_at(int fd, uint64_t offset, uint64_t len) {
    off_t data = lseek(fd, (off_t) offset, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? len - offset : 0;
    return (uint64_t) data < len ? (uint64_t) data - offset : len - offset;
}

static bool add_file(struct hash *hash, int fd, uint64_t len) {
    uint64_t offset = 0, data_until = 0;

    while (offset < len) {
        size_t now = len - offset < PIECE ? (size_t) (len - offset) : PIECE;

        if (offset >= data_until) {
            uint64_t hole = hole_at(fd, offset, len);
            off_t end;

            add_zeros(hash, hole);
            offset += hole;
            end = lseek(fd, (off_t) offset, SEEK_HOLE);
            data_until = end > (off_t) offset ? (uint64_t) end : len;
            continue;
        }
        if (!im_pread_all(fd, hash->piece, now, offset, "what came in", &hash->err))
            return false;
        (void) EVP_DigestUpdate(hash->context, hash->piece, now);
        offset += now;
    }
    return true;
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
            add_zeros(hash, entry.len);
        else if (entry.kind == KIND_FILE && fine)
            fine = add_file(hash, entry.fd, entry.len);
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
    hash->piece = im_alloc(PIECE);
    (void) pthread_mutex_init(&hash->lock, NULL);
    (void) pthread_cond_init(&hash->changed, NULL);
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
    join(hash);
    EVP_MD_CTX_free(hash->context);
    free(hash->buffers);
    free(hash->piece);
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

void hash_push_file(struct hash *hash, int fd, uint64_t len) {
    push(hash, (struct entry){.kind = KIND_FILE, .fd = fd, .len = len});
}

bool hash_finish(struct hash *hash, char ret_hex[65], struct im_err *err) {
    uint8_t digest[EVP_MAX_MD_SIZE];

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
