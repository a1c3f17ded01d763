/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events, made a tree of. Not called yaml_: the library has such names of its own. */
#include <yaml.h>

#include "base/auto.h"
#include "base/mem.h"
#include "base/str.h"
#include "yml.h"

enum { NODES_MAX = 8192, DEPTH_MAX = 24 };

struct yml {
    struct yml_node *root;
    struct yml_node **all; /* owned */
    size_t count, capacity;
    struct yml_node *open[DEPTH_MAX];
    size_t depth;
    char *key; /* of the next node in a map; NULL = a key comes next */
    unsigned key_line, line, column;
};

struct yml_node *yml_new(struct yml *yaml, enum yml_kind kind, const char *word) {
    struct yml_node *node;

    if (yaml->count == NODES_MAX)
        return NULL;
    node = im_alloc(sizeof(*node));
    im_grow(&yaml->all, yaml->count, &yaml->capacity);
    yaml->all[yaml->count++] = node;
    node->kind = kind;
    node->word = im_strdup(word);
    return node;
}

static struct yml_node *add_node(struct yml *yaml, enum yml_kind kind, const char *word) {
    struct yml_node *within = yaml->depth > 0 ? yaml->open[yaml->depth - 1] : NULL;
    struct yml_node *node = yml_new(yaml, kind, word);

    if (node == NULL)
        return NULL;
    node->column = yaml->column;
    node->line = within != NULL && within->kind == YML_MAP ? yaml->key_line : yaml->line;
    if (within == NULL) {
        yaml->root = node;
        return node;
    }
    if (within->kind == YML_MAP)
        node->key = im_steal(&yaml->key);
    if (within->last != NULL)
        within->last->next = node;
    else
        within->first = node;
    within->last = node;
    return node;
}

static bool within_map(const struct yml *yaml) {
    return yaml->depth > 0 && yaml->open[yaml->depth - 1]->kind == YML_MAP;
}

static bool take_word(struct yml *yaml, const yaml_event_t *event) {
    IM_AUTO(free_auto)
    char *word = im_strndup((const char *) event->data.scalar.value, event->data.scalar.length);
    struct yml_node *node;

    if (within_map(yaml) && yaml->key == NULL) {
        yaml->key = im_steal(&word);
        yaml->key_line = yaml->line;
        return true;
    }
    node = add_node(yaml, YML_WORD, word);
    if (node == NULL)
        return false;
    node->end_line = (unsigned) event->end_mark.line + 1;
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return true;
}

static bool open_node(struct yml *yaml, enum yml_kind kind, bool flow) {
    struct yml_node *node;

    if (yaml->depth == DEPTH_MAX || (within_map(yaml) && yaml->key == NULL))
        return false; /* lists and maps as keys: nobody's configuration */
    node = add_node(yaml, kind, NULL);
    if (node == NULL)
        return false;
    node->flow = flow;
    yaml->open[yaml->depth++] = node;
    return true;
}

/* False: enough, or refused, which `fine` tells apart. */
static bool take_event(struct yml *yaml, const yaml_event_t *event, bool *fine) {
    *fine = true;
    yaml->line = (unsigned) event->start_mark.line + 1;
    yaml->column = (unsigned) event->start_mark.column;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        *fine = take_word(yaml, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        *fine =
            open_node(yaml, YML_LIST, event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE);
        break;
    case YAML_MAPPING_START_EVENT:
        *fine =
            open_node(yaml, YML_MAP, event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        yaml->open[--yaml->depth]->end_line = (unsigned) event->end_mark.line + 1;
        break;
    case YAML_ALIAS_EVENT:
        *fine = false;
        break;
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        return false;
    default:
        break;
    }
    return *fine;
}

static bool read_all(struct yml *yaml, yaml_parser_t *parser) {
    bool fine = true, more = true;

    while (more) {
        yaml_event_t event;

        if (!yaml_parser_parse(parser, &event))
            return false;
        more = take_event(yaml, &event, &fine);
        yaml_event_delete(&event);
    }
    return fine;
}

struct yml *yml_read(const char *text) {
    struct yml *yaml = im_alloc(sizeof(*yaml));
    yaml_parser_t parser;
    bool fine;

    if (!yaml_parser_initialize(&parser))
        abort(); /* as any small allocation */
    yaml_parser_set_input_string(&parser, (const unsigned char *) text, strlen(text));
    fine = read_all(yaml, &parser);
    yaml_parser_delete(&parser);
    if (fine && yaml->root == NULL)
        fine = add_node(yaml, YML_MAP, NULL) != NULL;
    if (fine)
        return yaml;
    yml_free(yaml);
    return NULL;
}

void yml_free(struct yml *yaml) {
    if (yaml == NULL)
        return;
    for (size_t i = 0; i < yaml->count; i++) {
        free(yaml->all[i]->key);
        free(yaml->all[i]->word);
        free(yaml->all[i]);
    }
    free(yaml->all);
    free(yaml->key);
    free(yaml);
}

const struct yml_node *yml_root(const struct yml *yaml) { return yaml != NULL ? yaml->root : NULL; }

const struct yml_node *yml_get(const struct yml_node *map, const char *key) {
    const struct yml_node *found = NULL;

    if (map == NULL || map->kind != YML_MAP)
        return NULL;
    for (const struct yml_node *node = map->first; node != NULL; node = node->next)
        if (im_str_equal(node->key, key))
            found = node;
    return found;
}

const char *yml_word(const struct yml_node *map, const char *key) {
    const struct yml_node *node = yml_get(map, key);

    return node != NULL && node->word != NULL ? node->word : "";
}

bool yml_true(const struct yml_node *map, const char *key) {
    static const char *const words[] = {"true", "yes", "on", "y"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcasecmp(yml_word(map, key), words[i]) == 0)
            return true;
    return false;
}
