/* SPDX-License-Identifier: Apache-2.0 */
/* The generic record over every type of the model: what goes in comes out, lists are filtered,
 * sorted and counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "record/record.h"

/* Fills every field with a value that tells it from the others. */
static void *sample(const struct object_type *type) {
    void *object = object_new(type);

    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *field = &type->fields[i];

        if (field->type == FIELD_TEXT)
            *field_text(field, object) = im_printf("%s of %s", field->name, type->name);
        else
            field_set_int(field, object, field->type == FIELD_ENUM ? 1 : (int64_t) i + 1000);
    }
    return object;
}

static bool same(const struct object_type *type, const void *a, const void *b) {
    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *field = &type->fields[i];

        if (field->type == FIELD_TEXT ? !im_str_equal(*field_text(field, a), *field_text(field, b))
                                      : field_int(field, a) != field_int(field, b))
            return false;
    }
    return true;
}

static void test_type(struct db_conn *conn, const struct object_type *type) {
    void *object = sample(type), *back = NULL;
    const char *key = *field_text(&type->fields[0], object);

    check_ok(record_insert(conn, type, object, &err), "a %s goes in", type->name);
    check_err(record_insert(conn, type, object, &err), IM_EXISTS, "a second one is refused");
    check_ok(record_get(conn, type, key, &back, &err), "it comes out");
    check(back != NULL && same(type, object, back), "with every field");
    check_ok(record_update(conn, type, object, &err), "it is updated");
    check_ok(record_delete(conn, type, key, &err), "it is deleted");
    check_ok(record_delete(conn, type, key, &err), "deleting nothing is fine");
    check_err(record_get(conn, type, key, &back, &err), IM_NOT_FOUND, "then it is gone");
    check_err(record_update(conn, type, object, &err), IM_NOT_FOUND, "and can not be updated");
    object_free(type, back);
    object_free(type, object);
}

static void add_image(struct db_conn *conn, int number) {
    char id[32], name[32];
    struct im_err err = {0};
    struct image image = {.image_id = id,
                          .image_name = name,
                          .owner = number % 2 ? "usr-odd" : "usr-even",
                          .visibility = number % 10 == 0 ? "public" : "private",
                          .status = number % 5 == 0 ? IMAGE_DELETED : IMAGE_AVAILABLE,
                          .size = number,
                          .create_time = 1000 + number};

    snprintf(id, sizeof(id), "img-%04d", number);
    snprintf(name, sizeof(name), number == 42 ? "Web_42%%" : "web %d", number);
    if (!record_insert(conn, &image_type, &image, &err))
        test_note("%s", err.text);
}

/* The keys of what a query finds, joined; with the total behind. */
static char *found(struct db_conn *conn, struct query *query) {
    struct im_err err = {0};
    struct im_str text = {0};
    void **objects = NULL;
    size_t count = 0;
    int64_t total = 0;

    if (!record_list(conn, &image_type, query, &objects, &count, &total, &err))
        im_str_addf(&text, "error: %s", err.text);
    for (size_t i = 0; i < count; i++)
        im_str_addf(&text, "%s ", ((struct image *) objects[i])->image_id);
    im_str_addf(&text, "of %d", (int) total);
    record_list_free(&image_type, objects, count);
    query_done(query);
    return im_str_take(&text);
}

static void finds(struct db_conn *conn, struct query *query, const char *wanted,
                  const char *claim) {
    char *text = found(conn, query);

    if (!check(strcmp(text, wanted) == 0, "%s", claim))
        test_note("wanted %s, got %s", wanted, text);
    free(text);
}

static void test_lists(struct db_conn *conn) {
    struct query query = {.limit = 2};

    finds(conn, &query, "img-0999 img-0998 of 1000", "newest first");
    query = (struct query){.limit = 2, .offset = 1, .ascending = true};
    finds(conn, &query, "img-0001 img-0002 of 1000", "offset, oldest first");
    query = (struct query){.limit = 1, .sort_field = "size"};
    finds(conn, &query, "img-0999 of 1000", "sorted by another field");
    query = (struct query){.limit = 1, .visible_to = im_strdup("usr-odd")};
    finds(conn, &query, "img-0999 of 600", "own and public ones");
    query = (struct query){.limit = 1, .search = im_strdup("WEB_42%")};
    finds(conn, &query, "img-0042 of 1", "wildcards are letters, case does not matter");
    query = (struct query){.limit = 1};
    query_add(&query, "status", CONDITION_IN, "deleted");
    query_add(&query, "owner", CONDITION_IN, "usr-odd");
    finds(conn, &query, "img-0995 of 100", "two conditions");
    query = (struct query){.limit = 1};
    query_add(&query, "status", CONDITION_IN, "nonsense");
    finds(conn, &query, "of 0", "a word that is none matches nothing");
    query = (struct query){.limit = 1};
    query_add(&query, "size", CONDITION_IN, "7x");
    finds(conn, &query, "of 0", "a text where a number belongs matches nothing");
    query = (struct query){.limit = 1};
    query_add(&query, "size", CONDITION_IN, "7");
    query_add(&query, "size", CONDITION_IN, "8");
    finds(conn, &query, "img-0008 of 2", "numbers match");
    query = (struct query){.limit = 1};
    query_add(&query, "image_id", CONDITION_IN, "' OR 1=1 --");
    finds(conn, &query, "of 0", "text is never SQL");
}

static void test_speed(struct db_conn *conn) {
    int64_t begin = im_mono_ms();

    for (int i = 0; i < 200; i++) {
        struct query query = {.limit = 20, .visible_to = im_strdup("usr-odd")};

        query_add(&query, "status", CONDITION_NOT_IN, "ceased");
        free(found(conn, &query));
    }
    test_note("list of 20 out of 1000 and count: %.0f us", (double) (im_mono_ms() - begin) * 5);
}

int main(void) {
    static const struct object_type *const types[] = {
        &user_type, &access_key_type, &layer_type,        &image_type, &instance_type,
        &nic_type,  &keypair_type,    &keypair_link_type, &job_type,   &job_item_type};
    IM_AUTO(free_auto) char *uri = im_printf("sqlite:%s/record.db", test_folder());
    struct im_err err = {0};
    struct db *db = db_open(uri, &err);
    struct db_conn *conn;

    if (db == NULL || !db_migrate(db, &err))
        test_note("%s", err.text);
    conn = db_take(db, &err);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        test_type(conn, types[i]);
    check_ok(db_begin(conn, &err), "many in one transaction");
    for (int i = 0; i < 1000; i++)
        add_image(conn, i);
    check_ok(db_commit(conn, &err), "committed");
    test_lists(conn);
    test_speed(conn);
    db_give(conn);
    db_close(db);
    return test_end();
}
