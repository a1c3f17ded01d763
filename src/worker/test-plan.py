#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plans of repairs, by the worker's verb on disks with one fault each. What is planned is done here with the usual tools
(debugfs, mtools), to see that the disk is found right afterwards; in the product the verb mend does it.

test-plan.py WORKER"""
import base64, json, os, subprocess
from plan_disks import *

# --- Each repair ------------------------------------------------------------------------------------------------------


def test_fstab():
    mbr("# the root\n/dev/sda1\t/  ext4\tdefaults 0 1\n/dev/sdb1 /srv ext4 defaults 0 2\nproc /proc proc defaults 0 0\n")
    plan = repair("names by number", ["fstab.name"])
    text = base64.b64decode(plan["edits"][0]["data"]).decode()
    check(text == f"# the root\nUUID={UUID}\t/  ext4\tdefaults 0 1\n#/dev/sdb1 /srv ext4 defaults 0 2\nproc /proc proc "
          "defaults 0 0\n", "only the words that are wrong change")
    check(file(plan, "/etc/fstab")["diff"].startswith("--- a/etc/fstab\n+++ b/etc/fstab\n@@ -1,4 +1,4 @@\n # the root\n-/dev/sda1"),
          "the diff is as others write it")
    diffs_are_true("fstab", plan)
    mbr(f"UUID={OTHER} / ext4 defaults 0 1\n")
    diffs_are_true("fstab", repair("another disk's root", ["fstab.root"]))
    mbr(f"UUID={UUID} / ext4 defaults\nUUID={OTHER} /boot ext4 defaults 0 2\n")
    plan = repair("a /boot that is nowhere", ["fstab.root"], left=["fstab.root"])
    check(plan["edits"] == [] and plan["repairs"][0]["done"] == 0, "what is meant is not known, so nothing is done")
    mbr(f"UUID={UUID} / ext4 defaults\nLABEL=data /srv xfs\nLABEL=s none swap sw 0 0\nUUID=AAAA-BBBB /boot/efi vfat umask=0077")
    plan = repair("what stays behind", ["fstab.unknown"])
    check("+LABEL=data /srv xfs defaults,nofail" in file(plan, "/etc/fstab")["diff"] and
          "+#LABEL=s none swap sw 0 0" in file(plan, "/etc/fstab")["diff"] and
          "\\ No newline" in file(plan, "/etc/fstab")["diff"], "nofail, and out")
    diffs_are_true("fstab", plan)
    mbr(f"/dev/sda1 / ext4 defaults\nLABEL=data /srv xfs defaults\n")
    plan = repair("two repairs of one file", ["fstab.name", "fstab.unknown"])
    check(len(plan["edits"]) == 1 and len(plan["repairs"]) == 2, "they are one edit")
    mbr(f"/dev/sda1 / ext4 defaults\nLABEL=data /srv xfs defaults\n")
    repair("one of two", ["fstab.name", "fstab.unknown"], left=["fstab.unknown"], only="fstab.name")
    mbr("".join(f"# line {i}\n" for i in range(30)) + "/dev/sda1 / ext4 defaults\n" +
        "".join(f"# line {i}\n" for i in range(30, 60)) + "/dev/sdc1 /x ext4 defaults\n# the end\n")
    plan = repair("two places of one file", ["fstab.name"])
    check(file(plan, "/etc/fstab")["diff"].count("@@ -") == 2, "two hunks")
    diffs_are_true("fstab", plan)
    mbr(f"UUID={UUID} / ext4 defaults\nUUID={UUID}  /srv\txfs  noatime 0 2 # mine\n")
    plan = repair("another type", ["fstab.type"])
    check(f"+UUID={UUID}  /srv\text4  noatime 0 2 # mine\n" in file(plan, "/etc/fstab")["diff"], "only that word changes")
    mbr(f"UUID={UUID} / ext4 defaults\nUUID={UUID} /a auto ro\n/dev/disk/by-uuid/{UUID} /a ext4 ro\ntmpfs /tmp tmpfs\n"
        "tmpfs /tmp tmpfs nosuid\n")
    plan = repair("the same twice", ["fstab.twice"])
    check("-tmpfs /tmp tmpfs nosuid\n+#tmpfs" in file(plan, "/etc/fstab")["diff"], "the second line is out")
    check(f"+#/dev/disk/by-uuid/{UUID} /a ext4 ro" in file(plan, "/etc/fstab")["diff"], "whatever it is called")
    mbr(f"UUID={UUID} / ext4 defaults\ntmpfs /a tmpfs\nUUID={UUID} /a ext4 ro\nproc /b proc\nproc /b proc noexec\n")
    plan = repair("two things on one path", ["fstab.twice"], left=["fstab.twice"])
    check([r["done"] for r in plan["repairs"]] == [0, 1] and "+#proc /b proc noexec" in file(plan, "/etc/fstab")["diff"],
          "which one is meant is not known, so both stay")


def test_identity():
    own = ("echo 0123456789abcdef0123456789abcdef >r/etc/machine-id; mkdir -p r/etc/udev/rules.d r/var/lib/dbus;"
           "cp r/etc/machine-id r/var/lib/dbus/; echo x >r/etc/ssh/ssh_host_rsa_key; echo x >r/etc/ssh/ssh_host_rsa_key.pub;"
           "echo x >r/etc/ssh/moduli; mkdir -p r/usr/lib/systemd/system; cat >r/etc/udev/rules.d/70-persistent-net.rules <<'END'\n"
           'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="52:54:00:12:34:56", NAME="eth0"\nEND\n'
           "(echo 'KERNEL==\"x\", MODE=\"0600\"'; cat r/etc/udev/rules.d/70-persistent-net.rules) >r/etc/udev/rules.d/9-own.rules;"
           "printf '[Service]\\nExecStartPre=/usr/sbin/sshd -t\\n' >r/usr/lib/systemd/system/ssh.service;")
    mbr(f"UUID={UUID} / ext4 defaults\n", own, cloud=False)
    plan = repair("identity", ["identity.machine", "identity.net", "identity.ssh"])
    check("remove /etc/ssh/ssh_host_rsa_key.pub" in plan["steps"] and "remove /etc/ssh/moduli" not in plan["steps"] and
          "remove /var/lib/dbus/machine-id" in plan["steps"], "what is removed is told")
    check('\n KERNEL==' in file(plan, "/etc/udev/rules.d/9-own.rules")["diff"] and
          '\n+#SUBSYSTEM=="net"' in file(plan, "/etc/udev/rules.d/9-own.rules")["diff"],
          "a rule beside others becomes a remark")
    check("+ExecStartPre=/usr/bin/ssh-keygen -A" in file(plan, "/etc/systemd/system/ssh.service.d/host-keys.conf")["diff"],
          "Debian's sshd gets keys again")
    diffs_are_true("identity", plan)


def test_seal():
    own = ("mkdir -p r/var/lib/dhcp r/var/lib/systemd r/var/log/apt r/var/log/journal/1 r/var/lib/cloud/instances/i-1;"
           "echo l >r/var/lib/dhcp/dhclient.eth0.leases; echo s >r/var/lib/systemd/random-seed; echo l >r/var/log/syslog;"
           "echo l >r/var/log/apt/history.log; echo ls >r/root/.bash_history; echo ls >r/home/ann/.bash_history;"
           "echo mine >r/home/ann/mine;")
    mbr(f"UUID={UUID} / ext4 defaults\n", own)
    plan = repair("seal", [], only="", seal="leases random-seed logs history cloud-init machine-id")
    steps = set(plan["steps"])
    check(steps == {"remove /var/lib/dhcp/dhclient.eth0.leases", "remove /var/lib/systemd/random-seed", "empty /var/log/syslog",
                    "empty /var/log/apt/history.log", "empty /var/log/journal", "remove /root/.bash_history",
                    "remove /home/ann/.bash_history", "remove /var/lib/cloud/instances"}, f"sealed: {sorted(steps)}")
    check("error" in ask("plan", seal="everything") and "error" in ask("plan", only="disk.empty"),
          "what there is not is refused")


def test_gpt():
    def whole():
        found = subprocess.run(["/sbin/sgdisk", "-v", disk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
        return "No problems found" in found or print("# " + found)

    fstab = f"UUID={UUID} / ext4 defaults\n"
    boot = CODE + "printf core >/dev/null; "
    gpt(fstab)
    sh("truncate -s 200M $D;" + boot)
    repair("a disk that has grown", ["gpt.misplaced"])
    check(whole(), "sgdisk finds nothing wrong")
    gpt(fstab)
    sh("dd if=/dev/zero of=$D bs=512 seek=1 count=1 conv=notrunc 2>/dev/null;" + boot)
    repair("the table at the beginning is lost", ["gpt.primary"])
    check(whole(), "sgdisk finds nothing wrong")
    gpt(fstab)
    sh("dd if=/dev/zero of=$D bs=512 seek=262143 count=1 conv=notrunc 2>/dev/null;" + boot)
    repair("the backup is lost", ["gpt.backup"])
    check(whole(), "sgdisk finds nothing wrong")
    gpt(fstab)
    sh("truncate -s 110M $D;" + boot)
    repair("a disk that was cut short behind its partitions", ["gpt.backup"])
    check(whole(), "sgdisk finds nothing wrong")
    gpt(fstab)
    sh("truncate -s 105911296 $D;" + boot)
    plan = repair("a disk without room for the backup", ["gpt.backup"], left=["gpt.backup"])
    check(plan["repairs"][0]["done"] == 0 and not plan["edits"], "there is a reason")


def test_mounts():
    gpt(f"UUID={UUID} / ext4 defaults\nPARTLABEL=efi /boot/efi vfat umask=0077,shortname=winnt,nofail 0 1\n",
        "echo root:x:0:0::/root:/bin/sh >r/etc/passwd;")
    sh("/sbin/sgdisk -c 1:efi $D")
    plan = login(hash=HASH)
    check([(m["path"], m["filesystem"], m["options"]) for m in plan["mounts"]] == [("/", "ext4", ""), ("/boot/efi", "vfat", "")],
          f"options of fstab are not for a kernel: {plan['mounts']}")


def test_trim():
    gpt(f"UUID={UUID} / ext4 defaults\nPARTLABEL=efi /boot/efi vfat defaults 0 1\n")
    sh("/sbin/sgdisk -c 1:efi $D")
    plan = ask("plan", trim=1)["result"]["plan"]
    check([(e["op"], e["path"]) for e in plan["edits"]] == [("fstrim", "/")] and len(plan["mounts"]) == 2 and
          plan["steps"] == ["give back unused blocks of /"], f"file systems that can give back blocks do: {plan['edits']}")
    sh("dd if=/dev/zero of=$D bs=1M seek=41 count=1 conv=notrunc 2>/dev/null")
    plan = ask("plan", trim=1)["result"]["plan"]
    check(plan["edits"] == [] and [r["code"] for r in plan["repairs"] if r["done"] == 0] == ["trim"], "where there is none, it is told")


def test_boot():
    mbr(f"UUID={UUID} / ext4 defaults\n", active="")
    repair("no active partition", ["boot.active"])


def test_lvm():
    """The pieces of a logical volume are the plan's."""
    if subprocess.run(["sh", "-c", "L=$(losetup -f --show " + disk + ") && losetup -d $L"], stderr=subprocess.DEVNULL).returncode:
        print("# no loop devices here: logical volumes are left out")
        return
    group = f"plan{os.getpid()}"  # others may have groups on loop devices, too
    root(f"/dev/mapper/{group}-root / ext4 defaults\nLABEL=gone /srv ext4 defaults\n", size="64M")
    sh("rm -f $D; truncate -s 200M $D; printf 'label: dos\\n2048,204800,8e,*\\n' | /sbin/sfdisk -q $D;" + CODE +
       "A=$(losetup -f --show -o 1M --sizelimit 100M $D); trap 'losetup -d $A' EXIT; export LVM_SUPPRESS_FD_WARNINGS=1;"
       "lvm() { n=$1; shift; /sbin/$n --nolocking --config 'global{activation=0} devices{use_devicesfile=0 scan_lvs=0}' "
       "\"$@\"; }; lvm pvcreate $A; lvm vgcreate " + group + " $A; lvm lvcreate -an -Zn -Wn -y -n root -l 4 " + group + ";"
       "lvm lvcreate -an -Zn -Wn -y -n between -l 4 " + group + "; lvm lvextend -l 16 " + group + "/root; sync;"
       "dd if=$P of=$D bs=1M seek=2 count=16 conv=notrunc 2>/dev/null;"
       "dd if=$P of=$D bs=1M seek=34 skip=16 conv=notrunc 2>/dev/null")
    plan = ask("plan", only="all")["result"]["plan"]
    check([m["pieces"] for m in plan["mounts"]] ==
          [[{"bytes": 16 * MIB, "stripe_bytes": 0, "areas": [2 * MIB]}, {"bytes": 48 * MIB, "stripe_bytes": 0, "areas": [34 * MIB]}]],
          f"a logical volume in two pieces: {plan['mounts']}")


