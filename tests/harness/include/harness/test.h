/* SPDX-License-Identifier: Apache-2.0 */
/* TAP for unit tests: check() prints one line per claim, test_end() the plan; main returns it. */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>

#include "base/err.h"

/* Prints "ok N - claim" or "not ok N - claim" with the place; returns what was claimed. */
#define check(claim, ...) test_check((claim), __FILE__, __LINE__, __VA_ARGS__)
/* The call must have returned false with this code; it uses the variable `err`, which these
 * two make for it alone, so an `err` of the function around is meant to be shadowed. */
#define check_err(call, wanted, ...)                                                               \
    TEST_WITH_ERR(call, test_check_err(passed_, &err, (wanted), __FILE__, __LINE__, __VA_ARGS__))
/* The call must have returned true; prints the error otherwise. */
#define check_ok(call, ...)                                                                        \
    TEST_WITH_ERR(call, test_check_ok(passed_, &err, __FILE__, __LINE__, __VA_ARGS__))
#define TEST_WITH_ERR(call, report)                                                                \
    do {                                                                                           \
        _Pragma("GCC diagnostic push");                                                            \
        _Pragma("GCC diagnostic ignored \"-Wshadow\"");                                            \
        struct im_err err = {0};                                                                   \
        bool passed_ = (call);                                                                     \
        report;                                                                                    \
        _Pragma("GCC diagnostic pop");                                                             \
    } while (0)

bool test_check(bool claim, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void test_check_err(bool passed, const struct im_err *err, enum im_code wanted, const char *file,
                    int line, const char *format, ...) __attribute__((format(printf, 6, 7)));
void test_check_ok(bool passed, const struct im_err *err, const char *file, int line,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
/* "# text": a remark in the output. */
void test_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Leaves the program at once with a polite "1..0 # SKIP why" (only before the first check). */
void test_skip_all(const char *why) __attribute__((noreturn));
/* A fresh temporary folder that is removed at exit; static memory, one per program. */
const char *test_folder(void);
/* Prints the plan; 0 if all claims held, else 1. */
int test_end(void);

#endif
