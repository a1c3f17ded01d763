#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every action of the API through every public client's way of speaking, against a real imprintd: each reply is compared with
the members and JSON types that those clients decode, and each client gets from an image to instances and back.

usage: test-clients.py IMPRINTD
"""
import json
import os
import re
import subprocess
import sys
import time

import clients
from imprintd import ZONE, Imprintd, check, end

here = os.path.dirname(os.path.abspath(__file__))
objects = json.load(open(os.path.join(here, "objects.json")))
replies = json.load(open(os.path.join(here, "replies.json")))
# Words that the strictest client takes while it waits; any other ends it.
TRANSITIONS = ("", "creating", "updating", "suspending", "resuming", "poweroffing", "poweroning", "deleting", "stopping",
               "starting", "terminating", "restarting", "resetting", "recovering")
PUBLIC_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAILdR0RZzYVqbW2kQdJpRkR1QzgVxkjfyMiHOSGAx2KWd"
called = set()


def fits(value, kind):
    if value is None:
        return kind.endswith("?")
    kind = kind.rstrip("?")
    if kind == "time":
        return isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", value) is not None
    if kind == "array[]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value) is dict(text=str, int=int, array=list, object=dict)[kind]


def misfits(value, members):
    return ["%s is %r, not %s" % (name, value.get(name, "absent"), kind) for name, kind in members.items()
            if not fits(value.get(name), kind)]


def faults(action, reply):
    """What in this reply some client could not decode."""
    found = misfits(reply, replies[action])
    if reply.get("action") != action + "Response":
        found.append("action is %r" % reply.get("action"))
    form = objects.get(action, {})
    for item in reply.get(form.get("set"), []):
        found += misfits(item, form["members"])
        if item.get("transition_status", "") not in TRANSITIONS:
            found.append("transition_status is %r" % item["transition_status"])
        for name, members in form.get("inner", {}).items():
            for part in item[name] if isinstance(item[name], list) else [item[name]]:
                found += misfits(part, members)
        for name in ("eip", "security_group"):
            if not isinstance(item.get(name), (dict, type(None))):
                found.append("%s is %r" % (name, item[name]))
    return found


class Story:
    """One client's way through all actions."""

    def __init__(self, client, source):
        self.client, self.source, self.name = client, source, type(client).__name__

    def call(self, action, **params):
        called.add(action)
        try:
            reply = self.client.call(action, **params)
        except Exception as error:
            check(False, "%s: %s is answered" % (self.name, action), repr(error))
            return {}
        found = faults(action, reply) if reply["ret_code"] == 0 else [reply.get("message")]
        check(not found, "%s: %s" % (self.name, action), found)
        return reply

    def refused(self, code, action, **params):
        reply = self.client.call(action, **params)
        check(reply["ret_code"] == code and re.match(r"\w+, .+", reply.get("message", "")),
              "%s: %s is refused with %d" % (self.name, action, code), reply)

    def do(self, action, **params):
        """An action with a job, to its end."""
        reply = self.call(action, **params)
        deadline = time.monotonic() + 120
        while "job_id" in reply and time.monotonic() < deadline:
            jobs = self.client.call("DescribeJobs", jobs=[reply["job_id"]])
            if jobs["total_count"] != 1:
                check(False, "%s: the job of %s is there before its id" % (self.name, action), jobs)
                break
            job = jobs["job_set"][0]
            if job["status"] not in ("pending", "working"):
                bad = faults("DescribeJobs", jobs)
                check(job["status"] == "successful" and job["job_action"] == action and not bad,
                      "%s: its job is successful" % self.name, bad or job)
                return reply
            time.sleep(0.02)
        check(False, "%s: the job of %s ends" % (self.name, action), reply)
        return reply

    def one(self, action, list_name, id, **params):
        """The thing of this id; it must be the only one."""
        reply = self.call(action, **{list_name: [id]}, **params)
        items = reply.get(objects[action]["set"], [])
        check(reply.get("total_count") == 1 and len(items) == 1, "%s: %s finds %s" % (self.name, action, id), reply)
        return items[0] if items else {}

    def instance(self, id, status):
        instance = self.one("DescribeInstances", "instances", id, verbose=1)
        check(instance.get("status") == status and instance.get("transition_status") == "",
              "%s: %s is %s" % (self.name, id, status), instance)
        return instance

    def start_up(self, image):
        zones = self.call("DescribeZones").get("zone_set")
        check(zones == [{"zone_id": ZONE, "status": "active"}], "%s: its zone is active" % self.name, zones)
        self.call("DescribeAccessKeys")
        self.call("DescribeInstanceTypes", instance_types=["c1m1"])
        self.call("DescribeInstanceTypes")
        self.one("DescribeVxnets", "vxnets", "vxnet-0")
        self.one("DescribeImages", "images", image)
        found = self.call("DescribeImages", provider=["system"], status=["available", "deprecated"], os_family="debian",
                          visibility=["public"], processor_type=["64bit"])
        check(image in [i["image_id"] for i in found.get("image_set", [])], "%s: system images are found" % self.name, found)
        none = self.call("DescribeImages", images=["img-00000000"])
        check(none.get("total_count") == 0 and none.get("image_set") == [], "%s: an unknown id is an empty set" % self.name, none)

    def keys(self):
        made = self.call("CreateKeyPair", keypair_name=self.name + " 测试*~ a+b", mode="system", encrypt_method="ssh-rsa")
        check("PRIVATE KEY" in made.get("private_key", ""), "%s: a private key comes once" % self.name)
        given = self.call("CreateKeyPair", keypair_name="k", mode="user", public_key="  ssh-ed25519 %s me@here " % PUBLIC_KEY)
        check(given.get("private_key") == "", "%s: private_key is there, empty" % self.name, given)
        self.call("ModifyKeyPairAttributes", keypair=given["keypair_id"], keypair_name="renamed", description="")
        pair = self.one("DescribeKeyPairs", "keypairs", given["keypair_id"], verbose=1)
        check((pair["encrypt_method"], pair["pub_key"], pair["keypair_name"]) == ("ssh-ed25519", PUBLIC_KEY, "renamed"),
              "%s: the type comes from the key itself" % self.name, pair)
        pair = self.one("DescribeKeyPairs", "keypairs", made["keypair_id"])
        check(pair["keypair_name"] == self.name + " 测试*~ a+b" and pair["encrypt_method"] == "ssh-rsa",
              "%s: names come back as they were sent" % self.name, pair)
        return made["keypair_id"], given["keypair_id"]

    def run(self, image, pair):
        ran = self.do("RunInstances", image_id=image, cpu=2, memory=2048, count=2, instance_name="web 01/测试", instance_class=101,
                      login_mode="keypair", login_keypair=pair, vxnets=["vxnet-0"],
                      security_group="sg-z13kokni")
        ids = ran.get("instances", [])
        check(len(set(ids)) == 2, "%s: two instances" % self.name, ran)
        instance = self.instance(ids[0], "running")
        check((instance["vcpus_current"], instance["memory_current"], instance["instance_class"], instance["instance_name"],
               instance["image"]["image_id"], instance["keypair_ids"], instance["extra"]["os_disk_size"]) ==
              (2, 2048, 101, "web 01/测试", image, [pair], 20), "%s: it is what was asked for" % self.name, instance)
        check(instance["vxnets"] and instance["vxnets"][0]["private_ip"] and instance["vxnets"][0]["vxnet_type"] == 2,
              "%s: it has an address" % self.name, instance["vxnets"])
        check((instance["security_group"] or {}).get("security_group_id") == "sg-z13kokni", "%s: and its group" % self.name)
        used = self.call("DescribeImages", images=[image], verbose=1)["image_set"][0]["instance_ids"]
        check(sorted(used) == sorted(ids), "%s: the image tells its own instances" % self.name, used)
        found = self.call("DescribeInstances", image_id=[image], status=["running"], instance_class=101, search_word=ids[0])
        check(found.get("total_count") == 1, "%s: filters find it" % self.name, found)
        found = self.call("DescribeInstances", instances=ids, instance_class=7)
        check(found.get("total_count") == 0, "%s: and leave out" % self.name, found)
        return ids

    @staticmethod
    def tenth(cpu):
        return bool(cpu) and 80 <= (cpu[-1][1] or 0) <= 120

    @staticmethod
    def thousands(disk):
        read, written = disk[-1][1] or (0, 0) if disk else (0, 0)
        return 800 <= read <= 1200 and 1600 <= written <= 2400

    def steady(self, reply):
        """The last step of its CPUs and its system disk shows what the make-believe machine does."""
        data = {meter["meter_id"]: meter["data"] for meter in reply.get("meter_set", [])}
        return (self.tenth(clients.expand(data.get("cpu") or [], 300, False)) and
                self.thousands(clients.expand(data.get("disk-os") or [], 300, True)))

    def series(self, ids, image):
        """What instances use, as every client asks for it. The make-believe machine works at a tenth of its CPUs."""
        span = dict(step="5m", start_time=clients.stamp(-3600).replace("Z", ".5Z"), end_time=clients.stamp(3600))
        mac = self.one("DescribeInstances", "instances", ids[0], verbose=1)["vxnets"][0]["nic_id"]
        meters = ["cpu", "memory", "disk-os", "disk-iops-os", "disk-us-os", "if-" + mac]
        # A step that has just begun is the mean of one or two short looks, which a busy machine makes at uneven times: its
        # value comes right as more are added.
        deadline = time.monotonic() + 120
        reply = self.call("GetMonitor", resource=ids[0], meters=meters, **span)
        while time.monotonic() < deadline and not self.steady(reply):
            time.sleep(0.1)
            reply = self.client.call("GetMonitor", resource=ids[0], meters=meters, **span)
        check([meter["meter_id"] for meter in reply["meter_set"]] == meters[:-1] + [mac] and reply["resource_id"] == ids[0],
              "%s: meters come as they were asked for, a card by its MAC" % self.name, reply)
        card = reply["meter_set"][-1]
        check(card.get("vxnet_id") == "vxnet-0" and card.get("sequence") == 0, "%s: with its network" % self.name, card)
        cpu, memory, disk, _, usage, _ = [clients.expand(meter["data"], 300, meter["meter_id"] not in ("cpu", "memory"))
                                          for meter in reply["meter_set"]]
        check(self.tenth(cpu) and time.time() - 1200 < cpu[-1][0] <= time.time() and cpu[-1][0] % 300 == 0,
              "%s: a tenth of its CPUs" % self.name, cpu)
        check(memory and memory[-1][1] == 250, "%s: a quarter of its memory" % self.name, memory)
        check(self.thousands(disk), "%s: 1,000 bytes a second read, 2,000 written" % self.name, disk)
        check(usage == [], "%s: no series, an empty array" % self.name, usage)
        pairs = {"resource_meters_pairs.%d.%s" % (n, key): value for n, id in enumerate(ids, 1)
                 for key, value in (("resource", id), ("meters", json.dumps(["cpu", "memory"])))}
        many = self.call("GetMonitors", **pairs, **span).get("monitors", [])
        check([one["resource_id"] for one in many] == ids and
              all([meter["meter_id"] for meter in one["meter_set"]] == ["cpu", "memory"] for one in many),
              "%s: several at once" % self.name, many)
        self.refused(1100, "GetMonitor", resource=ids[0], meters=["colour"], **span)
        self.refused(1100, "GetMonitor", resource=ids[0], meters=["cpu"], **dict(span, step="-5m"))
        self.refused(1100, "GetMonitor", resource=ids[0], meters=["cpu"], **dict(span, end_time=span["start_time"]))
        self.refused(2100, "GetMonitor", resource=image, meters=["cpu"], **span)

    def change(self, id, other, pair, image):
        self.do("AttachKeyPairs", keypairs=[pair, other], instances=[id])
        self.do("AttachKeyPairs", keypairs=[other], instances=[id])  # again: no fault
        check(self.instance(id, "running")["keypair_ids"] == sorted([pair, other]), "%s: both pairs are on it" % self.name)
        self.refused(1400, "DeleteKeyPairs", keypairs=[other])
        self.do("DetachKeyPairs", keypairs=[other], instances=[id])
        self.call("ModifyInstanceAttributes", instance=id, instance_name="renamed", description="一 & two = +")
        check(self.instance(id, "running")["description"] == "一 & two = +", "%s: the description is kept" % self.name)
        self.call("ModifyInstanceAttributes", instance=id, description="")
        instance = self.instance(id, "running")
        check((instance["instance_name"], instance["description"] or "") == ("renamed", ""),
              "%s: an empty text empties, an absent one does not" % self.name, instance)
        self.refused(1400, "ResizeInstances", instances=[id], cpu=4, memory=4096)
        self.do("RestartInstances", instances=[id])
        self.do("StopInstances", instances=[id])
        self.do("ResizeInstances", instances=[id], cpu=4, memory=4096)
        instance = self.instance(id, "stopped")
        check((instance["vcpus_current"], instance["memory_current"]) == (4, 4096), "%s: it is larger" % self.name, instance)
        self.do("StartInstances", instances=[id])
        self.do("ResetInstances", instances=[id], login_mode="passwd", login_passwd="Good+Pass 1=&2")
        self.instance(id, "running")
        self.do("StopInstances", instances=[id], force=1)

    def images(self, id):
        captured = self.do("CaptureInstance", instance=id, image_name="golden 镜像")
        image = self.one("DescribeImages", "images", captured["image_id"])
        check((image["status"], image["provider"], image["visibility"], image["image_name"]) ==
              ("available", "self", "private", "golden 镜像"), "%s: the capture is an image of one's own" % self.name, image)
        self.call("ModifyImageAttributes", image=captured["image_id"], image_name="gold", description="d")
        cloned = self.do("CloneImages", image=captured["image_id"], count=2, image_name="copy")
        check(len(cloned["images"]) == 2, "%s: two clones" % self.name, cloned)
        imported = self.do("ImportImage", source=self.source, format="raw", force=1, image_name="imported")
        ran = self.do("RunInstances", image_id=captured["image_id"], cpu=1, memory=512, login_mode="passwd",
                      login_passwd="Good+Pass 1=&2", vxnets=["vxnet-0"])
        gone = cloned["images"] + [imported["image_id"], captured["image_id"]]
        self.do("DeleteImages", images=gone)
        image = self.one("DescribeImages", "images", captured["image_id"])
        check(image["status"] in ("deleted", "ceased"), "%s: a deleted image is still described" % self.name, image)
        return ran["instances"]

    def clone(self, id):
        made = self.do("CloneInstances", instances=[id], vxnets=[id + "|vxnet-0"])
        new = made.get("instances", [None])[0]
        check(made.get("instance_set", {}).get(id, {}).get("instance_map") == {id: new},
              "%s: instance_set maps the old to the new" % self.name, made)
        return made["instances"]

    def cancel(self, large):
        begun = self.call("ImportImage", source=large, format="raw", force=1)
        cancelled = self.call("CancelJobs", jobs=[begun["job_id"]])
        check(cancelled.get("jobs") == [begun["job_id"]], "%s: cancelled jobs are named" % self.name, cancelled)
        deadline = time.monotonic() + 60
        job = {"status": "working"}
        while job["status"] in ("pending", "working") and time.monotonic() < deadline:
            job = self.client.call("DescribeJobs", jobs=[begun["job_id"]])["job_set"][0]
        check(job["status"] == "failed" and job["error_codes"] and "cancelled" in job["error_message"],
              "%s: and end, with the reason" % self.name, job)

    def finish(self, ids, pairs):
        job = self.do("TerminateInstances", instances=ids).get("job_id")
        for id in ids:
            self.instance(id, "terminated")
        self.do("CeaseInstances", instances=ids)
        listed = self.call("DescribeInstances", limit=0)
        check(not set(ids) & {i["instance_id"] for i in listed["instance_set"]}, "%s: what is ceased is not listed" % self.name)
        self.refused(1400, "CancelJobs", jobs=[job])
        deleted = self.call("DeleteKeyPairs", keypairs=pairs)
        check(sorted(deleted.get("keypairs", [])) == sorted(pairs), "%s: deleted pairs are named" % self.name, deleted)
        none = self.call("DescribeKeyPairs", keypairs=pairs, verbose=1)
        check(none.get("keypair_set") == [], "%s: and gone at once" % self.name, none)

    def tell(self, image, large):
        self.start_up(image)
        pair, other = self.keys()
        ids = self.run(image, pair)
        self.series(ids, image)
        self.change(ids[0], other, pair, image)
        ids += self.images(ids[0])
        ids += self.clone(ids[0])
        self.cancel(large)
        self.finish(ids, [pair, other])


