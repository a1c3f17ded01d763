#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A hive of Windows' registry.

make-hive.py HIVE [lf|lh|li|ri] <VALUES

Each line of VALUES is a key, a value's name, and "text" or number, with tabs between; a key alone is
made without values. The second argument is the kind of lists that keys have.
"""
import struct
import sys


class Hive:
    def __init__(self, lists):
        self.cells, self.lists = bytearray(32), lists
        self.keys = 0
        self.security = self.cell(struct.pack("<2sHIIII", b"sk", 0, 32, 32, 0, 20) +
                                  struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0))

    def cell(self, content):
        at, size = len(self.cells), (len(content) + 4 + 7) & ~7
        self.cells += struct.pack("<i", -size) + content + bytes(size - 4 - len(content))
        return at

    def list_of(self, keys):
        """`keys` are names and places."""
        if self.lists == "ri":
            halves = [keys[:len(keys) // 2], keys[len(keys) // 2:]]
            places = [self.hashed(b"lh", half) for half in halves]
            return self.cell(struct.pack("<2sH", b"ri", 2) + struct.pack("<2I", *places))
        if self.lists == "li":
            return self.cell(struct.pack("<2sH", b"li", len(keys)) +
                             b"".join(struct.pack("<I", at) for _, at in keys))
        return self.hashed(self.lists.encode(), keys)

    def hashed(self, kind, keys):
        entries = b""
        for name, at in keys:
            sum_ = 0
            for c in name.upper():
                sum_ = (sum_ * 37 + ord(c)) & 0xffffffff
            entries += struct.pack("<I", at) + (name.encode()[:4].ljust(4, b"\0") if kind == b"lf" else
                                                struct.pack("<I", sum_))
        return self.cell(struct.pack("<2sH", kind, len(keys)) + entries)

    def value(self, name, value):
        if isinstance(value, int):
            kind, size, at = 4, 0x80000004, value
        else:
            text = (value + "\0").encode("utf-16-le")
            kind, size, at = 1, len(text), self.cell(text)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(name), size, at, kind, 1, 0) + name.encode())

    def key(self, name, tree, root):
        keys = sorted((key, self.key(key, below, False)) for key, below in tree["keys"].items())
        values = [self.value(*each) for each in tree["values"].items()]
        keys_at = self.list_of(keys) if keys else 0xffffffff
        values_at = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else 0xffffffff
        ascii_ = name.isascii()
        text = name.encode("ascii" if ascii_ else "utf-16-le")
        self.keys += 1
        at = self.cell(struct.pack("<2sHQIIIIIIIIII", b"nk", (0x20 if ascii_ else 0) | (0x0c if root else 0), 0, 0,
                                     0, len(keys), 0, keys_at, 0xffffffff, len(values), values_at, self.security,
                                     0xffffffff) + struct.pack("<5IHH", 0, 0, 0, 0, 0, len(text), 0) + text)
        for _, child in keys:
            struct.pack_into("<I", self.cells, child + 4 + 16, at)
        return at

    def write(self, path, root):
        struct.pack_into("<I", self.cells, self.security + 4 + 12, self.keys)
        size = (len(self.cells) + 4095) & ~4095
        free = size - len(self.cells)
        if free:
            self.cells += struct.pack("<i", free) + bytes(free - 4)
        struct.pack_into("<4sII", self.cells, 0, b"hbin", 0, size)
        head = bytearray(4096)
        struct.pack_into("<4sIIQIIIIIII", head, 0, b"regf", 1, 1, 0, 1, 5, 0, 1, root, size, 1)
        sum_ = 0
        for word in struct.unpack_from("<127I", head):
            sum_ ^= word
        struct.pack_into("<I", head, 508, sum_)
        with open(path, "wb") as file:
            file.write(head + self.cells)


top = {"keys": {}, "values": {}}
for line in sys.stdin.read().splitlines():
    path, _, rest = line.partition("\t")
    key = top
    for name in filter(None, path.split("\\")):
        key = key["keys"].setdefault(name, {"keys": {}, "values": {}})
    if rest:
        name, _, value = rest.partition("\t")
        key["values"][name] = value[1:-1] if value.startswith('"') else int(value)
hive = Hive(sys.argv[2] if len(sys.argv) > 2 else "lh")
hive.write(sys.argv[1], hive.key("ROOT", top, True))
