#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of imprintd at random moments while images, instances, volumes and snapshots are made, changed and deleted,
again and again.

After each restart no job hangs, every job that failed says why, pool and record agree, every image called available is
whole and reads as it always did, and so are snapshots and volumes; machines that nobody touched run in the QEMU they had
and write where the record says, and no QEMU, worker or file is left over. Usage: see world.py; the guest is NANO.BIN, --rounds=N and --seed=N choose the storm.
"""
import collections
import gzip
import http.client
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time

from world import GUESTS, OPTIONS, PATIENCE_S, Failed, World, check, main, note, tail, wait_for

ROUNDS = int(OPTIONS.get("rounds", 20))
SEED = int(OPTIONS.get("seed", random.SystemRandom().randrange(1 << 32)))
IMAGES_MAX, INSTANCES_MAX, VOLUMES_MAX, SNAPSHOTS_MAX = 6, 7, 6, 12
SAMPLE = 4  # frozen disks that are looked into in a round
BIG = 48 << 20

dice = random.Random(SEED)
# Chains are short, so that merges and pulls happen within a round, too.
world = World(limits_stop_timeout=20, limits_detach_timeout=4, limits_recycle=6, storage_chain_max=2, storage_running_chain_max=3,
              imprintd_log_level="debug")
reads = {}   # image, snapshot or volume: what its disk counted when it was first seen, or last written to
figures = collections.Counter()
reasons = collections.Counter()
base = None  # an image that is never deleted


# --- Looking ------------------------------------------------------------------------------------------------------------

class Sight:
    """What the API says there is, by id."""

    def __init__(self):
        self.images = {i["image_id"]: i for i in world.json("image", "list")}
        self.instances = {i["instance_id"]: i for i in world.json("instance", "list")}
        self.volumes = {v["volume_id"]: v for v in world.json("volume", "list", "--limit", "100")}
        self.snapshots = {s["snapshot_id"]: s for s in world.json("snapshot", "list", "--limit", "100")}
        self.pids = dict((name, pid) for pid, name in world.machines())

    def free(self, kind, status):
        """Ids of what is in this state and has nothing going on."""
        return [id for id, it in getattr(self, kind).items() if it["status"] == status and not it["transition_status"]]

    def home(self, volume):
        """The instance that has the volume; ""."""
        return self.volumes[volume]["instance"].get("instance_id") or ""

    def written(self, kind, id):
        """Whether a machine may be writing to this disk now."""
        return (self.home(id) if kind == "volumes" else id) in self.pids

    def available(self):
        return [id for id, image in self.images.items() if image["status"] == "available"]

    def in_state(self, status):
        return [id for id, it in self.instances.items() if it["status"] == status and not it["transition_status"]]


def layer_file(kind, id):
    with sqlite3.connect("file:%s/imprint.db?mode=ro" % world.state, uri=True) as record:
        row = record.execute("SELECT l.name FROM layers l JOIN %ss o ON o.layer_id = l.layer_id WHERE o.%s_id = ?" %
                             (kind, kind), (id,)).fetchone()
    return os.path.join(world.pool, "layers", row[0] + ".qcow2")


def run_tool(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout + done.stderr


def counted(path):
    """What the guest counted on this disk, read through the whole chain of layers; None: the disk cannot be read."""
    status, out = run_tool("qemu-io", "-r", "-f", "qcow2", "-c", "read -v 512 8", path)
    found = re.search(r"^00000200: +((?:[0-9a-f]{2} +){8})", out, re.M)
    if status != 0 or not found:
        return None
    raw = bytes.fromhex(found.group(1).replace(" ", ""))
    return int.from_bytes(raw[4:], "little") if raw[:4] == b"IMPR" else 0


def descendants(root):
    """(pid, program) of all processes below this one."""
    parents, names = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as file:
                    text = file.read()
            except OSError:
                continue
            parents[int(entry)] = int(text.rpartition(")")[2].split()[1])
            names[int(entry)] = text[text.index("(") + 1:text.rindex(")")]
    found, more = {}, [root]
    while more:
        parent = more.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        found.update((pid, names[pid]) for pid in children)
        more += children
    return found


# --- The storm ----------------------------------------------------------------------------------------------------------

class Storm:
    """One round's orders, given until imprintd is gone. What they touched may end either way, the rest must not change."""

    def __init__(self, sight):
        self.sight, self.touched, self.orders, self.over = sight, set(), [], False

    def order(self, *words, touch=()):
        self.touched.update(touch)
        self.orders.append(words[0] + " " + words[1])
        result = world.imprint(*words, "-q", seconds=PATIENCE_S)
        figures["orders given"] += result.status == 0
        self.over = self.over or result.status == 1 and "connection refused" in result.err

    def imports(self):
        source = dice.choice(["nano.raw", "nano.raw", "big.raw", "big.raw.gz", "junk.raw"])
        self.order("image", "import", os.path.join(world.disks, source), "--server-path", "--name", source)

    def runs(self):
        image = dice.choice(self.sight.available())
        self.order("instance", "run", "-i", image, "-c", "1", "-m", "16", "--no-login", "--count", str(dice.choice([1, 1, 2])),
                   *dice.choice([[], [], ["--no-start"]]))

    def on_instances(self, states, words, most=1):
        found = [id for state in states for id in self.sight.in_state(state) if id not in self.touched]
        chosen = dice.sample(found, min(len(found), dice.randint(1, most)))
        if chosen:
            self.order("instance", *words, *chosen, touch=chosen)

    def captures(self):
        stopped = [id for id in self.sight.in_state("stopped") if id not in self.touched]
        if stopped:
            chosen = dice.choice(stopped)
            self.order("image", "capture", chosen, "--name", "captured", touch=[chosen])

    def deletes(self):
        images = [id for id in self.sight.available() if id != base and id not in self.touched]
        if images:
            chosen = dice.choice(images)
            self.order("image", "delete", chosen, *dice.choice([[], ["--now"]]), touch=[chosen])

    # Volumes and snapshots. What they do must not disturb a machine, so that touches only the disks.

    def pick(self, kind, status, good=lambda id: True):
        found = [id for id in self.sight.free(kind, status) if id not in self.touched and good(id)]
        return dice.choice(found) if found else None

    def machine(self):
        return self.pick("instances", dice.choice(["running", "running", "stopped"]))

    def on_volume(self, status, *words, good=lambda id: True):
        volume = self.pick("volumes", status, good)
        if volume:
            self.order("volume", words[0], volume, *words[1:], touch=[volume])

    def makes_volumes(self):
        source = self.pick("volumes", dice.choice(["available", "in-use"]))
        point = self.pick("snapshots", "available", lambda id: self.of(id).startswith("vol-"))
        way = dice.randrange(3)
        if way == 0 or not (source or point):
            self.order("volume", "create", "--size", "10", "--count", str(dice.choice([1, 1, 2])))
        elif source and (way == 1 or not point):
            self.order("volume", "clone", source)
        else:
            self.order("snapshot", "volume", point)

    def attaches(self):
        machine = self.machine()
        if machine:
            self.on_volume("available", "attach", "-i", machine)

    def detaches(self):
        # A machine that runs here has nothing that lets go of a disk: that takes its time, and fails.
        self.on_volume("in-use", "detach", good=lambda id: dice.random() < 0.2 or self.sight.home(id) not in self.sight.pids)

    def grows(self):
        volume = self.pick("volumes", dice.choice(["available", "in-use"]))
        if volume:
            self.order("volume", "resize", volume, "--size", str(self.sight.volumes[volume]["size"] + 10), touch=[volume])

    def of(self, snapshot):
        return self.sight.snapshots[snapshot]["resource"]["resource_id"]

    def snapshots(self):
        """A few disks at one instant, of machines that run and others."""
        disks = [id for kind, states in (("instances", ("running", "stopped")), ("volumes", ("available", "in-use")))
                 for state in states for id in self.sight.free(kind, state) if id not in self.touched]
        if disks:
            self.order("snapshot", "create", *dice.sample(disks, min(len(disks), dice.randint(1, 3))),
                       *dice.choice([[], [], ["--full"]]))

    def applies(self):
        known = set(self.sight.volumes) | set(self.sight.instances)
        point = self.pick("snapshots", "available", lambda id: self.of(id) in known and self.of(id) not in self.touched)
        if point:
            disk = self.of(point)
            machine = self.sight.home(disk) if disk in self.sight.volumes else disk
            self.order("snapshot", "apply", point, touch=[point, disk, machine])

    def images_of_snapshots(self):
        point = self.pick("snapshots", "available", lambda id: self.of(id).startswith("i-"))
        if point and dice.random() < 0.5:
            self.order("snapshot", "image", point, "--name", "of a snapshot")
        elif point:
            self.orders.append("CaptureInstanceFromSnapshot")
            try:
                figures["orders given"] += world.ask("CaptureInstanceFromSnapshot", snapshot=point)["ret_code"] == 0
            except (OSError, http.client.HTTPException, ValueError):
                self.over = not world.runs()

    def deletes_snapshots(self):
        point = self.pick("snapshots", "available")
        if point:
            chain = self.sight.snapshots[point]["root_id"]
            self.order("snapshot", "delete", point, *dice.choice([[], ["--now"], ["--alone"]]),
                       touch=[id for id, it in self.sight.snapshots.items() if it["root_id"] == chain])

    def recovers(self):
        found = [id for kind, status in (("volumes", "deleted"), ("snapshots", "deleted"), ("instances", "terminated"),
                                         ("images", "deleted")) for id in self.sight.free(kind, status)]
        if found:
            chosen = dice.choice(found)
            root = self.sight.snapshots.get(chosen, {}).get("root_id")
            self.order("recover", chosen, touch=[chosen] + [id for id, it in self.sight.snapshots.items()
                                                            if root and it["root_id"] == root])

    def on_disks(self):
        crowded = len(self.sight.volumes) >= VOLUMES_MAX
        full = len(self.sight.snapshots) >= SNAPSHOTS_MAX
        dice.choice([
            (lambda: self.on_volume("available", "delete", *dice.choice([[], ["--now"]]))) if crowded else self.makes_volumes,
            self.deletes_snapshots if full else self.snapshots,
            self.deletes_snapshots if full else self.snapshots,
            self.attaches, self.attaches, self.detaches, self.grows, self.applies, self.recovers,
            self.deletes if len(self.sight.images) >= IMAGES_MAX else self.images_of_snapshots,
        ])()

    def step(self):
        """One order, chosen so that there is always something of each kind."""
        if dice.random() < 0.6:
            return self.on_disks()
        crowded = len(self.sight.instances) >= INSTANCES_MAX
        full = len(self.sight.images) >= IMAGES_MAX
        dice.choice([
            self.deletes if full else self.imports,
            self.deletes if full else self.captures,
            self.deletes if full else self.captures,
            (lambda: self.on_instances(["running", "stopped"], ["terminate", "--now"], 3)) if crowded else self.runs,
            (lambda: self.on_instances(["running", "stopped"], ["terminate"], 2)) if crowded else self.runs,
            lambda: self.on_instances(["running"], ["stop"], 2),
            lambda: self.on_instances(["running"], ["stop", "--force"], 2),
            lambda: self.on_instances(["stopped"], ["start"], 2),
            lambda: self.on_instances(["running"], ["restart"]),
            lambda: self.on_instances(["running", "stopped"], ["clone"]),
            lambda: self.on_instances(["stopped", "running"], ["reset"]),
            lambda: self.on_instances(["stopped"], ["resize", "--memory", str(dice.choice([16, 24])), "--disk", "21"]),
            lambda: self.on_instances(["terminated"], ["cease"], 3),
        ])()

    def rage(self, seconds):
        """Gives orders while a clock runs towards the kill."""
        pid = world.pid
        timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
        timer.start()
        while not self.over and timer.is_alive():
            self.step()
            if len(self.orders) >= 12:
                break
        timer.join()
        world.kill()


