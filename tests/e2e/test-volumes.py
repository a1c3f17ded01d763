#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots of a small Linux on real QEMU, as the guest sees them: plugged in, taken out and grown while it
runs, kept in their order, cloned, and frozen at one instant with its system disk while it writes to all of them.

Usage: see world.py; the guest is made by MAKE-MICRO. --parts="chain": chains of points instead, with the time of each.
"""
import os
import re
import shutil
import signal
import sqlite3
import time

import micro
from micro import Shell, boot
from world import OPTIONS, Failed, World, check, main, note, tail, wait_for

# The most that an instance can have, as the API says.
VOLUMES_MAX = 16
CHAIN_MAX = 30
SAMPLE = (1, 2, 15, 29, 30, 31)  # points that are looked into

world = World()
world.configure(limits_detach_timeout=120, storage_second="local:" + os.path.join(world.folder, "second"))
image = machine = None


def create(count=1, size=10):
    result = world.imprint("volume", "create", "--size", str(size), "--count", str(count), "--wait", "-q")
    if result.status != 0:
        raise Failed("volume create: %s" % result)
    return result.out.split()


def seen(shell):
    """Disks by serial as the guest's kernel shows them: (device, GiB)."""
    text = shell("for d in /sys/block/vd*; do echo ${d##*/} $(cat $d/size) $(cat $d/serial) .; done")
    return {words[2]: (words[0], int(words[1]) >> 21) for words in map(str.split, text.splitlines()) if len(words) == 4}


def counted(text, names):
    """The last blocks that `blocks check` tells; None when they are not whole."""
    found = [re.search(r"%s=(\d+)" % re.escape(name), text) for name in names]
    return [int(f.group(1)) for f in found] if all(found) and re.search(r"^ok$", text, re.M) else None


def record(sql):
    with sqlite3.connect("file:%s/imprint.db?mode=ro" % world.state, uri=True) as rows:
        return rows.execute(sql).fetchone()[0]


def used_bytes():
    layers = os.path.join(world.pool, "layers")
    return sum(os.stat(os.path.join(layers, name)).st_blocks * 512 for name in os.listdir(layers))


def prepares():
    global image, machine
    image = world.do("image", "import", micro.make(world), "--name", "micro")
    begun = time.monotonic()
    machine = world.run(image, "--cpu", "1", "--memory", "128")
    boot(world, machine)
    note("from order to shell: %.1f s" % (time.monotonic() - begun))


def hot():
    """Plugged in, written to, grown, taken out, plugged into another."""
    one = create()[0]
    with Shell(world, machine) as shell:
        world.do("volume", "attach", one, "-i", machine)
        check(wait_for(lambda: seen(shell).get(one) == ("vdc", 10)), "a volume is plugged in as vdc, with its id as serial",
              lambda: seen(shell))
        shown = world.one("volume", one)
        check(shown["status"] == "in-use" and shown["device"] == "/dev/vdc", "and shown so", shown)
        check("7" in shell("echo 7 >/mark; dd if=/mark of=/dev/vdc bs=512 conv=sync,fsync 2>/dev/null; head -c 1 /dev/vdc"),
              "the guest writes to it")
        world.do("volume", "resize", one, "--size", "20")
        check(seen(shell).get(one) == ("vdc", 20), "grown, the guest sees it at once", lambda: seen(shell))
        copy = world.do("volume", "clone", one)
        check(world.one("volume", copy)["size"] == 20, "cloned while attached")
        world.do("volume", "attach", copy, "-i", machine)
        check(wait_for(lambda: seen(shell).get(copy) == ("vdd", 20)), "the clone is plugged in", lambda: seen(shell))
        check("7" in shell("head -c 1 /dev/vdd"), "and has what was written")
        shell("echo 8 >/mark; dd if=/mark of=/dev/vdd bs=512 conv=sync,fsync 2>/dev/null")
        check(shell("head -c 1 /dev/vdc; head -c 1 /dev/vdd") == "78", "neither sees what the other writes")
        world.do("volume", "detach", one, copy)
        check(one not in seen(shell) and copy not in seen(shell), "both are taken out again", lambda: seen(shell))
        check(world.status("volume", one) == "available", "and free")
    world.do("volume", "delete", one, copy, "--now")


