/* SPDX-License-Identifier: Apache-2.0 */
/* TAP output for unit tests. */
#include "harness/test.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int claims, failures;

static bool report(bool claim, const char *file, int line, const char *format, va_list args) {
    claims++;
    printf("%s %d - ", claim ? "ok" : "not ok", claims);
    vprintf(format, args);
    putchar('\n');
    if (!claim) {
        failures++;
        printf("# at %s:%d\n", file, line);
    }
    fflush(stdout);
    return claim;
}

bool test_check(bool claim, const char *file, int line, const char *format, ...) {
    va_list args;

    va_start(args, format);
    report(claim, file, line, format, args);
    va_end(args);
    return claim;
}

void test_check_err(bool passed, const struct im_err *err, enum im_code wanted, const char *file,
                    int line, const char *format, ...) {
    va_list args;

    va_start(args, format);
    if (!report(!passed && err->code == wanted && err->text[0] != '\0', file, line, format, args))
        printf("# wanted %s, got %s: %s\n", im_code_name(wanted),
               passed ? "success" : im_code_name(err->code), err->text);
    va_end(args);
}

void test_check_ok(bool passed, const struct im_err *err, const char *file, int line,
                   const char *format, ...) {
    va_list args;

    va_start(args, format);
    if (!report(passed, file, line, format, args))
        printf("# %s: %s\n", im_code_name(err->code), err->text);
    va_end(args);
}

void test_note(const char *format, ...) {
    va_list args;

    va_start(args, format);
    printf("# ");
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void test_skip_all(const char *why) {
    printf("1..0 # SKIP %s\n", why);
    exit(0);
}

static char folder[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void) st, (void) flag, (void) ftw;
    return remove(path);
}

static void remove_folder(void) { nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

const char *test_folder(void) {
    if (folder[0] == '\0') {
        snprintf(folder, sizeof(folder), "%s/imprint-test-XXXXXX",
                 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        if (mkdtemp(folder) == NULL) {
            perror("mkdtemp");
            exit(1);
        }
        atexit(remove_folder);
    }
    return folder;
}

int test_end(void) {
    printf("1..%d\n", claims);
    return failures == 0 ? 0 : 1;
}