# --- What must hold -----------------------------------------------------------------------------------------------------

def settled():
    """Waits until no job is unfinished; those that are after all the patience."""
    unfinished = []

    def none():
        unfinished[:] = world.json("job", "list", "--status", "pending,working")
        return not unfinished

    wait_for(none, pause=0.1)
    return unfinished


def same(before, storm, after):
    """Troubles with what was there before the storm."""
    for id, instance in before.instances.items():
        if id in storm.touched:
            continue
        now = after.instances.get(id)
        if now is None and instance["status"] == "terminated":
            continue  # the recycle bin was emptied
        if now is None or now["status"] != instance["status"]:
            yield "%s was %s and is %s" % (id, instance["status"], now and now["status"])
        elif instance["status"] == "running" and before.pids.get(id) != after.pids.get(id):
            yield "%s ran as process %s and now as %s" % (id, before.pids.get(id), after.pids.get(id))
    for kind in ("images", "volumes", "snapshots"):
        for id, it in getattr(before, kind).items():
            now = getattr(after, kind).get(id)
            if now is None and it["status"] == "deleted" or id in storm.touched:
                continue
            freed = kind == "volumes" and before.home(id) in storm.touched and now and now["status"] == "available"
            if not freed and (now is None or now["status"] != it["status"]):
                yield "%s was %s and is %s" % (id, it["status"], now and now["status"])


