/* SPDX-License-Identifier: Apache-2.0 */
/* Files that must pass or must fail with their line, defaults, the sample, and that
 * imprintd.conf(5) names the same keys. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon/config.h"
#include "harness/test.h"

static bool try(struct config *config, const char *text, struct im_err *err) {
    IM_AUTO(free_auto) char *path = im_printf("%s/conf", test_folder());

    return im_write_file(path, text, strlen(text), 0600, err) && config_read(config, path, err) &&
           config_finish(config, err);
}

static const struct {
    const char *text, *wanted;
} bad[] = {
    {"[http]\nprot = 7\n", "line 2: section [http] has no key prot"},
    {"[htp]\n", "line 1: there is no section [htp]"},
    {"port = 7\n", "line 1: key port stands before the first [section]"},
    {"[http\n", "line 1: a section's name must end in ]"},
    {"# fine\n\n[http]\nport\n", "line 4: neither [section] nor key = value"},
    {"[http]\nport = 65536\n", "line 2: port must be a whole number from 0 to 65535"},
    {"[http]\nport = 80x\n", "line 2: port must be"},
    {"[http]\nport =\n", "line 2: port must be"},
    {"[http]\nbody_max = 1K\n", "line 2: body_max must be"},
    {"[http]\nbody_max = 999999999999G\n", "line 2: body_max must be"},
    {"[virt]\naccel = fast\n", "line 2: accel must be one of: auto kvm tcg"},
    {"[net]\nnat = maybe\n", "line 2: nat must be yes or no"},
    {"[net]\nbridge = a-very-long-bridge-name\n", "bridge must have 1 to 15"},
    {"[imprintd]\nstate_dir = relative\n", "state_dir must be an absolute path"},
    {"[imprintd]\nzone =\n", "zone must have"},
    {"[http]\ntls_key = /x\n", "belong together"},
};

static void test_bad(void) {
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config config;
        struct im_err failure = {0};

        config_init(&config);
        check(!try(&config, bad[i].text, &failure) && strstr(failure.text, bad[i].wanted) != NULL,
              "case %zu: %s", i, failure.text);
        config_done(&config);
    }
}

static void test_good(void) {
    struct config config;

    config_init(&config);
    check_ok(try(&config,
                 "; all forms\r\n[http]\n  port=80  \n\tbody_max = 1M\nport = 81\n[net]\nnat = NO\n"
                 "[imprintd]\nstate_dir = /srv/x\n[import]\nproxy = http://a=b/#c",
                 &err),
             "a file of all forms");
    check(config.port == 81 && config.body_max_bytes == 1 << 20 && config.nat == 0,
          "numbers, sizes, yes and no; the last of two wins");
    check(strcmp(config.import_proxy, "http://a=b/#c") == 0, "a value may hold = and #");
    check(strcmp(config.record_uri, "sqlite:/srv/x/imprint.db") == 0 &&
              strcmp(config.pool_uri, "local:/srv/x/pool") == 0 &&
              strcmp(config.appliance, "/srv/x/appliance") == 0,
          "what is empty lies under state_dir");
    check(config.max_connections == 512 && strcmp(config.zone, "local1a") == 0,
          "the rest is at its default");
    config_done(&config);
}

/* The sample with every comment taken off is a good file that changes nothing. */
static void test_sample(void) {
    IM_AUTO(free_auto) char *sample = config_sample();
    struct im_str text = {0};
    struct config config, plain;
    char *rest = sample;
    size_t count;

    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        im_str_addf(&text, "%s\n", line[0] == '#' && line[1] != ' ' ? line + 1 : line);
    config_init(&config);
    config_init(&plain);
    check_ok(try(&config, text.data, &err) && config_finish(&plain, &err), "the sample is good");
    for (size_t i = 0; i < (config_keys(&count), count); i++) {
        const struct config_key *key = &config_keys(&count)[i];
        const char *a = (const char *) &config + key->offset,
                   *b = (const char *) &plain + key->offset;
        bool same =
            key->type == CONFIG_TEXT || key->type == CONFIG_WORD
                ? im_str_equal(*(char *const *) (const void *) a, *(char *const *) (const void *) b)
                : memcmp(a, b, sizeof(int64_t)) == 0;

        check(same, "[%s] %s stands there with its default", key->section, key->name);
    }
    config_done(&config);
    config_done(&plain);
    im_str_done(&text);
}

static void test_manual(const char *path) {
    IM_AUTO(im_strings_done) struct im_strings manual = {0};
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err failure = {0};
    const char *section = NULL;
    char *rest;
    size_t len, count;
    const struct config_key *keys = config_keys(&count);

    if (!im_read_file(path, 1 << 20, &text, &len, &failure)) {
        check(false, "%s", failure.text);
        return;
    }
    rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (im_starts_with(line, ".S"))
            section = im_starts_with(line, ".Ss [") ? line + 4 : NULL;
        if (section != NULL && im_starts_with(line, ".It Cm ")) {
            IM_AUTO(free_auto) char *entry = im_printf("%s %s", section, line + 7);

            im_strings_add(&manual, entry);
        }
    }
    check(manual.count == count, "the manual has %zu keys, the table %zu", manual.count, count);
    for (size_t i = 0; i < count; i++) {
        IM_AUTO(free_auto) char *entry = im_printf("[%s] %s", keys[i].section, keys[i].name);
        bool found = false;

        for (size_t j = 0; j < manual.count && !found; j++)
            found = strcmp(manual.items[j], entry) == 0;
        check(found, "the manual has %s", entry);
    }
}

int main(int argc, char **argv) {
    test_bad();
    test_good();
    test_sample();
    test_manual(argc > 1 ? argv[1] : "man/imprintd.conf.5");
    return test_end();
}
