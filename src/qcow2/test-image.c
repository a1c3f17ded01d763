/* SPDX-License-Identifier: Apache-2.0 */
/* Whole images, read and written: what QEMU made is read, what we wrote QEMU reads, and what is
 * spoiled is refused for the right reason. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "harness/run.h"
#include "harness/test.h"
#include "qcow2/qcow2.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define RAW_SIZE (9 * MIB + 1536) /* not a whole number of clusters of any size but 512 */

static char raw_path[128], image_path[128], other_path[128];
static unsigned char *raw; /* RAW_SIZE bytes: what every image here holds */

static int open_file(const char *path, int flags) { return open(path, flags | O_CLOEXEC, 0600); }

/* Data, holes and zeros of all lengths; some of it compresses, some does not. */
static void make_raw(void) {
    uint64_t state = 42;
    IM_AUTO(fd_auto) int fd = -1;

    raw = im_alloc(RAW_SIZE);
    for (uint64_t at = 0; at < RAW_SIZE; at++) {
        uint64_t part = at / (96 * KIB);

        state = state * 6364136223846793005ull + 1442695040888963407ull;
        if (part % 3 == 1)
            raw[at] = (unsigned char) (state >> 56);
        else if (part % 3 == 2)
            raw[at] = (unsigned char) (at >> 8);
    }
    fd = open_file(raw_path, O_RDWR | O_CREAT | O_TRUNC);
    check_ok(im_pwrite_all(fd, raw, RAW_SIZE, 0, raw_path, &err), "a raw disk is made");
}

static struct qcow2_reader *reader_of(int fd, const struct qcow2_limits *limits,
                                      struct im_err *err) {
    struct qcow2_reader *reader = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        im_fail(err, IM_INTERNAL, "no file");
        return NULL;
    }
    return qcow2_reader_open(fd, (uint64_t) st.st_size, limits, &reader, err) ? reader : NULL;
}

/* The whole image by its map: extents follow one another, data lies where the map says. */
static bool same_by_map(struct qcow2_reader *reader, int fd, struct im_err *err) {
    IM_AUTO(free_auto) unsigned char *got = im_alloc(RAW_SIZE);
    struct qcow2_extent extent;

    for (uint64_t at = 0; at < RAW_SIZE; at += extent.len) {
        if (!qcow2_reader_map(reader, at, &extent, err))
            return false;
        if (extent.guest_offset != at || extent.len == 0 || extent.len > RAW_SIZE - at)
            return im_fail(err, IM_INTERNAL, "the map goes wrong at %" PRIu64, at);
        if (extent.kind == QCOW2_DATA &&
            !im_pread_all(fd, got + at, extent.len, extent.file_offset, "the image", err))
            return false;
        if (extent.kind == QCOW2_COMPRESSED &&
            !qcow2_reader_read(reader, at, got + at, extent.len, err))
            return false;
    }
    return memcmp(got, raw, RAW_SIZE) == 0 || im_fail(err, IM_INTERNAL, "the content differs");
}

/* And in pieces that fit no cluster. */
static bool same_by_read(struct qcow2_reader *reader, struct im_err *err) {
    IM_AUTO(free_auto) unsigned char *got = im_alloc(RAW_SIZE);
    const size_t piece = 77777;

    for (uint64_t at = 0; at < RAW_SIZE; at += piece)
        if (!qcow2_reader_read(reader, at, got + at, RAW_SIZE - at < piece ? RAW_SIZE - at : piece,
                               err))
            return false;
    return memcmp(got, raw, RAW_SIZE) == 0 || im_fail(err, IM_INTERNAL, "the content differs");
}

