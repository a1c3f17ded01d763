/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of NTFS: everything that ntfs-3g, which writes as Windows does, put into a file system
 * comes out again, byte by byte; and how a file system was left is told. */
#include <string.h>
#include <unistd.h>

#include "harness/test.h"
#include "ntfs.h"
#include "test-folder.h"
#include "test-ntfs-disk.h"

#define MAKE(size, options) NTFS_MAKE("$D", size, "-L 'Wïndows Ж' " options)
#define MOUNT NTFS_MOUNT("$D")
#define UNMOUNT NTFS_UNMOUNT
#define PACK(folder)                                                                               \
    "python3 -c 'import os; os.setxattr(\"m/" folder "\", \"system.ntfs_attrib_be\", "             \
    "(0x810).to_bytes(4, \"big\"))'; "
/* NTFS knows neither modes nor the links of others. */
#define PLAIN(folder)                                                                              \
    "find " folder " -type d -exec chmod 755 {} +; find " folder " -type f -exec chmod 644 {} +; "
#define NAMES                                                                                      \
    "mkdir -p m/names; for n in Ünïcode-Ж-😀 ß 中文 'a b' UPPER lower.TXT _ '~' '{'; do "  \
    "echo $n >m/names/$n; done; "

static bool can_write(void) {
    bool can = access("/dev/fuse", R_OK | W_OK) == 0 &&
               run("exec >/dev/null 2>&1; D=t.img; rm -f $D; " MAKE("20M", "") MOUNT UNMOUNT, "");

    if (!can)
        test_note("ntfs-3g cannot mount here: what only it writes is left out");
    return can;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

static void test_forms(void) {
    static const struct {
        const char *name, *script;
    } forms[] = {
        {"ntfs", MAKE("200M", "")},
        {"ntfs with clusters of a sector", MAKE("200M", "-c 512")},
        {"ntfs with clusters of 1 KiB", MAKE("200M", "-c 1024")},
        {"ntfs with clusters of 64 KiB", MAKE("400M", "-c 65536")},
        {"ntfs with sectors of 4 KiB", MAKE("200M", "-s 4096 -p 0 -H 255 -S 63")},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(free_auto)
        char *script =
            im_printf("%s " MOUNT "cp -a %s/. m; " NAMES "mkdir m/packed; %s cp r/few/* m/packed; "
                      "rm -rf h m/links; cp -a m h; " UNMOUNT PLAIN("h"),
                      forms[i].script, i == 0 ? "r" : "less",
                      strstr(forms[i].script, "65536") ? "" : PACK("packed"));
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(script, forms[i].name);
        IM_AUTO(free_auto) char *codes = NULL;

        if (opened == NULL)
            continue;
        check_same(opened, "h", forms[i].name);
        volumes_check(&opened->look);
        codes = codes_of(opened->look.found);
        check(codes[0] == '\0', "%s: nothing is wrong: [%s]", forms[i].name, codes);
        check(strcmp(opened->look.found->parts[0].label, "Wïndows Ж") == 0, "%s: is called %s",
              forms[i].name, opened->look.found->parts[0].label);
    }
}

/* Files in so many pieces that they are listed in records of their own. */
static void test_pieces(void) {
    IM_AUTO(free_auto)
    char *script = im_printf(
        "M='%s'; " MAKE("400M", "") MOUNT
        "mkdir m/packed; " PACK("packed") "rm -rf h; mkdir -p h/packed; "
                                          "for to in m m/packed h h/packed; do mkdir "
                                          "$to/links; python3 $M --holes $to; "
                                          "rm -r $to/links $to/reserved; done; " UNMOUNT PLAIN("h"),
        maker);
    IM_AUTO(close_disk_auto) struct opened *opened = open_disk(script, "ntfs with files in pieces");
    struct file file;
    uint64_t size, left;

    if (opened == NULL)
        return;
    check_same(opened, "h", "files in pieces");
    opened->look.found->read_bytes = 0;
    check(ntfs_space(opened->look.volumes[0]->state, &size, &left) && size > 399 * MIB &&
              left > 100 * MIB && left < 390 * MIB,
          "the room is told");
    test_note("%u MiB of %u are free", (unsigned) (left / MIB), (unsigned) (size / MIB));
    check(tree_find(&opened->tree, "/PIECES", &file) && tree_find(&opened->tree, "/far", &file) &&
              file.facts.size == (5ull << 30) + 8,
          "names are found however they are written");
}

static void test_names(void) {
    IM_AUTO(close_disk_auto)
    struct opened *opened = open_disk(MAKE("40M", "") MOUNT NAMES
                                      "mkdir -p m/Windows/System32 m/target; "
                                      "for i in $(seq 400); do : >m/Windows/System32/Driver$i.sys; "
                                      "done; ln -s ../target m/Windows/link; : >m/target/file; " //
                                      UNMOUNT,
                                      "ntfs with names");
    static const struct {
        const char *path;
        bool there;
    } paths[] = {
        {"/windows/SYSTEM32/driver377.SYS", true},
        {"/WINDOWS/system32/DRIVER1.sys", true},
        {"/Windows/System32/Driver401.sys", false},
        {"/Windows/System32/Driver", false},
        {"/names/üNÏCODE-ж-😀", true},
        {"/names/upper", true},
        {"/names/LOWER.txt", true},
        {"/names/ß", true},
        {"/names/SS", false},
        {"/names/中文", true},
        {"/names/\xff", false},
        {"/Windows/link/file", false}, /* links are not followed */
    };

    if (opened == NULL)
        return;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        check(tree_has(&opened->tree, paths[i].path) == paths[i].there, "%s is %sthere",
              paths[i].path, paths[i].there ? "" : "not ");
}

/* --- How it was left -------------------------------------------------------------------------- */

/* The bytes behind the first `magic` of the disk. */
#define POKE(magic, distance, bytes)                                                               \
    "python3 -c 'import sys; d = bytearray(open(sys.argv[1], \"rb\").read()); "                    \
    "at = d.index(" magic ") + " distance "; d[at:at + len(" bytes ")] = " bytes "; "              \
    "open(sys.argv[1], \"wb\").write(d)' $D; "
/* Two pages that say where the log begins: nobody uses it, or somebody does. */
#define LOG(users, flags)                                                                          \
    "python3 -c '\n"                                                                               \
    "import struct, sys\n"                                                                         \
    "page = bytearray(4096)\n"                                                                     \
    "page[:4] = b\"RSTR\"\n"                                                                       \
    "struct.pack_into(\"<HH\", page, 4, 30, 9)\n"                                                  \
    "struct.pack_into(\"<IIHhH\", page, 16, 4096, 4096, 48, 1, 1)\n"                               \
    "struct.pack_into(\"<QHHHH\", page, 48, 77, 1, 65535, " users ", " flags ")\n"                 \
    "page[30:32] = b\"\\1\\0\"\n"                                                                  \
    "for end in range(510, 4096, 512): page[end:end + 2] = b\"\\1\\0\"\n"                          \
    "open(\"log\", \"wb\").write(page * 2)' ; "                                                    \
    "ntfscat -fi 2 $D >whole 2>/dev/null; dd if=log of=whole conv=notrunc 2>/dev/null; "           \
    "ntfscp -fi $D whole 2 2>/dev/null; "

static void test_left(void) {
    static const struct {
        const char *name, *script, *codes;
    } forms[] = {
        {"as it was made", MAKE("20M", ""), ""},
        {"marked dirty",
         MAKE("20M", "") POKE("b\"\\x70\\0\\0\\0\\x28\\0\\0\\0\"", "34", "b\"\\1\\0\""),
         "filesystem.dirty"},
        {"a log that nobody uses", MAKE("20M", "") LOG("65535", "0"), ""},
        {"a log that was closed", MAKE("20M", "") LOG("0", "2"), ""},
        {"a log in use", MAKE("20M", "") LOG("0", "0"), "filesystem.dirty"},
        {"hibernated", MAKE("20M", "") "printf hibr >f; ntfscp -f $D f hiberfil.sys 2>/dev/null",
         "filesystem.hibernated"},
        {"awake again", MAKE("20M", "") "printf wake >f; ntfscp -f $D f hiberfil.sys 2>/dev/null",
         ""},
        {"hibernation allowed",
         MAKE("20M", "") "head -c 9000 /dev/zero >f; ntfscp -f $D f hiberfil.sys 2>/dev/null", ""},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(forms[i].script, forms[i].name);

        if (opened != NULL)
            check_codes(opened, forms[i].codes, forms[i].name);
    }
}

/* --- LZNT1 ------------------------------------------------------------------------------------ */

static void test_packed(void) {
    static const struct {
        const char *name, *packed;
        size_t len;
        bool fine;
        const char *out;
    } cases[] = {
        {"letters and a copy",
         "\x05\xb0\x08"
         "abc\x03\x20",
         8, true, "abcabcabc"},
        {"a plain chunk",
         "\x02\x30"
         "abc",
         5, true, "abc"},
        {"nothing", "\0\0", 2, true, ""},
        {"a copy from before the beginning",
         "\x05\xb0\x08"
         "abc\x00\x30",
         8, false, ""},
        {"half a copy",
         "\x04\xb0\x08"
         "abc\x03",
         7, false, ""},
        {"a chunk that goes beyond its unit",
         "\x05\xb0\x08"
         "abc\x03",
         7, false, ""},
        {"a copy that is longer than a chunk",
         "\x03\xb0\x02"
         "a\xff\x0f",
         6, false, ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[4096] = {1};
        bool fine = ntfs_unpack((const uint8_t *) cases[i].packed, cases[i].len, out, sizeof(out));

        check(fine == cases[i].fine && (!fine || strcmp((const char *) out, cases[i].out) == 0),
              "LZNT1: %s", cases[i].name);
    }
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    maker = argv[1];
    test_packed();
    test_left();
    if (!can_write())
        return test_end();
    if (!check(
            run("rm -rf r; mkdir r; python3 $M r; cp -a r less; rm less/many/name-[1-9][0-9][0-9]*",
                ""),
            "a folder is made"))
        return test_end();
    test_forms();
    test_pieces();
    test_names();
    return test_end();
}
