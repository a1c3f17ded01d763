/* SPDX-License-Identifier: Apache-2.0 */
/* SSH key pairs: making them in the forms OpenSSH and Go read, and taking authorized_keys lines
 * apart (RFC 4253 6.6, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.key). */
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"
#include "crypto/crypto.h"

IM_DEFINE_AUTO(EVP_PKEY *, EVP_PKEY_free)
IM_DEFINE_AUTO(BIO *, BIO_free)
IM_DEFINE_AUTO(BIGNUM *, BN_free)

static bool ssl_fail(struct im_err *err, const char *method) {
    return im_fail(err, IM_INTERNAL, "libcrypto could not make a key pair of type %s", method);
}

/* --- SSH's wire form: lengths in 4 bytes, big-endian ------------------------------------------ */

static void put_u32(struct im_str *out, uint32_t value) {
    unsigned char bytes[4] = {(unsigned char) (value >> 24), (unsigned char) (value >> 16),
                              (unsigned char) (value >> 8), (unsigned char) value};

    im_str_add_bytes(out, bytes, 4);
}

static void put_string(struct im_str *out, const void *bytes, size_t len) {
    put_u32(out, (uint32_t) len);
    im_str_add_bytes(out, bytes, len);
}

static void put_text(struct im_str *out, const char *text) { put_string(out, text, strlen(text)); }

/* mpint: a zero byte goes in front of a number whose top bit is set, as it would read negative. */
static bool put_number(struct im_str *out, const EVP_PKEY *key, const char *param) {
    IM_AUTO(BN_free_auto) BIGNUM *number = NULL;
    IM_AUTO(free_auto) unsigned char *bytes = NULL;
    size_t len;

    if (EVP_PKEY_get_bn_param(key, param, &number) != 1)
        return false;
    len = (size_t) BN_num_bytes(number);
    bytes = im_alloc(len + 1);
    BN_bn2bin(number, bytes + 1);
    if (bytes[1] & 0x80)
        put_string(out, bytes, len + 1);
    else
        put_string(out, bytes + 1, len);
    return true;
}

/* --- One maker per method --------------------------------------------------------------------- */

static bool write_pem(EVP_PKEY *key, char **ret_private) {
    IM_AUTO(BIO_free_auto) BIO *bio = BIO_new(BIO_s_secmem());
    char *text;
    long len;

    if (bio == NULL ||
        PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return false;
    len = BIO_get_mem_data(bio, &text);
    *ret_private = im_strndup(text, (size_t) len);
    return true;
}

static bool make_rsa(const char *method, struct im_str *blob, char **ret_private) {
    IM_AUTO(EVP_PKEY_free_auto) EVP_PKEY *key = EVP_RSA_gen(2048);

    put_text(blob, method);
    return key != NULL && put_number(blob, key, OSSL_PKEY_PARAM_RSA_E) &&
           put_number(blob, key, OSSL_PKEY_PARAM_RSA_N) && write_pem(key, ret_private);
}

static bool make_ecdsa(const char *method, struct im_str *blob, char **ret_private) {
    IM_AUTO(EVP_PKEY_free_auto) EVP_PKEY *key = EVP_EC_gen("P-521");
    unsigned char point[1 + 2 * 66];
    size_t len = 0;

    if (key == NULL || EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                       sizeof(point), &len) != 1)
        return false;
    put_text(blob, method);
    put_text(blob, "nistp521");
    put_string(blob, point, len);
    return write_pem(key, ret_private);
}

static char *openssh_pem(const struct im_str *blob, const char *method,
                         const unsigned char public[32], const unsigned char secret[32]) {
    struct im_str out = {0}, inner = {0}, pem = {0};
    IM_AUTO(free_auto) char *body = NULL;
    unsigned char pair[64];
    uint32_t check;

    memcpy(pair, secret, 32);
    memcpy(pair + 32, public, 32);
    im_random(&check, sizeof(check));
    put_u32(&inner, check); /* twice: tells a wrong pass phrase where there is one */
    put_u32(&inner, check);
    put_text(&inner, method);
    put_string(&inner, public, 32);
    put_string(&inner, pair, sizeof(pair));
    put_text(&inner, "imprint");
    for (char pad = 1; inner.len % 8 != 0; pad++)
        im_str_add_char(&inner, pad);

    im_str_add_bytes(&out, "openssh-key-v1", 15); /* its NUL belongs to it */
    put_text(&out, "none");                       /* cipher */
    put_text(&out, "none");                       /* key derivation */
    put_text(&out, "");
    put_u32(&out, 1);
    put_string(&out, blob->data, blob->len);
    put_string(&out, inner.data, inner.len);
    body = crypto_base64(out.data, out.len);

    im_str_add(&pem, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (size_t at = 0, len = strlen(body); at < len; at += 70) {
        im_str_add_bytes(&pem, body + at, len - at < 70 ? len - at : 70);
        im_str_add_char(&pem, '\n');
    }
    im_str_add(&pem, "-----END OPENSSH PRIVATE KEY-----\n");
    OPENSSL_cleanse(pair, sizeof(pair));
    OPENSSL_cleanse(inner.data, inner.len);
    OPENSSL_cleanse(out.data, out.len);
    im_str_done(&inner);
    im_str_done(&out);
    return im_str_take(&pem);
}

static bool make_ed25519(const char *method, struct im_str *blob, char **ret_private) {
    IM_AUTO(EVP_PKEY_free_auto) EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    unsigned char public[32], secret[32];
    size_t public_len = sizeof(public), secret_len = sizeof(secret);

    if (key == NULL || EVP_PKEY_get_raw_public_key(key, public, &public_len) != 1 ||
        EVP_PKEY_get_raw_private_key(key, secret, &secret_len) != 1)
        return false;
    put_text(blob, method);
    put_string(blob, public, public_len);
    *ret_private = openssh_pem(blob, method, public, secret);
    OPENSSL_cleanse(secret, sizeof(secret));
    return true;
}

static const struct {
    const char *method;
    bool (*make)(const char *method, struct im_str *blob, char **ret_private);
} makers[] = {
    {"ssh-rsa", make_rsa},
    {"ecdsa-sha2-nistp521", make_ecdsa},
    {"ssh-ed25519", make_ed25519},
};

bool crypto_keypair_make(const char *method, char **ret_private, char **ret_public_body,
                         struct im_err *err) {
    if (strcmp(method, "ssh-dss") == 0)
        return im_fail(
            err, IM_BAD_MESSAGE,
            "encrypt_method ssh-dss is not offered: OpenSSH no longer accepts such keys");
    for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
        IM_AUTO(im_str_done) struct im_str blob = {0};
        char *private = NULL;

        if (strcmp(makers[i].method, method) != 0)
            continue;
        if (!makers[i].make(method, &blob, &private))
            return ssl_fail(err, method);
        *ret_private = private;
        *ret_public_body = crypto_base64(blob.data, blob.len);
        return true;
    }
    return im_fail(err, IM_BAD_MESSAGE,
                   "encrypt_method [%s] is not known; it can be ssh-rsa, ssh-ed25519 or "
                   "ecdsa-sha2-nistp521",
                   method);
}

