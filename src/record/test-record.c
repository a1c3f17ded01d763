/* SPDX-License-Identifier: Apache-2.0 */
/* The generic record over every type of the model, and over each driver: what goes in comes out,
 * lists are filtered, sorted and counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/postgres.h"
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

/* The totals of pages are what counting says, at the end of a list, behind it, and without limit.
 */
static void test_pages(struct db_conn *conn) {
    struct query query = {.limit = 2, .offset = 999, .ascending = true};

    finds(conn, &query, "img-0999 of 1000", "a page that is not full");
    query = (struct query){.limit = 2, .offset = 998, .ascending = true};
    finds(conn, &query, "img-0998 img-0999 of 1000", "the last page, full");
    query = (struct query){.limit = 2, .offset = 1000};
    finds(conn, &query, "of 1000", "a page behind the end");
    query = (struct query){.limit = 2, .visible_to = im_strdup("usr-none"), .offset = 99};
    finds(conn, &query, "img-0000 of 100", "the end of the public ones");
    query = (struct query){.visible_to = im_strdup("usr-none")};
    query_add(&query, "size", CONDITION_LESS, "30");
    finds(conn, &query, "img-0020 img-0010 img-0000 of 3", "all of a short list");
    query = (struct query){.limit = 4, .visible_to = im_strdup("usr-odd"), .ascending = true};
    finds(conn, &query, "img-0000 img-0001 img-0003 img-0005 of 600", "two parts in one order");
    query = (struct query){.limit = 2,
                           .visible_to = im_strdup("usr-odd"),
                           .sort_field = "size",
                           .search = im_strdup("web 99")};
    finds(conn, &query, "img-0999 img-0997 of 7", "in the order of another field, searched");
}

/* What is in no list of values, and in lists of nothing but misfits. */
static void test_not_in(struct db_conn *conn) {
    struct image bare = {.image_id = "img-bare", .status = IMAGE_AVAILABLE, .create_time = 1};
    struct query query = {.limit = 1};

    query_add(&query, "size", CONDITION_NOT_IN, "7x");
    finds(conn, &query, "img-0999 of 1000", "NOT IN a misfit is everything");
    query = (struct query){.limit = 1};
    query_add(&query, "size", CONDITION_NOT_IN, "7x");
    query_add(&query, "size", CONDITION_NOT_IN, "y");
    finds(conn, &query, "img-0999 of 1000", "NOT IN misfits is everything");
    query = (struct query){.limit = 1};
    query_add(&query, "size", CONDITION_NOT_IN, "999");
    query_add(&query, "size", CONDITION_NOT_IN, "y");
    finds(conn, &query, "img-0998 of 999", "a misfit among values does nothing");
    query = (struct query){.limit = 1};
    query_add(&query, "size", CONDITION_IN, "7x");
    query_add(&query, "size", CONDITION_IN, "y");
    finds(conn, &query, "of 0", "IN misfits is nothing");

    check_ok(record_insert(conn, &image_type, &bare, &err), "an image of NULLs");
    query = (struct query){.limit = 1, .ascending = true};
    query_add(&query, "owner", CONDITION_NOT_IN, "usr-odd");
    finds(conn, &query, "img-bare of 501", "NULL is not the value");
    query = (struct query){.limit = 1, .ascending = true};
    query_add(&query, "owner", CONDITION_NOT_IN, "usr-odd");
    query_add(&query, "owner", CONDITION_NOT_IN, "usr-even");
    finds(conn, &query, "img-bare of 1", "nor one of the values");
    query = (struct query){.limit = 1};
    query_add(&query, "owner", CONDITION_IN, "");
    finds(conn, &query, "of 0", "and no empty text either");
    check_ok(record_delete(conn, &image_type, "img-bare", &err), "it goes again");
}

/* Values beyond what was once cut off in silence, and beyond what fits a statement. */
static void test_many_values(struct db_conn *conn) {
    struct query query = {.limit = 1, .ascending = true};
    char number[32];
    int64_t count = 0;

    for (int i = 0; i < 20000; i++) {
        snprintf(number, sizeof(number), "%d", i + 990);
        query_add(&query, "size", CONDITION_IN, number);
    }
    finds(conn, &query, "img-0990 of 10", "20,000 values are looked for");
    query = (struct query){.limit = 1, .ascending = true};
    for (int i = 0; i < 20000; i++) {
        snprintf(number, sizeof(number), "%d", 20000 - i);
        query_add(&query, "size", CONDITION_IN, number);
    }
    finds(conn, &query, "img-0001 of 999", "the last one too");
    query = (struct query){.limit = 1};
    for (int i = 0; i < 32001; i++)
        query_add(&query, "image_id", CONDITION_IN, "img-0001");
    check_err(record_count(conn, &image_type, &query, &count, &err), IM_BAD_MESSAGE,
              "too many are refused");
    query_done(&query);
}

static void suite(const char *uri) {
    static const struct object_type *const types[] = {
        &user_type,         &access_key_type, &layer_type,    &image_type, &image_export_type,
        &boot_test_type,    &repair_type,     &instance_type, &nic_type,   &keypair_type,
        &keypair_link_type, &job_type,        &job_item_type};
    struct im_err err = {0};
    struct db *db = db_open(uri, &err);
    struct db_conn *conn;

    if (db == NULL || !db_migrate(db, &err))
        test_note("%s", err.text);
    check(db != NULL, "over %s", db_driver(db));
    conn = db_take(db, &err);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        test_type(conn, types[i]);
    check_ok(db_begin(conn, &err), "many in one transaction");
    for (int i = 0; i < 1000; i++)
        add_image(conn, i);
    check_ok(db_commit(conn, &err), "committed");
    test_lists(conn);
    test_pages(conn);
    test_not_in(conn);
    test_many_values(conn);
    db_give(conn);
    db_close(db);
}

int main(void) {
    IM_AUTO(free_auto) char *uri = im_printf("sqlite:%s/record.db", test_folder());

    suite(uri);
    if (postgres_start()) {
        IM_AUTO(free_auto) char *other = postgres_database("record");

        suite(other);
    }
    return test_end();
}
