# SPDX-License-Identifier: Apache-2.0
"""Disks that are spoiled from outside: files are changed by debugfs and mtools, sectors written; nothing is mounted.

A disk is laid out as BUILD-DEBIAN-IMAGE does it: GPT, the root (ext4) as partition 1 from 10 MiB, GRUB's core in partition
14 from 1 MiB, an EFI system partition as number 15 from 2 MiB. tiny() makes one of 96 MiB that has just what a look judges."""
import os
import re
import shutil
import struct
import subprocess
import uuid
import zlib

SECTOR = 512
CORE, ESP, ROOT = 2048 * SECTOR, 4096 * SECTOR, 20480 * SECTOR
TOOLS = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin", LC_ALL="C.UTF-8", MTOOLS_SKIP_CHECK="1")


class Spoiled(Exception):
    """A defect could not be planted: the disk is not what it was taken for."""


class Disk:
    def __init__(self, path):
        self.path = path

    def copy(self, path):
        subprocess.run(["cp", "--sparse=always", self.path, path], check=True)
        return Disk(path)

    def size(self):
        return os.path.getsize(self.path)

    def sh(self, script):
        """$D is the disk, $E its EFI system partition as mtools name it."""
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, cwd=os.path.dirname(self.path),
                              env=dict(TOOLS, D=self.path, E="%s@@%d" % (self.path, ESP), GROUP="defects%d" % os.getpid()))
        if done.returncode != 0:
            raise Spoiled("%s: %s" % (script, done.stdout + done.stderr))
        return done.stdout

    # Bytes

    def get(self, offset, count):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(count)

    def put(self, offset, data):
        """A negative offset counts from the end."""
        with open(self.path, "r+b") as file:
            file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
            file.write(data)

    def resize(self, by):
        os.truncate(self.path, self.size() + by)

    # Files of the root

    def debugfs(self, *commands, root=ROOT):
        done = subprocess.run(["debugfs", "-w", "-f", "-", "%s?offset=%d" % (self.path, root)], env=TOOLS, text=True,
                              input="\n".join(commands) + "\n", capture_output=True)
        wrong = [line for line in done.stderr.splitlines() if line and not re.match(r"debugfs [\d.]+ |Allocated inode", line)]
        if done.returncode != 0 or wrong:
            raise Spoiled("debugfs %s: %s" % ("; ".join(commands), wrong or done.returncode))
        return done.stdout

    def names(self, folder, pattern, kind="10"):
        """Paths in it whose names fit: of regular files, or with "12" of links."""
        rows = [line.split("/") for line in self.debugfs("ls -p " + folder).splitlines() if line.startswith("/")]
        return ["%s/%s" % (folder, row[5]) for row in rows if row[2].startswith(kind) and re.fullmatch(pattern, row[5])]

    def read(self, path):
        kept = self.path + ".file"
        self.debugfs("dump %s %s" % (path, kept))
        with open(kept, "rb") as file:
            data = file.read()
        os.unlink(kept)
        return data

    def write(self, path, data, new=False):
        kept = self.path + ".file"
        with open(kept, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(kept, 0o644)
        self.debugfs(*([] if new else ["rm " + path]), "write %s %s" % (kept, path))
        os.unlink(kept)

    def edit(self, path, pattern, by):
        text, count = re.subn(pattern, by, self.read(path).decode(), flags=re.M)
        if count == 0:
            raise Spoiled("%s has nothing like %s" % (path, pattern))
        self.write(path, text)

    # The partition table

    def gpt_entry(self, number, first=None, last=None, kind=None, backup_too=True):
        """Changes an entry as no tool would, and makes the checksums right again."""
        for header_at in [SECTOR, self.size() - SECTOR][:2 if backup_too else 1]:
            header = bytearray(self.get(header_at, 92))
            count, each = struct.unpack_from("<II", header, 80)
            entries_at = struct.unpack_from("<Q", header, 72)[0] * SECTOR
            entries = bytearray(self.get(entries_at, count * each))
            at = (number - 1) * each
            if kind is not None:
                entries[at:at + 16] = uuid.UUID(kind).bytes_le
            if first is not None:
                struct.pack_into("<Q", entries, at + 32, first)
            if last is not None:
                struct.pack_into("<Q", entries, at + 40, last)
            struct.pack_into("<I", header, 88, zlib.crc32(entries))
            struct.pack_into("<I", header, 16, 0)
            struct.pack_into("<I", header, 16, zlib.crc32(header))
            self.put(entries_at, bytes(entries))
            self.put(header_at, bytes(header))

    def mbr_entry(self, index, kind, first, count, active=0):
        self.put(446 + 16 * index, struct.pack("<B3xB3xII", active, kind, first, count))
        self.put(510, b"\x55\xaa")


# --- A system without what makes it run ---------------------------------------------------------------------------------

KERNEL = "6.1.0-1-tiny"
WANTS = "etc/systemd/system/"
GRUB_CFG = """serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set default=0
set timeout=0
set options="root=UUID=%s ro console=tty0 console=ttyS0,115200 quiet no_timer_check"
menuentry "Debian GNU/Linux" {
    linux /vmlinuz $options
    initrd /initrd.img
}
menuentry "Debian GNU/Linux (previous kernel)" {
    linux /vmlinuz.old $options
    initrd /initrd.img.old
}
"""


def tiny_root(folder, id, fstab):
    """A folder with as much of Debian as is looked at."""
    files = {
        "usr/lib/os-release": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n',
        "etc/fstab": fstab, "etc/machine-id": "", "etc/ssh/sshd_config": "",
        "etc/cloud/cloud.cfg": "system_info:\n  default_user:\n    name: debian\n", "etc/default/grub": "GRUB_TIMEOUT=0\n",
        "boot/grub/grub.cfg": GRUB_CFG % id, "usr/lib/systemd/systemd": "",
        "usr/lib/systemd/system/cloud-init.service": "", "usr/lib/systemd/system/systemd-networkd.service": "",
        "usr/bin/cloud-init": "", "usr/bin/growpart": "", "usr/sbin/qemu-ga": "", "usr/lib/udev/rules.d/60-qemu-guest-agent.rules": "",
        "etc/cloud/cloud.cfg.d/90_imprint.cfg": "datasource_list: [ NoCloud, None ]\nnetwork: { config: disabled }\n",
        "etc/systemd/network/80-dhcp.network": "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n",
    }
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        with open(os.path.join(folder, path), "w") as file:
            file.write(text)
    for path in "etc/rc2.d", "etc/rc3.d", "etc/udev/rules.d", "usr/bin", "var/lib/dpkg", "var/lib/dhcp", "var/lib/systemd", "srv", "root", WANTS + "multi-user.target.wants", \
            WANTS + "cloud-init.target.wants":
        os.makedirs(os.path.join(folder, path), exist_ok=True)
    shutil.copy("/bin/true", os.path.join(folder, "usr/bin/ls"))
    for path, to in {"bin": "usr/bin", "sbin": "usr/sbin", "usr/sbin/init": "/lib/systemd/systemd",
                     WANTS + "cloud-init.target.wants/cloud-init.service": "/lib/systemd/system/cloud-init.service",
                     WANTS + "multi-user.target.wants/systemd-networkd.service": "/lib/systemd/system/systemd-networkd.service",
                     "etc/os-release": "../usr/lib/os-release", "lib": "usr/lib", "vmlinuz": "boot/vmlinuz-" + KERNEL,
                     "initrd.img": "boot/initrd.img-" + KERNEL, "vmlinuz.old": "boot/vmlinuz-" + KERNEL,
                     "initrd.img.old": "boot/initrd.img-" + KERNEL}.items():
        os.symlink(to, os.path.join(folder, path))
    with open(os.path.join(folder, "boot/vmlinuz-" + KERNEL), "wb") as file:
        file.write(struct.pack("<514s4s8xH", b"", b"HdrS", 1024).ljust(512 + 1024, b"\0") + KERNEL.encode() + bytes(2048))
    tiny_initramfs(folder)


def tiny_initramfs(folder):
    """ext4 is in the kernel, all else that a root may need in modules."""
    inside = os.path.join(folder, "lib/modules", KERNEL)
    for path in "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko", "drivers/virtio/virtio_pci.ko", "fs/xfs/xfs.ko", \
            "fs/btrfs/btrfs.ko", "drivers/md/dm_mod.ko":
        path = os.path.join(inside, "kernel", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("a module")
    with open(os.path.join(inside, "modules.builtin"), "w") as file:
        file.write("kernel/fs/ext4/ext4.ko\n")
    with open(os.path.join(inside, "modules.dep"), "w") as file:
        file.write("kernel/drivers/net/virtio_net.ko:\nkernel/drivers/md/dm_mod.ko:\n")
    with open(os.path.join(folder, "usr/sbin/lvm"), "w") as file:
        file.write("a program")
    subprocess.run("(find usr/lib/modules ! -name virtio_net.ko; echo usr/sbin/lvm) | cpio -o -H newc --quiet >boot/initrd.img-" + KERNEL, shell=True,
                   check=True, cwd=folder, env=TOOLS)


def tiny(path, fstab="UUID=%s / ext4 rw,noatime,errors=remount-ro 0 1\n"):
    """The disk, in less than a second."""
    disk, id, folder = Disk(path), str(uuid.uuid4()), path + ".root"
    os.mkdir(folder)
    tiny_root(folder, id, fstab % id)
    disk.sh("truncate -s 96M $D; truncate -s 8M esp; sgdisk -n 1:20480:194559 -t 1:8304 -c 1:root -n 14:2048:4095 -t 14:ef02 "
            "-n 15:4096:20479 -t 15:ef00 -c 15:esp $D; mkfs.vfat -n ESP esp; mmd -i esp ::EFI ::EFI/BOOT; echo loader >loader; "
            "mcopy -i esp loader ::EFI/BOOT/BOOTX64.EFI; dd if=esp of=$D bs=1M seek=2 conv=notrunc,sparse; "
            "mke2fs -q -F -t ext4 -L root -U %s -b 4096 -m 1 -d '%s' -E offset=%d $D 85M; rm esp loader" % (id, folder, ROOT))
    boot = bytearray(440)
    boot[:3], boot[384:389] = b"\xeb\x63\x90", b"GRUB "
    struct.pack_into("<Q", boot, 92, CORE // SECTOR)
    disk.put(0, bytes(boot))
    disk.put(CORE, b"core" * 2048)
    shutil.rmtree(folder)
    return disk
