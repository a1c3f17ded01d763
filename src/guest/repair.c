/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of repairs: which there are, and the list of edits that they become. */
#include "guest/repair.h"

#include <stdarg.h>
#include <stdio.h>

#include "repair-boot.h"

#define SENTENCE_MAX 400

/* --- The table -------------------------------------------------------------------------------- */

/* In the order in which they are done: what one file says may depend on what another repair wrote.
 */
static const struct {
    enum guest_found kind;
    repair_function *plan;
} repairs[] = {
    {GUEST_FOUND_BOOT_ACTIVE, repair_active},
    {GUEST_FOUND_GPT_PRIMARY, repair_gpt_primary},
    {GUEST_FOUND_PART_ROOM, repair_partition_room},
    {GUEST_FOUND_GPT_BACKUP, repair_gpt_backup},
    {GUEST_FOUND_GPT_MISPLACED, repair_gpt_backup},
    {GUEST_FOUND_LVM_ROOM, repair_lvm_room},
    {GUEST_FOUND_FS_ROOM, repair_filesystem_room},
    {GUEST_FOUND_FS_DIRTY, repair_journal},
    {GUEST_FOUND_BOOT_KERNEL, repair_boot_files},
    {GUEST_FOUND_BOOT_KERNEL_DAMAGED, repair_boot_files},
    {GUEST_FOUND_BOOT_INITRD, repair_boot_files},
    {GUEST_FOUND_BOOT_INITRD_DAMAGED, repair_boot_files},
    {GUEST_FOUND_BOOT_SEARCH, repair_boot_search},
    {GUEST_FOUND_ESP_CONFIG, repair_boot_search},
    {GUEST_FOUND_BOOT_ROOT, repair_boot_root},
    {GUEST_FOUND_BOOT_ROOT_NAME, repair_boot_root_name},
    {GUEST_FOUND_BOOT_SUBVOLUME, repair_boot_subvolume},
    {GUEST_FOUND_BOOT_DEFAULT, repair_boot_default},
    {GUEST_FOUND_BOOT_ENTRY, repair_boot_entry},
    {GUEST_FOUND_BOOT_VOLUME, repair_boot_volume},
    {GUEST_FOUND_BOOT_RESUME, repair_boot_resume},
    {GUEST_FOUND_BOOT_CONSOLE, repair_boot_console},
    {GUEST_FOUND_BOOT_TERMINAL, repair_boot_terminal},
    {GUEST_FOUND_ESP_FALLBACK, repair_esp_fallback},
    {GUEST_FOUND_DRIVER_DISK, repair_drivers},
    {GUEST_FOUND_DRIVER_ROOT, repair_drivers},
    {GUEST_FOUND_DRIVER_NET, repair_network_driver},
    {GUEST_FOUND_FSTAB_NAME, repair_fstab_names},
    {GUEST_FOUND_FSTAB_ROOT, repair_fstab_root},
    {GUEST_FOUND_FSTAB_UNKNOWN, repair_fstab_unknown},
    {GUEST_FOUND_FSTAB_TYPE, repair_fstab_type},
    {GUEST_FOUND_FSTAB_SUBVOLUME, repair_fstab_subvolume},
    {GUEST_FOUND_FSTAB_TWICE, repair_fstab_twice},
    {GUEST_FOUND_ID_MACHINE, repair_machine_id},
    {GUEST_FOUND_ID_SSH, repair_ssh_keys},
    {GUEST_FOUND_ID_NET, repair_net_rules},
    {GUEST_FOUND_NET_MAC, repair_network_mac},
    {GUEST_FOUND_NET_ADDRESS, repair_network_address},
    {GUEST_FOUND_NET_NAME, repair_network_name},
    {GUEST_FOUND_NET_NONE, repair_network_none},
};
enum { REPAIRS = sizeof(repairs) / sizeof(repairs[0]) };

bool guest_repairable(const char *code) {
    for (size_t i = 0; i < REPAIRS; i++)
        if (strcmp(finding_code(repairs[i].kind), code) == 0)
            return true;
    return false;
}

const char *guest_edit_name(enum guest_edit_kind kind) {
    static const char *const names[] = {"write",     "remove", "empty",  "copy", "raw",
                                        "directory", "append", "fstrim", "grow"};

    return names[kind];
}

/* --- Edits ------------------------------------------------------------------------------------ */

