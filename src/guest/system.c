/* SPDX-License-Identifier: Apache-2.0 */
/* The system on a root file system: which it is, and what in it will make trouble. */
#include <ctype.h>
#include <stdio.h>

#include "tree.h"

#define FILE_MAX 65536u
#define LINES_MAX 200u

/* --- Lines ------------------------------------------------------------------------------------ */

static char *read_text(const struct tree *tree, const char *path) {
    char *text = NULL;
    size_t len;

    return tree->read(tree->state, path, FILE_MAX, &text, &len) ? text : NULL;
}

/* The next line, ended by a NUL in place; NULL at the end. */
static char *next_line(char **at) {
    char *line = *at;
    size_t len = strcspn(line, "\n");

    if (*line == '\0')
        return NULL;
    *at = line[len] == '\n' ? line + len + 1 : line + len;
    line[len] = '\0';
    return line;
}

/* KEY=value or KEY="value", as in os-release. */
static void take_value(const char *line, const char *key, char *out, size_t size) {
    size_t len = strlen(key);

    if (strncmp(line, key, len) != 0 || line[len] != '=')
        return;
    line += len + 1;
    if (*line == '"' || *line == '\'') {
        line++;
        text_take(out, size, line, strcspn(line, "\"'"));
    } else {
        text_take(out, size, line, strlen(line));
    }
}

/* --- Which system ----------------------------------------------------------------------------- */

static bool take_release(const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *text = read_text(tree, "/etc/os-release");
    char *at, *line;

    if (text == NULL)
        text = read_text(tree, "/usr/lib/os-release");
    if (text == NULL)
        return false;
    for (at = text; (line = next_line(&at)) != NULL;) {
        take_value(line, "ID", os->id, sizeof(os->id));
        take_value(line, "PRETTY_NAME", os->name, sizeof(os->name));
        take_value(line, "VERSION_ID", os->version, sizeof(os->version));
    }
    snprintf(os->platform, sizeof(os->platform), "%s",
             strcmp(os->id, "freebsd") == 0 ? "bsd" : "linux");
    return os->id[0] != '\0';
}

static void take_processor(const struct tree *tree, struct guest_os *os) {
    static const char *const programs[] = {"/bin/ls", "/bin/sh", "/usr/bin/ls", "/bin/busybox"};
    static const struct {
        uint16_t number;
        const char *architecture, *processor;
    } machines[] = {{62, "x86_64", "64bit"},
                    {3, "i386", "32bit"},
                    {183, "aarch64", "64bit"},
                    {243, "riscv64", "64bit"},
                    {40, "arm", "32bit"}};

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        IM_AUTO(free_auto) char *head = NULL;
        size_t len = 0;

        if (!tree->read(tree->state, programs[i], 64, &head, &len) || len < 20 ||
            memcmp(head, "\177ELF", 4) != 0)
            continue;
        for (size_t j = 0; j < sizeof(machines) / sizeof(machines[0]); j++)
            if (machines[j].number == le16((const uint8_t *) head + 18)) {
                snprintf(os->architecture, sizeof(os->architecture), "%s",
                         machines[j].architecture);
                snprintf(os->processor, sizeof(os->processor), "%s", machines[j].processor);
            }
        return;
    }
}

/* cloud-init's own word for who logs in: default_user, and further in, name. */
static void take_user(struct look *look, const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *text = read_text(tree, "/etc/cloud/cloud.cfg");
    bool within = false;
    char *at, *line;

    if (text == NULL) {
        look_found(look, GUEST_FOUND_NO_CLOUD_INIT, "the system has no cloud-init");
        return;
    }
    for (at = text; (line = next_line(&at)) != NULL;) {
        line += strspn(line, " \t");
        if (im_starts_with(line, "default_user:"))
            within = true;
        if (!within || !im_starts_with(line, "name:"))
            continue;
        line += 5 + strspn(line + 5, " \t\"'");
        text_take(os->user, sizeof(os->user), line, strcspn(line, " \t\"'"));
        return;
    }
}

/* --- What would be the same in every copy ----------------------------------------------------- */

static void see_key(void *arg, const char *name, size_t len) {
    bool *found = arg;

    if (len > 13 && strncmp(name, "ssh_host_", 9) == 0 && strncmp(name + len - 4, "_key", 4) == 0)
        *found = true;
}

static void check_identity(struct look *look, const struct tree *tree) {
    IM_AUTO(free_auto) char *machine = read_text(tree, "/etc/machine-id");
    bool keys = false;

    if (machine != NULL && isxdigit((unsigned char) machine[0]))
        look_found(look, GUEST_FOUND_ID_MACHINE,
                   "/etc/machine-id is set: all machines of this disk have the same");
    if (tree->list(tree->state, "/etc/ssh", see_key, &keys) && keys &&
        !tree->has(tree->state, "/etc/cloud/cloud.cfg"))
        look_found(look, GUEST_FOUND_ID_SSH,
                   "all machines of this disk have the same SSH host keys");
    if (tree->has(tree->state, "/etc/udev/rules.d/70-persistent-net.rules"))
        look_found(look, GUEST_FOUND_ID_NET,
                   "names of network cards are bound to the addresses of an older machine's cards");
}

/* --- fstab ------------------------------------------------------------------------------------ */

