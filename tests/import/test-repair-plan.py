#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What would repair an image: told by the real command line, imprintd and worker, and nothing changes.

Usage: test-repair-plan.py IMPRINTD IMPRINT WORKER"""
import hashlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from world import World, check, main  # noqa: E402

UUID = "11111111-2222-3333-4444-555555555555"
world = World(virt_uri="memory:")
image = ""


def sh(script):
    subprocess.run(["sh", "-ec", script], check=True, cwd=world.disks, stdout=subprocess.DEVNULL)


def layers():
    """Every byte of the pool."""
    sums = {}
    for folder, _, names in os.walk(world.state):
        for name in names:
            if name.endswith(".qcow2"):
                with open(os.path.join(folder, name), "rb") as file:
                    sums[name] = hashlib.sha256(file.read()).hexdigest()
    return sums


def prepare():
    global image
    sh("mkdir -p r/etc/cloud r/etc/ssh; printf 'ID=debian\\nVERSION_ID=12\\n' >r/etc/os-release;"
       "printf 'proc /proc proc\\n/dev/sda1 / ext4 defaults 0 1\\n' >r/etc/fstab; echo 0123456789abcdef >r/etc/machine-id;"
       "echo x >r/etc/cloud/cloud.cfg; truncate -s 60M p; /sbin/mkfs.ext4 -qF -U " + UUID + " -d r p; truncate -s 64M d.raw;"
       "printf 'label: dos\\n2048,122880,83,*\\n' | /sbin/sfdisk -q d.raw;"
       "printf '\\372\\353' | dd of=d.raw conv=notrunc 2>/dev/null; dd if=p of=d.raw bs=1M seek=1 conv=notrunc,sparse 2>/dev/null")
    world.start()
    image = world.do("image", "import", os.path.join(world.disks, "d.raw"), "--server-path")


def plans():
    before = layers()
    told = world.imprint("image", "plan", image)
    check(told.status == 0 and f"names / as UUID={UUID} instead of /dev/sda1 [fstab.name]" in told.out, "a repair is told", told)
    check(f"\n-/dev/sda1 / ext4 defaults 0 1\n+UUID={UUID} / ext4 defaults 0 1\n" in told.out, "and shown as a difference", told)
    check("    empty /etc/machine-id\n" in told.out, "what is no text is a step", told)
    one = world.imprint("image", "plan", image, "--only", "fstab.name")
    check(one.status == 0 and "machine-id" not in one.out and "[fstab.name]" in one.out, "only what is asked for", one)
    sealed = world.imprint("image", "plan", image, "--seal", "machine-id,logs", "-o", "json")
    check(sealed.status == 0 and '"empty /etc/machine-id"' in sealed.out and "fstab" not in sealed.out, "sealing alone", sealed)
    again = world.imprint("image", "plan", image)
    check(again.out == told.out, "it is the same each time", again)
    check(layers() == before and len(before) > 0, "no byte of the pool has changed")


def refused():
    bad = world.imprint("image", "plan", image, "--only", "disk.empty")
    check(bad.status != 0 and "there is no repair for findings of [disk.empty]" in bad.err, "what has no repair is named", bad)
    none = world.imprint("image", "plan", "img-00000000")
    check(none.status != 0 and "img-00000000" in none.err, "nor is there a plan for nothing", none)
    found = world.imprint("image", "inspect", image, "--json")
    check('"repairable": 1' in found.out, "the report says what can be repaired", found)


main(prepare, plans, refused)
