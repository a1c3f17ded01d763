/* SPDX-License-Identifier: Apache-2.0 */
/* What is written is read back, byte for byte; hostile texts are refused; messages of workers. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "model/model.h"
#include "wire/wire.h"
#include "harness/test.h"

static void test_layout(void) {
    struct wire_writer writer = {0};
    IM_AUTO(im_strings_done) struct im_strings list = {0};

    im_strings_add(&list, "a");
    im_strings_add(&list, "b");
    wire_object_begin(&writer, NULL);
    wire_int(&writer, "ret_code", 0);
    wire_text(&writer, "none", NULL);
    wire_array_begin(&writer, "set");
    wire_object_begin(&writer, NULL);
    wire_object_end(&writer);
    wire_int(&writer, NULL, -7);
    wire_array_end(&writer);
    wire_strings(&writer, "list", &list);
    wire_bool(&writer, "yes", true);
    wire_raw(&writer, "raw", "{\"x\":1}");
    wire_object_end(&writer);
    check(strcmp(writer.text.data,
                 "{\"ret_code\":0,\"none\":null,\"set\":[{},-7],\"list\":[\"a\",\"b\"],"
                 "\"yes\":true,\"raw\":{\"x\":1}}") == 0,
          "compact and in order: %s", writer.text.data);
    im_str_done(&writer.text);
}

static void test_escapes(void) {
    static const struct {
        const char *text, *json;
    } rows[] = {
        {"", "\"\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\b\t\n\f\r\x01\x7f", "\"\\b\\t\\n\\f\\r\\u0001\\u007f\""},
        {"测试 \xf0\x9f\x98\x80", "\"测试 \xf0\x9f\x98\x80\""},
        {"a\xffz", "\"a\xef\xbf\xbdz\""},
        {"a\xe6\xb5", "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wire_writer writer = {0};

        wire_text(&writer, NULL, rows[i].text);
        check(strcmp(writer.text.data, rows[i].json) == 0, "escape case %zu: %s", i,
              writer.text.data);
        im_str_done(&writer.text);
    }
}

static void test_numbers(void) {
    static const int64_t values[] = {0, 1, -1, 42, 1000000007, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct wire_writer writer = {0};
        struct im_err failure = {0};
        IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

        wire_int(&writer, NULL, values[i]);
        doc = wire_parse(writer.text.data, writer.text.len, &failure);
        check(wire_as_int(wire_root(doc), 5) == values[i], "%" PRId64 " comes back", values[i]);
        im_str_done(&writer.text);
    }
}

static void test_times(void) {
    bool same = true;
    struct wire_writer none = {0};

    for (int64_t t = 1; t < 253402300800; t += 86399 * 37 + 12345) {
        struct wire_writer writer = {0};
        char text[IM_TIME_TEXT];

        im_time_format(t, text);
        wire_time(&writer, NULL, t);
        same = same && writer.text.len == 22 && memcmp(writer.text.data + 1, text, 20) == 0;
        im_str_done(&writer.text);
    }
    check(same, "times up to the year 9999 are as the clock writes them");
    wire_time(&none, NULL, 0);
    check(strcmp(none.text.data, "null") == 0, "no time is null, never an empty text");
    im_str_done(&none.text);
}

static void test_fields(void) {
    struct wire_writer writer = {0};
    struct image image = {
        .image_id = (char *) "img-1", .layer_id = (char *) "l-secret", .size = 20};
    struct im_err failure = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *root;

    image.status = IMAGE_AVAILABLE;
    wire_object_begin(&writer, NULL);
    wire_fields(&writer, &image_type, &image);
    wire_object_end(&writer);
    doc = wire_parse(writer.text.data, writer.text.len, &failure);
    root = wire_root(doc);
    check(strcmp(wire_get_text(root, "image_id", ""), "img-1") == 0, "a text field");
    check(wire_kind(wire_get(root, "description")) == WIRE_NULL, "a text that may be null is null");
    check(strcmp(wire_get_text(root, "image_name", "x"), "") == 0, "one that may not is empty");
    check(strcmp(wire_get_text(root, "status", ""), "available") == 0, "an enum is its word");
    check(wire_kind(wire_get(root, "create_time")) == WIRE_NULL, "no time is null");
    check(wire_get_int(root, "size", 0) == 20, "a number");
    check(wire_get(root, "layer_id") == NULL, "private fields stay inside");
    check(strcmp(wire_key_at(root, 0), "image_id") == 0 && wire_member_at(root, 0) != NULL,
          "the order of the table is kept");
    im_str_done(&writer.text);
}

static void test_hostile(void) {
    static const char *const bad[] = {
        "",    "{",     "{\"a\":1,\"a\":2}", "[1,]",  "{\"a\":\"\xff\"}",
        "nul", "[1] x", "\"\\u0000\"",       "1e999", "[01]",
        "'a'",
    };
    struct im_str deep = {0};
    struct im_err failure = {0};
    struct wire_doc *fine;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_err(wire_parse(bad[i], strlen(bad[i]), &err) != NULL, IM_BAD_MESSAGE,
                  "JSON case %zu is refused", i);
    for (int i = 0; i < 65; i++)
        im_str_add_char(&deep, '[');
    for (int i = 0; i < 65; i++)
        im_str_add_char(&deep, ']');
    check_err(wire_parse(deep.data, deep.len, &err) != NULL, IM_BAD_MESSAGE,
              "65 levels are too deep");
    fine = wire_parse(deep.data + 1, deep.len - 2, &failure);
    check(fine != NULL, "64 levels are not");
    wire_doc_free(fine);
    im_str_done(&deep);
    check(wire_get(NULL, "a") == NULL && wire_count(NULL) == 0 && wire_at(NULL, 0) == NULL &&
              wire_kind(NULL) == WIRE_NONE && wire_as_int(NULL, 9) == 9,
          "nothing has nothing in it");
}

static void round_trip(const struct worker_message *sent, struct worker_message *got,
                       struct wire_doc **doc) {
    struct im_str line = {0};

    wire_worker_write(&line, sent);
    check(line.data[line.len - 1] == '\n' && strchr(line.data, '\n') == line.data + line.len - 1,
          "a message is one line");
    check_ok(wire_worker_read(line.data, line.len, got, doc, &err), "it is read");
    im_str_done(&line);
}

static void test_worker(void) {
    struct worker_message sent = {
        .kind = WORKER_PROGRESS, .phase = "copy", .done_bytes = 1, .total_bytes = 2};
    struct worker_message got = {0};
    struct wire_doc *doc = NULL;

    round_trip(&sent, &got, &doc);
    check(got.kind == WORKER_PROGRESS && strcmp(got.phase, "copy") == 0 && got.done_bytes == 1 &&
              got.total_bytes == 2,
          "progress");
    wire_doc_free(doc);
    sent = (struct worker_message){.kind = WORKER_ERROR};
    im_fail(&sent.err, IM_BAD_IMAGE, "a \"bad\" image\nof two lines");
    round_trip(&sent, &got, &doc);
    check(got.kind == WORKER_ERROR && got.err.code == IM_BAD_IMAGE &&
              strcmp(got.err.text, sent.err.text) == 0,
          "an error with code and sentence");
    wire_doc_free(doc);
    sent = (struct worker_message){.kind = WORKER_RESULT, .text = "{\"size\":5,\"x\":[\"\\n\"]}"};
    round_trip(&sent, &got, &doc);
    check(got.kind == WORKER_RESULT && strcmp(got.text, sent.text) == 0, "a result");
    wire_doc_free(doc);
    sent = (struct worker_message){.kind = WORKER_LOG, .text = "hello"};
    round_trip(&sent, &got, &doc);
    check(got.kind == WORKER_LOG && strcmp(got.text, "hello") == 0, "a log line");
    wire_doc_free(doc);
}

static void test_worker_bad(void) {
    static const char *const bad[] = {
        "",
        "hello",
        "[]",
        "{}",
        "{\"progress\":1}",
        "{\"progress\":{\"done\":-1}}",
        "{\"result\":\"x\"}",
        "{\"error\":{\"code\":\"NO_SPACE\"}}",
        "{\"error\":{\"code\":\"OK\",\"text\":\"fine\"}}",
        "{\"log\":1}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct worker_message got = {.done_bytes = 77};
        struct wire_doc *doc = NULL;

        check_err(wire_worker_read(bad[i], strlen(bad[i]), &got, &doc, &err), IM_BAD_MESSAGE,
                  "worker case %zu is refused", i);
        check(doc == NULL && got.done_bytes == 77, "and nothing is handed out");
    }
}

int main(void) {
    test_layout();
    test_escapes();
    test_numbers();
    test_times();
    test_fields();
    test_hostile();
    test_worker();
    test_worker_bad();
    return test_end();
}
