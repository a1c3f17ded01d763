/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of /etc/fstab put right: only the word that is wrong changes. */
#include <stdio.h>

#include "repair-private.h"

#define FSTAB "/etc/fstab"
enum { DEVICE, PATH, TYPE, OPTIONS, WORDS };

struct line {
    const char *at; /* its first byte */
    size_t len;     /* without the newline */
    struct {
        const char *at;
        size_t len;
    } word[WORDS];
    char device[256], path[256], type[64], options[256]; /* the same, cut short */
};

static void take(char *out, size_t size, const struct line *line, int word) {
    size_t len = line->word[word].len < size ? line->word[word].len : size - 1;

    if (len > 0)
        memcpy(out, line->word[word].at, len);
    out[len] = '\0';
}

/* False for comments and lines that are none. */
static bool parse(const char *at, struct line *line) {
    const char *end;

    *line = (struct line){.at = at, .len = strcspn(at, "\n")};
    end = at + line->len;
    for (int word = 0; word < WORDS; word++) {
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        line->word[word].at = at;
        while (at < end && *at != ' ' && *at != '\t')
            at++;
        line->word[word].len = (size_t) (at - line->word[word].at);
    }
    take(line->device, sizeof(line->device), line, DEVICE);
    take(line->path, sizeof(line->path), line, PATH);
    take(line->type, sizeof(line->type), line, TYPE);
    take(line->options, sizeof(line->options), line, OPTIONS);
    return line->word[TYPE].len > 0 && line->device[0] != '#';
}

/* The machine starts without it. */
static bool may_fail(const struct line *line) {
    return strstr(line->options, "nofail") != NULL || strstr(line->options, "noauto") != NULL;
}

/* What becomes of a line. */
struct verdict {
    enum { KEEP, SWAP, NOFAIL, OUT } what;
    int at; /* SWAP: the word that `word` takes the place of */
    char word[256];
    const char *why; /* OUT */
};
typedef struct verdict judge(struct planning *planning, const struct line *line);

static void put_line(struct im_str *out, const struct line *line, const struct verdict *verdict) {
    const char *end = line->at + line->len, *from;

    switch (verdict->what) {
    case SWAP:
        from = line->word[verdict->at].at;
        im_str_add_bytes(out, line->at, (size_t) (from - line->at));
        im_str_add(out, verdict->word);
        from += line->word[verdict->at].len;
        break;
    case NOFAIL:
        from = line->word[OPTIONS].at;
        im_str_add_bytes(out, line->at, (size_t) (from - line->at));
        if (line->word[OPTIONS].len == 0)
            im_str_add(out, " defaults");
        im_str_add_bytes(out, from, line->word[OPTIONS].len);
        im_str_add(out, ",nofail");
        from += line->word[OPTIONS].len;
        break;
    case OUT:
        im_str_add(out, "#"); /* fallthrough */
    default:
        from = line->at;
    }
    im_str_add_bytes(out, from, (size_t) (end - from));
}

static void tell(struct planning *planning, const struct line *line,
                 const struct verdict *verdict) {
    if (verdict->what == SWAP && verdict->at == DEVICE)
        plan_done(planning, "/etc/fstab names %.80s as %s instead of %.80s", line->path,
                  verdict->word, line->device);
    else if (verdict->what == SWAP)
        plan_done(planning, "/etc/fstab mounts %.80s as %.80s instead of %.80s", line->path,
                  verdict->word, verdict->at == TYPE ? line->type : line->options);
    else if (verdict->what == NOFAIL)
        plan_done(planning, "/etc/fstab lets the machine start without %.80s: nofail", line->path);
    else
        plan_done(planning, "the line of /etc/fstab for %.80s is taken out: %s", line->device,
                  verdict->why);
}

static void rewrite(struct planning *planning, judge *decide) {
    const char *text = draft_text(planning, FSTAB);
    struct im_str out = {0};
    struct line line;
    bool changed = false;

    if (text == NULL) {
        plan_cannot(planning, "/etc/fstab is no text file that could be changed");
        return;
    }
    for (const char *at = text; *at != '\0'; at += line.len + (at[line.len] == '\n')) {
        struct verdict verdict = {.what = KEEP};

        if (parse(at, &line))
            verdict = decide(planning, &line);
        put_line(&out, &line, &verdict);
        if (at[line.len] == '\n')
            im_str_add_char(&out, '\n');
        if (verdict.what != KEEP)
            tell(planning, &line, &verdict);
        changed |= verdict.what != KEEP;
    }
    if (changed)
        draft_set(planning, FSTAB, im_str_take(&out), 0644);
    im_str_done(&out);
}

/* --- Which file system a line means ----------------------------------------------------------- */

static bool name_by_uuid(const struct guest_part *part, struct verdict *verdict) {
    if (part == NULL || part->uuid[0] == '\0')
        return false;
    verdict->what = SWAP;
    verdict->at = DEVICE;
    snprintf(verdict->word, sizeof(verdict->word), "UUID=%s", part->uuid);
    return true;
}

