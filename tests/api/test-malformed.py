#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clients should never send: each gets its own clear error, nothing is made of it, and imprintd goes on unharmed.

usage: test-malformed.py IMPRINTD MANUAL
"""
import http.client
import json
import re
import socket
import struct
import sys
import time
import urllib.parse

import clients
from clients import escape, flat, mac, stamp
from imprintd import Imprintd, check, end

GOOD_PASSWORD = "Good+Pass 1=&2"
RSS_MAX_MIB = 400  # with the sanitizers' shadow and quarantine
seen = {}  # message -> the first case that got it


class World:
    """One imprintd with two users, what each has, and how to sign for them."""

    def __init__(self, daemon):
        self.daemon = daemon
        users = [daemon.user("root", "--admin"), daemon.user("ann"), daemon.user("bob")]
        self.source = daemon.disk("disk.raw")
        daemon.start()
        self.root, self.ann, self.bob = [clients.Client(daemon.port, key, secret) for key, secret, _ in users]
        self.system = self.job(self.root, "ImportImage", source=self.source, format="raw", force=1, image_id="debian12x64",
                               visibility="public", image_name="system")["image_id"]
        self.image = self.job(self.ann, "ImportImage", source=self.source, format="raw", force=1)["image_id"]
        self.others_image = self.job(self.bob, "ImportImage", source=self.source, format="raw", force=1)["image_id"]
        self.upload = self.good(self.ann, "ImportImage", format="raw", force=1)["image_id"]
        self.others_upload = self.good(self.bob, "ImportImage", format="raw", force=1)["image_id"]
        self.pair = self.good(self.ann, "CreateKeyPair", encrypt_method="ssh-ed25519")["keypair_id"]
        self.others_pair = self.good(self.bob, "CreateKeyPair", encrypt_method="ssh-ed25519")["keypair_id"]
        run = dict(image_id=self.system, cpu=1, memory=512, login_mode="keypair", vxnets=["vxnet-0"])
        self.running = self.job(self.ann, "RunInstances", login_keypair=self.pair, **run)["instances"][0]
        self.stopped = self.job(self.ann, "RunInstances", login_keypair=self.pair, start=0, **run)["instances"][0]
        self.others = self.job(self.bob, "RunInstances", login_keypair=self.others_pair, **run)
        self.others_job, self.others_instance = self.others["job_id"], self.others["instances"][0]

    def good(self, client, action, **params):
        reply = client.call(action, **params)
        if reply["ret_code"] != 0:
            raise SystemExit("%s: %s" % (action, reply))
        return reply

    def job(self, client, action, **params):
        reply = self.good(client, action, **params)
        for _ in range(3000):
            job = client.call("DescribeJobs", jobs=[reply["job_id"]])["job_set"][0]
            if job["status"] == "successful":
                return reply
            if job["status"] not in ("pending", "working"):
                raise SystemExit("%s: %s" % (action, job))
            time.sleep(0.02)
        raise SystemExit("%s does not end" % action)

    def count(self):
        """How much there is; nothing malformed may change it."""
        return [self.root.call(action, limit=100)["total_count"]
                for action in ("DescribeInstances", "DescribeImages", "DescribeKeyPairs", "DescribeUsers")]

    def signed(self, client, verb, path, **params):
        """Path and query, signed for another path than the API's."""
        params = {"access_key_id": client.key, "signature_method": "HmacSHA256", "signature_version": 1, "time_stamp": stamp(),
                  **params}
        text = "&".join("%s=%s" % (escape(n), escape(params[n])) for n in sorted(params))
        return "%s?%s&signature=%s" % (path, text, urllib.parse.quote_plus(mac(client.secret, "%s\n%s\n%s" % (verb, path, text))))