def clocks(port, key, secret):
    for skew, expires, code in ((0, None, 0), (-45, None, 0), (45, None, 0), (-120, None, 1300), (120, None, 1300),
                                (-600, 1200, 0), (-600, -300, 1300), (120, 1200, 1300)):
        client = clients.PythonSdk(port, key, secret)
        client.skew = skew
        params = {} if expires is None else {"expires": clients.stamp(expires)}
        reply = client.call("DescribeZones", **params)
        check(reply["ret_code"] == code, "time_stamp %+d s, expires %s: %d" % (skew, expires, code), reply)


def forms(port, key, secret, image):
    """Single differences between clients that no whole client above shows."""
    for path in ("/iaas", "/iaas/"):
        for method in ("HmacSHA1", "HmacSHA256"):
            for post in (False, True):
                client = clients.Client(port, key, secret)
                client.path, client.method, client.post = path, method, post
                reply = client.call("DescribeImages", images=[image])
                check(reply.get("total_count") == 1, "%s %s %s" % ("POST" if post else "GET", path, method), reply)
    client = clients.Client(port, key, secret)
    for name, params in (("an empty limit is none", dict(limit="")), ("limit 0 is the default", dict(limit=0)),
                         ("a limit above 100 is 100", dict(limit=5000)), ("unknown parameters are ignored", dict(colour="red")),
                         ("empty filters are none", {"images.1": "", "status.1": "", "search_word": ""}),
                         ("a project is ignored", dict(project_id="pj-1", owner="")), ("reverse", dict(reverse=1)),
                         ("sort_key", dict(sort_key="create_time")), ("true is 1", dict(reverse="True"))):
        reply = client.call("DescribeImages", **params)
        check(reply["ret_code"] == 0 and reply["total_count"] >= 1, name, reply)
    reply = client.call("DescribeImages", search_word="no such thing")
    check(reply["total_count"] == 0 and reply["image_set"] == [], "an empty set is [] with its count", reply)
    sizes = [len(client.call("DescribeInstanceTypes")["instance_type_set"]) for _ in range(2)]
    check(sizes[0] == sizes[1] > 20, "presets", sizes)
    # The form says one thing, the header another: the body is parsed as a form all the same.
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", ""):
        client = clients.PythonSdkPost(port, key, secret)
        client.headers = (("Host", "{host}"),) + ((("Content-Type", kind),) if kind else ())
        reply = client.call("DescribeImages", images=[image])
        check(reply.get("total_count") == 1, "POST with Content-Type %r" % kind, reply)
    big = clients.PythonSdkPost(port, key, secret)
    reply = big.call("DescribeZones", filler="x" * (4 << 20))
    check(reply["ret_code"] == 0, "a body of 4 MiB", reply)


