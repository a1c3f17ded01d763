/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, strings, numbers, UTF-8, time, files and child processes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

static void test_err(void) {
    struct im_err err = {0};

    check(!im_fail(&err, IM_NOT_FOUND, "image %s does not exist", "img-1"),
          "im_fail returns false");
    check(!im_within(&err, "instance %s", "i-1"), "im_within returns false");
    check(strcmp(err.text, "instance i-1: image img-1 does not exist") == 0,
          "context goes in front");
    im_fail_sys(&err, ENOSPC, "cannot write x");
    check(err.code == IM_NO_SPACE && strstr(err.text, "No space left") != NULL,
          "a full disk has its own code");
    for (int i = 0; i < IM_CODES; i++)
        check(im_code_from_name(im_code_name((enum im_code) i)) == (enum im_code) i,
              "%s survives by name", im_code_name((enum im_code) i));
}

static void test_numbers(void) {
    int64_t value = 7;
    uint64_t bytes = 7;
    char text[16];

    check(im_parse_i64("42", 0, 100, &value) && value == 42, "42 parses");
    check(!im_parse_i64("101", 0, 100, &value) && value == 42,
          "out of range is refused, the output untouched");
    check(!im_parse_i64("", 0, 100, &value) && !im_parse_i64(" 1", 0, 9, &value) &&
              !im_parse_i64("1x", 0, 9, &value) &&
              !im_parse_i64("99999999999999999999", 0, INT64_MAX, &value) &&
              !im_parse_i64(NULL, 0, 9, &value),
          "empty, blank, trailing, huge and NULL are refused");
    check(im_parse_size("20G", &bytes) && bytes == 20ull << 30, "20G is 20 GiB");
    check(im_parse_size("512", &bytes) && bytes == 512 && im_parse_size("3KiB", &bytes) &&
              bytes == 3072,
          "bytes and KiB");
    check(!im_parse_size("16777216T", &bytes) && !im_parse_size("-1", &bytes) &&
              !im_parse_size("1.5G", &bytes) && !im_parse_size("G", &bytes),
          "overflow, sign, fraction and bare unit are refused");
    check(strcmp(im_size_text(1536, text), "1.5 KiB") == 0 &&
              strcmp(im_size_text(20ull << 30, text), "20.0 GiB") == 0 &&
              strcmp(im_size_text(7, text), "7 B") == 0,
          "sizes for people");
}

static void test_utf8(void) {
    check(im_utf8_valid("web 01/测试", strlen("web 01/测试")), "Chinese is fine");
    check(!im_utf8_valid("\xff", 1) && !im_utf8_valid("\xc0\x80", 2) &&
              !im_utf8_valid("\xed\xa0\x80", 3) && !im_utf8_valid("\xe4\xb8", 2) &&
              !im_utf8_valid("a\0b", 3) && !im_utf8_valid("\xf4\x90\x80\x80", 4),
          "bad byte, overlong, surrogate, cut, NUL and beyond the end are refused");
}

static void test_time(void) {
    char text[IM_TIME_TEXT];
    int64_t time_s;

    check(im_time_parse("2030-01-02T03:04:05Z", &time_s) && time_s == 1893553445,
          "RFC 3339 parses");
    im_time_format(time_s, text);
    check(strcmp(text, "2030-01-02T03:04:05Z") == 0, "and comes back");
    check(im_time_parse("2030-01-02T03:04:05.678Z", &time_s), "fractions are accepted");
    check(!im_time_parse("2030-02-30T03:04:05Z", &time_s), "February has no 30th day");
    check(!im_time_parse("2030-01-02T03:04:05", &time_s) && !im_time_parse("", &time_s),
          "a missing Z is refused");
}

static void test_memory(void) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};
    const unsigned char bytes[] = {0, 0, 0, 7};
    struct timespec now, then;

    im_strings_split(&list, "a b c", " ");
    im_strings_drop(&list, "a");
    im_strings_drop(&list, "d");
    check(list.count == 2 && !im_strings_has(&list, "a") && im_strings_has(&list, "b") &&
              im_strings_has(&list, "c"),
          "one of a list is taken out, one that it has not is not");
    check(im_all_zero(bytes, 0) && im_all_zero(bytes, 3) && !im_all_zero(bytes, 4) &&
              !im_all_zero(bytes + 3, 1),
          "only zeros are zeros");
    clock_gettime(CLOCK_REALTIME, &now);
    then = im_wall_after(1999);
    check(then.tv_nsec < 1000000000 && then.tv_sec - now.tv_sec >= 1, "a time to come");
}

static void test_ids(void) {
    char id[IM_ID_MAX];

    im_id_make(id, "img-", 8);
    check(strlen(id) == 12 && strncmp(id, "img-", 4) == 0 && im_id_valid(id), "an id is made");
    check(!im_id_valid("") && !im_id_valid("../x") && !im_id_valid("-x") && !im_id_valid("a b") &&
              !im_id_valid(NULL),
          "unsafe ids are refused");
}

static void test_files(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/a/b/file", test_folder());
    IM_AUTO(free_auto) char *folder = im_printf("%s/a/b", test_folder());
    IM_AUTO(free_auto) char *text = NULL;
    size_t len = 0;
    struct stat st;

    check_ok(im_make_dirs(folder, 0755, &err), "folders are made");
    check_ok(im_make_dirs(folder, 0755, &err), "and made again");
    check_ok(im_write_file(path, "hello", 5, 0640, &err), "a file is written");
    check_ok(im_read_file(path, 100, &text, &len, &err), "and read");
    check(len == 5 && strcmp(text, "hello") == 0, "with its content");
    check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640, "with its mode");
    check_err(im_read_file(path, 4, &text, &len, &err), IM_BAD_MESSAGE, "too large is refused");
    check_err(im_read_file("/nonexistent", 4, &text, &len, &err), IM_INTERNAL,
              "missing is an error");
}

static void test_spawn(void) {
    IM_AUTO(free_auto) char *output = NULL;

    check_ok(im_run((const char *const[]){"cat", NULL}, "through", 5000, &output, &err),
             "cat runs");
    check(output != NULL && strcmp(output, "through") == 0, "stdin reaches stdout");
    check_err(im_run((const char *const[]){"sh", "-c", "echo oops >&2; exit 3", NULL}, NULL, 5000,
                     NULL, &err),
              IM_INTERNAL, "a failing program is an error");
    check_err(im_run((const char *const[]){"sleep", "10", NULL}, NULL, 50, NULL, &err), IM_TIMEOUT,
              "a hanging one is killed");
    check_err(im_run((const char *const[]){"/nonexistent", NULL}, NULL, 50, NULL, &err),
              IM_INTERNAL, "a missing one fails");
}

int main(void) {
    test_err();
    test_numbers();
    test_utf8();
    test_time();
    test_memory();
    test_ids();
    test_files();
    test_spawn();
    return test_end();
}
