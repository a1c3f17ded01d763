#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The worker's verb mend on real disks: what it changed is read back by other tools, and fsck is content.

test-mend.py WORKER APPLIANCE-INIT MAKE-APPLIANCE FOLDER-FOR-A-KERNEL"""
import base64, hashlib, json, os, shutil, signal, subprocess, sys, tempfile, time

import tap
from tap import check

worker, init, make_appliance, kernels = sys.argv[1:5]
folder = tempfile.mkdtemp(prefix="imprint-mend-")
os.chmod(folder, 0o755)
os.environ["PATH"] += ":/sbin:/usr/sbin"
MIB = 1 << 20


def path(name):
    return os.path.join(folder, name)


def run(*argv, **more):
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True, **more).stdout


def sha(name):
    return hashlib.sha256(open(path(name), "rb").read()).hexdigest()


def fill(name, text, mode=0o644):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "wb") as f:
        f.write(text.encode() if isinstance(text, str) else text)
    os.chmod(path(name), mode)


# --- Disks ---------------------------------------------------------------------------------------

def sparse(name, size):
    with open(path(name), "wb") as f:
        f.truncate(size)
    return path(name)


def ext4(name, size, tree, *options):
    run("mke2fs", "-q", "-t", "ext4", "-d", path(tree), *options, sparse(name, size))


def piece(size, *areas, stripe=0):
    return {"bytes": size, "stripe_bytes": stripe, "areas": list(areas)}


def spans(pieces):
    """(offset in the volume, offset on the disk, length) of each run of bytes."""
    at = 0
    for p in pieces:
        width = p["stripe_bytes"] or p["bytes"]
        ways = len(p["areas"])
        for chunk in range(p["bytes"] // width if p["stripe_bytes"] else 1):
            yield at, p["areas"][chunk % ways] + chunk // ways * width, width
            at += width


def put(disk, pieces, name):
    """The file's bytes into the pieces, as LVM would have it."""
    with open(path(disk), "r+b") as to, open(path(name), "rb") as source:
        for at, offset, size in spans(pieces):
            source.seek(at)
            data = source.read(size)
            if data.strip(b"\0"):
                to.seek(offset)
                to.write(data)


def get(disk, pieces, name):
    with open(path(disk), "rb") as source, open(path(name), "wb") as to:
        for at, offset, size in spans(pieces):
            source.seek(offset)
            to.seek(at)
            data = source.read(size)
            if data.strip(b"\0"):
                to.write(data)
        to.truncate(sum(p["bytes"] for p in pieces))


def flat(out="after.raw"):
    run("qemu-img", "check", "-q", "-f", "qcow2", path("head.qcow2"))
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path("head.qcow2"), path(out))
    return path(out)


# --- The worker ----------------------------------------------------------------------------------

