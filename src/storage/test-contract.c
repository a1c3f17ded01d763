/* SPDX-License-Identifier: Apache-2.0 */
/* The contract to a pool, run over every back end, and what only a local pool can show: broken-off
 * verbs, moving, marks. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage-private.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "harness/test.h"
#include "qcow2/qcow2.h"

#define GIB (1ull << 30)

static char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];

static bool import(struct storage_pool *pool, const char *name, uint64_t size, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    return storage_import_begin(pool, name, &fd, err) &&
           qcow2_overlay_write(fd, NULL, NULL, size, err) &&
           storage_import_end(pool, name, fd, err);
}

static bool freeze(struct storage_pool *pool, const char *from, const char *next,
                   struct im_err *err) {
    return storage_freeze_begin(pool, from, next, frozen, head, err) &&
           storage_freeze_end(pool, frozen, err);
}

/* The entry of a name; zeroed, so with an empty name, if there is none. */
static struct storage_entry entry_of(struct storage_pool *pool, const char *name) {
    IM_AUTO(free_auto) struct storage_entry *entries = NULL;
    struct storage_entry found = {0};
    struct im_err err = {0};
    size_t count = 0;

    if (!storage_list(pool, &entries, &count, &err))
        test_note("%s", err.text);
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            found = entries[i];
    return found;
}

static bool exists(struct storage_pool *pool, const char *name) {
    return entry_of(pool, name).name[0] != '\0';
}

static size_t count_of(struct storage_pool *pool) {
    IM_AUTO(free_auto) struct storage_entry *entries = NULL;
    struct im_err err = {0};
    size_t count = 0;

    return storage_list(pool, &entries, &count, &err) ? count : SIZE_MAX;
}

static bool copy_bytes(int from, int to, struct im_err *err) {
    char bytes[4096];
    ssize_t got;
    uint64_t at = 0;

    for (; (got = pread(from, bytes, sizeof(bytes), (off_t) at)) > 0; at += (uint64_t) got)
        if (!im_pwrite_all(to, bytes, (size_t) got, at, "copy", err))
            return false;
    return got == 0;
}

/* Puts the bytes of `from` there as `name`. */
static bool put(struct storage_pool *pool, const char *from, const char *name, const char *parent,
                struct im_err *err) {
    IM_AUTO(fd_auto) int in = -1;
    IM_AUTO(fd_auto) int out = -1;

    return storage_read(pool, from, &in, NULL, err) && storage_put_begin(pool, name, &out, err) &&
           copy_bytes(in, out, err) && storage_put_end(pool, name, parent, out, err) &&
           storage_put_end(pool, name, parent, out, err);
}

/* --- Over all back ends ----------------------------------------------------------------------- */

static void suite_put(struct storage_pool *pool) {
    IM_AUTO(fd_auto) int fd = -1;

    check_ok(storage_create(pool, "p1", GIB, &err) && freeze(pool, "p1", "p2", &err) &&
                 freeze(pool, "p2", "p3", &err),
             "two frozen layers and a head");
    check_err(storage_read(pool, "p3", &fd, NULL, &err), IM_UNSUPPORTED,
              "a head is not read whole");
    check_err(storage_read(pool, "p9", &fd, NULL, &err), IM_NOT_FOUND, "nor what is not there");
    check_ok(put(pool, "p2", "p4", "p1", &err), "bytes of a layer are put there as another");
    check(entry_of(pool, "p4").frozen && strcmp(entry_of(pool, "p4").parent, "p1") == 0 &&
              entry_of(pool, "p4").usage.virtual_bytes == GIB,
          "it is frozen, on its parent, of its size");
    check_err(put(pool, "p2", "p5", "", &err), IM_BAD_IMAGE, "another parent is refused");
    check_ok(storage_put_undo(pool, "p5", &err), "and taken back");
    check(!exists(pool, "p5"), "nothing of it is left");
    check_ok(put(pool, "p1", "p2", "", &err), "a layer is put in the place of another");
    check(entry_of(pool, "p2").parent[0] == '\0' && entry_of(pool, "p2").frozen, "it has its name");
    check_ok(storage_put_begin(pool, "p2", &fd, &err) && storage_put_undo(pool, "p2", &err),
             "what is begun and taken back");
    check(entry_of(pool, "p2").frozen && !entry_of(pool, "p2").partial, "harms not what was there");
    for (int i = 1; i <= 4; i++) {
        char name[] = {'p', (char) ('0' + i), '\0'};

        check_ok(storage_remove(pool, name, &err), "%s goes", name);
    }
}