def many():
    """As many as an instance can have, plugged in one after the other; in their order after a stop and a start."""
    ids = create(VOLUMES_MAX + 1)
    with Shell(world, machine) as shell:
        for id in ids[:VOLUMES_MAX]:
            world.do("volume", "attach", id, "-i", machine)
        wanted = {id: ("vd%c" % (ord("c") + i), 10) for i, id in enumerate(ids[:VOLUMES_MAX])}
        check(wait_for(lambda: wanted.items() <= seen(shell).items()), "%d volumes are plugged in" % VOLUMES_MAX,
              lambda: seen(shell))
        refused = world.imprint("volume", "attach", ids[-1], "-i", machine, "--wait")
        check(refused.status == 1 and "16" in refused.err, "one more is refused", refused)
        world.do("volume", "detach", ids[3], ids[5])
        check(ids[3] not in seen(shell), "two of them are taken out", lambda: seen(shell))
        world.do("volume", "attach", ids[5], "-i", machine)
        wanted[ids[5]] = (wanted.pop(ids[3])[0], 10)
        check(wait_for(lambda: wanted.items() <= seen(shell).items()), "the next takes the first free name", lambda: seen(shell))
    after = len(world.console(machine))
    world.do("instance", "stop", machine)
    world.do("instance", "start", machine)
    boot(world, machine, after)
    devices = {v["volume_id"]: v["device"] for v in world.json("volume", "list", "-i", machine)}
    order = sorted(wanted, key=lambda id: wanted[id][0])
    with Shell(world, machine) as shell:
        now = {id: "/dev/" + device for id, (device, _) in seen(shell).items() if id in ids}
        check(sorted(now, key=now.get) == order, "after a stop and a start they are in their order",
              lambda: (order, now))
        check(now == devices, "without a gap, as is shown", lambda: (now, devices))
        world.do("volume", "detach", *order)
        check(not set(order) & set(seen(shell)), "all are taken out at once", lambda: seen(shell))
    world.do("volume", "delete", *ids, "--now")