def consistent(sight):
    """Troubles between what the API says and what there is."""
    for id, image in sight.images.items():
        if image["status"] not in ("available", "deleted") or image["transition_status"]:
            yield "image %s is %s %s" % (id, image["status"], image["transition_status"])
    for id, instance in sight.instances.items():
        if instance["status"] not in ("running", "stopped", "terminated") or instance["transition_status"]:
            yield "instance %s is %s %s" % (id, instance["status"], instance["transition_status"])
        if (instance["status"] == "running") != (id in sight.pids):
            yield "instance %s is %s, its process is %s" % (id, instance["status"], sight.pids.get(id))
    for kind, states in (("volumes", ("available", "in-use", "deleted")), ("snapshots", ("available", "deleted"))):
        for id, it in getattr(sight, kind).items():
            if it["status"] not in states or it["transition_status"]:
                yield "%s is %s %s" % (id, it["status"], it["transition_status"])
    for id, it in sight.volumes.items():
        home = sight.instances.get(sight.home(id), {}).get("status")
        if (it["status"] == "in-use") != (home in ("running", "stopped")):
            yield "%s is %s, in %s, which is %s" % (id, it["status"], sight.home(id), home)
    for name in sight.pids:
        if name not in sight.instances:
            yield "process %d runs %s, which is no instance" % (sight.pids[name], name)
    if len(sight.pids) != len(world.machines()):
        yield "a machine runs twice: %s" % world.machines()


