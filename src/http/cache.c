/* SPDX-License-Identifier: Apache-2.0 */
/* Replies that are kept while the record stays the same: a bounded table in shards, each with its
 * own lock and its own list from most to least recently used. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "http-private.h"

#define SHARDS 8
#define BUCKETS 256 /* per shard */

struct entry {
    struct entry *next_in_bucket;
    struct entry *newer, *older;
    char *key;
    uint64_t hash, generation;
    struct text_ref *text;
    size_t size;
};

struct shard {
    pthread_mutex_t lock; /* of all below; never held while anything else is locked */
    struct entry *buckets[BUCKETS];
    struct entry *newest, *oldest;
    uint64_t bytes;
};

struct cache {
    uint64_t shard_max_bytes;
    struct shard shards[SHARDS];
};

struct cache *cache_new(uint64_t max_bytes) {
    struct cache *cache = im_alloc(sizeof(*cache));

    cache->shard_max_bytes = max_bytes / SHARDS;
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&cache->shards[i].lock, NULL);
    return cache;
}

static uint64_t hash_key(const char *key) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char) *key) * 1099511628211u;
    return hash ^ hash >> 29;
}

static void unlink_used(struct shard *shard, struct entry *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &shard->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &shard->oldest) = entry->newer;
}

static void link_newest(struct shard *shard, struct entry *entry) {
    entry->newer = NULL;
    entry->older = shard->newest;
    *(shard->newest != NULL ? &shard->newest->newer : &shard->oldest) = entry;
    shard->newest = entry;
}

static struct entry **bucket_of(struct shard *shard, uint64_t hash) {
    return &shard->buckets[hash / SHARDS % BUCKETS];
}

static void drop(struct shard *shard, struct entry *entry) {
    struct entry **slot = bucket_of(shard, entry->hash);

    while (*slot != entry)
        slot = &(*slot)->next_in_bucket;
    *slot = entry->next_in_bucket;
    unlink_used(shard, entry);
    shard->bytes -= entry->size;
    text_unref(entry->text);
    free(entry->key);
    free(entry);
}

static struct entry *find(struct shard *shard, uint64_t hash, const char *key) {
    struct entry *entry = *bucket_of(shard, hash);

    while (entry != NULL && (entry->hash != hash || strcmp(entry->key, key) != 0))
        entry = entry->next_in_bucket;
    return entry;
}

struct text_ref *cache_find(struct cache *cache, const char *key, uint64_t generation) {
    uint64_t hash = hash_key(key);
    struct shard *shard = &cache->shards[hash % SHARDS];
    struct text_ref *text = NULL;
    struct entry *entry;

    pthread_mutex_lock(&shard->lock);
    entry = find(shard, hash, key);
    if (entry != NULL && entry->generation != generation) {
        drop(shard, entry);
        entry = NULL;
    }
    if (entry != NULL) {
        unlink_used(shard, entry);
        link_newest(shard, entry);
        text = text_ref(entry->text);
    }
    pthread_mutex_unlock(&shard->lock);
    return text;
}

void cache_put(struct cache *cache, const char *key, uint64_t generation, struct text_ref *text) {
    uint64_t hash = hash_key(key);
    struct shard *shard = &cache->shards[hash % SHARDS];
    size_t size = sizeof(struct entry) + strlen(key) + 1 + text->len;
    struct entry *entry;

    if (size > cache->shard_max_bytes / 4) /* one reply does not drive out all others */
        return;
    pthread_mutex_lock(&shard->lock);
    entry = find(shard, hash, key);
    if (entry != NULL)
        drop(shard, entry);
    while (shard->oldest != NULL && shard->bytes + size > cache->shard_max_bytes)
        drop(shard, shard->oldest);
    entry = im_alloc(sizeof(*entry));
    *entry = (struct entry){.key = im_strdup(key),
                            .hash = hash,
                            .generation = generation,
                            .text = text_ref(text),
                            .size = size,
                            .next_in_bucket = *bucket_of(shard, hash)};
    *bucket_of(shard, hash) = entry;
    link_newest(shard, entry);
    shard->bytes += size;
    pthread_mutex_unlock(&shard->lock);
}

void cache_free(struct cache *cache) {
    for (size_t i = 0; cache != NULL && i < SHARDS; i++) {
        while (cache->shards[i].oldest != NULL)
            drop(&cache->shards[i], cache->shards[i].oldest);
        pthread_mutex_destroy(&cache->shards[i].lock);
    }
    free(cache);
}

/* --- Texts that several may hold -------------------------------------------------------------- */

struct text_ref *text_ref_new(struct im_str *text) {
    struct text_ref *made = im_alloc(sizeof(*made));

    made->len = text->len;
    made->bytes = im_str_take(text);
    made->refs = 1;
    return made;
}

struct text_ref *text_ref(struct text_ref *text) {
    atomic_fetch_add(&text->refs, 1);
    return text;
}

void text_unref(void *arg) {
    struct text_ref *text = arg;

    if (text == NULL || atomic_fetch_sub(&text->refs, 1) != 1)
        return;
    free(text->bytes);
    free(text);
}
