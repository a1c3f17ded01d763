/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings: whatever comes in, parsing does not crash, and what was accepted has one canonical
 * form. For libFuzzer with clang; its saved inputs run as a normal test through replay.c. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void must(bool claim, const char *what) {
    if (!claim) {
        fprintf(stderr, "broken: %s\n", what);
        abort();
    }
}

/* Parsing the canonical form gives the same canonical form. */
static void check_canonical(const struct params *params) {
    struct im_str once = {0}, twice = {0};
    struct params again = {0};
    struct im_err err = {0};

    params_canonical(params, &once);
    must(params_parse(&again, once.data ? once.data : "", once.len, &err), err.text);
    params_canonical(&again, &twice);
    must(once.len == twice.len && (once.len == 0 || memcmp(once.data, twice.data, once.len) == 0),
         "the canonical form is stable");
    must(again.count == params->count - (params_get(params, "signature") != NULL),
         "nothing is lost but the signature");
    params_done(&again);
    im_str_done(&once);
    im_str_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct params params = {0};
    struct im_err err = {0};

    if (params_parse(&params, (const char *) bytes, len, &err)) {
        IM_AUTO(im_strings_done) struct im_strings list = {0};

        must(params.cut_at + params.cut_len <= len, "the cut lies inside");
        for (size_t i = 0; i < params.count; i++) {
            must(im_utf8_valid(params.items[i].value, strlen(params.items[i].value)), "UTF-8");
            must(params_get(&params, params.items[i].name) == params.items[i].value, "found");
        }
        params_list(&params, "images", &list);
        must(list.count <= params.count, "no item from nowhere");
        check_canonical(&params);
    } else {
        must(err.code == IM_BAD_MESSAGE && im_utf8_valid(err.text, strlen(err.text)),
             "a refusal is a clear sentence");
    }
    params_done(&params);
    return 0;
}
