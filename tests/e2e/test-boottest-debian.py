#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boot tests of Debian 12: one that comes up, under BIOS and under UEFI, and others with one thing broken on their disk each.
Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE, or a qcow2 image that it made. Takes many minutes under TCG."""
import json
import os
import re
import subprocess

import debian
from world import World, check, main

SECONDS = "900"
ROOT = 20480 * 512  # where the image's root file system is
world = World(boottest_at_once=2, virt_tb_cache=128)
good = os.path.join(world.disks, "good.raw")


def debugfs(disk, *commands):
    done = subprocess.run(["debugfs", "-w", "-f", "-", "%s?offset=%d" % (disk, ROOT)], input="\n".join(commands) + "\n",
                          capture_output=True, text=True)
    return done.stdout


def rewrite(path, change):
    """Replaces a file of the root by what change() makes of its text."""
    def apply(disk):
        copy = disk + ".file"
        subprocess.run(["debugfs", "-R", "dump %s %s" % (path, copy), "%s?offset=%d" % (disk, ROOT)], check=True,
                       capture_output=True)
        with open(copy) as file:
            text = file.read()
        with open(copy, "w") as file:
            file.write(change(text))
        debugfs(disk, "rm " + path, "write %s %s" % (copy, path))
        os.unlink(copy)
    return apply


def remove(path):
    return lambda disk: debugfs(disk, "rm " + path)


def zero(count):
    def apply(disk):
        with open(disk, "r+b") as file:
            file.write(b"\0" * count)
    return apply


CASES = [
    # name, what is broken, more words, reason, what the evidence has
    ("emergency", rewrite("/etc/fstab", lambda text: text + "UUID=deadbeef-0000-4000-8000-000000000000 /data ext4 defaults 0 2\n"),
     [], "emergency_mode", "data"),
    ("wrong-root", rewrite("/boot/grub/grub.cfg", lambda text: re.sub(r"root=UUID=[0-9a-f]{8}", "root=UUID=deadbeef", text)),
     [], "root_not_found", "UUID=deadbeef"),
    ("panic", rewrite("/boot/grub/grub.cfg", lambda text: text.replace(" quiet", " quiet init=/bin/false")),
     [], "kernel_panic", "Attempted to kill init"),
    ("no-initrd", remove("/initrd.img"), [], "initrd_missing", "/initrd.img"),
    ("no-kernel", remove("/vmlinuz"), [], "boot_loader_error", "/vmlinuz"),
    ("no-config", remove("/boot/grub/grub.cfg"), [], "boot_loader_prompt", "grub>"),
    # Its EFI partition is whole, and the import finds that out.
    ("no-boot-code", zero(440), ["--firmware", "bios"], "boot_code_silent", ""),
    ("no-loader", zero(2 << 20), [], "no_boot_loader", "not a bootable disk"),
    ("no-loader-uefi", zero(2 << 20), ["--firmware", "uefi"], "no_boot_loader", "BdsDxe: failed to load"),
]


def starts():
    disk = debian.make(world, "debian")
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, good], check=True)
    world.start()


def begin(name, change, words):
    disk = os.path.join(world.disks, name + ".raw")
    subprocess.run(["cp", "--sparse=always", good, disk], check=True)
    if change:
        change(disk)
    image = world.do("image", "import", disk, "--name", name, "--force", seconds=900)
    os.unlink(disk)
    return world.begin("image", "boot-test", image, "--memory", "512", "--timeout", SECONDS, "-o", "json", *words)


def report(running, status):
    out, err = running.communicate(timeout=3 * int(SECONDS))
    check(running.returncode == status, "exit status %d" % status, out + err)
    try:
        return json.loads(out)[0]
    except (ValueError, IndexError):
        return {}


def boots():
    both = {"bios": begin("with-bios", None, []), "uefi": begin("with-uefi", None, ["--firmware", "uefi"])}
    for firmware, running in both.items():
        test = report(running, 0)
        marks = {line["mark"]: line["ms"] for line in test.get("timeline", [])}
        check(test.get("verdict") == "boots" and test.get("firmware") == firmware, "it boots with " + firmware, test)
        check({"boot_loader", "kernel", "init", "dhcp", "ssh", "guest_agent"} <= set(marks), "each sign of it is seen", marks)
        check(marks.get("boot_loader", 1 << 60) < marks.get("kernel", 0) < marks.get("init", 0), "one after the other", marks)
        check(test.get("clean_shutdown") == 1, "it powers off when it is asked to", test)


def does_not():
    under_way = [(case, begin(case[0], case[1], case[2])) for case in CASES]
    for (name, _, _, reason, evidence), running in under_way:
        test = report(running, 1)
        check(test.get("verdict") == "does_not_boot" and test.get("reason") == reason and evidence in test.get("evidence", ""),
              "%s: %s" % (name, reason), test)
    check(world.machines() == [] and world.pool_clean(), "nothing is left of them")


main(starts, boots, does_not)
