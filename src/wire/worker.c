/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of imprint-worker: {"progress":{"phase":"copy","done":1,"total":2}}, {"result":{…}},
 * {"error":{"code":"BAD_IMAGE","text":"…"}}, {"log":"…"}; one a line. */
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_progress(struct wire_writer *writer, const struct worker_message *message) {
    wire_object_begin(writer, "progress");
    if (message->phase != NULL)
        wire_text(writer, "phase", message->phase);
    wire_int(writer, "done", message->done_bytes);
    wire_int(writer, "total", message->total_bytes);
    wire_object_end(writer);
}

void wire_worker_write(struct im_str *line, const struct worker_message *message) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    switch (message->kind) {
    case WORKER_PROGRESS:
        write_progress(&writer, message);
        break;
    case WORKER_RESULT:
        wire_raw(&writer, "result", im_str_empty(message->text) ? "{}" : message->text);
        break;
    case WORKER_ERROR:
        wire_object_begin(&writer, "error");
        wire_text(&writer, "code", im_code_name(message->err.code));
        wire_text(&writer, "text", message->err.text);
        wire_object_end(&writer);
        break;
    case WORKER_LOG:
        wire_text(&writer, "log", message->text);
        break;
    }
    wire_object_end(&writer);
    im_str_add_bytes(line, writer.text.data, writer.text.len);
    im_str_add_char(line, '\n');
    im_str_done(&writer.text);
}

static bool read_progress(const struct wire_value *value, struct worker_message *message) {
    message->kind = WORKER_PROGRESS;
    message->phase = wire_get_text(value, "phase", NULL);
    message->done_bytes = wire_get_int(value, "done", 0);
    message->total_bytes = wire_get_int(value, "total", 0);
    return wire_kind(value) == WIRE_OBJECT && message->done_bytes >= 0 && message->total_bytes >= 0;
}

static bool read_error(const struct wire_value *value, struct worker_message *message) {
    const char *code = wire_get_text(value, "code", NULL);
    const char *text = wire_get_text(value, "text", NULL);

    if (code == NULL || text == NULL)
        return false;
    message->kind = WORKER_ERROR;
    im_fail(&message->err, im_code_from_name(code), "%s", text);
    return message->err.code != IM_OK; /* "no error" is no error message */
}

static bool read_log(const struct wire_value *value, struct worker_message *message) {
    message->kind = WORKER_LOG;
    message->text = wire_as_text(value, NULL);
    return message->text != NULL;
}

/* The result's text must live as long as the document: it replaces the document by one that holds
 * the text itself. */
static bool read_result(const struct wire_value *value, struct worker_message *message,
                        struct wire_doc **doc) {
    IM_AUTO(free_auto) char *text = NULL;
    struct wire_writer writer = {0};
    struct im_err ignored = {0};

    if (wire_kind(value) != WIRE_OBJECT)
        return false;
    text = wire_dump(value, false);
    wire_text(&writer, NULL, text);
    wire_doc_free(*doc);
    *doc = wire_parse(writer.text.data, writer.text.len, &ignored);
    im_str_done(&writer.text);
    message->kind = WORKER_RESULT;
    message->text = *doc == NULL ? NULL : wire_as_text(wire_root(*doc), NULL);
    return message->text != NULL;
}

bool wire_worker_read(const char *line, size_t len, struct worker_message *message,
                      struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = wire_parse(line, len, err);
    struct worker_message read = {0};
    const struct wire_value *root, *value;
    bool good = false;

    if (doc == NULL)
        return im_within(err, "worker message");
    root = wire_root(doc);
    if ((value = wire_get(root, "progress")) != NULL)
        good = read_progress(value, &read);
    else if ((value = wire_get(root, "result")) != NULL)
        good = read_result(value, &read, &doc);
    else if ((value = wire_get(root, "error")) != NULL)
        good = read_error(value, &read);
    else if ((value = wire_get(root, "log")) != NULL)
        good = read_log(value, &read);
    if (!good)
        return im_fail(err, IM_BAD_MESSAGE, "worker message is of no known form");
    *message = read;
    *ret_doc = im_steal(&doc);
    return true;
}
