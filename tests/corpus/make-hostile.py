#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes disk images that want to be refused, each for a reason of its own.

make-hostile.py FOLDER SECRET: fills FOLDER; SECRET is the path of a file of the host that the leaking
ones refer to. FOLDER/index has a line for each: name, declared format (or -), word that the refusal
must hold. Needs qemu-img for the sound images that are then spoiled."""
import os, struct, subprocess, sys, zlib

folder, secret = sys.argv[1], os.path.abspath(sys.argv[2])
MIB = 1 << 20
index = []


def path(name):
    return os.path.join(folder, name)


def run(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def read(name):
    with open(path(name), "rb") as f:
        return bytearray(f.read())


def save(name, data, word, declared="-"):
    with open(path(name), "wb") as f:
        for at in range(0, len(data), 4096):  # holes where there are zeros
            if data[at:at + 4096].strip(b"\0"):
                f.seek(at)
                f.write(data[at:at + 4096])
        f.truncate(len(data))
    index.append((name, declared, word))


def note(name, word, declared="-"):
    index.append((name, declared, word))


def patch(data, *changes):
    """changes: (offset, struct format, value)"""
    data = bytearray(data)
    for offset, form, value in changes:
        struct.pack_into(form, data, offset, value)
    return data


# A sound disk of 4 MiB: boot sector with code, data here and there.
disk = bytearray(4 * MIB)
disk[0:4] = b"\xeb\xfe\x90\x90"
disk[510:512] = b"\x55\xaa"
for at in (MIB, 2 * MIB + 65536, 4 * MIB - 512):
    disk[at:at + 512] = b"imprint!" * 64
with open(path("sound.raw"), "wb") as f:
    f.write(disk)
for name, form, opts in (("qcow2", "qcow2", ""), ("vmdk", "vmdk", "subformat=monolithicSparse"),
                         ("stream.vmdk", "vmdk", "subformat=streamOptimized"), ("vdi", "vdi", ""),
                         ("vhd", "vpc", "subformat=dynamic,force_size=on"),
                         ("fixed.vhd", "vpc", "subformat=fixed,force_size=on"), ("vhdx", "vhdx", "")):
    run("qemu-img", "convert", "-f", "raw", "-O", form, *(["-o", opts] if opts else []), path("sound.raw"),
        path("sound." + name))

# --- qcow2 ---
good = read("sound.qcow2")
l1 = struct.unpack_from(">Q", good, 40)[0]
l2 = struct.unpack_from(">Q", good, l1)[0] & 0x00fffffffffffe00
run("qemu-img", "create", "-f", "qcow2", "-b", secret, "-F", "raw", path("backing.qcow2"))
note("backing.qcow2", "backing")
run("qemu-img", "create", "-f", "qcow2", "-u", "-b",
    'json:{"driver":"raw","file":{"driver":"file","filename":"%s"}}' % secret, "-F", "raw",
    path("json-backing.qcow2"), "1M")
note("json-backing.qcow2", "json:")
run("qemu-img", "create", "-f", "qcow2", "-o", "data_file=%s,data_file_raw=on" % path("own-data"),
    path("data-file.qcow2"), "1M")
data = read("data-file.qcow2")
at = 104 if struct.unpack_from(">I", data, 4)[0] == 3 else 72
at = struct.unpack_from(">I", data, 100)[0]
while True:  # replaces the name by the secret's
    kind, length = struct.unpack_from(">II", data, at)
    if kind == 0x44415441:
        rest = bytes(data[at + 8 + (length + 7) // 8 * 8:65536])
        name = secret.encode()
        entry = struct.pack(">II", kind, len(name)) + name + b"\0" * (-len(name) % 8)
        data[at:65536] = (entry + rest)[:65536 - at].ljust(65536 - at, b"\0")
        break
    at += 8 + (length + 7) // 8 * 8
save("data-file.qcow2", data, "data file")
save("encrypted.qcow2", patch(good, (32, ">I", 2)), "encrypt")
run("cp", path("sound.qcow2"), path("snapshot.qcow2"))
run("qemu-img", "snapshot", "-c", "one", path("snapshot.qcow2"))
note("snapshot.qcow2", "snapshot")
save("unknown-bit.qcow2", patch(good, (72, ">Q", 1 << 40)), "feature")
save("corrupt-bit.qcow2", patch(good, (72, ">Q", 2)), "corrupt")
save("cluster-bits-63.qcow2", patch(good, (20, ">I", 63)), "cluster")
save("size-huge.qcow2", patch(good, (24, ">Q", 1 << 62)), "too small")
save("l1-beyond.qcow2", patch(good, (40, ">Q", 1 << 40)), "L1 table")
save("l1-short.qcow2", patch(good, (36, ">I", 0)), "too small for 4194304")
save("l2-beyond.qcow2", patch(good, (l1, ">Q", (1 << 63) | (1 << 40))), "L2 table")
save("l1-loop.qcow2", patch(good, (l1, ">Q", (1 << 63) | l1)), "used twice")
save("cluster-beyond.qcow2", patch(good, (l2, ">Q", (1 << 63) | (1 << 40))), "cluster for 0")
save("cluster-twice.qcow2", patch(good, (l2 + 8, ">Q", struct.unpack_from(">Q", good, l2)[0])), "data at")
save("header-length.qcow2", patch(good, (100, ">I", 3)), "header")
save("cut.qcow2", good[:-65536], "cut short")
save("version-1.qcow", patch(good, (4, ">I", 1)), "version")
iso = bytearray(good.ljust(65536, b"\0"))
iso[0x8001:0x8006] = b"CD001"
save("cd-and.qcow2", iso, "CD")
save("boot-and.qcow2", patch(good, (510, "<H", 0xaa55)), "boot sector")
save("vhd-behind.qcow2", good + read("sound.vhd")[-512:], "ends as")
save("declared-raw.qcow2", good, "declared", "raw")
save("declared-qcow2.raw", disk, "declared", "qcow2")
save("declared-unknown.raw", disk, "qed", "qed")

# --- vmdk ---
good = read("sound.vmdk")
descriptor = struct.unpack_from("<Q", good, 28)[0] * 512
length = struct.unpack_from("<Q", good, 36)[0] * 512
text = bytes(good[descriptor:descriptor + length]).rstrip(b"\0").decode()
directory = struct.unpack_from("<Q", good, 56)[0] * 512


def described(changed):
    data = bytearray(good)
    data[descriptor:descriptor + length] = changed.encode().ljust(length, b"\0")
    return data


extent = [l for l in text.splitlines() if l.startswith("RW ")][0]
save("flat.vmdk", ("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
                   'createType="monolithicFlat"\nRW 2048 FLAT "%s" 0\n' % secret).encode(), "descriptor")
save("flat-inside.vmdk", described(text.replace(extent, 'RW 8192 FLAT "%s" 0' % secret)), "FLAT")
save("elsewhere.vmdk", described(text.replace(extent, 'RW 8192 SPARSE "/etc/passwd"')), "somewhere else")
save("two-extents.vmdk", described(text.replace(extent, extent + "\n" + extent)), "more than one")
save("parent.vmdk", described(text.replace("parentCID=ffffffff", "parentCID=12345678")), "12345678")
save("parent-hint.vmdk", described(text + '\nparentFileNameHint="%s"\n' % secret), "names the file")
save("split.vmdk", described(text.replace("monolithicSparse", "twoGbMaxExtentSparse")), "twoGb")
save("no-kind.vmdk", described(text.replace("createType", "xxxx")), "what kind")
save("no-extent.vmdk", described(text.replace(extent, "")), "no extent")
save("no-descriptor.vmdk", patch(good, (28, "<Q", 0)), "no descriptor")
save("capacity.vmdk", patch(good, (12, "<Q", 1 << 60)), "overflows")
save("huge.vmdk", patch(good, (12, "<Q", 1 << 45)), "limit")
save("grain-0.vmdk", patch(good, (20, "<Q", 0)), "grains of 0")
save("directory-beyond.vmdk", patch(good, (56, "<Q", 1 << 50)), "directory lies beyond")
save("table-beyond.vmdk", patch(good, (directory, "<I", 0xfffffff0)), "table 0")
save("version.vmdk", patch(good, (4, "<I", 9)), "version 9")
save("as-text.vmdk", patch(good, (73, "<I", 0x0a0a0a0a)), "as text")
save("esx.vmdk", b"COWD" + bytes(2044), "ESX")
stream = read("sound.stream.vmdk")
save("compression.vmdk", patch(stream, (77, "<H", 7)), "compression 7")
# A stream whose directory stands at the end, cut before it.
save("cut-stream.vmdk", patch(stream, (56, "<Q", (1 << 64) - 1))[:len(stream) - 1536], "footer")
# A descriptor of a disk of many tables that are all the same one.
many = patch(good, (12, "<Q", 1 << 20))
table = struct.unpack_from("<I", good, directory)[0]
for i in range(1 << 4):
    struct.pack_into("<I", many, directory + 4 * i, table)
save("tables-twice.vmdk", many, "share one place")

# --- vdi ---
good = read("sound.vdi")
table = struct.unpack_from("<I", good, 0x154)[0]
save("difference.vdi", patch(good, (0x4c, "<I", 4)), "difference")
save("type.vdi", patch(good, (0x4c, "<I", 77)), "type 77")
save("version.vdi", patch(good, (0x44, "<I", 0x90000)), "version 9")
save("blocks-3.vdi", patch(good, (0x178, "<I", 3)), "3 bytes")
save("table-short.vdi", patch(good, (0x180, "<I", 1)), "too small")
save("table-askew.vdi", patch(good, (0x154, "<I", 513)), "askew")
save("block-beyond.vdi", patch(good, (table, "<I", 0x1000)), "block 0 lies beyond")
save("blocks-twice.vdi", patch(good, (table + 4, "<I", struct.unpack_from("<I", good, table)[0])), "share")
save("size-odd.vdi", patch(good, (0x170, "<Q", 4 * MIB - 3)), "multiple")
save("size-zero.vdi", patch(good, (0x170, "<Q", 0)), "zero")
save("sectors.vdi", patch(good, (0x168, "<I", 4096)), "unusual")


# --- vhd ---
def sum_up(data, at, length, place):
    struct.pack_into(">I", data, at + place, 0)
    struct.pack_into(">I", data, at + place, ~sum(data[at:at + length]) & 0xffffffff)
    return data


def footed(data, *changes):
    end = len(data) - 512
    return sum_up(patch(data, *((end + at, form, value) for at, form, value in changes)), end, 512, 64)


good = read("sound.vhd")
header = struct.unpack_from(">Q", good, 16)[0]
bat = struct.unpack_from(">Q", good, header + 16)[0]
save("difference.vhd", footed(good, (60, ">I", 4)), "difference")
save("type.vhd", footed(good, (60, ">I", 9)), "type 9")
save("version.vhd", footed(good, (12, ">I", 0x70000)), "version 7")
save("size-huge.vhd", footed(good, (48, ">Q", 1 << 60)), "limit")
save("checksum.vhd", patch(good, (len(good) - 512 + 20, ">I", 12345)), "checksum")
save("header.vhd", patch(good, (header + 28, ">I", 1)), "header is damaged")
save("table-short.vhd", sum_up(patch(good, (header + 28, ">I", 1)), header, 1024, 36), "too small")
save("blocks-3.vhd", sum_up(patch(good, (header + 32, ">I", 3)), header, 1024, 36), "3 bytes")
save("table-beyond.vhd", sum_up(patch(good, (header + 16, ">Q", 1 << 60)), header, 1024, 36), "block table lies beyond")
save("block-beyond.vhd", patch(good, (bat, ">I", 0x7fffff00)), "block 0 lies beyond")
save("block-on-table.vhd", patch(good, (bat, ">I", 0)), "own tables")
fixed = read("sound.fixed.vhd")
save("cut-fixed.vhd", fixed[:2 * MIB] + fixed[-512:], "shorter")

# --- vhdx ---
good = read("sound.vhdx")


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def headed(*changes):
    data = bytearray(good)
    for at in (65536, 131072):
        for offset, form, value in changes:
            struct.pack_into(form, data, at + offset, value)
        struct.pack_into("<I", data, at + 4, 0)
        struct.pack_into("<I", data, at + 4, crc32c(data[at:at + 4096]))
    return data


regions = {}
for i in range(struct.unpack_from("<I", good, 196608 + 8)[0]):
    at = 196608 + 16 + 32 * i
    regions[bytes(good[at:at + 4])] = struct.unpack_from("<Q", good, at + 16)[0]
bat, metadata = regions[b"\x66\x77\xc2\x2d"], regions[b"\x06\xa2\x7c\x8b"]
items = {}
for i in range(struct.unpack_from("<H", good, metadata + 10)[0]):
    at = metadata + 32 + 32 * i
    items[bytes(good[at:at + 4])] = (at, metadata + struct.unpack_from("<I", good, at + 16)[0])
save("log.vhdx", headed((48, "<Q", 1)), "log")
save("version.vhdx", headed((66, "<H", 5)), "version 5")
save("headers.vhdx", patch(good, (65536 + 8, "<Q", 99), (131072 + 8, "<Q", 99)), "headers")
save("regions.vhdx", patch(good, (196608 + 8, "<I", 9), (262144 + 8, "<I", 9)), "region tables")
save("parent.vhdx", patch(good, (items[b"\x37\x67\xa1\xca"][1] + 4, "<I", 2)), "difference")
save("blocks.vhdx", patch(good, (items[b"\x37\x67\xa1\xca"][1], "<I", 12345)), "12345")
save("size.vhdx", patch(good, (items[b"\x24\x42\xa5\x2f"][1], "<Q", 1 << 62)), "limit")
save("sectors.vhdx", patch(good, (items[b"\x1d\xbf\x41\x81"][1], "<I", 777)), "777")
save("item-outside.vhdx", patch(good, (items[b"\x24\x42\xa5\x2f"][0] + 16, "<I", 0xfffffff0)), "outside")
save("metadata.vhdx", patch(good, (metadata, "<Q", 7)), "metadata is damaged")
save("unknown-item.vhdx", patch(good, (items[b"\x1d\xbf\x41\x81"][0], "<Q", 7)), "not known")
save("partial.vhdx", patch(good, (bat, "<Q", MIB * 3 + 7)), "partly")
save("state.vhdx", patch(good, (bat, "<Q", MIB * 3 + 5)), "state 5")
save("block-beyond.vhdx", patch(good, (bat, "<Q", (1 << 50) + 6)), "block 0 lies beyond")

# --- other things ---
save("empty", b"", "empty")
save("zeros", bytes(MIB), "zeros")
save("junk", b"junk " * 2000, "neither")
save("ext4", bytes(1080) + b"\x53\xef" + bytes(MIB), "ext")
save("xfs", b"XFSB" + bytes(MIB), "XFS")
save("qed", b"QED\0" + bytes(MIB), "QED")
save("bochs", b"Bochs Virtual HD Image" + bytes(MIB), "Bochs")
save("cloop", b"#!/bin/sh\n#V2.0 Format\n" + bytes(MIB), "cloop")
save("parallels", b"WithoutFreeSpace" + bytes(MIB), "Parallels image")
save("parallels-2", b"WithouFreSpacExt" + bytes(MIB), "extended")
save("dmg", bytes(MIB) + b"koly" + bytes(508), "dmg")
save("luks", b"LUKS\xba\xbe\0\1" + bytes(MIB), "LUKS")
save("tar", bytes(257) + b"ustar" + bytes(MIB), "OVA")
save("zip", b"PK\3\4" + bytes(MIB), "zip")
save("7z", b"7z\xbc\xaf\x27\x1c" + bytes(MIB), "7z")
save("page", b"<!DOCTYPE html><title>404</title>" + bytes(600), "web page")
save("program", b"\x7fELF" + bytes(MIB), "program")
save("wim", b"MSWIM\0\0\0" + bytes(MIB), "WIM")
mbr = bytearray(MIB)
mbr[510:512] = b"\x55\xaa"
struct.pack_into("<BBBBBBBBII", mbr, 446, 0x80, 0, 0, 0, 0x83, 0, 0, 0, 2048, 1 << 20)
save("partition-beyond", mbr, "partition 1 ends at")
mbr[446 + 4] = 0xee
save("gpt-missing", mbr, "announces a GPT")
gpt = bytearray(MIB)
gpt[512:520] = b"EFI PART"
struct.pack_into("<II", gpt, 520, 0x10000, 92)
struct.pack_into("<QII", gpt, 512 + 72, 2, 128, 128)
save("gpt-checksum", gpt, "checksum of its GPT")


def gpt_sum(data):
    struct.pack_into("<I", data, 528, 0)
    struct.pack_into("<I", data, 528, zlib.crc32(data[512:604]))
    return data


save("gpt-empty", gpt_sum(bytearray(gpt)), "GPT partition table is empty")
save("gpt-form", gpt_sum(patch(gpt, (512 + 84, "<I", 3))), "impossible form")
backwards = bytearray(gpt)
backwards[1024:1040] = b"x" * 16
struct.pack_into("<QQ", backwards, 1024 + 32, 100, 50)
save("gpt-backwards", gpt_sum(backwards), "ends before it begins")

with open(path("index"), "w") as f:
    for row in index:
        f.write("\t".join(row) + "\n")
