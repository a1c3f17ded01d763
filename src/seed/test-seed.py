#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads seeds as a guest does: the ISO image with a small reader, user-data with cloud-init's own code and schema, and
the boot hook in a root of its own.

Usage: test-seed.py TEST-SEED. cloud-init is not installed for this, as it would act on the host at its next boot: where
Python does not find it, its package is fetched and unpacked into a temporary folder. Without it that part is skipped.
"""
import atexit
import base64
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import yaml

FOLDER = tempfile.mkdtemp(prefix="imprint-seed-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
count = failures = 0


def check(claim, text, detail=""):
    global count, failures
    count += 1
    print("%s %d - %s" % ("ok" if claim else "not ok", count, text))
    if not claim:
        failures += 1
        for line in str(detail).splitlines():
            print("#   " + line)
    return claim


def given(case):
    with open(os.path.join(FOLDER, case + ".given"), "rb") as file:
        return file.read()


def read_iso(path):
    """Label and files of a flat ISO 9660 image, names from Rock Ridge's NM."""
    with open(path, "rb") as file:
        image = file.read()
    head = image[16 * 2048:17 * 2048]
    assert head[:6] == b"\x01CD001"
    root, size = struct.unpack_from("<I", head, 158)[0], struct.unpack_from("<I", head, 166)[0]
    at, files = root * 2048, {}
    while at < root * 2048 + size:
        length = image[at]
        if length == 0:  # records do not cross sectors
            at = (at // 2048 + 1) * 2048
            continue
        record = image[at:at + length]
        sector, bytes_, name_len = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0], record[32]
        rest = record[33 + name_len + (1 - name_len % 2):]
        while len(rest) > 4 and rest[2] > 0:
            if rest[:2] == b"NM" and rest[4] == 0:
                files[rest[5:rest[2]].decode()] = image[sector * 2048:sector * 2048 + bytes_]
            rest = rest[rest[2]:]
        at += length
    return head[40:72].decode().strip(), files


def find_cloud_init():
    try:
        import cloudinit
        return True
    except ImportError:
        pass
    into = os.path.join(FOLDER, "deb")
    os.makedirs(into)
    try:
        subprocess.run(["apt-get", "-q", "download", "cloud-init"], cwd=into, check=True, timeout=60, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["dpkg", "-x", glob.glob(into + "/cloud-init_*.deb")[0], into], check=True)
        sys.path.append(into + "/usr/lib/python3/dist-packages")
        import cloudinit
        return True
    except (OSError, subprocess.SubprocessError, IndexError, ImportError) as error:
        print("# cloud-init cannot be had: %s" % error)
        return False


# --- What cloud-init makes of it ----------------------------------------------------------------------------------------

def process(case):
    """The parts in the order in which cloud-init acts on them, and the cloud-config they add up to."""
    from cloudinit import handlers, helpers, user_data, util
    from cloudinit.handlers.cloud_config import CloudConfigPartHandler
    from cloudinit.settings import PER_INSTANCE
    home = os.path.join(FOLDER, "run-" + case)
    paths = helpers.Paths({"cloud_dir": home, "run_dir": home, "templates_dir": home})
    message = user_data.UserDataProcessor(paths).process(read_iso(os.path.join(FOLDER, case + ".iso"))[1]["user-data"])
    handler, parts = CloudConfigPartHandler(paths), []
    handler.handle_part(None, handlers.CONTENT_START, None, None, PER_INSTANCE, None)
    for part in message.walk():
        if user_data.is_skippable(part):
            continue
        payload = util.fully_decoded_payload(part)
        parts.append((part.get_content_type(), payload))
        if part.get_content_type() == "text/cloud-config":
            handler.handle_part(None, part.get_content_type(), "part", payload, PER_INSTANCE, dict(part))
    return parts, handler.cloud_buf


def as_bytes(payload):
    return payload if isinstance(payload, bytes) else payload.encode("utf-8")


