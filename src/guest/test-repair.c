/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of repairs over disks that mean harm: whatever the bytes say, a plan ends, writes inside
 * the disk, and names plain paths. That plans are right is test-plan.py's in the worker's room. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "guest/repair.h"
#include "harness/test.h"
#include "test-disk.h"

enum { ROUNDS = 1500, FEWER = 15, SOME = 250 };

static const char system_script[] =
    "PATH=$PATH:/sbin; mkdir -p r/etc/ssh r/etc/udev/rules.d r/var/log/apt r/root r/home/ann "
    "r/var/lib/dhcp r/etc/selinux; printf 'ID=debian\\n' >r/etc/os-release; "
    "printf '/dev/sda1 / ext4 defaults 0 1\\nLABEL=data /srv xfs defaults\\n"
    "LABEL=s none swap sw\\n/dev/sdb7 /x auto\\n' >r/etc/fstab; "
    "echo 0123456789abcdef >r/etc/machine-id; echo x >r/etc/ssh/ssh_host_rsa_key; "
    "printf 'root:x:0:0:root:/root:/bin/sh\\nann:x:0:0::/home/ann:/bin/sh\\n' >r/etc/passwd; "
    "printf 'root:*:19000:0:99999:7:::\\nann:!!:19000:0:99999:7:::\\n' >r/etc/shadow; "
    "printf 'AuthorizedKeysFile %%h/keys\\n' >r/etc/ssh/sshd_config; "
    "printf 'SELINUX=enforcing\\n' >r/etc/selinux/config; "
    "echo x >r/etc/udev/rules.d/70-persistent-net.rules; echo x >r/var/log/apt/term.log; "
    "echo x >r/home/ann/.bash_history; echo x >r/var/lib/dhcp/a.leases; "
    "truncate -s 30M part; mkfs.ext4 -qF -d r part; truncate -s 32M $D; "
    "printf 'label: dos\\n2048,61440,83\\n' | sfdisk -q $D; "
    "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; "
    "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null";
/* All that has to do with starting is wrong in it. */
static const char boot_script[] =
    "PATH=$PATH:/sbin; rm -rf r; M=r/lib/modules/6.1.0; mkdir -p r/etc/default r/boot/grub "
    "r/boot/loader/entries $M/k; printf 'ID=debian\\n' >r/etc/os-release; "
    "head -c 4096 /dev/zero >k; printf HdrS | dd of=k bs=1 seek=514 conv=notrunc 2>/dev/null; "
    "printf '\\000\\004' | dd of=k bs=1 seek=526 conv=notrunc 2>/dev/null; "
    "printf '6.1.0 (x)' | dd of=k bs=1 seek=1536 conv=notrunc 2>/dev/null; "
    "cp k r/boot/vmlinuz-6.1.0; echo x >x; echo x | cpio -o -H newc 2>/dev/null "
    ">r/boot/initrd.img-6.1.0; printf 'kernel/x.ko\\n' >$M/modules.builtin; "
    "for n in virtio_blk virtio_pci ext4; do echo $n >$M/k/$n.ko; done; "
    "printf 'k/virtio_blk.ko: k/ext4.ko\\nk/virtio_pci.ko:\\nk/ext4.ko:\\n' >$M/modules.dep; "
    "printf 'GRUB_CMDLINE_LINUX=\"root=UUID=0-1\"\\n' >r/etc/default/grub; "
    "printf 'linux /boot/v\\noptions root=LABEL=x $kernelopts\\n' >r/boot/loader/entries/a.conf; "
    "printf '# GRUB Environment Block\\nkernelopts=root=UUID=0-2 ro\\n###' >r/boot/grub/grubenv; "
    "printf 'load_env\\nset opts=\"root=UUID=0-3\"\\nmenuentry L {\\n search --fs-uuid --set=root "
    "1234-5678\\n linux /boot/vmlinuz-6.1.0 root=LABEL=no rd.lvm.lv=a/b resume=LABEL=s $opts\\n "
    "initrd /boot/initrd.img-6.1.0\\n}\\nmenuentry M {\\n linux /boot/old root=/dev/sda1\\n}\\n"
    "blscfg\\n' >r/boot/grub/grub.cfg; "
    "truncate -s 30M part; mkfs.ext4 -qF -d r part; truncate -s 32M $D; "
    "printf 'label: dos\\n2048,61440,83\\n' | sfdisk -q $D; "
    "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; "
    "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null";
static const char gpt_script[] =
    "PATH=$PATH:/sbin; truncate -s 32M $D; sgdisk -n 1::+4M -n 2:: $D; "
    "truncate -s 40M $D";

