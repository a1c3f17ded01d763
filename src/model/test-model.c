/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by table, queries, rules and presets. */
#include <string.h>

#include "base/mem.h"
#include "model/model.h"
#include "harness/test.h"

static void test_object(void) {
    IM_AUTO(image_free_auto) struct image *image = object_new(&image_type);
    IM_AUTO(image_free_auto) struct image *copy = NULL;
    const struct field *status = object_field(&image_type, "status");

    im_replace(&image->image_id, "img-00000001");
    image->status = IMAGE_DELETED;
    copy = object_copy(&image_type, image);
    check(copy->image_id != image->image_id && strcmp(copy->image_id, "img-00000001") == 0,
          "a copy owns its strings");
    check(strcmp(field_word(status, copy), "deleted") == 0, "an enum has its word");
    check(field_word_value(status, "ceased") == IMAGE_CEASED, "a word has its enum");
    check(field_word_value(status, "gone") == -1, "an unknown word is -1");
    copy->status = (enum image_status) 99;
    check(strcmp(field_word(status, copy), "") == 0, "an enum out of range has no word");
    check(object_field(&image_type, "nonsense") == NULL, "an unknown field is NULL");
}

static void test_query(void) {
    IM_AUTO(query_done) struct query query = {0};

    query_add(&query, "status", CONDITION_IN, "available");
    query_add(&query, "status", CONDITION_IN, "deleted");
    query_add(&query, "owner", CONDITION_IN, "usr-1");
    check(query.condition_count == 2 && query.conditions[0].value_count == 2,
          "values of one field gather");
}

static void test_rules(void) {
    const struct verb_rule *stop = verb_rule_find(instance_rules, "StopInstances");

    check(stop != NULL && stop->allowed == 1u << INSTANCE_RUNNING, "only running instances stop");
    check(verb_rule_find(instance_rules, "Nonsense") == NULL, "an unknown action has no rule");
    for (const struct verb_rule *rule = instance_rules; rule->action != NULL; rule++)
        check(rule->cannot != NULL && rule->allowed != 0, "%s has a text and a state",
              rule->action);
}

static void test_presets(void) {
    size_t count;

    instance_presets(&count);
    check(count > 60, "the presets are drawn");
    check(instance_preset_find("c2m4") != NULL && instance_preset_find("c2m4")->memory_mb == 4096,
          "c2m4 has 4 GiB");
    check(instance_preset_find("e1.large.r2")->instance_class == 201, "e1 is class 201");
    check(strcmp(instance_preset_name(3, 1000, 0), "custom") == 0, "an odd size is custom");
    check(strcmp(instance_preset_name(1, 1024, 0), "c1m1") == 0, "1 core and 1 GiB is c1m1");
}

int main(void) {
    test_object();
    test_query();
    test_rules();
    test_presets();
    return test_end();
}