def instant():
    """One instant of a system disk and two volumes that are written to in turn; restores, rollbacks, images."""
    global machine
    files = ["/data/blocks", "/dev/vdc", "/dev/vdd"]
    pair = create(2)
    with Shell(world, machine) as shell:
        # One after the other: a guest that is slow to look finds two at once, and names them as it likes.
        for id, device in zip(pair, ("vdc", "vdd")):
            world.do("volume", "attach", id, "-i", machine)
            check(wait_for(lambda: seen(shell).get(id) == (device, 10)), "a volume is plugged in as " + device,
                  lambda: (pair, seen(shell)))
        shell("(blocks write %s >/dev/null 2>&1 &)" % " ".join(files))
        wait_for(lambda: (counted(shell("blocks check " + " ".join(files)), files) or [0])[0] > 20, pause=0.5)
    points = world.imprint("snapshot", "create", machine, *pair, "--wait", "-q").out.split()
    check(len(points) == 3, "a snapshot of all three under load", points)
    shown = [world.one("snapshot", id) for id in points]
    check({s["status"] for s in shown} == {"available"} and len({s["snapshot_time"] for s in shown}) == 1,
          "they have one time", shown)
    with Shell(world, machine) as shell:
        first = counted(shell("blocks check " + " ".join(files)), files) or [0]
        time.sleep(1)
        check(wait_for(lambda: (counted(shell("blocks check " + " ".join(files)), files) or [0])[0] > first[0]),
              "the guest writes on", lambda: shell("blocks check " + " ".join(files)))

    # Restored beside the original.
    system = world.do("snapshot", "image", points[0], "--name", "restored")
    restored = [world.do("snapshot", "volume", id) for id in points[1:]]
    twin = world.run(system, "--cpu", "1", "--memory", "128")
    boot(world, twin)
    with Shell(world, twin) as shell:
        for id in restored:
            world.do("volume", "attach", id, "-i", twin)
            wait_for(lambda: id in seen(shell))
        text = shell("blocks check " + " ".join(files))
        numbers = counted(text, files)
        check(numbers and numbers[0] > 20, "restored, each disk is whole", text)
        check(numbers and numbers[0] >= numbers[1] >= numbers[2] >= numbers[0] - 1, "all three are of one instant", text)
        note("last blocks: %s" % numbers)
    world.do("instance", "terminate", twin, "--now")
    check({world.status("volume", id) for id in restored} == {"available"}, "terminated, its volumes are free")

    # Rolled back: the running instance, and with it its volumes.
    after, pid = len(world.console(machine)), world.machine(machine)
    world.do("snapshot", "apply", *points)
    boot(world, machine, after)
    check(world.machine(machine) not in (None, pid), "rolled back, the machine was started again")
    with Shell(world, machine) as shell:
        text = shell("blocks check " + " ".join(files))
        check(counted(text, files) == numbers, "all three hold what they held then", text)
        check(set(pair) <= set(seen(shell)), "the volumes are where they were", lambda: seen(shell))
    world.do("volume", "detach", *pair)
    world.do("snapshot", "apply", points[1])
    check(world.one("snapshot", points[1])["is_head"] == 1, "a free volume is rolled back")

    # An image of a data disk: what is on the volume is a system.
    world.do("instance", "terminate", machine, "--now")
    world.do("volume", "delete", *pair, *restored, "--now")
    reply = world.ask("CaptureInstanceFromSnapshot", snapshot=points[0], image_name="captured")
    check(reply["ret_code"] == 0 and wait_for(lambda: world.status("image", reply["image_id"]) == "available"),
          "the other verb makes an image of the instance's snapshot too", reply)
    refused = world.ask("CaptureInstanceFromSnapshot", snapshot=points[1])
    check(refused["ret_code"] != 0 and "is of a volume" in refused["message"], "but none of a volume's", refused)
    captured = world.run(reply["image_id"], "--cpu", "1", "--memory", "128")
    boot(world, captured)
    with Shell(world, captured) as shell:
        text = shell("blocks check /data/blocks")
        check(counted(text, files[:1]) == numbers[:1], "whose machine holds what was written then", text)
    machine = captured
    world.do("snapshot", "delete", *points, "--now")


