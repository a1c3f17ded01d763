#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vxnet-0 on real QEMU, in a network namespace that is the host for the time of the test: machines get their addresses by
DHCP and their names by DNS, reach each other, the world and nothing else of the host, and live through the death of
imprintd. Usage: test-vxnet.py IMPRINTD IMPRINT WORKER MAKE-GUEST GUEST.RAW (made if it is not there)."""
import os
import re
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "IMPRINT_TEST_NAMESPACE"


def skip(reason):
    print("1..0 # SKIP " + " ".join(str(reason).split()))
    sys.exit(0)


def enter():
    """Begins anew as root of namespaces of our own. The guest is made before: the world is not there any more inside."""
    make, guest = os.path.abspath(sys.argv[4]), os.path.abspath(sys.argv[5])
    if os.geteuid() != 0:
        skip("needs root")
    if not os.path.exists("/usr/sbin/dnsmasq"):
        skip("needs dnsmasq")
    made = subprocess.run([make, guest], capture_output=True, text=True)
    if made.returncode != 0:
        skip("there is no guest: " + made.stderr)
    tried = subprocess.run(["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "ip", "link", "add", "try0", "type", "bridge"], capture_output=True, text=True)
    if tried.returncode != 0:
        skip("this machine allows no namespaces with bridges: " + tried.stderr)
    os.environ[INSIDE] = guest
    # With the first process of a namespace ends whatever it started, however it ends.
    os.execvp("unshare", ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private",
                          sys.executable, os.path.abspath(__file__)] + sys.argv[1:4])


if INSIDE not in os.environ:
    enter()
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
from world import Failed, World, check, main, note, tail, wait_for  # noqa: E402

GUEST = os.environ[INSIDE]


def sh(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **more)


def must(command):
    done = sh("sh", "-c", command)
    if done.returncode != 0:
        raise Failed(command + ": " + done.stderr)
    return done.stdout


# /sys shows the interfaces of the namespace it was mounted in, and libvirt looks there; it finds its cgroups below it, too.
must("mount -t tmpfs -o mode=0755 none /run && mkdir /run/cgroup && mount --rbind /sys/fs/cgroup /run/cgroup && "
     "mount -t sysfs none /sys && mount --rbind /run/cgroup /sys/fs/cgroup && ip link set lo up && ip netns add world && "
     "ip link add outside type veth peer name eth0 netns world && ip addr add 192.0.2.1/24 dev outside && "
     "ip link set outside up && ip -n world addr add 192.0.2.2/24 dev eth0 && ip -n world link set eth0 up")
# Five addresses for machines are few enough to be used up.
SETTINGS = {"net_subnet": "10.180.0.0/29", "http_address": "0.0.0.0", "limits_monitor": 1}
world = World(net_mode="auto", **SETTINGS)
web = subprocess.Popen(["ip", "netns", "exec", "world", "busybox", "nc", "-ll", "-p", "80", "-e", "echo", "hello"])
images, ids, ips = [], [], []


def dnsmasq():
    """The process of ours: its folder's name is made of our state folder's."""
    folder = [name for name in os.listdir("/run/imprint") if name.startswith("imbr0-")]
    return sh("pgrep", "-f", "conf-file=/run/imprint/" + folder[0]).stdout.split() if folder else []


def inside(ip, command):
    """What a command says in the guest with this address; fails when the guest is not reached."""
    def probe():
        try:
            done = subprocess.run(["busybox", "nc", ip, "2222"], input=command + "; echo over; exit\n", text=True,
                                  capture_output=True, timeout=30)
            return done.stdout if done.stdout.endswith("over\n") else ""
        except subprocess.TimeoutExpired:
            return ""
    said = wait_for(probe, pause=0.2)  # between two shells nobody listens for a moment
    if not said:
        raise Failed("the machine at %s is not reached for: %s" % (ip, command))
    return said[:-len("over\n")]


def says(ip, command, wanted, text=None):
    said = inside(ip, command)
    check(re.search(wanted, said), text or "%s: %s" % (ip, command), said)


def network():
    return world.json("network", "list")[0]


def starts():
    world.start()
    with open(world.log) as log:
        check(re.search(r"network: bridge imbr0, subnet 10\.180\.0\.0/29, NAT", log.read()), "imprintd says that it has a bridge",
              lambda: tail(world.log))
    found = network()
    check(found["mode"] == "bridge" and found["ip_network"] == "10.180.0.0/29" and found["gateway"] == "10.180.0.1"
          and found["available_ip_count"] == 5, "and so does DescribeVxnets", found)
    images.append(world.do("image", "import", GUEST, "--name", "micro"))
    refused = world.imprint("instance", "run", "--image", images[0], "--count", "6", "--no-login", "--memory", "96", "--wait")
    check(refused.status != 0 and "no free address left" in refused.err, "six machines are one too many", refused)
    check(network()["available_ip_count"] == 5 and not world.machines(), "and leave nothing", network)


def boots():
    if not images:
        raise Failed("there is no image")
    for name in ("web", "db"):
        ids.append(world.run(images[0], "--cpu", "1", "--memory", "96", "--hostname", name))
    for id, name in zip(ids, ("web", "db")):
        ip = world.one("instance", id)["vxnets"][0]["private_ip"]
        ips.append(ip)
        check(re.match(r"10\.180\.0\.[2-6]$", ip), "%s has an address of the range" % name, ip)
        check(world.says(id, r"MICRO ip %s hostname %s domain imprint.internal" % (re.escape(ip), name)),
              "it gets it by DHCP, with its name", lambda: world.console(id))
    check(network()["available_ip_count"] == 3, "three addresses are left", network)
    taps = sh("ip", "-br", "link", "show", "master", "imbr0").stdout
    check(len(re.findall(r"^imt\w{12} ", taps, re.M)) == 2, "both hang on the bridge by taps that bear their MAC", taps)


def talks():
    if len(ips) < 2:
        raise Failed("there are no two machines")
    a, b = ips
    says(a, "ping -c 1 -W 5 %s" % b, r"1 packets received")
    says(a, "nslookup -type=a db 10.180.0.1", r"Address: %s\b" % re.escape(b))
    says(b, "nslookup -type=a web.imprint.internal 10.180.0.1", r"Address: %s\b" % re.escape(a))
    says(a, "nc -w 5 192.0.2.2 80 </dev/null", "hello")
    # No answer takes as long as nc waits; a refusal would come at once, and open ports answer.
    says(a, "echo | nc -w 2 10.180.0.1 %d; echo status $?" % world.port, r"\Astatus 1", "a port of the host does not answer")
    says(a, "ip addr add 10.180.0.6/29 dev eth0; ping -c 1 -W 2 -I 10.180.0.6 10.180.0.1", "100% packet loss",
         "a machine that takes another address is not heard")
    says(a, "ip addr del 10.180.0.6/29 dev eth0; ping -c 1 -W 5 10.180.0.1", r"1 packets received")
    answer = world.imprint("instance", "ssh", ids[0], "--wait", "--print")
    check(answer.status == 0 and answer.out.rstrip().endswith("-- " + a) and "-p 22 " in answer.out,
          "instance ssh goes straight to the address", answer)


def counts():
    """What went through a card is in its series, in and out as the guest sees it, and what its system holds of its memory."""
    if len(ips) < 2:
        raise Failed("there are no two machines")
    says(ips[0], "for i in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -W 5 -s 1400 %s; done" % ips[1], r"1 packets received")
    card = "if-" + world.one("instance", ids[0])["vxnets"][0]["nic_id"]

    def most():
        found = {}
        for row in world.json("instance", "monitor", ids[0], "--since", "1h"):
            found[row["meter"]] = max(row["value"], found.get(row["meter"], 0))
        return found
    check(wait_for(lambda: min(most().get(card + way, 0) for way in (" in", " out")) > 0, pause=0.5),
          "its card's bytes are counted, both ways", most)
    found = most()
    check(found.get("cpu", 0) > 0 and 0 < found.get("memory", 0) <= 1000, "and its CPU and memory", found)


def survives():
    if len(ips) < 2:
        raise Failed("there are no two machines")
    a, b = ips
    before = dnsmasq()
    world.kill(signal.SIGKILL)
    says(a, "ping -c 1 -W 5 %s" % b, r"1 packets received")
    world.start()
    check(len(before) == 1 and dnsmasq() == before, "after kill -9 imprintd finds its dnsmasq again", before)
    says(b, "nslookup -type=a web 10.180.0.1", r"Address: %s\b" % re.escape(a))
    seen = len(world.console(ids[1]))
    world.do("instance", "restart", ids[1])
    check(world.says(ids[1], r"MICRO ip %s hostname db" % re.escape(b), seen), "restarted, a machine has the address it had",
          lambda: world.console(ids[1])[seen:])


def user_mode():
    """The mode changes under an instance that was made on the bridge."""
    if len(ips) < 2:
        raise Failed("there are no two machines")
    world.do("instance", "stop", "--force", ids[1])
    world.kill(signal.SIGTERM)
    world.configure(net_mode="user", **SETTINGS)
    world.start()
    check(network()["mode"] == "user" and "as configured" in network()["description"], "imprintd starts in user mode", network)
    says(ips[0], "echo here", "here")
    world.do("instance", "start", ids[1])
    check(world.one("instance", ids[1])["vxnets"][0]["private_ip"] == "10.0.2.15", "the other one starts there", "")
    answer = world.imprint("instance", "ssh", ids[1], "--wait", "--print")
    check(answer.status == 0 and answer.out.rstrip().endswith("-- 127.0.0.1") and not re.search(r"-p 22 ", answer.out),
          "instance ssh goes through a port on 127.0.0.1", answer)
    world.do("instance", "stop", "--force", ids[1])
    world.kill(signal.SIGTERM)
    world.configure(net_mode="auto", **SETTINGS)
    world.start()
    seen = len(world.console(ids[1]))
    world.do("instance", "start", ids[1])
    ip = world.one("instance", ids[1])["vxnets"][0]["private_ip"]
    check(re.match(r"10\.180\.0\.[3-6]$", ip) and world.says(ids[1], r"MICRO ip %s hostname db" % re.escape(ip), seen),
          "back on the bridge it has an address of the range again", ip)


def ends():
    try:
        world.operator("network", "remove")
        check(False, "a network in use is not removed")
    except Failed as error:
        check("in use by a running imprintd" in str(error), "a network in use is not removed", error)
    for id in ids:
        world.do("instance", "terminate", id, "--now")
    check(wait_for(lambda: network()["available_ip_count"] == 5, 60, 0.5), "terminated, they give their addresses back", network)
    world.kill(signal.SIGTERM)
    was = dnsmasq()
    world.operator("network", "remove")
    left = sh("sh", "-c", "ip -br link | grep imbr0; nft list tables | grep imprint; ls /run/imprint").stdout
    check(not left.strip(), "network remove leaves nothing", left)
    check(len(was) == 1 and not sh("cat", "/proc/%s/cmdline" % was[0]).stdout, "no dnsmasq either", was)


try:
    main(starts, boots, talks, counts, survives, user_mode, ends)
finally:
    web.kill()
    if world.runs():
        note(tail(world.log))
