#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boot tests of a small Linux: one that comes up, and others whose boot loader, kernel or init does not. The last one is
killed in the middle, with imprintd. Usage: see world.py; the guest is made by MAKE-MICRO."""
import json
import os
import subprocess
import time

from world import GUESTS, World, check, main, wait_for

SECONDS = "150"
world = World()


def tested(image, *words, status):
    """The report of a boot test, and whether the command's exit says the same."""
    result = world.imprint("image", "boot-test", image, "--memory", "128", "--timeout", SECONDS, "-o", "json", *words,
                           seconds=400)
    check(result.status == status, "exit status %d" % status, result)
    return one_of(result)


def one_of(result):
    try:
        return json.loads(result.out)[0]
    except (ValueError, IndexError):
        return {}


def init(text):
    """An initramfs that takes the place of the guest's init, to be put behind its own."""
    folder = os.path.join(world.disks, "init")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "init")
    with open(path, "w") as file:
        file.write("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n"
                   "mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n"
                   "for module in $(cat /modules/order); do insmod /modules/$module.ko; done\n"
                   "exec </dev/ttyS0 >/dev/ttyS0 2>&1\nacpid -f -l /dev/null &\n" + text)
    os.chmod(path, 0o755)
    return subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], input=b"init\n", cwd=folder, capture_output=True).stdout


def disk(raw, name, change):
    path = os.path.join(world.disks, name + ".raw")
    subprocess.run(["cp", "--sparse=always", raw, path], check=True)
    change(path)
    return path


def changed(raw, name, change):
    path = disk(raw, name, change)
    return world.do("image", "import", path, "--name", name, "--force")


def with_init(text):
    def change(path):
        initrd = os.path.join(world.disks, "initrd")
        subprocess.run(["mcopy", "-n", "-o", "-i", path + "@@1M", "::initrd", initrd], check=True)
        with open(initrd, "ab") as file:
            size = os.path.getsize(initrd)
            file.write(b"\0" * (-size % 512) + init(text))
        subprocess.run(["mcopy", "-D", "o", "-i", path + "@@1M", initrd, "::initrd"], check=True)
        os.unlink(initrd)
    return change


def poke(offset, count):
    def change(path):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\0" * count)
    return change


def without(*names):
    def change(path):
        for name in names:
            subprocess.run(["mdel", "-i", path + "@@1M", "::" + name], check=True)
    return change


def no_initrd(path):
    config = os.path.join(world.disks, "syslinux.cfg")
    subprocess.run(["mcopy", "-n", "-o", "-i", path + "@@1M", "::syslinux.cfg", config], check=True)
    with open(config) as file:
        lines = [line for line in file if "INITRD" not in line]
    with open(config, "w") as file:
        file.writelines(lines)
    subprocess.run(["mcopy", "-D", "o", "-i", path + "@@1M", config, "::syslinux.cfg"], check=True)


LOGIN = 'echo "Welcome to Micro"; while :; do echo -n "micro login: "; read line || sleep 1; done\n'
EMERGENCY = ('echo "[FAILED] Failed to mount /data."; echo "You are in emergency mode. After logging in, type"; '
             'echo -n "Give root password for maintenance: "; while :; do sleep 9; done\n')
ROOT = ('echo "ALERT!  UUID=deadbeef does not exist.  Dropping to a shell!"; echo -n "(initramfs) "; '
        'while :; do sleep 9; done\n')
# name, change, verdict, reason, text of the evidence
CASES = [
    ("no-boot-sector", poke(0, 512), "does_not_boot", "no_boot_loader", "not a bootable disk"),
    ("no-boot-code", poke(0, 440), "does_not_boot", "boot_code_silent", ""),
    ("no-kernel", without("vmlinuz"), "does_not_boot", "boot_loader_error", ""),
    ("no-initrd", no_initrd, "does_not_boot", "root_not_found", "Unable to mount root fs"),
    ("panic", with_init("exit 3\n"), "does_not_boot", "kernel_panic", "Attempted to kill init"),
    ("wrong-root", with_init(ROOT), "does_not_boot", "root_not_found", "UUID=deadbeef does not exist"),
    ("emergency", with_init(EMERGENCY), "does_not_boot", "emergency_mode", "Failed to mount /data."),
    ("off", with_init("poweroff -f\n"), "does_not_boot", "powered_off", ""),
]
raw = os.path.join(world.disks, "micro.raw")


