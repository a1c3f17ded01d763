#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How quiet a running Debian machine is when it is backed up: its agent freezes the file systems, so the point is `fs`
consistent; with a hook of the agent's it is `app`, and the hook's programs ran around it; without the agent it is `crash`.
A machine made from each point finds what was written before, and has no journal to replay where it was quiet.

Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE, or a qcow2 image that it made. Takes many minutes under TCG."""
import json

import debian
from debian import PATIENCE_S, Ssh
from world import World, check, main, note, wait_for

world = World(imprintd_log_level="debug", limits_stop_timeout=600, limits_freeze_timeout=60, virt_tb_cache=128)
# What an administrator puts in, as docs/own-images.md says; it notes in memory what it was told, as the disk is frozen.
HOOK = r"""
printf '#!/bin/sh\necho "$1" >>/run/told\n' | sudo tee /etc/qemu/fsfreeze-hook.d/tell >/dev/null
sudo chmod 755 /etc/qemu/fsfreeze-hook.d/tell
printf '[general]\nfsfreeze-hook=/etc/qemu/fsfreeze-hook\n' | sudo tee /etc/qemu/qemu-ga.conf >/dev/null
sudo systemctl restart qemu-guest-agent
"""
instance = ssh = None


def agent(there):
    state = "connected" if there else "disconnected"
    seen = wait_for(lambda: world.one("instance", instance)["agent_state"] == state, PATIENCE_S, 1)
    check(seen, "its agent is %s" % state, lambda: world.one("instance", instance))


def point(mark, wanted):
    """A snapshot of the running machine, after a mark was written; its id."""
    ssh("echo %s >mark" % mark)  # no sync: that is the freeze's business
    snapshot = world.do("snapshot", "create", instance, "--name", mark, "--full")
    made = world.one("snapshot", snapshot)
    check(made["consistency"] == wanted, "a snapshot says %s" % wanted, made)
    return snapshot


def findings(snapshot):
    result = world.imprint("image", "inspect", snapshot, "-o", "json")
    found = json.loads(result.out)
    return {finding["code"] for finding in (found[0] if isinstance(found, list) else found)["findings"]}


def runs():
    global instance, ssh
    disk = debian.make(world, "debian")
    image = world.do("image", "import", disk, "--name", "debian", "--os-family", "debian", "--default-user", "debian")
    private, key = debian.keypair(world, "one")
    instance = world.do("instance", "run", "--image", image, "-c", "1", "-m", "512", "--keypair", key)
    ssh = Ssh(world, instance, private)
    check(ssh("hostname") == instance, "a Debian machine lets us in")
    agent(True)


def quiet():
    snapshot = point("files", "fs")
    check(ssh("echo still; touch there") == "still", "the machine goes on")
    check("filesystem.dirty" not in findings(snapshot) and "filesystem.damaged" not in findings(snapshot),
          "its root was whole at that moment", lambda: findings(snapshot))
    ssh(HOOK)
    agent(True)
    check(ssh("cat /run/told || echo nothing") == "nothing", "a hook is put in")
    snapshot = point("programs", "app")
    check(ssh("cat /run/told").split() == ["freeze", "thaw"], "its programs were told before and after")
    check("filesystem.dirty" not in findings(snapshot), "and the root was whole", lambda: findings(snapshot))
    ssh("sudo rm /etc/qemu/qemu-ga.conf && sudo systemctl restart qemu-guest-agent")
    agent(True)
    point("again", "fs")
    check(ssh("cat /run/told").split() == ["freeze", "thaw"], "without the hook nothing is told")
    made_of(snapshot)


def made_of(snapshot):
    image = world.do("snapshot", "image", snapshot, "--name", "quiet")
    one = world.do("instance", "run", "--image", image, "-c", "1", "-m", "512", "--keypair",
                   world.json("keypair", "list")[0]["keypair_id"])
    second = Ssh(world, one, ssh.key)
    check(second("cat mark") == "programs", "a machine made of it has what was written before")
    check(second("sudo dmesg | grep -c 'recovery complete' || true") == "0", "and had no journal to replay",
          lambda: second("sudo dmesg | grep -i ext4"))
    world.do("instance", "terminate", one, "--now")


def loud():
    ssh("sudo systemctl stop qemu-guest-agent")
    agent(False)
    point("nothing", "crash")
    world.do("instance", "terminate", instance, "--now")
    check(world.machines() == [], "no QEMU is left", world.machines())


world.start()
note("log: " + world.log)
main(runs, quiet, loud)