static bool reads_well(const char *path, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open_file(path, O_RDONLY);
    IM_AUTO(qcow2_reader_free_auto) struct qcow2_reader *reader = reader_of(fd, NULL, err);
    struct qcow2_totals totals;

    if (reader == NULL)
        return false;
    if (qcow2_reader_size(reader) != RAW_SIZE)
        return im_fail(err, IM_INTERNAL, "the size is %" PRIu64, qcow2_reader_size(reader));
    return qcow2_reader_scan(reader, &totals, err) && same_by_map(reader, fd, err) &&
           same_by_read(reader, err);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static void test_foreign(void) {
    static const struct {
        const char *options;
        bool compress;
    } kinds[] = {
        {"compat=1.1", false},
        {"compat=0.10", false},
        {"compat=0.10", true},
        {"cluster_size=512", false},
        {"cluster_size=512", true},
        {"cluster_size=4096", true},
        {"cluster_size=2M", false},
        {"cluster_size=2M", true},
        {"compression_type=zlib", true},
        {"compression_type=zstd", true},
        {"compression_type=zstd,cluster_size=2M", true},
        {"lazy_refcounts=on", false},
        {"refcount_bits=1", false},
        {"refcount_bits=64", false},
        {"preallocation=metadata", false},
        {"preallocation=falloc", false},
        {"preallocation=full", false},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *form = kinds[i].compress ? "-c" : "-q";

        check(RUN("qemu-img", "convert", form, "-f", "raw", "-O", "qcow2", "-o", kinds[i].options,
                  raw_path, image_path),
              "qemu-img writes %s%s", kinds[i].options, kinds[i].compress ? ", compressed" : "");
        check_ok(reads_well(image_path, &err), "and we read it");
    }
}

/* Marked zeros, with and without a cluster of the file behind them. */
static void test_zeros(void) {
    IM_AUTO(fd_auto) int fd = -1;
    IM_AUTO(qcow2_reader_free_auto) struct qcow2_reader *reader = NULL;
    struct qcow2_extent extent = {0};
    struct qcow2_totals totals = {0};
    struct im_err fail = {0};
    unsigned char byte = 1;

    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", image_path, "600G") &&
              RUN("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 1M", "-c", "write -z 64k 128k",
                  "-c", "write -z 2M 1M", "-c", "write -P 6 599G 64k", image_path),
          "an image with marked zeros");
    fd = open_file(image_path, O_RDONLY);
    reader = reader_of(fd, NULL, &fail);
    check(reader != NULL, "is opened");
    check_ok(qcow2_reader_map(reader, 65536 + 512, &extent, &err), "mapped inside the zeros");
    check(extent.kind == QCOW2_ZERO && extent.len == 128 * KIB - 512,
          "they are zeros to their end");
    check_ok(qcow2_reader_map(reader, 192 * KIB, &extent, &err), "behind them");
    check(extent.kind == QCOW2_DATA && extent.len == MIB - 192 * KIB, "lies data");
    check_ok(qcow2_reader_map(reader, MIB, &extent, &err), "then");
    check(extent.kind == QCOW2_HOLE && extent.len == MIB, "a hole");
    check_ok(qcow2_reader_map(reader, 2 * MIB, &extent, &err), "then");
    check(extent.kind == QCOW2_ZERO && extent.len == MIB, "zeros without a place");
    check_ok(qcow2_reader_read(reader, 65536, &byte, 1, &err) && byte == 0, "zeros are read");
    for (uint64_t at = 3 * MIB; at < 599 * 1024 * MIB; at += extent.len)
        if (!qcow2_reader_map(reader, at, &extent, &fail) || extent.kind != QCOW2_HOLE)
            break;
    check(extent.kind == QCOW2_HOLE, "the large hole is found");
    check_ok(qcow2_reader_read(reader, 599 * 1024 * MIB, &byte, 1, &err) && byte == 6,
             "and the data at its end");
    check_ok(qcow2_reader_scan(reader, &totals, &err), "it is scanned");
    check(totals.data_bytes == MIB - 128 * KIB + 64 * KIB && totals.compressed_bytes == 0,
          "and its data is counted (%" PRIu64 ")", totals.data_bytes);
    check_err(qcow2_reader_map(reader, 600 * 1024 * MIB, &extent, &err), IM_BAD_MESSAGE,
              "nothing lies beyond its end");
    check_err(qcow2_reader_read(reader, 600 * 1024 * MIB - 1, &byte, 2, &err), IM_BAD_MESSAGE,
              "and nothing is read there");
}