/* Commented out. */
static void take_out(struct verdict *verdict, const char *why) {
    verdict->what = OUT;
    verdict->why = why;
}

static const char not_here[] = "it is not on this disk";

/* The first disk of a machine, as all kinds of machines name it. */
static bool of_first_disk(const char *device) {
    static const char *const disks[] = {"/dev/sda", "/dev/hda", "/dev/vda", "/dev/xvda",
                                        "/dev/nvme0n1p"};

    for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++)
        if (im_starts_with(device, disks[i]) && device[strlen(disks[i])] >= '0' &&
            device[strlen(disks[i])] <= '9')
            return true;
    return false;
}

/* --- fstab.name ------------------------------------------------------------------------------- */

static bool is_root(const struct planning *planning, const struct guest_part *part) {
    return part == volume_part(planning->tree->mounts[0].volume);
}

/* What cannot be vouched for to be this disk's stays out, so that no other disk is taken for it. A
 * root file system was found by what is on it. */
static struct verdict judge_name(struct planning *planning, const struct line *line) {
    const struct guest_part *part = NULL;
    struct verdict verdict = {.what = KEEP};

    if (!device_by_number(line->device) && (!device_of_other(line->device) || may_fail(line)))
        return verdict;
    if (of_first_disk(line->device))
        part = part_of_line(planning->look, line->device);
    if (strcmp(line->path, "/") == 0 && (part == NULL || !is_root(planning, part)))
        part = volume_part(planning->tree->mounts[0].volume);
    if (part != NULL && fstab_types_agree(line->type, part->filesystem) &&
        name_by_uuid(part, &verdict))
        return verdict;
    if (fstab_vital(line->path))
        plan_cannot(planning,
                    "/etc/fstab names %.80s for %.80s, and no file system of this disk "
                    "is known to be that one",
                    line->device, line->path);
    else if (device_by_number(line->device))
        take_out(&verdict, not_here);
    else
        verdict.what = NOFAIL;
    return verdict;
}

void repair_fstab_names(struct planning *planning) { rewrite(planning, judge_name); }

/* --- fstab.root ------------------------------------------------------------------------------- */

static bool looks_like(const struct volume *volume, const char *path) {
    static const char *const marks[][2] = {{"/boot", "/grub"},
                                           {"/boot", "/grub2"},
                                           {"/boot", "/loader"},
                                           {"/boot", "/extlinux"},
                                           {"/usr", "/lib/os-release"}};
    struct tree tree = tree_of(volume);

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (strcmp(marks[i][0], path) == 0 && tree_has(&tree, marks[i][1]))
            return true;
    return false;
}

/* The one file system that must be meant; NULL when there is none, or more than one. */
static const struct guest_part *candidate(const struct planning *planning, const char *path) {
    const struct look *look = planning->look;
    const struct volume *root = planning->tree->mounts[0].volume;
    const struct volume *only = NULL;

    if (strcmp(path, "/") == 0)
        return volume_part(root);
    for (size_t i = 0; i < look->volume_count; i++) {
        if (look->volumes[i] == root || !looks_like(look->volumes[i], path))
            continue;
        if (only != NULL)
            return NULL;
        only = look->volumes[i];
    }
    return only != NULL ? volume_part(only) : NULL;
}

static bool is_lost(const struct planning *planning, const struct line *line) {
    return fstab_bound(line->device) && part_named(planning->look, line->device) == NULL &&
           !may_fail(line);
}

static struct verdict judge_root(struct planning *planning, const struct line *line) {
    struct verdict verdict = {.what = KEEP};

    if (!fstab_vital(line->path) || !is_lost(planning, line))
        return verdict;
    if (!name_by_uuid(candidate(planning, line->path), &verdict))
        plan_cannot(planning,
                    "%.80s is not on this disk, and no one file system of it must be the "
                    "one for %.80s",
                    line->device, line->path);
    return verdict;
}

void repair_fstab_root(struct planning *planning) { rewrite(planning, judge_root); }

/* --- fstab.unknown ---------------------------------------------------------------------------- */

/* The only part of a type and file system; NULL when there is none, or more than one. */
static const struct guest_part *only_part(const struct look *look, const char *type,
                                          const char *filesystem) {
    const struct guest_part *only = NULL;

    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];

        if (strcmp(part->filesystem, filesystem) != 0 ||
            (type != NULL && strcmp(part->type, type) != 0))
            continue;
        if (only != NULL)
            return NULL;
        only = part;
    }
    return only;
}

static struct verdict judge_unknown(struct planning *planning, const struct line *line) {
    struct verdict verdict = {.what = KEEP};
    bool swap = strcmp(line->type, "swap") == 0;
    const struct guest_part *meant = NULL;

