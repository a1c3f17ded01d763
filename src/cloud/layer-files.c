/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a disk's layers, opened for a worker that reads the disk through all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cloud-private.h"

void layer_files_done(struct layer_files *files) {
    for (size_t i = 0; i < files->count; i++)
        (void) close(files->fds[i]);
    free(files->fds);
    im_strings_done(&files->formats);
    *files = (struct layer_files){0};
}

void layer_files_add(struct layer_files *files, int fd) {
    im_grow(&files->fds, files->count, &files->capacity);
    files->fds[files->count++] = fd;
}

/* Puts the parent's name, "" at the root, in place of the layer's. */
static bool open_one(struct storage_pool *pool, struct layer_files *files, enum layer_end end,
                     char name[STORAGE_NAME_MAX], struct im_err *err) {
    struct storage_source source = {0};
    char parent[STORAGE_NAME_MAX] = "";
    int fd = -1;

    if (!storage_attach_info(pool, name, &source, err))
        return false;
    im_strings_add(&files->formats, source.format);
    storage_source_done(&source);
    if (end == LAYER_END_FROZEN
            ? !storage_read(pool, name, &fd, parent, err)
            : !storage_open_head(pool, name, end == LAYER_END_WRITABLE, &fd, parent, err))
        return false;
    layer_files_add(files, fd);
    memcpy(name, parent, STORAGE_NAME_MAX);
    return true;
}

static bool open_chain(struct storage_pool *pool, const char *layer_name, enum layer_end end,
                       size_t max, struct layer_files *files, struct im_err *err) {
    char name[STORAGE_NAME_MAX];

    snprintf(name, sizeof(name), "%s", layer_name);
    while (name[0] != '\0') {
        if (files->formats.count == max)
            return im_fail(err, IM_UNSUPPORTED, "the disk has more than %zu layers", max);
        if (!open_one(pool, files, end, name, err))
            return false;
        end = LAYER_END_FROZEN;
    }
    return true;
}

bool layer_files_open(struct cloud *cloud, const char *layer_name, enum layer_end end, size_t max,
                      struct layer_files *files, struct im_err *err) {
    bool opened;

    chains_hold(cloud);
    opened = open_chain(cloud->config.pool, layer_name, end, max, files, err);
    chains_release(cloud);
    return opened;
}

char *layer_files_formats(const struct layer_files *files) {
    return im_strings_join(&files->formats, " ");
}
