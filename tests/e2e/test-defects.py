#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every defect of the table in defects.py: found under its own code, and nothing else is. Where there is a repair: a dry run
changes nothing, the repaired disk is found right and boots, and undone it is as it was, byte for byte.

Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE or a qcow2 image that it made, then APPLIANCE-INIT, MAKE-APPLIANCE and a
folder for a kernel. Or the guest is the word tiny: then the disks are small, hold no system that could start, and only looks
are taken. --only=NAME,NAME: just these defects; --parts=found or mended; --boots=all, none, or by default one of each code.
Takes long under TCG."""
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile

import debian
import defects
import windows
from disk import Disk, Spoiled, tiny
from world import GUESTS, OPTIONS, WORKER, Failed, World, check, main, note

SECONDS = "900"
TINY = os.path.basename(GUESTS[0]) == "tiny"
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/findings.md")
if TINY:
    world = None
    folder = tempfile.mkdtemp(prefix="imprint-e2e-", dir=os.environ.get("IMPRINT_E2E_DIR", "/tmp"))
    os.chmod(folder, 0o755)
else:
    world = World(boottest_at_once=2, virt_tb_cache=128)
    folder = world.disks
good = Disk(os.path.join(folder, "good.raw"))
bases = {}


# --- Looks --------------------------------------------------------------------------------------------------------------

def ask(disk, verb="inspect", **request):
    """The worker's last word about the disk, which it has as imprintd gives it."""
    fd = os.dup2(os.open(disk.path, os.O_RDONLY), 100)
    done = subprocess.run([WORKER, verb], input=json.dumps({"layers": "raw", **request}).encode(), stdout=subprocess.PIPE,
                          preexec_fn=lambda: os.dup2(fd, 3), close_fds=False)
    os.close(fd)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer.get("result") or {"findings": [{"code": "failed", "text": str(answer)}]}


def codes(report, **having):
    """having: repairable=1, severity="info" …"""
    return {f["code"] for f in report["findings"] if all(f.get(key) == value for key, value in having.items())}


def texts(report):
    return "\n".join("%s: %s; %s" % (f["code"], f["text"], f.get("hint")) for f in report["findings"])


def wanted():
    only = OPTIONS.get("only", "").split(",") if OPTIONS.get("only") else None
    return [it for it in defects.DEFECTS if only is None or it.name in only]


def base_of(defect):
    """The good form of its disk, made and looked at once; None if it cannot be made here."""
    name = defect.base
    if name not in bases:
        bases[name] = None
        if name == "lvm" and subprocess.run("L=$(losetup -f --show %s) && losetup -d $L" % good.path, shell=True,
                                            stderr=subprocess.DEVNULL).returncode:
            note("no loop devices here: logical volumes are left out")
            return None
        if name == "windows" and not windows.can_make():
            note("ntfs-3g cannot mount here: Windows is left out")
            return None
        disk = good.copy(os.path.join(folder, name + ".raw"))
        if defects.BASES[name]:
            defects.BASES[name](disk)
        report = ask(disk)
        check(report["findings"] == [], "%s: nothing is wrong with the good disk" % name, texts(report))
        bases[name] = disk
    return bases[name]


def planted(defect):
    """The disk with it, which the caller removes; None if it cannot be made here."""
    base = base_of(defect)
    if base is None:
        return None
    disk = base.copy(os.path.join(folder, defect.name + ".raw"))
    try:
        defect.plant(disk)
    except Spoiled as error:
        check(False, "%s: can be planted" % defect.name, str(error))
        return None
    return disk


def is_found(defect):
    disk = planted(defect)
    if disk is None:
        return
    report = ask(disk)
    check(codes(report) == {defect.code, *defect.also.split()}, "%s: %s" % (defect.name, " ".join(sorted(codes(report)))),
          texts(report))
    if "show" in OPTIONS:
        note(texts(report))
    os.unlink(disk.path)


# --- Repairs ------------------------------------------------------------------------------------------------------------

