/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the reader of NTFS share. All is made of attributes of numbered records, be it
 * a file's bytes, a folder's names or the records themselves. */
#ifndef NTFS_H
#define NTFS_H

#include "files.h"

#define NTFS_HOLE UINT64_MAX
#define NTFS_NAME_MAX 255u

enum ntfs_type {
    NTFS_STANDARD = 0x10,
    NTFS_LIST = 0x20,
    NTFS_VOLUME_NAME = 0x60,
    NTFS_VOLUME_FACTS = 0x70,
    NTFS_DATA = 0x80,
    NTFS_INDEX_ROOT = 0x90,
    NTFS_INDEX_BLOCKS = 0xa0,
    NTFS_BITMAP = 0xb0,
    NTFS_REPARSE = 0xc0,
};
/* Records that are always there. */
enum { NTFS_MFT, NTFS_LOG = 2, NTFS_VOLUME, NTFS_ROOT = 5, NTFS_CLUSTERS, NTFS_UPCASE = 10 };
#define NTFS_RESERVED 16u /* records of the file system's own */

struct ntfs_run {
    uint64_t vcn, len, lcn; /* clusters; NTFS_HOLE: zeros */
};
/* The bytes of one attribute. */
struct ntfs_stream {
    uint8_t *resident;     /* owned; NULL: in runs */
    uint64_t size, filled; /* what lies behind `filled` was never written: zeros */
    bool encrypted;
    uint32_t unit; /* bytes that are compressed together; 0 = not at all */
    struct ntfs_run *runs;
    size_t count, capacity;
    uint64_t clusters; /* that the runs make */
    uint8_t *unpacked; /* the unit that was read last; NULL = none yet */
    uint64_t unpacked_at;
};

struct ntfs {
    const struct span *span;
    uint32_t cluster, record; /* bytes of one */
    uint64_t clusters;
    struct ntfs_stream mft;
    struct ntfs_stream file; /* of the record `held`, 0 = of none; `why` it is not what it seems */
    uint64_t held;
    const char *why;
    uint16_t *upcase; /* NULL: not read yet */
    bool upcase_tried;
};

/* The attribute of that record (in full, whose number is `number`), wherever its pieces are; false
 * where there is none or it makes no sense. `*ret_stream` is the caller's, to be closed. */
bool ntfs_stream_open(struct ntfs *fs, uint64_t number, const uint8_t *record, enum ntfs_type type,
                      const char *name, struct ntfs_stream *ret_stream);
void ntfs_stream_close(struct ntfs_stream *stream);
/* `*ret_got` is less than `len` only at the end. */
bool ntfs_stream_read(struct ntfs *fs, struct ntfs_stream *stream, uint64_t offset, void *bytes,
                      size_t len, size_t *ret_got);
/* Both in one, of at most `most` bytes; owned. */
uint8_t *ntfs_content(struct ntfs *fs, uint64_t number, enum ntfs_type type, size_t most,
                      size_t *ret_len);
/* A record that is in use, checked, into fs->record bytes. */
bool ntfs_record(struct ntfs *fs, uint64_t number, uint8_t *record);
/* The same of a node; it is no piece of another one and was not replaced since. */
bool ntfs_inode(struct ntfs *fs, const struct node *node, uint8_t *record);
/* Each sector's last two bytes are kept apart, so that half-written structures are recognised; they
 * are put back. */
bool ntfs_fix(uint8_t *bytes, size_t len);
/* Why the bytes of a file cannot be read, as a sentence's end; NULL = they can. */
const char *ntfs_unreadable(void *state, const struct node *node);

/* --- ntfs-index.c ----------------------------------------------------------------------------- */

bool ntfs_find(void *state, const struct node *folder, const char *name, size_t len,
               struct node *ret_node);
bool ntfs_list(void *state, const struct node *folder, node_visit *visit, void *arg);

/* --- ntfs-lznt.c ------------------------------------------------------------------------------ */

/* Unpacks into `out`, whose rest is zeros; false where it makes no sense. */
bool ntfs_unpack(const uint8_t *packed, size_t len, uint8_t *out, size_t size);

/* --- ntfs-state.c ----------------------------------------------------------------------------- */

/* Room, label, and how it was left. */
bool ntfs_space(void *state, uint64_t *ret_size, uint64_t *ret_free);
void ntfs_describe(void *state, struct guest_part *part);
void ntfs_check(void *state, const struct guest_part *part);

#endif
