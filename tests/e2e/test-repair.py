#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk with faults that are planted: found, planned without a change, repaired by the real appliance, found right, and
put back byte for byte; a machine's disk, a journal that was not written back, imprintd killed in the middle.

Usage: see world.py; then APPLIANCE-INIT, MAKE-APPLIANCE and a folder for a kernel.
"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time

from world import GUESTS, World, check, main, wait_for

os.environ["PATH"] += ":/sbin:/usr/sbin"
UUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
MIB = 1 << 20
for tool in ("qemu-system-x86_64", "mkfs.ext4", "debugfs", "sfdisk", "busybox", "cpio"):
    if not shutil.which(tool):
        print("1..0 # SKIP %s is missing" % tool)
        sys.exit(0)
world = World(imprintd_appliance="/nowhere")
appliance = os.path.join(world.folder, "appliance")
made = subprocess.run([GUESTS[1], "--init", GUESTS[0], "--fetch", GUESTS[2], appliance], capture_output=True, text=True)
if made.returncode:
    print("1..0 # SKIP no kernel: %s" % made.stderr.splitlines()[-1:])
    sys.exit(0)
image = instance = None


# --- Disks --------------------------------------------------------------------------------------------------------------

def sh(script):
    subprocess.run(["sh", "-ec", script], check=True, cwd=world.disks, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def disk(name, fstab):
    """An MBR with one ext4 partition, a root with what the look asks for; the path."""
    sh("rm -rf r; mkdir -p r/etc/ssh r/bin r/usr/lib r/boot r/var/log; ln -s usr/lib r/lib; cp /bin/true r/bin/ls;"
       "printf 'ID=debian\\nVERSION_ID=12\\n' >r/etc/os-release; echo 0123456789abcdef0123456789abcdef >r/etc/machine-id;"
       "echo secret >r/etc/ssh/ssh_host_rsa_key; echo public >r/etc/ssh/ssh_host_rsa_key.pub")
    with open(os.path.join(world.disks, "r/etc/fstab"), "w") as file:
        file.write(fstab)
    sh("rm -f part %s; truncate -s 60M part; mkfs.ext4 -qF -U %s -d r part; truncate -s 64M %s;"
       "printf 'label: dos\\n2048,122880,83,*\\n' | sfdisk -q %s; printf '\\372\\353' | dd of=%s conv=notrunc 2>&1;"
       "dd if=part of=%s bs=1M seek=1 conv=notrunc,sparse 2>&1" % (name, UUID, name, name, name, name))
    return os.path.join(world.disks, name)


def imported(name, fstab):
    return world.do("image", "import", disk(name, fstab), "--name", name, "--force")


def codes(id):
    result = world.imprint("image", "inspect", id, "--json")
    return {finding["code"] for finding in json.loads(result.out)["findings"]}


def bytes_of(id):
    """The whole disk, as it would leave the house."""
    path = os.path.join(world.folder, "out.raw")
    done = world.imprint("image", "export", id, "--format", "raw", "--file", path)
    check(done.status == 0, "%s is exported" % id, done)
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    world.imprint("image", "unexport", *[export["export_id"] for export in world.json("image", "exports")])
    return content


def sha(content):
    return hashlib.sha256(content).hexdigest()


def file_of(content, name):
    path = os.path.join(world.folder, "look.raw")
    with open(path, "wb") as file:
        file.write(content[MIB:])
    text = subprocess.run(["debugfs", "-R", "cat " + name, path], capture_output=True).stdout.decode()
    os.unlink(path)
    return text


def root_size(content):
    """Of the file system behind the first MiB, if it is whole."""
    path = os.path.join(world.folder, "look.raw")
    with open(path, "wb") as file:
        file.write(content[MIB:])
    clean = subprocess.run(["e2fsck", "-fn", path], capture_output=True).returncode == 0
    os.unlink(path)
    blocks, log = struct.unpack("<I16xI", content[MIB + 1024 + 4:MIB + 1024 + 28])
    return blocks * (1024 << log) if clean else 0


FSTAB = "UUID=%s / ext4 errors=remount-ro 0 1\nUUID=%s /data ext4 defaults 0 2\n" % (OTHER, OTHER)


# --- Parts --------------------------------------------------------------------------------------------------------------

def without_appliance():
    global image
    world.start()
    image = imported("faults.raw", FSTAB)
    check({"fstab.root", "fstab.unknown"} <= codes(image), "what is wrong with fstab is found", codes(image))
    refused = world.imprint("image", "repair", image)
    check(refused.status != 0 and "make-appliance --fetch" in refused.err and "/nowhere" in refused.err,
          "without an appliance one is told how to make it", refused)
    world.configure(imprintd_appliance=appliance)
    world.restart()


def dry_run():
    before = sha(bytes_of(image))
    planned = world.imprint("image", "repair", image, "--dry-run")
    check(planned.status == 0 and "-UUID=%s / ext4" % OTHER in planned.out and "+UUID=%s / ext4" % UUID in planned.out,
          "a dry run shows the difference", planned)
    check(sha(bytes_of(image)) == before and "fstab.root" in codes(image), "and changes nothing")
    check(world.json("image", "repairs") == [], "and there is no repair")


def repairs():
    global before
    before = bytes_of(image)
    began = time.monotonic()
    done = world.imprint("image", "repair", image, "--wait")
    print("# repaired in %.1f s" % (time.monotonic() - began))
    check(done.status == 0 and "+UUID=%s / ext4" % UUID in done.out, "it is repaired, and shows what was changed", done)
    check(not codes(image) & {"fstab.root", "fstab.unknown"}, "nothing of it is found any more", codes(image))
    after = bytes_of(image)
    text = file_of(after, "/etc/fstab")
    check("UUID=%s / ext4 errors=remount-ro 0 1" % UUID in text and "nofail" in text, "fstab is right", text)
    check(file_of(after, "/etc/ssh/ssh_host_rsa_key") == "" or "ssh.keys" not in codes(image), "and the rest of it too")
    kept = world.json("image", "repairs", image)[0]
    check(kept["status"] == "applied" and kept["undoable"] == 1 and
          any(file["path"] == "/etc/fstab" and file["before"] == FSTAB for file in kept["changes"]["files"]),
          "fstab as it was is kept with it", kept)
    again = world.imprint("image", "repair", image, "--only", "fstab.root", "--wait")
    check(again.status == 0 and "nothing to repair" in again.out, "there is nothing more to repair", again)
    check(sha(bytes_of(image)) == sha(after), "and nothing was changed")


def undone():
    world.do("image", "repair", image, "--undo")
    check(sha(bytes_of(image)) == sha(before), "undone, it is as it was, byte for byte")
    check(world.one("image", image)["status"] == "available" and "fstab.root" in codes(image), "with its faults")
    refused = world.imprint("image", "repair", image, "--undo", "--wait")
    check(refused.status == 4 and "no repair" in refused.err, "it is undone once", refused)
    check(world.pool_clean(), "and the pool holds nothing else")


def of_a_machine():
    """What makes a machine start no more is repaired where it is; and its second disk, which has nothing."""
    global instance
    instance = world.imprint("instance", "run", "--image", image, "--no-login", "--no-start", "--wait", "-q").out.split()[0]
    planned = world.ask("PlanImageRepair", image=instance, **{"findings.1": "fstab.root"})
    check(planned["ret_code"] == 0 and UUID in planned["plan"]["files"][0]["diff"], "a stopped machine's disk is planned", planned)
    job = world.ask("RepairImage", image=instance, **{"findings.1": "fstab.root"})
    check(job["ret_code"] == 0 and world.imprint("job", "wait", job["job_id"]).status == 0, "and repaired", job)
    report = world.ask("InspectImage", image=instance)["inspection"]
    check("fstab.root" not in {f["code"] for f in report["findings"]}, "it is found right", report)
    check("fstab.root" in codes(image), "its image is as it was")
    job = world.ask("UndoImageRepair", image=instance)
    check(world.imprint("job", "wait", job["job_id"]).status == 0, "it is undone", job)
    report = world.ask("InspectImage", image=instance)["inspection"]
    check("fstab.root" in {f["code"] for f in report["findings"]}, "and wrong again")
    volume = world.do("volume", "create", "--size", "20")
    done = world.imprint("volume", "repair", volume, "--wait")
    check(done.status == 0 and "nothing to repair" in done.out, "an empty volume has nothing to repair", done)
    check(world.status("volume", volume) == "available" and world.status("instance", instance) == "stopped",
          "both are free again")
    world.do("instance", "terminate", instance, "--now")
    world.do("volume", "delete", volume, "--now")
    check(world.pool_clean(), "and nothing stays")


def sealed():
    """What each machine should have of its own is taken out of a capture, and stays in the machine."""
    machine = world.imprint("instance", "run", "--image", image, "--no-login", "--no-start", "--wait", "-q").out.split()[0]
    plain = world.do("image", "capture", machine, "--name", "plain")
    some = world.do("image", "capture", machine, "--name", "some", "--seal-only", "machine-id")
    all_ = world.do("image", "capture", machine, "--name", "all", "--seal")
    own = {"identity.machine", "identity.ssh"}
    found = {id: codes(id) & own for id in (plain, some, all_)}
    check(found == {plain: own, some: {"identity.ssh"}, all_: set()},
          "machine-id and SSH host keys are gone where it was asked for, and nowhere else", found)
    check(world.json("image", "repairs", all_)[0]["undoable"] == 0, "and there is no way back to them")
    nothing = disk("nothing.raw", "")
    sh("dd if=/dev/zero of=%s bs=1M seek=1 count=60 conv=notrunc 2>&1" % nothing)
    other = world.do("image", "import", nothing, "--name", "nothing", "--force")
    second = world.imprint("instance", "run", "--image", other, "--no-login", "--no-start", "--wait", "-q").out.split()[0]
    refused = world.imprint("image", "capture", second, "--seal", "--wait")
    check(refused.status != 0 and "cannot be sealed" in refused.err, "what cannot be sealed does not become an image", refused)
    check(world.status("instance", second) == "stopped", "and its machine is free again")
    for id in (machine, second):
        world.do("instance", "terminate", id, "--now")
    for id in (plain, some, all_, other):
        world.do("image", "delete", id, "--now")
    check(world.pool_clean(), "nothing of it stays")


def journal():
    """A file system that was mounted when it was copied: what its journal holds counts. Its disk has become larger, too."""
    path = disk("dirty.raw", FSTAB)
    sh("dd if=%s of=part bs=1M skip=1 count=60 2>&1; debugfs -w -R 'feature needs_recovery' part; "
       "dd if=part of=%s bs=1M seek=1 conv=notrunc 2>&1; truncate -s 200M %s" % (path, path, path))
    dirty = world.do("image", "import", path, "--name", "dirty", "--force")
    check({"filesystem.dirty", "partition.room"} <= codes(dirty), "a dirty journal and room are found", codes(dirty))
    done = world.imprint("image", "repair", dirty, "--wait")
    check(done.status == 0 and "journal" in done.out and "+UUID=%s / ext4" % UUID in done.out,
          "it is replayed, and the rest repaired", done)
    check(not codes(dirty) & {"fstab.root", "filesystem.dirty", "partition.room", "filesystem.room"}, "all are gone", codes(dirty))
    check(root_size(bytes_of(dirty)) == 199 * MIB, "and the root has all of its disk", done.out)
    world.do("image", "delete", dirty, "--now")


def killed():
    """imprintd is killed while a machine of it changes the disk: the next one does it all."""
    reply = world.ask("RepairImage", image=image)
    mends = lambda: [pid for pid in filter(str.isdigit, os.listdir("/proc")) if appliance in command(pid)]
    wait_for(mends, 60, 0.02)
    running = mends()
    check(len(running) > 0, "an appliance runs")
    world.kill()
    check(wait_for(lambda: not any(appliance in command(pid) for pid in running), 30), "it ends with imprintd")
    world.start()
    check(world.imprint("job", "wait", reply["job_id"]).status == 0 and "fstab.root" not in codes(image),
          "the next imprintd repairs it")
    world.do("image", "repair", image, "--undo")
    check(sha(bytes_of(image)) == sha(before), "and it can be undone")
    world.do("image", "delete", image, "--now")
    check(world.pool_clean(), "nothing stays in the pool")


def command(pid):
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return " ".join(words) if words[0].endswith("qemu-system-x86_64") else ""


before = b""
main(without_appliance, dry_run, repairs, undone, of_a_machine, sealed, journal, killed)
