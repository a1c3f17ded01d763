# SPDX-License-Identifier: Apache-2.0
"""Defects of disks, each planted from outside: what docs/findings.md knows, most codes in more than one way.

DEFECTS is the table; a base is how the disk was before, and that has no finding at all."""
import collections
import os
import re
import shutil
import struct
import subprocess
import tempfile
import uuid

import disk as disks
import windows
from disk import CORE, ESP, ROOT, SECTOR, Disk, Spoiled

GONE = "deadbeef-0000-4000-8000-000000000000"
OTHER_TYPE = "0fc63daf-8483-4772-8e79-3d69d8477de4"  # an ordinary partition of Linux
CFG = "/boot/grub/grub.cfg"
NETWORK = "/etc/systemd/network/80-dhcp.network"

# name: of the disk; code: what must be found; plant(disk); base: a key of BASES; also: what cannot but be found with it;
# boots: the firmware under which it starts once it is repaired, where the base is a system; hopeless: findings of the kind
# have a repair, but of this one the plan has "told" that there is none, or the attempt "fails"; asked: it is repaired only when
# its code is named.
Defect = collections.namedtuple("Defect", "name code plant base also boots hopeless asked",
                                defaults=("debian", "", "bios", "", False))


# --- Ways to spoil -------------------------------------------------------------------------------------------------------

def edit(path, pattern, by):
    return lambda disk: disk.edit(path, pattern, by)


def add(path, text):
    return lambda disk: disk.write(path, disk.read(path).decode() + text)


def new(path, data):
    return lambda disk: disk.write(path, data, new=True)


def debugfs(*commands):
    return lambda disk: disk.debugfs(*commands)


def sh(script):
    return lambda disk: disk.sh(script)


def put(offset, data):
    return lambda disk: disk.put(offset, data)


def both(*plants):
    def apply(disk):
        for plant in plants:
            plant(disk)
    return apply


def named(hostname):
    def apply(disk):
        disk.write("/etc/hostname", hostname + "\n", new="hostname" not in disk.debugfs("ls -p /etc"))
    return apply


def cmdline(text):
    """More words for all kernels."""
    return edit(CFG, r"( quiet[^\"]*)\"$", r'\1 %s"' % text)


def saved(entry):
    """GRUB's environment, with the entry that it remembers."""
    return ("# GRUB Environment Block\nsaved_entry=%s\n" % entry).ljust(1024, "#")


def boot_file(pattern, change):
    """change(bytes) of the one file in /boot that is named so; None takes it away."""
    def apply(disk):
        paths = disk.names("/boot", pattern)
        if not paths:
            raise Spoiled("/boot has nothing like %s" % pattern)
        for path in paths:
            if change is None:
                disk.debugfs("rm " + path)
            else:
                disk.write(path, change(disk.read(path)))
    return apply


def emptied(data):
    return b""


def zeroed(data):
    return bytes(len(data))


def repack(lacking):
    """Of bytes of an initramfs: the same without the files that are named so."""
    def change(data):
        with tempfile.TemporaryDirectory() as folder:
            unpack = ["zstd", "-dc"] if data[:4] == b"\x28\xb5\x2f\xfd" else ["gzip", "-dc"] if data[:2] == b"\x1f\x8b" else ["cat"]
            plain = subprocess.run(unpack, input=data, check=True, capture_output=True).stdout
            subprocess.run(["cpio", "-id", "--quiet"], input=plain, check=True, cwd=folder)
            found = subprocess.run(["find", ".", "-name", lacking, "-print", "-delete"], cwd=folder, capture_output=True).stdout
            if not found:
                raise Spoiled("the initramfs has nothing like %s" % lacking)
            return subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, check=True, cwd=folder,
                                  capture_output=True).stdout
    return change


def without_net(disk):
    """The kernel's modules as those of hypervisors that have no use for it."""
    for folder in disk.names("/usr/lib/modules", r"\d.*", "04"):
        disk.edit(folder + "/modules.dep", r"^.*/virtio_net\.ko.*\n", "")
        for path in disk.names(folder + "/kernel/drivers/net", r"virtio_net\.ko.*"):
            disk.debugfs("rm " + path)


def blacklist(disk):
    """As hypervisors' guides have it; debugfs makes no folder that is there."""
    if "/modprobe.d/" not in disk.debugfs("ls -p /etc"):
        disk.debugfs("mkdir /etc/modprobe.d")
    disk.write("/etc/modprobe.d/own.conf", "blacklist virtio_net\nblacklist pcspkr\n", new=True)


def hibernated(disk):
    """A disk of Windows that was shut down for a fast startup, of which only that is looked at."""
    os.unlink(disk.path)
    disk.sh("truncate -s 64M $D; truncate -s 60M part; printf 'label: dos\\n2048,122880,7,*\\n' | sfdisk -q $D; " + MBR_GRUB +
            "mkfs.ntfs -qFf part; echo hibr >hibr; ntfscp -f part hibr hiberfil.sys; "
            "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse; rm part hibr")