class Case:
    """A defect on its way: imported and repaired, then tested (which may go on meanwhile), then put back."""

    def __init__(self, defect, disk):
        self.defect, self.disk, self.test = defect, disk, None
        self.image = world.do("image", "import", disk.path, "--name", defect.name, "--force", seconds=900)
        self.found = self.look()

    def check(self, claim, text, detail=""):
        return check(claim, "%s: %s" % (self.defect.name, text), detail)

    def look(self):
        result = world.imprint("image", "inspect", self.image, "-o", "json")
        report = json.loads(result.out)
        if result.status != (1 if report["errors"] else 0):
            raise Failed("image inspect: %s" % result)
        return report

    def as_planted(self):
        """The image's disk is, byte for byte, what was imported."""
        with sqlite3.connect("file:%s/imprint.db?mode=ro" % world.state, uri=True) as record:
            name, = record.execute("SELECT name FROM layers JOIN images USING (layer_id) WHERE image_id = ?",
                                   (self.image,)).fetchone()
        layer = os.path.join(world.pool, "layers", name + ".qcow2")
        return subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", self.disk.path, layer]).returncode == 0

    def only(self):
        """Words that ask for what is not repaired by itself."""
        return ["--only", self.defect.code] if self.defect.asked else []

    def plan(self):
        if self.defect.asked:
            plan = world.json("image", "repair", self.image, "--dry-run")
            self.check([r["done"] for r in plan["repairs"] if r["code"] == self.defect.code] == [0],
                       "it is not repaired unless it is named", plan)
        plan = world.json("image", "repair", self.image, "--dry-run", *self.only())
        told = [repair for repair in plan["repairs"] if repair["code"] == self.defect.code]
        self.check(told and told[0]["text"], "a dry run says what would be done", plan)
        self.check(self.as_planted() and codes(self.look()) == codes(self.found), "and changes nothing")
        if "show" in OPTIONS:
            note("\n".join(repair["text"] for repair in plan["repairs"]))
        return any(repair["done"] for repair in told)

    def repair(self, boots):
        done = world.imprint("image", "repair", self.image, "--wait", *self.only(), seconds=900)
        after = self.look()
        left = codes(after) - codes(self.found, repairable=0)
        if not self.check(done.status == 0 and not left and self.defect.code not in codes(after),
                          "is repaired: %s" % " ".join(sorted(codes(after))), "%s\n%s" % (done, texts(after))):
            return
        self.check(not self.as_planted(), "and the disk is another one")
        if boots:
            self.begin_test()

    def begin_test(self):
        self.test = world.begin("image", "boot-test", self.image, "--memory", "512", "--timeout", SECONDS, "-o", "json",
                                *(["--firmware", "uefi"] if self.defect.boots == "uefi" else []))

    def try_in_vain(self):
        done = world.imprint("image", "repair", self.image, "--wait", seconds=900)
        self.check(done.status == 1 and "failed:" in done.err, "its repair fails, with a reason", done)
        self.check(self.as_planted() and codes(self.look()) == codes(self.found), "and nothing was changed")

    def booted(self):
        out, err = self.test.communicate(timeout=3 * int(SECONDS))
        if "IO-APIC + timer doesn't work" in out:
            note("%s: this machine is so busy that the kernel took its clock for broken: once more" % self.defect.name)
            self.begin_test()
            out, err = self.test.communicate(timeout=3 * int(SECONDS))
        verdict = json.loads(out)[0] if self.test.returncode in (0, 1) and out.strip() else {}
        self.check(self.test.returncode == 0 and verdict.get("verdict") == "boots", "it boots", out + err)

    def undo(self):
        world.do("image", "repair", self.image, "--undo", seconds=900)
        self.check(self.as_planted() and codes(self.look()) == codes(self.found), "undone, it is as it was, byte for byte")

    def end(self):
        if self.test:
            self.booted()
        if not self.as_planted():
            self.undo()
        world.do("image", "delete", self.image, "--now")
        os.unlink(self.disk.path)


def is_mended(defect, boots):
    """The case, whose end() is still to come; None where there is nothing to repair."""
    disk = planted(defect)
    if disk is None or defect.code not in codes(ask(disk), repairable=1):
        if disk is not None:
            os.unlink(disk.path)
        return None
    case = Case(defect, disk)
    case.check(codes(case.found) == {defect.code, *defect.also.split()}, "is found in the image", texts(case.found))
    can = case.plan()
    case.check(can != (defect.hopeless == "told"), "it can be repaired" if can else "it cannot be repaired, and that is told")
    if defect.hopeless == "fails":
        case.try_in_vain()
    elif can:
        case.repair(boots)
    return case


def is_sampled(defect, seen):
    """Whether its repaired disk is started: by default one of each code."""
    first = (defect.code, defect.boots) not in seen
    seen.add((defect.code, defect.boots))
    return defect.base not in defects.SMALL and defect.boots and OPTIONS.get("boots") != "none" and \
        (first or OPTIONS.get("boots") == "all")


# --- Parts --------------------------------------------------------------------------------------------------------------

def has_disk():
    if TINY:
        tiny(good.path)
        return
    subprocess.run(["qemu-img", "convert", "-O", "raw", debian.make(world, "debian"), good.path], check=True)


def are_found():
    for defect in wanted():
        is_found(defect)


def all_codes():
    """The page and the table know the same codes."""
    if "only" in OPTIONS or TINY:
        return
    with open(PAGE) as page:
        known = set(re.findall(r"^\| `([a-z_.]+)` \|", page.read(), re.M))
    unseen = known - {it.code for it in defects.DEFECTS} - defects.OF_OTHERS
    check(not unseen, "each code of docs/findings.md has a defect", " ".join(sorted(unseen)))


def are_mended():
    appliance = os.path.join(world.folder, "appliance")
    subprocess.run([GUESTS[2], "--init", GUESTS[1], "--fetch", GUESTS[3], appliance], check=True, stdout=subprocess.DEVNULL)
    world.configure(boottest_at_once=2, virt_tb_cache=128, imprintd_appliance=appliance)
    world.start()
    under_way, seen = [], set()
    for defect in wanted():
        try:
            case = is_mended(defect, is_sampled(defect, seen))
            under_way += [case] if case else []
            while len(under_way) > 1 or (under_way and not under_way[0].test):
                under_way.pop(0).end()
        except (Failed, subprocess.TimeoutExpired) as error:
            check(False, "%s goes on to its end" % defect.name, str(error))
    for case in under_way:
        case.end()
    check(world.machines() == [] and world.pool_clean(), "nothing is left of them")


parts = OPTIONS.get("parts", "found,mended").split(",")
try:
    main(has_disk, *([are_found, all_codes] if "found" in parts else []),
         *([are_mended] if "mended" in parts and not TINY else []))
finally:
    if TINY:
        shutil.rmtree(folder, ignore_errors=True)
