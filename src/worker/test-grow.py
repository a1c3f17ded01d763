#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that have become larger: the worker finds room that nothing uses, and the root takes it: tables are checked by
sfdisk and sgdisk, LVM's metadata by LVM, file systems by their own tools.

test-grow.py WORKER [APPLIANCE-INIT MAKE-APPLIANCE FOLDER-FOR-A-KERNEL]
With the latter the worker's verb mend does all of it. Without, only what is written to the disk itself is done, by hand."""
import json, os, shutil, struct, subprocess, sys

from plan_disks import *

os.environ["PATH"] += ":/sbin:/usr/sbin"
ROOM = {"partition.room", "lvm.room", "filesystem.room"}
appliance = os.path.join(folder, "appliance") if len(sys.argv) > 2 else None
loops = subprocess.run(["sh", "-c", f"truncate -s 1M {folder}/l && L=$(losetup -f --show {folder}/l) && losetup -d $L"],
                       stderr=subprocess.DEVNULL).returncode == 0


def run(*argv):
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print("\n".join("# " + line for line in [str(argv), *done.stdout.splitlines()]))
    return done.returncode == 0 and done.stdout


def rooms(report):
    return sorted(f["code"] for f in report["findings"] if f["code"] in ROOM)


# --- Disks -----------------------------------------------------------------------------------------------------------

def tree(kind, size, more="", options=""):
    """The root file system in the file part, without cloud-init."""
    root("", more, cloud=False, size="60M")
    if kind == "xfs":
        with open(os.path.join(folder, "proto"), "w") as f:
            f.write("\n".join(["/", "0 0", "d--755 0 0", *proto(os.path.join(folder, "r")), "$", ""]))
        sh(f"rm -f $P; truncate -s {size} $P; mkfs.xfs -q {options} -p proto $P")
    elif kind == "btrfs":
        sh(f"rm -f $P; truncate -s {size} $P; mkfs.btrfs -q --rootdir r $P")
    else:
        sh(f"rm -f $P; truncate -s {size} $P; mke2fs -qF -t {kind} {options} -d r $P")


def proto(path, indent=""):
    """The folder as mkfs.xfs -p reads it."""
    lines = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_symlink():
            lines.append(f"{indent}{entry.name} l--777 0 0 {os.readlink(entry.path)}")
        elif entry.is_dir():
            lines += [f"{indent}{entry.name} d--755 0 0", *proto(entry.path, indent + " "), indent + "$"]
        else:
            lines.append(f"{indent}{entry.name} ---644 0 0 {entry.path}")
    return lines


def lay(size, table, at, grown):
    """A disk of the size with the file part at the MiB `at`, which then has become larger."""
    sh(f"rm -f $D; truncate -s {size} $D; {table}; dd if=$P of=$D bs=1M seek={at} conv=notrunc,sparse 2>/dev/null; {CODE}"
       f"truncate -s {grown} $D")


def sfdisk(*lines):
    return "printf '%s' | sfdisk -q $D" % "\\n".join(["label: dos", *lines, ""])


def volumes(places, script):
    """LVM's tools over loop devices of parts of the disk, (offset, bytes) each; they are $A, $B and see nothing else."""
    text, names = "", "AB"[:len(places)]
    for name, (offset, size) in zip(names, places):
        text += f"{name}=$(losetup -f --show -o {offset} --sizelimit {size} $D); exec {8 + names.index(name)}<${name}; losetup -d ${name};"
    each = " ".join("--devices $" + name for name in names)
    return ("export LVM_SUPPRESS_FD_WARNINGS=1; lvm() { n=$1; shift; $n --nolocking " + each +
            " --config 'global{activation=0} backup{backup=0 archive=0}' \"$@\"; }; " + text + script)


