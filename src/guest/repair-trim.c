/* SPDX-License-Identifier: Apache-2.0 */
/* File systems that give back the blocks that hold no file any more. */
#include "repair-private.h"

/* Those whose drivers can. */
static bool gives_back(const char *filesystem) {
    return im_starts_with(filesystem, "ext") || strcmp(filesystem, "xfs") == 0 ||
           strcmp(filesystem, "btrfs") == 0;
}

/* One file system may be mounted in several places, with a subvolume in each. */
static bool is_first(const struct tree *tree, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (tree->mounts[i].volume == tree->mounts[at].volume)
            return false;
    return true;
}

void trim_plan(struct planning *planning) {
    const struct tree *tree = &planning->mounts;
    size_t count = 0;

    planning->code = "trim";
    for (size_t i = 0; i < tree->count; i++) {
        const char *path = tree->mounts[i].path[0] != '\0' ? tree->mounts[i].path : "/";

        if (!gives_back(volume_part(tree->mounts[i].volume)->filesystem) || !is_first(tree, i))
            continue;
        plan_trim(planning, path);
        count++;
    }
    if (count > 0)
        plan_done(planning, "unused blocks of %zu file system%s are given back", count,
                  count == 1 ? "" : "s");
    else
        plan_cannot(planning, "no file system was found on the disk that could give back blocks");
}