static void suite_notes(struct storage_pool *pool) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    IM_AUTO(free_auto) char *text = NULL;
    size_t layers = count_of(pool);

    check_err(storage_note_get(pool, "ss-1", &text, &err), IM_NOT_FOUND, "there is no note");
    check_ok(storage_note_list(pool, &names, &err), "none is listed");
    check(names.count == 0, "indeed none");
    check_ok(storage_note_put(pool, "ss-1", "one", &err) &&
                 storage_note_put(pool, "l-2", "two", &err) &&
                 storage_note_put(pool, "ss-1", "three", &err),
             "notes are written, one again");
    check_ok(storage_note_get(pool, "ss-1", &text, &err), "it is read");
    check(strcmp(text ? text : "", "three") == 0, "as it was written last");
    check_ok(storage_note_list(pool, &names, &err), "they are listed");
    check(names.count == 2 && im_strings_has(&names, "ss-1") && im_strings_has(&names, "l-2"),
          "both");
    check(count_of(pool) == layers, "a note is no layer");
    check_ok(storage_note_remove(pool, "ss-1", &err) && storage_note_remove(pool, "ss-1", &err) &&
                 storage_note_remove(pool, "l-2", &err),
             "they go, and again");
    check_err(storage_note_put(pool, "../x", "", &err), IM_BAD_MESSAGE, "names are checked");
}

static void suite_make(struct storage_pool *pool) {
    struct storage_usage usage = {0};
    struct storage_space space = {0};
    struct storage_entry entry;

    check(count_of(pool) == 0, "a new pool is empty");
    check_ok(storage_create(pool, "a", GIB, &err), "a disk is created");
    check_ok(storage_create(pool, "a", GIB, &err), "and again, as after a crash");
    check_err(storage_create(pool, "a", 2 * GIB, &err), IM_EXISTS, "another size is another disk");
    check_ok(freeze(pool, "a", "b", &err), "it is frozen");
    check(strcmp(frozen, "a") == 0 && strcmp(head, "b") == 0, "both names are told");
    check_ok(freeze(pool, "a", "b", &err), "and again");
    check_err(storage_create(pool, "a", GIB, &err), IM_EXISTS, "a frozen layer is no new disk");
    check_ok(storage_clone(pool, frozen, "c", 2 * GIB, &err), "a larger clone of the frozen");
    check_ok(storage_clone(pool, frozen, "c", 2 * GIB, &err), "and again");
    check_err(storage_clone(pool, frozen, "c", 3 * GIB, &err), IM_EXISTS, "but no other size");
    check_err(storage_clone(pool, frozen, "d", GIB / 2, &err), IM_BAD_MESSAGE, "and no smaller");
    check_err(storage_clone(pool, "none", "d", GIB, &err), IM_NOT_FOUND, "nor from nothing");
    check_err(storage_freeze_begin(pool, "b", "c", frozen, head, &err), IM_EXISTS,
              "a continuation that is something else");
    entry = entry_of(pool, "a");
    check(entry.frozen && !entry.partial && entry.parent[0] == '\0', "the frozen is listed so");
    entry = entry_of(pool, "c");
    check(!entry.frozen && !entry.partial && strcmp(entry.parent, "a") == 0 &&
              entry.usage.virtual_bytes == 2 * GIB,
          "the clone with its parent");
    check_ok(storage_usage(pool, "c", &usage, &err), "usage");
    check(usage.virtual_bytes == 2 * GIB && usage.own_bytes > 0 && usage.own_bytes <= 1 << 16,
          "a clone takes little");
    check_ok(storage_space(pool, &space, &err), "space");
    check(space.total_bytes > 0 && space.free_bytes <= space.total_bytes, "is told");
}