def test_config():
    from cloudinit.config.schema import SchemaValidationError, get_schema, validate_cloudconfig_schema
    for case in ["plain", "password", "root", "no-key", "config", "mime", "bytes"]:
        parts, config = process(case)
        try:
            validate_cloudconfig_schema(config, get_schema(), strict=True)
            fault = ""
        except SchemaValidationError as error:
            fault = error.schema_errors  # what is only deprecated is for the sake of older versions
        check(not fault, "%s: cloud-init's schema has nothing against it" % case, fault)
        check([kind for kind, _ in parts[:2]] == ["text/cloud-boothook", "text/cloud-config"],
              "%s: the hook goes first, then our config" % case, parts)
    _, config = process("plain")
    user = config["users"][0]
    check(config["hostname"] == "web-1" and user["name"] == "debian" and len(user["ssh_authorized_keys"]) == 2 and
          user["ssh_authorized_keys"][1].endswith("it's \"x\" $(y) kp-b") and config["ssh_pwauth"] is False,
          "a user with two keys and no password", config)
    _, config = process("password")
    check(config["ssh_pwauth"] is True and config["chpasswd"]["list"] == ["debian:" + config["users"][0]["passwd"]],
          "a password", config)
    _, config = process("root")
    check(config["disable_root"] is False and "sudo" not in config["users"][0], "root", config)


def test_given():
    parts, _ = process("script")
    check(parts[2] == ("text/x-shellscript", given("script").decode()), "a script comes through as it was given", parts[2:])
    parts, _ = process("script-latin1")
    carried = parts[2][1].split("<<'X'\n")[1].split("X\n")[0]
    check(parts[2][0] == "text/x-shellscript" and base64.b64decode(carried) == given("script-latin1"),
          "one that is not UTF-8 is carried in another", parts[2:])
    parts, config = process("config")
    check(config["bootcmd"] == [["echo", "hi"]] and config["hostname"] == "web-1" and
          [user["name"] for user in config["users"]] == ["debian", "eve"],
          "config is joined with ours: lists append, ours wins", config)
    check(len(process("config-latin1")[0]) == 2, "config that is not UTF-8 is no config")
    parts, _ = process("jinja")
    check(parts[2][0] == "text/jinja2", "a template is known as one", parts[2:])
    parts, config = process("mime")
    check([kind for kind, _ in parts[2:]] == ["text/x-shellscript", "text/cloud-config"] and config["timezone"] == "UTC" and
          parts[2][1].startswith("#!/bin/sh\necho one"), "ready-made MIME comes through", parts[2:])
    parts, _ = process("gzip")
    check(parts[2] == ("text/x-shellscript", "#!/bin/sh\necho zipped\n"), "gzip is unpacked", parts[2:])
    for case in ["bytes", "text"]:
        check(len(process(case)[0]) == 2, "%s: nothing to act on" % case)


def test_source():
    from cloudinit import helpers
    from cloudinit.sources import DataSourceNoCloud
    seed = os.path.join(FOLDER, "cloud/seed/nocloud")
    os.makedirs(seed)
    for name, content in read_iso(os.path.join(FOLDER, "plain.iso"))[1].items():
        with open(os.path.join(seed, name), "wb") as file:
            file.write(content)
    paths = helpers.Paths({"cloud_dir": FOLDER + "/cloud", "run_dir": FOLDER + "/cloud", "templates_dir": FOLDER})
    source = DataSourceNoCloud.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
    check(source.get_data() and source.get_instance_id() == "i-abcdefgh", "NoCloud takes it", source)
    check(source.metadata.get("local-hostname") == "web-1", "with the host's name", source.metadata)
    check(source.network_config["ethernets"]["all"] == {"match": {"name": "e*"}, "dhcp4": True}, "and DHCP on all cards")


# --- The hook, in a root of its own -------------------------------------------------------------------------------------

CHPASSWD = """#!/bin/sh
[ "$*" = -e ] && IFS=: read -r user hash &&
    awk -F: -v OFS=: -v user="$user" -v hash="$hash" '$1 == user { $2 = hash } { print }' /etc/shadow >/etc/shadow.new &&
    mv /etc/shadow.new /etc/shadow
"""