    if (!is_lost(planning, line) || (fstab_vital(line->path) && !swap))
        return verdict;
    if (swap)
        meant = only_part(planning->look, NULL, "swap");
    else if (strcmp(line->path, "/boot/efi") == 0 || strcmp(line->path, "/efi") == 0)
        meant = only_part(planning->look, TYPE_ESP, "vfat");
    if (name_by_uuid(meant, &verdict))
        return verdict;
    if (swap)
        take_out(&verdict, not_here);
    else
        verdict.what = NOFAIL;
    return verdict;
}

void repair_fstab_unknown(struct planning *planning) { rewrite(planning, judge_unknown); }

/* --- fstab.type, fstab.subvolume -------------------------------------------------------------- */

static struct verdict judge_type(struct planning *planning, const struct line *line) {
    const struct guest_part *part = part_named(planning->look, line->device);
    struct verdict verdict = {.what = KEEP};

    if (part == NULL || !fstab_type_wrong(line->type, line->path, part) || may_fail(line))
        return verdict;
    verdict.what = SWAP;
    verdict.at = TYPE;
    snprintf(verdict.word, sizeof(verdict.word), "%s", part->filesystem);
    return verdict;
}

void repair_fstab_type(struct planning *planning) { rewrite(planning, judge_type); }

/* A path that leads to a subvolume is enough: the number beside it is an older one's. */
static bool without_number(const struct volume *volume, const struct line *line,
                           struct verdict *verdict) {
    IM_AUTO(im_strings_done) struct im_strings options = {0};
    IM_AUTO(free_auto) char *kept = NULL;
    struct im_strings left = {0};
    struct node root;

    im_strings_split(&options, line->options, ",");
    for (size_t i = 0; i < options.count; i++)
        if (!im_starts_with(options.items[i], "subvolid="))
            im_strings_add(&left, options.items[i]);
    kept = im_strings_join(&left, ",");
    im_strings_done(&left);
    if (strstr(kept, "subvol=") == NULL || !volume->ops->choose(volume->state, kept, &root))
        return false;
    verdict->what = SWAP;
    verdict->at = OPTIONS;
    snprintf(verdict->word, sizeof(verdict->word), "%s", kept);
    return true;
}

/* Which one was meant is not known otherwise: the machine starts without it. */
static struct verdict judge_subvolume(struct planning *planning, const struct line *line) {
    const struct guest_part *part = part_of_line(planning->look, line->device);
    const struct volume *volume = part != NULL ? volume_of(planning->look, part) : NULL;
    struct verdict verdict = {.what = KEEP};
    struct node root;

    if (volume == NULL || volume->ops->choose == NULL || may_fail(line) ||
        volume->ops->choose(volume->state, line->options, &root) ||
        without_number(volume, line, &verdict))
        return verdict;
    if (fstab_vital(line->path))
        plan_cannot(planning, "it is not known which subvolume of %s is the one for %.80s",
                    part->name, line->path);
    else
        verdict.what = NOFAIL;
    return verdict;
}

void repair_fstab_subvolume(struct planning *planning) { rewrite(planning, judge_subvolume); }

/* --- fstab.twice ------------------------------------------------------------------------------ */

/* The same things on the same path: file systems of the disk whatever they are called. */
static bool same_thing(const struct look *look, const struct line *one, const struct line *other) {
    const struct guest_part *part = part_of_line(look, one->device);
    bool same = part != NULL ? part == part_of_line(look, other->device)
                             : strcmp(one->device, other->device) == 0;
    const char *subvolume = strstr(one->options, "subvol"), *its = strstr(other->options, "subvol");
    size_t len = subvolume != NULL ? strcspn(subvolume, ",") : 0;

    if (!same || (subvolume != NULL) != (its != NULL))
        return false;
    return subvolume == NULL || (strcspn(its, ",") == len && strncmp(subvolume, its, len) == 0);
}

/* An earlier line for this path; false if there is none. */
static bool earlier(struct planning *planning, const struct line *line, struct line *ret_first) {
    const char *text = draft_text(planning, FSTAB);

    for (const char *at = text; at < line->at; at += ret_first->len + 1)
        if (parse(at, ret_first) && strcmp(ret_first->path, line->path) == 0 &&
            !may_fail(ret_first))
            return true;
    return false;
}

static struct verdict judge_twice(struct planning *planning, const struct line *line) {
    struct verdict verdict = {.what = KEEP};
    struct line first;

    if (line->path[0] != '/' || may_fail(line) || !earlier(planning, line, &first))
        return verdict;
    if (same_thing(planning->look, &first, line))
        take_out(&verdict, "another line mounts the same there");
    else
        plan_cannot(planning, "which of %.80s and %.80s belongs to %.80s is not known",
                    first.device, line->device, line->path);
    return verdict;
}

void repair_fstab_twice(struct planning *planning) { rewrite(planning, judge_twice); }