# --- Passwords and keys -----------------------------------------------------------------------------------------------

HASH = "$6$saltsalt$" + "n" * 86
OLD = "$6$oldold$" + "o" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ kp-1"
PASSWD = ("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nann:x:1000:1001:Ann,,,:/home/ann:/bin/sh\n"
          "anne:x:1002:1002::/home/anne:/bin/sh\n")
SHADOW = f"root:*:19000:0:99999:7:::\ndaemon:*:19000::::::\nann:!{OLD}:0:1:60:7:5::\nanne:{OLD}:19000:0:99999:7:::\n"


def users(passwd=PASSWD, shadow=SHADOW, more="", **options):
    for name, text in (("p", passwd), ("s", shadow or "")):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    mbr(f"UUID={UUID} / ext4 defaults\n",
        ("install -m 640 s r/etc/shadow;" if shadow is not None else "") + "install -m 644 p r/etc/passwd;" + more, **options)
    debugfs(MIB, "sif /home/ann uid 1000", "sif /home/ann gid 1001", "sif /etc/shadow gid 42")


def login(**wish):
    return ask("plan", login={"day": 20000, **wish})["result"]["plan"]


def written(plan, path):
    return next((base64.b64decode(e["data"]).decode() for e in plan["edits"] if e["op"] == "write" and e["path"] == path), None)


