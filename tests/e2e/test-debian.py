#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian 12 machine on real QEMU, as its user sees it: SSH with an injected key, host name, password, CPUs, memory and
root disk before and after a resize, keys attached while it runs, and another host after a capture (the machine id is the
image's).
Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE, or a qcow2 image that it made. Takes many minutes under TCG."""
import os
import signal
import subprocess

import debian
from debian import PATIENCE_S
from world import Terminal, World, check, main, note, tail, wait_for

PASSWORD = "Tr0ub4dor-3-horse"
world = World(imprintd_log_level="debug", limits_stop_timeout=600, virt_tb_cache=128)
image = None
keys = {}


def ssh(instance, command, *options, text=None):
    """What a command prints in the machine; None when it cannot be run."""
    result = world.imprint("instance", "ssh", instance, *options, "--wait", "--timeout", str(PATIENCE_S), "--", command,
                           seconds=2 * PATIENCE_S)
    if text is not None:
        check(result.status == 0, text, lambda: "%s\n%s" % (result, world.console(instance)[-3000:]))
    return result.out.strip() if result.status == 0 else None


def facts(instance, *options):
    """What the machine sees of itself, by name."""
    out = ssh(instance, "echo host=$(hostname) cpus=$(nproc) memory=$(sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)"
              " disk=$(sudo blockdev --getsize64 /dev/vda) root=$(df --output=size -B1 / | tail -n 1)"
              " machine=$(cat /etc/machine-id) key=$(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub)", *options,
              text="%s lets us in by SSH" % instance)
    return dict(word.split("=", 1) for word in (out or "").split())


def sizes(seen, text, cpus, mib, gib):
    good = seen and seen["cpus"] == str(cpus) and (mib - 100) << 10 < int(seen["memory"]) <= mib << 10 and \
        int(seen["disk"]) == gib << 30 and (gib - 2) << 30 < int(seen["root"]) <= gib << 30
    check(good, "%s it has %d CPUs, %d MiB, %d GiB and a root file system as large" % (text, cpus, mib, gib), seen)


def refuses(instance, key):
    """Whether the machine does not let this key in."""
    line = world.imprint("instance", "ssh", instance, "-i", key, "--print").out.strip()
    done = subprocess.run(line.replace("ssh ", "ssh -o BatchMode=yes ", 1) + " true", shell=True, capture_output=True,
                          text=True, env=world.environment(), timeout=PATIENCE_S)
    return done.returncode == 255 and "Permission denied" in done.stderr


def keypair(name):
    """A key pair of which the server has the public half; its private key's path."""
    path, keys[name] = debian.keypair(world, name)
    return path


def log_in(instance, user, password):
    """Whether the serial console lets this user in."""
    console = Terminal(world, "instance", "console", instance)
    console.hears("Ctrl-]")
    console.type("\r")
    console.hears("login: ", PATIENCE_S)
    console.type(user + "\r")
    console.hears("Password: ", PATIENCE_S)
    console.type(password + "\r")
    console.hears(r"\$ |# ", PATIENCE_S)
    console.type("echo I-am-$(id -un)-$((6*7)); exit\r")
    there = console.hears("I-am-%s-42" % user, PATIENCE_S)
    console.leave()
    return check(there, "%s logs in with the password" % user, lambda: console.text[-2000:])


def imports():
    global image
    disk = debian.make(world, "debian")
    image = world.do("image", "import", disk, "--name", "debian", "--os-family", "debian", "--default-user", "debian")
    check(world.status("image", image) == "available", "a Debian disk becomes an image")


first = {}


def lives():
    one, two = keypair("one"), keypair("two")
    instance = world.do("instance", "run", "--image", image, "-c", "1", "-m", "512", "--disk", "22", "--hostname", "first",
                        "--keypair", keys["one"])
    first.update(facts(instance, "-i", one), id=instance)
    check(first.get("host") == "first", "its host name is the one we chose", first)
    sizes(first, "as ordered", 1, 512, 22)
    shown = wait_for(lambda: world.one("instance", instance)["agent_state"] == "connected", PATIENCE_S, 1)
    check(shown, "its agent answers", lambda: world.one("instance", instance))
    check(world.one("instance", instance)["unapplied"] == "", "all was applied", lambda: world.one("instance", instance))

    check(refuses(instance, two), "another key is not let in")
    attached = world.imprint("keypair", "attach", keys["two"], instance, "--wait", seconds=PATIENCE_S)
    check(attached.status == 0, "it is attached while the machine runs", attached)
    check(ssh(instance, "id -un", "-i", two) == "debian", "and let in")
    world.imprint("keypair", "detach", keys["two"], instance, "--wait", seconds=PATIENCE_S)
    check(refuses(instance, two), "and not any more when it is detached")

    ssh(instance, "echo of the first >mark; sync", "-i", one, text="it keeps a mark")
    stopped = world.imprint("instance", "stop", instance, "--wait", seconds=PATIENCE_S)
    check(stopped.status == 0, "it stops when asked to", stopped)
    world.do("instance", "resize", instance, "--cpu", "2", "--memory", "768", "--disk", "25")
    world.do("instance", "start", instance)
    again = facts(instance, "-i", one)
    sizes(again, "resized", 2, 768, 25)
    check(again and all(again[name] == first[name] for name in ("machine", "key", "host")), "and is the same machine", again)
    check(ssh(instance, "cat mark", "-i", one) == "of the first", "with its mark")
    world.imprint("instance", "stop", instance, "--wait", seconds=PATIENCE_S)


def captured():
    mark = world.do("image", "capture", first["id"], "--name", "mark")
    world.do("instance", "terminate", first["id"], "--now")
    instance = world.do("instance", "run", "--image", mark, "-c", "2", "-m", "512", "--hostname", "second",
                        "--keypair", keys["one"])
    one = os.path.join(world.folder, "one")
    second = facts(instance, "-i", one)
    check(second.get("host") == "second", "it has the new host name", second)
    check(second.get("key") not in (None, "", first["key"]), "and another host key", (first, second))
    check(ssh(instance, "cat mark", "-i", one) == "of the first", "the mark is there")
    world.do("instance", "password", instance, stdin=PASSWORD + "\n")
    log_in(instance, "debian", PASSWORD)
    world.do("instance", "terminate", instance, "--now")
    world.do("image", "delete", mark, image, "--now")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    check(world.machines() == [], "no QEMU is left", world.machines())
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))


world.start()
note("log: " + world.log)
main(imports, lives, captured)