static void suite_change(struct storage_pool *pool) {
    struct storage_source source = {0};

    check_ok(storage_resize(pool, "c", 4 * GIB, &err), "a head grows");
    check_ok(storage_resize(pool, "c", 4 * GIB, &err), "and again");
    check(entry_of(pool, "c").usage.virtual_bytes == 4 * GIB, "it is larger");
    check_err(storage_resize(pool, "c", GIB, &err), IM_UNSUPPORTED, "it does not shrink");
    check_err(storage_resize(pool, "a", 4 * GIB, &err), IM_UNSUPPORTED, "a frozen one stays");
    check_err(storage_resize(pool, "none", GIB, &err), IM_NOT_FOUND, "nothing does not grow");
    check_ok(storage_attach_info(pool, "c", &source, &err), "where a machine finds it");
    check(source.kind == STORAGE_SOURCE_FILE && strcmp(source.format, "qcow2") == 0 &&
              source.path != NULL,
          "is a path and a format");
    storage_source_done(&source);
    check_err(storage_attach_info(pool, "none", &source, &err), IM_NOT_FOUND, "or nowhere");
    check_ok(freeze(pool, "c", "c2", &err), "a freeze");
    check_ok(storage_freeze_undo(pool, "c", "c2", &err), "is taken back");
    check_ok(storage_freeze_undo(pool, "c", "c2", &err), "and again");
    check(!exists(pool, "c2") && !entry_of(pool, "c").frozen, "and nothing of it is left");
    check_ok(storage_remove(pool, "c", &err), "a head is removed");
    check_ok(storage_remove(pool, "c", &err), "and again");
    check(!exists(pool, "c"), "it is gone");
    check_err(storage_freeze_begin(pool, "c", "c3", frozen, head, &err), IM_NOT_FOUND,
              "nothing is not frozen");
    check_err(storage_freeze_end(pool, "c", &err), IM_NOT_FOUND, "nor ended");
    check_err(storage_freeze_undo(pool, "c", "c3", &err), IM_NOT_FOUND, "nor taken back");
}

static void suite_open_head(struct storage_pool *pool) {
    char parent[STORAGE_NAME_MAX] = "x";
    IM_AUTO(fd_auto) int read_only = -1;
    IM_AUTO(fd_auto) int writable = -1;
    IM_AUTO(fd_auto) int none = -1;

    check_ok(storage_create(pool, "lower", GIB, &err) && freeze(pool, "lower", "upper", &err),
             "a head on a frozen layer");
    check_ok(storage_open_head(pool, "upper", false, &read_only, parent, &err), "it is opened");
    check(strcmp(parent, "lower") == 0, "and its parent told");
    check_ok(storage_open_head(pool, "upper", true, &writable, NULL, &err), "also to be written");
    check(write(writable, "Q", 1) == 1, "which it can be");
    check_err(storage_open_head(pool, "lower", true, &none, parent, &err), IM_UNSUPPORTED,
              "what is frozen is not opened");
    check_err(storage_read(pool, "upper", &none, parent, &err), IM_UNSUPPORTED,
              "and a head is not read as if it were");
    check_err(storage_open_head(pool, "nowhere", false, &none, parent, &err), IM_NOT_FOUND,
              "nor what is not there");
    check_ok(storage_freeze_end(pool, "upper", &err), "it is frozen, with nothing that goes on");
    check(entry_of(pool, "upper").frozen, "from it");
    check_ok(storage_remove(pool, "upper", &err) && storage_remove(pool, "lower", &err), "both go");
}

static void suite_reparent(struct storage_pool *pool) {
    char parent[STORAGE_NAME_MAX] = "x";

    check_ok(storage_create(pool, "first", GIB, &err) && freeze(pool, "first", "second", &err) &&
                 freeze(pool, "second", "third", &err),
             "three layers");
    check_ok(storage_parent(pool, "first", parent, &err), "the first one's parent");
    check(parent[0] == '\0', "is none");
    check_ok(storage_parent(pool, "third", parent, &err), "the head's");
    check(strcmp(parent, "second") == 0, "is that which was frozen");
    for (int i = 0; i < 2; i++) {
        check_ok(storage_reparent(pool, "third", "first", &err), "the head gets another");
        check_ok(storage_parent(pool, "third", parent, &err), "which");
        check(strcmp(parent, "first") == 0 && strcmp(entry_of(pool, "third").parent, "first") == 0,
              "it names");
    }
    check(entry_of(pool, "third").usage.virtual_bytes == GIB, "it has its size");
    check_ok(storage_sync(pool, "third", &err), "and is made durable");
    check_err(storage_sync(pool, "nowhere", &err), IM_NOT_FOUND, "a missing one");
    check_err(storage_reparent(pool, "second", "first", &err), IM_UNSUPPORTED, "a frozen one");
    check_err(storage_reparent(pool, "nowhere", "first", &err), IM_NOT_FOUND, "a missing one");
    check_err(storage_parent(pool, "nowhere", parent, &err), IM_NOT_FOUND, "its parent");
    check_ok(storage_create(pool, "alone", GIB, &err), "one without parent");
    check_err(storage_reparent(pool, "alone", "first", &err), IM_UNSUPPORTED, "gets none");
    for (int i = 0; i < 4; i++)
        check_ok(storage_remove(
                     pool, ((const char *const[]){"alone", "third", "second", "first"})[i], &err),
                 "removed");
}