/* Opens, scans and reads all: what somebody does who must not be hurt. */
static bool use(const char *path, const struct qcow2_limits *limits, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open_file(path, O_RDONLY);
    IM_AUTO(qcow2_reader_free_auto) struct qcow2_reader *reader = reader_of(fd, limits, err);
    IM_AUTO(free_auto) unsigned char *got = im_alloc(MIB);
    struct qcow2_totals totals;

    if (reader == NULL || !qcow2_reader_scan(reader, &totals, err))
        return false;
    for (uint64_t at = 0; at < qcow2_reader_size(reader); at += MIB)
        if (!qcow2_reader_read(
                reader, at, got,
                qcow2_reader_size(reader) - at < MIB ? qcow2_reader_size(reader) - at : MIB, err))
            return false;
    return true;
}

static void refused(const char *path, const char *reason) {
    struct im_err why = {0};
    bool fine = use(path, NULL, &why);

    if (!check(!fine && why.code == IM_BAD_IMAGE && strstr(why.text, reason) != NULL, "refused: %s",
               reason))
        test_note("%s", fine ? "accepted" : why.text);
}

static void test_features(void) {
    static const struct {
        const char *options, *reason;
    } kinds[] = {
        {"extended_l2=on", "extended L2"},
        {"backing_file=/etc/passwd,backing_fmt=raw", "backing file"},
    };
    struct qcow2_limits limits = {.size_max = 8 * MIB};
    IM_AUTO(free_auto) char *data_file = NULL;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        check(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", kinds[i].options, "-u",
                  image_path, "9M"),
              "qemu-img makes an image with %s", kinds[i].options);
        refused(image_path, kinds[i].reason);
    }
    data_file = im_printf("data_file=%s", other_path);
    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", data_file, image_path, "9M"),
          "and one whose data lies elsewhere");
    refused(image_path, "data file");
    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", image_path, "9M") &&
              RUN("qemu-img", "snapshot", "-c", "s1", image_path),
          "and one with a snapshot");
    refused(image_path, "internal snapshot");
    check_err(use(raw_path, NULL, &err), IM_BAD_IMAGE, "a raw disk is no image");
    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", image_path, "9M"), "one of 9 MiB");
    check_err(use(image_path, &limits, &err), IM_BAD_IMAGE, "is above a limit of 8 MiB");
}

struct patch {
    uint64_t offset;
    unsigned bytes;
    uint64_t value;
    const char *reason;
};

static bool patch_file(const char *path, const struct patch *patch) {
    IM_AUTO(fd_auto) int fd = open_file(path, O_WRONLY);
    unsigned char bytes[8];

    for (unsigned i = 0; i < patch->bytes; i++)
        bytes[i] = (unsigned char) (patch->value >> 8 * (patch->bytes - 1 - i));
    return pwrite(fd, bytes, patch->bytes, (off_t) patch->offset) == (ssize_t) patch->bytes;
}

/* qemu-img's layout: refcount table at 64 KiB, its block at 128 KiB, L1 at 192 KiB, L2 at 256 KiB,
 * data from 320 KiB on. */
