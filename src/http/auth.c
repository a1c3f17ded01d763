/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures in two passes: over the bytes as received, then over the canonical form of what they
 * mean. Clients differ in which of the two they sign; to pass either, one must hold the secret. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http-private.h"

/* A signed URL may say itself how long it is good for, but not for ever. */
#define EXPIRES_MAX_S 86400

static bool sign_matches(const char *secret, bool sha1, const char *claimed, struct im_str *text) {
    char expected[64];

    crypto_hmac_base64(secret, text->data, text->len, sha1, expected);
    return crypto_equal(expected, claimed);
}

static void sign_head(const struct request *request, struct im_str *text) {
    im_str_add(text, request->method);
    im_str_add_char(text, '\n');
    im_str_add(text, request->path);
    im_str_add_char(text, '\n');
}

static bool check_signature(const struct request *request, const char *raw, size_t raw_len,
                            const char *secret, bool sha1, struct im_err *err) {
    const struct params *params = &request->params;
    const char *given = params_get(params, "signature");
    IM_AUTO(free_auto) char *claimed = im_strdup(given);
    IM_AUTO(im_str_done) struct im_str text = {0}, canonical = {0};
    size_t after = params->cut_at + params->cut_len;

    /* A '+' that was sent unencoded was decoded to a blank, which base64 does not have. */
    for (char *p = claimed; *p != '\0'; p++)
        if (*p == ' ')
            *p = '+';
    im_str_reserve(&text, raw_len + 64);
    sign_head(request, &text);
    im_str_add_bytes(&text, raw, params->cut_at);
    im_str_add_bytes(&text, raw + after, raw_len - after);
    if (sign_matches(secret, sha1, claimed, &text))
        return true;
    sign_head(request, &canonical);
    params_canonical(params, &canonical);
    if (sign_matches(secret, sha1, claimed, &canonical))
        return true;
    return im_fail(err, IM_AUTH,
                   "signature does not match; was it made over [%s %s] with the "
                   "secret of this access key",
                   request->method, request->path);
}

static bool check_time(const struct request *request, int64_t stamp, int64_t expires,
                       struct im_err *err) {
    int64_t now = im_now_s(), tolerance = request->http->config.time_tolerance_s;

    if (expires != 0 && expires < now)
        return im_fail(err, IM_EXPIRED, "the request expired %lld seconds ago",
                       (long long) (now - expires));
    if (stamp > now + tolerance)
        return im_fail(err, IM_EXPIRED,
                       "time_stamp lies %lld seconds in the future; is a clock wrong",
                       (long long) (stamp - now));
    if (stamp < now - tolerance && (expires == 0 || stamp < now - EXPIRES_MAX_S))
        return im_fail(err, IM_EXPIRED, "time_stamp is %lld seconds old; %lld are allowed",
                       (long long) (now - stamp), (long long) tolerance);
    return true;
}

static bool required(const struct request *request, const char *name, const char **ret_value,
                     struct im_err *err) {
    *ret_value = params_get(&request->params, name);
    if (im_str_empty(*ret_value))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] is missing", name);
    return true;
}

bool request_authenticate(struct request *request, const char *raw, size_t raw_len,
                          struct im_err *err) {
    const char *key, *stamp_text, *method, *version, *signature;
    const char *expires_text = params_get(&request->params, "expires");
    const char *api_version = params_get(&request->params, "version");
    IM_AUTO(free_auto) char *secret = NULL;
    int64_t stamp, expires = 0;

    if (!required(request, "access_key_id", &key, err) ||
        !required(request, "time_stamp", &stamp_text, err) ||
        !required(request, "signature_method", &method, err) ||
        !required(request, "signature_version", &version, err) ||
        !required(request, "signature", &signature, err))
        return false;
    if (!im_time_parse(stamp_text, &stamp))
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [time_stamp] is not of the form YYYY-MM-DDThh:mm:ssZ");
    if (!im_str_empty(expires_text) && !im_time_parse(expires_text, &expires))
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [expires] is not of the form YYYY-MM-DDThh:mm:ssZ");
    if (strcmp(method, "HmacSHA256") != 0 && strcmp(method, "HmacSHA1") != 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [signature_method] must be HmacSHA256 or HmacSHA1");
    if (strcmp(version, "1") != 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [signature_version] must be 1");
    if (!im_str_empty(api_version) && strcmp(api_version, "1") != 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [version] must be 1");
    return cloud_secret(request->cloud, key, &request->caller, &secret, err) &&
           check_signature(request, raw, raw_len, secret, strcmp(method, "HmacSHA1") == 0, err) &&
           check_time(request, stamp, expires, err);
}