def chain():
    """Thirty points are a chain, the next begins another; each holds what was written before it; deletions, and space."""
    disk = create(1, 20)[0]
    world.do("volume", "attach", disk, "-i", machine)
    points, took = [], []
    empty = used_bytes()
    with Shell(world, machine) as shell:
        wait_for(lambda: disk in seen(shell))
        for number in range(1, CHAIN_MAX + 2):
            # A megabyte that no layer below has, with the point's number in front.
            shell("{ printf '%%04d' %d; head -c 1048572 /dev/urandom; } | dd of=/dev/vdc bs=1M iflag=fullblock seek=%d "
                  "conv=fsync 2>/dev/null" % (number, number - 1))
            begun = time.monotonic()
            points.append(world.do("snapshot", "create", disk))
            took.append(1000 * (time.monotonic() - begun))
        world.do("volume", "detach", disk)
    note("ms for each point: %s" % " ".join("%.0f" % ms for ms in took))
    shown = {s["snapshot_id"]: s for s in world.json("snapshot", "list", "--limit", "100")}
    check({shown[id]["root_id"] for id in points[:CHAIN_MAX]} == {points[0]} and
          shown[points[-1]]["root_id"] == points[-1], "%d points are a chain, the next begins another" % CHAIN_MAX,
          [shown[id]["root_id"] for id in points])

    def holds(id):
        """The numbers that a volume made of the point has."""
        volume = world.do("snapshot", "volume", id)
        world.do("volume", "attach", volume, "-i", machine)
        with Shell(world, machine) as shell:
            wait_for(lambda: volume in seen(shell))
            text = shell("i=0; while [ $i -le %d ]; do echo point $(dd if=/dev/vdc bs=1M skip=$i count=1 2>/dev/null | head -c 4 | "
                         "tr '\\0' -); i=$((i+1)); done" % CHAIN_MAX)
        world.do("volume", "detach", volume)
        world.do("volume", "delete", volume, "--now")
        return [int(word) for word in re.findall(r"^point (\d{4})\s*$", text, re.M)]  # the kernel speaks in between

    for number in SAMPLE:
        got = holds(points[number - 1])
        check(got == list(range(1, number + 1)), "point %d holds what was written before it" % number, got)
    world.do("snapshot", "delete", points[14], "--alone")
    got = holds(points[15])
    check(got == list(range(1, 17)), "one deleted alone, that after it is whole", got)
    full = used_bytes()
    world.do("snapshot", "delete", points[19])
    left = {s["snapshot_id"] for s in world.json("snapshot", "list", "--limit", "100")}
    check(not left & set(points[19:CHAIN_MAX]) and set(points[15:19]) <= left and points[-1] in left,
          "one deleted from the middle takes those after it along", left)
    got = holds(points[18])
    check(got == list(range(1, 20)), "those before it are whole", got)
    world.do("snapshot", "delete", points[0], points[-1], "--now")
    check(not {s["snapshot_id"] for s in world.json("snapshot", "list")} & set(points), "a full one takes its chain along")
    world.do("volume", "delete", disk, "--now")
    check(wait_for(lambda: used_bytes() < empty + (2 << 20)), "space comes back",
          lambda: (empty, full, used_bytes()))
    note("bytes of the pool before, with the chain, after: %d %d %d" % (empty, full, used_bytes()))


def number(shell):
    """Of the last block that was written to the volume; 0 if it does not hold all of them."""
    return (counted(shell("blocks check /dev/vdc"), ["/dev/vdc"]) or [0])[0]


def whole_anew(shell, disk, reached, *points):
    """The disk is detached and opened anew with the chain that the record has; so is a volume of each of the points."""
    world.do("volume", "detach", disk)
    world.do("volume", "attach", disk, "-i", machine)
    wait_for(lambda: disk in seen(shell))
    check(number(shell) >= reached, "the disk, opened anew, is whole", lambda: shell("blocks check /dev/vdc"))
    world.do("volume", "detach", disk)
    for point in points:
        volume = world.do("snapshot", "volume", point)
        world.do("volume", "attach", volume, "-i", machine)
        wait_for(lambda: volume in seen(shell))
        check(number(shell) > 0, "a point of it is whole", lambda: shell("blocks check /dev/vdc"))
        world.do("volume", "detach", volume)
        world.do("volume", "delete", volume, "--now")


