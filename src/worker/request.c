/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and checks the request. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "worker-private.h"

#define SIZE_LIMIT (64ull << 40)
#define RATIO_DEFAULT 1000

static bool take_digest(const char *text, char out[65], struct im_err *err) {
    const char *hex = im_starts_with(text, "sha256:") ? text + 7 : text;

    if (text[0] == '\0')
        return true;
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64)
        return im_fail(err, IM_BAD_MESSAGE, "the digest must be sha256: and 64 hexadecimal digits");
    for (size_t i = 0; i <= 64; i++)
        out[i] = (char) tolower((unsigned char) hex[i]);
    return true;
}

/* A limit left out or 0 is the default; none is above `most`. */
static bool take_limit(const struct wire_value *root, const char *key, uint64_t otherwise,
                       uint64_t most, uint64_t *ret_value, struct im_err *err) {
    int64_t value = wire_get_int(root, key, 0);

    if (value < 0)
        return im_fail(err, IM_BAD_MESSAGE, "%s must not be negative", key);
    *ret_value = value == 0 ? otherwise : (uint64_t) value < most ? (uint64_t) value : most;
    return true;
}

static char *take_text(const struct wire_value *root, const char *key) {
    return im_strdup(wire_get_text(root, key, ""));
}

static bool take_source(const struct wire_value *root, struct request *request,
                        struct im_err *err) {
    const char *kind = wire_get_text(root, "kind", "fd");

    request->from_url = strcmp(kind, "url") == 0;
    if (!request->from_url && strcmp(kind, "fd") != 0)
        return im_fail(err, IM_BAD_MESSAGE, "kind must be fd or url");
    request->url = take_text(root, "url");
    if (request->from_url && request->url[0] == '\0')
        return im_fail(err, IM_BAD_MESSAGE, "url is missing");
    return true;
}

bool request_parse(const char *text, size_t len, struct request *request, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = wire_parse(text, len, err);
    const struct wire_value *root;

    if (!doc)
        return im_within(err, "the request");
    root = wire_root(doc);
    if (wire_kind(root) != WIRE_OBJECT)
        return im_fail(err, IM_BAD_MESSAGE, "the request is no JSON object");
    request->proxy = take_text(root, "proxy");
    request->format = take_text(root, "format");
    request->user = take_text(root, "user");
    request->scratch_dir = take_text(root, "scratch_dir");
    request->backing = take_text(root, "backing");
    request->layers = take_text(root, "layers");
    request->only = take_text(root, "only");
    request->seal = take_text(root, "seal");
    request->appliance = take_text(root, "appliance");
    request->kvm = wire_get_int(root, "kvm", 0) != 0;
    request->allow_private = wire_get_int(root, "allow_private", 0) != 0;
    request->force = wire_get_int(root, "force", 0) != 0;
    request->doc = im_steal(&doc);
    return take_source(root, request, err) &&
           take_digest(wire_get_text(root, "digest", ""), request->digest, err) &&
           take_limit(root, "max_bytes", SIZE_LIMIT, SIZE_LIMIT, &request->max_bytes, err) &&
           take_limit(root, "max_ratio", RATIO_DEFAULT, INT32_MAX, &request->max_ratio, err) &&
           take_limit(root, "limit_s", 0, INT32_MAX, &request->limit_s, err) &&
           take_limit(root, "rate", UINT32_MAX, UINT32_MAX, &request->rate, err);
}

void request_done(struct request *request) {
    free(request->url);
    free(request->proxy);
    free(request->format);
    free(request->user);
    free(request->scratch_dir);
    free(request->backing);
    free(request->layers);
    free(request->only);
    free(request->seal);
    free(request->appliance);
    wire_doc_free(request->doc);
    *request = (struct request){0};
}
