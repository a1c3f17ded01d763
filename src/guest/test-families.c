/* SPDX-License-Identifier: Apache-2.0 */
/* The families' cloud images in small: what a look reads of them, as their makers ship it. */
#include "test-systems.h"

#define UNITS "/etc/systemd/system/"
#define SYSTEMD                                                                                    \
    {"/sbin/init", LINK "/lib/systemd/systemd"}, {"/lib/systemd/systemd", "x"},                    \
        {"/lib/systemd/system/", ""}, {                                                            \
        "/etc/machine-id", ""                                                                      \
    }
#define USR_SYSTEMD                                                                                \
    {"/usr/lib/systemd/systemd", "x"}, {"/usr/sbin/init", LINK "../lib/systemd/systemd"},          \
        {"/sbin", LINK "usr/sbin"}, {"/bin", LINK "usr/bin"}, {"/lib", LINK "usr/lib"},            \
        {"/usr/bin/", ""}, {                                                                       \
        "/usr/lib/systemd/system/", ""                                                             \
    }
#define FSTAB(line)                                                                                \
    { "/etc/fstab", line }
#define BY_UUID "UUID=" ROOT_UUID " / ext4 defaults 0 1\n"
/* A kernel that is one, and what it is started with. */
#define BOOTS(line)                                                                                \
    {"/make", "#!/bin/sh\nmkdir -p boot/extlinux\nhead -c 4096 /dev/zero >boot/vmlinuz\n"          \
              "printf HdrS | dd of=boot/vmlinuz bs=1 seek=514 conv=notrunc 2>/dev/null\n"          \
              "printf 070701 >boot/initrd\n"                                                       \
              "if [ -f make-more ]; then sh ./make-more; rm make-more; fi\n"},                     \
    {                                                                                              \
        "/boot/extlinux/extlinux.conf",                                                            \
            "default l\nlabel l\n kernel /boot/vmlinuz\n initrd /boot/initrd\n append "            \
            "root=UUID=" ROOT_UUID " ro console=ttyS0 " line "\n"                                  \
    }
#define CLOUD_LINKS(target)                                                                        \
    {UNITS target ".wants/cloud-init-local.service",                                               \
     LINK "/lib/systemd/system/cloud-init.service"},                                               \
        {UNITS target ".wants/cloud-init.service", LINK "/lib/systemd/system/cloud-init.service"}, \
    {                                                                                              \
        "/usr/bin/cloud-init", "#!/usr/bin/python3\n"                                              \
    }
#define CLOUD_CFG(user)                                                                            \
    {                                                                                              \
        "/etc/cloud/cloud.cfg",                                                                    \
            "# The top level settings are used as module and system configuration.\nusers:\n   - " \
            "default\ndisable_root: true\npreserve_hostname: false\ncloud_init_modules:\n - "      \
            "seed_random\n"                                                                        \
            " - bootcmd\n - [ssh, always]\nsystem_info:\n   distro: x\n   default_user:\n     "    \
            "name: " user "\n     lock_passwd: True\n     sudo: [\"ALL=(ALL) NOPASSWD:ALL\"]\n   " \
            "  shell: /bin/bash\n"                                                                 \
    }

/* --- Debian ----------------------------------------------------------------------------------- */

#define DEBIAN_RELEASE(name, number)                                                               \
    {"/usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux " number " (" name ")\"\n"             \
                            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"" number                      \
                            "\"\nVERSION=\"" number " (" name ")\"\nID=debian\n"},                 \
    {                                                                                              \
        "/etc/os-release", LINK "../usr/lib/os-release"                                            \
    }
#define DPKG                                                                                       \
    {                                                                                              \
        "/var/lib/dpkg/status",                                                                    \
            "Package: adduser\nStatus: install ok installed\nVersion: 3.134\n\nPackage: old\n"     \
            "Status: deinstall ok config-files\n\nPackage: zlib1g\nStatus: install ok installed\n" \
            "Version: 1\n"                                                                         \
    }