static void test_spoiled(void) {
    static const struct patch patches[] = {
        {0, 4, 0x12345678, "does not begin"},
        {4, 4, 4, "version 4"},
        {8, 8, 1ull << 40, "backing file"},
        {16, 4, 5, "backing file"},
        {20, 4, 8, "clusters of"},
        {20, 4, 22, "clusters of"},
        {20, 4, 63, "clusters of"},
        {24, 8, 0, "virtual size of 0"},
        {24, 8, 9 * MIB + 1, "virtual size"},
        {24, 8, 1ull << 50, "too small"},
        {24, 8, UINT64_MAX - 511, "too small"},
        {32, 4, 1, "encrypted"},
        {32, 4, 2, "encrypted"},
        {36, 4, 0, "too small"},
        {36, 4, 1048576, "L1 table of 1048576 entries at 196608 reaches beyond the end"},
        {36, 4, UINT32_MAX, "too large"},
        {40, 8, 196608 + 8, "multiple of the cluster"},
        {40, 8, 1ull << 62, "beyond the end"},
        {40, 8, 0, "lies on the header"},
        {48, 8, 1ull << 40, "refcount table"},
        {56, 4, 0, "no refcount table"},
        {56, 4, UINT32_MAX, "refcount table"},
        {60, 4, 3, "internal snapshot"},
        {72, 8, 2, "corrupt"},
        {72, 8, 4, "data file"},
        {72, 8, 8, "compression"},
        {72, 8, 16, "extended L2"},
        {72, 8, 1ull << 63, "not known"},
        {96, 4, 7, "2^7"},
        {100, 4, 96, "header of 96"},
        {100, 4, 1u << 17, "header of 131072"},
        {104, 1, 2, "compression 2"},
        {112, 4, 0x44415441, "data file"},
        {116, 4, 0x7fffffff, "beyond the header"},
        {196608, 8, (1ull << 63) | 262144 | 512, "L2 table"},
        {196608, 8, (1ull << 63) | (1ull << 40), "L2 table"},
        {196608, 8, (1ull << 63) | 196608, "used twice"},
        {262144, 8, (1ull << 63) | (1ull << 40), "end of the file"},
        {262144, 8, (1ull << 63) | 327680 | 512, "does not begin at a cluster"},
        {262144, 8, (1ull << 63) | 262144, "used twice"},
        {262144, 8, (1ull << 63) | 65536 * 6, "used twice"},
        {262144, 8, (1ull << 62) | (1ull << 40), "compressed"},
        {262144, 8, (1ull << 62) | 1024, "compressed"},
        {262144, 8, (1ull << 62) | 327680, "compressed"},
    };

    for (size_t i = 0; i < sizeof(patches) / sizeof(patches[0]); i++) {
        if (!RUN("qemu-img", "create", "-q", "-f", "qcow2", image_path, "9M") ||
            !RUN("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 256k", image_path) ||
            !patch_file(image_path, &patches[i])) {
            check(false, "an image is spoiled");
            return;
        }
        refused(image_path, patches[i].reason);
    }
}

/* A file that was cut anywhere is refused or reads with an error; it never hurts. */
static void test_cut(void) {
    unsigned refusals = 0, cuts = 0;
    struct stat st;

    check(RUN("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4096",
              raw_path, image_path) &&
              stat(image_path, &st) == 0,
          "a compressed image");
    for (off_t len = st.st_size - 8192; len >= 0; len -= st.st_size / 61, cuts++) {
        struct im_err why = {0};

        if (truncate(image_path, len) < 0)
            break;
        if (!use(image_path, NULL, &why) && why.code == IM_BAD_IMAGE)
            refusals++;
    }
    check(cuts > 50 && refusals == cuts, "%u of %u cuts are seen", refusals, cuts);
}

/* --- Writing ---------------------------------------------------------------------------------- */

enum way { BY_DATA, BY_COPY, BY_PLACE };

/* The raw disk without its zero clusters, from its end to its beginning. */
static bool write_image(struct qcow2_writer *writer, int out, int in, enum way way,
                        struct im_err *err) {
    uint64_t at = RAW_SIZE / QCOW2_CLUSTER * QCOW2_CLUSTER, place;

    for (;; at -= QCOW2_CLUSTER) {
        size_t len = RAW_SIZE - at < QCOW2_CLUSTER ? (size_t) (RAW_SIZE - at) : QCOW2_CLUSTER;

        if (im_all_zero(raw + at, len))
            ;
        else if (way == BY_DATA && !qcow2_writer_data(writer, at, raw + at, len, err))
            return false;
        else if (way == BY_COPY && !qcow2_writer_copy(writer, at, in, at, len, err))
            return false;
        else if (way == BY_PLACE && (!qcow2_writer_place(writer, at, len, &place, err) ||
                                     !im_pwrite_all(out, raw + at, len, place, "it", err)))
            return false;
        if (at == 0)
            return true;
    }
}

