#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each command: what it sends, what it prints, how it ends."""
import calendar
import csv
import hashlib
import io
import json
import os
import re
import stat
import time

from peer import check, check_run, config, end, home, imprint, stub

I, S, IMG = "i-4kq0z8pw", "i-stopped1", "img-0a1b2c3d"


def write(name, data):
    path = os.path.join(home, name)
    with open(path, "wb") as out:
        out.write(data)
    return path


def lists():
    check_run("image list", out=r"\AID +NAME +STATE.*debian12x64 +Debian 12 bookworm +available +debian +20 GiB +system", err="")
    check_run("image list --search debian -q", out=r"\Adebian12x64\n\Z", calls=("DescribeImages", {"search_word": "debian"}))
    check_run("image list --provider self --status available,pending -q", out=r"\Aimg-0a1b2c3d\n\Z",
              calls=("DescribeImages", {"provider": "self", "status.1": "available", "status.2": "pending"}))
    check_run("image list img-0a1b2c3d -q", out=r"\Aimg-0a1b2c3d\n\Z", calls=("DescribeImages", {"images.1": IMG}))
    check_run("image list --sort size --reverse --limit 1 -q", out=r"\Aimg-0a1b2c3d\n\Z",
              calls=("DescribeImages", {"sort_key": "size", "reverse": "1"}))
    check_run("image list --limit 1", err=r"1 of 2 shown")
    check_run("image list --search nothing", out="", err="no images")
    check_run("instance list", out=r"i-4kq0z8pw +web-1 +running +debian12x64 +2 +2.0 GiB +20 GiB +10.180.11.2")
    check_run("instance list --image debian12x64 --status running", calls=("DescribeInstances", {
        "image_id.1": "debian12x64", "status.1": "running"}))
    check_run("keypair list", out=r"kp-bn2n7700 +k1 +ssh-ed25519 +i-4kq0z8pw")
    check_run("keypair list --instance " + I, calls=("DescribeKeyPairs", {"instance_id": I, "verbose": "1"}))
    check_run("job list", out="", err="no jobs")
    check_run("job list --action RunInstances --status working", calls=("DescribeJobs", {
        "job_action.1": "RunInstances", "status.1": "working", "verbose": "1"}))
    check_run("zone list", out=r"\AZONE +STATUS\ntest1a +active\n\Z")
    check_run("network list", out=r"vxnet-0 +bridge +10.180.0.0/20 +10.180.0.1 +4092 +bridge imbr0")
    check_run("type list", out=r"c2m4 +2 +4.0 GiB")
    check_run("type list c1m1 -q", out=r"\Ac1m1\n\Z")
    check_run("key list", out=r"TESTACCESSKEY0000001 +default +active")
    check_run("user list", err="no users")
    check_run("pool usage", out=r"i-4kq0z8pw +instance +20.0 GiB +193 KiB +900 MiB", err=r"pool: 40.0 GiB used, 60.0 GiB of 100 GiB free")
    check_run("pool check", out=r"\Aclean: 7 layers compared, 1 left out")
    check_run("pool check", status=1, out=r"orphans: layer l-1 .*not clean", trouble=["+dirty-pool"],
              text="pool check ends with 1 when something is wrong")


def forms():
    result = check_run("image list -o json")
    rows = json.loads(result.out)
    check(isinstance(rows, list) and rows[0]["image_id"] == "debian12x64", "json is the reply's set")
    result = check_run("image show debian12x64 -o json")
    check(json.loads(result.out)["image_name"] == "Debian 12 bookworm", "json of one object is that object")
    result = check_run("image list -o csv")
    rows = list(csv.DictReader(io.StringIO(result.out, newline="")))
    check(rows[1]["image_name"].startswith('web golden, after "patching"') and rows[0]["size"] == "20",
          "csv survives commas and quotes, values are raw", result)
    stub.tell("fresh")
    for _ in range(3):
        imprint("instance", "run", "-i", "debian12x64", "--count", "60", "-q")
    result = imprint("instance", "list", "-q")
    check(len(result.out.split()) == 182 and len([c for c in stub.calls() if c["action"] == "DescribeInstances"]) == 2,
          "a list of 182 comes in pages", result)
    result = imprint("image", "list", COLUMNS="60")
    check(max(len(line) for line in result.out.splitlines()) <= 60 and "…" in result.out, "a table keeps to 60 columns", result)
    check("\033" not in result.out, "no colours where there is no terminal")


