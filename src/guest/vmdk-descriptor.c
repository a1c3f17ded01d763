/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor of a VMDK: lines of key=value and one line per extent. What QEMU reads from it can
 * name any file of the host, so only one form is let through: one sparse extent, the file itself.
 */
#include "vmdk-private.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/mem.h"

struct descriptor {
    bool kind_seen, parent_seen;
    unsigned extents;
};

static char *trim(char *text) {
    size_t len;

    while (isspace((unsigned char) *text))
        text++;
    len = strlen(text);
    while (len > 0 && isspace((unsigned char) text[len - 1]))
        text[--len] = '\0';
    return text;
}

/* Takes `key = value` apart, in place, without the quotes. */
static bool split(char *line, char **ret_key, char **ret_value) {
    char *equals = strchr(line, '=');
    size_t len;

    if (!equals)
        return false;
    *equals = '\0';
    *ret_key = trim(line);
    *ret_value = trim(equals + 1);
    len = strlen(*ret_value);
    if (len >= 2 && **ret_value == '"' && (*ret_value)[len - 1] == '"') {
        (*ret_value)[len - 1] = '\0';
        (*ret_value)++;
    }
    return true;
}

static bool take_kind(const char *kind, struct im_err *err) {
    if (strcasecmp(kind, "monolithicSparse") == 0 || strcasecmp(kind, "streamOptimized") == 0)
        return true;
    return im_fail(err, IM_BAD_IMAGE,
                   "vmdk: its kind is %.40s, which keeps data in other files; export it as "
                   "streamOptimized",
                   kind);
}

static bool take_extent(const char *line, struct im_err *err) {
    char access[16], kind[32];
    const char *name = strchr(line, '"');

    if (sscanf(line, "%15s %*s %31s", access, kind) != 2 || strcmp(kind, "SPARSE") != 0)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: an extent of kind %.32s lies in another file",
                       sscanf(line, "%*s %*s %31s", kind) == 1 ? kind : "unknown");
    if (!name || strpbrk(name, "/\\:"))
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its extent names a file somewhere else");
    return true;
}

static bool is_extent(const char *line) {
    return strncmp(line, "RW ", 3) == 0 || strncmp(line, "RDONLY ", 7) == 0 ||
           strncmp(line, "NOACCESS ", 9) == 0;
}

static bool take_line(char *line, struct descriptor *found, struct im_err *err) {
    char *key, *value;

    if (line[0] == '\0' || line[0] == '#')
        return true;
    if (is_extent(line)) {
        if (found->extents++ > 0)
            return im_fail(err, IM_BAD_IMAGE, "vmdk: it has more than one extent");
        return take_extent(line, err);
    }
    if (!split(line, &key, &value))
        return true;
    if (strcasecmp(key, "createType") == 0) {
        found->kind_seen = true;
        return take_kind(value, err);
    }
    if (strcasecmp(key, "parentCID") == 0) {
        found->parent_seen = true;
        if (strcasecmp(value, "ffffffff") != 0)
            return im_fail(err, IM_BAD_IMAGE, "vmdk: it is a difference to a parent disk (%.16s)",
                           value);
    }
    if (strcasecmp(key, "parentFileNameHint") == 0)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: it names the file of a parent disk");
    return true;
}

bool vmdk_descriptor_check(const char *text, struct im_err *err) {
    IM_AUTO(free_auto) char *copy = im_strdup(text);
    struct descriptor found = {0};
    char *rest = copy, *line;

    while ((line = strsep(&rest, "\n")))
        if (!take_line(trim(line), &found, err))
            return false;
    if (!found.kind_seen)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its descriptor does not say what kind it is");
    if (found.extents == 0)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its descriptor has no extent");
    return true;
}
