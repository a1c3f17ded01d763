#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images and instances from one end to the other on real QEMU, with a guest of 512 bytes that counts, on its own disk,
how often it booted, and says so on its serial console. Usage: see world.py; the guest is NANO.BIN."""
import os
import re
import signal
import subprocess

from world import GUESTS, Failed, Terminal, World, check, main, wait_for

GIB = 1 << 30
# Never looks at its power button: cli; hlt; jmp to the hlt.
DEAF = b"\xfa\xf4\xeb\xfd"
# Works as hard as it can: cli; jmp to itself.
BUSY = b"\xfa\xeb\xfe"

world = World(limits_stop_timeout=120)
images = {}


def disk(name, code):
    path = os.path.join(world.disks, name)
    with open(path, "wb") as file:
        file.write(code.ljust(510, b"\0")[:510] + b"\x55\xaa")
        file.truncate(1 << 20)
    return path


def run(image, *words):
    return world.run(image, "--cpu", "1", "--memory", "16", *words)


def boots(instance, number, after=0, text=None):
    """The claim that the guest read `number` - 1 boots from its disk and wrote one more."""
    found = world.says(instance, r"NANO up disks=\w+ boots=%08X\r?\n" % number, after)
    check(found, text or "%s has booted %d times, its disk says" % (instance, number), lambda: world.console(instance))


def imports():
    with open(GUESTS[0], "rb") as file:
        nano = file.read()
    images["nano"] = world.do("image", "import", disk("nano.raw", nano), "--server-path", "--name", "nano")
    check(world.status("image", images["nano"]) == "available", "a disk on the server's host becomes an image")
    images["deaf"] = world.do("image", "import", disk("deaf.raw", DEAF), "--name", "deaf")
    check(world.status("image", images["deaf"]) == "available", "and one that is uploaded")

    secret = os.path.join(world.disks, "secret")
    with open(secret, "w") as file:
        file.write("of the host\n" * 1000)
    trap = os.path.join(world.disks, "trap.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", secret, trap, "1G"], check=True)
    refused = world.imprint("image", "import", trap, "--server-path", "--wait")
    check(refused.status == 1 and "backing file" in refused.err, "one that names another file is refused, with the reason",
          refused)
    jobs = world.json("job", "list", "--action", "ImportImage", "--status", "failed")
    check(len(jobs) == 1 and "backing file" in jobs[0]["error_message"], "which its job says, too", jobs)
    check(len(world.json("image", "list")) == 2, "and leaves no image")
    check(world.pool_clean(), "and nothing in the pool", lambda: world.imprint("pool", "check"))


def lives():
    first = run(images["nano"], "--name", "first")
    boots(first, 1, text="an instance of it boots")
    check(world.machine(first), "in a QEMU of its own")

    console = Terminal(world, "instance", "console", first)
    console.hears("Ctrl-]")
    console.type("hello nano")
    check(console.hears("hello nano"), "its serial console answers on a terminal", lambda: console.text)
    console.type("r")
    check(console.hears(r"boots=00000002"), "and shows a reset from within", lambda: console.text)
    check(console.leave() == 0, "Ctrl-] leaves it", lambda: console.text)
    boots(first, 2, text="what was seen there is in its log")
    log = world.imprint("instance", "log", first)
    check("hello nano" in log.out and "boots=00000002" in log.out, "which the command line shows", log)

    world.do("instance", "restart", first)
    boots(first, 3, text="it restarts")
    world.do("instance", "stop", first)
    check("NANO off" in world.console(first), "asked to stop, it powers itself off")
    check(world.status("instance", first) == "stopped" and not world.machine(first), "and is stopped")

    images["mark"] = world.do("image", "capture", first, "--name", "mark")
    check(world.status("image", images["mark"]) == "available", "its disk becomes an image")
    world.do("instance", "terminate", first)
    check(world.status("instance", first) == "terminated", "it goes to the recycle bin")
    world.do("instance", "cease", first)
    check(world.status("instance", first) == "ceased", "and for good")
    check(not os.path.exists(os.path.join(world.state, "console", first + ".log")), "with the log of its console")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))

    again = run(images["mark"])
    boots(again, 4, text="an instance of the captured image has the mark of the first")
    world.do("instance", "terminate", again, "--now")
    many = world.imprint("instance", "run", "--image", images["mark"], "-c", "1", "-m", "16", "--no-login", "--count", "3",
                         "--wait", "-q").out.split()
    check(len(many) == 3, "three at once")
    for instance in many:
        boots(instance, 4, text="each with a disk of its own")
    check(len(world.machines()) == 3, "and a QEMU", world.machines())
    world.do("instance", "terminate", *many, "--now")
    check(world.machines() == [], "all are gone", world.machines())


def copies():
    source = run(images["nano"])
    boots(source, 1)
    pid = world.machine(source)
    result = world.imprint("instance", "clone", source, "--wait", "-q")
    copy = result.out.strip()
    check(result.status == 0 and copy.startswith("i-"), "a running instance is cloned", result)
    boots(copy, 2, text="the clone goes on from the disk of the first")
    check(world.machine(source) == pid and world.status("instance", source) == "running", "which runs on")
    console = Terminal(world, "instance", "console", source)
    console.hears("Ctrl-]")
    console.type("r")
    check(console.hears("boots=00000002"), "and writes to a disk of its own", lambda: console.text)
    console.leave()
    world.do("instance", "terminate", source, "--now")
    world.do("instance", "restart", copy)
    boots(copy, 3, text="the clone does without it")

    world.do("instance", "stop", copy, "--force")
    after = len(world.console(copy))
    world.do("instance", "resize", copy, "--cpu", "2", "--memory", "48", "--disk", "21")
    shown = world.one("instance", copy)
    check((shown["vcpus_current"], shown["memory_current"], shown["extra"]["os_disk_size"]) == (2, 48, 21),
          "a stopped instance gets other CPUs, memory and disk", shown)
    usage = {line["resource_id"]: line for line in world.json("pool", "usage")["usage_set"]}
    check(usage[copy]["virtual_bytes"] == 21 * GIB, "its disk has grown", usage[copy])
    world.do("instance", "start", copy)
    boots(copy, 4, after, "it starts with what it had on the disk")
    with open("/proc/%d/cmdline" % world.machine(copy)) as file:
        line = file.read().replace("\0", " ")
    check(re.search(r"-smp 2\b", line) and re.search(r"-m (size=)?(48|49152)", line), "and QEMU has two CPUs and 48 MiB", line)

    after = len(world.console(copy))
    world.do("instance", "reset", copy)
    boots(copy, 1, after, "a reset gives it the image's disk again")
    smaller = world.imprint("instance", "resize", copy, "--disk", "5")
    check(smaller.status != 0, "a disk does not shrink", smaller)
    world.do("instance", "terminate", copy, "--now")
    check(world.pool_clean(), "the pool is clean after that, too", lambda: world.imprint("pool", "check"))


def counts():
    def series(instance, meter):
        return [(row["time"], row["value"]) for row in world.json("instance", "monitor", instance, "-m", meter, "--since", "1h")]

    def most(instance, meter):
        return max([value for _, value in series(instance, meter)], default=0)

    images["busy"] = world.do("image", "import", disk("busy.raw", BUSY), "--server-path", "--name", "busy")
    world.kill(signal.SIGTERM)
    world.configure(limits_stop_timeout=120, limits_monitor=1)
    world.start()
    idle, busy = run(images["deaf"]), run(images["busy"])
    check(wait_for(lambda: most(busy, "cpu"), pause=0.5), "a guest that works is seen to",
          lambda: world.imprint("instance", "monitor", busy))
    check(wait_for(lambda: series(idle, "cpu"), pause=0.5) and most(idle, "cpu") < most(busy, "cpu"), "one that sleeps works less",
          lambda: "%s %s" % (series(idle, "cpu"), series(busy, "cpu")))
    # libvirt leaves memory out while it still has something else to do with the machine, its start among them.
    check(0 < wait_for(lambda: most(busy, "memory"), pause=0.5) <= 1000, "part of its memory is in use",
          lambda: series(busy, "memory"))
    check(world.imprint("instance", "monitor", busy, "-m", "colour").status == 1, "what is no meter is refused")
    world.do("instance", "stop", busy, "--force")
    world.kill(signal.SIGTERM)
    world.start()
    before = series(busy, "cpu")
    check(before and max(value for _, value in before) > 0, "what a machine used outlives a clean end",
          before)
    for _ in range(2):
        world.kill(signal.SIGKILL)
        world.start()
    check(series(busy, "cpu") == before, "after kill -9, too", lambda: "%s %s" % (before, series(busy, "cpu")))
    shown = world.imprint("instance", "monitor", busy)
    check(shown.status == 0 and re.search(r"^cpu +\d+\.\d % .*[▁▂▃▄▅▆▇█]", shown.out, re.M) and
          re.search(r"^disk-os written ", shown.out, re.M), "and drawn", shown)
    world.do("instance", "terminate", idle, busy, "--now")
    check(series(busy, "cpu") == [], "what has ceased used nothing")


def stops():
    deaf = run(images["deaf"])
    pid = world.machine(deaf)
    stop = world.json("instance", "stop", deaf)
    job = world.json("job", "list", "--action", "StopInstances")[0]
    check(job["status"] in ("pending", "working") and deaf in job["resource_ids"],
          "an instance that does not hear is asked to stop", stop)
    check(world.one("instance", deaf)["transition_status"] == "stopping", "which shows")
    refused = world.imprint("image", "capture", deaf)
    check(refused.status == 5, "meanwhile it can do nothing else", refused)
    check(world.imprint("job", "cancel", job["job_id"]).status == 0, "the job is cancelled")
    check(wait_for(lambda: world.status("job", job["job_id"]) == "failed"), "and ends", lambda: world.one("job", job["job_id"]))
    shown = world.one("instance", deaf)
    check(shown["status"] == "running" and shown["transition_status"] == "", "the instance is running", shown)
    check(world.machine(deaf) == pid, "in the same QEMU")

    world.kill()
    world.configure(limits_stop_timeout=1)
    world.start()
    world.do("instance", "stop", deaf)
    check(world.status("instance", deaf) == "stopped" and not world.machine(deaf),
          "one that does not hear is powered off after the time for it")
    world.do("instance", "terminate", deaf, "--now")


def outlives():
    machine = run(images["nano"])
    boots(machine, 1)
    pid = world.machine(machine)
    for number, text, word in ((signal.SIGKILL, "kill -9", "I am in the same place"),
                               (signal.SIGTERM, "a clean end", "and it is still me")):  # neither q nor r: see nano.S
        status = world.kill(number)
        check(status == (-number if number == signal.SIGKILL else 0), "%s of imprintd" % text, "status %d" % status)
        check(world.machine(machine) == pid, "its machine runs on")
        world.start()
        check(world.status("instance", machine) == "running" and world.machine(machine) == pid, "and is found again")
        console = Terminal(world, "instance", "console", machine)
        console.hears("Ctrl-]")
        console.type(word)
        check(console.hears(word), "its console answers", lambda: console.text)
        console.leave()
        check(world.says(machine, word) and "boots=00000001" in world.console(machine), "its log goes on",
              lambda: world.console(machine))

    os.kill(pid, signal.SIGKILL)
    check(wait_for(lambda: world.status("instance", machine) == "stopped"), "a QEMU that dies is noticed")
    after = len(world.console(machine))
    world.do("instance", "start", machine)
    boots(machine, 2, after, "and started again")
    world.kill()
    os.kill(world.machine(machine), signal.SIGKILL)
    wait_for(lambda: not world.machine(machine))
    world.start()
    check(wait_for(lambda: world.status("instance", machine) == "stopped"), "one that died while imprintd was away, too")
    after = len(world.console(machine))
    world.do("instance", "start", machine)
    boots(machine, 3, after, "it starts, too")

    console = Terminal(world, "instance", "console", machine)
    console.hears("Ctrl-]")
    console.type("q")
    check(wait_for(lambda: world.status("instance", machine) == "stopped"), "one that powers itself off is stopped")
    console.hears("left the console", 60)
    world.do("instance", "terminate", machine, "--now")


def leaves():
    for image in images.values():
        world.do("image", "delete", image, "--now")
    check(world.json("image", "list") == [] and world.json("instance", "list") == [], "all is deleted")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    check(wait_for(lambda: os.listdir(os.path.join(world.pool, "layers")) == []), "and empty",
          lambda: os.listdir(os.path.join(world.pool, "layers")))
    for folder in ("seeds", "console", "uploads"):
        path = os.path.join(world.state, folder)
        check(not os.path.isdir(path) or os.listdir(path) == [], "nothing is left in %s" % folder,
              lambda: os.listdir(path))
    check(world.machines() == [], "no QEMU is left", world.machines())
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: "see " + world.log)


world.start()
main(imports, lives, copies, counts, stops, outlives, leaves)
