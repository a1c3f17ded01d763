#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Systems put onto data disks by hand, in a Debian machine over SSH, and made images through a backup of the disk: a disk
image written with dd; partitions made one by one, a system copied in, GRUB installed from the machine; the same with the
root on LVM, which grows and is captured like others. Each ends with a login.

Usage: see world.py; the guest is BUILD-DEBIAN-IMAGE, or a qcow2 image that it made with the packages below. Takes many
minutes under TCG. --parts="lvm": only some of image, partitions, lvm.
"""
import os
import signal
import subprocess
import time

import debian
from debian import PATIENCE_S, Ssh
from world import OPTIONS, World, check, main, note, tail, wait_for

TOOLS = "qemu-utils lvm2 parted dosfstools grub-pc grub-pc-bin grub2-common grub-common".split()
# What an administrator types who copies the running system to a root mounted on /mnt and lets it boot by itself.
COPY = """
sudo tar -C / --one-file-system --exclude=./var/tmp/* --exclude=./tmp/* -cf - . | sudo tar -C /mnt -xpf -
printf '%s / ext4 rw,noatime 0 1\\n' "$root" | sudo tee /mnt/etc/fstab
printf 'GRUB_TIMEOUT=0\\nGRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"\\n' | sudo tee -a /mnt/etc/default/grub
for d in dev proc sys run; do sudo mount --bind /$d /mnt/$d; done
sudo chroot /mnt grub-install $disk
sudo chroot /mnt update-grub
for d in run sys proc dev; do sudo umount /mnt/$d; done
sudo umount /mnt
"""

PASSWORD = "Tr0ub4dor-3-horse"
world = World(imprintd_log_level="debug", limits_stop_timeout=600, limits_monitor=10, virt_tb_cache=128)
image = workshop = key = ssh = None
timed = time.monotonic()


def lap(text):
    global timed
    now = time.monotonic()
    note("%s: %.0f s" % (text, now - timed))
    timed = now


def prepares():
    global image, workshop, key, ssh
    world.source = debian.make(world, "byhand", TOOLS)
    image = world.do("image", "import", world.source, "--name", "tools", "--os-family", "debian", "--default-user", "debian")
    private, key = debian.keypair(world, "one")
    workshop = world.do("instance", "run", "--image", image, "-c", "2", "-m", "1024", "--disk", "30", "--hostname", "workshop",
                        "--keypair", key)
    ssh = Ssh(world, workshop, private)
    check(ssh("hostname") == "workshop", "a Debian machine lets us in")
    wait_for(lambda: world.one("instance", workshop)["agent_state"] == "connected", PATIENCE_S, 1)
    lap("a machine to work in")


def plug():
    """A new volume of 20 GB, plugged in; its id and its device in the machine."""
    volume = world.do("volume", "create", "--size", "20")
    world.do("volume", "attach", volume, "-i", workshop)
    device = ssh("i=0; while [ $i -lt 60 ] && [ ! -e /dev/disk/by-id/virtio-%s ]; do sleep 1; i=$((i+1)); done; "
                 "readlink -f /dev/disk/by-id/virtio-%s" % (volume, volume))
    check(device.startswith("/dev/vd") and world.one("volume", volume)["device"] == device,
          "a volume of 20 GB is plugged in, and shown as the guest has it", (device, world.one("volume", volume)))
    return volume, device


def type_in(script, text, **variables):
    """Typed in the machine, line by line, up to the first that fails."""
    ssh("set -ex\n" + "".join("%s=%s\n" % it for it in variables.items()) + "{ " + script.strip() + "\n} 2>&1 | tail -n 40\n"
        "exit ${PIPESTATUS[0]}", text)


def becomes_image(volume, name, *words, detach=False):
    """Backup, image, machine of it: a way into that machine."""
    if detach:
        world.do("volume", "detach", volume)
    point = world.do("snapshot", "create", volume)
    made = world.do("snapshot", "image", point, "--base", image, "--name", name)
    shown = world.one("image", made)
    check(shown["status"] == "available" and shown["size"] == 20, "the volume's backup becomes an image of 20 GB", shown)
    world.do("volume", "detach", volume) if not detach else None
    world.do("volume", "delete", volume, "--now")
    return made, starts(made, name, *words)


def starts(made, name, *words):
    instance = world.do("instance", "run", "--image", made, "-c", "2", "-m", "768", "--hostname", name, "--keypair", key, *words)
    into = Ssh(world, instance, ssh.key)
    check(into("hostname", "a machine of it lets us in by SSH") == name, "under the name that we gave it")
    lap("%s: image, machine, login" % name)
    return into


def ends(into):
    world.do("instance", "terminate", into.instance, "--now")


def own_image_has_all(into):
    """A machine of an own image has device names, passwords and series as one of a system image."""
    instance, volume = into.instance, world.do("volume", "create", "--size", "10")
    world.do("volume", "attach", volume, "-i", instance)
    wait_for(lambda: into("ls /dev/disk/by-id").find(volume) >= 0, PATIENCE_S, 1)
    device = into("readlink -f /dev/disk/by-id/virtio-%s" % volume)
    check(world.one("volume", volume)["device"] == device, "in it, a volume is the device that is shown", device)
    world.do("volume", "detach", volume, seconds=PATIENCE_S)
    world.do("volume", "delete", volume, "--now")
    check(wait_for(lambda: world.one("instance", instance)["agent_state"] == "connected", PATIENCE_S, 1), "its agent answers")
    world.do("instance", "password", instance, stdin=PASSWORD + "\n", seconds=PATIENCE_S)
    kept = into("sudo getent shadow debian").split(":")[1]
    check(kept == into("perl -e 'print crypt($ARGV[0], $ARGV[1])' '%s' '%s'" % (PASSWORD, kept)),
          "its password is the one that was set while it ran", kept)
    values = wait_for(lambda: [row["value"] for row in world.json("instance", "monitor", instance, "-m", "cpu", "--since", "1h")
                               if row["value"]], PATIENCE_S, 1)
    check(values, "what its CPU did is recorded", lambda: world.imprint("instance", "monitor", instance))


def disk_image():
    """A disk image brought along, made raw, resized and written onto the volume."""
    packed = os.path.join(world.folder, "packed.qcow2")
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", world.source, packed],
                   check=True, timeout=PATIENCE_S)
    volume, device = plug()
    ssh.send(packed, "/var/tmp/system.qcow2")
    lap("disk image sent")
    # Every byte of it goes through dd, at a few tens of MB a second under TCG: so it is not made as large as the volume.
    type_in("cd /var/tmp\n"
            "qemu-img convert -O raw system.qcow2 system.raw\n"
            "qemu-img resize -f raw system.raw 5G\n"
            "sudo dd if=system.raw of=$disk bs=4M conv=sparse\n"
            "sudo partprobe $disk\n"
            "lsblk $disk\n"
            "sync\n"
            "rm system.qcow2 system.raw\n", "a disk image is written onto it", disk=device)
    lap("disk image written")
    _, into = becomes_image(volume, "written")
    size = int(into("df --output=size -B1 / | tail -n 1"))
    check(18 << 30 < size <= 20 << 30, "with a root file system as large as the disk", size)
    own_image_has_all(into)
    ends(into)


def partitions():
    """Partitions one by one, a file system, the running system copied in, GRUB."""
    volume, device = plug()
    type_in("sudo parted -s $disk mklabel msdos\n"
            "sudo parted -s $disk mkpart primary ext4 1MiB 100%\n"
            "sudo parted -s $disk set 1 boot on\n"
            "sudo partprobe $disk\n"
            "sudo udevadm settle\n"
            "sudo mkfs.ext4 -q ${disk}1\n"
            "sudo mount ${disk}1 /mnt\n"
            "root=UUID=$(sudo blkid -o value -s UUID ${disk}1)\n" + COPY, "a system is put onto it by hand", disk=device)
    lap("system copied")
    _, into = becomes_image(volume, "copied", "--disk", "24", detach=True)
    check(into("lsblk -nro TYPE,MOUNTPOINT | grep ' /$'") == "part /", "its root is on a partition")
    size = int(into("df --output=size -B1 / | tail -n 1"))
    check(22 << 30 < size <= 24 << 30, "grown to the machine's disk", size)
    ends(into)


def lvm():
    """The same with a root on LVM, which grows with its disk, at first and later, and is captured as others are."""
    volume, device = plug()
    type_in("sudo parted -s $disk mklabel gpt\n"
            "sudo parted -s $disk mkpart bios 1MiB 3MiB\n"
            "sudo parted -s $disk set 1 bios_grub on\n"
            "sudo parted -s $disk mkpart lvm 3MiB 100%\n"
            "sudo parted -s $disk set 2 lvm on\n"
            "sudo partprobe $disk\n"
            "sudo udevadm settle\n"
            "sudo pvcreate ${disk}2\n"
            "sudo vgcreate system ${disk}2\n"
            "sudo lvcreate -y -L 16G -n root system\n"
            "sudo mkfs.ext4 -q /dev/system/root\n"
            "sudo mount /dev/system/root /mnt\n"
            "root=/dev/mapper/system-root\n" + COPY +
            "sudo vgchange -an system\n", "a system is put onto LVM by hand", disk=device)
    lap("system copied onto LVM")
    made, into = becomes_image(volume, "lvm")
    check(into("lsblk -nro TYPE,MOUNTPOINT | grep ' /$'") == "lvm /", "its root is on LVM")
    size = int(into("df --output=size -B1 / | tail -n 1"))
    check(15 << 30 < size <= 16 << 30, "as large as it was made: what was left free stays free", size)

    into("echo of the first >mark; sync")
    world.do("instance", "stop", into.instance, seconds=PATIENCE_S)
    world.do("instance", "resize", into.instance, "--disk", "26")
    world.do("instance", "start", into.instance)
    size = int(into("df --output=size -B1 / | tail -n 1"))
    check(21 << 30 < size <= 22 << 30, "with a larger disk it has grown by as much", lambda: (size, into(
        "sudo cat /var/log/cloud-init-output.log; lsblk; sudo pvs; sudo vgs; sudo lvs")))
    world.do("instance", "stop", into.instance, seconds=PATIENCE_S)
    captured = world.do("image", "capture", into.instance, "--name", "captured")
    ends(into)
    again = starts(captured, "again", "--disk", "30")
    check(again("cat mark") == "of the first", "captured, it holds what it held")
    size = int(again("df --output=size -B1 / | tail -n 1"))
    check(25 << 30 < size <= 26 << 30, "and grows at its first boot", size)
    ends(again)


def leaves():
    for noun, verb in (("instance", "terminate"), ("volume", "delete"), ("snapshot", "delete"), ("image", "delete")):
        for it in world.json(noun, "list"):
            if it["status"] not in ("deleted", "terminated", "ceased"):
                world.imprint(noun, verb, it[noun + "_id"], "--now", "--wait")
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    check(world.machines() == [], "no QEMU is left", world.machines())
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))


world.start()
note("log: " + world.log)
parts = {"image": disk_image, "partitions": partitions, "lvm": lvm}
main(prepares, *[parts[name] for name in OPTIONS.get("parts", " ".join(parts)).split()], leaves)
