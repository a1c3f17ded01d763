/* SPDX-License-Identifier: Apache-2.0 */
/* Known answers (the API's signing vector among them), sealing, and key pairs that OpenSSH reads.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "harness/test.h"

static void test_base64(void) {
    static const char *const bad[] = {"A", "AAA", "AA=A", "====", "A===", "AA A", "AAA\n", "AA-_"};
    IM_AUTO(free_auto) char *text = crypto_base64("foob", 4);
    IM_AUTO(free_auto) void *bytes = NULL;
    size_t len;

    check(strcmp(text, "Zm9vYg==") == 0, "base64 pads");
    check(crypto_base64_decode(text, &bytes, &len) && len == 4 && memcmp(bytes, "foob", 4) == 0,
          "base64 comes back");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        void *none = NULL;

        check(!crypto_base64_decode(bad[i], &none, &len) && none == NULL,
              "base64 case %zu is refused", i);
    }
}

static void test_digests(void) {
    char hex[65], uuid[37], again[37];

    crypto_sha256_hex("abc", 3, hex);
    check(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0,
          "SHA-256 of abc");
    crypto_uuid("i-00000001", uuid);
    crypto_uuid("i-00000001", again);
    check(strcmp(uuid, again) == 0 && strlen(uuid) == 36 && uuid[14] == '5',
          "a name's UUID is stable and says version 5");
    crypto_uuid("i-00000002", again);
    check(strcmp(uuid, again) != 0, "another name has another UUID");
    check(crypto_equal("abc", "abc") && !crypto_equal("abc", "abd") && !crypto_equal("abc", "ab"),
          "comparing in constant time");
}

/* One request with awkward values, signed in all the ways clients sign. */
static void test_signing(void) {
    static const struct {
        const char *method, *path;
        bool sha1;
        const char *signature;
    } rows[] = {
        {"GET", "/iaas/", false, "6eYTXuJyTHA5iSN7k+ZMbLjkeq5kLFw7cXk83KbC4cQ="},
        {"GET", "/iaas", false, "o/objc/9aY5dAnLulxBQWB0gtNt5Jai/HjOB4hlFMog="},
        {"POST", "/iaas/", false, "FvmjF/PK+9n2/Ybv5fvBr18qNKjEqSgBV4SPAWxCw2w="},
        {"POST", "/iaas", false, "8VAMzZ1OXJz/Axlj36buDaePheL0nkQf6EeGPuTnVyA="},
        {"GET", "/iaas/", true, "SeL2I9Vf4wsdeJggbEhLnnf1X94="},
        {"POST", "/iaas/", true, "an0+iKl8i22Wl6dJehqfMLyl8ps="},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        IM_AUTO(free_auto)
        char *text = im_printf(
            "%s\n%s\naccess_key_id=TESTACCESSKEY0000001&action=RunInstances&count=1&cpu=2&"
            "hostname=&image_id=debian91x64&instance_name=web%%2001%%2F%%E6%%B5%%8B%%E8%%AF%%95"
            "%%2A~&login_mode=passwd&login_passwd=P%%40ss%%2Bw0rd%%3D%%261&memory=4096&"
            "req_id=0123456789abcdef0123456789abcdef&signature_method=Hmac%s&signature_version=1&"
            "time_stamp=2030-01-02T03%%3A04%%3A05Z&version=1&volumes.1=vol-a1b2c3d4&"
            "vxnets.1=vxnet-0&zone=test1a",
            rows[i].method, rows[i].path, rows[i].sha1 ? "SHA1" : "SHA256");
        char signature[64];

        crypto_hmac_base64("testsecretkeytestsecretkey0000000000000A", text, strlen(text),
                           rows[i].sha1, signature);
        check(strcmp(signature, rows[i].signature) == 0, "%s %s %s", rows[i].method, rows[i].path,
              rows[i].sha1 ? "SHA-1" : "SHA-256");
    }
}

/* The example that the API's own public description carries. */
static void test_published_vector(void) {
    static const char text[] =
        "GET\n/iaas/\naccess_key_id=QYACCESSKEYIDEXAMPLE&action=RunInstances&count=1&"
        "image_id=centos64x86a&instance_name=demo&instance_type=small_b&login_mode=passwd&"
        "login_passwd=QingCloud20130712&signature_method=HmacSHA256&signature_version=1&"
        "time_stamp=2013-08-27T14%3A30%3A10Z&version=1&vxnets.1=vxnet-0&zone=pek3a";
    char signature[64];

    crypto_hmac_base64("SECRETACCESSKEY", text, strlen(text), false, signature);
    check(strcmp(signature, "byjccvWIvAftaq+oublemagH3bYAlDWxxLFAzAsyslw=") == 0,
          "the published example (got %s)", signature);
}