static struct guest_edit *add_edit(struct planning *planning, enum guest_edit_kind kind,
                                   const char *path) {
    struct guest_plan *plan = planning->plan;
    struct guest_edit *edit;

    im_grow(&plan->edits, plan->edit_count, &plan->edit_capacity);
    edit = &plan->edits[plan->edit_count++];
    *edit = (struct guest_edit){.kind = kind, .path = im_strdup(path)};
    return edit;
}

static void add_step(struct planning *planning, const char *verb, const char *path,
                     const char *rest) {
    IM_AUTO(free_auto) char *step = im_printf("%s %s%s", verb, path, rest);

    im_strings_add(&planning->plan->steps, step);
}

static bool planned(const struct planning *planning, enum guest_edit_kind kind, const char *path) {
    for (size_t i = 0; i < planning->plan->edit_count; i++)
        if (planning->plan->edits[i].kind == kind &&
            im_str_equal(planning->plan->edits[i].path, path))
            return true;
    return false;
}

void plan_remove(struct planning *planning, const char *path, bool recursive) {
    if (planned(planning, GUEST_EDIT_REMOVE, path))
        return;
    add_edit(planning, GUEST_EDIT_REMOVE, path)->recursive = recursive;
    add_step(planning, "remove", path, "");
}

void plan_empty(struct planning *planning, const char *path, bool recursive) {
    if (planned(planning, GUEST_EDIT_EMPTY, path))
        return;
    add_edit(planning, GUEST_EDIT_EMPTY, path)->recursive = recursive;
    add_step(planning, "empty", path, "");
}

void plan_copy(struct planning *planning, const char *from, const char *path) {
    IM_AUTO(free_auto) char *rest = im_printf(" to %s", path);

    add_edit(planning, GUEST_EDIT_COPY, path)->other = im_strdup(from);
    add_step(planning, "copy", from, rest);
}

void plan_append(struct planning *planning, const char *path, void *data, size_t len,
                 const char *what) {
    struct guest_edit *edit = add_edit(planning, GUEST_EDIT_APPEND, path);
    IM_AUTO(free_auto) char *rest = im_printf(": %s", what);

    edit->data = data;
    edit->len = len;
    add_step(planning, "append to", path, rest);
}

void plan_folder(struct planning *planning, const char *path, uint32_t mode, uint32_t uid,
                 uint32_t gid, const char *label) {
    struct guest_edit *edit = add_edit(planning, GUEST_EDIT_FOLDER, path);

    edit->mode = mode;
    edit->uid = uid;
    edit->gid = gid;
    edit->label = im_strdup(label);
    add_step(planning, "make", path, "");
}

void plan_trim(struct planning *planning, const char *path) {
    add_edit(planning, GUEST_EDIT_TRIM, path);
    add_step(planning, "give back unused blocks of", path, "");
}

void plan_grow(struct planning *planning, const char *path) {
    add_edit(planning, GUEST_EDIT_GROW, path);
    add_step(planning, "grow the file system of", path, "");
}

void plan_raw(struct planning *planning, uint64_t offset, const void *data, size_t len,
              const char *what) {
    struct guest_edit *edit = add_edit(planning, GUEST_EDIT_RAW, NULL);

    edit->offset = offset;
    edit->data = im_alloc(len);
    memcpy(edit->data, data, len);
    edit->len = len;
    add_step(planning, "write", what, "");
}

static void add_repair(struct planning *planning, bool done, const char *format, va_list args) {
    struct guest_plan *plan = planning->plan;
    char text[SENTENCE_MAX];

    vsnprintf(text, sizeof(text), format, args);
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char) *at < 0x20 || *at == 0x7f)
            *at = '?';
    for (size_t i = 0; i < plan->repair_count; i++)
        if (strcmp(plan->repairs[i].code, planning->code) == 0 &&
            strcmp(plan->repairs[i].text, text) == 0)
            return;
    im_grow(&plan->repairs, plan->repair_count, &plan->repair_capacity);
    plan->repairs[plan->repair_count++] =
        (struct guest_repair){planning->code, done, im_strdup(text)};
}

void plan_done(struct planning *planning, const char *format, ...) {
    va_list args;

    va_start(args, format);
    add_repair(planning, true, format, args);
    va_end(args);
}

void plan_cannot(struct planning *planning, const char *format, ...) {
    va_list args;

    va_start(args, format);
    add_repair(planning, false, format, args);
    va_end(args);
}

/* --- Text files ------------------------------------------------------------------------------- */

static struct draft *draft_of(struct planning *planning, const char *path) {
    for (size_t i = 0; i < planning->draft_count; i++)
        if (strcmp(planning->drafts[i].path, path) == 0)
            return &planning->drafts[i];
    return NULL;
}