def start(disk, mounts, edits, **more):
    """A new head on the raw disk; descriptors 3 and 4 are head and disk."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", path(disk), "-F", "raw", path("head.qcow2"))
    fds = [os.open(path("head.qcow2"), os.O_RDWR), os.open(path(disk), os.O_RDONLY)]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
    request = {"layers": "qcow2 raw", "appliance": path("appliance"), "mounts": mounts, "edits": edits, **more}
    process = subprocess.Popen([worker, "mend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: [os.setpgid(0, 0)] + [os.dup2(fd, 3 + i) for i, fd in enumerate(high)],
                               close_fds=False)
    for fd in fds + high:
        os.close(fd)
    process.stdin.write(json.dumps(request).encode())
    process.stdin.close()
    return process


def mend(disk, mounts, edits, **more):
    before = sha(disk)
    process = start(disk, mounts, edits, **more)
    messages = [json.loads(line) for line in process.stdout.read().decode().splitlines()]
    noise = process.stderr.read().decode()
    process.wait()
    last = messages[-1] if messages else {}
    if noise or (process.returncode == 0) != ("result" in last):
        print(f"# status {process.returncode}, {last}, {noise}")
    check(sha(disk) == before, "the layer below is as it was")
    return last.get("result"), last.get("error")


def refused(disk, mounts, edits, words, text, **more):
    result, error = mend(disk, mounts, edits, **more)
    check(error and all(word in error["text"] for word in words), f"{text}: {error or result}")


def root(filesystem, *pieces, options=""):
    return {"path": "/", "filesystem": filesystem, "options": options, "pieces": list(pieces)}


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def write(name, text, **more):
    return {"op": "write", "path": name, "data": b64(text), **more}


def debugfs(image, *commands):
    return b"".join(run("debugfs", "-R", command, image) for command in commands).decode(errors="replace")


def ext_clean(image):
    return subprocess.run(["e2fsck", "-fn", image], capture_output=True).returncode == 0


# --- Tests ---------------------------------------------------------------------------------------

def guest_tree(name):
    """What a small system has, and some traps in it."""
    for file, text, mode in (("etc/fstab", "old\n", 0o640), ("etc/machine-id", "1234\n", 0o444), ("etc/keep", "kept\n", 0o644),
                             ("etc/ssh/ssh_host_rsa_key", "secret\n", 0o600), ("boot/vmlinuz", "kernel", 0o644),
                             ("var/log/a/b/c", "log\n", 0o644), ("var/log/d", "log\n", 0o644), ("etc/motd", "x" * 4096, 0o644),
                             ("bin/target", "", 0o755)):
        fill(f"{name}/{file}", text, mode)
    for link, target in (("etc/outside", "/../../../../../init"), ("etc/target", "../../../../bin/target"), ("etc/up", "../../../../.."), ("etc/absolute", "/etc/keep"),
                         ("etc/dangling", "/nowhere/at/all"), ("etc/loop", "loop")):
        os.symlink(target, path(f"{name}/{link}"))
    for place in ("proc", "sys", "dev", "run", "tmp", "efi", "data", "home"):
        os.mkdir(path(f"{name}/{place}"))
    shutil.copy(shutil.which("busybox"), path(f"{name}/bin/busybox"))
    for tool in ("sh", "cat", "ls", "yes", "head", "id", "sleep"):
        os.symlink("busybox", path(f"{name}/bin/{tool}"))
    os.chown(path(f"{name}/etc/fstab"), 7, 8)


def test_ext4():
    size = 64 * MIB
    ext4("disk.raw", size, "tree")
    run("debugfs", "-w", "-R", "ea_set /etc/fstab security.selinux system_u:object_r:etc_t:s0", path("disk.raw"))
    run("debugfs", "-w", "-R", "ea_set /etc security.selinux system_u:object_r:folder_t:s0", path("disk.raw"))
    run("debugfs", "-w", "-R", "ea_set /etc/fstab user.mine word", path("disk.raw"))
    began = time.monotonic()
    result, error = mend("disk.raw", [root("ext4", piece(size, 0))], [
        write("/etc/fstab", "new\n"), write("/etc/new", "made\n", mode=0o600, uid=5, gid=6),
        write("/etc/labelled", "x", label="system_u:object_r:other_t:s0"), write("/a/b/c", "deep\n"),
        {"op": "append", "path": "/etc/keep", "data": b64("more\n")},
        {"op": "append", "path": "/boot/vmlinuz", "data": b64("behind"), "align": 16},
        {"op": "remove", "path": "/etc/ssh/ssh_host_rsa_key"}, {"op": "remove", "path": "/etc/ssh/not-there"},
        {"op": "remove", "path": "/not/there"}, {"op": "remove", "path": "/var/log", "recursive": 1},
        {"op": "remove", "path": "/etc/absolute"}, {"op": "empty", "path": "/etc/machine-id"},
        {"op": "empty", "path": "/etc/not-there"}, {"op": "empty", "path": "/etc/ssh", "recursive": 1},
        {"op": "link", "path": "/etc/localtime", "target": "/usr/share/zoneinfo/UTC"},
        {"op": "link", "path": "/etc/motd", "target": "fstab"}, {"op": "copy", "path": "/boot/copy", "from": "/boot/vmlinuz"},
        {"op": "directory", "path": "/etc/cloud/cloud.cfg.d", "mode": 0o700},
        {"op": "run", "argv": ["/bin/sh", "-c", "echo said; id -u; cat /etc/fstab; ls /proc/self/status /dev/null; "
                               "echo out > /tmp/made; sleep 100 &"]},
        {"op": "run", "argv": ["sh", "-c", "yes | head -c 1000000"]},
        write("/etc/outside", "no link now\n"), write("/etc/target", "through a link\n"), write("/etc/up/etc/etc-up", "above\n"), write("/etc/dangling", "file now\n"),
        write("/../../../../etc/dots", "dots\n"), write("/bin/big", os.urandom(3 * MIB))])
    print(f"# {time.monotonic() - began:.1f} s, {result and result['seconds']} s, kernel {result and result['kernel']}")
    if not check(result and len(result["edits"]) == 26 and all(edit["done"] == 1 for edit in result["edits"]),
                 f"all edits are done {error}"):
        return
    image = flat()
    check([result["edits"][i].get("changed", 1) for i in (6, 7, 8, 12)] == [1, 0, 0, 0], "and told where nothing was to do")
    said, flood = result["edits"][18]["output"], result["edits"][19]["output"]
    check(said.startswith("said\n0\nnew\n") and said.endswith("/dev/null\n/proc/self/status\n"),
          f"a program of the guest runs in its tree: {said!r}")
    check(0 < len(flood) <= 65536 and set(flood) == set("y\n"), f"of much output {len(flood)} bytes are kept")
    for file, text in (("/etc/fstab", "new\n"), ("/etc/new", "made\n"), ("/a/b/c", "deep\n"), ("/etc/keep", "kept\nmore\n"),
                       ("/boot/vmlinuz", "kernel" + "\0" * 10 + "behind"), ("/boot/copy", "kernel" + "\0" * 10 + "behind"),
                       ("/etc/machine-id", ""), ("/tmp/made", "out\n"), ("/bin/target", "through a link\n"), ("/etc/outside", "no link now\n"),
                       ("/etc/etc-up", "above\n"), ("/etc/dangling", "file now\n"), ("/etc/dots", "dots\n")):
        check(debugfs(image, f"cat {file}") == text, f"{file} is {text[:20]!r}")
    stat = debugfs(image, "stat /etc/fstab")
    check("Mode:  0640" in stat and "User:     7" in stat and "Group:     8" in stat, "what is replaced keeps mode and owner")
    check("etc_t" in debugfs(image, "ea_get /etc/fstab security.selinux") and
          "word" in debugfs(image, "ea_get /etc/fstab user.mine"), "and label and attributes")
    stat = debugfs(image, "stat /etc/new")
    check("Mode:  0600" in stat and "User:     5" in stat and "Group:     6" in stat, "a new file gets the mode and owner given")
    check("folder_t" in debugfs(image, "ea_get /etc/new security.selinux"), "and its folder's label")
    check("other_t" in debugfs(image, "ea_get /etc/labelled security.selinux"), "or the one given")
    check("Mode:  0700" in debugfs(image, "stat /etc/cloud/cloud.cfg.d"), "a folder is made")
    check("Mode:  0444" in debugfs(image, "stat /etc/machine-id"), "an emptied file keeps its mode")
    names = debugfs(image, "ls /etc", "ls /etc/ssh", "ls /var")
    check("ssh_host" not in names and "log" not in names and "absolute" not in names, "what was removed is gone")
    check("imprint-new" not in names, "no temporary file is left")
    check('Fast link dest: "/usr/share/zoneinfo/UTC"' in debugfs(image, "stat /etc/localtime") and
          'Fast link dest: "fstab"' in debugfs(image, "stat /etc/motd"), "links lead where they should")
    check(ext_clean(image), "e2fsck finds nothing")


def lvm(disk, script):
    """Real LVM, without device mapper: on loop devices over two parts of the disk."""
    run("bash", "-e", "-c", f"""
        A=$(losetup -f --show -o 1M --sizelimit 700M {path(disk)}); trap 'losetup -d $A' EXIT
        B=$(losetup -f --show -o 701M --sizelimit 200M {path(disk)}); trap 'losetup -d $A $B' EXIT
        export LVM_SUPPRESS_FD_WARNINGS=1
        lvm() {{ n=$1; shift; $n --nolocking --config 'global{{activation=0}} devices{{use_devicesfile=0 scan_lvs=0}}' "$@"; }}
        {script}; lvm lvs --noheadings -o lv_name,segtype,stripe_size,seg_size,seg_pe_ranges --units b --nosuffix cl \
            >{path("segments")}; printf '%s 1\\n%s 701\\n' $A $B >{path("bases")}""")
    bases = {device: int(base) * MIB for device, base in (line.split() for line in open(path("bases")))}
    volumes = {}
    for line in open(path("segments")):
        name, _, stripe, size, *ranges = line.split()
        areas = [bases[r.split(":")[0]] + MIB + int(r.split(":")[1].split("-")[0]) * 4 * MIB for r in ranges]
        volumes.setdefault(name, []).append(piece(int(size), *areas, stripe=int(stripe) if len(areas) > 1 else 0))
    return volumes


def mkfs_xfs(name, size, tree):
    """mkfs.xfs takes a prototype, not a folder."""
    lines = ["/dummy", "0 0", "d--755 0 0"]

    def walk(where):
        for entry in sorted(os.scandir(where), key=lambda e: e.name):
            mode = f"{entry.stat(follow_symlinks=False).st_mode & 0o777:03o}"
            if entry.is_symlink():
                lines.append(f"{entry.name} l--777 0 0 {os.readlink(entry.path)}")
            elif entry.is_dir():
                lines.append(f"{entry.name} d--{mode} 0 0")
                walk(entry.path)
                lines.append("$")
            else:
                lines.append(f"{entry.name} ---{mode} 3 4 {entry.path}")

    walk(path(tree))
    lines.append("$")
    fill("prototype", "\n".join(lines) + "\n")
    run("mkfs.xfs", "-q", "-p", path("prototype"), sparse(name, size))


def xfs_text(image, file):
    """xfs_db prints bytes as "00:  6e 65 …  ne…"."""
    lines = run("xfs_db", "-r", "-c", f"path {file}", "-c", "dblock 0", "-c", "type text", "-c", "print", image).decode().splitlines()
    return bytes.fromhex("".join(line.split(":", 1)[1][:50] for line in lines)).decode(errors="replace").rstrip("\0")


def test_lvm():
    """A root on xfs in an LV of two pieces, /boot and the ESP as partitions, an LV in stripes."""
    sparse("disk.raw", 1024 * MIB)
    volumes = lvm("disk.raw", "lvm pvcreate $A $B; lvm vgcreate cl $A $B; lvm lvcreate -an -Zn -Wn -y -n root -l 40 cl $A; "
                  "lvm lvcreate -an -Zn -Wn -y -n between -l 4 cl $A; lvm lvextend -l 90 cl/root $A; "
                  "lvm lvcreate -an -Zn -Wn -y -n data -i 2 -I 64k -l 20 cl")
    check(len(volumes["root"]) == 2 and len(volumes["data"][0]["areas"]) == 2, f"LVM made them: {volumes}")
    mkfs_xfs("root.img", 360 * MIB, "tree")
    ext4("data.img", 80 * MIB, "small")
    ext4("boot.img", 32 * MIB, "small")
    run("mkfs.vfat", "-F", "32", sparse("esp.img", 64 * MIB))
    fill("grub.efi", b"MZ" + os.urandom(100000))
    run("mmd", "-i", path("esp.img"), "::EFI", "::EFI/centos")
    run("mcopy", "-i", path("esp.img"), path("grub.efi"), "::EFI/centos/grubx64.efi")
    boot, esp = [piece(32 * MIB, 920 * MIB)], [piece(64 * MIB, 955 * MIB)]
    for pieces, name in ((volumes["root"], "root.img"), (volumes["data"], "data.img"), (boot, "boot.img"), (esp, "esp.img")):
        put("disk.raw", pieces, name)
    result, error = mend("disk.raw", [
        root("xfs", *volumes["root"]), {"path": "/boot", "filesystem": "ext4", "options": "", "pieces": boot},
        {"path": "/efi", "filesystem": "vfat", "options": "", "pieces": esp},
        {"path": "/data", "filesystem": "ext4", "options": "", "pieces": volumes["data"]}], [
        write("/etc/fstab", "new on xfs\n"), write("/boot/grub/grub.cfg", "menu\n"), write("/data/stripes", os.urandom(5 * MIB)),
        {"op": "copy", "from": "/efi/EFI/centos/grubx64.efi", "path": "/efi/EFI/BOOT/BOOTX64.EFI"},
        {"op": "remove", "path": "/var/log", "recursive": 1},
        {"op": "run", "argv": ["/bin/sh", "-c", "cat /etc/fstab >/data/copied; head -c 3 /boot/grub/grub.cfg"]}])
    if not check(result, f"a root on xfs in two pieces, with /boot, /efi and a striped volume: {error}"):
        return
    flat()
    for pieces, name in ((volumes["root"], "root.img"), (volumes["data"], "data.img"), (boot, "boot.img"), (esp, "esp.img")):
        get("after.raw", pieces, name)
    check(result["edits"][5]["output"] == "men", "programs see all of them")
    check("new on xfs" in xfs_text(path("root.img"), "/etc/fstab"), "xfs_db reads the new fstab")
    check("core.mode = 0100640" in run("xfs_db", "-r", "-c", "path /etc/fstab", "-c", "print", path("root.img")).decode(),
          "it kept its mode")
    check(subprocess.run(["xfs_repair", "-n", path("root.img")], capture_output=True).returncode == 0, "xfs_repair finds nothing")
    check(debugfs(path("boot.img"), "cat /grub/grub.cfg") == "menu\n" and ext_clean(path("boot.img")), "/boot has its file")
    check(debugfs(path("data.img"), "cat /copied") == "new on xfs\n" and ext_clean(path("data.img")), "the stripes are right")
    run("mcopy", "-n", "-i", path("esp.img"), "::EFI/BOOT/BOOTX64.EFI", path("fallback"))
    check(sha("fallback") == sha("grub.efi"), "the loader is at the fallback path too")
    check(subprocess.run(["fsck.vfat", "-n", path("esp.img")], capture_output=True).returncode == 0, "fsck.vfat finds nothing")


def test_btrfs():
    """Two sub-volumes of one file system, which is one device; then it grows."""
    run("mkfs.btrfs", "-q", "--rootdir", path("tree"), sparse("disk.raw", 256 * MIB))
    os.truncate(path("disk.raw"), 384 * MIB)
    pieces = [piece(384 * MIB, 0)]
    result, error = mend("disk.raw", [root("btrfs", *pieces), {"path": "/home", "filesystem": "btrfs", "options": "subvolid=5",
                                                               "pieces": pieces}],
                         [write("/etc/fstab", "new on btrfs\n"), write("/home/etc/other", "by the other mount\n"),
                          {"op": "grow", "path": "/"}, {"op": "fstrim", "path": "/"}])
    if not check(result, f"btrfs, mounted twice: {error}"):
        return
    check(result["edits"][2]["bytes"] == 384 * MIB, f"it has grown: {result['edits'][2]}")
    image = flat()
    shutil.rmtree(path("restored"), ignore_errors=True)
    os.mkdir(path("restored"))
    run("btrfs", "restore", "--path-regex", "^/(|etc(|/.*))$", image, path("restored"))
    check(open(path("restored/etc/fstab")).read() == "new on btrfs\n" and
          open(path("restored/etc/other")).read() == "by the other mount\n", "btrfs restore reads both")
    check(subprocess.run(["btrfs", "check", image], capture_output=True).returncode == 0, "btrfs check finds nothing")


def test_grow():
    ext4("disk.raw", 40 * MIB, "small")
    os.truncate(path("disk.raw"), 700 * MIB)
    mkfs_xfs("xfs.img", 320 * MIB, "small")
    put("disk.raw", [piece(320 * MIB, 200 * MIB)], "xfs.img")
    table = bytes(range(64))
    result, error = mend("disk.raw", [root("ext4", piece(160 * MIB, 0)),
                                      {"path": "/data", "filesystem": "xfs", "options": "", "pieces": [piece(480 * MIB, 200 * MIB)]}],
                         [{"op": "raw", "offset": 699 * MIB + 7, "data": b64(table)}, {"op": "directory", "path": "/x"},
                          {"op": "grow", "path": "/"}, {"op": "grow", "path": "/data"}])
    if not check(result, f"ext4 and xfs grow: {error}"):
        return
    image = flat()
    get("after.raw", [piece(160 * MIB, 0)], "ext.img")
    get("after.raw", [piece(480 * MIB, 200 * MIB)], "xfs.img")
    blocks = int(debugfs(path("ext.img"), "show_super_stats -h").split("Block count:")[1].split()[0])
    size = int(debugfs(path("ext.img"), "show_super_stats -h").split("Block size:")[1].split()[0])
    check(blocks * size == 160 * MIB and ext_clean(path("ext.img")), f"ext4 fills its partition: {blocks} blocks of {size}")
    geometry = run("xfs_db", "-r", "-c", "sb 0", "-c", "print dblocks blocksize", path("xfs.img")).decode()
    check("dblocks = 122880" in geometry, f"xfs too: {geometry.split()}")
    check(subprocess.run(["xfs_repair", "-n", path("xfs.img")], capture_output=True).returncode == 0, "and xfs_repair finds nothing")
    with open(image, "rb") as f:
        f.seek(699 * MIB + 7)
        check(f.read(64) == table, "bytes of the disk itself are written")


def test_trim():
    fill("waste/big", os.urandom(24 * MIB))
    fill("waste/small", "x")
    ext4("disk.raw", 64 * MIB, "waste")
    run("debugfs", "-w", "-R", "rm /big", path("disk.raw"))
    result, error = mend("disk.raw", [root("ext4", piece(64 * MIB, 0))], [{"op": "fstrim", "path": "/"}])
    check(result and result["edits"][0]["bytes"] > 40 * MIB, f"unused blocks are given back: {result} {error}")
    zeros = sum(e["length"] for e in json.loads(run("qemu-img", "map", "--output=json", "-f", "qcow2", path("head.qcow2")))
                if e["zero"] and e["depth"] == 0)
    check(zeros > 20 * MIB and ext_clean(flat()), f"{zeros >> 20} MiB of the disk are zeros now")
    check(result and 20 * MIB < result["freed_bytes"] <= zeros, "what the layer below holds of it is told")


def test_journal():
    """A transaction that only the journal holds, as after a power cut."""
    ext4("disk.raw", 64 * MIB, "tree", "-b", "4096", "-O", "^metadata_csum,^64bit", "-J", "size=4")
    image = path("disk.raw")
    block = debugfs(image, "bmap /etc/motd 0").strip()
    fill("block", "y" * 4096)
    run("debugfs", "-w", "-f", "/dev/stdin", image, input=f"jo\njw -b {block} {path('block')}\njc\n".encode())
    check("needs_recovery" in debugfs(image, "show_super_stats -h") and debugfs(image, "cat /etc/motd")[:3] == "xxx",
          "a file system that was not unmounted")
    result, error = mend("disk.raw", [root("ext4", piece(64 * MIB, 0))], [])
    image = flat()
    check(result and "needs_recovery" not in debugfs(image, "show_super_stats -h") and ext_clean(image),
          f"is clean after a mere look: {error}")
    check(debugfs(image, "cat /etc/motd")[:3] == "yyy", "and has what the journal had")


def test_refused():
    size = 32 * MIB
    mounts = [root("ext4", piece(size, 0))]
    fill("full/etc/fstab", "old\n")
    fill("full/filler", os.urandom(20 * MIB))
    ext4("disk.raw", size, "full", "-m", "0")
    refused("disk.raw", mounts, [write("/etc/new", "x"), write("/etc/fstab", os.urandom(12 * MIB))],
            ["/etc/fstab", "No space left"], "a full file system")
    refused("disk.raw", mounts, [write("/etc/fstab/x", "x")], ["/etc/fstab", "Not a directory"], "a file as a folder")
    refused("disk.raw", mounts, [write("/etc", "x")], ["write /etc", "folder"], "a folder as a file")
    refused("disk.raw", mounts, [{"op": "run", "argv": ["/bin/nothing"]}], ["/bin/nothing", "No such file"], "no program")
    refused("disk.raw", [root("xfs", piece(size, 0))], [], ["/ (xfs) cannot be mounted", "kernel says", "magic"], "the wrong kind")
    refused("disk.raw", [root("ntfs9", piece(size, 0))], [], ["ntfs9"], "a kind that no kernel knows")
    refused("disk.raw", [root("ext4", piece(2 * size, 0))], [], ["pieces"], "a piece beyond the disk")
    refused("disk.raw", mounts, [{"op": "raw", "offset": size - 1, "data": b64("xx")}], ["not inside"], "bytes beyond the disk")
    with open(path("disk.raw"), "r+b") as f:
        f.seek(1024 + 0x60)
        f.write(b"\xff\xff\xff\x7f")
    refused("disk.raw", mounts, [], ["/ (ext4) cannot be mounted", "kernel says: EXT4-fs"], "a disk that does not mount")


def test_run_fails():
    ext4("disk.raw", 64 * MIB, "tree")
    mounts = [root("ext4", piece(64 * MIB, 0))]
    refused("disk.raw", mounts, [{"op": "run", "argv": ["sh", "-c", "echo one; echo the reason >&2; exit 3"]}],
            ["status 3", "the reason"], "a program that fails")
    refused("disk.raw", mounts, [{"op": "run", "argv": ["sleep", "1000"], "seconds": 1}], ["1 seconds"], "one that takes too long")
    refused("disk.raw", mounts, [write("/etc/loop", "x"), {"op": "copy", "path": "/x", "from": "/etc/loop"}, {"op": "dance"}],
            ["dance"], "an edit that does not exist")


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = open(f"/proc/{entry}/stat").read().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry))
    return found


def runs(pid):
    """Nobody may fetch the status of an orphan: a zombie is as good as gone."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def gone(pids):
    for _ in range(100):
        if not any(runs(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def holders():
    """Processes that have a file of ours open: machines, as the workers have ended."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{entry}/fd/{fd}") for fd in os.listdir(f"/proc/{entry}/fd")]
        except OSError:
            continue
        if any(link.startswith(folder + "/") for link in links) and int(entry) != os.getpid():
            found.add(int(entry))
    return found


def test_cut():
    """Ended in the middle, with its group, as imprintd does it, at several moments: no machine stays, the layer below is as it was."""
    ext4("disk.raw", 64 * MIB, "tree")
    before = sha("disk.raw")
    mounts = [root("ext4", piece(64 * MIB, 0))]
    for phase, sig in (("start", signal.SIGKILL), ("mend", signal.SIGKILL), ("mend", signal.SIGTERM)):
        process = start("disk.raw", mounts, [write("/etc/fstab", "new\n"), {"op": "run", "argv": ["sleep", "100"]}])
        for line in process.stdout:
            if json.loads(line).get("progress", {}).get("phase") == phase:
                break
        time.sleep(0.3 if phase == "mend" else 0)
        machine = children(process.pid)
        os.killpg(process.pid, sig)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        check((machine or phase == "start") and gone(machine), f"signal {sig.value} in the phase {phase}: the machine is gone too")
    check(sha("disk.raw") == before, "nothing happened to the layer below")
    process = start("disk.raw", mounts, [{"op": "run", "argv": ["sleep", "100"]}], limit_s=1)
    out = process.stdout.read().decode().splitlines()
    process.wait()
    check('"TIMEOUT"' in out[-1] and "1 seconds" in out[-1], f"one that hangs is given up: {out[-1]}")
    process = start("disk.raw", mounts, [{"op": "run", "argv": ["sh", "-c", "echo c >/proc/sysrq-trigger"]}])
    out = process.stdout.read().decode().splitlines()
    process.wait()
    check("ended before its work was done" in out[-1], f"one whose kernel dies is told of: {out[-1]}")


def test_requests():
    for request, word in (({}, "neither"), ({"mounts": [{}], "appliance": "/nowhere"}, "linux-image-cloud-amd64"),
                          ({"mounts": [{}], "appliance": path("appliance")}, "layers"),
                          ({"mounts": [{}], "appliance": path("appliance"), "layers": "vmdk"}, "qcow2")):
        result = subprocess.run([worker, "mend"], input=json.dumps(request).encode(), capture_output=True)
        check(result.returncode == 1 and word in result.stdout.decode(), f"{request}: {result.stdout.decode().splitlines()[-1]}")


try:
    for tool in ("qemu-system-x86_64", "qemu-img", "debugfs", "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat", "lvcreate", "mcopy", "busybox", "cpio"):
        if not shutil.which(tool):
            tap.skip(f"{tool} is missing")
    made = subprocess.run([make_appliance, "--init", init, "--fetch", kernels, path("appliance")], capture_output=True, text=True)
    if made.returncode:
        tap.skip(f"no kernel: {made.stderr.splitlines()[-1:]}")
    guest_tree("tree")
    fill("small/etc/fstab", "old\n")
    fill("small/data/.keep", "")
    for test in (test_requests, test_ext4, test_lvm, test_btrfs, test_grow, test_trim, test_journal, test_refused, test_run_fails,
                 test_cut):
        if len(sys.argv) < 6 or test.__name__ in sys.argv[5:]:
            test()
            machines = holders()
            check(gone(machines), f"{test.__name__}: no machine runs on")
            for machine in filter(runs, machines):
                os.kill(machine, signal.SIGKILL)
    tap.plan()
finally:
    subprocess.run(["rm", "-rf", folder])
sys.exit(tap.status())
