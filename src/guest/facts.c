/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of system it is beyond its name: the id that libosinfo gives it, what it starts with,
 * how many packages it has, whether people meet a desktop. */
#include <ctype.h>
#include <stdio.h>

#include "system.h"

#define DATABASE_MAX (8u << 20) /* of a package manager */
#define CHUNK 65536u

/* --- libosinfo's id --------------------------------------------------------------------------- */

struct release {
    char id[32], name[64], version[32], variant[32];
};

static void take_release(const struct tree *tree, struct release *release) {
    IM_AUTO(free_auto) char *text = tree_text(tree, "/etc/os-release");
    char *at, *line;

    if (text == NULL)
        text = tree_text(tree, "/usr/lib/os-release");
    for (at = text; text != NULL && (line = text_line(&at)) != NULL;) {
        (void) text_value(line, "ID", release->id, sizeof(release->id));
        (void) text_value(line, "NAME", release->name, sizeof(release->name));
        (void) text_value(line, "VERSION_ID", release->version, sizeof(release->version));
        (void) text_value(line, "VARIANT_ID", release->variant, sizeof(release->variant));
    }
}

/* How much of a version their ids have. */
enum version_part { NO_VERSION, MAJOR, TWO_PARTS, SERVICE_PACK };
static const struct {
    const char *id, *osinfo;
    enum version_part part;
} osinfo_ids[] = {
    {"debian", "debian", MAJOR},
    {"ubuntu", "ubuntu", TWO_PARTS},
    {"fedora", "fedora", MAJOR},
    {"rhel", "rhel", TWO_PARTS},
    {"rocky", "rocky", MAJOR},
    {"almalinux", "almalinux", MAJOR},
    {"ol", "ol", TWO_PARTS},
    {"scientific", "scientificlinux", TWO_PARTS},
    {"opensuse-leap", "opensuse", TWO_PARTS},
    {"opensuse", "opensuse", TWO_PARTS},
    {"opensuse-tumbleweed", "opensusetumbleweed", NO_VERSION},
    {"sles", "sle", SERVICE_PACK},
    {"sled", "sle", SERVICE_PACK},
    {"arch", "archlinux", NO_VERSION},
    {"manjaro", "manjaro", NO_VERSION},
    {"gentoo", "gentoo", NO_VERSION},
    {"void", "voidlinux", NO_VERSION},
    {"alpine", "alpinelinux", TWO_PARTS},
    {"freebsd", "freebsd", TWO_PARTS},
    {"mageia", "mageia", MAJOR},
    {"nixos", "nixos-", TWO_PARTS},
    {"pop", "popos", TWO_PARTS},
    {"pureos", "pureos", MAJOR},
    {"slackware", "slackware", TWO_PARTS},
    {"clear-linux-os", "clearlinux", NO_VERSION},
    {"cirros", "cirros", TWO_PARTS},
    {"altlinux", "alt.p", MAJOR},
    {"elementary", "elementary", TWO_PARTS},
};

/* "15.5" is service pack 5 of 15. */
static void versioned(char out[32], const char *name, enum version_part part, const char *version) {
    int major = (int) strspn(version, "0123456789");
    int minor = version[major] == '.' ? (int) strspn(version + major + 1, "0123456789") : 0;

    if (part == NO_VERSION)
        snprintf(out, 32, "%s", name);
    else if (major == 0 || (part == TWO_PARTS && minor == 0))
        out[0] = '\0';
    else if (part == MAJOR)
        snprintf(out, 32, "%s%.*s", name, major, version);
    else if (part == TWO_PARTS)
        snprintf(out, 32, "%s%.*s", name, major + 1 + minor, version);
    else if (minor == 0)
        snprintf(out, 32, "%s%.*s", name, major, version);
    else
        snprintf(out, 32, "%s%.*ssp%.*s", name, major, version, minor, version + major + 1);
}

/* Families whose ids do not follow from the name alone. */
static bool osinfo_special(char out[32], const struct release *release) {
    bool seven = strcmp(release->version, "7") == 0;

    if (strcmp(release->id, "fedora") == 0 && strcmp(release->variant, "coreos") == 0)
        snprintf(out, 32, "fedora-coreos-stable");
    else if (strcmp(release->id, "fedora") == 0 && strcmp(release->variant, "silverblue") == 0)
        versioned(out, "silverblue", MAJOR, release->version);
    else if (strcmp(release->id, "centos") == 0)
        versioned(out, strstr(release->name, "Stream") != NULL ? "centos-stream" : "centos", MAJOR,
                  release->version);
    else if (strcmp(release->id, "debian") == 0 && release->version[0] == '\0')
        snprintf(out, 32, "debiantesting");
    else if (strcmp(release->id, "rhel") == 0 && seven)
        snprintf(out, 32, "rhel7-unknown");
    else
        return false;
    return true;
}