static void suite_import(struct storage_pool *pool) {
    IM_AUTO(fd_auto) int fd = -1;
    IM_AUTO(fd_auto) int second = -1;

    check_ok(storage_import_begin(pool, "i", &fd, &err), "an import begins");
    check(entry_of(pool, "i").partial, "and is half made");
    check_err(storage_attach_info(pool, "i", &(struct storage_source){0}, &err), IM_NOT_FOUND,
              "nobody can use it");
    check_err(storage_import_end(pool, "i", fd, &err), IM_BAD_IMAGE, "empty it is no image");
    check_ok(qcow2_overlay_write(fd, "/etc/passwd", "raw", GIB, &err), "filled with an overlay");
    check_err(storage_import_end(pool, "i", fd, &err), IM_BAD_IMAGE, "nor is it one");
    check_ok(storage_import_begin(pool, "i", &second, &err), "it begins anew");
    check_err(storage_import_end(pool, "i", fd, &err), IM_NOT_FOUND, "the old file is nothing");
    check_ok(qcow2_overlay_write(second, NULL, NULL, GIB, &err), "filled with an image");
    check_ok(storage_import_end(pool, "i", second, &err), "it ends");
    check_ok(storage_import_end(pool, "i", second, &err), "and again");
    check(entry_of(pool, "i").frozen && !entry_of(pool, "i").partial &&
              entry_of(pool, "i").usage.virtual_bytes == GIB,
          "as a frozen layer");
    check_ok(storage_clone(pool, "i", "i-head", GIB, &err), "that is cloned");
    check_ok(import(pool, "j", GIB, &err) && storage_remove(pool, "j", &err), "one is removed");
    check_ok(storage_import_begin(pool, "k", &(int){-1}, &err) && storage_remove(pool, "k", &err),
             "and a half-made one");
    check(!exists(pool, "j") && !exists(pool, "k"), "both are gone");
}

static void suite_refuse(struct storage_pool *pool) {
    static const char *const names[] = {"",
                                        "..",
                                        "../x",
                                        "a/b",
                                        "A",
                                        "a b",
                                        "a.b",
                                        "-a",
                                        "a@b",
                                        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                         "aaaaaaaaaaaaaaaaaaaaa")};
    static const uint64_t sizes[] = {0, 1, 513, STORAGE_SIZE_MAX + 512, UINT64_MAX};
    size_t before = count_of(pool);
    int fd;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_err(storage_create(pool, names[i], GIB, &err), IM_BAD_MESSAGE, "no name: %s",
                  names[i]);
        check_err(storage_clone(pool, "a", names[i], GIB, &err), IM_BAD_MESSAGE, "nor for a clone");
        check_err(storage_freeze_begin(pool, "b", names[i], frozen, head, &err), IM_BAD_MESSAGE,
                  "nor for what goes on");
        check_err(storage_import_begin(pool, names[i], &fd, &err), IM_BAD_MESSAGE,
                  "nor for an import");
    }
    check_err(storage_remove(pool, "../x", &err), IM_BAD_MESSAGE, "no path is removed");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_err(storage_create(pool, "n", sizes[i], &err), IM_BAD_MESSAGE, "no size: %llu",
                  (unsigned long long) sizes[i]);
        check_err(storage_resize(pool, "b", sizes[i], &err), IM_BAD_MESSAGE, "nor to grow to");
    }
    check(count_of(pool) == before, "nothing came of it");
}

static void suite_chain(struct storage_pool *pool) {
    char name[32], next[32];
    struct im_err fail = {0};
    bool fine = storage_create(pool, "chain-0", GIB, &fail);

    for (int i = 0; fine && i < 100; i++) {
        snprintf(name, sizeof(name), "chain-%d", i);
        snprintf(next, sizeof(next), "chain-%d", i + 1);
        fine = freeze(pool, name, next, &fail) && strcmp(entry_of(pool, next).parent, name) == 0;
    }
    check(fine, "a chain of a hundred overlays %s", fail.text);
    for (int i = 100; fine && i >= 0; i--) {
        snprintf(name, sizeof(name), "chain-%d", i);
        fine = storage_remove(pool, name, &fail);
    }
    check(fine, "and its removal %s", fail.text);
}