def exchange(port, sent, shut=False, timeout=30):
    """Sends bytes on a connection of their own; (status, body) of the first reply, None when there was none."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as peer:
        try:
            peer.sendall(sent)
            if shut:
                peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all was said
        reply = http.client.HTTPResponse(peer, method=sent[:sent.find(b" ")].decode("latin-1"))
        try:
            reply.begin()
            return reply.status, reply.read()
        except (http.client.HTTPException, OSError):
            return None, b""


def settle(world, name, status, body, want_status, code, words):
    """One case is over: the reply, and imprintd behind it."""
    fine = status in (want_status if isinstance(want_status, tuple) else (want_status,))
    text = body.decode("utf-8", "replace")
    if code is not None:
        try:
            reply = json.loads(text)
            text = reply.get("message", "")
            fine = fine and reply.get("ret_code") == code and re.match(r"[A-Z]\w+, \S", text)
        except ValueError:
            fine = False
    fine = fine and words.lower() in text.lower() and "\0" not in text
    plain = re.sub(r"r-\w{12}|\d{2,}", "N", text)
    if code is not None and fine:
        seen.setdefault(plain, name)
    healthy, _ = exchange(world.daemon.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    check(fine and healthy == 200, name, "%s %s, wanted %s %s with [%s]%s" % (
        status, body[:400], want_status, code, words, "" if healthy == 200 else "; imprintd does not answer any more"))


# --- The query API, well signed: what is asked for is wrong --------------------------------------------------------------------


def run(**params):
    return ("RunInstances", {**dict(image_id="debian12x64", cpu=1, memory=512, login_mode="passwd", login_passwd=GOOD_PASSWORD),
                             **params})


def asked(w):
    """(name, client, action, parameters, ret_code, words of the message)"""
    def ann(name, action, params, code, words):
        return name, w.ann, action, params, code, words

    def ran(name, code, words, **params):
        return ann("RunInstances: " + name, *run(**params), code, words)
    ids = {"instances": [w.running]}
    large = "x" * 100
    return [
        ann("no zone", "DescribeImages", dict(zone=None), 1100, "[zone] is missing"),
        ann("an empty zone", "DescribeImages", dict(zone=""), 1100, "[zone]"),
        ann("another zone", "DescribeImages", dict(zone="pek1"), 1400, "access denied for zone [pek1]"),
        ann("a zone of 65,000 letters", "DescribeImages", dict(zone="z" * 20000), 1400, "zone [zzz"),
        ann("an unknown action", "ExplodeInstances", {}, 1101, "[ExplodeInstances]"),
        ann("an action in another case", "describeimages", {}, 1101, "[describeimages]"),
        ann("no action", "", {}, 1100, "[action]"),
        ann("an action of 10,000 letters", "A" * 10000, {}, 1101, "is not known"),
        ann("an action with a quote", "Describe'Images", {}, 1101, "is not known"),
        ann("limit: letters", "DescribeImages", dict(limit="many"), 1100, "[limit] must be a whole number"),
        ann("limit: negative", "DescribeImages", dict(limit=-1), 1100, "[limit]"),
        ann("limit: a fraction", "DescribeJobs", dict(limit="1.5"), 1100, "[limit]"),
        ann("limit: an exponent", "DescribeInstances", dict(limit="1e3"), 1100, "[limit]"),
        ann("limit: hexadecimal", "DescribeImages", dict(limit="0x10"), 1100, "[limit]"),
        ann("limit: a blank in front", "DescribeImages", dict(limit=" 5"), 1100, "[limit]"),
        ann("limit: thirty digits", "DescribeImages", dict(limit="9" * 30), 1100, "[limit]"),
        ann("offset: negative", "DescribeImages", dict(offset=-1), 1100, "[offset]"),
        ann("offset: huge", "DescribeImages", dict(offset=1 << 62), 1100, "[offset]"),
        ann("verbose: huge", "DescribeImages", dict(verbose=99), 1100, "[verbose]"),
        ann("reverse: 2", "DescribeImages", dict(reverse=2), 1100, "[reverse] must be 0 or 1"),
        ann("sort_key: no field", "DescribeImages", dict(sort_key="nonsense"), 1100, "[sort_key]"),
        ann("sort_key: SQL", "DescribeImages", dict(sort_key="image_id; DROP TABLE images"), 1100, "[sort_key]"),
        ann("sort_key: a private field", "DescribeInstances", dict(sort_key="passwd_hash"), 1100, "[sort_key]"),
        ann("search_word: too long", "DescribeImages", dict(search_word="s" * 300), 1100, "[search_word]"),
        ann("1,001 ids", "DescribeImages", dict(images=["img-%d" % i for i in range(1001)]), 1100, "[images.n] has 1001 items"),
        ann("an id of 300 bytes", "DescribeImages", dict(images=["i" * 300]), 1100, "longer than 255 bytes"),
        ann("1,000 statuses", "DescribeImages", dict(status=["s%d" % i for i in range(1000)]), 1100, "[status.n]"),

        ran("no image", 1100, "[image_id] is missing", image_id=None),
        ran("an empty image", 1100, "[image_id] is missing", image_id=""),
        ran("an unknown image", 2100, "image [img-00000000] does not exist", image_id="img-00000000"),
        ran("an image of somebody else", 2100, "does not exist", image_id=w.others_image),
        ran("an image that is not there yet", 1400, "can not be used for new instances", image_id=w.upload),
        ran("an image id of 100 bytes", 1100, "[image_id]", image_id=large),
        ran("an instance's id as image", 2100, "image [%s]" % w.running, image_id=w.running),
        ran("neither type nor size", 1100, "[instance_type] is missing", cpu=None, memory=None),
        ran("cpu 0", 1100, "[instance_type] is missing", cpu=0),
        ran("cpu -1", 1100, "[cpu]", cpu=-1),
        ran("cpu 1.5", 1100, "[cpu]", cpu="1.5"),
        ran("cpu 4097", 1100, "[cpu]", cpu=4097),
        ran("more vCPUs than there may be", 1100, "cpu [4000]", cpu=4000),
        ran("memory of 1 MiB", 1100, "memory", memory=1),
        ran("memory of a PiB", 1100, "memory", memory=1 << 30),
        ran("memory beyond 64 bits", 1100, "[memory]", memory="9" * 20),
        ran("count -1", 1100, "[count]", count=-1),
        ran("count 1,000,000", 1100, "[count]", count=1000000),
        ran("count 500", 1100, "count [500]", count=500),
        ran("an unknown type", 2100, "instance type [c9m9]", instance_type="c9m9", cpu=None, memory=None),
        ran("an unknown login mode", 1100, "[login_mode] must be one of: keypair passwd", login_mode="telnet"),
        ran("a key pair mode without one", 1100, "[login_keypair]", login_mode="keypair"),
        ran("a password mode without one", 1100, "[login_passwd]", login_passwd=None),
        ran("a password of one letter", 1100, "passw", login_passwd="a"),
        ran("a password of 200 letters", 1100, "[login_passwd]", login_passwd="Aa1" * 70),
        ran("an unknown key pair", 2100, "key pair [kp-00000000]", login_mode="keypair", login_keypair="kp-00000000"),
        ran("somebody else's key pair", 2100, "key pair [%s]" % w.others_pair, login_mode="keypair", login_keypair=w.others_pair),
        ran("a host name with a blank", 1100, "hostname [a b]", hostname="a b"),
        ran("a host name that begins with a dash", 1100, "hostname [-a]", hostname="-a"),
        ran("a host name of 64 letters", 1100, "[hostname]", hostname="h" * 64),
        ran("a host name that is a command", 1100, "hostname [$(reboot)]", hostname="$(reboot)"),
        ran("a name of 256 bytes", 1100, "[instance_name]", instance_name="n" * 256),
        ran("a name that rings", 1100, "control character", instance_name="ding\a"),
        ran("a name with an escape sequence", 1100, "control character", instance_name="\x1b[2J"),
        ran("an unknown network", 2100, "vxnet-9", vxnets=["vxnet-9"]),
        ran("an address that is none", 1100, "999.1.2.3", vxnets=["vxnet-0|999.1.2.3"]),
        ran("an address of somewhere else", 1100, "8.8.8.8", vxnets=["vxnet-0|8.8.8.8"]),
        ran("one address for two", 1100, "one instance only", vxnets=["vxnet-0|10.180.0.77"], count=2),
        ran("one network twice", 1100, "vxnet-0", vxnets=["vxnet-0", "vxnet-0"]),
        ran("65 networks", 1100, "[vxnets.n]", vxnets=["vxnet-0"] * 65),
        ran("a disk smaller than the image", 1100, "os_disk_size", os_disk_size=1),
        ran("a disk of 999,999 GB", 1100, "os_disk_size", os_disk_size=999999),
        ran("a disk of -5", 1100, "[os_disk_size]", os_disk_size=-5),
        ran("a topology that does not multiply", 1100, "cpu_topology [9,9,9]", cpu_topology="9,9,9"),
        ran("a topology of letters", 1100, "cpu_topology", cpu_topology="one"),
        ran("a CPU model with XML", 1100, "cpu_model", cpu_model="<qemu/>"),
        ran("class -1", 1100, "[instance_class]", instance_class=-1),
        ran("user data that is not base64", 1100, "not base64", need_userdata=1, userdata_value="%%%"),
        ran("user data of an unknown type", 1100, "[userdata_type]", need_userdata=1, userdata_type="zip", userdata_value="YQ=="),
        ran("user data of 100 KB", 1100, "at most", need_userdata=1, userdata_value="QUFB" * 34000),
        ran("start: maybe", 1100, "[start]", start="maybe"),

        ann("StartInstances: none", "StartInstances", {}, 1100, "[instances.n] is missing"),
        ann("StartInstances: an empty list", "StartInstances", {"instances.1": ""}, 1100, "[instances.n] is missing"),
        ann("StartInstances: unknown", "StartInstances", dict(instances=["i-00000000"]), 2100, "instance [i-00000000]"),
        ann("StartInstances: an image", "StartInstances", dict(instances=[w.image]), 2100, "instance [%s]" % w.image),
        ann("StartInstances: a path", "StartInstances", dict(instances=["../../etc"]), 2100, "instance [../../etc]"),
        ann("StartInstances: SQL", "StartInstances", dict(instances=["i-' OR 1=1 --"]), 2100, "instance [i-' OR"),
        ann("StartInstances: running", "StartInstances", ids, 1400, "is not stopped, can not be started"),
        ann("StopInstances: stopped", "StopInstances", dict(instances=[w.stopped]), 1400, "is not running, can not be stopped"),
        ann("StopInstances: somebody else's", "StopInstances", dict(instances=[w.others_instance]), 2100, w.others_instance),
        ann("StopInstances: one of two is unknown", "StopInstances", dict(instances=[w.running, "i-zzzzzzzz"]), 2100, "i-zzzzzzzz"),
        ann("StopInstances: force=2", "StopInstances", dict(ids, force=2), 1100, "[force]"),
        ann("RestartInstances: stopped", "RestartInstances", dict(instances=[w.stopped]), 1400, "can not be restarted"),
        ann("ResizeInstances: running", "ResizeInstances", dict(ids, cpu=2, memory=1024), 1400, "can not be resized"),
        ann("ResizeInstances: to nothing", "ResizeInstances", dict(instances=[w.stopped]), 1100, "[cpu]"),
        ann("ResizeInstances: a smaller disk", "ResizeInstances", dict(instances=[w.stopped], os_disk_size=1), 1100, "os_disk_size"),
        ann("ResizeInstances: 4,000 vCPUs", "ResizeInstances", dict(instances=[w.stopped], cpu=4000, memory=512), 1100, "cpu [4000]"),
        ann("ResetInstances: no key pair", "ResetInstances", dict(ids, login_mode="keypair"), 1100, "[login_keypair]"),
        ann("ResetInstances: unknown image", "ResetInstances", dict(ids, image_id="img-00000000"), 2100, "img-00000000"),
        ann("TerminateInstances: somebody else's", "TerminateInstances", dict(instances=[w.others_instance]), 2100, "instance ["),
        ann("TerminateInstances: 201", "TerminateInstances", dict(instances=["i-%08d" % i for i in range(201)]), 1100, "201"),
        ann("CeaseInstances: running", "CeaseInstances", ids, 1400, "is not terminated, can not be ceased"),
        ann("CloneInstances: unknown", "CloneInstances", dict(instances=["i-none0000"]), 2100, "instance [i-none0000]"),
        ann("CloneInstances: another network", "CloneInstances", dict(ids, vxnets=[w.running + "|vxnet-7"]), 2100, "vxnet-7"),
        ann("CloneInstances: a network for a stranger", "CloneInstances", dict(ids, vxnets=["i-other000|vxnet-0"]), 1100, "i-other000"),
        ann("ModifyInstanceAttributes: none", "ModifyInstanceAttributes", {}, 1100, "[instance] is missing"),
        ann("ModifyInstanceAttributes: long", "ModifyInstanceAttributes", dict(instance=w.running, description="d" * 5000), 1100,
            "[description]"),
        ann("GetInstanceSSH: stopped", "GetInstanceSSH", dict(instance=w.stopped), 1400, "is not running"),

        ann("CaptureInstance: none", "CaptureInstance", {}, 1100, "[instance] is missing"),
        ann("CaptureInstance: running", "CaptureInstance", dict(instance=w.running), 1400, "is not stopped, can not be captured"),
        ann("CaptureInstance: somebody else's", "CaptureInstance", dict(instance=w.others_instance), 2100, "instance ["),
        ann("CloneImages: 1,000 times", "CloneImages", dict(image=w.image, count=1000), 1100, "[count]"),
        ann("CloneImages: somebody else's", "CloneImages", dict(image=w.others_image), 2100, "image ["),
        ann("DeleteImages: of the system", "DeleteImages", dict(images=[w.system]), 1400, "is not yours"),
        ann("DeleteImages: a scalar that is unknown", "DeleteImages", dict(images="img-nosuch00"), 2100, "img-nosuch00"),
        ann("ModifyImageAttributes: of the system", "ModifyImageAttributes", dict(image=w.system, image_name="mine"), 1400, "is not yours"),
        ann("ModifyImageAttributes: a control character", "ModifyImageAttributes", dict(image=w.image, image_name="a\x01"), 1100,
            "control character"),
        ann("ImportImage: a path of the host", "ImportImage", dict(source="/etc/shadow"), 1400, "/etc/shadow"),
        ann("ImportImage: a way out", "ImportImage", dict(source=w.source.replace("disk.raw", "../../../etc/shadow")), 1400, "source"),
        ann("ImportImage: a path of the host that is not there", "ImportImage", dict(source="/etc/no/such"), 1400, "/etc/no/such"),
        ann("ImportImage: a path in a folder of others", "ImportImage", dict(source="/root/none"), 1400, "not below"),
        ann("ImportImage: a path that is not there", "ImportImage", dict(source=w.source + ".none"), 1100, "No such file"),
        ann("ImportImage: a relative path", "ImportImage", dict(source="disk.raw"), 1100, "source"),
        ann("ImportImage: file://", "ImportImage", dict(source="file:///etc/shadow"), 1100, "source"),
        ann("ImportImage: gopher://", "ImportImage", dict(source="gopher://localhost/x"), 1100, "source"),
        ann("ImportImage: a folder", "ImportImage", dict(source=w.source.rsplit("/", 1)[0]), 1100, "not a regular file"),
        ann("ImportImage: an unknown format", "ImportImage", dict(source=w.source, format="exe"), 1100, "[format] must be one of"),
        ann("ImportImage: a digest that is none", "ImportImage", dict(source=w.source, digest="sha256:123"), 1100, "digest"),
        ann("ImportImage: public, by a user", "ImportImage", dict(source=w.source, visibility="public"), 1400, "administrator"),
        ann("ImportImage: a symbolic id, by a user", "ImportImage", dict(source=w.source, image_id="mine"), 1400, "administrator"),
        ("ImportImage: an id that is taken", w.root, "ImportImage", dict(source=w.source, image_id="debian12x64"), 2110, "exists already"),
        ("ImportImage: an id with a slash", w.root, "ImportImage", dict(source=w.source, image_id="../x"), 1100, "image_id"),

        ann("CreateKeyPair: unknown mode", "CreateKeyPair", dict(mode="magic"), 1100, "[mode] must be one of"),
        ann("CreateKeyPair: no public key", "CreateKeyPair", dict(mode="user"), 1100, "[public_key] is missing"),
        ann("CreateKeyPair: a text that is no key", "CreateKeyPair", dict(mode="user", public_key="hello"), 1100, "key"),
        ann("CreateKeyPair: two lines", "CreateKeyPair", dict(mode="user", public_key="ssh-ed25519 AAAA\nssh-rsa BBBB"), 1100, "key"),
        ann("CreateKeyPair: a type it is not", "CreateKeyPair", dict(mode="user", public_key="ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAI"), 1100,
            "key"),
        ann("CreateKeyPair: rot13", "CreateKeyPair", dict(encrypt_method="rot13"), 1100, "rot13"),
        ann("CreateKeyPair: a key of 20 KB", "CreateKeyPair", dict(mode="user", public_key="ssh-rsa " + "A" * 20000), 1100,
            "[public_key]"),
        ann("AttachKeyPairs: no instances", "AttachKeyPairs", dict(keypairs=[w.pair]), 1100, "[instances.n] is missing"),
        ann("AttachKeyPairs: somebody else's pair", "AttachKeyPairs", dict(ids, keypairs=[w.others_pair]), 2100, "key pair ["),
        ann("AttachKeyPairs: somebody else's instance", "AttachKeyPairs", dict(keypairs=[w.pair], instances=[w.others_instance]), 2100,
            "instance ["),
        ann("DeleteKeyPairs: in use", "DeleteKeyPairs", dict(keypairs=[w.pair]), 1400, w.running),
        ann("DeleteKeyPairs: unknown", "DeleteKeyPairs", dict(keypairs=["kp-nosuch00"]), 2100, "key pair [kp-nosuch00]"),
        ann("ModifyKeyPairAttributes: none", "ModifyKeyPairAttributes", {}, 1100, "[keypair] is missing"),

        ann("CancelJobs: none", "CancelJobs", {}, 1100, "[jobs.n] is missing"),
        ann("CancelJobs: unknown", "CancelJobs", dict(jobs=["j-00000000000"]), 2100, "job [j-00000000000]"),
        ann("CancelJobs: somebody else's", "CancelJobs", dict(jobs=[w.others_job]), 2100, "job [%s]" % w.others_job),
        ann("DeleteAccessKeys: somebody else's", "DeleteAccessKeys", dict(access_keys=[w.bob.key]), 2100, "access key ["),
        ann("CreateUser: by a user", "CreateUser", dict(user_name="eve"), 1400, "administrators only"),
        ann("CheckPool: by a user", "CheckPool", {}, 1400, "administrators only"),
        ("CreateUser: again", w.root, "CreateUser", dict(user_name="ann"), 2110, "user [ann] exists already"),
        ("CreateUser: a name with a slash", w.root, "CreateUser", dict(user_name="../root"), 1100, "user name"),
        ("CreateUser: an unknown role", w.root, "CreateUser", dict(user_name="eve", role="god"), 1100, "[role]"),
        ("CreateAccessKey: for nobody", w.root, "CreateAccessKey", dict(user_name="nobody"), 2100, "user [nobody]"),
    ]


def send_asked(w, name, client, action, params, code, words):
    common = {n: v for n, v in {**client.common(action), **flat(params)}.items() if not (n in params and params[n] is None)}
    post = clients.PythonSdkPost(w.daemon.port, client.key, client.secret)
    request = (post if sum(len(str(v)) for v in params.values()) > 8000 else client).request(common)
    status, body = exchange(w.daemon.port, request)
    settle(w, name, status, body, 200, code, words)


# --- The query API: who asks, and how it is written -----------------------------------------------------------------------------


def written(w):
    """(name, query, ret_code, words)"""
    client = w.ann

    def query(secret=None, verb="GET", path="/iaas/", **params):
        common = {**client.common("DescribeZones"), **params}
        common = {n: v for n, v in common.items() if v is not None}
        text = "&".join("%s=%s" % (n, escape(common[n])) for n in sorted(common))
        return text + "&signature=" + urllib.parse.quote_plus(mac(secret or client.secret, "%s\n%s\n%s" % (verb, path, text)))

    def raw(text):
        """Signed as it stands, however it is written."""
        whole = query()
        head = whole[:whole.index("&signature=")] + "&" + text
        return head + "&signature=" + urllib.parse.quote_plus(mac(client.secret, "GET\n/iaas/\n" + head))
    good = query()
    bare = good[:good.index("&signature=")]
    yield "nothing at all", "", 1100, "[action] is missing"
    yield "only an ampersand", "&&&", 1100, "[action] is missing"
    for name in ("access_key_id", "time_stamp", "signature_method", "signature_version"):
        yield "without " + name, query(**{name: None}), 1100, "[%s] is missing" % name
        yield "an empty " + name, query(**{name: ""}), 1100, "[%s]" % name
    yield "without signature", bare, 1100, "[signature] is missing"
    yield "an empty signature", bare + "&signature=", 1100, "[signature] is missing"
    yield "a signature cut short", re.sub("%.?$", "", good[:-12]), 1200, "signature does not match"
    yield "a signature of 30,000 letters", bare + "&signature=" + "A" * 30000, 1200, "signature does not match"
    yield "a signature in hexadecimal", bare + "&signature=" + "ab" * 32, 1200, "signature does not match"
    yield "a signature with another secret", query(secret="guess"), 1200, "signature does not match"
    yield "a signature for POST", query(verb="POST"), 1200, "[GET /iaas/]"
    yield "a signature for another path", query(path="/iaas"), 1200, "[GET /iaas/]"
    yield "something added behind the signature", good + "&limit=1", 1200, "signature does not match"
    yield "a value changed after signing", good.replace("DescribeZones", "DescribeImages"), 1200, "signature does not match"
    yield "SHA-1 claimed, SHA-256 used", good.replace("HmacSHA256", "HmacSHA1"), 1200, "signature does not match"
    yield "an unknown signature method", query(signature_method="HmacMD5"), 1100, "HmacSHA256 or HmacSHA1"
    yield "signature version 2", query(signature_version=2), 1100, "[signature_version] must be 1"
    yield "API version 2", query(version=2), 1100, "[version] must be 1"
    yield "an unknown access key", query(access_key_id="NOSUCHKEY00000000000"), 1200, "access key is unknown"
    yield "an access key of 10,000 letters", query(access_key_id="K" * 10000), 1200, "access key is unknown"
    yield "an access key that is SQL", query(access_key_id="' OR '1'='1"), 1200, "access key is unknown"
    yield "an access key of another case", query(access_key_id=client.key.lower()), 1200, "access key is unknown"
    for name, text in (("words", "yesterday"), ("no Z", stamp()[:-1]), ("a month 13", "2026-13-01T00:00:00Z"),
                       ("February 30", "2026-02-30T00:00:00Z"), ("hour 25", "2026-01-01T25:00:00Z"), ("a number", "1700000000"),
                       ("five digits of a year", "19999-01-01T00:00:00Z"), ("an offset", "2026-01-01T00:00:00+08:00"),
                       ("a blank", "2026-01-01 00:00:00Z"), ("negative", "-026-01-01T00:00:00Z")):
        yield "time_stamp: " + name, query(time_stamp=text), 1100, "[time_stamp] is not of the form"
    yield "time_stamp: two minutes old", query(time_stamp=stamp(-120)), 1300, "seconds old; 60 are allowed"
    yield "time_stamp: two minutes early", query(time_stamp=stamp(120)), 1300, "seconds in the future"
    yield "time_stamp: year 1", query(time_stamp="0001-01-01T00:00:00Z"), 1300, "seconds old"
    yield "time_stamp: year 9999", query(time_stamp="9999-12-31T23:59:59Z"), 1300, "in the future"
    yield "expires: words", query(expires="never"), 1100, "[expires] is not of the form"
    yield "expires: past", query(expires=stamp(-10)), 1300, "the request expired"
    yield "expires: far, stamp two days old", query(time_stamp=stamp(-2 * 86400), expires=stamp(86400)), 1300, "seconds old"
    yield "an escape that is none", raw("x=%zz"), 1100, "[x] has a bad escape"
    yield "an escape cut short", bare.replace("action=DescribeZones", "action=%4"), 1100, "bad escape"
    yield "a name with a bad escape", raw("%q=1"), 1100, "parameter name [%q] has a bad escape"
    yield "a name that is empty", raw("=1"), 1100, "is empty or not UTF-8"
    yield "a zero byte", raw("x=a%00b"), 1100, "[x] is not UTF-8 text without zero bytes"
    yield "a zero byte in a name", raw("x%00y=1"), 1100, "is empty or not UTF-8"
    yield "Latin-1", raw("x=caf%E9"), 1100, "[x] is not UTF-8"
    yield "UTF-8 that is too long", raw("x=%C0%AF"), 1100, "[x] is not UTF-8"
    yield "a surrogate", raw("x=%ED%A0%80"), 1100, "[x] is not UTF-8"
    yield "beyond Unicode", raw("x=%F4%90%80%80"), 1100, "[x] is not UTF-8"
    yield "a parameter twice", raw("x=1&x=2"), 1100, "[x] is given more than once"
    yield "the action twice", raw("action=DescribeZones"), 1100, "[action] is given more than once"
    yield "two signatures", good + "&signature=x", 1100, "[signature] is given more than once"
    yield "4,200 parameters", raw("&".join("p%d=" % i for i in range(4200))), 1100, "more than 4096 parameters"


def send_written(w, name, query, code, words):
    get = ("GET /iaas/?%s HTTP/1.1\r\nHost: x\r\n\r\n" % query).encode()
    if len(query) > 20000:  # signed for the method
        query = query[:query.rindex("&signature=")]
        query += "&signature=" + urllib.parse.quote_plus(mac(w.ann.secret, "POST\n/iaas/\n" + query)) if code != 1200 else "&signature=x"
        get = ("POST /iaas/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(query), query)).encode()
    status, body = exchange(w.daemon.port, get)
    settle(w, name, status, body, 200, code, words)


# --- HTTP itself ----------------------------------------------------------------------------------------------------------------


def spoken(w):
    """(name, bytes, status or statuses, ret_code or None, words)"""
    def post(headers, body=b""):
        return b"POST /iaas/ HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + body

    def get(path, headers=b"Host: x\r\n", verb=b"GET", version=b"HTTP/1.1"):
        return verb + b" " + path + b" " + version + b"\r\n" + headers + b"\r\n"
    for verb in (b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"TRACE", b"BREW", b"A" * 40):
        yield "method %s" % verb.decode(), get(b"/iaas/", verb=verb), (404, 405), None if verb == b"HEAD" else 1101, "" if verb == b"HEAD" else "is not allowed"
    yield "a page that is not there", get(b"/nothing"), 404, 2100, "nothing at [/nothing]"
    yield "below the API", get(b"/iaas/x"), 404, 2100, "nothing at [/iaas/x]"
    yield "two slashes", get(b"//iaas/"), 404, 2100, "nothing at [//iaas/]"
    yield "a way out", get(b"/iaas/../../etc/passwd"), 404, 2100, "nothing at"
    yield "an escaped way out", get(b"/%2e%2e/%2e%2e/etc/passwd"), 404, 2100, "nothing at"
    yield "a path of 60,000 letters", get(b"/" + b"p" * 60000), (404, 414, 431), None, ""
    yield "POST to the figures", get(b"/metrics", verb=b"POST", headers=b"Host: x\r\nContent-Length: 0\r\n"), 405, 1101, "method POST"
    yield "HTTP/0.9", b"GET /iaas/\r\n\r\n", (400, 505, None), None, ""
    yield "HTTP/1.0", get(b"/iaas/", version=b"HTTP/1.0", headers=b""), 200, 1100, "[action] is missing"
    yield "HTTP/1.1 without Host", get(b"/iaas/", headers=b""), (200, 400), None, ""
    yield "HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 404, 505, None), None, ""
    yield "HTTP/9.9", get(b"/iaas/", version=b"HTTP/9.9"), (200, 400, 505), None, ""
    yield "a version that is none", get(b"/iaas/", version=b"HTTP/x"), (400, 505, None), None, ""
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2 + b"\r\n\r\n", (400, 404, 405, 505, None), None, ""
    yield "only line ends", b"\r\n" * 5000, (400, None), None, ""
    yield "zero bytes", b"\0" * 5000 + b"\r\n\r\n", (400, 404, 405, 505, None), None, ""
    yield "a request line of 200 KB", b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 414, 431), None, ""
    yield "a header of 200 KB", get(b"/iaas/", headers=b"Host: x\r\nX: " + b"h" * 200000 + b"\r\n"), (413, 431), None, ""
    yield "20,000 headers", get(b"/iaas/", headers=b"Host: x\r\n" + b"".join(b"H%d: 1\r\n" % i for i in range(20000))), (413, 431), None, ""
    yield "a header without a colon", get(b"/iaas/", headers=b"Host: x\r\nnonsense\r\n"), (200, 400), None, ""
    yield "a header with a zero byte", get(b"/iaas/", headers=b"Host: x\r\nX: a\0b\r\n"), (200, 400), None, ""
    yield "a folded header", get(b"/iaas/", headers=b"Host: x\r\nX: a\r\n b\r\n"), (200, 400), None, ""
    yield "two lengths", post(b"Content-Length: 3\r\nContent-Length: 5\r\n", b"abcde"), (200, 400), None, ""
    yield "a length and chunks", post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), (200, 400), None, ""
    yield "a negative length", post(b"Content-Length: -1\r\n", b"abc"), 400, None, ""
    yield "a length of letters", post(b"Content-Length: many\r\n", b"abc"), 400, None, ""
    yield "a length beyond 64 bits", post(b"Content-Length: 99999999999999999999999\r\n", b"abc"), (400, 413), None, ""
    yield "a length that never comes", post(b"Content-Length: 8000000\r\n", b"abc"), (None, 400, 408), None, ""
    yield "a chunk without a size", post(b"Transfer-Encoding: chunked\r\n", b"zz\r\nabc\r\n0\r\n\r\n"), 400, None, ""
    yield "a chunk of 2^64 bytes", post(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n"), (400, 413), None, ""
    yield "a negative chunk", post(b"Transfer-Encoding: chunked\r\n", b"-5\r\nabcde\r\n0\r\n\r\n"), 400, None, ""
    yield "a chunk longer than it says", post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"), 400, None, ""
    yield "chunks that end early", post(b"Transfer-Encoding: chunked\r\n", b"5\r\nab"), (None, 400), None, ""
    yield "an unknown transfer encoding", post(b"Transfer-Encoding: lzma\r\n", b"abc"), (200, 400, 501, None), None, ""
    yield "a body of 9 MiB", post(b"Content-Length: %d\r\n" % (9 << 20), b"a" * (9 << 20)), 200, 1100, "the body is longer than 8388608 bytes"
    yield "chunks of 9 MiB", post(b"Transfer-Encoding: chunked\r\n", clients.chunked(b"a" * (9 << 20), 1 << 20)), 200, 1100, "the body is longer"
    yield "a body that is no form", post(b"Content-Length: 17\r\n", b'{"action":"None"}'), 200, 1100, "[action] is missing"
    yield "a body of noise", post(b"Content-Length: 256\r\n", bytes(range(256))), 200, 1100, "has a bad escape"
    yield "20,000 parameters in a body", post(b"Content-Length: 160000\r\n", b"".join(b"p%06d&" % i for i in range(20000))), 200, 1100, "more than 4096"
    yield "an absolute address", get(b"http://127.0.0.1/iaas/"), (200, 400, 404), None, ""
    yield "an asterisk", get(b"*"), (400, 404), None, ""
    yield "CONNECT", get(b"127.0.0.1:22", verb=b"CONNECT"), (400, 404, 405, None), None, ""
    yield "an expectation nobody knows", post(b"Expect: miracles\r\nContent-Length: 3\r\n", b"abc"), (200, 417), None, ""


# --- Uploads and consoles --------------------------------------------------------------------------------------------------------


def carried(w):
    """(name, bytes, status or statuses, ret_code or None, words)"""
    def put(id, headers, body=b"", client=w.ann, verb="PUT", path=None):
        target = path or w.signed(client, verb, "/data/images/" + id)
        return ("%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (verb, target, headers)).encode() + body

    def ranged(text, length=3):
        return put(w.upload, "Content-Range: %s\r\nContent-Length: %d\r\n" % (text, length), b"abc"[:length])
    three = "Content-Length: 3\r\n"
    yield "upload: not signed", put("", three, b"abc", path="/data/images/" + w.upload), 200, 1100, "is missing"
    yield "upload: signed for another image", put("", three, b"abc", path=w.signed(w.ann, "PUT", "/data/images/" + w.image).replace(w.image, w.upload)), 200, 1200, "signature does not match"
    yield "upload: unknown image", put("img-00000000", three, b"abc"), 200, 2100, "image [img-00000000]"
    yield "upload: somebody else's image", put(w.others_upload, three, b"abc"), 200, 2100, "does not exist"
    yield "upload: an image that is complete", put(w.image, three, b"abc"), 200, 1400, w.image
    yield "upload: a system image", put(w.system, three, b"abc"), 200, 1400, ""
    yield "upload: a way out", put("../../../etc/passwd", three, b"abc"), 200, 2100, "nothing at"
    yield "upload: an escaped way out", put("..%2f..%2fetc%2fpasswd", three, b"abc"), 200, 2100, "nothing at"
    yield "upload: no id", put("", three, b"abc"), 200, 2100, "nothing at"
    yield "upload: an id of 3,000 letters", put("i" * 3000, three, b"abc"), 200, 2100, "nothing at"
    yield "upload: an id with a zero byte", put("img%00", three, b"abc"), 200, 2100, "nothing at"
    yield "upload: no length", put(w.upload, ""), 200, 1100, "needs the header Content-Range or a Content-Length"
    yield "upload: chunks", put(w.upload, "Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"), 200, 1100, "Content-Length"
    for name, text in (("words", "all of it"), ("no total", "bytes 0-2"), ("backwards", "bytes 2-0/10"), ("beyond the total", "bytes 0-9/3"),
                       ("negative", "bytes -3-2/10"), ("hexadecimal", "bytes 0x0-0x2/0xa"), ("a total of 0", "bytes */0"),
                       ("too large for 64 bits", "bytes 0-2/99999999999999999999"), ("another unit", "lines 0-2/10")):
        yield "upload: a range: " + name, ranged(text), 200, 1100, "Content-Range"
    yield "upload: a total of 8 EiB", ranged("bytes 0-2/9223372036854775807"), 200, 1100, "larger than the limit"
    yield "upload: in the middle first", ranged("bytes 5-7/10"), 200, 1400, "goes on at byte 0, not at 5"
    yield "upload: shorter than the range", put(w.upload, "Content-Range: bytes 0-8/10\r\nContent-Length: 3\r\n", b"abc"), 200, 1100, "shorter than was announced"
    yield "upload: longer than the range", put(w.upload, "Content-Range: bytes 3-4/10\r\nContent-Length: 3\r\n", b"abc"), 200, 1100, "longer than was announced"
    yield "upload: another method", put(w.upload, three, b"abc", verb="POST"), (200, 405), 1101, "method POST"
    yield "upload: DELETE", put(w.upload, "", verb="DELETE"), (200, 405), 1101, "method DELETE"

    def console(id, headers, client=w.ann, tail="/console", path=None):
        target = path or w.signed(client, "GET", "/instances/" + id + tail)
        return ("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (target, headers)).encode()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    errors = (200, 400, 401, 403, 404, 405, 409, 426)
    yield "console: not signed", console("", upgrade, path="/instances/%s/console" % w.running), errors, 1100, "is missing"
    yield "console: somebody else's", console(w.others_instance, upgrade), errors, 2100, "does not exist"
    yield "console: unknown", console("i-00000000", upgrade), errors, 2100, "i-00000000"
    yield "console: stopped", console(w.stopped, upgrade), errors, 1400, "not running"
    yield "console: no upgrade", console(w.running, ""), errors, 1100, "Upgrade"
    yield "console: no key", console(w.running, upgrade.replace("Sec-WebSocket-Key", "X")), errors, 1100, "Sec-WebSocket-Key"
    yield "console: an old version", console(w.running, upgrade.replace("13", "7")), errors, 1100, "Sec-WebSocket-Version"
    yield "console: something else", console(w.running, "Connection: Upgrade\r\nUpgrade: irc\r\n"), errors, 1100, "Upgrade"
    yield "console: a way out", console("../../etc", "", tail="/console.log"), (200, 404), 2100, "nothing at"
    yield "console: another page", console(w.running, "", tail="/consoles"), (200, 404), 2100, "nothing at"


def send_raw(w, name, sent, status, code, words):
    # What can be no whole request gets no answer before the idle timeout, much later.
    unfinished = isinstance(status, tuple) and None in status
    got, body = exchange(w.daemon.port, sent, shut=unfinished, timeout=2 if unfinished else 30)
    settle(w, name, got, body, status, code, words)


# --- Crowds ----------------------------------------------------------------------------------------------------------------------


def zone_request(w):
    return w.ann.request(w.ann.common("DescribeZones"))


def pipelined(w):
    """Two hundred requests at once on one connection, bad ones among them: as many answers, in order."""
    bad = b"GET /iaas/?action=None HTTP/1.1\r\nHost: x\r\n\r\n"
    requests = [zone_request(w) if i % 3 else bad for i in range(200)]
    with socket.create_connection(("127.0.0.1", w.daemon.port), timeout=60) as peer:
        peer.sendall(b"".join(requests))
        codes, buffered = [], peer.makefile("rb")
        for _ in requests:
            length = 0
            for line in iter(buffered.readline, b"\r\n"):
                if not line:
                    break
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            codes.append(json.loads(buffered.read(length) or b'{"ret_code":-1}')["ret_code"])
    check(codes == [0 if i % 3 else 1101 for i in range(200)], "two hundred requests in one piece get as many answers, in order", codes)


def crowd(w):
    """Clients that say a few bytes and wait: others are served meanwhile, and more than one address may have are refused."""
    idle = []
    try:
        for _ in range(200):
            peer = socket.create_connection(("127.0.0.1", w.daemon.port), timeout=30)
            peer.sendall(b"GET /iaas/?action=Descr")
            idle.append(peer)
        status, body = exchange(w.daemon.port, zone_request(w))
        check(status == 200 and json.loads(body)["ret_code"] == 0, "two hundred clients that dawdle keep nobody from being served", body)
        for _ in range(100):
            idle.append(socket.create_connection(("127.0.0.1", w.daemon.port), timeout=30))
        idle[-1].settimeout(30)
        check(idle[-1].recv(1) == b"", "the three hundredth connection of one address is closed")
        idle[0].sendall(zone_request(w).split(b"?", 1)[1].replace(b"access_key_id", b"ibeZones&access_key_id", 1))
        check(idle[0].recv(9) == b"HTTP/1.1 ", "the slowest is served when it comes to a point")
    finally:
        for peer in idle:
            peer.close()
    for _ in range(100):  # closed connections are seen soon, not at once
        status, _ = exchange(w.daemon.port, zone_request(w))
        if status == 200:
            break
        time.sleep(0.1)
    check(status == 200, "and when they are gone there is room again")


def half_closed(w):
    """Clients that end their side with the request, more than one address may have connections."""
    post = clients.PythonSdkPost(w.daemon.port, w.ann.key, w.ann.secret)
    request = post.request({**post.common("DescribeZones"), "filler": "a" * 30000})
    answered = sum(exchange(w.daemon.port, request, shut=True, timeout=5)[0] == 200 for _ in range(1000))
    check(answered == 1000, "a thousand clients that say no more than one request are answered", answered)


def resets(w):
    """Connections that are torn down in the middle."""
    whole = zone_request(w)
    for cut in range(0, len(whole), 9):
        peer = socket.create_connection(("127.0.0.1", w.daemon.port), timeout=30)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sendall(whole[:cut])
        peer.close()
    status, _ = exchange(w.daemon.port, whole)
    check(status == 200, "connections that break at every ninth byte do no harm")


def slow_upload(w):
    """An upload that breaks is told where to go on; a second writer beside the first is refused."""
    head = "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Range: bytes 2-9/10\r\nContent-Length: 8\r\n\r\n"
    put = (head % w.signed(w.ann, "PUT", "/data/images/" + w.upload)).encode()
    question = "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n"
    ask = (question % w.signed(w.ann, "PUT", "/data/images/" + w.upload)).encode()
    far = lambda: json.loads(exchange(w.daemon.port, ask)[1])["received_bytes"]
    begun = far()
    with socket.create_connection(("127.0.0.1", w.daemon.port), timeout=30) as peer:
        peer.sendall(put.replace(b"bytes 2-9", b"bytes %d-9" % begun).replace(b"Length: 8", b"Length: %d" % (10 - begun)) + b"a")
        for _ in range(100):
            status, body = exchange(w.daemon.port, put.replace(b"bytes 2-9", b"bytes %d-9" % begun) + b"b" * 8)
            if b"another request" in body:
                break
            time.sleep(0.05)
        check(b"being uploaded by another request" in body, "a second writer of one upload is told so", body)
    for _ in range(100):
        if far() == begun + 1:
            break
        time.sleep(0.05)
    check(far() == begun + 1, "what came before an upload broke is kept")


def manual(path):
    """The error codes that the manual has for each action."""
    codes = {}
    for part in open(path).read().split(".Sh ACTIONS\n")[1].split(".Sh OBJECTS\n")[0].split(".It Ic ")[1:]:
        codes[part.split("\n")[0]] = set(map(int, re.findall(r"\b\d{4}\b", (part.split("\nErrors: ") + [""])[1])))
    return codes


def main():
    documented = manual(sys.argv[2])
    with Imprintd(sys.argv[1]) as daemon:
        w = World(daemon)
        before = w.count()
        cases = 0
        for cases_of, send in ((asked, send_asked), (written, send_written), (spoken, send_raw), (carried, send_raw)):
            for case in cases_of(w):
                send(w, *case)
                cases += 1
        missing = {(action, code) for name, _, action, params, code, _ in asked(w)
                   if code not in (1100, 1101) and "zone" not in name and code not in documented.get(action, ())}
        check(not missing, "the manual has the errors of each action", missing)
        check(cases >= 100, "%d malformed requests" % cases)
        check(len(seen) >= 100, "with %d different errors" % len(seen))
        for part in (pipelined, crowd, half_closed, resets, slow_upload):
            part(w)
        check(w.count() == before, "nothing was made and nothing is lost", (before, w.count()))
        check(daemon.rss_mib() < RSS_MAX_MIB, "RSS is %.0f MiB" % daemon.rss_mib())
        check(daemon.alive() and not daemon.complaints(), "imprintd is unharmed", daemon.complaints())
        check(daemon.stop() == 0 and not daemon.complaints(), "and ends cleanly", daemon.complaints())
    end()


main()