static void take_osinfo(const struct tree *tree, struct guest_os *os) {
    struct release release = {0};

    take_release(tree, &release);
    if (release.id[0] == '\0') {
        memcpy(release.id, os->id, sizeof(release.id));
        memcpy(release.version, os->version, sizeof(release.version));
    }
    if (osinfo_special(os->osinfo, &release))
        return;
    for (size_t i = 0; i < sizeof(osinfo_ids) / sizeof(osinfo_ids[0]); i++)
        if (strcmp(osinfo_ids[i].id, release.id) == 0)
            versioned(os->osinfo, osinfo_ids[i].osinfo, osinfo_ids[i].part, release.version);
}

/* --- What it starts with ---------------------------------------------------------------------- */

static bool link_says(const struct tree *tree, const char *path, const char *word) {
    char target[256] = "";
    struct file file;
    size_t got = 0;

    if (!tree_find_link(tree, path, &file) || file.facts.kind != NODE_LINK ||
        !file_read(&file, 0, target, sizeof(target) - 1, &got))
        return false;
    target[got] = '\0';
    return strstr(target, word) != NULL;
}

static const char *init_of(const struct tree *tree) {
    static const struct {
        const char *word, *name;
    } links[] = {{"systemd", "systemd"}, {"openrc", "openrc"}, {"runit", "runit"},
                 {"s6", "s6"},           {"finit", "finit"},   {"dinit", "dinit"}};

    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        if (link_says(tree, "/sbin/init", links[i].word))
            return links[i].name;
    if (tree_has(tree, "/etc/inittab") && tree_has(tree, "/sbin/openrc"))
        return "openrc"; /* busybox' or sysvinit's init starts it */
    if (link_says(tree, "/sbin/init", "busybox"))
        return "busybox";
    if (tree_has(tree, "/sbin/init") && tree_has(tree, "/sbin/initctl") &&
        tree_has(tree, "/etc/init"))
        return "upstart";
    if (tree_has(tree, "/sbin/init") && tree_has(tree, "/etc/inittab"))
        return "sysvinit";
    if (tree_has(tree, "/sbin/init") && tree_has(tree, "/etc/rc.conf") &&
        tree_has(tree, "/etc/rc.subr"))
        return "rc";
    return "";
}

/* --- Packages --------------------------------------------------------------------------------- */

/* Calls for each line that begins with `mark`, through all of a file that may be large. */
static unsigned count_lines(const struct tree *tree, const char *path, const char *mark) {
    IM_AUTO(free_auto) char *chunk = NULL;
    size_t len = strlen(mark), kept = 0, got = 0;
    unsigned count = 0;
    struct file file;

    if (!tree_find(tree, path, &file) || file.facts.kind != NODE_FILE ||
        file.facts.size > DATABASE_MAX)
        return 0;
    chunk = im_alloc(CHUNK + 64);
    chunk[kept++] = '\n'; /* so that the first line is like the others */
    for (uint64_t at = 0; file_read(&file, at, chunk + kept, CHUNK, &got) && got > 0; at += got) {
        char *from = chunk, *end = chunk + kept + got;

        while ((from = memmem(from, (size_t) (end - from), mark, len)) != NULL) {
            count++;
            from += len;
        }
        /* What a mark may have begun with; a whole one is shorter by a byte. */
        kept = kept + got < len - 1 ? kept + got : len - 1;
        memmove(chunk, end - kept, kept);
    }
    return count;
}

static bool count_name(void *arg, const char *name, size_t len) {
    (void) len;
    *(unsigned *) arg += name[0] != '.';
    return *(unsigned *) arg < 100000;
}

static unsigned count_packages(const struct tree *tree) {
    unsigned count = count_lines(tree, "/var/lib/dpkg/status", "\nStatus: install ok installed\n");

    if (count == 0)
        count = count_lines(tree, "/lib/apk/db/installed", "\nP:");
    if (count == 0)
        count = rpm_count(tree);
    if (count == 0 && tree_list(tree, "/var/lib/pacman/local", count_name, &count) && count > 0)
        count--; /* ALPM_DB_VERSION */
    return count;
}

/* --- All of them ------------------------------------------------------------------------------ */

/* A display manager is what the unit of that name is linked to; before systemd, a program. */
static const char *ui_of(const struct tree *tree) {
    struct file file;
    bool text = link_says(tree, "/etc/systemd/system/default.target", "multi-user");

    return !text && tree_find_link(tree, "/etc/systemd/system/display-manager.service", &file)
               ? "gui"
               : "tui";
}

void facts_take(const struct tree *tree, struct guest_os *os) {
    take_osinfo(tree, os);
    snprintf(os->init, sizeof(os->init), "%s", init_of(tree));
    snprintf(os->ui, sizeof(os->ui), "%s", ui_of(tree));
    os->packages = count_packages(tree);
}
