/* SPDX-License-Identifier: Apache-2.0 */
/* Paths through the mounted file systems of a machine. */
#include "tree.h"

#include <stdio.h>

enum { DEPTH_MAX = 48, LINKS_MAX = 40, STEPS_MAX = 400 };
#define PATH_BYTES 4096u
#define LINK_BYTES 1024u

/* --- Mounts ----------------------------------------------------------------------------------- */

/* Of the options, what chooses the root: the others, as "defaults" or "nofail", are mount(8)'s, and
 * a kernel would refuse them. */
static bool take_choice(struct mount *mount, const char *options) {
    size_t used = 0;

    for (const char *at = options; *at != '\0'; at += at[0] == ',') {
        size_t len = strcspn(at, ",");

        if (im_starts_with(at, "subvol=") || im_starts_with(at, "subvolid=")) {
            if (used + len + 2 > sizeof(mount->options))
                return false;
            if (used > 0)
                mount->options[used++] = ',';
            memcpy(mount->options + used, at, len);
            used += len;
        }
        at += len;
    }
    return true;
}

bool tree_mount(struct tree *tree, const char *path, const struct volume *volume,
                const char *options) {
    struct mount *mount = &tree->mounts[tree->count];
    size_t len = strlen(path);

    while (len > 0 && path[len - 1] == '/')
        len--;
    if (tree->count == MOUNTS_MAX || len >= sizeof(mount->path))
        return false;
    *mount = (struct mount){.volume = volume, .root = volume->root};
    memcpy(mount->path, path, len);
    if (volume->ops->choose != NULL && (!take_choice(mount, options) ||
                                        !volume->ops->choose(volume->state, options, &mount->root)))
        return false;
    tree->count++;
    return true;
}

struct tree tree_of(const struct volume *volume) {
    return (struct tree){.mounts = {{.volume = volume, .root = volume->root}}, .count = 1};
}

/* The last one hides the others. */
static const struct mount *mount_at(const struct tree *tree, const char *path, size_t len) {
    for (size_t i = tree->count; i-- > 0;)
        if (strlen(tree->mounts[i].path) == len && memcmp(tree->mounts[i].path, path, len) == 0)
            return &tree->mounts[i];
    return NULL;
}

/* --- The walk --------------------------------------------------------------------------------- */

struct walk {
    const struct tree *tree;
    struct file stack[DEPTH_MAX]; /* from the root to where we are */
    size_t ends[DEPTH_MAX];       /* of their paths within `path` */
    unsigned depth, links, steps;
    char path[PATH_BYTES]; /* of where we are, without links */
    char rest[PATH_BYTES]; /* what is still to be walked */
};

static struct file *here(struct walk *walk) { return &walk->stack[walk->depth - 1]; }

static bool stand(struct walk *walk, const struct volume *volume, struct node node, size_t end) {
    struct file *file = &walk->stack[walk->depth];

    if (walk->depth == DEPTH_MAX)
        return false;
    *file = (struct file){.volume = volume, .node = node};
    walk->ends[walk->depth++] = end;
    return volume->ops->facts(volume->state, &node, &file->facts);
}

static bool stand_at_root(struct walk *walk) {
    const struct mount *mount = mount_at(walk->tree, "", 0);

    walk->depth = 0;
    return mount != NULL && stand(walk, mount->volume, mount->root, 0);
}

/* The first name of what is left; its length is 0 at the end. */
static const char *first_name(const struct walk *walk, size_t *ret_len) {
    const char *name = walk->rest + strspn(walk->rest, "/");

    *ret_len = strcspn(name, "/");
    return name;
}

static void drop_first(struct walk *walk, const char *name, size_t len) {
    memmove(walk->rest, name + len, strlen(name + len) + 1);
}

/* The link's target takes the link's place in front of what is left. */
static bool follow(struct walk *walk, const struct file *link) {
    char target[LINK_BYTES];
    size_t got = 0, rest = strlen(walk->rest);

    if (++walk->links > LINKS_MAX || link->facts.size >= sizeof(target) ||
        !file_read(link, 0, target, (size_t) link->facts.size, &got) || got == 0 ||
        memchr(target, '\0', got) != NULL || got + 1 + rest >= sizeof(walk->rest))
        return false;
    memmove(walk->rest + got + 1, walk->rest, rest + 1);
    memcpy(walk->rest, target, got);
    walk->rest[got] = '/';
    return target[0] != '/' || stand_at_root(walk);
}