def merged():
    """Layers in the middle of a running machine's chain are merged while it writes; the disk goes on, and is opened anew."""
    disk = create(1, 10)[0]
    world.do("volume", "attach", disk, "-i", machine)
    layers = lambda: sorted(os.listdir(os.path.join(world.pool, "layers")))
    told = lambda: tail(world.log, 1000).count("took up 2 below it")
    with Shell(world, machine) as shell:
        wait_for(lambda: disk in seen(shell))
        shell("(blocks write /dev/vdc >/dev/null 2>&1 &)")
        points = []
        for _ in range(4):
            reached = number(shell)
            wait_for(lambda: number(shell) > reached, pause=0.5)
            points.append(world.do("snapshot", "create", disk))
        pid, before, merges = world.machine(machine), layers(), told()
        world.do("snapshot", "delete", points[1], points[2], "--alone")
        # Of what is left of other parts some may go, too.
        check(wait_for(lambda: told() > merges and len(layers()) <= len(before) - 2 and
                       not any(name.endswith(".part") for name in layers()), pause=0.5),
              "two layers of a disk in use are merged into the next", lambda: (before, layers(), tail(world.log)))
        check(world.pool_clean(), "record and pool agree", lambda: world.imprint("pool", "check"))
        reached = number(shell)
        check(reached > 0 and wait_for(lambda: number(shell) > reached, pause=0.5), "the guest writes on, and its disk is whole",
              lambda: shell("blocks check /dev/vdc"))
    world.restart()
    check(world.machine(machine) == pid, "in the same machine, also when imprintd was killed and started again")
    with Shell(world, machine) as shell:
        points.append(world.do("snapshot", "create", disk))
        reached = number(shell)
        check(reached > 0, "which is switched over once more")
        whole_anew(shell, disk, reached, points[0], points[3], points[4])
    world.do("snapshot", "delete", points[0], "--now")
    world.do("volume", "delete", disk, "--now")


def pulled():
    """The chain inside a running QEMU gets shorter while the guest writes, also when imprintd is killed in the middle."""
    settings = {"limits_detach_timeout": 120, "storage_second": "local:" + os.path.join(world.folder, "second"),
                "storage_running_chain_max": 5}
    disk = create(1, 10)[0]
    world.do("volume", "attach", disk, "-i", machine)

    def depth():
        """Layers of the disk that QEMU has open: the system disk's are as many as before."""
        files = set()
        for entry in os.listdir("/proc/%d/fd" % world.machine(machine)):
            try:
                files.add(os.readlink("/proc/%d/fd/%s" % (world.machine(machine), entry)))
            except OSError:
                pass
        return len([path for path in files if "/layers/" in path]) - others

    others = 0
    others = depth() - 1
    with Shell(world, machine) as shell:
        wait_for(lambda: disk in seen(shell))
        shell("dd if=/dev/urandom of=/dev/vdc bs=1M seek=2000 count=24 conv=fsync 2>/dev/null")
        shell("(blocks write /dev/vdc >/dev/null 2>&1 &)")
        points = []
        for _ in range(7):
            reached = number(shell)
            wait_for(lambda: number(shell) > reached, pause=0.5)
            points.append(world.do("snapshot", "create", disk))
    pid, full = world.machine(machine), depth()
    check(full == 8, "a volume of seven points is eight layers in QEMU", full)
    world.kill()
    world.configure(storage_merge_rate="1M", **settings)
    world.start()
    told = lambda: tail(world.log, 100)
    rows = lambda: record("SELECT COUNT(*) FROM pulls WHERE disk = '%s'" % disk)
    check(wait_for(lambda: rows() == 1, pause=0.1), "imprintd begins to shorten that", told)
    time.sleep(1)
    world.kill()
    check(world.machine(machine) == pid, "it is killed in the middle, the machine runs on")
    world.configure(storage_merge_rate="64M", **settings)
    world.start()
    check(wait_for(lambda: depth() < full - 3 and rows() == 0, pause=0.5), "started again, it goes on and gets done",
          lambda: (depth(), told()))
    note("layers before and after: %d %d" % (full, depth()))
    check(world.machine(machine) == pid and world.pool_clean(), "in the same machine; record and pool agree",
          lambda: world.imprint("pool", "check"))
    with Shell(world, machine) as shell:
        reached = number(shell)
        check(reached > 0 and wait_for(lambda: number(shell) > reached, pause=0.5), "the guest writes on, and its disk is whole",
              lambda: shell("blocks check /dev/vdc"))
        points.append(world.do("snapshot", "create", disk))
        reached = number(shell)
        whole_anew(shell, disk, reached, points[0], points[4], points[7])
    world.do("snapshot", "delete", points[0], "--now")
    world.do("volume", "delete", disk, "--now")