def opened(pid):
    """The files that a process has open."""
    found = set()
    for entry in os.listdir("/proc/%d/fd" % pid):
        try:
            found.add(os.readlink("/proc/%d/fd/%s" % (pid, entry)))
        except OSError:
            pass
    return found


def in_place(sight):
    """Troubles with where machines write: each to the heads that the record has, and nobody to others."""
    for name, pid in sight.pids.items():
        files = opened(pid)
        heads = {name: layer_file("instance", name)}
        heads.update((id, layer_file("volume", id)) for id in sight.volumes if sight.home(id) == name)
        for id, path in heads.items():
            if os.path.realpath(path) not in files:
                yield "%s does not have %s of %s open, but %s" % (name, path, id, sorted(files))
        for id in sight.volumes:
            if id not in heads and sight.volumes[id]["status"] == "available" and os.path.realpath(
                    layer_file("volume", id)) in files:
                yield "%s has %s open, which is no longer its own" % (name, id)


def readable(kind, id, good):
    """What is wrong with a disk, and what it counted."""
    path = layer_file(kind, id)
    status, out = run_tool("qemu-img", "check", "-q", "-f", "qcow2", path)
    number = counted(path)
    return "%s cannot be read: %s" % (id, out) if status not in good or number is None else None, number


def frozen(kind, ids):
    """Troubles with disks that never change."""
    for id in ids:
        trouble, number = readable(kind, id, (0,))
        if trouble or number != reads.setdefault(id, number):
            yield trouble or "%s counted %d and now %d" % (id, reads[id], number)