def told(plan):
    return "; ".join(f"{r['code']} {r['done']}: {r['text']}" for r in plan["repairs"])


def test_password():
    users()
    before = digest()
    plan = login(user="ann", hash=HASH)
    line = f"ann:{HASH}:20000:1:60:7:5::\n"
    check(written(plan, "/etc/shadow") == SHADOW.replace(f"ann:!{OLD}:0:1:60:7:5::\n", line) and len(plan["edits"]) == 1,
          "hash and day of one user change")
    check((plan["edits"][0]["mode"], plan["edits"][0]["uid"], plan["edits"][0]["gid"]) == (0o640, os.getuid(), 42),
          "mode and owners stay")
    check(plan["mounts"][0]["path"] == "/" and digest() == before, "the root is mounted for it, and nothing is written now")
    check(told(plan) == "password 1: user ann has a new password, and the account is unlocked", told(plan))
    shown = {key: plan[key] for key in ("repairs", "files", "steps")}
    check("$6$" not in json.dumps(shown) and plan["files"][0]["before"] is None and plan["files"][0]["secret"] == 1,
          "no hash is shown, neither old nor new")
    check("-ann:!(hidden):0:1:60:7:5::\n+ann:(new):20000:1:60:7:5::\n" in plan["files"][0]["diff"] and
          " root:*:19000:0:99999:7:::\n" in plan["files"][0]["diff"], "the rest of the diff is true")
    for edit in plan["edits"]:
        do(plan, edit)
    check(login(user="ann", hash=HASH)["edits"] == [], "what is done already is not done again")
    plan = login(hash=HASH)
    check(f"root:{HASH}:20000:0:99999:7:::\n" in written(plan, "/etc/shadow"), "without a name it is root's")
    users(PASSWD + "admin:x:1003:1003::/home/admin:/bin/sh\n")
    plan = login(hash=HASH)
    check(written(plan, "/etc/shadow") == SHADOW + f"admin:{HASH}:20000:0:99999:7:::\n",
          "or whom cloud-init makes; a user without a line gets one")


