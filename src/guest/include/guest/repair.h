/* SPDX-License-Identifier: Apache-2.0 */
/* What would make a disk right: a list of edits for each finding that has a repair, and how they
 * look to people beforehand. Nothing here writes; the same disk gives the same plan. */
#ifndef GUEST_REPAIR_H
#define GUEST_REPAIR_H

#include "base/mem.h"
#include "guest/inspect.h"

/* One change. Paths are the machine's own; RAW is of the disk's bytes, before anything is mounted:
 * what is mounted may be larger then than it was when the plan was made. */
enum guest_edit_kind {
    GUEST_EDIT_WRITE,  /* the whole file, made anew with mode and owners */
    GUEST_EDIT_REMOVE, /* no such file is fine; `recursive`: a folder with what is in it */
    GUEST_EDIT_EMPTY,  /* the file stays, without content; `recursive`: a folder stays */
    GUEST_EDIT_COPY,   /* `other` is where from */
    GUEST_EDIT_RAW,
    GUEST_EDIT_FOLDER, /* one that is there stays as it is */
    GUEST_EDIT_APPEND, /* behind the file, which is filled up with zeros to a multiple of four */
    GUEST_EDIT_TRIM,   /* the file system gives back its unused blocks */
    GUEST_EDIT_GROW,   /* it takes all of the place that it has */
    GUEST_EDIT_KINDS
};
const char *guest_edit_name(enum guest_edit_kind kind); /* "write", "remove" … */
struct guest_edit {
    enum guest_edit_kind kind;
    char *path, *other; /* NULL where there is none */
    char *label;        /* SELinux' for what is new; NULL: that of the folder it comes into */
    uint8_t *data;
    size_t len;
    uint64_t offset;
    uint32_t mode, uid, gid;
    bool recursive;
};

struct guest_repair {
    const char *code; /* of the finding, the item that is sealed, "password", "keys", "trim" */
    bool done;        /* false: it cannot be repaired here, and the text says why */
    char *text;       /* a sentence: what is changed, or why nothing is */
};

/* A text file that is changed. */
struct guest_change {
    char *path;
    char *before; /* NULL: there was none, or it is secret */
    char *diff;   /* unified; of secret files without the hashes of passwords */
    bool secret;
};

struct guest_piece {
    uint64_t bytes, stripe_bytes; /* stripe 0: one area */
    unsigned areas;
    uint64_t area[16]; /* where they begin on the disk */
};
struct guest_mount {
    char path[64]; /* "/", "/boot" … */
    char filesystem[16];
    char options[128];
    struct guest_piece *pieces; /* the whole of it, in order */
    size_t piece_count;
};

struct guest_plan {
    struct guest_repair *repairs;
    size_t repair_count, repair_capacity;
    struct guest_edit *edits; /* in the order in which they are to be done */
    size_t edit_count, edit_capacity;
    struct guest_change *changes;
    size_t change_count, change_capacity;
    struct im_strings steps; /* the edits that no diff shows, each in words */
    struct guest_mount *mounts;
    size_t mount_count;
};

/* How a user of the system on the disk shall be able to log in. Where that cannot be, the plan has
 * a repair "password" or "keys" that is not done and says why. */
struct guest_login {
    bool asked;
    const char *user;       /* "": whom cloud-init would make, if there is such a user, else root */
    const char *hash;       /* of the password, as crypt(3) makes it; "": the password stays */
    int64_t day;            /* since 1970: of the change */
    struct im_strings keys; /* lines for authorized_keys */
    bool detach;            /* the keys are taken out instead */
};

/* What is asked for. */
struct guest_wish {
    bool all;               /* each finding that has a repair */
    struct im_strings only; /* codes of findings; those that the disk does not have are left out */
    struct im_strings seal; /* items of guest_seal_items */
    struct guest_login login;
    bool trim; /* the file systems of the system give back their unused blocks */
};

/* Findings of this code have a repair, at least mostly. */
bool guest_repairable(const char *code);

/* What a machine's disk has of its own and an image should not; NULL-terminated, each word with
 * what it means. */
struct guest_seal_item {
    const char *word, *meaning;
};
extern const struct guest_seal_item guest_seal_items[];

/* Looks at the disk and makes the plan; fails as guest_inspect does, and with IM_BAD_MESSAGE for a
 * code or item that there is not, and for a hash or key that is none. Both results are the
 * caller's. */
bool guest_plan(const struct guest_source *source, const struct guest_wish *wish,
                struct guest_inspection **ret_inspection, struct guest_plan **ret_plan,
                struct im_err *err) IM_MUST_CHECK;
void guest_plan_free(struct guest_plan *plan); /* NULL is fine */
IM_DEFINE_AUTO(struct guest_plan *, guest_plan_free)

/* The unified diff of two texts, "" when they are alike; `before` NULL: the file is new. Owned. */
char *guest_diff(const char *path, const char *before, const char *after);

#endif
