/* SPDX-License-Identifier: Apache-2.0 */
/* Seeds of all kinds. Without an argument: what seed_write() promises of the file. With a folder:
 * writes one seed per case into it, for test-seed.py, which reads them with cloud-init's own code.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "seed/seed.h"

/* glibc's crypt of "Imprint-1", made with openssl passwd -6 -salt imprint */
#define HASH                                                                                       \
    "$6$imprint$ULYPVBDlCyddtLaj8o2E7T3DqDcVar/4NupFG2hk08BEL80rEqAe6/vRlWzeoyO7SRXbSU6Cacv5TRK1"  \
    "KXho8."

static const char *const keys[] = {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPcXh1 kp-aaaaaaaa",
                                   "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 it's \"x\" $(y) kp-b"};

static struct seed plain(void) {
    return (struct seed){.instance_id = "i-abcdefgh",
                         .hostname = "web-1",
                         .default_user = "debian",
                         .public_keys = keys,
                         .public_key_count = 2,
                         .metadata_json = "{\"instance_id\":\"i-abcdefgh\",\"instance_name\":\"\xe2"
                                          "\x80\xa8 \xf0\x9f\x90\xa7 '\\\"\"}",
                         .metadata_env = "INSTANCE_ID=i-abcdefgh\n"};
}

static const struct given {
    const char *name;
    const char *bytes;
    size_t len;
} given[] = {
#define GIVEN(name, bytes)                                                                         \
    { name, bytes, sizeof(bytes) - 1 }
    GIVEN("script", "#!/bin/sh\necho \xc3\xa4 '$HOME' \"--\"\n"),
    GIVEN("script-latin1", "#!/bin/sh\nprintf '\xe4\xf6' >/root/made\n"),
    GIVEN("config",
          "#cloud-config\nbootcmd:\n- [echo, hi]\nhostname: other\nusers:\n- name: eve\n"),
    GIVEN("config-latin1", "#cloud-config\nfinal_message: \xe4\n"),
    GIVEN("jinja", "## template: jinja\n#cloud-config\nfinal_message: {{ v1.instance_id }}\n"),
    GIVEN("mime", "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x\n"
                  "Content-Type: text/x-shellscript\n\n#!/bin/sh\necho one\n--x\n"
                  "Content-Type: text/cloud-config\n\n#cloud-config\ntimezone: UTC\n--x--\n"),
    GIVEN("bytes", "\x00\x01\xff\xfe plain \x00 bytes"),
    GIVEN("text", "only text, no instruction"),
    /* printf '#!/bin/sh\necho zipped\n' | gzip -n */
    GIVEN("gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x53\x56\xd4\x4f\xca\xcc\xd3\x2f\xce\xe0"
                  "\x4a\x4d\xce\xc8\x57\xa8\xca\x2c\x28\x48\x4d\xe1\x02\x00\x18\xec\xac\xd5\x16\x00"
                  "\x00\x00"),
#undef GIVEN
};

static bool make_all(const char *folder, struct im_err *err) {
    for (size_t i = 0; i < sizeof(given) / sizeof(*given); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s.iso", folder, given[i].name);
        IM_AUTO(free_auto) char *source = im_printf("%s/%s.given", folder, given[i].name);
        struct seed seed = plain();

        seed.userdata = given[i].bytes;
        seed.userdata_len = given[i].len;
        if (!im_write_file(source, given[i].bytes, given[i].len, 0600, err) ||
            !seed_write(path, &seed, geteuid(), getegid(), err))
            return false;
    }
    return true;
}

/* The plain seed, and later states of the same machine. */
static bool make_states(const char *folder, struct im_err *err) {
    static const struct {
        const char *name, *hash, *user, *path;
        size_t keys;
    } states[] = {{"plain", NULL, "debian", NULL, 2},
                  {"password", HASH, "debian", "/srv/my data", 1},
                  {"root", HASH, "root", "relative/../path", 1},
                  {"no-key", NULL, "debian", NULL, 0}};

    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s.iso", folder, states[i].name);
        struct seed seed = plain();

        seed.passwd_hash = states[i].hash;
        seed.default_user = states[i].user;
        seed.userdata_path = states[i].path;
        seed.public_key_count = states[i].keys;
        if (!seed_write(path, &seed, geteuid(), getegid(), err))
            return false;
    }
    return true;
}

static void test_file(const char *folder) {
    IM_AUTO(free_auto) char *path = im_printf("%s/seed.iso", folder);
    IM_AUTO(free_auto) char *draft = im_printf("%s.new", path);
    IM_AUTO(free_auto) char *much = malloc(SEED_USERDATA_MAX + 1);
    struct seed seed = plain();
    struct stat st = {0};
    ino_t first;

    memset(much, 'x', SEED_USERDATA_MAX + 1);
    check_ok(seed_write(path, &seed, 12345, 12346, &err), "a seed");
    check(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600, "is for its owner alone");
    check(geteuid() != 0 || (st.st_uid == 12345 && st.st_gid == 12346),
          "who is the machines' user");
    check(st.st_size > 0 && st.st_size < 400 << 10 && st.st_size % 512 == 0, "%lld bytes",
          (long long) st.st_size);
    first = st.st_ino;
    seed.userdata = much;
    seed.userdata_len = SEED_USERDATA_MAX;
    check_ok(seed_write(path, &seed, 12345, 12346, &err), "written again, as large as it may be");
    check(stat(path, &st) == 0 && st.st_ino != first && st.st_size < 1 << 20, "it is another file");
    seed.userdata_len = SEED_USERDATA_MAX + 1;
    check_err(seed_write(path, &seed, 12345, 12346, &err), IM_BAD_MESSAGE, "one byte more");
    check(stat(draft, &st) < 0, "leaves no draft");
    check_err(seed_write("/nonexistent/seed.iso", &seed, 0, 0, &err), IM_BAD_MESSAGE, "nor");
    seed.userdata_len = 1;
    check_err(seed_write("/nonexistent/seed.iso", &seed, 0, 0, &err), IM_INTERNAL, "no folder");
}

int main(int argc, char **argv) {
    struct im_err err = {0};

    if (argc == 2) {
        if (make_all(argv[1], &err) && make_states(argv[1], &err))
            return 0;
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    test_file(test_folder());
    return test_end();
}