def whole(sight, touched):
    """Troubles with disks: what is frozen, and what is not being written to. 3: space that nothing refers to."""
    yield from frozen("image", sight.available())
    points = sight.free("snapshots", "available")
    yield from frozen("snapshot", dice.sample(points, min(len(points), SAMPLE)))
    for id in sight.in_state("stopped"):
        trouble, _ = readable("instance", id, (0, 3))
        if trouble:
            yield trouble
    for id in sight.free("volumes", "available") + sight.free("volumes", "in-use"):
        if id in touched:  # it may have been rolled back
            reads.pop(id, None)
        if sight.written("volumes", id):
            continue
        trouble, number = readable("volume", id, (0, 3))
        if trouble or number != reads.setdefault(id, number):
            yield trouble or "%s counted %d and now %d" % (id, reads[id], number)


def writes(sight):
    """Gives a volume that nobody has open another content, as a machine would."""
    volume = [id for id in sight.free("volumes", "available")]
    if volume:
        chosen, number = dice.choice(volume), dice.randrange(1, 1 << 32)
        sector = os.path.join(world.disks, "sector")
        with open(sector, "wb") as file:
            file.write(b"IMPR" + number.to_bytes(4, "little") + bytes(504))
        status, out = run_tool("qemu-io", "-f", "qcow2", "-c", "write -s %s 512 512" % sector, layer_file("volume", chosen))
        if status != 0 or "wrote 512" not in out:
            raise Failed("cannot write to %s: %s" % (chosen, out))
        reads[chosen] = number


def tidy(sight):
    """Troubles with what is left over."""
    known = {"seeds": set(sight.instances), "console": set(sight.instances), "uploads": set()}
    for folder, names in known.items():
        path = os.path.join(world.state, folder)
        for entry in os.listdir(path) if os.path.isdir(path) else []:
            if entry.rpartition(".")[0] not in names:
                yield "%s/%s belongs to nothing" % (folder, entry)
    strangers = {pid: name for pid, name in descendants(world.init.pid).items()
                 if pid != world.pid and pid not in sight.pids.values()}
    if strangers:
        yield "these processes are left over: %s" % strangers


def follows_advice(storm):
    """Does what the jobs that failed ask for: a machine that was left with half a disk, which a guest like ours never lets
    go of, is to be stopped and started."""
    for job in world.json("job", "list", "--status", "failed", "--limit", "40"):
        found = re.search(r"the guest in (\S+) has a disk that was being plugged in", job["error_message"] or "")
        if found and job["job_id"] not in reasons and world.machine(found.group(1)):
            storm.touched.add(found.group(1))
            world.do("instance", "stop", "--force", found.group(1))
            world.do("instance", "start", found.group(1))
            figures["machines stopped to be rid of half a disk"] += 1


def explained():
    """Troubles with jobs that failed: each says why."""
    for job in world.json("job", "list", "--status", "failed", "--limit", "40"):
        if not job["error_message"] or not job["error_codes"]:
            yield "job %s (%s) failed without a reason" % (job["job_id"], job["job_action"])
        reasons[job["job_id"]] = job["job_action"] + ": " + re.sub(r"\b(i|img|l|vol|ss)-\w+", r"\1-*", job["error_message"] or "")


def boots(sight):
    """Troubles with a sample: an instance of it must boot and count on."""
    image = dice.choice(sight.available())
    instance = world.run(image, "-c", "1", "-m", "16")
    wanted = r"NANO up disks=\w+ boots=%08X" % (reads[image] + 1)
    if not world.says(instance, wanted):
        yield "an instance of %s does not say %s, but %s" % (image, wanted, world.console(instance))
    world.do("instance", "terminate", instance, "--now")
    figures["boots of a sample"] += 1