static bool tag_known(const struct look *look, const char *tag, const char *value) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        const char *has = strcmp(tag, "UUID") == 0       ? part->uuid
                          : strcmp(tag, "PARTUUID") == 0 ? part->partuuid
                          : strcmp(tag, "LABEL") == 0    ? part->label
                                                         : NULL;

        if (has == NULL)
            return true; /* PARTLABEL, ID: not known here */
        if (has[0] != '\0' &&
            (strcmp(tag, "LABEL") == 0 ? strcmp(has, value) : strcasecmp(has, value)) == 0)
            return true;
    }
    return false;
}

/* /dev/vg/lv, or /dev/mapper/vg-lv in which a dash of a name is two. */
static bool volume_known(const struct look *look, const char *device) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        char mapped[180] = "/dev/mapper/";
        size_t used = strlen(mapped);

        if (part->number != 0 || strcmp(part->type, "lv") != 0)
            continue;
        for (const char *c = part->name; *c != '\0' && used + 2 < sizeof(mapped); c++) {
            if (*c == '-')
                mapped[used++] = '-';
            mapped[used++] = *c == '/' ? '-' : *c;
        }
        mapped[used] = '\0';
        if (strcmp(mapped, device) == 0 || strcmp(part->name, device + strlen("/dev/")) == 0)
            return true;
    }
    return false;
}

static bool vital(const char *mount) {
    return strcmp(mount, "/") == 0 || strcmp(mount, "/boot") == 0 || strcmp(mount, "/usr") == 0;
}

/* Something on the disk that could hold what is looked for, and cannot be read. */
static bool hides_something(const struct look *look) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const char *filesystem = look->found->parts[i].filesystem;

        if (strcmp(filesystem, "crypto_LUKS") == 0 ||
            strcmp(filesystem, "linux_raid_member") == 0 ||
            (strcmp(look->found->parts[i].type, "lv") == 0 && filesystem[0] == '\0'))
            return true;
    }
    return false;
}

static void unknown(struct look *look, const char *device, const char *mount) {
    char shown_device[80], shown_mount[80];

    text_take(shown_device, sizeof(shown_device), device, strlen(device));
    text_take(shown_mount, sizeof(shown_mount), mount, strlen(mount));
    look_found(
        look,
        vital(mount) && !hides_something(look) ? GUEST_FOUND_FSTAB_ROOT : GUEST_FOUND_FSTAB_UNKNOWN,
        "/etc/fstab mounts %s from %s, which is not on this disk", shown_mount, shown_device);
}

static bool is_numbered_name(const char *device) {
    static const char *const begins[] = {"/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd", "/dev/nvme"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (im_starts_with(device, begins[i]))
            return true;
    return false;
}

static void check_line(struct look *look, const char *device, const char *mount,
                       const char *options) {
    const char *equals = strchr(device, '=');
    bool nofail = strstr(options, "nofail") != NULL || strstr(options, "noauto") != NULL;

    if (is_numbered_name(device)) {
        look_found(look, GUEST_FOUND_FSTAB_NAME,
                   "/etc/fstab names %.60s, which may be another disk on the next machine", device);
    } else if (equals != NULL && equals - device < 12 && device[0] != '/' && !nofail) {
        IM_AUTO(free_auto) char *tag = im_strndup(device, (size_t) (equals - device));
        const char *value = equals + 1 + (equals[1] == '"');
        IM_AUTO(free_auto) char *plain = im_strndup(value, strcspn(value, "\""));

        if (!tag_known(look, tag, plain))
            unknown(look, device, mount);
    } else if (im_starts_with(device, "/dev/mapper/") && !nofail && !volume_known(look, device)) {
        unknown(look, device, mount);
    }
}

static void check_fstab(struct look *look, char *text) {
    char *at = text, *line;

    for (unsigned i = 0; i < LINES_MAX && (line = next_line(&at)) != NULL; i++) {
        char device[256], mount[256], type[64], options[256] = "";

        line += strspn(line, " \t");
        if (*line != '#' &&
            sscanf(line, "%255s %255s %63s %255s", device, mount, type, options) >= 3)
            check_line(look, device, mount, options);
    }
}

/* --- All -------------------------------------------------------------------------------------- */

/* fstab is kept until all parts are known. */
bool system_look(struct look *look, const struct tree *tree, const char *part_name) {
    struct guest_os *os = &look->found->os;

    if (os->id[0] != '\0' || !take_release(tree, os))
        return false;
    snprintf(os->root, sizeof(os->root), "%s", part_name);
    take_processor(tree, os);
    take_user(look, tree, os);
    {
        IM_AUTO(free_auto) char *name = read_text(tree, "/etc/hostname");

        if (name != NULL)
            text_take(os->hostname, sizeof(os->hostname), name, strcspn(name, "\n"));
    }
    check_identity(look, tree);
    look->fstab = read_text(tree, "/etc/fstab");
    return true;
}

void system_check(struct look *look) {
    if (look->found->os.id[0] == '\0')
        look_found(look, GUEST_FOUND_ROOT_NONE,
                   "no root file system that can be read was found: the system is not known");
    if (look->fstab != NULL)
        check_fstab(look, look->fstab);
    free(look->fstab);
    look->fstab = NULL;
}
