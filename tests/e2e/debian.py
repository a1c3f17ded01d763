# SPDX-License-Identifier: Apache-2.0
"""The Debian machine that BUILD-DEBIAN-IMAGE makes: making its disk, key pairs, and commands in it by SSH."""
import os
import shlex
import subprocess

from world import GUESTS, Failed, check

PATIENCE_S = 1800  # a first boot takes one to three minutes on an idle machine without KVM


def make(world, name, packages=()):
    """The path of its disk; the guest of the test itself where that is one already."""
    if GUESTS[0].endswith(".qcow2"):
        return GUESTS[0]
    disk = os.path.join(world.disks, name + ".qcow2")
    # A cache of its own for each set of packages, as only one root is kept in each.
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "imprint")
    more = ["--packages", ",".join(packages), "--cache", os.path.join(cache, name)] if packages else []
    made = subprocess.run([GUESTS[0], *more, disk], capture_output=True, text=True, timeout=7200)
    if not check(made.returncode == 0, "a Debian image is made", made.stderr[-3000:]):
        raise Failed("no guest")
    return disk


def keypair(world, name):
    """A key pair made by us of which the server has the public half: its private key's path, and its id."""
    path = os.path.join(world.folder, name)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
    result = world.imprint("keypair", "import", path + ".pub", "--name", name, "-q")
    if result.status != 0:
        raise Failed(str(result))
    return path, result.out.split()[0]


class Ssh:
    """Commands in a machine: ssh = Ssh(world, instance, key); ssh("uname -r")."""

    def __init__(self, world, instance, key):
        self.world, self.instance, self.key = world, instance, key

    def __call__(self, command, text=None):
        """What it prints; Failed when it does not work. With text, that it works is a claim of the test."""
        result = self.world.imprint("instance", "ssh", self.instance, "-i", self.key, "--wait", "--timeout", str(PATIENCE_S),
                                    "--", command, seconds=2 * PATIENCE_S)
        detail = lambda: "%s: %s\n%s" % (command, result, self.world.console(self.instance)[-3000:])
        if text is not None:
            check(result.status == 0, text, detail)
        if result.status != 0:
            raise Failed(detail())
        return result.out.strip()

    def send(self, path, name):
        """Copies a file into the machine."""
        line = self.world.imprint("instance", "ssh", self.instance, "-i", self.key, "--print").out.strip()
        with open(path, "rb") as file:
            done = subprocess.run(line + " " + shlex.quote("cat >" + shlex.quote(name)), shell=True, stdin=file,
                                  capture_output=True, text=True, env=self.world.environment(), timeout=2 * PATIENCE_S)
        if done.returncode != 0:
            raise Failed("cannot send %s: %s" % (path, done.stderr))