def revoked(daemon):
    """Another program's change of the record ends keys and kept replies at once."""
    key, secret, user = daemon.user("short-lived")
    client = clients.PythonSdk(daemon.port, key, secret)
    for _ in range(3):
        check(client.call("DescribeImages")["ret_code"] == 0, "the user is let in")
    second = clients.PythonSdk(daemon.port, *daemon.key("short-lived"))
    check(second.call("DescribeImages")["ret_code"] == 0, "a key added beside the running imprintd works at once")
    check(client.call("DescribeAccessKeys")["total_count"] == 2, "and is listed at once")
    daemon.run("user", "disable", "short-lived")
    for each in (client, second):
        reply = each.call("DescribeImages")
        check(reply["ret_code"] == 1200, "the very next request of a disabled user is refused", reply)
    daemon.run("user", "enable", "short-lived")
    check(client.call("DescribeImages")["ret_code"] == 0, "and let in again once enabled")
    check(second.call("DeleteAccessKeys", access_keys=[key]).get("access_keys") == [key], "DeleteAccessKeys")
    called.add("DeleteAccessKeys")
    check(client.call("DescribeImages")["ret_code"] == 1200, "a deleted key is dead at once")


def main():
    with Imprintd(sys.argv[1]) as daemon:
        admin_key, admin_secret, _ = daemon.user("root", "--admin")
        source, large = daemon.disk("disk.raw"), daemon.disk("large.raw", 16 << 10)
        daemon.start()
        admin = Story(clients.Client(daemon.port, admin_key, admin_secret), source)
        admin.do("ImportImage", source=source, format="raw", force=1, image_name="Debian 12", image_id="debian12x64",
                 visibility="public", os_family="debian", default_user="debian")
        for number, style in enumerate(clients.STYLES):
            key, secret, _ = daemon.user("user%d" % number)
            Story(style(daemon.port, key, secret), source).tell("debian12x64", large)
        key, secret, _ = daemon.user("forms")
        clocks(daemon.port, key, secret)
        forms(daemon.port, key, secret, "debian12x64")
        revoked(daemon)
        check(called == set(replies) - {"_", "DescribeJobs"}, "every action was called", (set(replies) - {"_", "DescribeJobs"}) ^ called)
        check(daemon.alive() and not daemon.complaints(), "imprintd is unharmed", daemon.complaints())
        check(daemon.stop() == 0 and not daemon.complaints(), "and ends cleanly", daemon.complaints())
    end()


main()
