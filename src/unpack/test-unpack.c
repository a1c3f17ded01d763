/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of the compressors, whole and spoiled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "unpack/unpack.h"
#include "harness/test.h"

#define PLAIN (3u << 20)

static const struct {
    enum packing packing;
    const char *command;
    bool common, summed; /* found in anything; damage is always seen */
} tools[] = {{PACKING_GZIP, "gzip", true, true},
             {PACKING_XZ, "xz", true, true},
             {PACKING_ZSTD, "zstd", true, true},
             {PACKING_BZIP2, "bzip2", true, true},
             {PACKING_LZMA, "xz --format=lzma", false, false},
             {PACKING_LZ4, "lz4 -l", false, false}};

static uint8_t *plain;
static char path[256];

static void write_file(const char *name, const void *bytes, size_t len) {
    struct im_err err = {0};

    if (!im_write_file(name, bytes, len, 0600, &err))
        abort();
}

/* What `tool -c` makes of `len` bytes. */
static char *pack(const char *tool, const void *bytes, size_t len, size_t *ret_len) {
    IM_AUTO(free_auto) char *command = im_printf("%s -c < %s > %s.packed", tool, path, path);
    IM_AUTO(free_auto) char *out = im_printf("%s.packed", path);
    const char *argv[] = {"sh", "-c", command, NULL};
    struct im_err err = {0};
    char *text = NULL;

    write_file(path, bytes, len);
    if (!im_run(argv, NULL, 60000, NULL, &err) ||
        !im_read_file(out, 1u << 26, &text, ret_len, &err))
        test_note("%s", err.text);
    return text;
}

/* Feeds pieces of `step` bytes; *ret_plain may be NULL. */
static bool unpack(enum packing packing, const struct unpacker_limits *limits, const char *bytes,
                   size_t len, size_t step, struct im_str *out, struct im_err *err) {
    IM_AUTO(unpacker_free_auto) struct unpacker *unpacker = unpacker_new(packing, limits, err);
    static uint8_t buffer[70000];
    size_t fed = 0, got;

    if (!unpacker)
        return false;
    for (;;) {
        if (!unpacker_take(unpacker, buffer, sizeof(buffer), &got, err))
            return false;
        im_str_add_bytes(out, (char *) buffer, got);
        if (got > 0)
            continue;
        if (fed == len)
            return true;
        got = len - fed < step ? len - fed : step;
        unpacker_feed(unpacker, bytes + fed, got, fed + got == len);
        fed += got;
    }
}

static void test_one(size_t which) {
    enum packing packing = tools[which].packing;
    const char *name = tools[which].command;
    size_t len = 0, small_len = 0;
    IM_AUTO(free_auto) char *packed = pack(name, plain, PLAIN, &len);
    IM_AUTO(free_auto) char *small = pack(name, "hello", 5, &small_len);
    struct unpacker_limits none = {0}, few = {.max_bytes = 1u << 20},
                           ratio = {.max_ratio = 2, .ratio_floor = 1u << 20};
    struct im_str out = {0}, two = {0};

    check(packing_detect_all(packed, len) == packing, "%s is recognised", name);
    check(packing_detect(packed, len) == (tools[which].common ? packing : PACKING_NONE),
          "%s: among all else", name);
    check_ok(unpack(packing, &none, packed, len, 1000, &out, &err), "%s unpacks in small pieces",
             name);
    check(out.len == PLAIN && memcmp(out.data, plain, PLAIN) == 0, "%s gives the bytes back", name);
    im_str_done(&out);

    im_str_add_bytes(&two, packed, len);
    im_str_add_bytes(&two, small, small_len);
    check_ok(unpack(packing, &none, two.data, two.len, 77777, &out, &err), "%s: two members", name);
    check(out.len == PLAIN + 5 && memcmp(out.data + PLAIN, "hello", 5) == 0, "%s: both are there",
          name);
    im_str_done(&out);

    im_str_add(&two, "junk");
    check_err(unpack(packing, &none, two.data, two.len, 4096, &out, &err), IM_BAD_IMAGE,
              "%s: junk behind the end", name);
    check_err(unpack(packing, &none, packed, len - 9, 4096, &out, &err), IM_BAD_IMAGE,
              "%s: cut short", name);
    check_err(unpack(packing, &few, packed, len, 4096, &out, &err), IM_QUOTA, "%s: above the limit",
              name);
    check_err(unpack(packing, &ratio, packed, len, 4096, &out, &err), IM_BAD_IMAGE, "%s: a bomb",
              name);
    packed[len / 2] ^= 0x55;
    packed[len / 2 + 1] ^= 0x55;
    if (tools[which].summed)
        check_err(unpack(packing, &none, packed, len, 4096, &out, &err), IM_BAD_IMAGE,
                  "%s: damaged", name);
    im_str_done(&out);
    im_str_done(&two);
}

/* One member alone, and where it ended: what follows is something else's. */
static void test_member(size_t which) {
    struct unpacker_limits limits = {.one_member = true};
    size_t len = 0, got, rest = 0;
    IM_AUTO(free_auto) char *packed = pack(tools[which].command, "hello", 5, &len);
    struct im_str both = {0};
    struct im_err err = {0};
    IM_AUTO(unpacker_free_auto) struct unpacker *unpacker = NULL;
    char buffer[64];

    im_str_add_bytes(&both, packed, len);
    im_str_add_bytes(&both, "\0\0\0\0other", 9);
    unpacker = unpacker_new(tools[which].packing, &limits, &err);
    unpacker_feed(unpacker, both.data, both.len, true);
    check_ok(unpacker_take(unpacker, buffer, sizeof(buffer), &got, &err) && got == 5,
             "%s: one member is unpacked", tools[which].command);
    check_ok(unpacker_take(unpacker, buffer, sizeof(buffer), &got, &err) && got == 0,
             "%s: and then no more", tools[which].command);
    (void) unpacker_ended(unpacker, &rest);
    check(unpacker_ended(unpacker, &rest) && rest > 4 &&
              memcmp(both.data + both.len - rest, "\0\0\0\0other" + (9 - rest), rest) == 0,
          "%s: it has ended, %zu bytes are left", tools[which].command, rest);
    im_str_done(&both);
}

static void test_memory(void) {
    size_t len = 0;
    IM_AUTO(free_auto) char *xz = pack("xz -9e --lzma2=dict=64MiB", plain, PLAIN, &len);
    struct unpacker_limits little = {.memory_bytes = 4u << 20};
    struct im_str out = {0};

    check_err(unpack(PACKING_XZ, &little, xz, len, 4096, &out, &err), IM_BAD_IMAGE,
              "xz that wants too much memory");
    im_str_done(&out);
}

int main(void) {
    uint32_t seed = 1;

    snprintf(path, sizeof(path), "%s/plain", test_folder());
    plain = im_alloc(PLAIN);
    for (size_t i = 0; i < PLAIN; i++) { /* compresses about ten times */
        seed = seed * 1664525 + 1013904223;
        plain[i] = i % 16 == 0 ? seed >> 24 : 'x';
    }
    for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
        test_one(i), test_member(i);
    test_memory();
    check(packing_detect("QFI\xfb", 4) == PACKING_NONE, "a qcow2 is not compressed");
    check(packing_detect("", 0) == PACKING_NONE, "nothing is not compressed");
    free(plain);
    return test_end();
}