class Root:
    def __init__(self):
        self.at = tempfile.mkdtemp(dir=FOLDER)
        os.chmod(self.at, 0o755)
        for folder in ["bin", "etc/ssh/sshd_config.d", "home/debian", "root", "var/lib", "dev", "tmp", "srv"]:
            os.makedirs(os.path.join(self.at, folder))
        shutil.copy(shutil.which("busybox"), os.path.join(self.at, "bin/busybox"))
        for name in ["sh", "awk", "base64", "cat", "chmod", "chown", "grep", "mkdir", "mv", "readlink", "rm", "tr"]:
            os.symlink("busybox", os.path.join(self.at, "bin", name))
        self.write("bin/chpasswd", CHPASSWD)  # Debian's busybox has none
        os.chmod(os.path.join(self.at, "bin/chpasswd"), 0o755)
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndebian:x:1000:1000::/home/debian:/bin/sh\n")
        self.write("etc/shadow", "root:*:1:::::\ndebian:!:1:0:99999:7:::\n")
        self.write("etc/group", "root:x:0:\ndebian:x:1000:\n")

    def write(self, path, text):
        with open(os.path.join(self.at, path), "w") as file:
            file.write(text)

    def read(self, path):
        try:
            with open(os.path.join(self.at, path), "rb") as file:
                return file.read().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None

    def boot(self, case, edit=lambda hook: hook):
        message = read_iso(os.path.join(FOLDER, case + ".iso"))[1]["user-data"]
        import email
        hook = email.message_from_bytes(message).get_payload()[0].get_payload(decode=True).decode()
        self.write("hook", edit(hook))
        chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin")
        return subprocess.run([chroot, self.at, "/bin/sh", "/hook"], env={"PATH": "/bin"}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)

    def keys(self, home="home/debian"):
        return (self.read(home + "/.ssh/authorized_keys") or "").splitlines()

    def shadow(self, user):
        return [line.split(":")[1] for line in self.read("etc/shadow").splitlines() if line.startswith(user + ":")][0]


def test_hook():
    root = Root()
    ran = root.boot("plain")
    check(ran.returncode == 0 and ran.stdout == "", "the hook says nothing", ran.stdout)
    first = root.keys()
    check(len(first) == 2 and first[1].endswith("it's \"x\" $(y) kp-b"), "both keys are in place", first)
    mode = os.stat(os.path.join(root.at, "home/debian/.ssh/authorized_keys"))
    check(mode.st_mode & 0o777 == 0o600 and mode.st_uid == 1000, "for their user alone", oct(mode.st_mode))
    check(json.loads(root.read("etc/qingcloud/userdata/metadata.json"))["instance_name"] == "\u2028 \U0001f427 '\"" and
          root.read("etc/qingcloud/userdata/metadata.env") == "INSTANCE_ID=i-abcdefgh\n" and
          root.read("etc/qingcloud/instance-id") == "i-abcdefgh", "metadata lies where scripts look for it")
    check(root.shadow("debian") == "!" and root.read("etc/ssh/sshd_config.d/40-imprint.conf") is None, "there is no password")

    with open(os.path.join(root.at, "home/debian/.ssh/authorized_keys"), "a") as file:
        file.write("ssh-ed25519 OWN me@home\n")
    ran = root.boot("password")
    check(ran.returncode == 0 and ran.stdout == "", "nor at the next boot", ran.stdout)
    check(root.keys() == ["ssh-ed25519 OWN me@home", first[0]], "a detached key is gone, the user's own stays", root.keys())
    check(root.shadow("debian").startswith("$6$imprint$") and
          "PasswordAuthentication yes" in root.read("etc/ssh/sshd_config.d/40-imprint.conf"), "a password that came is set")
    check(root.read("srv/my data/metadata.env") is not None, "metadata lies where it is wanted")
    root.write("etc/shadow", root.read("etc/shadow").replace(root.shadow("debian"), "$6$own"))
    root.boot("password")
    check(root.shadow("debian") == "$6$own", "one that was changed inside stays")
    root.boot("no-key")
    check(root.keys() == ["ssh-ed25519 OWN me@home"], "no key is left but the user's own", root.keys())
    check(root.read("etc/ssh/sshd_config.d/40-imprint.conf") is None, "without a password SSH asks for none")

    root.boot("root")
    check(root.keys("root") == first[:1] and root.shadow("root").startswith("$6$imprint$"), "root logs in too")
    check("PermitRootLogin yes" in root.read("etc/ssh/sshd_config.d/40-imprint.conf"), "with the password")
    check(root.read("etc/qingcloud/userdata/metadata.env") is not None and root.read("relative") is None,
          "a path that is none counts for nothing")
    for case in ["bytes", "script-latin1", "text"]:
        root.boot(case)
        with open(os.path.join(root.at, "etc/qingcloud/userdata/userdata.string"), "rb") as file:
            check(file.read() == given(case), "%s: userdata.string is what was given" % case)

    os.rename(os.path.join(root.at, "home/debian/.ssh"), os.path.join(root.at, "tmp/elsewhere"))
    os.symlink("/tmp/elsewhere", os.path.join(root.at, "home/debian/.ssh"))
    before = root.read("tmp/elsewhere/authorized_keys")
    root.boot("plain", lambda hook: hook.replace("kp-aaaaaaaa", "kp-zzzzzzzz"))
    check(root.read("tmp/elsewhere/authorized_keys") == before, "a link is not followed")
    root.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    ran = root.boot("password")
    check(ran.returncode == 0 and ran.stdout == "", "a user who is not there yet is left to cloud-init", ran.stdout)