static bool descend(struct walk *walk, const char *name, size_t len, bool follows_last) {
    struct file *from = here(walk), found = {.volume = from->volume};
    size_t begin = walk->ends[walk->depth - 1];
    const struct mount *mount;

    if (from->facts.kind != NODE_FOLDER || begin + 1 + len >= sizeof(walk->path) ||
        !from->volume->ops->find(from->volume->state, &from->node, name, len, &found.node) ||
        !found.volume->ops->facts(found.volume->state, &found.node, &found.facts))
        return false;
    walk->path[begin] = '/';
    memcpy(walk->path + begin + 1, name, len);
    drop_first(walk, name, len);
    if (found.facts.kind == NODE_LINK &&
        (follows_last || walk->rest[strspn(walk->rest, "/")] != '\0'))
        return follow(walk, &found);
    mount = mount_at(walk->tree, walk->path, begin + 1 + len);
    return mount != NULL ? stand(walk, mount->volume, mount->root, begin + 1 + len)
                         : stand(walk, found.volume, found.node, begin + 1 + len);
}

static bool step(struct walk *walk, bool follows_last) {
    size_t len;
    const char *name = first_name(walk, &len);

    if (++walk->steps > STEPS_MAX || len > 255)
        return false;
    if ((len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0)) {
        if (len == 2 && walk->depth > 1)
            walk->depth--;
        drop_first(walk, name, len);
        return true;
    }
    return descend(walk, name, len, follows_last);
}

static bool walk_to(const struct tree *tree, const char *path, bool follows_last,
                    struct file *ret_file) {
    struct walk walk; /* a look makes hundreds of walks: its 12 KiB are filled as far as needed */
    size_t len;

    walk.tree = tree;
    walk.links = walk.steps = 0;
    if (strlen(path) >= sizeof(walk.rest) || !stand_at_root(&walk))
        return false;
    memcpy(walk.rest, path, strlen(path) + 1);
    while (first_name(&walk, &len), len > 0)
        if (!step(&walk, follows_last))
            return false;
    *ret_file = *here(&walk);
    return true;
}

bool tree_find(const struct tree *tree, const char *path, struct file *ret_file) {
    return walk_to(tree, path, true, ret_file);
}

bool tree_find_link(const struct tree *tree, const char *path, struct file *ret_file) {
    return walk_to(tree, path, false, ret_file);
}

/* --- What is there ---------------------------------------------------------------------------- */

bool tree_has(const struct tree *tree, const char *path) {
    struct file file;

    return tree_find(tree, path, &file);
}

bool tree_list(const struct tree *tree, const char *path, node_visit *visit, void *arg) {
    struct file file;

    return tree_find(tree, path, &file) && file.facts.kind == NODE_FOLDER &&
           file.volume->ops->list(file.volume->state, &file.node, visit, arg);
}

struct matches {
    const char *begin, *end; /* of the names that count */
    struct im_strings *names;
    size_t before; /* names that were there already */
};

static bool collect(void *arg, const char *name, size_t len) {
    struct matches *matches = arg;
    IM_AUTO(free_auto) char *copy = im_strndup(name, len);

    if (strcmp(copy, ".") != 0 && strcmp(copy, "..") != 0 && strchr(copy, '/') == NULL &&
        strlen(copy) == len && im_utf8_valid(copy, len) && im_starts_with(copy, matches->begin) &&
        im_ends_with(copy, matches->end))
        im_strings_add(matches->names, copy);
    return matches->names->count - matches->before < FOLDER_NAMES_MAX;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *) a, *(char *const *) b);
}

void tree_names(const struct tree *tree, const char *path, const char *begin, const char *end,
                struct im_strings *names) {
    struct matches matches = {begin, end, names, names->count};

    (void) tree_list(tree, path, collect, &matches);
    if (names->count > matches.before)
        qsort(names->items + matches.before, names->count - matches.before, sizeof(char *),
              by_name);
}

bool file_read(const struct file *file, uint64_t offset, void *bytes, size_t len, size_t *ret_got) {
    return look_reads_file(file->volume->span.look, len) &&
           file->volume->ops->read(file->volume->state, &file->node, offset, bytes, len, ret_got);
}

bool tree_read(const struct tree *tree, const char *path, size_t most, char **ret_text,
               size_t *ret_len) {
    IM_AUTO(free_auto) char *text = NULL;
    struct file file;
    size_t len;

    if (!tree_find(tree, path, &file) || file.facts.kind != NODE_FILE)
        return false;
    len = file.facts.size < most ? (size_t) file.facts.size : most;
    text = im_alloc(len + 1);
    if (!file_read(&file, 0, text, len, ret_len))
        return false;
    text[*ret_len] = '\0';
    *ret_text = im_steal(&text);
    return true;
}

char *tree_text(const struct tree *tree, const char *path) {
    char *text = NULL;
    size_t len;

    return tree_read(tree, path, TEXT_FILE_MAX, &text, &len) ? text : NULL;
}