def test_password_trouble():
    users()
    plan = login(user="bob", hash=HASH)
    check(plan["edits"] == [] and told(plan) == "password 0: /etc/passwd has no user bob: choose one that it has", told(plan))
    check(login(user="daemon", hash=HASH)["repairs"][0]["text"].endswith("its shell /usr/sbin/nologin lets nobody in, which stays so"),
          "a shell that lets nobody in is told")
    users(shadow=SHADOW.replace("root:*:19000:0:99999:7:::", "root:*:19000:0:99999:7::19500:"))
    plan = login(user="root", hash=HASH)
    check("has expired" in told(plan) and f"root:{HASH}:20000:0:99999:7::19500:\n" in written(plan, "/etc/shadow"),
          "an account that has expired stays so, and it is told")
    users(shadow="root\nann:\n")
    check(written(login(user="ann", hash=HASH), "/etc/shadow") == f"root\nann:{HASH}:20000:0:99999:7:::\n", "half a line is made anew")
    users(shadow="ann:!")
    check(written(login(user="root", hash=HASH), "/etc/shadow") == f"ann:!\nroot:{HASH}:20000:0:99999:7:::\n", "an end without a newline")
    users(PASSWD.replace("root:x:", "root::"), shadow=None)
    plan = login(user="root", hash=HASH)
    check(written(plan, "/etc/passwd") == PASSWD.replace("root:x:", f"root:{HASH}:") and "$6$" not in plan["files"][0]["diff"],
          "a system without /etc/shadow has it in /etc/passwd")
    users(PASSWD.replace("root:x:", f"root:{OLD}:"))
    plan = login(user="root", hash=HASH)
    check(written(plan, "/etc/passwd") == PASSWD and f"root:{HASH}" in written(plan, "/etc/shadow") and
          "$6$" not in json.dumps(plan["files"]), "a hash in /etc/passwd does not count against that in /etc/shadow")
    users(more="mkdir -p r/etc/tcb/ann; echo 'ann:!:1::::::' >r/etc/tcb/ann/shadow;")
    check(written(login(user="ann", hash=HASH), "/etc/tcb/ann/shadow") == f"ann:{HASH}:20000::::::\n", "a file for each user")
    users(more="printf 'ID=freebsd\\nNAME=x\\nPRETTY_NAME=\"FreeBSD 14\"\\n' >r/etc/os-release;")
    check("password 0: FreeBSD 14 is no Linux" in told(login(user="root", hash=HASH)), "another system")
    users(more="dd if=/dev/zero of=r/etc/shadow bs=1k count=70 2>/dev/null;")
    check("password 0: /etc/shadow is no text" in told(login(user="root", hash=HASH)), "no text")
    for bad in (HASH + ":", "!" + HASH, "a\nb" + HASH, "short", HASH * 6):
        answer = ask("plan", login={"hash": bad})
        check(answer.get("error", {}).get("text") == "that is no hash of a password", f"what is no hash is refused: {answer}")
    check("error" in ask("plan", login={"user": "a:b", "hash": HASH}) and "error" in ask("plan", login={"keys": [KEY + "\nx"]}),
          "so are names and keys of several lines")