/* A root in the last of two logical partitions, and one on LVM, on disks that have grown. */
#define SMALL_ROOT                                                                                 \
    "PATH=$PATH:/sbin; rm -rf r; mkdir -p r/etc; printf 'ID=debian\\n' >r/etc/os-release; "        \
    "rm -f part; truncate -s 16M part; mkfs.ext4 -qF -d r part; "
static const char logical_script[] = SMALL_ROOT
    "truncate -s 32M $D; printf 'label: dos\\n2048,2048,83,*\\n,,5\\n,4096,82\\n,32768,83\\n'"
    " | sfdisk -q $D; dd if=part of=$D bs=512 seek=12288 conv=notrunc,sparse 2>/dev/null; "
    "truncate -s 160M $D";
static const char lvm_script[] = LVM_TOOLS SMALL_ROOT
    "truncate -s 32M $D; printf 'label: dos\\n2048,,8e,*\\n' | sfdisk -q $D; "
    "A=$(losetup -f --show -o 1M $D); exec 8<$A; losetup -d $A; lvm_on $A pvcreate -q $A; "
    "lvm_on $A vgcreate -q grown$$ $A; lvm_on $A lvcreate -an -Zn -Wn -y -n root -l 4 grown$$; "
    "lvm_on $A lvcreate -an -Zn -Wn -y -n more -l 1 grown$$; sync; "
    "dd if=part of=$D bs=1M seek=2 conv=notrunc,sparse 2>/dev/null; truncate -s 160M $D";

static bool plain(const char *path) {
    return path != NULL && path[0] == '/' && strstr(path, "/../") == NULL &&
           !im_ends_with(path, "/..") && im_utf8_valid(path, strlen(path));
}

static bool sound(const struct disk *disk, const struct guest_edit *edit) {
    if (edit->kind == GUEST_EDIT_RAW)
        return edit->offset <= disk->len && edit->len <= disk->len - edit->offset;
    return plain(edit->path) && (edit->kind != GUEST_EDIT_COPY || plain(edit->other));
}

/* What is mounted lies on the disk. */
static bool lies_on(const struct disk *disk, const struct guest_mount *mount) {
    for (size_t i = 0; i < mount->piece_count; i++)
        for (unsigned k = 0; k < mount->pieces[i].areas; k++) {
            uint64_t len = mount->pieces[i].bytes / mount->pieces[i].areas;

            if (mount->pieces[i].area[k] > disk->len || len > disk->len - mount->pieces[i].area[k])
                return false;
        }
    return true;
}

/* How many edits there are; SIZE_MAX when one of them is not sound. */
static size_t plan(struct disk *disk) {
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(guest_plan_free_auto) struct guest_plan *made = NULL;
    struct guest_source source = {read_disk, disk, disk->len};
    struct guest_wish wish = {.all = true,
                              .login = {.asked = true, .user = "ann", .hash = "$6$salt$hashhash"}};
    struct im_err err = {0};
    bool fine;

    im_strings_add(&wish.login.keys, "ssh-ed25519 AAAA name");

    for (size_t i = 0; guest_seal_items[i].word != NULL; i++)
        im_strings_add(&wish.seal, guest_seal_items[i].word);
    fine = guest_plan(&source, &wish, &found, &made, &err);
    im_strings_done(&wish.seal);
    im_strings_done(&wish.login.keys);
    if (!fine)
        return SIZE_MAX;
    for (size_t i = 0; i < made->edit_count; i++)
        if (!sound(disk, &made->edits[i]))
            return SIZE_MAX;
    for (size_t i = 0; i < made->mount_count; i++)
        if (!lies_on(disk, &made->mounts[i]))
            return SIZE_MAX;
    return made->edit_count;
}

/* A few bytes at a time are turned over, from `areas` on; the sanitizers are the judges. */
static void spoil(struct disk *disk, const uint64_t *areas, size_t area_count, uint32_t within,
                  unsigned rounds, const char *name) {
    size_t untouched = plan(disk);
    uint32_t seed = 1;
    bool fine = true;

    check(untouched > 0 && untouched != SIZE_MAX, "%s: %zu edits as it is", name, untouched);
    for (unsigned round = 0; fine && round < rounds; round++) {
        uint64_t spots[8];
        uint8_t old[8];
        size_t count = 1 + chance(&seed) % 8;

        for (size_t i = 0; i < count; i++) {
            spots[i] = areas[chance(&seed) % area_count] + chance(&seed) % within;
            old[i] = disk->bytes[spots[i]];
            disk->bytes[spots[i]] = (uint8_t) chance(&seed);
            if (chance(&seed) % 4 == 0)
                disk->bytes[spots[i]] = (uint8_t) " \t\n/#,=.:%!"[chance(&seed) % 11];
        }
        fine = plan(disk) != SIZE_MAX;
        for (size_t i = count; i-- > 0;)
            disk->bytes[spots[i]] = old[i];
    }
    check(fine, "%s, spoiled %u times", name, rounds);
}

