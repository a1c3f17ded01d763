#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plans that make a disk start: menus, command lines, the EFI system partition, drivers in the initramfs.

test-plan-boot.py WORKER"""
import base64, os, subprocess
from plan_disks import *

FSTAB = f"UUID={UUID} / ext4 defaults\n"
SERIAL = "serial\nterminal_output serial\n"
# A kernel of version 6.1.0 with its modules, an initramfs that has the drivers, one kernel more.
KERNEL = """mkdir -p r/boot/grub r/etc/default i/usr/lib/modules/6.1.0/kernel m; rm -rf i/* r/boot/grub/*
    M=lib/modules/6.1.0; head -c 4096 /dev/zero >k; printf HdrS | dd of=k bs=1 seek=514 conv=notrunc 2>/dev/null
    printf '\\000\\004' | dd of=k bs=1 seek=526 conv=notrunc 2>/dev/null
    printf '6.1.0 (someone)' | dd of=k bs=1 seek=1536 conv=notrunc 2>/dev/null
    mkdir -p r/usr/$M/kernel/net r/usr/$M/kernel/block i/usr/$M/kernel
    for n in net/virtio_net block/virtio_blk block/virtio_pci block/virtio block/virtio_ring; do
        echo "module $n" >r/usr/$M/kernel/$n.ko; done
    printf 'kernel/fs/ext4/ext4.ko\\n' >r/usr/$M/modules.builtin
    printf 'kernel/net/virtio_net.ko: kernel/block/virtio_ring.ko kernel/block/virtio.ko\\nkernel/block/virtio_ring.ko: kernel/block/virtio.ko\\n%s' \\
        'kernel/block/virtio_blk.ko: kernel/block/virtio_ring.ko kernel/block/virtio.ko
kernel/block/virtio_pci.ko: kernel/block/virtio_ring.ko kernel/block/virtio.ko
kernel/block/virtio.ko:
' >r/usr/$M/modules.dep
    echo dep >r/usr/$M/modules.dep.bin; echo alias >r/usr/$M/modules.alias.bin
    ln -s usr/lib i/lib; cp r/usr/$M/kernel/block/virtio_*.ko i/usr/$M/kernel
    cp k r/boot/vmlinuz-6.1.0; cp k r/boot/vmlinuz-6.0.0
    """
PACK = "(cd i; find . | LC_ALL=C sort | cpio -o -H newc 2>/dev/null | %s) >r/boot/initrd.img-6.1.0;"


def entry(root=f"UUID={UUID}", kernel="/boot/vmlinuz-6.1.0", initrd="/boot/initrd.img-6.1.0", more=" console=ttyS0",
          search=UUID, title="Linux"):
    return (f"menuentry '{title}' --class x {{\n\tsearch --no-floppy --fs-uuid --set=root {search}\n"
            f"\techo\t'Loading'\n\tlinux\t{kernel} root={root} ro{more} quiet\n\tinitrd\t{initrd}\n}}\n")


def boots(text, path="boot/grub/grub.cfg", spoil="", pack="gzip", default="", make=mbr, **more):
    """A system that would start but for what the text and `spoil` say."""
    with open(os.path.join(folder, "text"), "w") as f:
        f.write(text)
    with open(os.path.join(folder, "default"), "w") as f:
        f.write(default)
    make(FSTAB, more=KERNEL + (PACK % pack) + f"cp text r/{path};" + ("cp default r/etc/default/grub;" if default else "") +
         spoil, **more)


def written(plan, path):
    edits = [e for e in plan["edits"] if e["op"] == "write" and e["path"] == path]
    return base64.b64decode(edits[0]["data"]).decode() if edits else ""


def fixed(name, found, words, path="/boot/grub/grub.cfg", **more):
    """Repaired, the file has these words."""
    plan = repair(name, found, **more)
    diffs_are_true(name, plan)
    text = written(plan, path)
    if not check(all(word in text for word in words), f"{name}: {path} has {words}"):
        print("# " + text.replace("\n", "\n# "))
    return plan


def test_good():
    boots(SERIAL + entry())
    plan = repair("a good disk", [])
    check(plan["edits"] == [] and plan["repairs"] == [], "of a good disk nothing is changed")


def test_root():
    default = 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="root=UUID=%s"\n' % OTHER
    boots(SERIAL + entry(f"UUID={OTHER}") + entry("UUID=77777777-0-0", title="Old"), default=default)
    plan = fixed("another disk's root", ["boot.root", "boot.entry"], [f"linux\t/boot/vmlinuz-6.1.0 root=UUID={UUID} ro"])
    check(written(plan, "/boot/grub/grub.cfg").count(f"root=UUID={UUID} ro") == 2 and
          written(plan, "/etc/default/grub") == default.replace(OTHER, UUID), "in all entries, and for the next menu")
    rootless = "menuentry 'L' {\n\tlinux\t/boot/vmlinuz-6.1.0 ro console=ttyS0\n\tinitrd\t/boot/initrd.img-6.1.0\n}\n"
    boots(SERIAL + rootless + "menuentry 'Memory' {\n\tlinux16 /boot/memtest.bin\n}\n", spoil="cp k r/boot/memtest.bin;")
    fixed("no root at all", ["boot.root"], [f"ro console=ttyS0 root=UUID={UUID}\n", "linux16 /boot/memtest.bin\n"])
    boots(SERIAL + entry("/dev/sda1"))
    fixed("a root by number", ["boot.root_name"], [f" root=UUID={UUID} ro"])
    boots(SERIAL + entry(f"UUID={OTHER}") + entry("/dev/sdb9", title="Other"))
    fixed("only what is asked for", ["boot.root", "boot.entry"], ["root=/dev/sdb9"], only="boot.root", left=["boot.entry"])
    boots(SERIAL + entry(more=" console=ttyS0 resume=UUID=1-2 rd.lvm.lv=cl/swap"))
    fixed("devices that are waited for", ["boot.resume", "boot.volume"], ["ro console=ttyS0 quiet\n"])
    boots(SERIAL + f'set options="root=UUID={OTHER} ro"\nmenuentry L {{\n\tlinux /boot/vmlinuz-6.1.0 $options\n'
          "\tinitrd /boot/initrd.img-6.1.0\n}\n")
    fixed("a variable of the menu", ["boot.root", "boot.console"],
          [f'set options="root=UUID={UUID} ro console=tty0 console=ttyS0,115200"\n', "vmlinuz-6.1.0 $options\n"])
    boots("title Linux\nroot (hd0,0)\nkernel /boot/vmlinuz-6.1.0 root=UUID=0-1 console=ttyS0\ninitrd /boot/initrd.img-6.1.0\n",
          path="boot/grub/menu.lst")
    fixed("the first GRUB", ["boot.root"], [f"root=UUID={UUID} console"], path="/boot/grub/menu.lst")
    boots("LABEL l\n  LINUX vmlinuz-6.1.0\n  INITRD initrd.img-6.1.0\n  APPEND root=UUID=0-1 console=ttyS0",
          path="boot/extlinux.conf")
    fixed("extlinux", ["boot.root"], [f"APPEND root=UUID={UUID} console"], path="/boot/extlinux.conf")
    bls = ("mkdir -p r/boot/loader/entries; printf 'title F\\nlinux /boot/vmlinuz-6.1.0\\ninitrd /boot/initrd.img-6.1.0\\n"
           "options $kernelopts\\n' >r/boot/loader/entries/x.conf; (printf '# GRUB Environment Block\\nkernelopts=root=UUID=0-1 "
           "ro console=ttyS0\\n'; head -c 964 /dev/zero | tr '\\000' '#') >r/boot/grub/grubenv;")
    menu = SERIAL + "load_env\nblscfg\n"
    boots(menu, spoil=bls)
    plan = fixed("kernelopts of BLS", ["boot.root"], [f"kernelopts=root=UUID={UUID} ro console=ttyS0\n"],
                 path="/boot/grub/grubenv")
    check(len(written(plan, "/boot/grub/grubenv")) == 1024, "GRUB's environment keeps its length")
    boots(menu, spoil=bls.replace("$kernelopts", "root=UUID=0-1 console=ttyS0"))
    fixed("an entry of BLS", ["boot.root"], [f"options root=UUID={UUID} console"], path="/boot/loader/entries/x.conf")


def grub_environment(line):
    return ("(printf '# GRUB Environment Block\\n%s\\n'; head -c %d /dev/zero | tr '\\000' '#') >r/boot/grub/grubenv;"
            % (line, 1024 - 25 - len(line) - 1))


def test_default():
    both = entry() + "submenu 'More' {\n" + entry(title="Old") + "}\n"
    menu = SERIAL + 'load_env\nif [ "${next_entry}" ]; then\n set default="${next_entry}"\nelse\n set default="%s"\nfi\n'
    boots(menu % "gone" + both, default="GRUB_DEFAULT='More>Older'\nGRUB_TIMEOUT=5\n")
    plan = fixed("a default that is not in the menu", ["boot.default"], [' set default="${next_entry}"', ' set default="0"\n'])
    check(written(plan, "/etc/default/grub") == "GRUB_DEFAULT='0'\nGRUB_TIMEOUT=5\n", "nor in later ones")
    boots(menu % "${saved_entry}" + both, spoil=grub_environment("saved_entry=gone"), default="GRUB_DEFAULT=saved\n")
    plan = fixed("one that GRUB remembers", ["boot.default"], ["Block\nsaved_entry=\n#"], path="/boot/grub/grubenv")
    check(len(written(plan, "/boot/grub/grubenv")) == 1024 and len(plan["edits"]) == 1, "nothing but that is forgotten")
    boots(menu % "7" + entry(kernel="/boot/vmlinuz-5") + both)
    plan = fixed("the first that is all there", ["boot.default", "boot.kernel"], [' set default="1"\n'], only="boot.default",
                 left=["boot.entry"])
    boots("default 4\n" + "title Linux\nroot (hd0,0)\nkernel /boot/vmlinuz-6.1.0 root=UUID=%s console=ttyS0\n"
          "initrd /boot/initrd.img-6.1.0\n" % UUID, path="boot/grub/menu.lst")
    fixed("the first GRUB's", ["boot.default"], ["default 0\n"], path="/boot/grub/menu.lst")
    boots("DEFAULT 7\nLABEL l\n  LINUX vmlinuz-6.1.0\n  INITRD initrd.img-6.1.0\n  APPEND root=UUID=%s console=ttyS0" % UUID,
          path="boot/extlinux.conf")
    fixed("extlinux'", ["boot.default"], ["DEFAULT l\n"], path="/boot/extlinux.conf")


def test_console():
    default = 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n'
    boots("set timeout=5\n" + entry(more="") + "menuentry 'Memory' {\n\tlinux16 /boot/memtest.bin\n}\n", default=default,
          spoil="cp k r/boot/memtest.bin;")
    plan = fixed("no serial console", ["boot.console", "boot.terminal"],
                 [" ro quiet console=tty0 console=ttyS0,115200\n", "linux16 /boot/memtest.bin\n",
                  "set timeout=5\nserial --unit=0 --speed=115200\nterminal_input serial console\n"])
    check(written(plan, "/etc/default/grub") == 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="console=tty0 '
          'console=ttyS0,115200"\nGRUB_TERMINAL="console serial"\nGRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n',
          "later menus have it, too")
    boots(SERIAL + entry(more=" console=tty0"))
    fixed("a console on the screen alone", ["boot.console"], ["ro console=tty0 quiet console=ttyS0,115200\n"])


def test_files():
    boots(SERIAL + entry(kernel="/boot/vmlinuz-5.9", initrd="/boot/initrd.img-5.9"))
    fixed("a kernel that is not there", ["boot.kernel", "boot.initrd"],
          ["linux\t/boot/vmlinuz-6.1.0 root", "initrd\t/boot/initrd.img-6.1.0\n"])
    boots(SERIAL + entry(), spoil="mv r/boot/initrd.img-6.1.0 r/boot/initrd-6.1.0;")
    fixed("an initramfs of another name", ["boot.initrd"], ["linux\t/boot/vmlinuz-6.1.0 root", "initrd\t/boot/initrd-6.1.0\n"])
    boots(SERIAL + entry(kernel="/vmlinuz", initrd="/initrd.img"), spoil="echo x >r/vmlinuz; echo y >r/initrd.img;")
    fixed("files that are none", ["boot.kernel_damaged", "boot.initrd_damaged"], ["/boot/vmlinuz-6.1.0", "/boot/initrd.img-6.1.0"])
    boots("LABEL l\n  KERNEL vmlinuz\n  APPEND initrd=initrd root=UUID=" + UUID + " console=ttyS0", path="boot/extlinux.conf")
    fixed("extlinux", ["boot.kernel", "boot.initrd"], ["KERNEL /boot/vmlinuz-6.1.0\n", "initrd=/boot/initrd.img-6.1.0 root"],
          path="/boot/extlinux.conf")
    boots(SERIAL + entry(), spoil="rm r/boot/initrd* r/boot/vmlinuz*;")
    plan = repair("no kernel at all", ["boot.kernel", "boot.initrd"], left=["boot.kernel", "boot.initrd"])
    check(not plan["edits"] and not any(r["done"] for r in plan["repairs"]), "nothing can be done")


def test_search():
    boots(SERIAL + entry() + entry(kernel="/boot/vmlinuz-5.9", title="Old"))
    plan = repair("an entry of a kernel that is gone", ["boot.entry"], left=["boot.entry"])
    check(not plan["edits"] and not plan["repairs"][0]["done"], "is left to the menu's own tool")
    boots(SERIAL + entry(search=OTHER))
    fixed("another disk is searched for", ["boot.search"], [f"--set=root {UUID}\n"])
    boots(SERIAL + entry(), make=gpt)
    stub = f"search.fs_uuid {OTHER} root \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    with open(os.path.join(folder, "stub"), "w") as f:
        f.write(stub)
    sh("mmd -i $D@@1M ::/EFI/BOOT; mcopy -i $D@@1M x ::/EFI/BOOT/BOOTX64.EFI; mcopy -i $D@@1M stub ::/EFI/debian/grub.cfg")
    plan = fixed("by GRUB on the EFI system partition", ["esp.config"], [f"search.fs_uuid {UUID} root \nset prefix"],
                 path="/boot/efi/EFI/debian/grub.cfg")
    check(plan["repairs"][0]["text"].endswith(" in /EFI/debian/grub.cfg on /dev/vda1"), plan["repairs"][0]["text"])


def esp_file(path):
    return subprocess.run(["mtype", "-i", f"{disk}@@1M", "::" + path], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout.decode()


def test_fallback():
    boots(SERIAL + entry(), make=gpt)
    sh(f"printf 'search.fs_uuid {UUID} root\\nset prefix=($root)/boot/grub\\nconfigfile $prefix/grub.cfg\\n' >stub;"
       "mcopy -i $D@@1M stub ::/EFI/debian/grub.cfg; mmd -i $D@@1M ::/EFI/other; mcopy -i $D@@1M y ::/EFI/other/grubx64.efi")
    repair("a loader under its vendor's name", ["esp.fallback"])
    check([esp_file(f"/EFI/BOOT/{n}") for n in ("BOOTX64.EFI", "grubx64.efi")] == ["shim\n", "grub\n"] and
          esp_file("/EFI/BOOT/grub.cfg") == esp_file("/EFI/debian/grub.cfg") != "", "with what it finds beside itself")
    boots(SERIAL + entry(), make=gpt)
    sh("mdel -i $D@@1M ::/EFI/debian/shimx64.efi")
    repair("GRUB alone", ["esp.fallback"])
    check(esp_file("/EFI/BOOT/BOOTX64.EFI") == "grub\n", "is the loader")
    boots(SERIAL + entry(), make=gpt)
    sh("mdel -i $D@@1M ::/EFI/debian/shimx64.efi ::/EFI/debian/grubx64.efi; mmd -i $D@@1M ::/EFI/x; mcopy -i $D@@1M x ::/EFI/x/a.efi")
    repair("a loader that is not known", ["esp.fallback"], left=["esp.fallback"])


def unpacked(plan):
    """The archive that is appended, by cpio itself: its names."""
    data = next(base64.b64decode(e["data"]) for e in plan["edits"] if e["op"] == "append")
    done = subprocess.run(["cpio", "-it", "--quiet"], input=data, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


def test_drivers():
    tools = "mkdir -p r/etc/initramfs-tools r/usr/lib/dracut; printf '# mine' >r/etc/initramfs-tools/modules;"
    for pack in ("gzip", "zstd", "cat"):
        boots(SERIAL + entry(), pack=pack, spoil="rm i/usr/lib/modules/6.1.0/kernel/virtio_blk.ko;" + PACK % pack + tools)
        plan = repair(f"no driver of the disk ({pack})", ["driver.disk"])
        names = unpacked(plan)
        check(f"usr/lib/modules/6.1.0/kernel/block/{'virtio_blk.ko'}" in names and "lib" not in names and
              "usr/lib/modules/6.1.0/kernel/block/virtio.ko" in names and "usr/lib/modules/6.1.0/modules.alias.bin" in names,
              f"it is appended, with what it needs: {names}")
        check(written(plan, "/etc/initramfs-tools/modules").startswith("# mine\nvirtio_pci\nvirtio_blk\n") and
              "virtio_blk" in written(plan, "/etc/dracut.conf.d/virtio.conf"), "and the next initramfs has them")
        check(len(plan["steps"]) == 1 and "/boot/initrd.img-6.1.0" in plan["steps"][0], plan["steps"])
    boots(SERIAL + entry(), spoil="rm r/usr/lib/modules/6.1.0/kernel/block/virtio_blk.ko i/usr/lib/modules/6.1.0/kernel/virtio_blk.ko;"
          + PACK % "gzip")
    plan = repair("no driver at all", ["driver.disk"], left=["driver.disk"])
    check(not plan["edits"] and "virtio_blk" in plan["repairs"][0]["text"], plan["repairs"])
    boots(SERIAL + entry(), spoil="rm i/usr/lib/modules/6.1.0/kernel/virtio_blk.ko;" + PACK % "lz4 -l")
    plan = repair("an initramfs that nothing can follow", ["driver.disk"], left=["driver.disk"])
    boots(SERIAL + entry(), spoil="mkdir -p r/etc/modprobe.d;"
          "printf '# mine\\nblacklist virtio-net\\nblacklist e1000\\n' >r/etc/modprobe.d/own.conf;")
    plan = repair("a driver of the network that is not to be loaded", ["driver.net"])
    check(written(plan, "/etc/modprobe.d/own.conf") == "# mine\n#blacklist virtio-net\nblacklist e1000\n", "it may be again")
    boots(SERIAL + entry(), spoil="sed -i /virtio_net/d r/usr/lib/modules/6.1.0/modules.dep;")
    plan = repair("no driver of the network", ["driver.net"], left=["driver.net"])
    check(not plan["edits"] and "virtio_net" in plan["repairs"][0]["text"], plan["repairs"])


test_good()
test_root()
test_default()
test_console()
test_files()
test_search()
test_fallback()
test_drivers()
finish()