/* --- Public keys from outside ------------------------------------------------------------------
 */

/* How many strings and numbers follow the inner name, so that a cut-off paste is noticed. */
static const struct {
    const char *method;
    unsigned parts;
} public_forms[] = {
    {"ssh-rsa", 2},
    {"ssh-ed25519", 1},
    {"ecdsa-sha2-nistp256", 2},
    {"ecdsa-sha2-nistp384", 2},
    {"ecdsa-sha2-nistp521", 2},
    {"sk-ssh-ed25519@openssh.com", 2},
    {"sk-ecdsa-sha2-nistp256@openssh.com", 3},
};

/* Takes one length-prefixed part off the front. */
static bool take_part(const unsigned char **at, size_t *left, const unsigned char **ret_part,
                      size_t *ret_len) {
    uint32_t len;

    if (*left < 4)
        return false;
    len =
        (uint32_t) (*at)[0] << 24 | (uint32_t) (*at)[1] << 16 | (uint32_t) (*at)[2] << 8 | (*at)[3];
    if (len > *left - 4)
        return false;
    *ret_part = *at + 4;
    *ret_len = len;
    *at += 4 + len;
    *left -= 4 + (size_t) len;
    return true;
}

static bool check_blob(const char *method, unsigned parts, const unsigned char *blob, size_t len,
                       struct im_err *err) {
    const unsigned char *part;
    size_t part_len;

    if (!take_part(&blob, &len, &part, &part_len))
        return im_fail(err, IM_BAD_MESSAGE, "the public key is cut off");
    if (part_len != strlen(method) || memcmp(part, method, part_len) != 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "the public key says %s, but its body is of another type", method);
    for (unsigned i = 0; i < parts; i++)
        if (!take_part(&blob, &len, &part, &part_len) || part_len == 0)
            return im_fail(err, IM_BAD_MESSAGE, "the public key is cut off");
    if (len != 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "the public key has more in its body than its type needs");
    return true;
}

bool crypto_public_key_parse(const char *line, char **ret_method, char **ret_body,
                             struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings words = {0};
    IM_AUTO(free_auto) void *blob = NULL;
    const char *start = line + strspn(line, " \t\r\n"), *end = strpbrk(start, "\r\n");
    size_t blob_len;

    if (end != NULL && end[strspn(end, " \t\r\n")] != '\0')
        return im_fail(err, IM_BAD_MESSAGE, "the public key has more than one line");
    im_strings_split(&words, start, " \t\r\n");
    if (words.count < 2)
        return im_fail(err, IM_BAD_MESSAGE,
                       "the public key is not of the form \"type base64 comment\"");
    if (strcmp(words.items[0], "ssh-dss") == 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "the public key is of type ssh-dss, which OpenSSH no longer accepts");
    for (size_t i = 0; i < sizeof(public_forms) / sizeof(public_forms[0]); i++) {
        if (strcmp(public_forms[i].method, words.items[0]) != 0)
            continue;
        if (!crypto_base64_decode(words.items[1], &blob, &blob_len))
            return im_fail(err, IM_BAD_MESSAGE, "the body of the public key is not base64");
        if (!check_blob(words.items[0], public_forms[i].parts, blob, blob_len, err))
            return false;
        *ret_method = im_strdup(words.items[0]);
        *ret_body = im_strdup(words.items[1]);
        return true;
    }
    return im_fail(err, IM_BAD_MESSAGE, "the public key is of an unknown type [%.40s]",
                   words.items[0]);
}