def monitors():
    card = "if-52:54:9e:01:02:03"
    result = check_run("instance monitor %s --since 90m" % I,
        out=r"\AMETER +LAST +MEAN +MAX +CHART\ncpu +100.0 % +46.2 % +100.0 % +·▁▃·▅··█·+\nmemory +- +- +- +·+\n",
        err=r"19 steps of 5m|18 steps of 5m")
    sent = stub.call("GetMonitor")
    check([sent.get("meters.%d" % n) for n in range(1, 6)] == ["cpu", "memory", "disk-os", card, None] and sent["step"] == "5m",
          "all that the instance has is asked for", sent)
    check(re.search(r"disk-os read +512 B/s +1.2 KiB/s +2.0 KiB/s +▅█·▃·+\n", result.out) and
          re.search(r"disk-os written +0/s +341 KiB/s +1.0 MiB/s +▁█·▁·+\n", result.out) and
          re.search(r"%s in .*\n%s out " % (card, card), result.out), "two numbers have a line each", result)
    rows = json.loads(check_run("instance monitor %s --meter cpu,memory -o json" % I).out)
    start = calendar.timegm(time.strptime(stub.calls()[-1]["start_time"], "%Y-%m-%dT%H:%M:%SZ"))
    check([(row["meter"], row["value"], row["unit"]) for row in rows] ==
          [("cpu", value, "permille") for value in (100, 250, 500, 1000)], "value by value in json", rows)
    check([calendar.timegm(time.strptime(row["time"], "%Y-%m-%dT%H:%M:%SZ")) - start for row in rows] == [300, 600, 1200, 2100],
          "each at its time", rows)
    check(start % 300 == 0, "which begins with a step")
    rows = list(csv.DictReader(io.StringIO(imprint("volume", "monitor", "vol-f9ufyi00", "-o", "csv").out, newline="")))
    check([row["meter"] for row in rows[::3]] == ["disk-vol-f9ufyi00 read", "disk-vol-f9ufyi00 written",
                                                  "disk-iops-vol-f9ufyi00 read", "disk-iops-vol-f9ufyi00 written"] and
          rows[4] == {"meter": "disk-vol-f9ufyi00 written", "time": rows[4]["time"], "value": "1048576", "unit": "bytes/s"},
          "a volume's, as csv", rows)
    for since, step in (("6h", "5m"), ("1d", "15m"), ("2d", "15m"), ("2w", "2h"), ("16d", "2h"), ("26w", "1d"), ("300", "5m")):
        check_run("instance monitor %s -m cpu --since %s" % (I, since))
        check(stub.call("GetMonitor")["step"] == step, "in steps of " + step, stub.call("GetMonitor"))
    check_run("instance monitor %s -m cpu --since 1d --step 1h" % I)
    check(stub.call("GetMonitor")["step"] == "1h", "or in those that are asked for")
    result = imprint("instance", "monitor", I, COLUMNS="70")
    check(max(len(line) for line in result.out.splitlines()) <= 70, "a table keeps to 70 columns", result)
    check_run("instance monitor %s" % I, trouble=["+quiet-machine"], err=r"no values in this time", out=r"cpu +- +- +- +·+")
    for since in ("yesterday", "-1h", "0m", "6hh", "1y", "h", "11000000w", "99999999999999999999d"):
        result = imprint("instance", "monitor", I, "--since", since)
        check(result.status == 2 and "no duration" in result.err, "[%s] is no duration" % since, result)
    check_run("instance monitor %s --step 7m" % I, status=2, err="none of: 5m 15m")
    check_run("instance monitor %s -m colour" % I, status=1, err=r"meter \[colour\] is not known")
    check_run("instance monitor i-missing", status=3, err="does not exist")
    check_run("volume monitor vol-missing", status=3, err="does not exist")


