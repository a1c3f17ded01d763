#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Passwords and keys of a stopped machine whose system has neither cloud-init nor an agent, its root, xfs, on a logical
volume: its disk is changed, and one logs in at its console. Once imprintd is killed meanwhile. At
the end the machine is captured with trim.

Usage: see world.py; the guest is made by MAKE-LVM, then come the appliance's init and MAKE-APPLIANCE.
"""
import os
import subprocess
import time

import debian
from world import GUESTS, PATIENCE_S, Terminal, World, check, main, note, wait_for

FIRST, SECOND = "Tr0ub4dor-3-horse", "Batt3ry-stapl3"
world = World()
appliance = os.path.join(world.state, "appliance")
raw = os.path.join(world.disks, "lvm.raw")
instance = None


def run(*argv):
    made = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    check(made.returncode == 0, "%s does its work" % os.path.basename(argv[0]), made.stderr)


class Console:
    """The serial console of the machine, from a login prompt on."""

    def __init__(self):
        self.terminal = Terminal(world, "instance", "console", instance)
        self.terminal.hears("Ctrl-]")
        self.terminal.type("\r")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.terminal.leave()

    def logs_in(self, user, password):
        self.terminal.hears("login: $")
        self.terminal.text = ""
        self.terminal.type(user + "\r")
        self.terminal.hears("Password: ")
        self.terminal.text = ""
        self.terminal.type(password + "\r")
        self.terminal.hears("# |\\$ |incorrect")
        return "incorrect" not in self.terminal.text and "# " in self.terminal.text

    def says(self, command, pattern):
        self.terminal.text = ""
        self.terminal.type(command + "\r")
        return self.terminal.hears(pattern, 60)


def starts():
    seen = len(world.console(instance))
    world.do("instance", "start", instance)
    check(world.says(instance, "LVM up", seen), "it starts", lambda: world.console(instance)[-2000:])


def stops():
    world.do("instance", "stop", instance)


def makes():
    global instance
    run(GUESTS[0], raw)
    world.start()
    image = world.do("image", "import", raw, "--name", "lvm")
    found = world.json("image", "inspect", image)
    found = found[0] if isinstance(found, list) else found
    codes = [finding["code"] for finding in found["findings"]]
    check("os.no_cloud_init" in codes and found["errors"] == found["warnings"] == 0 and found["os"]["root"].endswith("/root"),
          "a system on LVM is read, it has no cloud-init, and nothing is wrong with it", found)
    instance = world.run(image, "-m", "192", "-c", "1")
    check(world.says(instance, "LVM up"), "it comes up", lambda: world.console(instance)[-2000:])
    with Console() as console:
        check(not console.logs_in("root", FIRST), "nobody knows a password")


def needs_an_appliance():
    stops()
    refused = world.imprint("instance", "password", instance, "--wait", stdin=FIRST + "\n")
    check(refused.status != 0 and "has no cloud-init" in refused.err and "make-appliance" in refused.err,
          "without the appliance it is told how to make it", refused)
    check(world.status("instance", instance) == "stopped", "and the instance is as before")
    run(GUESTS[2], "--init", GUESTS[1], "--fetch", os.path.join(world.folder, "kernel"), appliance)


def password():
    began = time.monotonic()
    world.do("instance", "password", instance, stdin=FIRST + "\n")
    note("a password into a stopped machine's disk: %.1f s" % (time.monotonic() - began))
    check(not world.one("instance", instance).get("unapplied"), "nothing is left to hand over")
    starts()
    with Console() as console:
        check(console.logs_in("root", FIRST), "root logs in at the console", console.terminal.text)
        check(console.says("stat -c %a:%u:%g /etc/shadow; grep ann: /etc/shadow", "640:0:0\\s+ann:\\$6\\$unknown"),
              "/etc/shadow has its mode and its other lines", console.terminal.text)
        console.says("exit", "login: $")
    log = open(world.log).read()
    check(FIRST not in log and "$6$" not in log, "neither password nor hash is in the log")


def keys():
    stops()
    _, pair = debian.keypair(world, "one")
    world.do("keypair", "attach", pair, instance)
    starts()
    with Console() as console:
        check(console.logs_in("root", FIRST), "root logs in", console.terminal.text)
        check(console.says("stat -c %a:%u:%g /root/.ssh /root/.ssh/authorized_keys; cat /root/.ssh/authorized_keys",
                           "700:0:0\\s+600:0:0\\s+ssh-[^\\n]* " + pair), "the key is where sshd would look", console.terminal.text)
        console.says("exit", "login: $")
    stops()
    world.do("keypair", "detach", pair, instance)


def killed():
    """imprintd is killed while the appliance works."""
    job = world.ask("ResetPassword", **{"instances.1": instance, "login_passwd": SECOND})
    check(wait_for(lambda: any("imprint-mend" in words for _, words in processes()), 60), "an appliance runs")
    world.kill()
    world.start()
    check(wait_for(lambda: world.one("job", job["job_id"])["status"] == "successful", PATIENCE_S, 1),
          "killed in the middle, the job goes on", lambda: world.one("job", job["job_id"]))
    check(world.pool_clean(), "nothing is left over", lambda: world.imprint("pool", "check"))
    starts()
    with Console() as console:
        check(not console.logs_in("root", FIRST), "the old password is gone")
        check(console.logs_in("root", SECOND), "root logs in with the new one", console.terminal.text)
        check(console.says("cat /root/.ssh/authorized_keys | grep -c kp-; echo counted", "(?m)^0\\s+counted"),
              "and the key that was detached is gone", console.terminal.text)
        console.says("exit", "login: $")


def trims():
    """A file that is deleted is not kept with an image of the machine."""
    with Console() as console:
        check(console.logs_in("root", SECOND), "root logs in", console.terminal.text)
        console.says("head -c 64000000 /dev/urandom > /big; sync; echo wrote-$((1+1))", "wrote-2")
        console.says("rm /big; sync; echo gone-$((1+1))", "gone-2")
        console.says("exit", "login: $")
    stops()
    before = stored()
    image = world.do("image", "capture", instance, "--name", "small", "--trim")
    shown = world.one("image", image)
    check(60 << 20 < int(shown["trimmed_bytes"]) < 300 << 20, "what was deleted is given back, and told", shown)
    check(wait_for(lambda: stored() < before - (50 << 20), PATIENCE_S, 1), "the pool has the room back once layers are merged",
          lambda: (before, stored()))
    check(world.pool_clean(), "and is clean", lambda: world.imprint("pool", "check"))
    starts()
    with Console() as console:
        check(console.logs_in("root", SECOND), "the machine starts from what is left", console.terminal.text)


def stored():
    return sum(os.stat(os.path.join(folder, name)).st_blocks * 512 for folder, _, names in os.walk(world.pool) for name in names)


def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(world.folder in word for word in words):
            yield int(pid), words


main(makes, needs_an_appliance, password, keys, killed, trims)
