#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every defect of the table in defects.py: found under its own code, and nothing else is.

Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE, a qcow2 image that it made, or the word tiny: then the disks are small,
hold no system that could start, and only looks are taken. --only=NAME,NAME: just these defects."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import debian
import defects
from disk import Disk, Spoiled, tiny
from world import GUESTS, OPTIONS, WORKER, check, main, note

TINY = os.path.basename(GUESTS[0]) == "tiny"
TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/findings.md")
folder = tempfile.mkdtemp(prefix="imprint-e2e-", dir=os.environ.get("IMPRINT_E2E_DIR", "/tmp"))
os.chmod(folder, 0o755)
good = Disk(os.path.join(folder, "good.raw"))
bases = {}
looked = set()


def ask(disk, verb="inspect", **request):
    """The worker's last word about the disk, which it has as imprintd gives it."""
    fd = os.dup2(os.open(disk.path, os.O_RDONLY), 100)
    done = subprocess.run([WORKER, verb], input=json.dumps({"layers": "raw", **request}).encode(), stdout=subprocess.PIPE,
                          preexec_fn=lambda: os.dup2(fd, 3), close_fds=False)
    os.close(fd)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer.get("result") or {"findings": [{"code": "failed", "text": str(answer)}]}


def codes(report):
    return {finding["code"] for finding in report["findings"]}


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
    disk = base.copy(os.path.join(folder, "spoiled.raw"))
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
    looked.update(codes(report))
    check(codes(report) == {defect.code, *defect.also.split()}, "%s: %s" % (defect.name, " ".join(sorted(codes(report)))),
          texts(report))
    if "show" in OPTIONS:
        note(texts(report))
    os.unlink(disk.path)


def has_disk():
    if TINY:
        tiny(good.path)
        return
    world_of_disks = type("Folder", (), {"disks": folder})
    subprocess.run(["qemu-img", "convert", "-O", "raw", debian.make(world_of_disks, "debian"), good.path], check=True)


def are_found():
    for defect in wanted():
        is_found(defect)


def all_codes():
    """The page and the table know the same codes."""
    if "only" in OPTIONS or TINY:
        return
    with open(TABLE) as page:
        known = set(re.findall(r"^\| `([a-z_.]+)` \|", page.read(), re.M))
    unseen = known - {it.code for it in defects.DEFECTS}
    check(not unseen, "each code of docs/findings.md has a defect", " ".join(sorted(unseen)))


try:
    main(has_disk, are_found, all_codes)
finally:
    shutil.rmtree(folder, ignore_errors=True)
