/* SPDX-License-Identifier: Apache-2.0 */
/* Files of ext2, ext3 and ext4, through libext2fs with an io_manager of our own: it reads the span
 * and nothing else, and never writes. */
#include <ext2fs/ext2fs.h>

#include "files.h"

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

/* --- Files ------------------------------------------------------------------------------------ */

static bool ext_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    struct ext2_inode inode;

    if (ext2fs_read_inode(state, (ext2_ino_t) node->id, &inode) != 0)
        return false;
    *ret_facts = (struct node_facts){
        .kind = LINUX_S_ISREG(inode.i_mode)   ? NODE_FILE
                : LINUX_S_ISDIR(inode.i_mode) ? NODE_FOLDER
                : LINUX_S_ISLNK(inode.i_mode) ? NODE_LINK
                                              : NODE_OTHER,
        .mode = inode.i_mode & 07777,
        .uid = inode_uid(inode),
        .gid = inode_gid(inode),
        .size = EXT2_I_SIZE(&inode),
    };
    return true;
}

static bool ext_find(void *state, const struct node *folder, const char *name, size_t len,
                     struct node *ret_node) {
    ext2_ino_t number;

    if (ext2fs_lookup(state, (ext2_ino_t) folder->id, name, (int) len, NULL, &number) != 0)
        return false;
    *ret_node = (struct node){.id = number};
    return true;
}

struct listing {
    node_visit *visit;
    void *arg;
};

static int list_entry(struct ext2_dir_entry *entry, int offset, int block_bytes, char *buffer,
                      void *arg) {
    const struct listing *listing = arg;

    (void) offset, (void) block_bytes, (void) buffer;
    return listing->visit(listing->arg, entry->name, (size_t) ext2fs_dirent_name_len(entry))
               ? 0
               : DIRENT_ABORT;
}

static bool ext_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    struct listing listing = {visit, arg};

    return ext2fs_dir_iterate(state, (ext2_ino_t) folder->id, 0, NULL, list_entry, &listing) == 0;
}

/* Short targets lie in the inode itself. */
static bool read_fast_link(const struct ext2_inode *inode, uint64_t offset, void *bytes, size_t len,
                           size_t *ret_got) {
    uint64_t size = EXT2_I_SIZE(inode);

    if (size > sizeof(inode->i_block))
        return false;
    *ret_got = offset >= size ? 0 : size - offset < len ? (size_t) (size - offset) : len;
    memcpy(bytes, (const char *) inode->i_block + (offset < size ? offset : 0), *ret_got);
    return true;
}

static bool ext_read(void *state, const struct node *node, uint64_t offset, void *bytes, size_t len,
                     size_t *ret_got) {
    struct ext2_inode inode;
    ext2_file_t file;
    unsigned got = 0;
    bool fine;

    if (ext2fs_read_inode(state, (ext2_ino_t) node->id, &inode) != 0)
        return false;
    if (LINUX_S_ISLNK(inode.i_mode) && ext2fs_is_fast_symlink(&inode))
        return read_fast_link(&inode, offset, bytes, len, ret_got);
    if (len > UINT32_MAX || ext2fs_file_open(state, (ext2_ino_t) node->id, 0, &file) != 0)
        return false;
    fine = ext2fs_file_llseek(file, offset, EXT2_SEEK_SET, NULL) == 0 &&
           ext2fs_file_read(file, bytes, (unsigned) len, &got) == 0;
    ext2fs_file_close(file);
    *ret_got = got;
    return fine;
}

static bool ext_space(void *state, uint64_t *ret_size, uint64_t *ret_free) {
    ext2_filsys fs = state;

    *ret_size = ext2fs_blocks_count(fs->super) * fs->blocksize;
    *ret_free = ext2fs_free_blocks_count(fs->super) * fs->blocksize;
    return true;
}

static void ext_close(void *state) { (void) ext2fs_free((ext2_filsys) state); }

static bool ext_open(const struct span *span, const struct guest_part *part, void **ret_state,
                     struct node *ret_root) {
    ext2_filsys fs = NULL;
    errcode_t failed;

    (void) part;
    span_opened = span;
    failed = ext2fs_open(
        "span", EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0,
        &manager, &fs);
    if (failed != 0)
        return false;
    *ret_state = fs;
    *ret_root = (struct node){.id = EXT2_ROOT_INO};
    return true;
}

const struct fs_ops ext_ops = {
    .open = ext_open,
    .facts = ext_facts,
    .find = ext_find,
    .list = ext_list,
    .read = ext_read,
    .space = ext_space,
    .close = ext_close,
};
