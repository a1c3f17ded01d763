/* SPDX-License-Identifier: Apache-2.0 */
/* Files of ext2, ext3 and ext4, through libext2fs with an io_manager of our own: it reads the span
 * and nothing else, and never writes. */
#include <ext2fs/ext2fs.h>

#include "tree.h"

/* --- The library's way to the bytes ----------------------------------------------------------- */

static errcode_t manager_open(const char *name, int flags, io_channel *ret_channel);

static errcode_t manager_close(io_channel channel) {
    if (--channel->refcount > 0)
        return 0;
    free(channel->name);
    free(channel);
    return 0;
}

static errcode_t manager_set_block(io_channel channel, int block_bytes) {
    channel->block_size = block_bytes;
    return 0;
}

/* A negative count is one of bytes. */
static errcode_t manager_read64(io_channel channel, unsigned long long block, int count,
                                void *bytes) {
    uint64_t at, len = count < 0 ? (uint64_t) - (int64_t) count
                                 : (uint64_t) count * (unsigned) channel->block_size;

    if (__builtin_mul_overflow(block, (unsigned) channel->block_size, &at) ||
        !span_read(channel->private_data, at, bytes, (size_t) len))
        return EXT2_ET_SHORT_READ;
    return 0;
}

static errcode_t manager_read(io_channel channel, unsigned long block, int count, void *bytes) {
    return manager_read64(channel, block, count, bytes);
}

static errcode_t manager_write64(io_channel channel, unsigned long long block, int count,
                                 const void *bytes) {
    (void) channel, (void) block, (void) count, (void) bytes;
    return EXT2_ET_OP_NOT_SUPPORTED;
}

static errcode_t manager_write(io_channel channel, unsigned long block, int count,
                               const void *bytes) {
    return manager_write64(channel, block, count, bytes);
}

static errcode_t manager_flush(io_channel channel) {
    (void) channel;
    return 0;
}

static struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "span",
    .open = manager_open,
    .close = manager_close,
    .set_blksize = manager_set_block,
    .read_blk = manager_read,
    .write_blk = manager_write,
    .flush = manager_flush,
    .read_blk64 = manager_read64,
    .write_blk64 = manager_write64,
};

/* The library hands over only a name. */
static const struct span *span_opened;

static errcode_t manager_open(const char *name, int flags, io_channel *ret_channel) {
    io_channel channel = im_alloc(sizeof(*channel));

    (void) flags;
    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->manager = &manager;
    channel->name = im_strdup(name);
    channel->block_size = 1024;
    channel->refcount = 1;
    channel->private_data = (void *) span_opened;
    *ret_channel = channel;
    return 0;
}

/* --- A tree of files -------------------------------------------------------------------------- */

static bool find(ext2_filsys fs, const char *path, ext2_ino_t *ret_number,
                 struct ext2_inode *ret_inode) {
    return ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ret_number) == 0 &&
           ext2fs_read_inode(fs, *ret_number, ret_inode) == 0;
}

static bool ext_read(void *state, const char *path, size_t most, char **ret_text, size_t *ret_len) {
    ext2_filsys fs = state;
    struct ext2_inode inode;
    IM_AUTO(free_auto) char *text = NULL;
    ext2_ino_t number;
    ext2_file_t file;
    unsigned got = 0;
    size_t len;
    bool fine;

    if (!find(fs, path, &number, &inode) || !LINUX_S_ISREG(inode.i_mode) ||
        ext2fs_file_open(fs, number, 0, &file) != 0)
        return false;
    len = EXT2_I_SIZE(&inode) < most ? (size_t) EXT2_I_SIZE(&inode) : most;
    text = im_alloc(len + 1);
    fine = ext2fs_file_read(file, text, (unsigned) len, &got) == 0;
    ext2fs_file_close(file);
    if (!fine)
        return false;
    text[got] = '\0';
    *ret_len = got;
    *ret_text = im_steal(&text);
    return true;
}

struct listing {
    void (*visit)(void *arg, const char *name, size_t len);
    void *arg;
};

static int list_entry(struct ext2_dir_entry *entry, int offset, int block_bytes, char *buffer,
                      void *arg) {
    struct listing *listing = arg;

    (void) offset, (void) block_bytes, (void) buffer;
    listing->visit(listing->arg, entry->name, (size_t) ext2fs_dirent_name_len(entry));
    return 0;
}

static bool ext_list(void *state, const char *path,
                     void (*visit)(void *arg, const char *name, size_t len), void *arg) {
    ext2_filsys fs = state;
    struct listing listing = {visit, arg};
    struct ext2_inode inode;
    ext2_ino_t number;

    return find(fs, path, &number, &inode) && LINUX_S_ISDIR(inode.i_mode) &&
           ext2fs_dir_iterate(fs, number, 0, NULL, list_entry, &listing) == 0;
}

static bool ext_has(void *state, const char *path) {
    struct ext2_inode inode;
    ext2_ino_t number;

    return find(state, path, &number, &inode);
}

static void ext_close(void *state) { (void) ext2fs_free((ext2_filsys) state); }

bool ext_open(const struct span *span, struct tree *ret_tree) {
    ext2_filsys fs = NULL;
    errcode_t failed;

    span_opened = span;
    failed = ext2fs_open(
        "span", EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0,
        &manager, &fs);
    if (failed != 0)
        return false;
    *ret_tree = (struct tree){fs, ext_read, ext_list, ext_has, ext_close};
    return true;
}