static void suite(struct storage_pool *pool) {
    suite_make(pool);
    suite_change(pool);
    suite_open_head(pool);
    suite_reparent(pool);
    suite_import(pool);
    suite_refuse(pool);
    suite_chain(pool);
    suite_put(pool);
    suite_notes(pool);
}

/* Many machines are made at once. */
static void *make_many(void *arg) {
    struct storage_pool *pool = arg;
    static int turn;
    int mine = __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED);
    struct im_err err = {0};
    bool fine = true;

    for (int i = 0; i < 50; i++) {
        IM_AUTO(free_auto) char *name = im_printf("t-%d-%d", mine, i);

        fine =
            fine && storage_clone(pool, "i", name, GIB, &err) && storage_remove(pool, name, &err);
    }
    if (!fine)
        test_note("%s", err.text);
    return fine ? pool : NULL;
}

static void suite_threads(struct storage_pool *pool) {
    pthread_t threads[4];
    size_t before = count_of(pool);
    bool fine = true;
    void *result;

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, make_many, pool);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        fine = fine && result != NULL;
    }
    check(fine && count_of(pool) == before, "four threads clone and remove");
}

/* --- Faults ----------------------------------------------------------------------------------- */

/* Every call of a longer story fails once, before and after its effect; the story told again from
 * its beginning ends well and leaves what it should. */
static bool story(struct storage_pool *pool, struct im_err *err) {
    return import(pool, "s-base", GIB, err) && storage_clone(pool, "s-base", "s-1", GIB, err) &&
           storage_resize(pool, "s-1", 2 * GIB, err) && freeze(pool, "s-1", "s-2", err) &&
           storage_freeze_undo(pool, "s-1", "s-2", err) && storage_remove(pool, "s-1", err);
}

static void test_faults(struct storage_pool *pool) {
    bool fine = true;
    unsigned calls;
    struct im_err err = {0};

    storage_faulty_set(pool, 0, IM_OK, false);
    check(story(pool, &err) && storage_remove(pool, "s-base", &err), "a story without a fault");
    calls = storage_faulty_calls(pool);
    check(calls == 9, "of nine calls (%u)", calls);
    for (unsigned n = 1; n < calls; n++) {
        for (int after = 0; after < 2; after++) {
            err = (struct im_err){0};
            storage_faulty_set(pool, n, IM_NO_SPACE, after);
            fine = fine && !story(pool, &err) && err.code == IM_NO_SPACE;
            storage_faulty_set(pool, 0, IM_OK, false);
            fine = fine && storage_remove(pool, "s-2", &err) && storage_remove(pool, "s-1", &err);
            fine = fine && story(pool, &err);
        }
    }
    check(fine, "each call fails and the story goes on: %s", err.text);
    check_ok(storage_remove(pool, "s-base", &err), "and leaves its base alone");
    check(!exists(pool, "s-base") && !exists(pool, "s-1") && !exists(pool, "s-2"), "in the end");
}

/* --- Broken off ------------------------------------------------------------------------------- */

enum verb { CREATE, CLONE, BEGIN, END, UNDO, REMOVE, IMPORT_BEGIN, IMPORT, VERBS };
static const char *const verb_names[] = {"create",      "clone",  "freeze_begin", "freeze_end",
                                         "freeze_undo", "remove", "import_begin", "import"};

static bool do_verb(struct storage_pool *pool, enum verb verb, struct im_err *err) {
    int fd;

    switch (verb) {
    case CREATE:
        return storage_create(pool, "x", GIB, err);
    case CLONE:
        return storage_clone(pool, "base", "x", GIB, err);
    case BEGIN:
        return storage_freeze_begin(pool, "head", "x", frozen, head, err);
    case END:
        return storage_freeze_end(pool, "head", err);
    case UNDO:
        return storage_freeze_undo(pool, "head", "x", err);
    case REMOVE:
        return storage_remove(pool, "head", err);
    case IMPORT_BEGIN:
        return storage_import_begin(pool, "x", &fd, err);
    default:
        return import(pool, "x", GIB, err);
    }
}