static struct draft *draft_new(struct planning *planning, const char *path, uint32_t mode) {
    struct draft *draft;

    im_grow(&planning->drafts, planning->draft_count, &planning->draft_capacity);
    draft = &planning->drafts[planning->draft_count++];
    *draft = (struct draft){.path = im_strdup(path), .mode = mode};
    return draft;
}

/* Half a file, or one that is no text, is not written back. */
static struct draft *draft_load(struct planning *planning, const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    struct file file;
    struct draft *draft;
    size_t len = 0;

    if (planning->tree == NULL || !tree_find(planning->tree, path, &file) ||
        file.facts.kind != NODE_FILE || file.facts.size > TEXT_FILE_MAX ||
        !tree_read(planning->tree, path, TEXT_FILE_MAX, &text, &len) || len != file.facts.size ||
        strlen(text) != len || !im_utf8_valid(text, len))
        return NULL;
    draft = draft_new(planning, path, file.facts.mode);
    draft->uid = file.facts.uid;
    draft->gid = file.facts.gid;
    draft->before = im_strdup(text);
    draft->text = im_steal(&text);
    return draft;
}

const char *draft_text(struct planning *planning, const char *path) {
    struct draft *draft = draft_of(planning, path);

    if (draft == NULL)
        draft = draft_load(planning, path);
    return draft != NULL ? draft->text : NULL;
}

void draft_set(struct planning *planning, const char *path, char *text, uint32_t mode) {
    struct draft *draft = draft_of(planning, path);

    if (draft == NULL)
        draft = draft_load(planning, path);
    if (draft == NULL)
        draft = draft_new(planning, path, mode);
    free(draft->text);
    draft->text = text;
}

void draft_hide(struct planning *planning, const char *path) {
    draft_of(planning, path)->secret = true;
}

void draft_own(struct planning *planning, const char *path, uint32_t uid, uint32_t gid,
               const char *label) {
    struct draft *draft = draft_of(planning, path);

    if (draft->before != NULL)
        return;
    draft->uid = uid;
    draft->gid = gid;
    im_replace(&draft->label, label);
}

static bool within(const char *path, const char *folder, const char *begin, const char *end) {
    const char *slash = strrchr(path, '/');

    return (size_t) (slash - path) == strlen(folder) &&
           strncmp(path, folder, strlen(folder)) == 0 && im_starts_with(slash + 1, begin) &&
           im_ends_with(slash + 1, end);
}

char *plan_text(struct planning *planning, const char *path) {
    const struct draft *draft = draft_of(planning, path);

    if (planned(planning, GUEST_EDIT_REMOVE, path))
        return NULL;
    return draft != NULL ? im_strdup(draft->text) : tree_text(planning->tree, path);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *) a, *(char *const *) b);
}

void plan_names(struct planning *planning, const char *folder, const char *begin, const char *end,
                struct im_strings *names) {
    IM_AUTO(im_strings_done) struct im_strings there = {0};
    size_t before = names->count;

    tree_names(planning->tree, folder, begin, end, &there);
    for (size_t i = 0; i < planning->draft_count; i++) {
        const char *path = planning->drafts[i].path, *name = strrchr(path, '/') + 1;

        if (within(path, folder, begin, end) && !im_strings_has(&there, name))
            im_strings_add(&there, name);
    }
    for (size_t i = 0; i < there.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, there.items[i]);

        if (!planned(planning, GUEST_EDIT_REMOVE, path))
            im_strings_add(names, there.items[i]);
    }
    if (names->count > before)
        qsort(names->items + before, names->count - before, sizeof(char *), by_text);
}

static struct guest_change change_of(const struct planning *planning, const struct draft *draft) {
    const char *hash = planning->hash != NULL ? planning->hash : "";
    IM_AUTO(free_auto) char *before = NULL;
    IM_AUTO(free_auto) char *after = NULL;

    if (!draft->secret)
        return (struct guest_change){im_strdup(draft->path), im_strdup(draft->before),
                                     guest_diff(draft->path, draft->before, draft->text), false};
    before = hashes_hidden(draft->before, hash);
    after = hashes_hidden(draft->text, hash);
    return (struct guest_change){im_strdup(draft->path), NULL,
                                 guest_diff(draft->path, before, after), true};
}

