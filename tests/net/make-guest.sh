#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the smallest Linux that takes part in a network: Debian's cloud kernel and busybox, on a disk that GRUB boots. It
# asks for its address by DHCP, says on the serial console what it got, answers port 22 with a banner of SSH, and runs a
# shell for whoever connects to port 2222. Nothing is installed: the kernel's package is only unpacked.
# usage: make-guest.sh OUT.raw
set -euo pipefail
out=$1
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C.UTF-8
[ ! -s "$out" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64" >&2; exit 1; }
(cd "$work" && apt-get -q download "$package") >"$work/log" 2>&1 || { tail -n 1 "$work/log" >&2; exit 1; }
dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"
kernel=$work/kernel version=${package#linux-image-}

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,m,etc/acpi/PWRF,var/log,var/run}
cp /bin/busybox "$root/bin/"
ln -s busybox "$root/bin/sh"
for module in drivers/virtio/{virtio_ring,virtio,virtio_pci_legacy_dev,virtio_pci_modern_dev,virtio_pci} \
    net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/acpi/button drivers/input/evdev; do
    file=$kernel/lib/modules/$version/kernel/$module.ko
    [ -e "$file" ] || continue # built in
    cp "$file" "$root/m/"
    echo "${module##*/}" >>"$root/m/order"
done
cat >"$root/init" <<'END'
#!/bin/sh
export PATH=/bin
/bin/busybox mount -t devtmpfs d /dev
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t sysfs s /sys
/bin/busybox --install -s /bin
for m in $(cat /m/order); do insmod /m/$m.ko; done
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo MICRO up
acpid -f -l /dev/null &
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -f -t 1000 -T 1 -s /dhcp >/dev/null 2>&1 &
(while :; do echo SSH-2.0-micro | nc -l -p 22; done) &
(while :; do nc -l -p 2222 -e sh; done) >/dev/null 2>&1 &
while :; do sleep 1000; done
END
cat >"$root/dhcp" <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr flush dev $interface
ip addr add $ip/$mask dev $interface
ip route add default via $router
echo "nameserver $dns" >/etc/resolv.conf
hostname $hostname
echo "MICRO ip $ip hostname $hostname domain $domain" >/dev/ttyS0
END
printf '#!/bin/sh\necho MICRO off >/dev/ttyS0\npoweroff -f\n' >"$root/etc/acpi/PWRF/00000080"
chmod +x "$root/init" "$root/dhcp" "$root/etc/acpi/PWRF/00000080"
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$work/initrd"

disk=$work/disk
cat >"$work/grub.cfg" <<'END'
linux (hd0,msdos1)/vmlinuz console=ttyS0 quiet panic=1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on no_timer_check
initrd (hd0,msdos1)/initrd
boot
END
truncate -s 40M "$disk"
printf 'label: dos\nstart=2048, size=77824, type=c, bootable\n' | sfdisk -q "$disk"
mformat -i "$disk@@1M" -T 77824 -h 64 -s 32 -c 8 -H 2048 ::
mcopy -i "$disk@@1M" "$kernel/boot/vmlinuz-$version" ::vmlinuz
mcopy -i "$disk@@1M" "$work/initrd" ::initrd
grub-mkimage -O i386-pc -o "$work/core" -p '(hd0,msdos1)/' -c "$work/grub.cfg" biosdisk part_msdos fat linux
dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=1 count=440 conv=notrunc status=none
dd if="$work/core" of="$disk" bs=512 seek=1 conv=notrunc status=none
mv "$disk" "$out"