/* Netplan, and cloud-init that writes its own file of it. */
static const struct entry debian12[] = {
    DEBIAN_RELEASE("bookworm", "12"),
    SYSTEMD,
    DPKG,
    BOOTS("console=tty0"),
    CLOUD_CFG("debian"),
    CLOUD_LINKS("cloud-init.target"),
    FSTAB("LABEL=root / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n"),
    {"/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg",
     "apt:\n  generate_mirrorlists: true\n\nsystem_info:\n  default_user:\n    name: debian\n"
     "    sudo: [\"ALL=(ALL) NOPASSWD:ALL\"]\n\nmanage_etc_hosts: true\n"},
    {"/etc/netplan/90-default.yaml",
     "network:\n    version: 2\n    ethernets:\n        all-en:\n            match:\n"
     "                name: en*\n            dhcp4: true\n            dhcp4-overrides:\n"
     "                use-domains: true\n            dhcp6: true\n            dhcp6-overrides:\n"
     "                use-domains: true\n        all-eth:\n            match:\n"
     "                name: eth*\n            dhcp4: true\n            dhcp6: true\n"},
    {"/usr/sbin/netplan", "#!/usr/bin/python3\n"},
    {UNITS "multi-user.target.wants/systemd-networkd.service",
     LINK "/lib/systemd/system/systemd-networkd.service"},
    {"/lib/systemd/network/73-usb-net-by-mac.link",
     "[Match]\nProperty=ID_BUS=usb\n\n[Link]\nNamePolicy=mac\n"},
    {"/lib/systemd/network/99-default.link",
     "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep kernel database onboard slot path\n"
     "AlternativeNamesPolicy=database onboard slot path\nMACAddressPolicy=persistent\n"},
    {0},
};

/* Its own helper answers for every card that turns up. */
static const struct entry debian11[] = {
    DEBIAN_RELEASE("bullseye", "11"),
    SYSTEMD,
    DPKG,
    CLOUD_CFG("debian"),
    CLOUD_LINKS("cloud-init.target"),
    FSTAB(BY_UUID),
    {"/sbin/ifup", "x"},
    {"/etc/network/interfaces",
     "# This file describes the network interfaces available on your system\n"
     "source-directory /etc/network/interfaces.d\n\nauto lo\niface lo inet loopback\n"},
    {"/etc/network/interfaces.d/", ""},
    {"/etc/network/cloud-ifupdown-helper", "#!/bin/sh\n"},
    {"/etc/network/cloud-interfaces-template",
     "auto $INTERFACE\nallow-hotplug $INTERFACE\n\niface $INTERFACE inet dhcp\n\n"
     "iface $INTERFACE inet6 manual\n  try_dhcp 1\n"},
    {"/etc/udev/rules.d/75-cloud-ifupdown.rules",
     "ACTION!=\"add\", GOTO=\"cloud_ifupdown_end\"\nSUBSYSTEM!=\"net\", GOTO=\"cloud_ifupdown_end\""
     "\n# udev will block on the helper\nRUN+=\"/etc/network/cloud-ifupdown-helper\"\n"
     "LABEL=\"cloud_ifupdown_end\"\n"},
    {"/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg", "network:\n  config: disabled\n"},
    {UNITS "multi-user.target.wants/networking.service",
     LINK "/lib/systemd/system/networking.service"},
    {0},
};

/* As an installer leaves it: no cloud-init, ifupdown by the card's name. */
static const struct entry debian_installed[] = {
    DEBIAN_RELEASE("bookworm", "12"),
    SYSTEMD,
    DPKG,
    BOOTS("quiet"),
    FSTAB("# / was on /dev/vda1 during installation\n" BY_UUID
          "/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0\n"),
    {"/sbin/ifup", "x"},
    {"/lib/udev/ifupdown-hotplug", "#!/bin/sh -e\n"},
    {"/etc/network/interfaces",
     "source /etc/network/interfaces.d/*\n\n# The loopback network interface\nauto lo\n"
     "iface lo inet loopback\n\n# The primary network interface\nallow-hotplug enp1s0\n"
     "iface enp1s0 inet dhcp\n"},
    {UNITS "display-manager.service", LINK "/lib/systemd/system/lightdm.service"},
    {0},
};