def images():
    check_run("image show debian12x64", out=r"^ID +debian12x64$.*^NAME +Debian 12 bookworm$.*^visibility +public$")
    check_run("image show img-0a1b2c3d img-missing", status=3, out="web golden", err=r"img-missing does not exist.*imprint image list")
    check_run("image capture %s --name web-v1" % S, out=r"\Aimg-\w{8}\nj-\w{11}\n\Z", err=r"next: imprint job wait j-",
              calls=("CaptureInstance", {"instance": S, "image_name": "web-v1"}))
    check_run("image capture %s --wait" % S, out=r"img-\w{8} .* available")
    check_run("image capture " + I, status=5, err=r"is not stopped, can not be captured\n  next: imprint instance stop i-4kq0z8pw --wait")
    check_run("image clone debian12x64 --count 2 --name mine", out=r"img-\w{8} img-\w{8}\nj-",
              calls=("CloneImages", {"image": "debian12x64", "count": "2", "image_name": "mine"}))
    check_run("image delete img-0a1b2c3d --now", calls=("DeleteImages", {"images.1": IMG, "direct_cease": "1"}))
    check_run("image delete debian12x64", status=4, err="access denied: image")
    check_run(["image", "modify", IMG, "--name", "new name", "--description", ""], out=r"img-0a1b2c3d is changed",
              calls=("ModifyImageAttributes", {"image": IMG, "image_name": "new name", "description": ""}))
    check_run("image modify img-0a1b2c3d", status=2, err="what shall be changed")


def imports():
    data = os.urandom(3 << 20)
    path, digest = write("disk.qcow2", data), hashlib.sha256(data).hexdigest()
    check_run(["image", "import", path, "--wait", "--os-family", "debian", "--digest", digest],
              out=r"img-\w{8} +disk.qcow2 +available", err=r"upload img-\w+: 100 %.*ImportImage img-\w+: ",
              calls=("ImportImage", {"image_name": "disk.qcow2", "os_family": "debian", "digest": digest}))
    check(stub.call("upload")["sha256"] == digest, "the bytes arrive as they are")
    check_run(["image", "import", path], trouble=["+break-upload"], out=r"img-\w{8}\nj-", text="an upload that breaks goes on by itself")
    check(stub.call("upload")["sha256"] == digest, "and nothing is lost or sent twice")
    check_run(["image", "import", path, "--resume", "img-missing1"], status=3)
    check_run(["image", "import", path, "--system", "--id", "debian13x64", "--family", "debian13", "--name", "Debian 13"],
              out=r"\Adebian13x64\n", calls=("ImportImage", {"image_id": "debian13x64", "family": "debian13",
                                                             "image_name": "Debian 13", "visibility": "public"}))
    check_run(["image", "import", path, "--id", "debian12x64"], status=5, err="exists already")
    check_run(["image", "import", path, "--server-path"], calls=("ImportImage", {"source": path, "image_name": "disk.qcow2"}))
    check_run(["image", "import", path, "--server-path"], trouble=["+no-paths"], status=4, err="without --server-path the file is uploaded")
    check_run("image import https://example.org/d.qcow2?x=1 --format qcow2 --force --wait", out="available",
              calls=("ImportImage", {"source": "https://example.org/d.qcow2?x=1", "image_name": "d.qcow2", "format": "qcow2",
                                     "force": "1"}))
    check_run("image import ftp://example.org/x", status=2, err="only http:// and https://")
    check_run("image import no-such-file", status=3, err="no-such-file does not exist")
    check_run(["image", "import", home], status=1, err="no regular file")