static void drafts_take(struct planning *planning) {
    struct guest_plan *plan = planning->plan;

    for (size_t i = 0; i < planning->draft_count; i++) {
        struct draft *draft = &planning->drafts[i];
        struct guest_edit *edit;

        if ((im_str_equal(draft->before, draft->text) && draft->before != NULL) ||
            planned(planning, GUEST_EDIT_REMOVE, draft->path))
            continue;
        edit = add_edit(planning, GUEST_EDIT_WRITE, draft->path);
        edit->mode = draft->mode;
        edit->uid = draft->uid;
        edit->gid = draft->gid;
        edit->label = im_strdup(draft->label);
        edit->len = strlen(draft->text);
        edit->data = (uint8_t *) im_strdup(draft->text);
        im_grow(&plan->changes, plan->change_count, &plan->change_capacity);
        plan->changes[plan->change_count++] = change_of(planning, draft);
    }
}

static void drafts_done(struct planning *planning) {
    for (size_t i = 0; i < planning->draft_count; i++) {
        free(planning->drafts[i].path);
        free(planning->drafts[i].before);
        free(planning->drafts[i].text);
        free(planning->drafts[i].label);
    }
    free(planning->drafts);
}

/* --- Mounts ----------------------------------------------------------------------------------- */

/* `more` is put behind it; its size 0 = nothing is. */
static void take_pieces(struct guest_mount *mount, const struct span *span,
                        const struct guest_piece *more) {
    size_t count = span->pieces != NULL ? span->piece_count : 1;

    mount->piece_count = count + (more->bytes > 0);
    mount->pieces = im_alloc((count + 1) * sizeof(*mount->pieces));
    mount->pieces[count] = *more;
    if (span->pieces == NULL) {
        mount->pieces[0] =
            (struct guest_piece){.bytes = span->len, .areas = 1, .area = {span->offset}};
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct piece *from = &span->pieces[i];
        struct guest_piece *to = &mount->pieces[i];

        to->bytes = from->len;
        to->stripe_bytes = from->stripe;
        to->areas = from->stripe == 0 ? 1 : from->areas;
        for (size_t k = 0; k < to->areas; k++)
            to->area[k] = from->area[k];
    }
}

static size_t depth_of(const struct mount *mount) {
    size_t depth = 0;

    for (const char *at = mount->path; *at != '\0'; at++)
        depth += *at == '/';
    return depth;
}

/* What lies further in is mounted later. */
static void take_mounts(struct planning *planning) {
    const struct tree *tree = &planning->mounts;
    struct guest_plan *plan = planning->plan;
    static const struct guest_piece nothing;

    plan->mounts = im_alloc((tree->count + 1) * sizeof(*plan->mounts));
    for (size_t depth = 0; plan->mount_count < tree->count; depth++)
        for (size_t i = 0; i < tree->count; i++) {
            const struct mount *from = &tree->mounts[i];
            struct guest_mount *to = &plan->mounts[plan->mount_count];

            if (depth_of(from) != depth)
                continue;
            snprintf(to->path, sizeof(to->path), "%s", from->path[0] ? from->path : "/");
            snprintf(to->filesystem, sizeof(to->filesystem), "%s",
                     volume_part(from->volume)->filesystem);
            memcpy(to->options, from->options, sizeof(to->options));
            take_pieces(to, &from->volume->span,
                        from->volume == planning->grown ? &planning->more : &nothing);
            plan->mount_count++;
        }
}

/* Bytes of the disk alone need no file systems. */
static bool wants_mounts(const struct guest_plan *plan) {
    for (size_t i = 0; i < plan->edit_count; i++)
        if (plan->edits[i].kind != GUEST_EDIT_RAW)
            return true;
    for (size_t i = 0; i < plan->repair_count; i++)
        if (plan->repairs[i].done &&
            strcmp(plan->repairs[i].code, finding_code(GUEST_FOUND_FS_DIRTY)) == 0)
            return true;
    return false;
}

void repair_journal(struct planning *planning) {
    if (planning->mounts.count == 0)
        plan_cannot(planning, "no system was found, so it is not known what is mounted where");
    else
        plan_done(planning, "the file systems are mounted once, which replays their journals");
}

/* --- All of them ------------------------------------------------------------------------------ */

struct asked {
    const struct guest_wish *wish;
    struct guest_plan *plan;
};

/* Files are changed by a Linux: what others keep, and how, is not for it. */
static bool foreign(const struct look *look) {
    return strcmp(look->found->os.platform, "bsd") == 0 ||
           strcmp(look->found->os.platform, "windows") == 0;
}

/* No file is changed. */
static bool of_table(enum guest_found kind) {
    return kind == GUEST_FOUND_BOOT_ACTIVE || im_starts_with(finding_code(kind), "gpt.");
}