def test_keys():
    home = "mkdir -p r/home/ann/.ssh; printf '# mine\\nssh-rsa AAAAB3 ann@home' >r/home/ann/.ssh/authorized_keys;"
    users()
    plan = login(user="ann", keys=[KEY])
    made, wrote = plan["edits"]
    check((made["op"], made["path"], made["mode"], made["uid"], made["gid"]) == ("directory", "/home/ann/.ssh", 0o700, 1000, 1001),
          "the folder is the user's alone")
    check((wrote["path"], wrote["mode"], wrote["uid"], wrote["gid"]) == ("/home/ann/.ssh/authorized_keys", 0o600, 1000, 1001) and
          "label" not in wrote and written(plan, wrote["path"]) == KEY + "\n", "so is the file")
    check(told(plan) == "keys 1: 1 key of user ann added to /home/ann/.ssh/authorized_keys", told(plan))
    for edit in plan["edits"]:
        do(plan, edit)
    plan = login(user="ann", keys=[KEY, "ssh-rsa AAAAB4"])
    check(written(plan, "/home/ann/.ssh/authorized_keys") == KEY + "\nssh-rsa AAAAB4\n" and len(plan["edits"]) == 1,
          "one that is there already is not added again")
    check(written(login(user="ann", keys=[KEY], detach=1), "/home/ann/.ssh/authorized_keys") == "", "and it can be taken out")
    users(more=home)
    debugfs(MIB, "sif /home/ann/.ssh/authorized_keys uid 1000", "sif /home/ann/.ssh uid 1000")
    check(written(login(user="ann", keys=[KEY]), "/home/ann/.ssh/authorized_keys") ==
          "# mine\nssh-rsa AAAAB3 ann@home\n" + KEY + "\n", "what is there stays")
    plan = login(user="ann", keys=["ssh-rsa AAAAB3 other", "ssh-rsa AAAA"], detach=1)
    check(written(plan, "/home/ann/.ssh/authorized_keys") == "# mine\n", "a key is known by itself, not by its comment")
    check(login(user="ann", keys=["ssh-rsa AAAA x"], detach=1)["edits"] == [], "half a key is another one")
    debugfs(MIB, "sif /home/ann/.ssh/authorized_keys uid 1002")
    check("keys 0: /home/ann/.ssh/authorized_keys is no text file of user ann" in told(login(user="ann", keys=[KEY])), "another's file")
    users(more="mkdir r/home/ann/.ssh; ln -s /etc/shadow r/home/ann/.ssh/authorized_keys;")
    debugfs(MIB, "sif /etc/shadow uid 0", "sif /home/ann/.ssh uid 1000")
    check("keys 0:" in told(login(user="ann", keys=[KEY])), "a link to a file of the system")
    users(more="ln -s /etc r/home/ann/.ssh;")
    debugfs(MIB, "sif /etc uid 0")
    check("keys 0:" in told(login(user="ann", keys=[KEY])), "a link to a folder of the system")
    users()
    check("keys 0: user daemon has no home folder: /usr/sbin" in told(login(user="daemon", keys=[KEY])), "no home")
    sh("echo 'LABEL=x /home xfs defaults' >>r/etc/fstab; rm -f $P; truncate -s 60M $P; /sbin/mkfs.ext4 -qF -d r $P;"
       "dd if=$P of=$D bs=1M seek=1 conv=notrunc 2>/dev/null")
    check("is on /home, which is not on this disk" in told(login(user="ann", keys=[KEY])), "homes on another disk")
    users(more="mkdir -p r/etc/ssh/sshd_config.d; printf 'Port 22\\nAuthorizedKeysFile .x\\n' >r/etc/ssh/sshd_config;"
               "printf 'Match User a\\nAuthorizedKeysFile .a\\n' >r/etc/ssh/sshd_config.d/1.conf;"
               "echo 'authorizedkeysfile  /etc/ssh/keys/%u%% .y' >r/etc/ssh/sshd_config.d/2.conf;")
    plan = login(user="ann", keys=[KEY])
    check([(e["op"], e["path"], e["uid"], e["mode"]) for e in plan["edits"]] ==
          [("directory", "/etc/ssh/keys", 0, 0o755), ("write", "/etc/ssh/keys/ann%", 1000, 0o600)], "where sshd looks for them")