static unsigned step_left;

static void die_at_step(void) {
    if (--step_left == 0)
        _exit(42);
}

/* Whether the verb died at its n-th step. */
static bool dies(const char *uri, enum verb verb, unsigned n) {
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct im_err err = {0};
        struct storage_pool *pool = storage_open(uri, &err);

        step_left = n;
        storage_local_step = die_at_step;
        _exit(pool != NULL && do_verb(pool, verb, &err) ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 42 && WEXITSTATUS(status) != 0))
        test_note("%s failed in the child", verb_names[verb]);
    return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

/* The state after the verb was done whole. */
static bool as_done(struct storage_pool *pool, enum verb verb) {
    struct storage_entry x = entry_of(pool, "x"), old = entry_of(pool, "head");

    switch (verb) {
    case CREATE:
    case CLONE:
    case BEGIN:
        return x.name[0] != '\0' && !x.partial && !x.frozen;
    case END:
        return old.frozen;
    case UNDO:
        return !old.frozen && old.name[0] != '\0' && x.name[0] == '\0';
    case REMOVE:
        return old.name[0] == '\0';
    case IMPORT_BEGIN:
        return x.partial;
    default:
        return x.frozen && !x.partial;
    }
}

static bool set_scene(struct storage_pool *pool, enum verb verb, struct im_err *err) {
    return storage_remove(pool, "x", err) && storage_remove(pool, "head", err) &&
           storage_create(pool, "head", GIB, err) &&
           (verb != UNDO || freeze(pool, "head", "x", err));
}

static void test_broken_off(void) {
    IM_AUTO(free_auto) char *uri = im_printf("local:%s/broken", test_folder());
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    struct im_err err = {0};

    pool = storage_open(uri, &err);
    if (!check(pool != NULL && import(pool, "base", GIB, &err), "a pool with a base"))
        return;
    for (enum verb verb = 0; verb < VERBS; verb++) {
        unsigned deaths = 0;
        bool fine = true;

        for (;; deaths++) {
            struct storage_entry x;

            fine = fine && set_scene(pool, verb, &err);
            if (!dies(uri, verb, deaths + 1))
                break;
            /* What has its final name is whole. */
            x = entry_of(pool, "x");
            fine = fine && (x.partial || x.name[0] == '\0' || x.usage.virtual_bytes == GIB);
            fine = fine && do_verb(pool, verb, &err) && as_done(pool, verb);
        }
        check(fine && as_done(pool, verb) && deaths > 0,
              "%s, broken off at %u places, is repeated %s", verb_names[verb], deaths, err.text);
    }
    check_ok(set_scene(pool, CREATE, &err), "all of it is removable");
    check(count_of(pool) == 2, "and nothing else is left");
}

/* --- The folder ------------------------------------------------------------------------------- */

static bool opens(const char *uri, struct im_err *err) {
    IM_AUTO(storage_close_auto) struct storage_pool *pool = storage_open(uri, err);

    return pool != NULL;
}

static void test_folder_rules(void) {
    IM_AUTO(free_auto) char *here = im_printf("%s/here", test_folder());
    IM_AUTO(free_auto) char *there = im_printf("%s/there", test_folder());
    IM_AUTO(free_auto) char *uri = im_printf("local:%s", here);
    IM_AUTO(free_auto) char *moved = im_printf("local:%s", there);
    IM_AUTO(free_auto) char *mark = im_printf("%s/pool", there);
    IM_AUTO(free_auto) char *layers = im_printf("%s/layers", there);
    IM_AUTO(free_auto) char *orphan = im_printf("local:%s/no/parent", test_folder());
    IM_AUTO(free_auto) char *saved = im_printf("%s.saved", mark);
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    struct storage_source source = {0};
    struct im_err fail = {0};

    pool = storage_open(uri, &fail);
    check(pool != NULL && strcmp(storage_uri(pool), uri) == 0, "a pool is made");
    check_ok(import(pool, "base", GIB, &err) && storage_clone(pool, "base", "top", GIB, &err),
             "with a chain");
    storage_close(im_steal(&pool));
    check(rename(here, there) == 0, "its folder is moved");
    pool = storage_open(moved, &fail);
    check(pool != NULL && strcmp(entry_of(pool, "top").parent, "base") == 0, "it is still a pool");
    check_ok(storage_attach_info(pool, "top", &source, &err), "its layers are at the new place");
    check(source.path != NULL && strncmp(source.path, there, strlen(there)) == 0, "as told");
    check_ok(im_run((const char *const[]){"qemu-io", "-f", "qcow2", "-c", "read 0 64k", source.path,
                                          NULL},
                    NULL, 60000, NULL, &err),
             "and QEMU reads the chain there");
    storage_source_done(&source);
    check_err(opens(orphan, &err), IM_INTERNAL, "a folder without a parent is not made");
    check(rename(mark, saved) == 0, "its mark is lost");
    check_err(opens(moved, &err), IM_INTERNAL, "it is not taken for a new one");
    check_ok(im_write_file(mark, "imprint pool 2\n", 15, 0644, &err), "a newer version's mark");
    check_err(opens(moved, &err), IM_UNSUPPORTED, "is refused");
    check(rename(saved, mark) == 0, "its mark is back");
    check_ok(opens(moved, &err), "and all is well");
    storage_close(im_steal(&pool));
    check(rename(layers, here) == 0, "its layers are lost");
    check_err(opens(moved, &err), IM_INTERNAL, "that is told");
}

