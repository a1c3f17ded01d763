/* SPDX-License-Identifier: Apache-2.0 */
/* What we need of cryptography, over OpenSSL 3 and crypt(3); no algorithm of our own. */
#ifndef CRYPTO_CRYPTO_H
#define CRYPTO_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

/* Standard base64 with padding. Decoding refuses any other character (blanks too); both results are
 * the caller's. */
char *crypto_base64(const void *bytes, size_t len);
bool crypto_base64_decode(const char *text, void **ret_bytes, size_t *ret_len) IM_MUST_CHECK;
/* Lower-case hex of SHA-256, "sha256:" not included. */
void crypto_sha256_hex(const void *bytes, size_t len, char ret_hex[65]);
/* The same of bytes that come in pieces. crypto_digest_end frees it. */
struct crypto_digest;
struct crypto_digest *crypto_digest_begin(void);
void crypto_digest_add(struct crypto_digest *digest, const void *bytes, size_t len);
void crypto_digest_end(struct crypto_digest *digest, char ret_hex[65]);
/* Base64 of the HMAC; sha1 for signature_method=HmacSHA1. 64 bytes are enough for either. */
void crypto_hmac_base64(const char *secret, const void *bytes, size_t len, bool sha1,
                        char ret_text[64]);
/* Base64 of SHA-1, for protocols that ask for it (WebSocket); 28 characters and NUL. */
void crypto_sha1_base64(const void *bytes, size_t len, char ret_text[32]);
/* In constant time for equal lengths. */
bool crypto_equal(const char *a, const char *b);
/* RFC 4122 name-based UUID, stable for a name. 36 characters and NUL. */
void crypto_uuid(const char *name, char ret_uuid[37]);

/* Secrets at rest: AES-256-GCM under a key that lies in a file of its own (made with mode 0600 if
 * missing), so that a copy of the record alone opens nothing. The sealed form is text. */
struct crypto_key;
struct crypto_key *crypto_key_open(const char *path, struct im_err *err) IM_MUST_CHECK;
void crypto_key_close(struct crypto_key *key);
char *crypto_seal(const struct crypto_key *key, const char *secret);
/* IM_INTERNAL if the text was sealed by another key or damaged. */
bool crypto_unseal(const struct crypto_key *key, const char *sealed, char **ret_secret,
                   struct im_err *err) IM_MUST_CHECK;

/* SHA-512 crypt hash ("$6$…") with a random salt, for /etc/shadow of any Linux. Owned. */
char *crypto_password_hash(const char *password);

/* Key pairs. method: "ssh-rsa" (2048), "ecdsa-sha2-nistp521", "ssh-ed25519"; ssh-dss is refused
 * with the reason (OpenSSH no longer takes it). ret_private is PEM that OpenSSH and Go's ssh
 * package read (PKCS#1 for RSA, SEC1 for EC, OpenSSH's own format for Ed25519); ret_public_body is
 * the base64 body without method and comment. */
bool crypto_keypair_make(const char *method, char **ret_private, char **ret_public_body,
                         struct im_err *err) IM_MUST_CHECK;
/* Takes one authorized_keys line apart: blanks in front, a comment behind are fine; the body must
 * be base64 whose inner name is the method. IM_BAD_MESSAGE says what is wrong. Outputs are owned.
 */
bool crypto_public_key_parse(const char *line, char **ret_method, char **ret_body,
                             struct im_err *err) IM_MUST_CHECK;

#endif