static void test_seal(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/secret.key", test_folder());
    IM_AUTO(free_auto) char *other_path = im_printf("%s/other.key", test_folder());
    IM_AUTO(free_auto) char *sealed = NULL, *twice = NULL, *plain = NULL;
    struct im_err failure = {0};
    struct crypto_key *key = crypto_key_open(path, &failure), *again, *other;
    struct stat st;
    char *none = NULL;

    check(key != NULL && stat(path, &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_size == 32,
          "a missing key is made, for its owner only");
    sealed = crypto_seal(key, "s3cret");
    twice = crypto_seal(key, "s3cret");
    check(strstr(sealed, "s3cret") == NULL && strcmp(sealed, twice) != 0,
          "sealed forms of one secret differ");
    again = crypto_key_open(path, &failure);
    check(again != NULL && crypto_unseal(again, sealed, &plain, &failure) &&
              strcmp(plain, "s3cret") == 0,
          "the same key opened again unseals");
    other = crypto_key_open(other_path, &failure);
    check_err(crypto_unseal(other, sealed, &none, &err), IM_INTERNAL, "another key does not");
    sealed[10] = sealed[10] == 'A' ? 'B' : 'A';
    check_err(crypto_unseal(key, sealed, &none, &err), IM_INTERNAL, "a changed byte is noticed");
    check_err(crypto_unseal(key, "v1:AAAA", &none, &err), IM_INTERNAL, "a short one is refused");
    check_err(crypto_unseal(key, "plain", &none, &err), IM_INTERNAL, "an unsealed one is refused");
    crypto_key_close(other);
    chmod(other_path, 0644);
    other = crypto_key_open(other_path, &failure);
    check(other == NULL && strstr(failure.text, "owner only") != NULL,
          "a key that others may read is refused");
    crypto_key_close(again);
    crypto_key_close(key);
}

static void test_password(void) {
    IM_AUTO(free_auto) char *a = crypto_password_hash("p4ss"), *b = crypto_password_hash("p4ss");

    check(im_starts_with(a, "$6$") && strlen(a) > 90, "a SHA-512 crypt hash");
    check(strcmp(a, b) != 0, "salted");
}

static void test_keypair(const char *method, const char *pem_head) {
    IM_AUTO(free_auto) char *private = NULL, *body = NULL, *parsed_method = NULL, *parsed = NULL;
    IM_AUTO(free_auto) char *line = NULL, *path = NULL, *told = NULL;
    struct im_err failure = {0};
    const char *argv[] = {"ssh-keygen", "-y", "-f", NULL, NULL};

    check_ok(crypto_keypair_make(method, &private, &body, &err), "%s is made", method);
    check(private != NULL && im_starts_with(private, pem_head), "%s has its PEM form", method);
    line = im_printf("  %s %s me@here two\n", method, body);
    check_ok(crypto_public_key_parse(line, &parsed_method, &parsed, &err), "%s parses", method);
    check(parsed != NULL && strcmp(parsed, body) == 0 && strcmp(parsed_method, method) == 0,
          "%s comes out as it went in", method);
    path = im_printf("%s/%s", test_folder(), method);
    argv[3] = path;
    check_ok(im_write_file(path, private, strlen(private), 0600, &err), "%s is written", method);
    if (im_run(argv, NULL, 10000, &told, &failure))
        check(strstr(told, body) != NULL, "ssh-keygen finds the same public key for %s", method);
    else if (strstr(failure.text, "No such file") != NULL ||
             strstr(failure.text, "not found") != NULL)
        test_note("ssh-keygen is not here: %s", failure.text);
    else
        check(false, "ssh-keygen reads %s: %s", method, failure.text);
}

static void test_public_keys(void) {
    static const char *const bad[] = {
        "",
        "ssh-rsa",
        "ssh-rsa !!!!",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",
        "ssh-dss AAAAB3NzaC1kc3M=",
        "command=\"id\" ssh-ed25519 AAAA",
        "ssh-ed25519 AAAA\nssh-ed25519 AAAA",
        "ssh-ed25519 /////w==",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *method = NULL, *body = NULL;

        check_err(crypto_public_key_parse(bad[i], &method, &body, &err), IM_BAD_MESSAGE,
                  "public key case %zu is refused", i);
    }
}

static void test_digest_in_pieces(void) {
    char whole[65], pieces[65];
    struct crypto_digest *digest = crypto_digest_begin();

    crypto_sha256_hex("abcdefgh", 8, whole);
    crypto_digest_add(digest, "abc", 3);
    crypto_digest_add(digest, "", 0);
    crypto_digest_add(digest, "defgh", 5);
    crypto_digest_end(digest, pieces);
    check(strcmp(whole, pieces) == 0, "bytes in pieces have the digest of the whole");
}

int main(void) {
    char *private = NULL, *body = NULL;

    test_base64();
    test_digests();
    test_signing();
    test_published_vector();
    test_seal();
    test_password();
    test_keypair("ssh-rsa", "-----BEGIN RSA PRIVATE KEY-----");
    test_keypair("ecdsa-sha2-nistp521", "-----BEGIN EC PRIVATE KEY-----");
    test_keypair("ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----");
    check_err(crypto_keypair_make("ssh-dss", &private, &body, &err), IM_BAD_MESSAGE,
              "ssh-dss is refused with the reason");
    test_public_keys();
    test_digest_in_pieces();
    return test_end();
}
