/* SPDX-License-Identifier: Apache-2.0 */
/* One defect each, planted in a system that has none; and changes that are none, for which no code
 * is told. */
#include "test-systems.h"

#define PUT(...)                                                                                   \
    (const struct entry[]) {                                                                       \
        __VA_ARGS__, { 0 }                                                                         \
    }
#define FINDS(family, name, entries, codes, words)                                                 \
    { family, name, entries, codes, words, false }
#define FINE(family, name, entries)                                                                \
    { family, name, entries, "", NULL, false }

#define FSTAB(text)                                                                                \
    { "/etc/fstab", text }
#define ROOT "UUID=" ROOT_UUID " / ext4 defaults 0 1\n"
#define AGENT                                                                                      \
    {"/usr/sbin/qemu-ga", "x"}, { "/usr/lib/udev/rules.d/60-qemu-guest-agent.rules", "x" }
#define NO_CLOUD                                                                                   \
    { "/etc/cloud/cloud.cfg", NULL }
#define CLOUD_NO_NETWORK                                                                           \
    { "/etc/cloud/cloud.cfg.d/99-network.cfg", "network: {config: disabled}\n" }
#define CLOUD_NETWORK(text)                                                                        \
    { "/etc/cloud/cloud.cfg.d/60-network.cfg", text }
#define NETPLAN "/etc/netplan/90-default.yaml"
#define ETHERNETS(text) "network:\n  version: 2\n  ethernets:\n" text
#define INTERFACES "/etc/network/interfaces"
#define LO "auto lo\niface lo inet loopback\n"
#define IFCFG "/etc/sysconfig/network-scripts/ifcfg-eth0"
#define PROFILE "/etc/NetworkManager/system-connections/lan.nmconnection"
#define WIRED "[connection]\nid=lan\ntype=ethernet\n"
#define NO_DEFAULT                                                                                 \
    { "/usr/lib/NetworkManager/conf.d/00-server.conf", "[main]\nno-auto-default=*\n" }
#define NETWORKD "/etc/systemd/network/80-ethernet.network"
#define RULES "/etc/udev/rules.d/70-persistent-net.rules"

