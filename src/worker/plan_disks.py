# SPDX-License-Identifier: Apache-2.0
"""Disks with faults, the worker's plans for them, and doing what is planned with the usual tools (debugfs, mtools)."""
import base64, json, os, shutil, subprocess, sys, tempfile

import tap
from tap import check

worker = sys.argv[1]
folder = tempfile.mkdtemp(prefix="imprint-test-")
os.chmod(folder, 0o755)
disk, part = os.path.join(folder, "disk"), os.path.join(folder, "part")
MIB = 1 << 20


def ask(verb, **request):
    """The worker's last word about the disk."""
    fd = os.dup2(os.open(disk, os.O_RDONLY), 100)

    def place():
        os.dup2(fd, 3)

    done = subprocess.run([worker, verb], input=json.dumps({"layers": "raw", **request}).encode(), stdout=subprocess.PIPE,
                          preexec_fn=place, close_fds=False)
    os.close(fd)
    return json.loads(done.stdout.splitlines()[-1])


def sh(script):
    subprocess.run(["sh", "-ec", script], check=True, cwd=folder, stdout=subprocess.DEVNULL,
                   env={**os.environ, "D": disk, "P": part})


# --- Disks ------------------------------------------------------------------------------------------------------------

CODE = "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; "
UUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"


def root(fstab, more="", size="60M", options="", cloud=True):
    """A root file system in the file part."""
    if os.path.exists(os.path.join(folder, "r")):
        shutil.rmtree(os.path.join(folder, "r"))
    sh("mkdir -p r/etc/cloud r/etc/ssh r/bin r/usr/lib r/boot/efi r/root r/home/ann; ln -s usr/lib r/lib;"
       "printf 'ID=debian\\nVERSION_ID=12\\n' >r/etc/os-release; cp /bin/true r/bin/ls; chmod 640 r/etc/os-release")
    if cloud:
        sh("printf 'system_info:\\n  default_user:\\n    name: admin\\n' >r/etc/cloud/cloud.cfg")
    with open(os.path.join(folder, "r/etc/fstab"), "w") as f:
        f.write(fstab)
    sh(f"{more} rm -f $P; truncate -s {size} $P; /sbin/mkfs.ext4 -qF -U {UUID} {options} -d r $P")


def mbr(*args, active="*", **more):
    root(*args, **more)
    sh(f"rm -f $D; truncate -s 64M $D; printf 'label: dos\\n2048,122880,83,{active}\\n' | /sbin/sfdisk -q $D; {CODE}"
       "dd if=$P of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null")


def gpt(*args, **more):
    """An EFI system partition, and the root."""
    root(*args, **more)
    sh("rm -f $D; truncate -s 128M $D; /sbin/sgdisk -n 1::+40M -t 1:ef00 -n 2::+60M $D; mformat -i $D@@1M -F -T 81920 ::;"
       "mmd -i $D@@1M ::/EFI ::/EFI/debian; echo shim >x; echo grub >y; mcopy -i $D@@1M x ::/EFI/debian/shimx64.efi;"
       "mcopy -i $D@@1M y ::/EFI/debian/grubx64.efi; dd if=$P of=$D bs=1M seek=41 conv=notrunc,sparse 2>/dev/null")


# --- Doing what is planned --------------------------------------------------------------------------------------------


def place_of(plan, path):
    """Where on the disk the file system lies that the path is on, its kind, and the path within."""
    best = max((m for m in plan["mounts"] if path.startswith(m["path"].rstrip("/") + "/")), key=lambda m: len(m["path"]))
    return best["pieces"][0]["areas"][0], best["filesystem"], path[len(best["path"].rstrip("/")):]