/* --- Ubuntu ----------------------------------------------------------------------------------- */

static const struct entry ubuntu[] = {
    {"/usr/lib/os-release",
     "PRETTY_NAME=\"Ubuntu 22.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\n"
     "ID_LIKE=debian\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    DPKG,
    BOOTS("console=tty1"),
    CLOUD_CFG("ubuntu"),
    CLOUD_LINKS("cloud-init.target"),
    FSTAB("LABEL=root\t/\t ext4\tdiscard,errors=remount-ro\t0 1\n"),
    {"/etc/machine-id", ""},
    {"/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
     "# to update this file, run dpkg-reconfigure cloud-init\ndatasource_list: [ NoCloud, "
     "ConfigDrive, OpenNebula, DigitalOcean, Azure, AltCloud, OVF, MAAS, GCE, OpenStack, "
     "CloudSigma, SmartOS, Bigstep, Scaleway, AliYun, Ec2, CloudStack, Hetzner, IBMCloud, Oracle, "
     "Exoscale, RbxCloud, UpCloud, VMware, Vultr, LXD, NWCS, None ]\n"},
    {"/etc/netplan/", ""},
    {"/usr/sbin/netplan", LINK "../share/netplan/netplan.script"},
    {"/lib/netplan/generate", "x"},
    {UNITS "multi-user.target.wants/systemd-networkd.service",
     LINK "/lib/systemd/system/systemd-networkd.service"},
    {0},
};

/* --- Red Hat's -------------------------------------------------------------------------------- */

#define CENTOS_IFCFG                                                                               \
    "BOOTPROTO=\"dhcp\"\nDEVICE=\"eth0\"\nONBOOT=\"yes\"\nTYPE=\"Ethernet\"\nUSERCTL=\"yes\"\n"    \
    "PEERDNS=\"yes\"\nIPV6INIT=\"no\"\nPERSISTENT_DHCLIENT=\"1\"\n"
static const struct entry centos7[] = {
    {"/usr/lib/os-release",
     "NAME=\"CentOS Linux\"\nVERSION=\"7 (Core)\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\n"
     "VERSION_ID=\"7\"\nPRETTY_NAME=\"CentOS Linux 7 (Core)\"\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("console=tty0 crashkernel=auto net.ifnames=0 console=ttyS0"),
    CLOUD_CFG("centos"),
    CLOUD_LINKS("multi-user.target"),
    FSTAB("#\n# /etc/fstab\n# Created by anaconda on Wed Nov 11 2020\n#\n" BY_UUID),
    {"/etc/rc.d/init.d/network", "#! /bin/bash\n"},
    {"/etc/sysconfig/network", "NETWORKING=yes\n"},
    {"/etc/sysconfig/network-scripts/ifcfg-eth0", CENTOS_IFCFG},
    {"/etc/sysconfig/network-scripts/ifcfg-lo",
     "DEVICE=lo\nIPADDR=127.0.0.1\nNETMASK=255.0.0.0\nNETWORK=127.0.0.0\nONBOOT=yes\n"},
    {"/etc/sysconfig/network-scripts/ifup-eth", "#!/bin/bash\n"},
    {0},
};

/* rpm's database as its backend makes it; three packages. */
#define RPM_DATABASE(folder)                                                                       \
    {                                                                                              \
        "/make-more",                                                                              \
            "#!/bin/sh\nmkdir -p " folder "\npython3 - <<'END'\nimport sqlite3\n"                  \
            "db = sqlite3.connect('" folder "/rpmdb.sqlite')\n"                                    \
            "db.execute(\"CREATE TABLE IF NOT EXISTS 'Packages' (hnum INTEGER PRIMARY KEY "        \
            "AUTOINCREMENT, blob BLOB NOT NULL)\")\n"                                              \
            "db.execute(\"CREATE TABLE IF NOT EXISTS 'Name' (key TEXT NOT NULL, hnum "             \
            "INTEGER NOT NULL, idx INTEGER NOT NULL, FOREIGN KEY (hnum) REFERENCES "               \
            "'Packages'(hnum))\")\n"                                                               \
            "for n in range(700):\n"                                                               \
            "    db.execute('INSERT INTO Packages VALUES (?, ?)', (n + 1, b'x' * 5000))\n"         \
            "    db.execute('INSERT INTO Name VALUES (?, ?, 0)', ('package-%d' % n, n))\n"         \
            "db.execute(\"CREATE INDEX 'Name_key_idx' ON 'Name'(key ASC)\")\n"                     \
            "db.commit()\nEND\n"                                                                   \
    }
#define NETWORK_MANAGER                                                                            \
    {"/usr/sbin/NetworkManager", "x"},                                                             \
        {UNITS "multi-user.target.wants/NetworkManager.service",                                   \
         LINK "/usr/lib/systemd/system/NetworkManager.service"},                                   \
        {"/etc/NetworkManager/NetworkManager.conf",                                                \
         "[main]\n#plugins=keyfile,ifcfg-rh\n\n[logging]\n#level=DEBUG\n"},                        \
    {                                                                                              \
        "/etc/NetworkManager/system-connections/", ""                                              \
    }
static const struct entry rocky9[] = {
    {"/usr/lib/os-release",
     "NAME=\"Rocky Linux\"\nVERSION=\"9.3 (Blue Onyx)\"\nID=\"rocky\"\nID_LIKE=\"rhel centos "
     "fedora\"\nVERSION_ID=\"9.3\"\nPRETTY_NAME=\"Rocky Linux 9.3 (Blue Onyx)\"\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("console=ttyS0,115200n8 no_timer_check crashkernel=1G-4G:192M"),
    RPM_DATABASE("var/lib/rpm"),
    NETWORK_MANAGER,
    CLOUD_CFG("rocky"),
    CLOUD_LINKS("cloud-init.target"),
    FSTAB(BY_UUID),
    {"/etc/NetworkManager/system-connections/eth0.nmconnection",
     "[connection]\nid=eth0\nuuid=cdb9f5a5-6d6d-4a4a-9d6c-2f1b2b0c1d1e\ntype=ethernet\n"
     "autoconnect-priority=-999\ninterface-name=eth0\n\n[ethernet]\n\n[ipv4]\nmethod=auto\n\n"
     "[ipv6]\naddr-gen-mode=eui64\nmethod=auto\n\n[proxy]\n"},
    {0},
};
static const struct entry fedora[] = {
    {"/usr/lib/os-release",
     "NAME=\"Fedora Linux\"\nVERSION=\"39 (Cloud Edition)\"\nID=fedora\nVERSION_ID=39\n"
     "PRETTY_NAME=\"Fedora Linux 39 (Cloud Edition)\"\nVARIANT=\"Cloud Edition\"\n"
     "VARIANT_ID=cloud\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("no_timer_check net.ifnames=0 console=tty1"),
    RPM_DATABASE("usr/lib/sysimage/rpm"),
    NETWORK_MANAGER,
    CLOUD_CFG("fedora"),
    CLOUD_LINKS("cloud-init.target"),
    FSTAB(BY_UUID),
    {0},
};

/* A deployment of Fedora CoreOS: ignition in place of cloud-init, and what NetworkManager does by
 * itself. */
static const struct entry coreos[] = {
    {"/usr/lib/os-release",
     "NAME=\"Fedora Linux\"\nVERSION=\"39.20240104.3.0 (CoreOS)\"\nID=fedora\nVERSION_ID=39\n"
     "VARIANT_ID=coreos\nPRETTY_NAME=\"Fedora CoreOS 39.20240104.3.0\"\nOSTREE_VERSION="
     "'39.20240104.3.0'\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("ignition.platform.id=qemu"),
    {"/usr/sbin/NetworkManager", "x"},
    {UNITS "multi-user.target.wants/NetworkManager.service",
     LINK "/usr/lib/systemd/system/NetworkManager.service"},
    {"/usr/lib/NetworkManager/conf.d/20-client-id-from-mac.conf",
     "[connection.20-client-id-from-mac]\nmatch-device=type:ethernet,type:wifi\n"
     "ipv4.dhcp-client-id=mac\n"},
    {"/usr/lib/dracut/modules.d/30ignition/", ""},
    {0},
};

/* The same as it lies on its disk: two deployments, the second of which the entries name by a link,
 * and the folder that is /var in both. No fstab: units mount what there is. */
#define DEPLOY "/ostree/deploy/coreos/deploy/"
static const struct entry coreos_disk[] = {
    BOOTS("ostree=/ostree/boot.1/coreos/c0ffee/0"),
    {"/boot/loader/entries/ostree-1.conf", "options ostree=/ostree/boot.1/coreos/decade/0\n"},
    {"/boot/loader/entries/ostree-2.conf",
     "title CoreOS\noptions $ignition_firstboot ostree=/ostree/boot.1/coreos/c0ffee/0\n"},
    {"/ostree/boot.1/coreos/c0ffee/0", LINK "../../../deploy/coreos/deploy/b.0"},
    {"/ostree/boot.1/coreos/decade/0", LINK "../../../deploy/coreos/deploy/a.0"},
    {DEPLOY "a.0/usr/lib/os-release", "ID=fedora\nVERSION_ID=38\n"},
    {DEPLOY "b.0/usr/lib/os-release", "ID=fedora\nVERSION_ID=39\nVARIANT_ID=coreos\n"},
    {DEPLOY "b.0/etc/os-release", LINK "../usr/lib/os-release"},
    {DEPLOY "b.0/sbin", LINK "usr/sbin"},
    {DEPLOY "b.0/usr/sbin/init", LINK "../lib/systemd/systemd"},
    {DEPLOY "b.0/usr/lib/systemd/systemd", "x"},
    {DEPLOY "b.0/usr/bin/ignition", "x"},
    {DEPLOY "b.0/usr/sbin/NetworkManager", "x"},
    {DEPLOY "b.0" UNITS "multi-user.target.wants/NetworkManager.service",
     LINK "/usr/lib/systemd/system/NetworkManager.service"},
    {DEPLOY "b.0/var/", ""},
    {"/ostree/deploy/coreos/var/lib/dpkg/status",
     "Package: shared\nStatus: install ok installed\n\n"},
    {0},
};

/* Amazon's own agent in place of NetworkManager; the card is called as the kernel calls it. */
static const struct entry amazon[] = {
    {"/usr/lib/os-release",
     "NAME=\"Amazon Linux\"\nVERSION=\"2\"\nID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\n"
     "VERSION_ID=\"2\"\nPRETTY_NAME=\"Amazon Linux 2\"\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("console=tty0 net.ifnames=0 biosdevname=0 rd.emergency=poweroff"),
    CLOUD_CFG("ec2-user"),
    CLOUD_LINKS("multi-user.target"),
    FSTAB("#\n" BY_UUID),
    {"/etc/rc.d/init.d/network", "#! /bin/bash\n"},
    {"/etc/sysconfig/network-scripts/ifcfg-eth0",
     "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\nTYPE=Ethernet\nUSERCTL=yes\nPEERDNS=yes\n"
     "DHCPV6C=yes\nDHCPV6C_OPTIONS=-nw\nPERSISTENT_DHCLIENT=yes\nRES_OPTIONS=\"timeout:2 "
     "attempts:5\"\nDHCP_ARP_CHECK=no\n"},
    {"/etc/udev/rules.d/53-ec2-network-interfaces.rules",
     "ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"eth*\", IMPORT{program}=\"/bin/sleep 1\"\n"
     "SUBSYSTEM==\"net\", RUN+=\"/etc/sysconfig/network-scripts/ec2net.hotplug\"\n"},
    {"/etc/cloud/cloud.cfg.d/99_onprem.cfg",
     "datasource_list: [ NoCloud, AltCloud, ConfigDrive, OVF, None ]\n"},
    {0},
};

/* --- SUSE ------------------------------------------------------------------------------------- */

static const struct entry suse[] = {
    {"/usr/lib/os-release",
     "NAME=\"openSUSE Leap\"\nVERSION=\"15.5\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"
     "VERSION_ID=\"15.5\"\nPRETTY_NAME=\"openSUSE Leap 15.5\"\n"},
    {"/etc/os-release", LINK "../usr/lib/os-release"},
    USR_SYSTEMD,
    BOOTS("net.ifnames=0 console=tty0 console=ttyS0,115200 dis_ucode_ldr"),
    FSTAB(BY_UUID),
    {"/usr/sbin/wicked", "x"},
    {UNITS "network.service", LINK "/usr/lib/systemd/system/wicked.service"},
    {UNITS "multi-user.target.wants/wicked.service", LINK "/usr/lib/systemd/system/wicked.service"},
    {"/etc/sysconfig/network/config", "AUTO6_WAIT_AT_BOOT=\"\"\nNETCONFIG_DNS_POLICY=\"auto\"\n"},
    {"/etc/sysconfig/network/ifcfg-lo",
     "IPADDR=127.0.0.1/8\nNETMASK=255.0.0.0\nNETWORK=127.0.0.0\nSTARTMODE=nfsroot\n"
     "BOOTPROTO=static\nUSERCONTROL=no\nFIREWALL=no\n"},
    {"/etc/sysconfig/network/ifcfg-eth0",
     "BOOTPROTO='dhcp'\nMTU=''\nREMOTE_IPADDR=''\nSTARTMODE='auto'\nETHTOOL_OPTIONS=''\n"
     "USERCONTROL='no'\n"},
    {"/etc/sysconfig/network/ifcfg.template", "STARTMODE=''\nBOOTPROTO=''\nIPADDR=''\n"},
    /* rpm's own format: a header in place of two slots, then two packages and a slot that was
     * emptied, and one on the second page */
    {"/make-more",
     "mkdir -p usr/lib/sysimage/rpm; python3 - <<'END'\nimport struct\n"
     "slots = [(1, 3), (0, 0), (2, 4)] + [(0, 0)] * 300\nslots[290] = (7, 9)\n"
     "data = b'RpmP' + struct.pack('<7I', 0, 4, 2, 8, 0, 0, 0)\n"
     "for number, at in slots:\n    data += b'Slot' + struct.pack('<3I', number, at, 1)\n"
     "open('usr/lib/sysimage/rpm/Packages.db', 'wb').write(data[:8192].ljust(8192, b'\\0') + "
     "b'BlkS' * 2000)\nEND\n"},
    {0},
};

/* --- Arch ------------------------------------------------------------------------------------- */

#define ARCH                                                                                       \
    {"/usr/lib/os-release", "NAME=\"Arch Linux\"\nPRETTY_NAME=\"Arch Linux\"\nID=arch\n"           \
                            "BUILD_ID=rolling\n"},                                                 \
        {"/etc/os-release", LINK "../usr/lib/os-release"}, USR_SYSTEMD,                            \
        {"/var/lib/pacman/local/ALPM_DB_VERSION", "9\n"},                                          \
        {"/var/lib/pacman/local/bash-5.2.015-1/desc", "x"},                                        \
        {"/var/lib/pacman/local/zlib-1.3-1/desc", "x"}, FSTAB(BY_UUID)
static const struct entry arch[] = {
    ARCH,
    BOOTS("net.ifnames=0 rootflags=compress-force=zstd"),
    CLOUD_CFG("arch"),
    CLOUD_LINKS("cloud-init.target"),
    {"/etc/systemd/network/80-ethernet.network",
     "# Try to use DHCP on any wired interface\n[Match]\nName=en*\nName=eth*\n\n[Network]\n"
     "DHCP=yes\n\n[DHCPv4]\nRouteMetric=512\n"},
    {UNITS "multi-user.target.wants/systemd-networkd.service",
     LINK "/usr/lib/systemd/system/systemd-networkd.service"},
    {0},
};
static const struct entry arch_netctl[] = {
    ARCH,
    BOOTS("quiet"),
    {"/usr/bin/netctl", "x"},
    {"/etc/netctl/examples/ethernet-static",
     "Interface=eth0\nConnection=ethernet\nIP=static\nAddress=('192.168.1.23/24')\n"},
    {"/etc/netctl/lan", "Description='A basic dhcp ethernet connection'\nInterface=enp1s0\n"
                        "Connection=ethernet\nIP=dhcp\n"},
    {UNITS "multi-user.target.wants/netctl@lan.service",
     LINK "/usr/lib/systemd/system/netctl@.service"},
    {0},
};

/* --- Alpine ----------------------------------------------------------------------------------- */

static const struct entry alpine[] = {
    {"/etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.1\n"
                        "PRETTY_NAME=\"Alpine Linux v3.19\"\n"},
    BOOTS("modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4"),
    FSTAB(BY_UUID "/dev/cdrom\t/media/cdrom\tiso9660\tnoauto,ro 0 0\n"),
    {"/sbin/init", LINK "/bin/busybox"},
    {"/bin/busybox", "x"},
    {"/sbin/openrc", "x"},
    {"/etc/inittab", "::sysinit:/sbin/openrc sysinit\n"},
    {"/sbin/ifup", LINK "/sbin/ifupdown"},
    {"/sbin/ifupdown", "x"},
    {"/etc/runlevels/boot/networking", LINK "/etc/init.d/networking"},
    {"/etc/network/interfaces",
     "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"},
    {"/lib/apk/db/installed", "C:Q1\nP:musl\nV:1.2.4\n\nC:Q1\nP:busybox\nV:1.36\n"},
    {0},
};

/* --- FreeBSD ---------------------------------------------------------------------------------- */

static const struct entry freebsd[] = {
    {"/etc/os-release", "NAME=FreeBSD\nVERSION=\"14.0-RELEASE\"\nVERSION_ID=\"14.0\"\nID=freebsd\n"
                        "PRETTY_NAME=\"FreeBSD 14.0-RELEASE\"\n"},
    {"/sbin/init", "x"},
    {"/etc/rc.subr", "# rc\n"},
    {"/etc/rc.conf", "ifconfig_DEFAULT=\"DHCP inet6 accept_rtadv\"\ngrowfs_enable=\"YES\"\n"
                     "hostname=\"freebsd\"\n"},
    {0},
};

const struct family families[] = {
    {"Debian 12", debian12, "debian12", "systemd", 2, false},
    {"Debian 11", debian11, "debian11", "systemd", 2, false},
    {"Debian, installed", debian_installed, "debian12", "systemd", 2, true},
    {"Ubuntu", ubuntu, "ubuntu22.04", "systemd", 2, false},
    {"CentOS 7", centos7, "centos7", "systemd", 0, false},
    {"Rocky 9", rocky9, "rocky9", "systemd", 700, false},
    {"Fedora", fedora, "fedora39", "systemd", 700, false},
    {"Fedora CoreOS", coreos, "fedora-coreos-stable", "systemd", 0, false},
    {"Fedora CoreOS, deployed", coreos_disk, "fedora-coreos-stable", "systemd", 1, false},
    {"Amazon Linux", amazon, "", "systemd", 0, false},
    {"openSUSE", suse, "opensuse15.5", "systemd", 3, false},
    {"Arch", arch, "archlinux", "systemd", 2, false},
    {"Arch, netctl", arch_netctl, "archlinux", "systemd", 2, false},
    {"Alpine", alpine, "alpinelinux3.19", "openrc", 2, false},
    {"FreeBSD", freebsd, "freebsd14.0", "rc", 0, false},
};
const size_t family_count = sizeof(families) / sizeof(families[0]);
