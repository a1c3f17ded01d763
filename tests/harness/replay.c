/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over saved inputs: the files and folders that are named, as a TAP test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/mem.h"
#include "harness/test.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void replay(const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    size_t len;

    if (!im_read_file(path, 64u << 20, &text, &len, &err))
        check(false, "%s", err.text);
    else
        check(LLVMFuzzerTestOneInput((uint8_t *) text, len) == 0, "%s", path);
}

static void replay_folder(const char *folder) {
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, entry->d_name);

        if (entry->d_name[0] != '.')
            replay(path);
    }
    closedir(dir);
}

int main(int argc, char **argv) {
    struct stat st;

    check(LLVMFuzzerTestOneInput((const uint8_t *) "", 0) == 0, "nothing");
    for (int i = 1; i < argc; i++) {
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
            replay_folder(argv[i]);
        else
            replay(argv[i]);
    }
    return test_end();
}
