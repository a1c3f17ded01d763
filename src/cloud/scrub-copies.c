/* SPDX-License-Identifier: Apache-2.0 */
/* Copies in the second pool rot as well: each is read and held against its note. What is
 * not what it was is written down there, so that nobody relies on it and the next CopySnapshots
 * renews it. */
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

/* What is wrong with it is in *ret_why. */
static bool look(struct storage_pool *second, const struct layer_copy *copy, struct stream *stream,
                 struct im_err *ret_why, struct im_err *err) {
    char digest[DIGEST_TEXT];
    struct im_err trouble = {0};

    if (layer_read(second, copy->name, stream, digest, &trouble)) {
        if (strcmp(digest, copy->digest) != 0)
            im_fail(ret_why, IM_BAD_IMAGE, "its bytes were %.24s…, they are %.24s…", copy->digest,
                    digest);
        return true;
    }
    *(trouble_is_rot(&trouble) ? ret_why : err) = trouble;
    return trouble_is_rot(&trouble);
}

/* One that was removed meanwhile, or whose note cannot be read, is none. */
static bool scrub_claimed(struct storage_pool *second, const char *name, struct stream *stream,
                          struct im_err *ret_why, struct im_err *err) {
    struct layer_copy copy;
    struct im_err trouble = {0};

    if (!layer_copy_get(second, name, &copy, &trouble)) {
        if (trouble.code == IM_BAD_MESSAGE)
            *ret_why = trouble;
        else if (trouble.code != IM_NOT_FOUND)
            *err = trouble;
        return trouble.code == IM_BAD_MESSAGE || trouble.code == IM_NOT_FOUND;
    }
    if (!look(second, &copy, stream, ret_why, err))
        return false;
    if (copy.damaged == (ret_why->code != IM_OK))
        return true;
    copy.damaged = !copy.damaged;
    return layer_copy_put(second, &copy, err);
}

static bool scrub_copy(struct cloud *cloud, struct storage_pool *second, const char *name,
                       struct stream *stream, bool *ret_bad, struct im_err *err) {
    struct im_err why = {0};
    bool looked;

    if (!layer_claim(cloud, name, stream->cancel, err))
        return false;
    looked = scrub_claimed(second, name, stream, &why, err);
    layer_release(cloud, name);
    *ret_bad = why.code != IM_OK;
    if (*ret_bad)
        im_error("scrub", "the copy of layer %s in the second pool is damaged: %s", name, why.text);
    return looked;
}

static bool scrub_all(struct cloud *cloud, struct storage_pool *second, struct stream *stream,
                      struct im_strings *bad, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings notes = {0};

    if (!storage_note_list(second, &notes, err))
        return im_within(err, "second pool");
    for (size_t i = 0; i < notes.count; i++) {
        bool is_bad = false;

        if (!im_starts_with(notes.items[i], "l-"))
            continue;
        if (!scrub_copy(cloud, second, notes.items[i], stream, &is_bad, err))
            return im_within(err, "second pool");
        if (is_bad)
            im_strings_add(bad, notes.items[i]);
    }
    return true;
}

bool copies_scrub(struct cloud *cloud, struct stream *stream, struct im_strings *bad,
                  struct im_err *err) {
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct im_err away = {0};
    bool scrubbed;

    if (im_str_empty(cloud->config.second_uri))
        return true;
    if (!second_open(cloud, &second, &away)) {
        im_warn("scrub", "copies are not read: %s", away.text);
        return true;
    }
    if (!second_enter(cloud, stream->cancel, err))
        return false;
    scrubbed = scrub_all(cloud, second, stream, bad, err);
    second_leave(cloud, second, false);
    return scrubbed;
}