def test_selinux():
    rules = ("mkdir -p r/etc/selinux/targeted/contexts/files; printf '/home/[^/]+/\\134.ssh(/.*)?\\tu:object_r:ssh_home_t:s0\\n"
             "/root/\\134.ssh(/.*)?\\tsystem_u:object_r:ssh_home_t:s0\\n' >r/etc/selinux/targeted/contexts/files/file_contexts.homedirs;")
    config = "mkdir -p r/etc/selinux; printf '# SELINUX= is a word\\nSELINUX=%s\\nSELINUXTYPE=targeted\\n' >r/etc/selinux/config;"
    users(more=config % "enforcing" + rules)
    plan = login(user="ann", keys=[KEY], hash=HASH)
    check([e.get("label") for e in plan["edits"]] == ["u:object_r:ssh_home_t:s0", None, "u:object_r:ssh_home_t:s0"],
          "what is new has the policy's label")
    check(login(user="root", keys=[KEY])["edits"][0]["label"] == "system_u:object_r:ssh_home_t:s0", "root's")
    users(more=config % "enforcing")
    plan = login(user="ann", keys=[KEY])
    check(written(plan, "/.autorelabel") == "" and "labels the files" in told(plan), "or the system labels itself")
    check(written(login(user="ann", hash=HASH), "/.autorelabel") is None, "a password needs no new label")
    for mode in ("permissive", "disabled"):
        users(more=config % mode)
        check(len(login(user="ann", keys=[KEY])["edits"]) == 2, f"{mode}: no labels")


test_fstab()
test_password()
test_password_trouble()
test_keys()
test_selinux()
test_identity()
test_seal()
test_gpt()
test_trim()
test_mounts()
test_boot()
test_lvm()
finish()