/* What is found is the owner's wish more often than not: done only when its code is named. */
static bool may_be_meant(enum guest_found kind) { return kind == GUEST_FOUND_NET_ADDRESS; }

/* `named`: by its own code, not only as one of all. */
static void plan_one(struct planning *planning, size_t i, bool named) {
    const char *name = planning->look->found->os.name;

    if (planning->look->member)
        plan_cannot(planning,
                    "the disk is one half of a RAID of Linux (md), whose other half would "
                    "not change with it");
    else if (foreign(planning->look) && im_starts_with(planning->code, "network."))
        plan_cannot(planning,
                    "%.80s is no Linux: let its /etc/rc.conf say ifconfig_DEFAULT=\"DHCP\", and "
                    "nothing of single cards, while it runs",
                    name);
    else if (foreign(planning->look) && !of_table(repairs[i].kind))
        plan_cannot(planning, "%.80s is no Linux: its files are to be changed while it runs", name);
    else if (may_be_meant(repairs[i].kind) && !named)
        plan_cannot(planning, "it may be meant so; --only %s changes it", planning->code);
    else
        repairs[i].plan(planning);
}

static void make(struct look *look, void *arg) {
    struct asked *asked = arg;
    struct planning planning = {.look = look, .plan = asked->plan, .hash = asked->wish->login.hash};
    bool named;

    if (!foreign(look) && system_tree(look, &planning.mounts))
        planning.tree = &planning.mounts;
    planning.own_mounts = planning.mounts.count;
    for (size_t i = 0; i < REPAIRS; i++) {
        planning.code = finding_code(repairs[i].kind);
        named = im_strings_has(&asked->wish->only, planning.code);
        if (look_has(look, repairs[i].kind) && (asked->wish->all || named))
            plan_one(&planning, i, named);
    }
    for (size_t i = 0; guest_seal_items[i].word != NULL; i++) {
        planning.code = guest_seal_items[i].word;
        if (im_strings_has(&asked->wish->seal, planning.code))
            seal_item(&planning, i);
    }
    if (asked->wish->login.asked)
        login_plan(&planning, &asked->wish->login);
    drafts_take(&planning);
    if (asked->wish->trim)
        trim_plan(&planning); /* last: what the others took away is unused, too */
    if (wants_mounts(asked->plan))
        take_mounts(&planning);
    drafts_done(&planning);
    boot_free(planning.boot);
    free(planning.menu_told);
}

static bool check_wish(const struct guest_wish *wish, struct im_err *err) {
    for (size_t i = 0; i < wish->only.count; i++)
        if (!guest_repairable(wish->only.items[i]))
            return im_fail(err, IM_BAD_MESSAGE, "there is no repair for findings of [%.40s]",
                           wish->only.items[i]);
    for (size_t i = 0; i < wish->seal.count; i++) {
        size_t item = 0;

        while (guest_seal_items[item].word != NULL &&
               strcmp(guest_seal_items[item].word, wish->seal.items[i]) != 0)
            item++;
        if (guest_seal_items[item].word == NULL)
            return im_fail(err, IM_BAD_MESSAGE, "[%.40s] is nothing that could be sealed",
                           wish->seal.items[i]);
    }
    return !wish->login.asked || login_check(&wish->login, err);
}

bool guest_plan(const struct guest_source *source, const struct guest_wish *wish,
                struct guest_inspection **ret_inspection, struct guest_plan **ret_plan,
                struct im_err *err) {
    IM_AUTO(guest_plan_free_auto) struct guest_plan *plan = im_alloc(sizeof(*plan));
    struct asked asked = {wish, plan};

    if (!check_wish(wish, err) || !look_run(source, make, &asked, ret_inspection, err))
        return false;
    *ret_plan = im_steal(&plan);
    return true;
}

void guest_plan_free(struct guest_plan *plan) {
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->repair_count; i++)
        free(plan->repairs[i].text);
    for (size_t i = 0; i < plan->edit_count; i++) {
        free(plan->edits[i].path);
        free(plan->edits[i].other);
        free(plan->edits[i].label);
        free(plan->edits[i].data);
    }
    for (size_t i = 0; i < plan->change_count; i++) {
        free(plan->changes[i].path);
        free(plan->changes[i].before);
        free(plan->changes[i].diff);
    }
    for (size_t i = 0; i < plan->mount_count; i++)
        free(plan->mounts[i].pieces);
    free(plan->repairs);
    free(plan->edits);
    free(plan->changes);
    free(plan->mounts);
    im_strings_done(&plan->steps);
    free(plan);
}
