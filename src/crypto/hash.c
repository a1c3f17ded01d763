/* SPDX-License-Identifier: Apache-2.0 */
/* Digests, HMAC, base64, name-based UUIDs and password hashes; the algorithms are OpenSSL's and
 * libcrypt's. */
#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/mem.h"
#include "crypto/crypto.h"

/* What OpenSSL answers with failure here is memory that ran out or a broken installation: neither
 * can be told to a client. */
static void must(bool worked, const char *what) {
    if (!worked) {
        fprintf(stderr, "libcrypto: %s failed\n", what);
        abort();
    }
}

char *crypto_base64(const void *bytes, size_t len) {
    char *text = im_alloc((len + 2) / 3 * 4 + 1);

    EVP_EncodeBlock((unsigned char *) text, bytes, (int) len);
    return text;
}

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool crypto_base64_decode(const char *text, void **ret_bytes, size_t *ret_len) {
    size_t len = strlen(text), padding, out = 0;
    IM_AUTO(free_auto) unsigned char *bytes = NULL;
    uint32_t bits = 0;

    if (len % 4 != 0)
        return false;
    padding = len == 0 ? 0 : text[len - 2] == '=' ? 2 : text[len - 1] == '=' ? 1 : 0;
    bytes = im_alloc(len / 4 * 3 + 1);
    for (size_t i = 0; i < len; i++) {
        int value = i >= len - padding ? (text[i] == '=' ? 0 : -1) : base64_value(text[i]);

        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t) value;
        if (i % 4 == 3) {
            bytes[out++] = (unsigned char) (bits >> 16);
            bytes[out++] = (unsigned char) (bits >> 8);
            bytes[out++] = (unsigned char) bits;
        }
    }
    *ret_len = out - padding;
    bytes[*ret_len] = '\0';
    *ret_bytes = im_steal(&bytes);
    return true;
}

void crypto_sha256_hex(const void *bytes, size_t len, char ret_hex[65]) {
    unsigned char digest[32];

    must(EVP_Digest(bytes, len, digest, NULL, EVP_sha256(), NULL) == 1, "SHA-256");
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

struct crypto_digest *crypto_digest_begin(void) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    must(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1, "SHA-256");
    return (struct crypto_digest *) context;
}

void crypto_digest_add(struct crypto_digest *digest, const void *bytes, size_t len) {
    must(EVP_DigestUpdate((EVP_MD_CTX *) digest, bytes, len) == 1, "SHA-256");
}

void crypto_digest_end(struct crypto_digest *digest, char ret_hex[65]) {
    unsigned char bytes[32];

    must(EVP_DigestFinal_ex((EVP_MD_CTX *) digest, bytes, NULL) == 1, "SHA-256");
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(ret_hex + 2 * i, 3, "%02x", bytes[i]);
    EVP_MD_CTX_free((EVP_MD_CTX *) digest);
}

void crypto_hmac_base64(const char *secret, const void *bytes, size_t len, bool sha1,
                        char ret_text[64]) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;

    must(HMAC(sha1 ? EVP_sha1() : EVP_sha256(), secret, (int) strlen(secret), bytes, len, mac,
              &mac_len) != NULL,
         "HMAC");
    EVP_EncodeBlock((unsigned char *) ret_text, mac, (int) mac_len);
}

void crypto_sha1_base64(const void *bytes, size_t len, char ret_text[32]) {
    unsigned char digest[20];

    must(EVP_Digest(bytes, len, digest, NULL, EVP_sha1(), NULL) == 1, "SHA-1");
    EVP_EncodeBlock((unsigned char *) ret_text, digest, sizeof(digest));
}

bool crypto_equal(const char *a, const char *b) {
    size_t len = strlen(a);

    return len == strlen(b) && CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_uuid(const char *name, char ret_uuid[37]) {
    /* Our name space: drawn once at random, never to change, as machines are found by it. */
    static const unsigned char space[16] = {0x3d, 0x8f, 0x51, 0x0c, 0xb1, 0x62, 0x4e, 0x0b,
                                            0x9a, 0x57, 0x0e, 0x6d, 0x21, 0xc4, 0x98, 0xf3};
    size_t len = strlen(name);
    IM_AUTO(free_auto) unsigned char *input = im_alloc(sizeof(space) + len);
    unsigned char d[20];

    memcpy(input, space, sizeof(space));
    memcpy(input + sizeof(space), name, len);
    must(EVP_Digest(input, sizeof(space) + len, d, NULL, EVP_sha1(), NULL) == 1, "SHA-1");
    d[6] = (unsigned char) ((d[6] & 0x0f) | 0x50); /* version 5: from a name, by SHA-1 */
    d[8] = (unsigned char) ((d[8] & 0x3f) | 0x80);
    snprintf(ret_uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13],
             d[14], d[15]);
}

char *crypto_password_hash(const char *password) {
    IM_AUTO(free_auto) struct crypt_data *data = im_alloc(sizeof(*data));
    IM_AUTO(free_auto) char *salt = crypt_gensalt_ra("$6$", 0, NULL, 0);
    const char *hash;
    char *copy;

    must(salt != NULL, "crypt_gensalt");
    hash = crypt_rn(password, salt, data, sizeof(*data));
    must(hash != NULL, "crypt");
    copy = im_strdup(hash);
    OPENSSL_cleanse(data, sizeof(*data)); /* it holds the password */
    return copy;
}