def debugfs(offset, *commands):
    script = os.path.join(folder, "script")
    with open(script, "w") as f:
        f.write("\n".join(commands) + "\n")
    subprocess.run(["/sbin/debugfs", "-w", "-f", script, f"{disk}?offset={offset}"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def do(plan, edit):
    data = base64.b64decode(edit.get("data", ""))
    if edit["op"] == "raw":
        with open(disk, "r+b") as f:
            f.seek(edit["offset"])
            f.write(data)
        return
    offset, kind, path = place_of(plan, edit["path"])
    with open(os.path.join(folder, "data"), "wb") as f:
        f.write(data)
    if kind == "vfat" and edit["op"] == "write":
        sh(f"mcopy -o -i $D@@{offset} data ::{path}")
        return
    if kind == "vfat":
        assert edit["op"] == "copy"
        source = place_of(plan, edit["from"])[2]
        sh(f"mmd -D s -i $D@@{offset} ::{os.path.dirname(path)} || true; rm -f z; mcopy -i $D@@{offset} ::{source} z;"
           f"mcopy -o -i $D@@{offset} z ::{path}")
        return
    if edit["op"] == "append":
        assert edit["align"] == 4
        subprocess.run(["/sbin/debugfs", "-R", f"dump {path} {folder}/old", f"{disk}?offset={offset}"], check=True,
                       stderr=subprocess.DEVNULL)
        with open(os.path.join(folder, "old"), "rb") as f:
            old = f.read()
        with open(os.path.join(folder, "data"), "wb") as f:
            f.write(old + bytes(-len(old) % 4) + data)
        debugfs(offset, "rm " + path, f"write {folder}/data {path}")
    elif edit["op"] == "write":
        folders, made = [], ""
        for name in path.split("/")[1:-1]:
            made += "/" + name
            folders.append("mkdir " + made)
        debugfs(offset, *folders, "rm " + path, f"write {folder}/data {path}", f"sif {path} mode 0100{edit['mode']:o}",
                f"sif {path} uid {edit['uid']}", f"sif {path} gid {edit['gid']}")
    elif edit["op"] == "directory":
        debugfs(offset, "mkdir " + path, f"sif {path} mode 0040{edit['mode']:o}", f"sif {path} uid {edit['uid']}",
                f"sif {path} gid {edit['gid']}")
    elif edit["op"] == "empty":
        debugfs(offset, "rm " + path, f"write {folder}/data {path}")
    elif edit["op"] == "remove":
        debugfs(offset, "rm " + path)


def digest():
    return subprocess.run(["sha256sum", disk], check=True, stdout=subprocess.PIPE).stdout


def codes(report, repairable=1):
    """What the report has of findings that have a repair, or of the others."""
    return sorted({f["code"] for f in report["findings"] if f["repairable"] == repairable})


def repair(name, found, left=(), only="all", seal=""):
    """The plan, after it was done; `found` is planted, `left` must stay."""
    before = digest()
    answer = ask("plan", only=only, seal=seal)
    if "result" not in answer:
        check(False, f"{name}: {answer}")
        return {}
    again = ask("plan", only=only, seal=seal)
    plan = answer["result"]["plan"]
    check(codes(answer["result"]["report"]) == sorted(found), f"{name}: has {codes(answer['result']['report'])}")
    check(answer == again and digest() == before, f"{name}: the same plan twice, and the disk is as it was")
    for finding in answer["result"]["report"]["findings"]:
        if finding["code"] in found and finding["code"] not in left:
            check(finding["repairable"] == 1, f"{name}: {finding['code']} can be repaired")
    for edit in plan["edits"]:
        do(plan, edit)
    after = ask("inspect")["result"]
    check(not set(codes(after, 0)) - set(codes(answer["result"]["report"], 0)), f"{name}: nothing new is wrong {codes(after, 0)}")
    check(codes(after) == sorted(left), f"{name}: repaired, it has {codes(after)} ({[r['text'] for r in plan['repairs']]})")
    return plan


def file(plan, path):
    return next((f for f in plan.get("files", []) if f["path"] == path), {"diff": "", "before": None})


def patched(before, diff):
    """What patch(1) makes of it: the diffs that are shown are what is done."""
    name = os.path.join(folder, "patched")
    with open(name, "w") as f:
        f.write(before or "")
    done = subprocess.run(["patch", "-s", name], input=diff.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print("# " + done.stdout.decode())
    return open(name).read() if os.path.exists(name) else ""


def diffs_are_true(name, plan):
    for f in plan.get("files", []):
        written = next(e for e in plan["edits"] if e["op"] == "write" and e["path"] == f["path"])
        check(patched(f["before"], f["diff"]) == base64.b64decode(written["data"]).decode(), f"{name}: the diff is what is done")


def finish():
    shutil.rmtree(folder)
    tap.plan()
    sys.exit(tap.status())