/* A start that was broken off before the mark was written. */
static void test_first_start(void) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/first", test_folder());
    IM_AUTO(free_auto) char *layers = im_printf("%s/layers", folder);
    IM_AUTO(free_auto) char *file = im_printf("%s/a.qcow2", layers);
    IM_AUTO(free_auto) char *uri = im_printf("local:%s", folder);

    check(mkdir(folder, 0755) == 0 && mkdir(layers, 0755) == 0, "half a pool");
    check_ok(im_write_file(file, "x", 1, 0600, &err), "with something in it");
    check_err(opens(uri, &err), IM_INTERNAL, "is somebody's");
    check(unlink(file) == 0, "without");
    check_ok(opens(uri, &err), "it is made whole");
}

static void test_rights(void) {
    IM_AUTO(free_auto) char *uri = im_printf("local:%s/rights", test_folder());
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    struct storage_source source = {0};
    struct im_err fail = {0};
    struct stat st = {0};
    bool root = geteuid() == 0;

    pool = storage_open(uri, &fail);
    storage_set_owner(pool, 12345, 54321);
    check_ok(storage_create(pool, "a", GIB, &err) && storage_attach_info(pool, "a", &source, &err),
             "a head for the machines' user");
    check(stat(source.path, &st) == 0 && (st.st_mode & 0777) == 0600 &&
              (!root || (st.st_uid == 12345 && st.st_gid == 54321)),
          "belongs to that user alone");
    check_ok(freeze(pool, "a", "b", &err), "frozen");
    check(stat(source.path, &st) == 0 && (st.st_mode & 0777) == 0444 &&
              (!root || st.st_uid == geteuid()),
          "it is ours and read-only");
    check_ok(storage_freeze_undo(pool, "a", "b", &err), "taken back");
    check(stat(source.path, &st) == 0 && (st.st_mode & 0777) == 0600 &&
              (!root || st.st_uid == 12345),
          "it is that user's again");
    storage_source_done(&source);
}

int main(void) {
    IM_AUTO(free_auto) char *uri = im_printf("local:%s/pool", test_folder());
    IM_AUTO(free_auto) char *behind = im_printf("local:%s/behind", test_folder());
    IM_AUTO(storage_close_auto) struct storage_pool *local = NULL;
    IM_AUTO(storage_close_auto) struct storage_pool *memory = NULL;
    IM_AUTO(storage_close_auto) struct storage_pool *faulty = NULL;
    struct im_err err = {0};

    local = storage_open(uri, &err);
    memory = storage_open("memory:", &err);
    faulty = storage_open(behind, &err);
    if (!check(local != NULL && memory != NULL && faulty != NULL, "pools are opened: %s", err.text))
        return test_end();
    faulty = storage_faulty(faulty);
    storage_faulty_set(faulty, 0, IM_OK, false);
    test_note("memory");
    suite(memory);
    suite_threads(memory);
    test_note("local");
    suite(local);
    suite_threads(local);
    test_note("local, behind a wrapper that could fail");
    suite(faulty);
    test_faults(faulty);
    test_faults(storage_faulty(memory));
    test_broken_off();
    test_folder_rules();
    test_first_start();
    test_rights();
    return test_end();
}
