# SPDX-License-Identifier: Apache-2.0
"""A disk with as much of a Windows as is looked at: MBR, an NTFS that ntfs-3g fills, a registry of tests/corpus/make-hive.py."""
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
HIVES = os.path.join(HERE, "../corpus/make-hive.py")
VERSION, SERVICES = "Microsoft\\Windows NT\\CurrentVersion\t", "ControlSet001\\Services\\"
SOFTWARE = [VERSION + value for value in (
    "CurrentMajorVersionNumber\t10", "CurrentMinorVersionNumber\t0", "CurrentBuildNumber\t\"20348\"",
    "ProductName\t\"Windows Server 2022 Standard\"", "InstallationType\t\"Server\"")]
SYSTEM = ["Select\tCurrent\t1",
          "ControlSet001\\Control\\Session Manager\\Environment\tPROCESSOR_ARCHITECTURE\t\"AMD64\""] + [
    SERVICES + value for value in ("viostor\tStart\t0", "netkvm\tStart\t3", "cloudbase-init\tStart\t2", "QEMU-GA\tStart\t2")]
FILES = ["bootmgr", "Boot/BCD", "Windows/System32/drivers/viostor.sys"]


def can_make():
    return os.access("/dev/fuse", os.R_OK | os.W_OK)


def make(disk, without="", damaged=None):
    """`without` is a word of files and services that are left out; `damaged` names a hive that is none."""
    folder = disk.path + ".windows"
    config = os.path.join(folder, "Windows/System32/config")
    os.makedirs(config)
    for path in FILES:
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        if not without or without not in path:
            with open(os.path.join(folder, path), "w") as file:
                file.write("x")
    for name, values in ("SOFTWARE", SOFTWARE), ("SYSTEM", SYSTEM):
        kept = [value for value in values if not without or without not in value]
        subprocess.run([sys.executable, HIVES, os.path.join(config, name)], input="\n".join(kept), text=True, check=True)
    if damaged:
        with open(os.path.join(config, damaged), "r+b") as file:
            file.write(b"none")
    os.unlink(disk.path)
    disk.sh("truncate -s 65M $D; printf 'label: dos\\n2048,,7,*\\n' | sfdisk -q $D; printf '\\372\\353' | dd of=$D conv=notrunc; "
            "truncate -s 64M $D.part; mkntfs -qF $D.part; mkdir $D.m; ntfs-3g -o no_detach $D.part $D.m & P=$!; "
            "i=0; until mountpoint -q $D.m; do i=$((i + 1)); [ $i -lt 100 ]; sleep 0.1; done; "
            "cp -r $D.windows/. $D.m; umount $D.m; wait $P; rmdir $D.m; "
            "dd if=$D.part of=$D bs=1M seek=1 conv=notrunc,sparse; rm $D.part")
    shutil.rmtree(folder)