# LVM as far as the hook sees it: a file tells how large the disk is, others what is taken of it, in extents.
LVM = {
    "lvs": """[ "$4" = /dev/mapper/system-root ] && echo "  system" """,
    "pvs": """[ "$5" = vg_name=system ] && echo "  /dev/vda2" """,
    "vgs": """[ "$4" = system ] && echo "  $(($(cat /lvm/pv) - $(cat /lvm/lv)))" """,
    "growpart": """[ "$*" = "/dev/vda 2" ] && cat /lvm/disk >/lvm/part""",
    "pvresize": """[ "$*" = /dev/vda2 ] && cat /lvm/part >/lvm/pv""",
    "lvextend": """[ "$1 $3" = "-l /dev/mapper/system-root" ] && echo $(($(cat /lvm/lv) ${2%%[0-9]*} ${2#+})) >/lvm/lv.new &&
                mv /lvm/lv.new /lvm/lv""",
}


def test_lvm():
    root = Root()

    def grown(mounted):
        """Extents of the root's logical volume after a boot; it had 80 of 100, the disk has 150."""
        for name, extents in {"disk": 150, "part": 100, "pv": 100, "lv": 80}.items():
            root.write("lvm/" + name, "%d\n" % extents)
        root.write("proc/mounts", "%s / ext4 rw 0 0\n/dev/vda2 /boot ext4 rw 0 0\n" % mounted)
        ran = root.boot("plain")
        check(ran.returncode == 0 and ran.stdout == "", "the hook says nothing", ran.stdout)
        return int(root.read("lvm/lv"))

    for folder in ["lvm", "proc", "sys/class/block", "sys/devices/vda/vda2"]:
        os.makedirs(os.path.join(root.at, folder))
    os.symlink("/sys/devices/vda/vda2", os.path.join(root.at, "sys/class/block/vda2"))
    root.write("sys/devices/vda/vda2/partition", "2\n")
    check(grown("/dev/mapper/system-root") == 80, "without LVM's tools the hook does without")
    for name, script in LVM.items():
        root.write("bin/" + name, "#!/bin/sh\n%s\n" % script)
        os.chmod(os.path.join(root.at, "bin", name), 0o755)
    check(grown("/dev/vda1") == 80, "a root on a partition is cloud-init's to grow")
    grew = grown("/dev/mapper/system-root")
    check(grew == 130, "a root on LVM grows by what the disk gained, what was free stays so", grew)
    root.boot("plain")
    check(root.read("lvm/lv").strip() == "130", "and once")


def main():
    subprocess.run([sys.argv[1], FOLDER], check=True)
    for path in sorted(glob.glob(FOLDER + "/*.iso")):
        label, files = read_iso(path)
        check(label.lower() == "cidata" and sorted(files) == ["meta-data", "network-config", "user-data"],
              "%s: a disk cidata with three files" % os.path.basename(path), (label, list(files)))
        check(yaml.safe_load(files["meta-data"]) == json.loads(files["meta-data"]) ==
              {"instance-id": "i-abcdefgh", "local-hostname": "web-1"}, "its meta-data is YAML and JSON", files["meta-data"])
    if find_cloud_init():
        test_config()
        test_given()
        test_source()
    if os.geteuid() == 0 and shutil.which("busybox"):
        test_hook()
        test_lvm()
    print("1..%d" % count)
    sys.exit(1 if failures else 0)


main()