def instances():
    run = {"image_id": "debian12", "cpu": "2", "memory": "2048", "os_disk_size": "40", "count": "2", "instance_name": "web",
           "vxnets.1": "vxnet-0", "login_mode": "keypair", "login_keypair": "kp-bn2n7700"}
    check_run("instance run --image debian12 --cpu 2 --memory 2G --disk 40 --count 2 --name web", out=r"\Ai-\w{8} i-\w{8}\nj-",
              calls=("RunInstances", run))
    check_run("instance run --image debian12 --wait", out=r"i-\w{8} .*running.*10.180.11.9", err=r"next: imprint instance ssh i-")
    check_run("instance run -i debian12 --type c2m4 --no-network --no-login --no-start --hostname h", calls=(
        "RunInstances", {"image_id": "debian12", "instance_type": "c2m4", "hostname": "h", "start": "0"}))
    check_run("instance run -i debian12 --type c2m4 --cpu 2", status=2)
    check_run("instance run -i debian12 --network vxnet-0|10.180.11.77 --password-stdin", stdin="S3cret pass\n", calls=(
        "RunInstances", {"image_id": "debian12", "cpu": "1", "memory": "1024", "vxnets.1": "vxnet-0|10.180.11.77",
                         "login_mode": "passwd", "login_passwd": "S3cret pass"}))
    check_run("instance run -i debian12 --password-stdin", status=2, err="no password came")
    check_run("instance run -i debian12 --keypair x --no-login", status=2, err="only one of")
    script = write("setup.sh", b"#!/bin/sh\necho hi\n")
    check_run(["instance", "run", "-i", "debian12", "--no-login", "--no-network", "--user-data", script], calls=("RunInstances", {
        "image_id": "debian12", "cpu": "1", "memory": "1024", "need_userdata": "1", "userdata_type": "plain",
        "userdata_value": "IyEvYmluL3NoCmVjaG8gaGkK"}))
    big = write("big.sh", b"#" * 20000)
    check_run(["instance", "run", "-i", "debian12", "--no-login", "--user-data", big], out="i-", text="a long query travels as POST")
    check_run("instance run -i nothing", status=3, err="image .nothing. does not exist.*imprint image list")
    check_run("instance run -i debian12", status=1, trouble=["+full-house"], err="QuotasExceeded, 0 instances left")
    stub.tell("fresh")
    imprint("keypair", "delete", "kp-bn2n7700")
    imprint("keypair", "detach", "kp-bn2n7700", I)
    for verb, action, one in (("start", "StartInstances", S), ("stop", "StopInstances", I), ("restart", "RestartInstances", I),
                              ("terminate", "TerminateInstances", I), ("reset", "ResetInstances", I)):
        check_run("instance %s %s" % (verb, one), out=r"\A%s\nj-" % one, calls=(action, {"instances.1": one}))
    check_run("instance stop %s --force --wait" % I, out=r"i-4kq0z8pw .* stopped ",
              calls=("StopInstances", {"instances.1": I, "force": "1"}))
    check_run("instance stop " + S, status=5, err=r"PermissionDenied, instance \[i-stopped1\] is not running, can not be stopped")
    check_run("instance terminate %s --now -w" % I, out="ceased", calls=("TerminateInstances", {"instances.1": I, "direct_cease": "1"}))
    check_run("instance cease " + I, status=5, err="next: imprint instance terminate")
    check_run("instance resize %s --cpu 4 --memory 8G --disk 80 --wait" % S, out=r"4 +8.0 GiB",
              calls=("ResizeInstances", {"instances.1": S, "cpu": "4", "memory": "8192", "os_disk_size": "80"}))
    check_run("instance resize %s --cpu 4" % I, status=5, err="next: imprint instance stop")
    check_run("instance resize " + S, status=2, err="what shall be changed")
    check_run("instance reset %s --image debian12x64 --keypair kp-bn2n7700" % I, calls=("ResetInstances", {
        "instances.1": I, "image_id": "debian12x64", "login_mode": "keypair", "login_keypair": "kp-bn2n7700"}))
    check_run("instance modify %s --name x" % I, calls=("ModifyInstanceAttributes", {"instance": I, "instance_name": "x"}))
    check_run("instance clone %s --wait" % I, out=r"i-\w{8}", calls=("CloneInstances", {"instances.1": I, "vxnets.1": I + "|vxnet-0"}))
    check_run("instance log " + I, out=r"\A\[    0.000000\] Linux version 6.1\r?\nlogin: \Z")
    check_run("instance show " + I, out=r"^ADDRESS +10.180.11.2$.*^AGENT +connected$")


