#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Folders for tests of file systems' readers.

make-tree.py FOLDER          makes a tree of all sorts of files, always the same
make-tree.py --holes FOLDER  adds files in many pieces, with holes and with room that was never written
make-tree.py --proto FOLDER  prints the prototype from which mkfs.xfs -p makes the same tree
make-tree.py --btrfs-super DISK  gives the superblock of a btrfs its checksum
make-tree.py --btrfs-trees 0|1 DISK  spoils the first or second copy of all blocks of its trees
"""
import ctypes
import os
import pathlib
import random
import sys

SIZES = (0, 1, 511, 4095, 4096, 4097, 65536, 100_000, 1_500_000)
KEEP_SIZE = 1


def text_of(some, size):
    """Half of it packs well, as text does."""
    return some.randbytes(size // 2) + (b"all work and no play " * (size // 20 + 1))[:size - size // 2]


def make(top):
    some = random.Random(4)
    for name in ("deep/er/and/deeper", "many", "few", "links", "a" * 255):
        (top / name).mkdir(parents=True)
    for size in SIZES:
        (top / "few" / f"size-{size}").write_bytes(text_of(some, size))
    for i in range(3000):
        (top / "many" / f"name-{i}-{'x' * (i % 40)}").write_bytes(b"%d\n" % i if i % 50 == 0 else b"")
    (top / "deep/er/and/deeper/x").write_text("here\n")
    (top / "deep/er/and/deeper").chmod(0o2750)
    (top / "deep/er/and/deeper/x").chmod(0o4711)
    for length in (1, 10, 60, 200):
        (top / "links" / f"to-{length}").symlink_to(("nowhere/" * 128)[:length])
    (top / "links/here").symlink_to("../deep/er/and/deeper/x")


def holes(top):
    libc = ctypes.CDLL(None, use_errno=True)
    some = random.Random(5)
    for name, count, block in (("pieces", 3000, 4096), ("few-pieces", 12, 4096), ("small-pieces", 700, 1024)):
        with open(top / name, "wb") as file:
            for i in range(count):
                file.seek(2 * i * block)
                file.write(some.randbytes(block))
    for length in (400, 900, 1023):  # mkfs.xfs 6.1 writes long ones of version 5 without their header
        (top / "links" / f"to-{length}").symlink_to(("nowhere/" * 128)[:length])
    with open(top / "far", "wb") as file:
        file.seek(5 << 30)
        file.write(b"far away")
    with open(top / "reserved", "wb") as file:
        file.write(b"begins")
        libc.fallocate(file.fileno(), 0, ctypes.c_long(65536), ctypes.c_long(1 << 20))
        file.seek(300_000)
        file.write(b"written later")


def proto(folder, depth, lines):
    for entry in sorted(folder.iterdir()):
        mode = entry.lstat().st_mode
        high = f"{'u' if mode & 0o4000 else '-'}{'g' if mode & 0o2000 else '-'}{mode & 0o777:03o}"
        if entry.is_symlink():
            lines.append(f"{' ' * depth}{entry.name} l--777 0 0 {os.readlink(entry)}")
        elif entry.is_dir():
            lines.append(f"{' ' * depth}{entry.name} d{high} 0 0")
            proto(entry, depth + 1, lines)
            lines.append(f"{' ' * depth}$")
        else:
            lines.append(f"{' ' * depth}{entry.name} -{high} 0 0 {entry}")


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def btrfs_super(disk):
    with open(disk, "r+b") as file:
        file.seek(65536)
        block = file.read(4096)
        file.seek(65536)
        file.write(crc32c(block[32:]).to_bytes(4, "little"))


def btrfs_trees(copy, disk):
    """They are known by the UUID of the file system and their own address within it, which copies share."""
    with open(disk, "r+b") as file:
        file.seek(65536 + 32)
        uuid = file.read(16)
        seen = {}
        for at in range(65536 + 4096, os.path.getsize(disk), 4096):
            file.seek(at)
            head = file.read(56)
            if head[32:48] != uuid or head[48:56] == at.to_bytes(8, "little") and at in (65536, 64 << 20):
                continue
            number = seen[head[48:56]] = seen.get(head[48:56], -1) + 1
            if number == copy:
                file.seek(at + 200)
                file.write(b"spoiled")


if sys.argv[1] == "--btrfs-super":
    sys.exit(btrfs_super(sys.argv[2]))
if sys.argv[1] == "--btrfs-trees":
    sys.exit(btrfs_trees(int(sys.argv[2]), sys.argv[3]))
what, top = (sys.argv[1], pathlib.Path(sys.argv[2])) if len(sys.argv) == 3 else ("", pathlib.Path(sys.argv[1]))
if what == "--proto":
    out = ["/dev/null", "0 0", "d--755 0 0"]
    proto(top, 1, out)
    print("\n".join(out + ["$"]))
elif what == "--holes":
    holes(top)
else:
    make(top)