static void test_systems(void) {
    static const uint64_t ext[] = {MIB + 1024, MIB + 4096, MIB + (64 << 10), MIB + (260 << 10)};
    struct disk disk = make_disk(system_script);
    static const struct {
        const char *text, *name;
        uint32_t len;
    } files[] = {{"/dev/sda1 / ext4", "fstab", 90},
                 {"root:x:0:0:root", "the users", 65},
                 {"root:*:19000", "their passwords", 53},
                 {"AuthorizedKeysFile", "sshd's configuration", 26}};

    if (disk.bytes == NULL)
        return;
    spoil(&disk, ext, 4, 1024, ROUNDS, "a file system");
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const uint8_t *found = memmem(disk.bytes, disk.len, files[i].text, strlen(files[i].text));
        uint64_t at;

        if (!check(found != NULL, "%s: found on the disk", files[i].name))
            continue;
        at = (uint64_t) (found - disk.bytes);
        spoil(&disk, &at, 1, files[i].len, ROUNDS, files[i].name);
    }
    drop_disk(&disk);
}

static void test_boots(void) {
    static const char *const texts[] = {"load_env\nset opts",
                                        "k/virtio_blk.ko: ", "linux /boot/v\n",
                                        "GRUB_CMDLINE_LINUX=", "# GRUB Environment"};
    struct disk disk = make_disk(boot_script);
    uint64_t at[5];
    size_t count = 0;

    if (disk.bytes == NULL)
        return;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const uint8_t *text = memmem(disk.bytes, disk.len, texts[i], strlen(texts[i]));

        if (check(text != NULL, "text %zu is on the disk", i))
            at[count++] = (uint64_t) (text - disk.bytes);
    }
    if (count > 0)
        spoil(&disk, at, count, 60, FEWER, "what starts it");
    if (count > 0)
        spoil(&disk, at, 1, 300, FEWER, "its menu");
    drop_disk(&disk);
}

static void test_tables(void) {
    static const uint64_t tables[] = {0, 512, 1024, 32 * MIB - 1024};
    struct disk disk = make_disk(gpt_script);

    if (disk.bytes == NULL)
        return;
    spoil(&disk, tables, 4, 512, ROUNDS, "a GPT");
    drop_disk(&disk);
}

/* Of the texts that LVM has left, the last one, which counts. */
static uint64_t last_text(const struct disk *disk) {
    static const char word[] = "physical_volumes {";
    uint64_t at = 0;

    for (uint64_t i = MIB; i < 2 * MIB; i++)
        if (memcmp(disk->bytes + i, word, sizeof(word) - 1) == 0)
            at = i;
    return at;
}

static void test_grown(void) {
    static const uint64_t chain[] = {0, 4096 * 512, 10240 * 512};
    uint64_t physical[] = {0, MIB + 512, MIB + 4096, 0, 0};
    struct disk disk = make_disk(logical_script);

    if (disk.bytes != NULL) {
        spoil(&disk, chain, 3, 512, SOME,
              "a chain of logical partitions behind which there is room");
        drop_disk(&disk);
    }
    if (!can_loop()) {
        test_note("no loop devices here: logical volumes are left out");
        return;
    }
    disk = make_disk(lvm_script);
    if (disk.bytes != NULL) {
        physical[3] = last_text(&disk);
        physical[4] = physical[3] + 512;
        spoil(&disk, physical, 5, 512, SOME, "LVM that could grow");
        drop_disk(&disk);
    }
}

static void shows(const char *before, const char *after, const char *diff) {
    IM_AUTO(free_auto) char *made = guest_diff("/f", before, after);

    if (!check(strcmp(made, diff) == 0, "a difference of %zu bytes", strlen(made)))
        test_note("%s", made);
}

static void test_diffs(void) {
    shows("a\n", "a\n", "");
    shows(NULL, "a\n", "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n");
    shows("a\nb\nc\n", "a\nc\n", "--- a/f\n+++ b/f\n@@ -1,3 +1,2 @@\n a\n-b\n c\n");
    shows("a", "a\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
    shows("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n",
          "--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n");
}

int main(void) {
    test_diffs();
    test_tables();
    test_grown();
    test_boots();
    test_systems();
    return test_end();
}
