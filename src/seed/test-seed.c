/* SPDX-License-Identifier: Apache-2.0 */
/* Seeds of all kinds. Without an argument: what seed_write() promises of the file. With a folder:
 * writes one seed per case into it, for test-seed.py, which reads them with cloud-init's own code.
 */
#include <archive.h>
#include <archive_entry.h>
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

/* --- For Windows ------------------------------------------------------------------------------ */

/* The file of that name on the disk, "" when it is not there; owned. */
static char *on_disk(const char *path, const char *name) {
    struct archive *archive = archive_read_new();
    struct archive_entry *entry = NULL;
    char *text = NULL;

    if (archive_read_support_format_iso9660(archive) == ARCHIVE_OK &&
        archive_read_open_filename(archive, path, 4096) == ARCHIVE_OK)
        while (text == NULL && archive_read_next_header(archive, &entry) == ARCHIVE_OK)
            if (strcmp(archive_entry_pathname(entry), name) == 0) {
                size_t len = (size_t) archive_entry_size(entry);

                text = im_alloc(len + 1);
                if (archive_read_data(archive, text, len) != (la_ssize_t) len)
                    text[0] = '\0';
            }
    archive_read_free(archive);
    return text != NULL ? text : im_strdup("");
}

static void check_file(const char *path, const char *name, const char *wanted) {
    IM_AUTO(free_auto) char *text = on_disk(path, name);

    check(strcmp(text, wanted) == 0, "%s: %s", name, text);
}

static bool disk_has(const char *path, const char *text) {
    IM_AUTO(free_auto) char *bytes = NULL;
    struct im_err err = {0};
    size_t len = 0;

    return im_read_file(path, 1 << 20, &bytes, &len, &err) &&
           memmem(bytes, len, text, strlen(text)) != NULL;
}

/* What ConfigDriveService and NoCloudConfigDriveService of cloudbase-init read. */
static void test_windows(const char *folder) {
    IM_AUTO(free_auto) char *path = im_printf("%s/windows.iso", folder);
    IM_AUTO(free_auto) char *none = im_printf("%s/none.iso", folder);
    IM_AUTO(free_auto) char *half = im_printf("%s.new", none);
    struct seed seed = plain();
    struct stat before = {0}, after = {0};

    seed.windows = true;
    seed.default_user = "Administrator";
    seed.passwd_hash = HASH;
    seed.admin_passwd = "P\"ss\\w0rd";
    seed.userdata = "#ps1\r\n\0";
    seed.userdata_len = 7;
    check_ok(seed_write(path, &seed, geteuid(), getegid(), &err), "a seed for Windows");
    check(disk_has(path, "config-2"), "is labelled for cloudbase-init");
    check_file(path, "openstack/latest/meta_data.json",
               "{\"uuid\":\"i-abcdefgh\",\"hostname\":\"web-1\",\"admin_username\":"
               "\"Administrator\",\"admin_pass\":\"P\\\"ss\\\\w0rd\"}\n");
    check_file(path, "meta-data",
               "{\"instance-id\":\"i-abcdefgh\",\"local-hostname\":\"web-1\",\"admin-username\":"
               "\"Administrator\",\"admin-password\":\"P\\\"ss\\\\w0rd\"}\n");
    check_file(path, "openstack/latest/user_data", "#ps1\r\n");
    check_file(path, "network-config", "");
    check(!disk_has(path, "$6$imprint"), "has no hash, which would be taken for the password");
    check(stat(path, &before) == 0, "it is there");
    seed.admin_passwd = NULL;
    seed.userdata_len = 0;
    check_ok(seed_rewrite(path, &seed, &err), "is written over without the password");
    check(stat(path, &after) == 0 && before.st_ino == after.st_ino &&
              before.st_size == after.st_size,
          "in place");
    check(!disk_has(path, "w0rd") && !disk_has(path, "#ps1"), "nothing of it is left");
    check_file(path, "openstack/latest/meta_data.json",
               "{\"uuid\":\"i-abcdefgh\",\"hostname\":\"web-1\",\"admin_username\":"
               "\"Administrator\"}\n");
    check_file(path, "openstack/latest/user_data", "");
    check_ok(im_write_file(half, "w0rd", 4, 0600, &err), "what a crash left half written");
    check_ok(seed_rewrite(none, &seed, &err), "where there is none");
    check(stat(none, &after) < 0 && stat(half, &after) < 0,
          "none is made, nor is half of one left");
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
    test_windows(test_folder());
    return test_end();
}