def round_of(number):
    """One storm, and all that must hold after it; the troubles, in words."""
    before = Sight()
    storm = Storm(before)
    storm.rage(dice.choice([0.05, 0.3, 1, 2.5]) * dice.random())
    text = "round %d, %s: " % (number, ", ".join(collections.Counter(storm.orders)) or "nothing")
    figures["kills"] += 1
    while dice.random() < 0.25:  # in the middle of picking up the pieces
        world.launch()
        time.sleep(dice.random() * 0.6)
        world.kill()
        figures["kills"] += 1
    begun = time.monotonic()
    world.start()
    troubles = ["job %s (%s) hangs" % (job["job_id"], job["job_action"]) for job in settled()]
    figures["longest recovery, ms"] = max(figures["longest recovery, ms"], int(1000 * (time.monotonic() - begun)))
    if not world.pool_clean():
        troubles.append("the pool is not clean: %s" % world.imprint("pool", "check"))
    follows_advice(storm)
    # A machine that stops by itself, a worker that dies and a log that goes are noticed a little later.
    wait_for(lambda: not list(consistent(Sight())) and not list(tidy(Sight())), 30, 0.2)
    after = Sight()
    for look in (same(before, storm, after), consistent(after), in_place(after), tidy(after), whole(after, storm.touched),
                 explained()):
        troubles += look
    if number % 4 == 0 or number == ROUNDS:
        troubles += boots(after)
    writes(after)
    return text, troubles


def prepare():
    global base
    with open(GUESTS[0], "rb") as file:
        nano = file.read()
    with open(os.path.join(world.disks, "nano.raw"), "wb") as file:
        file.write(nano)
        file.truncate(1 << 20)
    with open(os.path.join(world.disks, "big.raw"), "wb") as file:
        file.write(nano)
        file.seek(1 << 20)
        file.write(dice.randbytes(BIG))
    with open(os.path.join(world.disks, "big.raw"), "rb") as file, \
            gzip.open(os.path.join(world.disks, "big.raw.gz"), "wb", compresslevel=1) as packed:
        packed.write(file.read())
    with open(os.path.join(world.disks, "junk.raw"), "wb") as file:
        file.write(b"no disk at all " * 100000)
    world.start()
    base = world.do("image", "import", os.path.join(world.disks, "nano.raw"), "--server-path", "--name", "base")
    world.run(base, "-c", "1", "-m", "16", "--count", "2")


def storms():
    note("seed %d" % SEED)
    for number in range(1, ROUNDS + 1):
        text, troubles = round_of(number)
        if not check(not troubles, text + "all holds", "\n".join(troubles + [tail(world.log)])):
            figures["bad rounds"] += 1


def leaves():
    sight = Sight()
    alive = sight.in_state("running") + sight.in_state("stopped")
    roots = {it["root_id"] for it in sight.snapshots.values() if it["status"] == "available"}
    for words, ids in ((("instance", "terminate", "--now"), alive), (("image", "delete", "--now"), sight.available()),
                       (("snapshot", "delete", "--now"), sorted(roots))):
        if ids:
            world.do(*words, *ids)
    volumes = Sight().free("volumes", "available")
    if volumes:
        world.do("volume", "delete", "--now", *volumes)
    check(world.pool_clean(), "all is deleted, the pool is clean", lambda: world.imprint("pool", "check"))
    check(wait_for(lambda: os.listdir(os.path.join(world.pool, "layers")) == []), "and empty",
          lambda: os.listdir(os.path.join(world.pool, "layers")))
    check(not list(tidy(Sight())), "nothing is left over", lambda: list(tidy(Sight())))
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))
    with open(world.log, errors="replace") as file:
        told = file.read()
    figures["layers merged"] = len(re.findall(r"layer \S+ took up \d+ below it", told))
    figures["chains of running machines shortened"] = len(re.findall(r"read through \d+ layers in place of", told))
    if ROUNDS >= 100:
        check(figures["layers merged"] and figures["chains of running machines shortened"], "chains were shortened meanwhile",
              dict(figures))
    for name, value in figures.items():
        note("%s: %s" % (name, value))
    for reason, times in collections.Counter(reasons.values()).most_common():
        note("%d jobs failed with: %s" % (times, reason))


main(prepare, storms, leaves)
