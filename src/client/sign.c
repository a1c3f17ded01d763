/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters and their signature: percent-encoded, sorted by name, HMAC-SHA256 over method, path
 * and query. */
#include "client-private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "crypto/crypto.h"

void client_param(struct client_params *params, const char *name, const char *value) {
    if (value == NULL)
        return;
    for (size_t i = 0; i < params->names.count; i++)
        if (strcmp(params->names.items[i], name) == 0) {
            im_replace(&params->values.items[i], value);
            return;
        }
    im_strings_add(&params->names, name);
    im_strings_add(&params->values, value);
}

void client_param_int(struct client_params *params, const char *name, int64_t value) {
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, value);
    client_param(params, name, text);
}

static bool has(const struct client_params *params, const char *name) {
    for (size_t i = 0; i < params->names.count; i++)
        if (strcmp(params->names.items[i], name) == 0)
            return true;
    return false;
}

void client_param_list(struct client_params *params, const char *name,
                       const struct im_strings *values) {
    size_t number = 1;

    for (size_t i = 0; i < values->count; i++, number++) {
        IM_AUTO(free_auto) char *numbered = im_printf("%s.%zu", name, number);

        while (has(params, numbered)) {
            free(numbered);
            numbered = im_printf("%s.%zu", name, ++number);
        }
        client_param(params, numbered, values->items[i]);
    }
}

void client_params_done(struct client_params *params) {
    im_strings_done(&params->names);
    im_strings_done(&params->values);
}

void client_encode(struct im_str *out, const char *text) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";

    for (; *text != '\0'; text++)
        if (strchr(plain, *text) != NULL)
            im_str_add_char(out, *text);
        else
            im_str_addf(out, "%%%02X", (unsigned char) *text);
}

static int by_name(const void *a, const void *b, void *context) {
    const struct client_params *params = context;

    return strcmp(params->names.items[*(const size_t *) a],
                  params->names.items[*(const size_t *) b]);
}

char *client_canonical(const struct client_params *params) {
    size_t count = params->names.count;
    IM_AUTO(free_auto) size_t *order = im_realloc_array(NULL, count + 1, sizeof(*order));
    struct im_str out = {0};

    for (size_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof(*order), by_name, (void *) params);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            im_str_add_char(&out, '&');
        client_encode(&out, params->names.items[order[i]]);
        im_str_add_char(&out, '=');
        client_encode(&out, params->values.items[order[i]]);
    }
    return im_str_take(&out);
}

char *client_signed_query(const char *method, const char *path, const struct client_params *params,
                          const char *secret) {
    IM_AUTO(free_auto) char *query = client_canonical(params);
    IM_AUTO(free_auto) char *to_sign = im_printf("%s\n%s\n%s", method, path, query);
    struct im_str out = {0};
    char signature[64];

    crypto_hmac_base64(secret, to_sign, strlen(to_sign), false, signature);
    im_str_add(&out, query);
    im_str_add(&out, "&signature=");
    client_encode(&out, signature);
    return im_str_take(&out);
}

void client_common_params(const struct client *client, struct client_params *params,
                          int64_t now_s) {
    char stamp[IM_TIME_TEXT];

    im_time_format(now_s, stamp);
    client_param(params, "access_key_id", client->access_key_id);
    client_param(params, "time_stamp", stamp);
    client_param(params, "version", "1");
    client_param(params, "signature_method", "HmacSHA256");
    client_param(params, "signature_version", "1");
    if (!im_str_empty(client->zone))
        client_param(params, "zone", client->zone);
}
