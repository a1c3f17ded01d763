#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian image, spoiled in many ways at once, its initramfs without any virtio: planned, mended, found right, and started.

test-mend-boot.py WORKER APPLIANCE-INIT MAKE-APPLIANCE FOLDER-FOR-A-KERNEL BUILD-DEBIAN-IMAGE"""
import json, os, shutil, subprocess, sys, tempfile, time

import tap
from tap import check

worker, init, make_appliance, kernels, build_image = sys.argv[1:6]
folder = tempfile.mkdtemp(prefix="imprint-mend-boot-", dir="/var/tmp")
os.chmod(folder, 0o755)
os.environ["PATH"] += ":/sbin:/usr/sbin"
SILENT_S, START_S = 480, 900


def path(name):
    return os.path.join(folder, name)


def run(*argv, **more):
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True, **more).stdout


def sh(script):
    run("bash", "-ec", "set -o pipefail; " + script, cwd=folder)


def ask(verb, files, **request):
    """The worker's last word about the layers, the newest first."""
    modes = [os.O_RDWR if verb == "mend" and i == 0 else os.O_RDONLY for i in range(len(files))]
    fds = [os.dup2(os.open(path(name), mode), 100 + i) for i, (name, mode) in enumerate(zip(files, modes))]
    layers = " ".join("qcow2" if name.endswith("qcow2") else "raw" for name in files)
    done = subprocess.run([worker, verb], input=json.dumps({"layers": layers, **request}).encode(), stdout=subprocess.PIPE,
                          preexec_fn=lambda: [os.dup2(fd, 3 + i) for i, fd in enumerate(fds)] and None, close_fds=False)
    for fd in fds:
        os.close(fd)
    return json.loads(done.stdout.splitlines()[-1])


def codes(report):
    return sorted(f["code"] for f in report["findings"])


# --- What is spoiled -------------------------------------------------------------------------------------------------


def debugfs(offset, *commands):
    with open(path("script"), "w") as f:
        f.write("\n".join(commands) + "\n")
    return run("debugfs", "-w", "-f", path("script"), f"{path('disk.raw')}?offset={offset}").decode()


def spoil(report):
    """No virtio in the initramfs, and none in its lists; another disk's root; no serial console."""
    part = next(p for p in report["partitions"] if p["filesystem"] == "ext4")
    at, version = part["start_bytes"], report["boot"]["version"]
    image = f"/boot/initrd.img-{version}"
    debugfs(at, f"dump {image} {path('initrd')}", f"dump /boot/grub/grub.cfg {path('grub.cfg')}")
    sh(f"""mkdir main; (cd main; zstd -dc ../initrd | cpio -id --quiet)
        find main -name '*virtio*.ko*' -delete; depmod -b main/usr {version} || depmod -b main {version}
        (cd main; find . | LC_ALL=C sort | cpio -o -H newc --quiet | zstd -q) >initrd
        test -z "$(zstd -dc initrd | cpio -it --quiet | grep 'virtio.*[.]ko')"
        sed -i 's/root=UUID=[0-9a-f-]*/root=UUID=99999999-2222-3333-4444-555555555555/; s/ console=[a-zA-Z0-9,]*//g' grub.cfg""")
    debugfs(at, f"rm {image}", f"write {path('initrd')} {image}", "rm /boot/grub/grub.cfg",
            f"write {path('grub.cfg')} /boot/grub/grub.cfg")


# --- Starting --------------------------------------------------------------------------------------------------------


def starts(disk):
    """What its serial port says until somebody may log in, or nothing more comes."""
    machine = subprocess.Popen(["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,tb-size=128", "-m", "512", "-nodefaults", "-no-user-config",
                                "-display", "none", "-serial", "stdio", "-no-reboot", "-drive",
                                f"file={disk},format=qcow2,if=virtio,snapshot=on"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    os.set_blocking(machine.stdout.fileno(), False)
    said, began, heard = b"", time.monotonic(), time.monotonic()
    while b"login:" not in said and time.monotonic() - began < START_S and time.monotonic() - heard < SILENT_S:
        new = machine.stdout.read()
        if new:
            said, heard = said + new, time.monotonic()
        elif machine.poll() is not None:
            break
        time.sleep(0.2)
    machine.kill()
    machine.wait()
    return said.decode(errors="replace")


def test():
    run(build_image, "--raw", path("disk.raw"))
    good = ask("inspect", ["disk.raw"])["result"]
    check(codes(good) == [], f"the image is fine: {codes(good)}")
    spoil(good)
    answer = ask("plan", ["disk.raw"], only="all")["result"]
    plan = answer["plan"]
    found = ["boot.console", "boot.entry", "boot.root", "driver.disk"]
    check(codes(answer["report"]) == found, f"spoiled, it has {codes(answer['report'])}")
    check(sorted(r["code"] for r in plan["repairs"] if r["done"]) == found, f"all are planned: {plan['repairs']}")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", path("disk.raw"), "-F", "raw", path("head.qcow2"))
    mended = ask("mend", ["head.qcow2", "disk.raw"], appliance=path("appliance"), mounts=plan["mounts"], edits=plan["edits"])
    if not check("result" in mended, f"mended: {mended.get('error', '')}"):
        return
    after = ask("plan", ["head.qcow2", "disk.raw"], only="all")["result"]
    check(codes(after["report"]) == [] and not after["plan"]["edits"], f"then it has nothing wrong: {codes(after['report'])}")
    check(subprocess.run(["bash", "-c", f"qemu-img convert -O raw {path('head.qcow2')} {path('flat')} && dd if={path('flat')} "
                          f"of={path('part')} bs=1M iflag=skip_bytes skip={plan['mounts'][0]['pieces'][0]['areas'][0]} conv=sparse "
                          f"2>/dev/null && truncate -s {plan['mounts'][0]['pieces'][0]['bytes']} {path('part')} && "
                          f"e2fsck -fn {path('part')}"], capture_output=True).returncode == 0, "e2fsck finds nothing")
    said = starts(path("head.qcow2"))
    if not check("login:" in said, "it starts"):
        print("\n".join("# " + line for line in said.splitlines()[-40:]))


try:
    for tool in ("qemu-system-x86_64", "qemu-img", "debugfs", "cpio", "zstd", "mmdebstrap", "depmod"):
        if not shutil.which(tool):
            tap.skip(f"{tool} is missing")
    made = subprocess.run([make_appliance, "--init", init, "--fetch", kernels, path("appliance")], capture_output=True, text=True)
    if made.returncode:
        tap.skip(f"no kernel: {made.stderr.splitlines()[-1:]}")
    test()
    tap.plan()
finally:
    subprocess.run(["rm", "-rf", folder])
sys.exit(tap.status())