def makes():
    made = subprocess.run([GUESTS[0], raw], capture_output=True, text=True, timeout=900)
    check(made.returncode == 0, "a small Linux is made", made.stderr)
    world.start()


def boots():
    image = changed(raw, "login", with_init(LOGIN))
    png = os.path.join(world.disks, "screen.png")
    test = tested(image, "--screen", png, status=0)
    marks = {line["mark"]: line["ms"] for line in test.get("timeline", [])}
    check(test.get("verdict") == "boots" and test.get("reason") == "login_prompt", "it boots", test)
    check(test.get("clean_shutdown") == 1 and "powered_off" in marks, "and powers off when it is asked to", test)
    check(marks.get("firmware", -1) <= marks.get("boot_loader", 1 << 60) <= marks["login"] <= marks["powered_off"],
          "its time line goes forward", marks)
    with open(png, "rb") as file:
        check(file.read(8) == b"\x89PNG\r\n\x1a\n", "its screen is a PNG")
    log = world.imprint("image", "boot-test", test["boot_test_id"], "--serial")
    check("micro login:" in log.out and log.status == 0, "its serial console is kept", log)
    shown = world.imprint("image", "boot-test", test["boot_test_id"])
    check("boots: it asks for a login" in shown.out and " s  login" in shown.out, "its report is shown again", shown)
    check(world.machines() == [] and world.json("instance", "list") == [], "nothing of it is left, and it never was an instance")
    check(world.pool_clean(), "its disk is gone", world.imprint("pool", "check"))
    listed = world.json("image", "boot-tests", "--of", image)
    check([t["boot_test_id"] for t in listed] == [test["boot_test_id"]], "it is listed", listed)


def does_not():
    for name, change, verdict, reason, evidence in CASES:
        test = tested(changed(raw, name, change), status=1)
        check((test.get("verdict"), test.get("reason")) == (verdict, reason) and evidence in test.get("evidence", ""),
              "%s: %s" % (name, reason), test)


def killed():
    image = changed(raw, "hangs", with_init("while :; do sleep 9; done\n"))
    running = world.begin("image", "boot-test", image, "--memory", "128", "--timeout", "40", "-q")
    check(wait_for(world.machines), "its machine runs")
    world.kill()
    running.wait(60)
    running.communicate()
    time.sleep(1)
    world.start()
    tests = world.json("image", "boot-tests", "--of", image)
    check(len(tests) == 1, "the test is known after kill -9", tests)
    test = one_of(world.imprint("image", "boot-test", tests[0]["boot_test_id"], "-o", "json", seconds=400))
    check(test.get("verdict") == "no_sign_of_life", "and goes on to its verdict", test)
    check(world.machines() == [] and world.pool_clean(), "nothing is left of it", world.machines())
    job = world.ask("BootTestImage", image=image, memory="128", timeout="120")
    check(wait_for(world.machines), "another one runs")
    world.ask("CancelJobs", **{"jobs.1": job["job_id"]})
    check(wait_for(lambda: not world.machines()), "and ends when its job is cancelled")
    check(wait_for(lambda: len(world.json("image", "boot-tests", "--of", image)) == 1) and world.pool_clean() and
          not os.listdir(os.path.join(world.state, "seeds")), "without a trace")


def required():
    """What does not boot is not published where the operator says so."""
    world.kill()
    world.configure(boottest_required="import", boottest_timeout_tcg=SECONDS, boottest_memory=128)
    world.start()
    good = world.do("image", "import", disk(raw, "good", with_init(LOGIN)), "--name", "good")
    check(world.status("image", good) == "available", "an image that boots is published")
    listed = world.json("image", "boot-tests", "--of", good)
    check([test["verdict"] for test in listed] == ["boots"], "with its report", listed)
    bad = disk(raw, "bad", with_init(EMERGENCY))
    before = {image["image_id"] for image in world.json("image", "list")}
    result = world.imprint("image", "import", bad, "--name", "bad", "--wait", seconds=400)
    check(result.status != 0 and "[emergency_mode]" in result.err and "Failed to mount /data" in result.err,
          "one that does not is refused with the reason", result)
    check({image["image_id"] for image in world.json("image", "list")} == before and world.pool_clean(), "and is gone")
    test = [test for test in world.json("image", "boot-tests") if test["reason"] == "emergency_mode"]
    check(len(test) == 2, "its report stays", test)
    forced = world.do("image", "import", bad, "--name", "bad", "--force")
    check(world.status("image", forced) == "available", "forced, it is taken all the same")


main(makes, boots, does_not, killed, required)
