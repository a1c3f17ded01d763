# SPDX-License-Identifier: Apache-2.0
"""The small Linux that MAKE-MICRO makes: importing it, what it says when it comes up, and its shell."""
import gzip
import os
import re
import subprocess

from world import GUESTS, Failed, Terminal, check


def make(world, name="micro"):
    """The path of its disk, packed."""
    raw = os.path.join(world.disks, name + ".raw")
    made = subprocess.run([GUESTS[0], raw], capture_output=True, text=True, timeout=900)
    if not check(made.returncode == 0, "a small Linux is made", made.stderr):
        raise Failed("no guest")
    with open(raw, "rb") as file, gzip.open(raw + ".gz", "wb", compresslevel=1) as packed:
        packed.write(file.read())
    os.unlink(raw)
    return raw + ".gz"


def boot(world, instance, after=0):
    """What the guest said of itself when it came up: numbers by name; {} when it did not."""
    found = world.says(instance, r"MICRO up boots=(\d+) cpus=(\d+) memory=(\d+) disk=(\d+)", after)
    check(found, "%s comes up" % instance, lambda: world.console(instance)[-2000:])
    return dict(zip(("boots", "cpus", "memory", "disk"), map(int, found.groups()))) if found else {}


class Shell:
    """The shell on a guest's serial console: with Shell(world, instance) as shell: shell("ls") ..."""

    def __init__(self, world, instance):
        self.console = Terminal(world, "instance", "console", instance)
        self.number = 40
        self.console.hears("Ctrl-]")
        self.console.type("\r")
        self.console.hears("# ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.console.leave()

    def __call__(self, command, **more):
        """What a command prints; "" when it does not end."""
        self.number += 1
        self.console.text = ""
        # The sum is worked out by the guest, so the echo of what was typed is not taken for the end.
        self.console.type("%s; echo done-$((%d+1))-\r" % (command, self.number - 1))
        if not self.console.hears("done-%d-" % self.number, **more):
            return ""
        text = self.console.text.replace("\r", "")
        echo = text.find("done-$((")
        body = text[text.find("\n", echo) + 1:] if echo >= 0 else text
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", body[:body.find("done-%d-" % self.number)]).strip()
