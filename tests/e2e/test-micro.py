#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small Linux on real QEMU: what a guest itself sees of its CPUs, memory and disk, before and after a resize, and marks
that it wrote, in an image captured of it and in a clone. Usage: see world.py; the guest is made by MAKE-MICRO."""
import gzip
import os
import signal
import subprocess

from world import GUESTS, Terminal, World, check, main, tail

world = World()
image = None


def boot(instance, after=0):
    """What the guest said of itself when it came up: numbers by name; {} when it did not."""
    found = world.says(instance, r"MICRO up boots=(\d+) cpus=(\d+) memory=(\d+) disk=(\d+)", after)
    check(found, "%s comes up" % instance, lambda: world.console(instance)[-2000:])
    return dict(zip(("boots", "cpus", "memory", "disk"), map(int, found.groups()))) if found else {}


def has(seen, text, boots, cpus, mib, gib):
    # The kernel keeps some of the memory for itself.
    good = seen and (seen["boots"], seen["cpus"], seen["disk"]) == (boots, cpus, gib << 21) and \
        (mib - 40) << 10 < seen["memory"] <= mib << 10
    check(good, "%s: boot %d, %d CPU, %d MiB, %d GiB" % (text, boots, cpus, mib, gib), seen)


def shell(instance, command, answer, text):
    """A command typed at the serial console's shell."""
    console = Terminal(world, "instance", "console", instance)
    console.hears("Ctrl-]")
    console.type("\r")
    console.hears("# ")
    console.type(command + "\r")
    check(console.hears(answer), text, lambda: console.text)
    console.leave()


def imports():
    global image
    raw = os.path.join(world.disks, "micro.raw")
    made = subprocess.run([GUESTS[0], raw], capture_output=True, text=True, timeout=900)
    check(made.returncode == 0, "a small Linux is made", made.stderr)
    with open(raw, "rb") as file, gzip.open(raw + ".gz", "wb", compresslevel=1) as packed:
        packed.write(file.read())
    os.unlink(raw)
    image = world.do("image", "import", raw + ".gz", "--name", "micro")
    check(world.status("image", image) == "available", "packed with gzip it becomes an image")


def changes():
    first = world.run(image, "--cpu", "1", "--memory", "128")
    has(boot(first), "as ordered", 1, 1, 128, 20)
    shell(first, "echo of-the-$((40+2)) >/data/mark; sync; cat /data/mark", "of-the-42", "its shell writes a mark to the disk")
    world.do("instance", "stop", first)
    check("MICRO off" in world.console(first), "its power button stops it", lambda: world.console(first)[-500:])
    after = len(world.console(first))
    world.do("instance", "resize", first, "--cpu", "2", "--memory", "192", "--disk", "21")
    world.do("instance", "start", first)
    has(boot(first, after), "resized", 2, 2, 192, 21)

    copy = world.do("instance", "clone", first)
    has(boot(copy), "cloned while it ran", 3, 2, 192, 21)
    shell(copy, "cat /data/mark", "of-the-42", "the clone has the mark")
    world.do("instance", "terminate", copy, "--now")

    world.do("instance", "stop", first)
    captured = world.do("image", "capture", first, "--name", "marked")
    after = len(world.console(first))
    world.do("instance", "reset", first)
    world.do("instance", "start", first)
    has(boot(first, after), "reset to its image", 1, 2, 192, 21)
    shell(first, "cat /data/mark || echo none", "No such file", "has no mark any more")
    world.do("instance", "terminate", first, "--now")

    again = world.run(captured, "--cpu", "1", "--memory", "128")
    has(boot(again), "from the captured image", 3, 1, 128, 21)
    shell(again, "cat /data/mark", "of-the-42", "the mark is there")
    world.do("instance", "terminate", again, "--now")
    world.do("image", "delete", captured, image, "--now")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    check(world.machines() == [], "no QEMU is left", world.machines())
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))


world.start()
main(imports, changes)