static void test_write(enum way way) {
    IM_AUTO(fd_auto) int out = open_file(image_path, O_RDWR | O_CREAT | O_TRUNC);
    IM_AUTO(fd_auto) int in = open_file(raw_path, O_RDONLY);
    IM_AUTO(qcow2_writer_free_auto) struct qcow2_writer *writer = NULL;
    struct im_err fail = {0};
    uint64_t place;

    writer = qcow2_writer_new(out, RAW_SIZE, &fail);
    check(writer != NULL, "a writer begins (way %d)", way);
    check_ok(write_image(writer, out, in, way, &err), "clusters are written backwards");
    check(qcow2_writer_placed(writer) < RAW_SIZE && qcow2_writer_placed(writer) > RAW_SIZE / 2,
          "zeros are not among them");
    check_err(qcow2_writer_data(writer, 2 * QCOW2_CLUSTER, raw, QCOW2_CLUSTER, &err),
              IM_BAD_MESSAGE, "none is written twice");
    check_err(qcow2_writer_place(writer, 512, QCOW2_CLUSTER, &place, &err), IM_BAD_MESSAGE,
              "nor beside a cluster's begin");
    check_err(qcow2_writer_place(writer, 0, 512, &place, &err), IM_BAD_MESSAGE,
              "nor a part of one");
    check_err(qcow2_writer_place(writer, RAW_SIZE - 1536, 65536, &place, &err), IM_BAD_MESSAGE,
              "nor beyond the end");
    check_err(use(image_path, NULL, &err), IM_BAD_IMAGE, "half written it is no image");
    check_ok(qcow2_writer_finish(writer, &err), "it is finished");
    check_err(qcow2_writer_place(writer, 0, 65536, &place, &err), IM_BAD_MESSAGE,
              "and takes nothing more");
    check(RUN("qemu-img", "check", "-q", "-f", "qcow2", image_path), "qemu-img finds no error");
    check(RUN("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw_path, image_path),
          "nor a difference");
    check_ok(reads_well(image_path, &err), "and we read it too");
    check(RUN("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 9M", image_path) &&
              RUN("qemu-img", "check", "-q", "-f", "qcow2", image_path),
          "QEMU writes to it");
}

/* Tables for a strewn disk of the largest size, and refcounts for more than one block. */
static void test_write_large(void) {
    IM_AUTO(fd_auto) int out = open_file(image_path, O_RDWR | O_CREAT | O_TRUNC);
    IM_AUTO(qcow2_writer_free_auto) struct qcow2_writer *writer = NULL;
    IM_AUTO(qcow2_reader_free_auto) struct qcow2_reader *reader = NULL;
    static unsigned char got[QCOW2_CLUSTER];
    struct qcow2_totals totals = {0};
    struct im_err fail = {0};
    uint64_t place;

    writer = qcow2_writer_new(out, QCOW2_SIZE_MAX, &fail);
    for (uint64_t i = 0; i < 64; i++)
        if (!qcow2_writer_data(writer, i << 40, raw + 96 * KIB, QCOW2_CLUSTER, &fail))
            break;
    check(fail.code == IM_OK, "64 clusters strewn over 64 TiB");
    check_ok(qcow2_writer_place(writer, 1ull << 30, 3ull << 30, &place, &err) &&
                 qcow2_writer_finish(writer, &err),
             "and 3 GiB in one piece");
    check(RUN("qemu-img", "check", "-q", "-f", "qcow2", image_path), "qemu-img finds no error");
    reader = reader_of(out, NULL, &fail);
    check_ok(reader != NULL && qcow2_reader_scan(reader, &totals, &err), "we scan it");
    check(totals.data_bytes == 3 * 1024 * MIB + 64 * QCOW2_CLUSTER, "all of it is there");
    check_ok(reader != NULL && qcow2_reader_read(reader, 63ull << 40, got, sizeof(got), &err),
             "and read the last");
    check(memcmp(got, raw + 96 * KIB, sizeof(got)) == 0, "which is what was written");
}

static void test_cut_short(void) {
    IM_AUTO(fd_auto) int out = open_file(image_path, O_RDWR | O_CREAT | O_TRUNC);
    IM_AUTO(qcow2_writer_free_auto) struct qcow2_writer *writer = NULL;
    struct im_err fail = {0};

    writer = qcow2_writer_new(out, 4096 * MIB, &fail);
    check_ok(qcow2_writer_data(writer, 0, raw + 96 * KIB, QCOW2_CLUSTER, &err), "a stream begins");
    check_err(qcow2_writer_cut(writer, 8192 * MIB, &err), IM_BAD_MESSAGE, "it does not grow");
    check_ok(qcow2_writer_data(writer, QCOW2_CLUSTER, raw + 96 * KIB, QCOW2_CLUSTER, &err),
             "it goes on");
    check_err(qcow2_writer_cut(writer, QCOW2_CLUSTER, &err), IM_BAD_MESSAGE,
              "it is not cut where it has data");
    check_ok(qcow2_writer_cut(writer, 2 * QCOW2_CLUSTER - 512, &err) &&
                 qcow2_writer_finish(writer, &err),
             "and ends early");
    check(RUN("qemu-img", "check", "-q", "-f", "qcow2", image_path), "qemu-img finds no error");
    check_err(qcow2_writer_new(out, 0, &err) != NULL, IM_BAD_MESSAGE, "no size is refused");
    check_err(qcow2_writer_new(out, QCOW2_SIZE_MAX + 512, &err) != NULL, IM_BAD_MESSAGE,
              "and too much");
}

/* The file system ends, wherever: an error that says so, and never an image. */
static void test_no_space(void) {
    struct rlimit old, now;
    unsigned right = 0, rounds = 0;
    IM_AUTO(fd_auto) int in = open_file(raw_path, O_RDONLY);

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (uint64_t room = 0; room < RAW_SIZE / 2; room += 512 * KIB, rounds++) {
        IM_AUTO(fd_auto) int out = open_file(image_path, O_RDWR | O_CREAT | O_TRUNC);
        IM_AUTO(qcow2_writer_free_auto) struct qcow2_writer *writer = NULL;
        struct im_err why = {0};

        now = (struct rlimit){room, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &now);
        writer = qcow2_writer_new(out, RAW_SIZE, &why);
        if (!(write_image(writer, out, in, (enum way)(rounds % 3), &why) &&
              qcow2_writer_finish(writer, &why)) &&
            why.code == IM_NO_SPACE)
            right++;
        setrlimit(RLIMIT_FSIZE, &old);
        if (use(image_path, NULL, &why))
            right--;
    }
    check(right == rounds, "%u of %u full disks are told", right, rounds);
}

int main(void) {
    snprintf(raw_path, sizeof(raw_path), "%s/raw", test_folder());
    snprintf(image_path, sizeof(image_path), "%s/image.qcow2", test_folder());
    snprintf(other_path, sizeof(other_path), "%s/other", test_folder());
    if (!RUN("qemu-img", "--version") || !RUN("qemu-io", "--version"))
        test_skip_all("qemu-img is not here");
    make_raw();
    test_foreign();
    test_zeros();
    test_features();
    test_spoiled();
    test_cut();
    test_write(BY_DATA);
    test_write(BY_COPY);
    test_write(BY_PLACE);
    test_write_large();
    test_cut_short();
    test_no_space();
    free(raw);
    return test_end();
}