def data_image():
    """A system written onto a volume in a guest, backed up, becomes an image that boots."""
    disk = create(1, 20)[0]
    world.do("volume", "attach", disk, "-i", machine)
    with Shell(world, machine) as shell:
        wait_for(lambda: disk in seen(shell))
        shell("dd if=/dev/vda of=/dev/vdc bs=1M count=48 conv=fsync 2>/dev/null")
    empty = create(1, 20)[0]
    nothing = world.do("snapshot", "create", empty)
    refused = world.imprint("snapshot", "image", nothing, "--wait")
    check(refused.status == 5 and "disk.empty" in refused.err, "an empty volume is not made an image", refused)
    found = world.imprint("image", "inspect", nothing)
    check(found.status == 1 and "write a system onto the disk first" in found.out, "and what is missing is told", found)
    point = world.do("snapshot", "create", disk)
    made = world.do("snapshot", "image", point, "--base", image, "--name", "by hand")
    again = world.run(made, "--cpu", "1", "--memory", "128")
    check(boot(world, again).get("disk") == 20 << 21, "an image of a volume boots")
    found = world.imprint("image", "inspect", made)
    check(found.status == 0 and "starts with: BIOS" in found.out, "and nothing was wrong with its disk", found)
    world.do("instance", "terminate", again, "--now")


def lost():
    """The pool is removed under a running machine, with imprintd killed: what was copied comes back, and boots."""
    for other in world.json("volume", "list", "-i", machine):
        world.do("volume", "detach", other["volume_id"])  # lost for good, it would keep the machine off
    disk = create()[0]
    world.do("volume", "attach", disk, "-i", machine)
    with Shell(world, machine) as shell:
        wait_for(lambda: disk in seen(shell))
        shell("echo kept >/data/word; dd if=/data/word of=/dev/vdc bs=512 conv=sync,fsync 2>/dev/null; sync")
        points = world.imprint("snapshot", "create", machine, disk, "--wait", "-q").out.split()
        world.do("snapshot", "copy", *points)
        shell("echo later >/data/word; dd if=/data/word of=/dev/vdc bs=512 conv=sync,fsync 2>/dev/null; sync")
    world.kill()
    shutil.rmtree(world.pool)
    told = world.operator("pool", "accept-loss")
    check(re.match(r"\d+ layers marked as lost", told), "the loss of the pool is accepted", told)
    world.start()
    check(world.one("instance", machine)["damaged"] == 1, "the instance is marked as damaged")
    world.do("snapshot", "restore", *points)
    after = len(world.console(machine))
    world.do("snapshot", "apply", *points)
    boot(world, machine, after)
    with Shell(world, machine) as shell:
        got = shell("cat /data/word; head -c 4 /dev/vdc")
        check(got.split() == ["kept", "kept"], "copied, lost, restored, rolled back: both disks hold what they held", got)
    check(wait_for(lambda: world.one("instance", machine)["damaged"] == 0, 60), "and nothing is damaged any more")
    world.do("volume", "detach", disk)
    world.do("snapshot", "forget", *points)
    check(os.listdir(os.path.join(world.folder, "second", "layers")) == [], "nothing is left in the second pool")


def leaves():
    for noun, verb in (("instance", "terminate"), ("volume", "delete"), ("snapshot", "delete"), ("image", "delete")):
        key = noun + "_id"
        for it in world.json(noun, "list"):
            if it["status"] not in ("deleted", "terminated", "ceased"):
                world.imprint(noun, verb, it[key], "--now", "--wait")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    check(wait_for(lambda: os.listdir(os.path.join(world.pool, "layers")) == []), "and empty",
          lambda: os.listdir(os.path.join(world.pool, "layers")))
    check(world.machines() == [], "no QEMU is left", world.machines())
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))


world.start()
parts = OPTIONS.get("parts", "hot many instant merged pulled data_image lost").split()
main(prepares, *[globals()[part] for part in parts], leaves)
