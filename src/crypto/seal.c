/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets at rest: AES-256-GCM under the host's key. Sealed form: "v1:" and the base64 of
 * nonce (12), ciphertext and tag (16). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"
#include "crypto/crypto.h"

#define KEY_LEN 32
#define NONCE_LEN 12
#define TAG_LEN 16
#define PREFIX "v1:"

struct crypto_key {
    unsigned char bytes[KEY_LEN];
};

IM_DEFINE_AUTO(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free)

/* A new key appears under its name whole and durable, or not at all; of two programs that make one
 * at once, the first wins and both use it. */
static bool make_key_file(const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *temporary = im_printf("%s.XXXXXX", path);
    IM_AUTO(fd_auto) int fd = -1;
    unsigned char bytes[KEY_LEN];
    bool made;

    fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make the key file %s", path);
    im_random(bytes, sizeof(bytes));
    made = im_write_all(fd, bytes, sizeof(bytes), path, err);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    if (made && fsync(fd) < 0)
        made = im_fail_sys(err, errno, "cannot write the key file %s", path);
    if (made && link(temporary, path) < 0 && errno != EEXIST)
        made = im_fail_sys(err, errno, "cannot make the key file %s", path);
    (void) unlink(temporary);
    return made && im_sync_parent(path, err);
}

struct crypto_key *crypto_key_open(const char *path, struct im_err *err) {
    struct crypto_key *key;
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        if (!make_key_file(path, err))
            return NULL;
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        im_fail_sys(err, errno, "cannot open the key file %s", path);
        return NULL;
    }
    if (st.st_size != KEY_LEN || (st.st_mode & 077) != 0) {
        im_fail(err, IM_INTERNAL,
                "key file %s: it must have %d bytes and be readable by its owner only", path,
                KEY_LEN);
        return NULL;
    }
    key = im_alloc(sizeof(*key));
    if (!im_pread_all(fd, key->bytes, KEY_LEN, 0, path, err)) {
        crypto_key_close(key);
        return NULL;
    }
    return key;
}

void crypto_key_close(struct crypto_key *key) {
    if (key == NULL)
        return;
    OPENSSL_cleanse(key, sizeof(*key));
    free(key);
}

char *crypto_seal(const struct crypto_key *key, const char *secret) {
    size_t len = strlen(secret), total = NONCE_LEN + len + TAG_LEN;
    IM_AUTO(free_auto) unsigned char *box = im_alloc(total);
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(EVP_CIPHER_CTX_free_auto) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int out = 0;

    im_random(box, NONCE_LEN);
    if (ctx == NULL || EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, box) != 1 ||
        EVP_EncryptUpdate(ctx, box + NONCE_LEN, &out, (const unsigned char *) secret, (int) len) !=
            1 ||
        EVP_EncryptFinal_ex(ctx, box + NONCE_LEN + out, &out) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, box + NONCE_LEN + len) != 1) {
        fputs("libcrypto: AES-256-GCM failed\n", stderr);
        abort();
    }
    text = crypto_base64(box, total);
    return im_printf(PREFIX "%s", text);
}

static bool open_box(const struct crypto_key *key, unsigned char *box, size_t len, char *plain) {
    IM_AUTO(EVP_CIPHER_CTX_free_auto) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t body = len - NONCE_LEN - TAG_LEN;
    unsigned char *tag = box + NONCE_LEN + body;
    int out = 0;

    return ctx != NULL && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, box) == 1 &&
           EVP_DecryptUpdate(ctx, (unsigned char *) plain, &out, box + NONCE_LEN, (int) body) ==
               1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1 &&
           EVP_DecryptFinal_ex(ctx, (unsigned char *) plain + out, &out) == 1;
}

bool crypto_unseal(const struct crypto_key *key, const char *sealed, char **ret_secret,
                   struct im_err *err) {
    IM_AUTO(free_auto) void *box = NULL;
    IM_AUTO(free_auto) char *plain = NULL;
    size_t len;

    if (!im_starts_with(sealed, PREFIX) ||
        !crypto_base64_decode(sealed + strlen(PREFIX), &box, &len) || len < NONCE_LEN + TAG_LEN)
        return im_fail(err, IM_INTERNAL, "a sealed secret is damaged");
    plain = im_alloc(len + 1);
    if (!open_box(key, box, len, plain))
        return im_fail(err, IM_INTERNAL, "a sealed secret is damaged or was sealed by another key");
    *ret_secret = im_steal(&plain);
    return true;
}