def root_uuid(disk):
    return str(uuid.UUID(bytes=disk.get(ROOT + 1024 + 104, 16)))


def grow(disk):
    disk.resize(1 << 30)


def smaller_partition(disk):
    """As if it had been made anew with an end that leaves out the last 8 MiB."""
    last = struct.unpack("<Q", disk.get(2 * SECTOR + 40, 8))[0]
    disk.gpt_entry(1, last=last - (8 << 20) // SECTOR)


def fill(disk):
    """All blocks but a few taken by one file."""
    free = int(re.search(r"Free blocks: *(\d+)", disk.debugfs("stats -h")).group(1))
    reserved = int(re.search(r"Reserved block count: *(\d+)", disk.debugfs("stats -h")).group(1))
    disk.write("/var/filler", "", new=True)
    disk.debugfs("fallocate /var/filler 0 %d" % (free - reserved - 200))


def cloud_network(name, mac=None):
    """What cloud-init shall set up on every machine of the disk; nothing else does."""
    def apply(disk):
        disk.debugfs("rm " + NETWORK)
        disk.write("/etc/cloud/cloud.cfg.d/99-network.cfg",
                   "network:\n  version: 1\n  config:\n    - type: physical\n      name: %s\n%s      subnets:\n        - type: dhcp\n"
                   % (name, "      mac_address: '%s'\n" % mac if mac else ""), new=True)
    return apply


def ifupdown(text):
    """A disk as with ifupdown alone."""
    def apply(disk):
        folders = [path for path in ("/etc/network", "/usr/lib/udev")
                   if "/%s/" % os.path.basename(path) not in disk.debugfs("ls -p " + os.path.dirname(path))]
        disk.debugfs("rm " + NETWORK, *["mkdir " + path for path in folders])
        disk.write("/usr/sbin/ifup", "x", new=True)
        disk.write("/usr/lib/udev/ifupdown-hotplug", "x", new=True)
        disk.write("/etc/network/interfaces", "auto lo\niface lo inet loopback\n\n" + text, new=True)
    return apply


def agent_off(disk):
    """What starts it is gone: a rule of udev's, and the links of an older init."""
    links = [path for level in "23" for path in disk.names("/etc/rc%s.d" % level, "S..qemu-guest-agent", "12")]
    disk.debugfs("rm /usr/lib/udev/rules.d/60-qemu-guest-agent.rules", *["rm " + path for path in links])


def lost_in_tests(disk):
    """A menu whose questions to the disk have no end."""
    disk.write(CFG, "if [ -f /usr/lib/modules/x/kernel ]; then true; fi\n" * 9000 + disk.read(CFG).decode())


def to_mbr(disk):
    """The same partitions in an MBR: the root first, then GRUB's core and the EFI system partition."""
    disk.sh("sgdisk -m 1:14:15 $D; sfdisk -q --activate $D 1")


def other_boot_code(disk):
    """A boot sector that goes on with the active partition, in whose first sector GRUB's is then."""
    code = next(path for path in ("/usr/lib/syslinux/mbr/mbr.bin", "/usr/lib/SYSLINUX/mbr.bin") if os.path.exists(path))
    disk.put(ROOT, disk.get(0, 440))
    disk.put(ROOT + 510, b"\x55\xaa")
    with open(code, "rb") as file:
        disk.put(0, file.read(440))


def core_for_mbr(disk):
    """GRUB's core again, as that of the image knows no other table than GPT."""
    with open(disk.path + ".cfg", "w") as file:
        file.write(VENDOR_CFG % root_uuid(disk))
    disk.sh("grub-mkimage -O i386-pc -o core -p /boot/grub -c $D.cfg biosdisk part_msdos " + GRUB_MODULES)
    with open(os.path.join(os.path.dirname(disk.path), "core"), "rb") as file:
        core = bytearray(file.read())
    struct.pack_into("<Q", core, 500, CORE // SECTOR + 1)  # where its first sector finds the rest
    disk.put(CORE, bytes(core))
    disk.sh("rm core $D.cfg")


def logical(disk):
    """An extended partition behind the others, of two logical ones in a chain."""
    start = disk.size() // SECTOR
    disk.resize(16 << 20)
    disk.mbr_entry(3, 5, start, 32768)
    for at, following in ((start, 16384), (start + 16384, 0)):
        disk.put(at * SECTOR + 446, struct.pack("<B3xB3xII", 0, 0x83, 2048, 8192))
        disk.put(at * SECTOR + 462, struct.pack("<B3xB3xII", 0, 5 if following else 0, following, 16384))
        disk.put(at * SECTOR + 510, b"\x55\xaa")


def chain_at(disk):
    return struct.unpack("<I", disk.get(446 + 48 + 8, 4))[0]


def ring(disk):
    disk.put((chain_at(disk) + 16384) * SECTOR + 462, struct.pack("<B3xB3xII", 0, 5, 16384, 16384))


def torn_chain(disk):
    disk.put((chain_at(disk) + 16384) * SECTOR, bytes(SECTOR))


def bare(disk):
    """The root alone, as the whole disk, with some boot code in its first sector."""
    disk.sh("dd if=$D of=part bs=1M skip=10 conv=sparse; mv part $D")
    disk.put(0, b"\xfa\xeb")
    disk.put(510, b"\x55\xaa")


GRUB_MODULES = "ext2 fat linux normal configfile search search_fs_uuid serial terminal echo test minicmd boot"
# GRUB for UEFI as distributions install it: what it does first stands in a file beside it.
VENDOR_CFG = "search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"


def vendor_grub(folder, id):
    def apply(disk):
        with open(disk.path + ".cfg", "w") as file:
            file.write(VENDOR_CFG % (id or root_uuid(disk)))
        disk.sh("mdel -i $E ::/EFI/BOOT/BOOTX64.EFI; mmd -i $E ::/EFI/debian; mcopy -i $E $D.cfg ::/EFI/debian/grub.cfg; "
                "grub-mkimage -O x86_64-efi -o loader -p /EFI/debian part_gpt %s efi_gop all_video; "
                "mcopy -i $E loader ::/EFI/%s; rm loader $D.cfg" % (GRUB_MODULES, folder))
    return apply


# --- Bases ---------------------------------------------------------------------------------------------------------------

def no_bios(disk):
    disk.put(0, bytes(440))


def folder_of(disk, fstab="UUID=%s / ext4 defaults 0 1\n", **changes):
    """A new, empty disk beside the other; the UUID and the folder for its root."""
    id, folder = str(uuid.uuid4()), disk.path + ".root"
    os.mkdir(folder)
    disks.tiny_root(folder, id, fstab.replace("%s", id))
    os.unlink(disk.path)
    return id, folder


MBR_GRUB = "printf 'GRUB ' | dd of=$D bs=1 seek=384 conv=notrunc; printf '\\001' | dd of=$D bs=1 seek=92 conv=notrunc; " \
           "printf '\\353\\143' | dd of=$D conv=notrunc; printf core | dd of=$D bs=512 seek=1 conv=notrunc; "


def lvm(disk, lacking=None, cloud=True):
    """The root in two pieces of an LVM, made without a device mapper: what is in it is put where LVM's words say."""
    id, folder = folder_of(disk, "/dev/mapper/GROUP-root / ext4 defaults 0 1\n/dev/GROUP/swap none swap sw 0 0\n")
    group = "defects%d" % os.getpid()
    if not cloud:
        os.unlink(os.path.join(folder, "etc/cloud/cloud.cfg"))
    if lacking:
        initrd = os.path.join(folder, "boot/initrd.img-" + disks.KERNEL)
        with open(initrd, "rb") as file:
            data = repack(lacking)(file.read())
        with open(initrd, "wb") as file:
            file.write(data)
    for path in "etc/fstab", "boot/grub/grub.cfg":
        with open(os.path.join(folder, path)) as file:
            text = file.read().replace("GROUP", group)
        with open(os.path.join(folder, path), "w") as file:
            file.write(text.replace("root=UUID=%s ro" % id, "root=/dev/mapper/%s-root ro rd.lvm.lv=%s/root" % (group, group)))
    disk.sh("truncate -s 208M $D; printf 'label: dos\\n2048,204800,8e,*\\n,204800,8e\\n' | sfdisk -q $D; " + MBR_GRUB +
            "truncate -s 64M part; mke2fs -qF -t ext4 -U %s -d '%s' part; %s"
            "lvm pvcreate $A; lvm vgcreate $GROUP $A; lvm lvcreate -an -Zn -Wn -y -n root -l 4 $GROUP; "
            "lvm lvcreate -an -Zn -Wn -y -n swap -l 4 $GROUP; lvm lvextend -l 16 $GROUP/root; sync; losetup -d $A; trap - EXIT; "
            "dd if=part of=$D bs=1M seek=2 count=16 conv=notrunc; dd if=part of=$D bs=1M seek=34 skip=16 conv=notrunc; rm part"
            % (id, folder, LVM_ON.format("A", "1M")))
    shutil.rmtree(folder)


LVM_ON = "{0}=$(losetup -f --show -o {1} --sizelimit 100M $D); trap 'losetup -d ${0}' EXIT; export LVM_SUPPRESS_FD_WARNINGS=1; " \
         "lvm() {{ n=$1; shift; $n --nolocking --config 'global{{activation=0}} devices{{use_devicesfile=0 scan_lvs=0}}' " \
         "\"$@\"; }}; "


def lvm_room(disk):
    """The second partition is gone, and the first one has its room."""
    lvm(disk, cloud=False)
    disk.sh("sfdisk -q --delete $D 2; echo , + | sfdisk -q -N 1 $D")


def spread_volume(disk):
    """The swap grows onto a second physical volume, which then stays behind."""
    disk.sh("A=$(losetup -f --show -o 1M --sizelimit 100M $D); B=$(losetup -f --show -o 101M --sizelimit 100M $D); "
            "trap 'losetup -d $A $B' EXIT; export LVM_SUPPRESS_FD_WARNINGS=1; lvm() { n=$1; shift; $n --nolocking --config "
            "'global{activation=0} devices{use_devicesfile=0 scan_lvs=0}' \"$@\"; }; lvm pvcreate $B; lvm vgextend $GROUP $B; "
            "lvm lvextend -L +60M $GROUP/swap; sync; losetup -d $A $B; trap - EXIT")
    disk.put(101 << 20, bytes(1 << 20))


def in_lvm_text(old, by):
    """In the newest of the metadata's texts, of which the older ones stay; LVM's checksum of it is not made anew."""
    def apply(disk):
        head = disk.get(1 << 20, 1 << 20)
        at = head.rfind(old)
        if at < 0 or len(old) != len(by):
            raise Spoiled("LVM's metadata has no %r" % old)
        disk.put((1 << 20) + at, by)
    return apply


def proto(folder, indent=""):
    """The folder as mkfs.xfs -p reads it."""
    lines = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.islink(path):
            lines.append("%s%s l--777 0 0 %s" % (indent, name, os.readlink(path)))
        elif os.path.isdir(path):
            lines += ["%s%s d--755 0 0" % (indent, name), *proto(path, indent + " "), indent + "$"]
        else:
            lines.append("%s%s ---644 0 0 %s" % (indent, name, path))
    return lines


def xfs(disk, options=""):
    id, folder = folder_of(disk, "UUID=%s / xfs defaults 0 0\n")
    with open(disk.path + ".proto", "w") as file:
        file.write("\n".join(["/", "0 0", "d--755 0 0", *proto(folder), "$", ""]))
    disk.sh("truncate -s 321M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; %s truncate -s 320M part log; "
            "mkfs.xfs -q -m uuid=%s %s -p $D.proto part; dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse; rm part log $D.proto"
            % (MBR_GRUB, id, options))
    shutil.rmtree(folder)


def xfs_in_use(disk):
    """The log's last record is no unmounting any more."""
    head = disk.get(1 << 20, 512)
    block, start = struct.unpack_from(">I", head, 4)[0], struct.unpack_from(">Q", head, 48)[0]
    agblocks, shift = struct.unpack_from(">I", head, 84)[0], head[124]
    at = (1 << 20) + ((start >> shift) * agblocks + (start & ((1 << shift) - 1))) * block
    log = disk.get(at, 64 << 10)
    found = log.find(b"\x6e\x55")
    if found < 0:
        raise Spoiled("the log has no record of an unmounting")
    record = log.rfind(struct.pack(">I", 0xfeedbabe), 0, found)
    disk.put(at + record + 40, struct.pack(">I", 2))  # as many operations, where an unmounting is alone


def btrfs(disk, lines="", words=""):
    """With more lines in fstab, more words for the kernels."""
    id, folder = folder_of(disk, "UUID=%s / btrfs defaults 0 0\n" + lines)
    with open(os.path.join(folder, "boot/grub/grub.cfg"), "r+") as file:
        text = file.read().replace(" quiet", " quiet" + words)
        file.seek(0)
        file.write(text)
    disk.sh("truncate -s 161M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; %s truncate -s 160M part; "
            "mkfs.btrfs -q -U %s --rootdir '%s' part; dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse; rm part"
            % (MBR_GRUB, id, folder))
    shutil.rmtree(folder)


def btrfs_pair(disk, options, then):
    """A btrfs of two devices, one in each of two partitions; `then` puts them there."""
    os.unlink(disk.path)
    disk.sh("truncate -s 801M $D; printf 'label: dos\\n2048,819200,83,*\\n,,83\\n' | sfdisk -q $D; %s truncate -s 400M part; "
            "truncate -s 399M other; mkfs.btrfs -q %s part other; dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse; %s rm part other"
            % (MBR_GRUB, options, then))


BOTH_DEVICES = "dd if=other of=$D bs=1M seek=401 conv=notrunc,sparse;"


def luks(disk):
    """A disk for data only: its partition is encrypted."""
    os.unlink(disk.path)
    disk.sh("truncate -s 64M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; " + MBR_GRUB)
    disk.put(1 << 20, b"LUKS\xba\xbe\0\2" + bytes(160) + GONE.encode())


# Windows' own findings are planted by src/guest/test-windows.c, which makes its registry.
OF_OTHERS = {"boot.manager", "boot.bcd", "driver.viostor", "driver.netkvm", "windows.registry", "os.no_cloudbase"}

def without(word):
    return lambda disk: windows.make(disk, word)


BASES = {
    "debian": None, "uefi": no_bios, "mbr": to_mbr, "active": both(to_mbr, core_for_mbr, other_boot_code), "logical": both(to_mbr, logical),
    "vendor": both(no_bios, vendor_grub("BOOT/BOOTX64.EFI", None)), "lvm": lvm, "xfs": xfs, "btrfs": btrfs,
    "windows": windows.make,
}
SMALL = {"lvm", "xfs", "btrfs", "windows"}  # they are no systems that start

# --- The table -----------------------------------------------------------------------------------------------------------

DEFECTS = [
    # The disk and its table
    Defect("zeros", "disk.empty", lambda disk: disk.sh("truncate -s 0 $D; truncate -s 64M $D"), also="root.none"),
    Defect("bare", "disk.no_table", bare),
    Defect("endless", "look.ended", lost_in_tests),
    Defect("mbr-no-size", "mbr.entry", lambda disk: disk.mbr_entry(3, 0x83, 2048, 0), "mbr"),
    Defect("mbr-logical-no-size", "mbr.entry", lambda disk: disk.put(chain_at(disk) * SECTOR + 446 + 12, bytes(4)), "logical"),
    Defect("mbr-no-begin", "mbr.entry", lambda disk: disk.mbr_entry(3, 0x83, 0, 2048), "mbr"),
    Defect("mbr-ring", "mbr.chain", ring, "logical"),
    Defect("mbr-torn", "mbr.chain", torn_chain, "logical"),
    Defect("gpt-both", "gpt.damaged", both(put(SECTOR + 16, b"\0\0\0\0"), put(-SECTOR + 16, b"\0\0\0\0")), also="root.none"),
    Defect("gpt-backwards", "gpt.damaged", lambda disk: disk.gpt_entry(2, first=8000, last=7000, kind=OTHER_TYPE)),
    Defect("gpt-no-header", "gpt.primary", put(SECTOR, bytes(SECTOR))),
    Defect("gpt-entries", "gpt.primary", put(3 * SECTOR, b"\1" * SECTOR)),
    Defect("gpt-no-backup", "gpt.backup", put(-SECTOR, bytes(SECTOR))),
    Defect("gpt-backup-entries", "gpt.backup", put(-33 * SECTOR, b"\1" * SECTOR)),
    Defect("gpt-cut", "gpt.backup", lambda disk: disk.resize(-64 * SECTOR)),
    Defect("gpt-grown", "gpt.misplaced", grow),
    Defect("room-behind", "partition.room", both(grow, debugfs("rm /usr/bin/growpart")), also="gpt.misplaced"),
    Defect("room-behind-mbr", "partition.room", both(grow, debugfs("rm /etc/cloud/cloud.cfg")), "mbr", "os.no_cloud_init"),
    Defect("part-beyond", "partition.beyond", lambda disk: disk.gpt_entry(2, disk.size() // SECTOR - 40,
                                                                          disk.size() // SECTOR + 100, OTHER_TYPE)),
    Defect("part-beyond-mbr", "partition.beyond",
           lambda disk: disk.mbr_entry(3, 0x83, disk.size() // SECTOR - 40, 200), "mbr"),
    Defect("cut-short", "partition.beyond", lambda disk: disk.resize(-(16 << 20)), also="filesystem.beyond gpt.backup root.none"),
    Defect("part-overlap", "partition.overlap", lambda disk: disk.gpt_entry(2, 2048, 2050, OTHER_TYPE)),
    Defect("part-overlap-mbr", "partition.overlap", lambda disk: disk.mbr_entry(3, 0x83, 2048, 2048), "mbr"),
    Defect("part-none", "partition.none", sh("sgdisk -d 1 -d 14 -d 15 $D"), also="root.none"),
    # What a firmware starts
    Defect("no-loader", "boot.none", both(no_bios, sh("sgdisk -d 15 $D"))),
    Defect("no-core", "boot.core", both(put(CORE, bytes(SECTOR)), sh("sgdisk -d 15 $D"))),
    Defect("not-active", "boot.active", sh("sfdisk -q --activate $D -"), "active", boots=""),
    Defect("no-bios-partition", "boot.bios_partition", sh("sgdisk -d 14 $D")),
    Defect("no-bios-type", "boot.bios_partition", sh("sgdisk -t 14:8300 $D")),
    Defect("esp-unreadable", "esp.unreadable", put(ESP, bytes(SECTOR)), "uefi"),
    Defect("esp-empty", "esp.empty", sh("mdel -i $E ::/EFI/BOOT/BOOTX64.EFI"), "uefi"),
    Defect("esp-no-size", "esp.empty", sh(": >empty; mcopy -o -i $E empty ::/EFI/BOOT/BOOTX64.EFI; rm empty"), "uefi"),
    Defect("esp-vendor", "esp.fallback", sh("mmd -i $E ::/EFI/debian; mcopy -i $E ::/EFI/BOOT/BOOTX64.EFI l; "
                                            "mcopy -i $E l ::/EFI/debian/grubx64.efi; mdel -i $E ::/EFI/BOOT/BOOTX64.EFI; rm l"),
           "uefi", boots="uefi"),
    Defect("esp-other-disk", "esp.config", sh("printf '%s' >cfg; mcopy -o -i $E cfg ::/EFI/debian/grub.cfg; rm cfg"
                                              % (VENDOR_CFG % GONE).replace("\n", "\\n")), "vendor", boots="uefi"),
    # What a boot loader starts
    Defect("no-menu", "boot.config", debugfs("rm " + CFG)),
    Defect("empty-menu", "boot.config", lambda disk: disk.write(CFG, "")),
    Defect("default-gone", "boot.default", edit(CFG, "set default=0", "set default=gnulinux-6.0")),
    Defect("default-high", "boot.default", edit(CFG, "set default=0", "set default=7")),
    Defect("default-remembered", "boot.default",
           both(edit(CFG, "set default=0", "load_env\nset default=\"${saved_entry}\""), new("/boot/grub/grubenv", saved("gone")))),
    Defect("kernel-gone", "boot.kernel", boot_file("vmlinuz-.*", None), also="boot.entry", hopeless="told"),
    Defect("kernel-unlinked", "boot.kernel", debugfs("rm /vmlinuz")),
    Defect("kernel-empty", "boot.kernel_damaged", boot_file("vmlinuz-.*", emptied), also="boot.entry", hopeless="told"),
    Defect("kernel-zeros", "boot.kernel_damaged", boot_file("vmlinuz-.*", zeroed), also="boot.entry", hopeless="told"),
    Defect("initrd-gone", "boot.initrd", boot_file("initrd.img-.*", None), also="boot.entry", hopeless="told"),
    Defect("initrd-unlinked", "boot.initrd", debugfs("rm /initrd.img")),
    Defect("initrd-not-named", "boot.initrd", edit(CFG, r"^ *initrd /initrd.img\n", ""), hopeless="told"),
    Defect("initrd-empty", "boot.initrd_damaged", boot_file("initrd.img-.*", emptied), also="boot.entry", hopeless="told"),
    Defect("initrd-zeros", "boot.initrd_damaged", boot_file("initrd.img-.*", zeroed), also="boot.entry", hopeless="told"),
    Defect("search", "boot.search", edit(CFG, "linux /vmlinuz ", "search --no-floppy --fs-uuid --set=root %s\n"
                                         "    linux /vmlinuz " % GONE)),
    Defect("root-uuid", "boot.root", edit(CFG, r"root=UUID=\S+", "root=UUID=" + GONE), also="boot.entry"),
    Defect("root-partuuid", "boot.root", edit(CFG, r"root=UUID=\S+", "root=PARTUUID=" + GONE), also="boot.entry"),
    Defect("root-label", "boot.root", edit(CFG, r"root=UUID=\S+", "root=LABEL=cloudimg-rootfs"), also="boot.entry"),
    Defect("root-is-esp", "boot.root", edit(CFG, r"root=UUID=\S+", "root=LABEL=ESP"), also="boot.entry"),
    Defect("root-number", "boot.root_name", edit(CFG, r"root=UUID=\S+", "root=/dev/sda1"), also="boot.entry"),
    Defect("lvm-in-cmdline", "boot.volume", cmdline("rd.lvm.lv=cl/root"), also="boot.entry"),
    Defect("resume", "boot.resume", cmdline("resume=UUID=" + GONE)),
    Defect("subvolume", "boot.subvolume", lambda disk: btrfs(disk, "", " rootflags=subvol=@rootfs"), "btrfs", "boot.entry"),
    Defect("old-kernel", "boot.entry", debugfs("rm /vmlinuz.old")),
    Defect("old-root", "boot.entry", edit(CFG, r"linux /vmlinuz.old \$options", "linux /vmlinuz.old root=UUID=" + GONE)),
    Defect("no-console", "boot.console", edit(CFG, " console=ttyS0,115200", "")),
    Defect("no-terminal", "boot.terminal", edit(CFG, r"^(serial|terminal_).*\n", "")),
    # Drivers
    Defect("no-virtio-blk", "driver.disk", boot_file("initrd.img-.*", repack("virtio_blk.ko*"))),
    Defect("no-virtio-pci", "driver.disk", boot_file("initrd.img-.*", repack("virtio_pci.ko*"))),
    Defect("no-virtio-net", "driver.net", without_net, hopeless="told"),
    Defect("net-blacklist", "driver.net", blacklist),
    Defect("no-lvm", "driver.root", lambda disk: lvm(disk, "lvm"), "lvm"),
    Defect("no-dm", "driver.root", lambda disk: lvm(disk, "dm_mod.ko*"), "lvm"),
    # File systems
    Defect("fs-beyond", "filesystem.beyond", smaller_partition, also="root.none"),
    Defect("fs-in-use", "filesystem.dirty", debugfs("feature needs_recovery")),
    Defect("fs-damaged", "filesystem.damaged", debugfs("set_super_value state 3")),
    Defect("fs-full", "filesystem.full", fill),
    Defect("fs-room", "filesystem.room", both(grow, debugfs("rm /etc/cloud/cloud.cfg"), sh("echo , + | sfdisk -q -N 1 $D")), "mbr",
           "os.no_cloud_init"),
    Defect("luks", "filesystem.encrypted", luks, also="root.none"),
    Defect("hibernated", "filesystem.hibernated", hibernated, also="root.none"),
    Defect("xfs-log", "filesystem.devices", lambda disk: xfs(disk, "-l logdev=log,size=64m"), "xfs"),
    Defect("xfs-in-use", "filesystem.dirty", xfs_in_use, "xfs", hopeless="fails"),  # a log that is not whole either
    Defect("btrfs-striped", "filesystem.unreadable", lambda disk: btrfs_pair(disk, "-d raid0 -m raid0", BOTH_DEVICES), "btrfs",
           "root.none"),
    Defect("btrfs-half", "filesystem.devices", lambda disk: btrfs_pair(disk, "-d raid1 -m raid1", ""), "btrfs", "root.none"),
    Defect("no-system", "root.none", debugfs("rm /etc/os-release", "rm /usr/lib/os-release")),
    # LVM
    Defect("lvm-label", "lvm.damaged", put((1 << 20) + 512 + 20, b"\xff\xff\xff"), "lvm", "root.none"),
    Defect("lvm-text", "lvm.damaged", in_lvm_text(b"logical_volumes {", b"logical_volumes }"), "lvm", "root.none"),
    Defect("lvm-area", "lvm.damaged", put((1 << 20) + 4096, bytes(512)), "lvm", "root.none"),
    Defect("lvm-spread", "lvm.missing", spread_volume, "lvm"),
    Defect("lvm-mirror", "lvm.segment", in_lvm_text(b'type = "striped"\n', b'type = "raid1"  \n'), "lvm"),
    Defect("lvm-room", "lvm.room", lvm_room, "lvm", "os.no_cloud_init"),
    Defect("lvm-gone", "fstab.unknown", lambda disk: lvm_root_edit(disk, b"/swap none", b"/gone none"), "lvm"),
    # What the system says of itself
    Defect("fstab-data", "fstab.unknown", add("/etc/fstab", "UUID=%s /srv ext4 defaults 0 2\n" % GONE)),
    Defect("fstab-swap", "fstab.unknown", add("/etc/fstab", "LABEL=swap none swap sw 0 0\n")),
    Defect("fstab-mapper", "fstab.unknown", add("/etc/fstab", "/dev/mapper/cl-home /home xfs defaults 0 0\n")),
    Defect("fstab-root", "fstab.root", edit("/etc/fstab", r"UUID=\S+", "UUID=" + GONE)),
    Defect("fstab-root-label", "fstab.root", edit("/etc/fstab", r"UUID=\S+", "LABEL=cloudimg-rootfs")),
    Defect("fstab-subvolume", "fstab.subvolume", lambda disk: btrfs(disk, "UUID=%s /home btrfs subvol=@home 0 0\n"), "btrfs"),
    Defect("fstab-sda", "fstab.name", edit("/etc/fstab", r"UUID=\S+", "/dev/sda1")),
    Defect("fstab-sdb", "fstab.name", add("/etc/fstab", "/dev/sdb1 /srv ext4 defaults 0 2\n")),
    Defect("machine-id", "identity.machine", lambda disk: disk.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")),
    Defect("ssh-keys", "identity.ssh", both(new("/etc/ssh/ssh_host_rsa_key", "a key\n"), debugfs("rm /etc/cloud/cloud.cfg")),
           also="os.no_cloud_init"),
    Defect("net-rules", "identity.net", new("/etc/udev/rules.d/70-persistent-net.rules",
                                            'SUBSYSTEM=="net", ATTR{address}=="52:54:00:12:34:56", NAME="eth0"\n')),
    Defect("fstab-partlabel", "fstab.unknown", add("/etc/fstab", "PARTLABEL=data /srv ext4 defaults 0 2\n")),
    Defect("fstab-place", "fstab.name", edit("/etc/fstab", r"UUID=\S+", "/dev/disk/by-path/pci-0000:00:06.0-part1")),
    Defect("fstab-type", "fstab.type", add("/etc/fstab", "LABEL=ESP /boot/efi xfs defaults 0 0\n")),
    Defect("fstab-twice", "fstab.twice", add("/etc/fstab", "tmpfs /srv tmpfs defaults 0 0\ntmpfs /srv tmpfs defaults 0 0\n")),
    Defect("fstab-both", "fstab.twice", add("/etc/fstab", "tmpfs /srv tmpfs defaults 0 0\nproc /srv proc defaults 0 0\n"),
           hopeless="told"),
    Defect("fstab-nfs", "fstab.network", add("/etc/fstab", "nas:/srv /srv nfs defaults 0 0\n")),
    Defect("fstab-by-path", "fstab.name", add("/etc/fstab", "/dev/disk/by-path/pci-0000:00:06.0 /srv ext4 defaults 0 2\n")),
    Defect("leases", "identity.leases", new("/var/lib/dhcp/dhclient.leases", "lease {}\n")),
    Defect("seed", "identity.seed", new("/var/lib/random-seed", "noise\n")),
    Defect("hostname", "identity.hostname", both(debugfs("rm /etc/cloud/cloud.cfg"), named("web")), also="os.no_cloud_init"),
    Defect("net-mac", "network.mac", edit(NETWORK, r"^Name=", "MACAddress=52:54:00:12:34:56\nName=")),
    Defect("net-mac-given", "network.mac", add(NETWORK, "\n[Link]\nMACAddress=52:54:00:12:34:56\n")),
    Defect("net-address", "network.address", edit(NETWORK, "^DHCP=yes", "Address=192.168.7.5/24\nGateway=192.168.7.1"), asked=True),
    Defect("net-name", "network.name", edit(NETWORK, "^Name=.*", "Name=ens3")),
    Defect("net-mac-only", "network.mac", edit(NETWORK, r"^Name=.*", "MACAddress=52:54:00:12:34:56")),
    Defect("net-link", "network.mac", new("/etc/systemd/network/10-lan.link",
                                          "[Match]\nMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\n")),
    Defect("net-none", "network.none", debugfs("rm " + NETWORK)),
    Defect("net-cloud-name", "network.name", cloud_network("ens18")),
    Defect("net-cloud-mac", "network.mac", cloud_network("eth0", mac="52:54:00:12:34:56")),
    Defect("net-interfaces", "network.name", ifupdown("auto ens3\niface ens3 inet dhcp\n")),
    Defect("net-interfaces-mac", "network.mac",
           ifupdown("auto /en*=lan\niface lan inet dhcp\n  hwaddress ether 52:54:00:12:34:56\n")),
    Defect("cloud-init-off", "os.cloud_init_off", new("/etc/cloud/cloud-init.disabled", "")),
    Defect("cloud-init-masked", "os.cloud_init_off", debugfs("symlink /etc/systemd/system/cloud-init.service /dev/null")),
    Defect("cloud-init-source", "os.cloud_init_source", edit("/etc/cloud/cloud.cfg.d/90_imprint.cfg", "^datasource_list: .*",
                                                             "datasource_list: [ Ec2, GCE ]")),
    Defect("no-agent", "os.no_agent", debugfs("rm /usr/sbin/qemu-ga")),
    Defect("agent-off", "os.agent_off", agent_off),
    Defect("agent-masked", "os.agent_off", debugfs("symlink /etc/systemd/system/qemu-guest-agent.service /dev/null")),
    Defect("no-cloud-init", "os.no_cloud_init", debugfs("rm /etc/cloud/cloud.cfg")),
    # Windows
    Defect("windows-no-manager", "boot.manager", without("bootmgr"), "windows"),
    Defect("windows-no-bcd", "boot.bcd", without("BCD"), "windows"),
    Defect("windows-no-viostor", "driver.viostor", without("viostor"), "windows"),
    Defect("windows-no-viostor-file", "driver.viostor", without("viostor.sys"), "windows"),
    Defect("windows-no-netkvm", "driver.netkvm", without("netkvm"), "windows"),
    Defect("windows-no-cloudbase", "os.no_cloudbase", without("cloudbase"), "windows"),
    Defect("windows-registry", "windows.registry", lambda disk: windows.make(disk, damaged="SYSTEM"), "windows"),
]


def lvm_root_edit(disk, old, by):
    """In a file of the root on LVM, whose blocks are found by what they hold."""
    with open(disk.path, "rb") as file:
        at = file.read().find(old)
    if at < 0 or len(old) != len(by):
        raise Spoiled("the root has no %r" % old)
    disk.put(at, by)