def asked(places, script):
    done = subprocess.run(["sh", "-ec", volumes(places, script)], cwd=folder, env={**os.environ, "D": disk}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print("\n".join("# " + line for line in done.stdout.splitlines()))
    return done.stdout if done.returncode == 0 else ""


GROUP = f"grow{os.getpid()}"


# --- Doing it --------------------------------------------------------------------------------------------------------

def mend(plan):
    """The disk as the appliance leaves it."""
    head = os.path.join(folder, "head")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", head)
    fds = [os.dup2(os.open(head, os.O_RDWR), 100), os.dup2(os.open(disk, os.O_RDONLY), 101)]
    request = {"layers": "qcow2 raw", "appliance": appliance, "mounts": plan["mounts"], "edits": plan["edits"]}
    done = subprocess.run([worker, "mend"], input=json.dumps(request).encode(), stdout=subprocess.PIPE,
                          preexec_fn=lambda: [os.dup2(fd, 3 + i) for i, fd in enumerate(fds)] and None, close_fds=False)
    for fd in fds:
        os.close(fd)
    last = json.loads(done.stdout.splitlines()[-1])
    if "result" in last:
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", head, disk + ".new")
        os.rename(disk + ".new", disk)
    return last


def by_hand(plan):
    for edit in plan["edits"]:
        if edit["op"] == "raw":
            do(plan, edit)


def taken(plan):
    """The root's file system in the file part, piece by piece as the plan mounts it."""
    with open(disk, "rb") as source, open(part, "wb") as to:
        for piece in plan["mounts"][0]["pieces"]:
            source.seek(piece["areas"][0])
            left, at = piece["bytes"], to.tell()
            while left:
                data = source.read(min(left, 1 << 20))
                if data.strip(b"\0"):
                    to.write(data)
                else:
                    to.seek(len(data), os.SEEK_CUR)
                left -= len(data)
            to.truncate(at + piece["bytes"])


FSCK = {"ext": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btr": ["btrfs", "check"]}


def grows(name, found, only="all", size=0):
    """What is found, planned, done, and is gone; `size`: of the root's place in MiB, at least."""
    answer = ask("plan", only=only)
    if not check("result" in answer, f"{name}: there is a plan {answer.get('error', '')}"):
        return {}
    report, plan = answer["result"]["report"], answer["result"]["plan"]
    check(rooms(report) == sorted(found), f"{name}: has {rooms(report)}")
    told = [r for r in plan["repairs"] if r["code"] in ROOM]
    check(told and all(r["done"] for r in told), f"{name}: {'; '.join(r['text'] for r in told)}")
    check([e["path"] for e in plan["edits"] if e["op"] == "grow"] == ["/"] and "grow the file system of /" in plan["steps"],
          f"{name}: {len(plan['edits'])} steps, one of them grows the file system")
    place = sum(piece["bytes"] for piece in plan["mounts"][0]["pieces"])
    check(place >= size * MIB, f"{name}: its place is {place >> 20} MiB then")
    if appliance:
        done = mend(plan)
        if not check("result" in done, f"{name}: it is done {done.get('error', '')}"):
            return {}
    else:
        by_hand(plan)
    after = ask("inspect")["result"]
    left = [] if appliance else ["filesystem.room"]
    check(rooms(after) == left and after["errors"] <= report["errors"], f"{name}: afterwards it has {rooms(after)}")
    if appliance:
        taken(plan)
        kind = plan["mounts"][0]["filesystem"]
        check(run(*FSCK[kind[:3]], part) is not False, f"{name}: {FSCK[kind[:3]][0]} finds nothing wrong")
    return plan


def stays(name):
    """Nothing is told."""
    found = rooms(ask("inspect")["result"])
    check(found == [], f"{name}: has {found}")


# --- Partitions ------------------------------------------------------------------------------------------------------

def test_mbr():
    tree("ext4", "63M")
    lay("64M", sfdisk("2048,,83,*"), 1, "300M")
    grows("ext4 behind an MBR", ["partition.room"], size=299)
    check("612352" in (run("sfdisk", "-d", disk) or ""), "sfdisk sees its size")
    check(run("sfdisk", "--verify", disk) is not False, "and nothing wrong")
    for kind in ("ext2", "ext3"):
        tree(kind, "63M")
        lay("64M", sfdisk("2048,,83,*"), 1, "200M")
        grows(kind, ["partition.room"], size=199)


def test_logical():
    """The last logical partition takes the extended one along, and is named by the one before."""
    tree("ext4", "60M")
    lay("128M", sfdisk("2048,20480,83,*", ",,5", ",20480,82", ",122880,83"), 23, "300M")
    start = json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"][-1]["start"]
    lay("128M", sfdisk("2048,20480,83,*", ",,5", ",20480,82", ",122880,83"), start >> 11, "300M")
    grows("a logical partition", ["partition.room"], size=270)
    table = json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    check(len(table) == 4 and table[-1]["start"] == start and table[-1]["start"] + table[-1]["size"] == 300 * 2048 and
          table[1]["start"] + table[1]["size"] == 300 * 2048, f"sfdisk sees both: {table[-1]}")
    with open(disk, "rb") as f:
        f.seek(table[1]["start"] * 512 + 462 + 8)
        link, count = struct.unpack("<II", f.read(8))
    check(table[1]["start"] + link + count == 300 * 2048, "and so does the entry that names it")
    check(run("sfdisk", "--verify", disk) is not False, "and nothing wrong")


def test_gpt():
    tree("xfs", "320M")
    lay("400M", "sgdisk -n 1::+40M -t 1:ef00 -n 2::+320M $D", 41, "700M")
    grows("xfs behind a GPT", ["partition.room"], only="partition.room", size=650)
    check("No problems found" in (run("sgdisk", "-v", disk) or ""), "sgdisk finds nothing wrong")
    tree("xfs", "320M")
    lay("700M", "sgdisk -n 1::+40M -t 1:ef00 -n 2::+320M $D", 41, "700M")
    sh("dd if=/dev/zero of=$D bs=512 seek=1 count=1 conv=notrunc 2>/dev/null")
    plan = grows("xfs, and the table's beginning is lost", ["partition.room"], size=650)
    check("gpt.primary" in [r["code"] for r in plan["repairs"]] and "No problems found" in (run("sgdisk", "-v", disk) or ""),
          "both are repaired")


def test_btrfs():
    tree("btrfs", "159M")
    lay("160M", sfdisk("2048,,83,*"), 1, "400M")
    grows("btrfs", ["partition.room"], size=399)


def test_inside():
    tree("ext4", "63M")
    lay("300M", sfdisk("2048,,83,*"), 1, "300M")
    grows("a file system smaller than its partition", ["filesystem.room"], size=299)
    tree("ext4", "63M")
    lay("200M", sfdisk("2048,,83,*"), 1, "500M")
    grows("a partition smaller than the disk as well", ["filesystem.room", "partition.room"], size=499)


def test_edges():
    """What is not told, and sizes that do not fit."""
    tree("ext4", "60M")
    lay("128M", sfdisk("2048,122880,83,*", ",,82"), 1, "400M")
    stays("room behind another partition")
    lay("120M", sfdisk("2048,122880,83,*"), 1, "120M")
    stays("little room")
    lay("128M", sfdisk("2048,122880,83,*", ",,5", ",20480,82"), 1, "400M")
    stays("room behind an extended partition")
    lay("400M", "sgdisk -n 1::+60M $D; sgdisk -h 1 $D", 1, "600M")
    stays("a hybrid table")
    started = ("mkdir -p r/sbin r/usr/bin r/etc/systemd/system/multi-user.target.wants; ln -s /lib/systemd/systemd r/sbin/init;"
               "ln -s x r/etc/systemd/system/multi-user.target.wants/cloud-init.service; touch r/usr/bin/cloud-init;")
    for told, name, more in ((["partition.room"], "cloud-init without growpart", ""),
                             ([], "cloud-init with growpart", "touch r/usr/bin/growpart;"),
                             (["partition.room"], "cloud-init, whose list has no growpart", "touch r/usr/bin/growpart;"
                              "printf 'cloud_init_modules: [ resizefs ]\\n' >r/etc/cloud/cloud.cfg.d/1.cfg;"),
                             (["partition.room"], "cloud-init that asks others", "touch r/usr/bin/growpart;"
                              "printf 'datasource_list: [ Ec2 ]\\n' >r/etc/cloud/cloud.cfg.d/1.cfg;"),
                             ([], "systemd-repart", "mkdir r/etc/repart.d; touch r/etc/repart.d/50-root.conf;")):
        root("", started + "mkdir -p r/etc/cloud/cloud.cfg.d;" + more)
        lay("64M", sfdisk("2048,122880,83,*"), 1, "400M")
        found = rooms(ask("inspect")["result"])
        check(found == told, f"{name}: has {found}")
    tree("ext4", "60M")
    lay("64M", sfdisk("2048,122880,83,*"), 1, "3T")
    plan = ask("plan", only="partition.room")["result"]["plan"]
    check(plan["mounts"][0]["pieces"][1]["bytes"] + 61 * MIB == 2 << 40, f"an MBR ends at 2 TiB: {plan['mounts']}")
    by_hand(plan)
    check(rooms(ask("inspect")["result"]) == ["filesystem.room"], "which is all there is for it")
    tree("ext4", "60M", options="-O sparse_super2")
    lay("64M", sfdisk("2048,122880,83,*"), 1, "400M")
    plan = ask("plan", only="partition.room")["result"]["plan"]
    check(not plan["edits"] and "sparse_super2" in plan["repairs"][0]["text"], f"what cannot grow stays: {plan['repairs']}")


# --- LVM -------------------------------------------------------------------------------------------------------------

def is_ours(plan, places, size, count, seqno):
    """LVM finds the volume where the plan has it, and goes on writing."""
    said = asked(places, f"lvm vgck {GROUP} 2>&1; lvm lvs --noheadings --units m --nosuffix -o lv_size,seg_count,vg_seqno {GROUP}/root;"
                 f"lvm lvrename {GROUP} root top; lvm vgck {GROUP} 2>&1; lvm pvs 2>&1")
    lines = [line.split() for line in said.splitlines() if "Activation disabled" not in line and "NOT backed up" not in line]
    place = sum(piece["bytes"] for piece in plan["mounts"][0]["pieces"]) if plan else 0
    check(lines and lines[0] == [f"{size:.2f}", str(count), str(seqno)] and place == size * MIB,
          f"LVM has the same volume of {place >> 20} MiB: {lines[:1]}")
    check(any(line[0] == "Renamed" for line in lines) and not any(line[0] == "WARNING:" for line in lines),
          f"and goes on from there: {lines[1:]}")


def test_lvm():
    """The partition of a GPT grows, with it everything in it; what was left free stays free."""
    tree("ext4", "160M")
    table = "sgdisk -n 1::+10M -n 2::+239M -t 2:8e00 $D"
    lay("260M", table, 12, "260M")
    place = [(11 * MIB, 239 * MIB)]
    asked(place, f"lvm pvcreate -q $A; lvm vgcreate -q {GROUP} $A; lvm lvcreate -an -Zn -Wn -y -n root -l 40 {GROUP};"
          f"lvm lvcreate -an -Zn -Wn -y -n swap -l 4 {GROUP}")
    sh("truncate -s 500M $D")
    plan = grows("ext4 on LVM", ["partition.room"], size=400)
    check("No problems found" in (run("sgdisk", "-v", disk) or ""), "sgdisk finds nothing wrong")
    is_ours(plan, [(11 * MIB, 488 * MIB)], 160 + 248, 2, 4)


def test_lvm_xfs():
    """The physical volume is smaller than its partition; it is the second one of the group."""
    tree("xfs", "320M")
    lay("900M", sfdisk("2048,81920,8e,*", ",,8e"), 43, "900M")
    place = [(1 * MIB, 40 * MIB), (41 * MIB, 340 * MIB)]
    asked(place, f"lvm pvcreate -q $A $B; lvm vgcreate -q {GROUP} $A $B; lvm lvcreate -an -Zn -Wn -y -n other -l 2 {GROUP} $A;"
          f"lvm lvcreate -an -Zn -Wn -y -n root -l 80 {GROUP} $B; lvm lvcreate -an -Zn -Wn -y -n last -l 4 {GROUP} $B")
    sh("dd if=$P of=$D bs=1M seek=42 conv=notrunc,sparse 2>/dev/null")
    whole = [(1 * MIB, 40 * MIB), (41 * MIB, 859 * MIB)]
    plan = grows("xfs on LVM", ["lvm.room"], only="lvm.room", size=800)
    is_ours(plan, whole, 320 + 520, 2, 5)


def test_lvm_adjoining():
    """The root's last extents are the volume's last: they become more, and the group's text has no new segment."""
    tree("ext4", "60M")
    lay("64M", "true", 1, "400M")
    asked([(0, 64 * MIB)], f"lvm pvcreate -q $A; lvm vgcreate -q {GROUP} $A; lvm lvcreate -an -Zn -Wn -y -n root -l 15 {GROUP}")
    sh("dd if=$P of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null")
    plan = grows("LVM on the whole disk", ["lvm.room"], size=390)
    is_ours(plan, [(0, 400 * MIB)], 396, 1, 3)


# --- All -------------------------------------------------------------------------------------------------------------

if appliance:
    for tool in ("qemu-system-x86_64", "qemu-img"):
        if not shutil.which(tool):
            tap.skip(f"{tool} is missing")
    made = subprocess.run([sys.argv[3], "--init", sys.argv[2], "--fetch", sys.argv[4], appliance], capture_output=True, text=True)
    if made.returncode:
        tap.skip(f"no kernel: {made.stderr.splitlines()[-1:]}")
tests = [test_mbr, test_logical, test_gpt, test_btrfs, test_inside]
tests += [] if appliance else [test_edges]
if loops:
    tests += [test_lvm, test_lvm_xfs, test_lvm_adjoining]
else:
    print("# no loop devices here: logical volumes are left out")
for test in tests:
    if not os.environ.get("ONLY") or test.__name__ in os.environ["ONLY"]:
        test()
finish()