const struct defect defects[] = {
    /* Identity */
    FINDS("Debian 12", "a machine's own name", PUT({"/etc/machine-id", "0123456789abcdef\n"}),
          "identity.machine", "/etc/machine-id"),
    FINDS("CentOS 7", "a rule with a card's address",
          PUT({RULES, "# made by write_net_rules\nSUBSYSTEM==\"net\", ACTION==\"add\", "
                      "DRIVERS==\"?*\", ATTR{address}==\"52:54:00:12:34:56\", "
                      "ATTR{type}==\"1\", KERNEL==\"eth*\", NAME=\"eth0\"\n"}),
          "identity.net", "70-persistent-net.rules"),
    FINE("CentOS 7", "the same turned off", PUT({RULES, LINK "/dev/null"})),
    FINE("CentOS 7", "the same without a rule", PUT({RULES, "# nothing\n"})),

    {"Debian 12", "what DHCP gave, and the like",
     PUT({"/usr/sbin/qemu-ga", "x"}, {"/lib/udev/rules.d/60-qemu-guest-agent.rules", "x"},
         {"/var/lib/dhcp/dhclient.leases", "lease {}\n"}, {"/var/lib/dhcp/empty.leases", ""}),
     "identity.leases", "/var/lib/dhcp/dhclient.leases is of an address", true},
    {"Rocky 9", "a lease of NetworkManager",
     PUT(AGENT, {"/var/lib/NetworkManager/internal-x-eth0.lease", "ADDRESS=10.0.0.5\n"}),
     "identity.leases", NULL, true},
    {"Fedora", "a seed", PUT(AGENT, {"/var/lib/systemd/random-seed", "noise"}), "identity.seed",
     NULL, true},
    {"Fedora", "an empty seed", PUT(AGENT, {"/var/lib/systemd/random-seed", ""}), "", NULL, true},
    {"Fedora", "a name, which cloud-init replaces", PUT(AGENT, {"/etc/hostname", "web\n"}), "",
     NULL, true},
    {"openSUSE", "a name, which nobody replaces", PUT(AGENT, {"/etc/hostname", "web\n"}),
     "identity.hostname os.no_cloud_init", "are called web", true},

    /* fstab */
    FINDS("CentOS 7", "a disk by its place",
          PUT(FSTAB(ROOT "/dev/disk/by-path/pci-0000:00:06.0-part1 /srv xfs defaults 0 0\n")),
          "fstab.name", "by-path"),
    FINDS("CentOS 7", "a disk by its serial number",
          PUT(FSTAB("/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part1 / ext4 defaults 0 1\n")),
          "fstab.name", "ata-QEMU"),
    FINE("CentOS 7", "a volume that may be away",
         PUT(FSTAB(ROOT "/dev/disk/by-id/virtio-vol-0a1b2c3d /srv xfs defaults,nofail 0 0\n"))),
    FINE("CentOS 7", "all names that lead to the root",
         PUT(FSTAB("/dev/disk/by-uuid/" ROOT_UUID " / ext4 defaults 0 1\n"
                   "/dev/disk/by-label/root /a ext4 defaults 0 0\nLABEL=root /b auto ro 0 0\n"
                   "LABEL=\"root\" /c ext3 ro 0 0\n"))),
    FINDS("CentOS 7", "a PARTLABEL of another disk",
          PUT(FSTAB(ROOT "PARTLABEL=data /srv xfs defaults 0 0\n")), "fstab.unknown", "PARTLABEL"),
    FINDS("CentOS 7", "another type", PUT(FSTAB(ROOT "LABEL=root /srv xfs defaults 0 0\n")),
          "fstab.type", "/srv as xfs, and /dev/vda1 holds ext4"),
    FINDS("CentOS 7", "two on one path",
          PUT(FSTAB(ROOT "tmpfs /tmp tmpfs size=1G 0 0\n\ntmpfs /tmp tmpfs nosuid 0 0\n")),
          "fstab.twice", "lines 2 and 4"),
    FINE("CentOS 7", "two on one path, one of them by hand",
         PUT(FSTAB(ROOT "LABEL=root /mnt ext4 noauto 0 0\ntmpfs /mnt tmpfs size=1G 0 0\n"))),
    FINDS("CentOS 7", "a swap file that is not there",
          PUT(FSTAB(ROOT "/swapfile none swap sw 0 0\n")), "fstab.unknown", "/swapfile"),
    FINE("CentOS 7", "a swap file that is there",
         PUT(FSTAB(ROOT "/swapfile none swap sw 0 0\n"), {"/swapfile", "x"})),
    {"Fedora", "a server's files",
     PUT(AGENT, FSTAB(ROOT "nas:/home /home nfs4 defaults,_netdev 0 0\n"
                           "nas:/more /more nfs4 defaults,nofail 0 0\n")),
     "fstab.network", "nas:/home", true},

    /* netplan */
    FINDS("Debian 12", "netplan for one MAC address",
          PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    lan:\n      match:\n        macaddress: "
                                            "52:54:00:12:34:56\n      set-name: lan\n"
                                            "      dhcp4: true\n")}),
          "network.mac", "52:54:00:12:34:56"),
    FINDS("Debian 12", "netplan that gives a MAC address",
          PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    enp1s0:\n      macaddress: "
                                            "\"52:54:00:12:34:56\"\n      dhcp4: yes\n")}),
          "network.mac", "gives enp1s0 the MAC address"),
    FINDS("Debian 12", "netplan with an address",
          PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    enp1s0:\n      addresses: [10.0.0.5/24]\n"
                                            "      routes: [{to: default, via: 10.0.0.1}]\n")}),
          "network.address", "10.0.0.5/24"),
    FINDS("Debian 12", "netplan with an address, beside cloud-init",
          PUT({"/etc/netplan/99-own.yaml", ETHERNETS("    eth0:\n      addresses:\n"
                                                     "        - 10.0.0.5/24:\n"
                                                     "            label: x\n")}),
          "network.address", "99-own.yaml gives eth0"),
    FINDS("Debian 12", "netplan for one name",
          PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    ens3: {dhcp4: true}\n")}), "network.name",
          "ens3, which is called enp1s0"),
    FINDS("Debian 12", "the same, with cloud-init kept out",
          PUT(CLOUD_NO_NETWORK, {NETPLAN, ETHERNETS("    ens3: {dhcp4: true}\n")}), "network.name",
          NULL),
    FINE("Debian 12", "the same, with cloud-init",
         PUT({NETPLAN, ETHERNETS("    ens3: {dhcp4: true}\n")})),
    FINE("Debian 12", "netplan for the name that cards have here",
         PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    enp1s0: {dhcp4: true}\n")})),
    FINDS("Debian 12", "netplan whose later file undoes it",
          PUT(NO_CLOUD, {NETPLAN, ETHERNETS("    enp1s0: {dhcp4: true}\n")},
              {"/etc/netplan/99-own.yaml",
               ETHERNETS("    enp1s0: {dhcp4: false, addresses: [10.0.0.5/24]}\n")}),
          "network.address", "99-own.yaml"),
    FINE("Debian 12", "netplan that is not understood",
         PUT(NO_CLOUD, {NETPLAN, "x: &a [1]\nnetwork: {ethernets: {ens3: *a}}\n"})),
    FINE("Debian 12", "netplan as cloud-init wrote it, which it will anew",
         PUT({"/etc/netplan/50-cloud-init.yaml",
              "# This file is generated from information provided by the datasource.  Changes\n"
              "# to it will not persist across an instance reboot.\n" ETHERNETS(
                  "    ens3:\n      match: {macaddress: '52:54:00:12:34:56'}\n"
                  "      set-name: ens3\n      dhcp4: true\n")})),
    FINDS("Debian 12", "the same, when it will not",
          PUT(NO_CLOUD, {NETPLAN, NULL},
              {"/etc/netplan/50-cloud-init.yaml",
               ETHERNETS("    ens3:\n      match: {macaddress: '52:54:00:12:34:56'}\n"
                         "      set-name: ens3\n      dhcp4: true\n")}),
          "network.mac", NULL),
    FINDS("Debian 12", "no network at all", PUT(NO_CLOUD, {NETPLAN, NULL}), "network.none", NULL),
    FINE("Ubuntu", "a bridge on top of a card",
         PUT(NO_CLOUD,
             {"/etc/netplan/01.yaml", "network:\n  ethernets: {ens3: {dhcp4: false}}\n"
                                      "  bridges: {br0: {interfaces: [ens3], dhcp4: true}}\n"})),
    FINDS("Ubuntu", "a bridge with an address",
          PUT({"/etc/netplan/01.yaml", "network:\n  bridges: {br0: {interfaces: [ens3], "
                                       "addresses: [192.168.9.1/24]}}\n"}),
          "network.address", "br0"),
    FINE("Ubuntu", "netplan is not installed",
         PUT({"/usr/sbin/netplan", NULL}, {"/lib/netplan/generate", NULL},
             {"/etc/netplan/01.yaml", ETHERNETS("    ens3: {addresses: [10.0.0.5/24]}\n")})),

    /* cloud-init's own configuration of networks */
    FINDS("Ubuntu", "cloud-init told of one MAC address",
          PUT(CLOUD_NETWORK("network:\n  version: 1\n  config:\n    - type: physical\n"
                            "      name: enp1s0\n      mac_address: '52:54:00:12:34:56'\n"
                            "      subnets:\n        - type: dhcp4\n")),
          "network.mac", "60-network.cfg is only for"),
    FINDS("Ubuntu", "cloud-init told of an address",
          PUT(CLOUD_NETWORK("network:\n  version: 1\n  config:\n  - type: physical\n"
                            "    name: enp1s0\n    subnets:\n    - type: static\n"
                            "      address: 10.0.0.5/24\n      gateway: 10.0.0.1\n"
                            "# the end\n")),
          "network.address", "60-network.cfg gives enp1s0"),
    FINDS("Ubuntu", "cloud-init told of one name",
          PUT(CLOUD_NETWORK("network: {version: 1, config: [{type: physical, name: ens3, "
                            "subnets: [{type: dhcp}]}]}\n")),
          "network.name", "ens3"),
    FINDS("Ubuntu", "what its installer leaves, of another name",
          PUT({"/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
               "# This is the network config written by 'subiquity'\n" ETHERNETS(
                   "    ens18:\n      dhcp4: true\n")}),
          "network.name", "ens18"),
    FINDS("Ubuntu", "cloud-init told by netplan's words of one MAC address",
          PUT(CLOUD_NETWORK(ETHERNETS("    lan:\n      match:\n        macaddress: "
                                      "52:54:00:12:34:56\n      set-name: lan\n"
                                      "      dhcp4: true\n"))),
          "network.mac", NULL),
    FINDS("Ubuntu", "cloud-init told of no network",
          PUT(CLOUD_NETWORK("network: {version: 1, config: []}\n")), "network.none", NULL),
    FINE("Ubuntu", "cloud-init told of the name that cards have here",
         PUT(CLOUD_NETWORK("network:\n  version: 1\n  config:\n    - type: physical\n"
                           "      name: enp1s0\n      subnets: [{type: dhcp, control: auto}]\n"
                           "    - {type: nameserver, address: [10.0.0.1]}\n"))),
    FINE("Ubuntu", "cloud-init told of any card",
         PUT(CLOUD_NETWORK(ETHERNETS("    all: {match: {name: 'e*'}, dhcp4: true}\n")))),
    FINE("Ubuntu", "cloud-init told of a bridge",
         PUT(CLOUD_NETWORK("network:\n  version: 1\n  config:\n    - {type: physical, name: ens3}\n"
                           "    - type: bridge\n      name: br0\n      bridge_interfaces: [ens3]\n"
                           "      subnets: [{type: dhcp}]\n"))),
    FINE("Ubuntu", "the same that a later file turns off",
         PUT(CLOUD_NETWORK("network: {version: 1, config: [{type: physical, name: ens3, "
                           "subnets: [{type: dhcp}]}]}\n"),
             CLOUD_NO_NETWORK, {"/etc/netplan/01.yaml", ETHERNETS("    enp1s0: {dhcp4: true}\n")})),

    /* ifupdown */
    FINDS("Debian, installed", "ifupdown for one name",
          PUT({INTERFACES, LO "auto ens3\niface ens3 inet dhcp\n"}), "network.name", "ens3"),
    FINDS("Debian, installed", "ifupdown with an address",
          PUT({INTERFACES, LO "auto enp1s0\niface enp1s0 inet static\n  address 10.0.0.5/24\n"
                              "  gateway 10.0.0.1\n"}),
          "network.address", "10.0.0.5/24"),
    FINDS("Debian, installed", "the same, in another file",
          PUT({INTERFACES, LO "source interfaces.d/*.cfg\n"},
              {"/etc/network/interfaces.d/lan.cfg",
               "auto enp1s0\niface enp1s0 inet static\n\taddress 10.0.0.5\\\n\n"}),
          "network.address", "interfaces.d/lan.cfg"),
    FINDS("Debian, installed", "ifupdown that gives a MAC address",
          PUT({INTERFACES, LO "auto enp1s0\niface enp1s0 inet dhcp\n"
                              "  hwaddress ether 52:54:00:12:34:56\n"}),
          "network.mac", NULL),
    FINDS("Debian, installed", "a card that nobody brings up",
          PUT({INTERFACES, LO "iface enp1s0 inet dhcp\n"}), "network.none", NULL),
    FINE("Debian, installed", "any card",
         PUT({INTERFACES, LO "auto /en*=lan\niface lan inet dhcp\n"})),
    FINE("Debian, installed", "cards by their MAC addresses: not understood",
         PUT({INTERFACES, LO "auto /*/mac=52:54:*=lan\niface lan inet dhcp\n"})),
    FINE("Debian, installed", "files that include one another",
         PUT({INTERFACES, LO "source /etc/network/interfaces\n"})),
    FINE("Debian, installed", "a client that asks on any card",
         PUT({INTERFACES, LO}, {"/etc/systemd/system/multi-user.target.wants/dhcpcd.service",
                                LINK "/lib/systemd/system/dhcpcd.service"})),
    FINDS("Alpine", "an address",
          PUT({INTERFACES, LO "auto eth0\niface eth0 inet static\n\taddress 10.0.0.5\n"}),
          "network.address", NULL),
    FINE("Alpine", "the shorter form", PUT({INTERFACES, "auto eth0\niface eth0\n\tuse dhcp\n"})),

    /* NetworkManager */
    FINDS("Rocky 9", "a profile for one MAC address",
          PUT(NO_CLOUD, {PROFILE, WIRED "[ethernet]\nmac-address=52:54:00:12:34:56\n"
                                        "[ipv4]\nmethod=auto\n"}),
          "network.mac", "lan.nmconnection"),
    FINDS("Rocky 9", "a profile that gives a MAC address",
          PUT({PROFILE, WIRED "[ethernet]\ncloned-mac-address=52:54:00:12:34:56\n"
                              "[ipv4]\nmethod=auto\n"}),
          "network.mac", "gives the network card"),
    FINE("Rocky 9", "a profile that keeps the card's address",
         PUT({PROFILE, WIRED "[ethernet]\ncloned-mac-address=permanent\n[ipv4]\nmethod=auto\n"})),
    FINDS("Rocky 9", "a profile with an address",
          PUT({PROFILE, WIRED "interface-name=enp1s0\n[ipv4]\nmethod=manual\n"
                              "address1=10.0.0.5/24,10.0.0.1\n"}),
          "network.address", "10.0.0.5/24"),
    FINDS("Rocky 9", "a profile for one name, and no other network",
          PUT(NO_CLOUD, NO_DEFAULT,
              {"/etc/NetworkManager/system-connections/eth0.nmconnection", NULL},
              {PROFILE, WIRED "interface-name=ens192\n[ipv4]\nmethod=auto\n"}),
          "network.name", "ens192"),
    FINE("Rocky 9", "the same, as NetworkManager helps itself",
         PUT(NO_CLOUD, {PROFILE, WIRED "interface-name=ens192\n[ipv4]\nmethod=auto\n"})),
    FINDS("Rocky 9", "no profile, and it does not help itself",
          PUT(NO_CLOUD, NO_DEFAULT,
              {"/etc/NetworkManager/system-connections/eth0.nmconnection", NULL}),
          "network.none", NULL),
    FINE("Rocky 9", "a profile as cloud-init wrote it",
         PUT({"/etc/NetworkManager/system-connections/cloud-init-ens3.nmconnection",
              "# Generated by cloud-init. Changes will be lost.\n\n" WIRED
              "[ethernet]\nmac-address=52:54:00:12:34:56\n[ipv4]\nmethod=auto\n"})),
    FINDS("Fedora CoreOS", "a profile with an address",
          PUT({PROFILE, WIRED "[ipv4]\nmethod=manual\naddresses=10.0.0.5/24\n"}), "network.address",
          NULL),

    /* ifcfg-* */
    FINDS("CentOS 7", "an ifcfg for one MAC address",
          PUT({IFCFG, "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\nHWADDR=52:54:00:12:34:56\n"}),
          "network.mac", "ifcfg-eth0 is only for"),
    FINE("CentOS 7", "the same, of cloud-init",
         PUT({IFCFG, "# Created by cloud-init automatically, do not edit.\n#\nDEVICE=eth0\n"
                     "BOOTPROTO=dhcp\nONBOOT=yes\nHWADDR=52:54:00:12:34:56\n"})),
    FINDS("CentOS 7", "an ifcfg with an address",
          PUT({IFCFG, "DEVICE=eth0\nBOOTPROTO=none\nONBOOT=yes\nIPADDR=10.0.0.5\nPREFIX=24\n"}),
          "network.address", NULL),
    FINDS("CentOS 7", "an ifcfg for one name",
          PUT(NO_CLOUD, {IFCFG, "DEVICE=ens192\nBOOTPROTO=dhcp\nONBOOT=yes\n"}), "network.name",
          "ens192, which is called eth0"),
    FINDS("CentOS 7", "an ifcfg that is not started",
          PUT(NO_CLOUD, {IFCFG, "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=no\n"}), "network.none", NULL),
    FINE("CentOS 7", "what package managers leave behind",
         PUT({IFCFG ".rpmsave", "DEVICE=eth0\nIPADDR=10.0.0.5\nHWADDR=52:54:00:12:34:56\n"})),
    FINDS("openSUSE", "an address",
          PUT({"/etc/sysconfig/network/ifcfg-eth0",
               "BOOTPROTO='static'\nIPADDR='10.0.0.5/24'\nSTARTMODE='auto'\n"}),
          "network.address", "10.0.0.5/24"),
    FINDS("openSUSE", "another name",
          PUT({"/etc/sysconfig/network/ifcfg-eth0", NULL},
              {"/etc/sysconfig/network/ifcfg-ens3", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"}),
          "network.name", NULL),
    FINDS("openSUSE", "a MAC address",
          PUT({"/etc/sysconfig/network/ifcfg-eth0",
               "BOOTPROTO='dhcp'\nLLADDR='52:54:00:12:34:56'\nSTARTMODE='auto'\n"}),
          "network.mac", NULL),

    /* systemd-networkd */
    FINDS("Arch", "networkd for one MAC address",
          PUT(NO_CLOUD, {NETWORKD, "[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nDHCP=yes\n"}),
          "network.mac", NULL),
    FINDS("Arch", "a link for one MAC address",
          PUT({"/etc/systemd/network/10-lan.link",
               "[Match]\nMACAddress=52:54:00:12:34:56\n[Link]\nName=lan0\n"}),
          "network.mac", "10-lan.link"),
    FINDS("Arch", "networkd with an address",
          PUT({NETWORKD, "[Match]\nName=en*\n[Network]\nAddress=10.0.0.5/24\n"}), "network.address",
          "en*"),
    FINDS("Arch", "networkd for one name",
          PUT(NO_CLOUD, {NETWORKD, "[Match]\nName=ens3\n[Network]\nDHCP=ipv4\n"}), "network.name",
          NULL),
    FINDS("Arch", "a default that is hidden",
          PUT(NO_CLOUD,
              {"/usr/lib/systemd/network/80-ethernet.network",
               "[Match]\nName=*\n[Network]\nDHCP=yes\n"},
              {NETWORKD, LINK "/dev/null"}),
          "network.none", NULL),
    FINE("Arch", "all but the loopback",
         PUT(NO_CLOUD, {NETWORKD, "[Match]\nName=!lo ve-*\n[Network]\nDHCP=yes\n"})),
    FINE("Arch", "a kind of card",
         PUT(NO_CLOUD, {NETWORKD, "[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=yes\n"})),
    FINE(
        "Arch", "names that a link gives: not known here",
        PUT(NO_CLOUD,
            {"/etc/systemd/network/10-lan.link", "[Match]\nDriver=virtio_net\n[Link]\nName=lan0\n"},
            {NETWORKD, "[Match]\nName=lan0\n[Network]\nDHCP=yes\n"})),

    /* netctl, rc.conf */
    FINDS("Arch, netctl", "an address",
          PUT({"/etc/netctl/lan", "Interface=enp1s0\nConnection=ethernet\nIP=static\n"
                                  "Address=('10.0.0.5/24')\n"}),
          "network.address", "10.0.0.5/24"),
    FINDS("Arch, netctl", "another name",
          PUT({"/etc/netctl/lan", "Interface=eth0\nConnection=ethernet\nIP=dhcp\n"}),
          "network.name", NULL),
    FINDS("FreeBSD", "another name", PUT({"/etc/rc.conf", "ifconfig_em0=\"SYNCDHCP\"\n"}),
          "network.name", "em0, which is called vtnet0"),
    FINDS("FreeBSD", "an address",
          PUT({"/etc/rc.conf", "ifconfig_vtnet0=\"inet 10.0.0.5 netmask 255.255.255.0\"\n"
                               "ifconfig_vtnet0_ipv6=\"inet6 accept_rtadv\"\n"}),
          "network.address", "10.0.0.5"),
    FINDS("FreeBSD", "no network", PUT({"/etc/rc.conf", "hostname=\"x\"\n"}), "network.none", NULL),

    /* Agents */
    FINDS("Ubuntu", "cloud-init turned off",
          PUT({"/etc/cloud/cloud-init.disabled", "Disabled by Ubuntu live installer\n"},
              {"/etc/netplan/01.yaml", ETHERNETS("    enp1s0: {dhcp4: true}\n")}),
          "os.cloud_init_off", "cloud-init.disabled"),
    FINDS("Ubuntu", "cloud-init masked",
          PUT({"/etc/systemd/system/cloud-init.service", LINK "/dev/null"},
              {"/etc/netplan/01.yaml", ETHERNETS("    enp1s0: {dhcp4: true}\n")}),
          "os.cloud_init_off", "masked"),
    FINDS("Rocky 9", "cloud-init not enabled",
          PUT({"/etc/systemd/system/cloud-init.target.wants/cloud-init.service", NULL},
              {"/etc/systemd/system/cloud-init.target.wants/cloud-init-local.service", NULL}),
          "os.cloud_init_off", "enabled"),
    FINDS("Ubuntu", "cloud-init that asks another cloud",
          PUT({"/etc/cloud/cloud.cfg.d/91_azure.cfg", "datasource_list: [ Azure ]\n"}),
          "os.cloud_init_source", "Azure"),
    {"Debian, installed", "neither cloud-init nor agent", PUT({"/etc/motd", "x"}),
     "os.no_cloud_init os.no_agent", NULL, true},
    {"Fedora", "an agent",
     PUT({"/usr/bin/qemu-ga", "x"},
         {"/etc/systemd/system/dev-virtio\\x2dports-org.qemu.guest_agent.0."
          "device.wants/qemu-guest-agent.service",
          LINK "/usr/lib/systemd/system/qemu-guest-agent.service"}),
     "", NULL, true},
    {"Fedora", "an agent that is not started", PUT({"/usr/bin/qemu-ga", "x"}), "os.agent_off", NULL,
     true},
    {"Fedora", "cloud-init's configuration without cloud-init",
     PUT({"/usr/bin/cloud-init", NULL}, {"/usr/bin/qemu-ga", "x"},
         {"/usr/lib/udev/rules.d/60-qemu-guest-agent.rules", "x"}),
     "os.no_cloud_init", NULL, true},
};
const size_t defect_count = sizeof(defects) / sizeof(defects[0]);