def ssh():
    os.makedirs(os.path.join(config, "keys"), exist_ok=True)
    key = os.path.join(config, "keys", "kp-bn2n7700")
    write(key, b"key")
    hosts = os.path.join(config, "known_hosts")
    line = "ssh -o 'UserKnownHostsFile=\"%s\"' -o HostKeyAlias=i-4kq0z8pw -o StrictHostKeyChecking=accept-new " \
           "-o LogLevel=ERROR -p 2222 -o IdentitiesOnly=yes -i %s -l debian -- 127.0.0.1" % (hosts, key)
    result = check_run("instance ssh %s --print" % I, calls=("GetInstanceSSH", {"instance": I}))
    check(result.out == line + "\n", "the command can be pasted into a shell", result)
    result = check_run(["instance", "ssh", I, "--print", "-l", "root", "--", "echo", "it's"])
    check(result.out == line.replace("-l debian", "-l root") + " echo 'it'\\''s'\n", "words behind -- are quoted", result)
    fake = os.path.join(home, "bin", "ssh")
    os.makedirs(os.path.dirname(fake), exist_ok=True)
    write(fake, b'#!/bin/sh\nprintf "%s\\n" "$@"\nexit 42\n')
    os.chmod(fake, 0o755)
    check_run(["instance", "ssh", I, "--", "true"], status=42, out=r"^-l\ndebian\n--\n127.0.0.1\ntrue\n\Z",
              PATH=os.path.dirname(fake) + ":" + os.environ["PATH"], text="instance ssh becomes ssh and ends as it does")
    check_run("instance ssh " + S, status=5, err="is not running")
    check_run("instance ssh %s --wait --timeout 1" % I, status=6, err="does not answer SSH.*imprint instance log")
    write(hosts, b"i-4kq0z8pw ssh-ed25519 AAAA\ni-other ssh-ed25519 BBBB\n")
    check_run("instance reset %s --wait" % I)
    check(open(hosts).read() == "i-other ssh-ed25519 BBBB\n", "after a reset its old host key is forgotten")


def keypairs():
    result = check_run("keypair create --name me", out=r"\Akp-\w{8}\n\Z", err="the only copy",
                       calls=("CreateKeyPair", {"keypair_name": "me", "mode": "system", "encrypt_method": "ssh-ed25519"}))
    path = os.path.join(config, "keys", result.out.strip())
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600 and open(path).read().startswith("-----BEGIN"), "the private key is kept, 0600")
    check_run("keypair delete " + result.out.strip(), status=3)
    check(os.path.exists(path), "a delete that was refused keeps the private key")
    check_run("keypair create --name me --method ssh-rsa --stdout", out=r"\A-----BEGIN.*-----\n\Z", err="kp-")
    check_run("keypair create", status=2, err="--name NAME is missing")
    public = write("id.pub", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ann@laptop\n")
    check_run(["keypair", "import", public], calls=("CreateKeyPair", {
        "keypair_name": "ann@laptop", "mode": "user", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ann@laptop"}))
    private = write("id", b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    check_run(["keypair", "import", private], status=2, err="is a private key", text="a private key is never sent")
    check(stub.calls() == [] or stub.call("CreateKeyPair") is None, "indeed not")
    check_run("keypair attach kp-bn2n7700 %s %s" % (I, S), calls=("AttachKeyPairs", {
        "keypairs.1": "kp-bn2n7700", "instances.1": I, "instances.2": S}))
    check_run("keypair detach kp-bn2n7700 %s --wait" % I, calls=("DetachKeyPairs", {"keypairs.1": "kp-bn2n7700", "instances.1": I}))
    check_run("keypair attach kp-bn2n7700", status=2, err="KEYPAIR INSTANCE… is missing")
    check_run("keypair delete kp-bn2n7700", status=5, err="imprint keypair detach")
    check_run("keypair modify kp-bn2n7700 --name x", calls=("ModifyKeyPairAttributes", {"keypair": "kp-bn2n7700", "keypair_name": "x"}))
    check_run("keypair show kp-bn2n7700", out=r"^METHOD +ssh-ed25519$")


def people():
    check_run("user add ann --email a@example.com --admin", out=r"\Ausr-\w+\n\Z", err="imprint user key ann",
              calls=("CreateUser", {"user_name": "ann", "email": "a@example.com", "role": "admin"}))
    result = imprint("user", "key", "ann", "--name", "laptop")
    check(result.out == "access_key_id = NEWACCESSKEY00000001\nsecret_access_key = onlyshownonce\n", "user key can be pasted into settings", result)
    check_run("user key bob", status=3, err="user .bob. does not exist")
    check_run("key delete NEWACCESSKEY00000001", status=3)
    check_run("key delete TESTACCESSKEY0000001", status=2, err="--force deletes it")
    check_run("key delete TESTACCESSKEY0000001 --force", out="deleted", calls=("DeleteAccessKeys", {"access_keys.1": "TESTACCESSKEY0000001"}))


for part in (lists, forms, monitors, images, imports, instances, ssh, keypairs, people):
    part()
end()
