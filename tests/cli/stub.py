#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for imprintd: the query API over a few objects in memory, uploads and a console that echoes.

It is the peer of the CLI's tests, so it is strict where the CLI could be wrong: it verifies every signature by the written
procedure, refuses duplicate parameters, and records each call for a test to look at. Prints its port, then serves until its
standard input ends. What a test wants to go wrong it names in the `trouble` set (a line "+name" or "-name" on standard input).
"""
import base64
import calendar
import hashlib
import hmac
import json
import re
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY, SECRET, ZONE = "TESTACCESSKEY0000001", "testsecretkeytestsecretkey0000000000000A", "test1a"
WHEN = "2024-01-02T03:04:05Z"
trouble = set()
lock = threading.RLock()


class Refused(Exception):
    def __init__(self, code, message, **more):
        super().__init__(message)
        self.reply = dict(message=message, ret_code=code, **more)


def image(image_id, name, **more):
    return dict(dict(image_id=image_id, image_name=name, description=None, size=20, processor_type="64bit", platform="linux",
                     os_family="debian", visibility="private", provider="self", owner="usr-7Hk2mQ9z", recommended_type="",
                     status="available", transition_status="", sub_code=0, default_user="debian", family="", size_bytes=20 << 30,
                     create_time=WHEN, status_time=WHEN), **more)


def instance(instance_id, name, image_id, **more):
    return dict(dict(instance_id=instance_id, instance_name=name, description=None, instance_type="custom", vcpus_current=2,
                     memory_current=2048, status="running", transition_status="", create_time=WHEN, status_time=WHEN,
                     zone_id=ZONE, owner="usr-7Hk2mQ9z", hostname=instance_id, host_machine="lab",
                     image=dict(image_id=image_id, image_name=image_id, default_user="debian"), agent_state="connected",
                     unapplied="", keypair_ids=[],
                     vxnets=[dict(vxnet_id="vxnet-0", private_ip="10.180.11.2", nic_id="52:54:9e:01:02:03")],
                     extra=dict(os_disk_size=20)), **more)


class World:
    """All there is; fresh for each test."""

    def __init__(self):
        self.images = {"debian12x64": image("debian12x64", "Debian 12 bookworm", visibility="public", provider="system",
                                            owner="system", family="debian12"),
                       "img-0a1b2c3d": image("img-0a1b2c3d", "web golden, after \"patching\" 测试镜像的一个很长的名字")}
        self.instances = {"i-4kq0z8pw": instance("i-4kq0z8pw", "web-1", "debian12x64", keypair_ids=["kp-bn2n7700"]),
                          "i-stopped1": instance("i-stopped1", "db", "img-0a1b2c3d", status="stopped", vxnets=[])}
        self.keypairs = {"kp-bn2n7700": dict(keypair_id="kp-bn2n7700", keypair_name="k1", description=None,
                                             encrypt_method="ssh-ed25519", pub_key="AAAA", instance_ids=["i-4kq0z8pw"],
                                             create_time=WHEN)}
        self.jobs, self.users, self.access_keys = {}, {}, {KEY: dict(access_key_id=KEY, access_key_name="default",
                                                                     owner="usr-7Hk2mQ9z", status="active", create_time=WHEN)}
        self.uploads, self.calls, self.counter = {}, [], 0

    def new_id(self, prefix, length=8):
        self.counter += 1
        return prefix + hashlib.sha1(str(self.counter).encode()).hexdigest()[:length]


world = World()


# --- Signatures, by the written procedure -------------------------------------------------------------------------------

def canonical(pairs):
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    return "&".join(quote(k) + "=" + quote(v) for k, v in sorted(pairs, key=lambda kv: kv[0].encode()))


def authenticate(method, path, raw):
    pairs = urllib.parse.parse_qsl(raw, keep_blank_values=True, strict_parsing=True)
    names = [k for k, _ in pairs]
    if len(set(names)) != len(names):
        raise Refused(1100, "InvalidMessageFormat, a parameter was given twice")
    params = dict(pairs)
    for name in ("time_stamp", "access_key_id", "signature_method", "signature_version", "signature"):
        if not params.get(name):
            raise Refused(1100, "InvalidMessageFormat, parameter [%s] is missing" % name)
    if params["access_key_id"] not in world.access_keys or params["signature_method"] != "HmacSHA256":
        raise Refused(1200, "AuthFailure, unknown access key")
    signed = "%s\n%s\n%s" % (method, path, canonical([(k, v) for k, v in pairs if k != "signature"]))
    wanted = base64.b64encode(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()).decode()
    if wanted != params["signature"]:
        raise Refused(1200, "AuthFailure, signature does not match")
    if raw.split("&signature=")[0] != canonical([(k, v) for k, v in pairs if k != "signature"]):
        raise Refused(1200, "AuthFailure, the query is not sent as it was signed")
    stamp = calendar.timegm(time.strptime(params["time_stamp"], "%Y-%m-%dT%H:%M:%SZ"))
    if "skew" in trouble or abs(stamp - time.time()) > 60:
        raise Refused(1300, "RequestHasExpired, time_stamp is 3600 seconds old")
    return params


def listed(params, name):
    found = [(int(k[len(name) + 1:]), v) for k, v in params.items() if re.fullmatch(re.escape(name) + r"\.\d+", k)]
    return [v for _, v in sorted(found)] + ([params[name]] if params.get(name) else [])


# --- Actions ------------------------------------------------------------------------------------------------------------

def describe(params, things, key, list_param, title=None, filters=()):
    ids = listed(params, list_param)
    found = [t for t in things.values() if not ids or t[key] in ids]
    for name in filters:
        wanted = listed(params, name)
        found = [t for t in found if not wanted or t.get(name) in wanted]
    word = params.get("search_word", "")
    found = [t for t in found if word in t[key] or (title and word in (t[title] or ""))]
    if params.get("reverse") == "1":
        found.reverse()
    offset, limit = int(params.get("offset", 0)), min(int(params.get("limit", 20)), 100)
    return found[offset:offset + limit], len(found)


def describer(attribute, set_name, key, list_param, title=None, filters=()):
    def action(params):
        found, total = describe(params, getattr(world, attribute), key, list_param, title, filters)
        return {"total_count": total, set_name: found}
    return action


def need(things, ids, kind):
    for one in ids:
        if one not in things:
            raise Refused(2100, "ResourceNotFound, %s [%s] does not exist" % (kind, one))


def job(action, ids, polls=2, total_bytes=0, done=None, **more):
    job_id = world.new_id("j-", 11)
    world.jobs[job_id] = dict(job_id=job_id, job_action=action, status="working", resource_ids=" ".join(ids),
                              owner="usr-7Hk2mQ9z", error_codes="", directive="", error_message="", done_bytes=0,
                              total_bytes=total_bytes, rate_bytes=1 << 20, percent=0, create_time=WHEN, status_time=WHEN,
                              items=[dict(resource_id=i, status="working", step=1, error_code="", ret_code=0, message="")
                                     for i in ids], _polls=polls, _all=polls, _done=done, **more)
    return job_id


def advance(one):
    if one["status"] != "working" or "stuck" in trouble:
        return
    one["_polls"] -= 1
    part = 1 - one["_polls"] / one["_all"] if one["_all"] else 1
    one["done_bytes"], one["percent"] = int(one["total_bytes"] * part), int(part * 100)
    if one["_polls"] > 0:
        return
    one["status"], one["percent"] = "successful", 100
    failing = one["items"] if "job-fails" in trouble else one["items"][1:] if "job-partly" in trouble else []
    for item in one["items"]:
        item["status"] = "done"
    for item in failing:
        item.update(status="failed", error_code="NO_SPACE", ret_code=5200, message="pool local: the pool is full")
        one.update(status="failed", error_message=item["message"], error_codes="5200")
    if not failing and one["_done"]:
        one["_done"]()


def describe_jobs(params):
    found, total = describe(params, world.jobs, "job_id", "jobs", None, ("status", "job_action"))
    for one in found:
        advance(one)
    return dict(total_count=total, job_set=[{k: v for k, v in one.items() if not k.startswith("_")} for one in found])


def change(things, ids, **attributes):
    for one in ids:
        things[one].update(attributes)


def on_instances(action, allowed, cannot, during, **after):
    def run(params):
        ids = listed(params, "instances")
        need(world.instances, ids, "instance")
        for one in ids:
            if world.instances[one]["status"] not in allowed:
                raise Refused(1400, "PermissionDenied, instance [%s] is not %s, can not be %s" % (one, allowed[0], cannot))
        change(world.instances, ids, transition_status=during)
        final = dict(after, transition_status="")
        if action == "ResizeInstances":
            final.update({to: int(params[name]) for name, to in (("cpu", "vcpus_current"), ("memory", "memory_current"))
                          if name in params})
        if action == "TerminateInstances" and params.get("direct_cease") == "1":
            final["status"] = "ceased"
        return dict(job_id=job(action, ids, done=lambda: change(world.instances, ids, **final)))
    return run


def run_instances(params):
    if params["image_id"] not in world.images and params["image_id"] != "debian12":
        raise Refused(2100, "ResourceNotFound, image [%s] does not exist" % params["image_id"])
    ids = []
    for _ in range(int(params.get("count", 1))):
        one = world.new_id("i-")
        ids.append(one)
        world.instances[one] = instance(one, params.get("instance_name", ""), params["image_id"], status="pending",
                                        transition_status="creating", vcpus_current=int(params.get("cpu", 1)),
                                        memory_current=int(params.get("memory", 1024)),
                                        keypair_ids=[params["login_keypair"]] if params.get("login_keypair") else [],
                                        vxnets=[dict(vxnet_id=v, private_ip="10.180.11.9") for v in listed(params, "vxnets")])
    status = "stopped" if params.get("start") == "0" else "running"
    return dict(instances=ids, job_id=job("RunInstances", ids, done=lambda: change(world.instances, ids, status=status,
                                                                                   transition_status="")))


def clone_instances(params):
    ids = listed(params, "instances")
    need(world.instances, ids, "instance")
    made = [world.new_id("i-") for _ in ids]
    for old, new in zip(ids, made):
        world.instances[new] = dict(world.instances[old], instance_id=new)
    return dict(job_id=job("CloneInstances", made), instances=made, instance_set={})


def import_image(params):
    one = params.get("image_id") or world.new_id("img-")
    if one in world.images:
        raise Refused(2110, "ResourceExists, image [%s] exists already" % one)
    if params.get("source", "").startswith("/") and "no-paths" in trouble:
        raise Refused(1400, "PermissionDenied, access denied for path [%s]" % params["source"])
    world.images[one] = image(one, params.get("image_name", ""), status="pending", transition_status="creating",
                              family=params.get("family", ""), visibility=params.get("visibility", "private"))
    done = lambda: change(world.images, [one], status="available", transition_status="")
    if "source" in params:
        return dict(image_id=one, job_id=job("ImportImage", [one], 3, 300 << 20, done))
    world.uploads[one] = dict(data=b"", done=done, job="")
    return dict(image_id=one, job_id="")


def capture(params):
    need(world.instances, [params["instance"]], "instance")
    if world.instances[params["instance"]]["status"] != "stopped":
        raise Refused(1400, "PermissionDenied, instance [%s] is not stopped, can not be captured" % params["instance"])
    one = world.new_id("img-")
    world.images[one] = image(one, params.get("image_name", ""), status="pending", transition_status="creating")
    return dict(image_id=one, job_id=job("CaptureInstance", [one], done=lambda: change(world.images, [one], status="available",
                                                                                       transition_status="")))


def clone_images(params):
    need(world.images, [params["image"]], "image")
    made = [world.new_id("img-") for _ in range(int(params.get("count", 1)))]
    for one in made:
        world.images[one] = image(one, params.get("image_name", ""))
    return dict(images=made, job_id=job("CloneImages", made))


def delete_images(params):
    ids = listed(params, "images")
    need(world.images, ids, "image")
    for one in ids:
        if world.images[one]["provider"] == "system":
            raise Refused(1400, "PermissionDenied, access denied: image [%s] belongs to [system]" % one)
    return dict(job_id=job("DeleteImages", ids, done=lambda: change(world.images, ids, status="deleted")))


def modifier(attribute, param, fields):
    def action(params):
        need(getattr(world, attribute), [params[param]], param)
        getattr(world, attribute)[params[param]].update({k: params[k] for k in fields if k in params})
        return {}
    return action


def create_keypair(params):
    if params["mode"] == "user" and "public_key" not in params:
        raise Refused(1100, "InvalidMessageFormat, parameter [public_key] is missing")
    one = world.new_id("kp-")
    world.keypairs[one] = dict(keypair_id=one, keypair_name=params.get("keypair_name", ""), description=None,
                               encrypt_method=params.get("encrypt_method", "ssh-rsa"), pub_key="AAAA", instance_ids=[],
                               create_time=WHEN)
    private = "" if params["mode"] == "user" else "-----BEGIN OPENSSH PRIVATE KEY-----\nxxxx\n-----END OPENSSH PRIVATE KEY-----\n"
    return dict(keypair_id=one, private_key=private)


def delete_keypairs(params):
    ids = listed(params, "keypairs")
    need(world.keypairs, ids, "key pair")
    for one in ids:
        if world.keypairs[one]["instance_ids"]:
            raise Refused(1400, "PermissionDenied, key pair [%s] is in use by instance [%s], can not be deleted"
                          % (one, world.keypairs[one]["instance_ids"][0]))
    for one in ids:
        del world.keypairs[one]
    return dict(keypairs=ids)


def attach(action):
    def run(params):
        need(world.keypairs, listed(params, "keypairs"), "key pair")
        need(world.instances, listed(params, "instances"), "instance")
        return dict(job_id=job(action, listed(params, "instances")))
    return run


def get_ssh(params):
    need(world.instances, [params["instance"]], "instance")
    if world.instances[params["instance"]]["status"] != "running":
        raise Refused(1400, "PermissionDenied, instance [%s] is not running, can not be reached" % params["instance"])
    return dict(instance_id=params["instance"], host="127.0.0.1", port=2222, user="debian")


def cancel_jobs(params):
    ids = listed(params, "jobs")
    need(world.jobs, ids, "job")
    for one in ids:
        world.jobs[one].update(status="failed", error_message="cancelled")
    return dict(jobs=ids)


def create_user(params):
    one = world.new_id("usr-")
    world.users[one] = dict(user_id=one, user_name=params["user_name"], email=params.get("email", ""), role=params["role"],
                            status="active", create_time=WHEN)
    return dict(user_id=one)


def create_access_key(params):
    if not any(u["user_name"] == params["user_name"] for u in world.users.values()):
        raise Refused(2100, "ResourceNotFound, user [%s] does not exist" % params["user_name"])
    one = "NEWACCESSKEY00000001"
    world.access_keys[one] = dict(access_key_id=one, access_key_name=params.get("access_key_name", ""), owner="usr-1",
                                  status="active", create_time=WHEN)
    return dict(access_key_id=one, secret_access_key="onlyshownonce")


def delete_access_keys(params):
    ids = listed(params, "access_keys")
    need(world.access_keys, ids, "access key")
    for one in ids:
        if one != KEY:
            del world.access_keys[one]
    return dict(access_keys=ids)


def check_pool(_params):
    dirty = "dirty-pool" in trouble
    return dict(clean=not dirty, layers=7, busy=1, orphans=["layer l-1 is in the pool, but in no record"] if dirty else [],
                missing=[], wrong=[])


def usage(_params):
    return dict(pool_total_bytes=100 << 30, pool_free_bytes=60 << 30, pool_used_bytes=40 << 30, total_count=2, usage_set=[
        dict(resource_id="debian12x64", resource_type="image", virtual_bytes=20 << 30, own_bytes=900 << 20, shared_bytes=0),
        dict(resource_id="i-4kq0z8pw", resource_type="instance", virtual_bytes=20 << 30, own_bytes=193 << 10,
             shared_bytes=900 << 20)])


def types(params):
    every = {n: dict(instance_type_id=n, instance_type_name=n, vcpus_current=c, memory_current=m * 1024, instance_class=0,
                     status="available") for n, c, m in (("c1m1", 1, 1), ("c2m4", 2, 4))}
    wanted = listed(params, "instance_types")
    found = [t for n, t in every.items() if not wanted or n in wanted]
    return dict(instance_type_set=found, total_count=len(found))


def get_monitor(params):
    """cpu: 10, 25, none, 50 and, after 15 minutes, 100 %; pairs: three values; of memory nothing."""
    need({**world.instances, "vol-f9ufyi00": None}, [params["resource"]], "resource")
    start = calendar.timegm(time.strptime(params["start_time"], "%Y-%m-%dT%H:%M:%SZ"))
    data = {"cpu": [[start + 300, 100], 250, "NA", 500, [900, 1000]], "memory": []}
    pair = [[start, [1024, 0]], [2048, 1 << 20], [600, [512, 0]]]
    if "colour" in listed(params, "meters"):
        raise Refused(1100, "InvalidMessageFormat, meter [colour] is not known of [%s]" % params["resource"])
    return dict(resource_id=params["resource"], meter_set=[
        dict(meter_id=m[3:] if m.startswith("if-") else m, data=[] if "quiet-machine" in trouble else data.get(m, pair))
        for m in listed(params, "meters")])


ACTIONS = {
    "GetMonitor": get_monitor,
    "DescribeZones": lambda _: dict(total_count=1, zone_set=[dict(zone_id=ZONE, status="active")]),
    "DescribeVxnets": lambda _: dict(total_count=1, vxnet_set=[dict(
        vxnet_id="vxnet-0", vxnet_name="vxnet-0", vxnet_type=2, mode="bridge", ip_network="10.180.0.0/20",
        gateway="10.180.0.1", available_ip_count=4092, description="bridge imbr0 on the host")]),
    "DescribeImages": describer("images", "image_set", "image_id", "images", "image_name",
                                ("status", "provider", "os_family", "family")),
    "ImportImage": import_image, "CaptureInstance": capture, "CloneImages": clone_images, "DeleteImages": delete_images,
    "ModifyImageAttributes": modifier("images", "image", ("image_name", "description")),
    "DescribeInstances": describer("instances", "instance_set", "instance_id", "instances", "instance_name", ("status",)),
    "RunInstances": run_instances, "CloneInstances": clone_instances, "GetInstanceSSH": get_ssh,
    "StartInstances": on_instances("StartInstances", ["stopped"], "started", "starting", status="running"),
    "StopInstances": on_instances("StopInstances", ["running"], "stopped", "stopping", status="stopped"),
    "RestartInstances": on_instances("RestartInstances", ["running"], "restarted", "restarting"),
    "TerminateInstances": on_instances("TerminateInstances", ["running", "stopped"], "terminated", "terminating",
                                       status="terminated"),
    "CeaseInstances": on_instances("CeaseInstances", ["terminated"], "ceased", "terminating", status="ceased"),
    "ResizeInstances": on_instances("ResizeInstances", ["stopped"], "resized", "updating"),
    "ResetInstances": on_instances("ResetInstances", ["running", "stopped"], "reset", "resetting"),
    "ModifyInstanceAttributes": modifier("instances", "instance", ("instance_name", "description")),
    "DescribeInstanceTypes": types,
    "DescribeKeyPairs": describer("keypairs", "keypair_set", "keypair_id", "keypairs", "keypair_name"),
    "CreateKeyPair": create_keypair, "DeleteKeyPairs": delete_keypairs, "AttachKeyPairs": attach("AttachKeyPairs"),
    "DetachKeyPairs": attach("DetachKeyPairs"),
    "ModifyKeyPairAttributes": modifier("keypairs", "keypair", ("keypair_name", "description")),
    "DescribeJobs": describe_jobs, "CancelJobs": cancel_jobs,
    "DescribeAccessKeys": describer("access_keys", "access_key_set", "access_key_id", "access_keys", "access_key_name"),
    "DeleteAccessKeys": delete_access_keys, "CheckPool": check_pool, "DescribeUsage": usage,
    "DescribeUsers": describer("users", "user_set", "user_id", "users"), "CreateUser": create_user,
    "CreateAccessKey": create_access_key,
}


def answer(method, path, raw):
    params = authenticate(method, path, raw)
    action = params.get("action", "")
    world.calls.append(params)
    if action not in ACTIONS:
        raise Refused(1101, "InvalidRequestMethod, action [%s] is not known" % action)
    if action != "DescribeZones" and params.get("zone") != ZONE:
        raise Refused(1400, "PermissionDenied, access denied for zone [%s]" % params.get("zone"))
    if "full-house" in trouble and action == "RunInstances":
        raise Refused(2500, "QuotasExceeded, 0 instances left")
    return dict({"action": action + "Response", "ret_code": 0}, **ACTIONS[action](params))


# --- HTTP ---------------------------------------------------------------------------------------------------------------

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # whoever asked has gone: tests interrupt the CLI

    def reply(self, value, content_type="application/json"):
        body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self, method, raw_body=None):
        path, _, query = self.path.partition("?")
        try:
            if "foreign" in trouble:
                return self.reply(b"<html>It works!</html>", "text/html")
            if "hang-up" in trouble:
                self.close_connection = True
                return None
            with lock:
                if path == "/stub/calls":
                    return self.reply(world.calls)
                if path.startswith("/instances/"):
                    return self.instance_page(path, query)
                if path not in ("/iaas/", "/iaas"):
                    return self.send_error(404)
                return self.reply(answer(method, path, query if raw_body is None else raw_body))
        except Refused as refused:
            return self.reply(refused.reply)

    upgraded = False

    def do_GET(self):
        self.serve("GET")
        if self.upgraded:
            try:
                console(self.connection, self.rfile)
            except OSError:
                pass  # the CLI left

    def do_POST(self):
        self.serve("POST", self.rfile.read(int(self.headers["Content-Length"])).decode())

    # Uploads: "bytes */TOTAL" asks, "bytes FIRST-LAST/TOTAL" sends.
    def do_PUT(self):
        path, _, query = self.path.partition("?")
        image_id = path.rpartition("/")[2]
        try:
            with lock:
                authenticate("PUT", path, query)
                if image_id not in world.uploads:
                    raise Refused(2100, "ResourceNotFound, image [%s] does not exist" % image_id)
            self.upload(image_id, world.uploads[image_id])
        except Refused as refused:
            self.close_connection = True
            self.reply(refused.reply)

    def upload(self, image_id, up):
        ask = re.fullmatch(r"bytes \*/(\d+)", self.headers["Content-Range"])
        part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", self.headers["Content-Range"])
        total = int((ask or part)[ask and 1 or 3])
        if part:
            if int(part[1]) != len(up["data"]):
                raise Refused(1400, "PermissionDenied, upload of image [%s] goes on at byte %d, not at %s, please try later"
                              % (image_id, len(up["data"]), part[1]))
            left = int(self.headers["Content-Length"])
            while left > 0:
                piece = self.rfile.read(min(left, 65536))
                up["data"] += piece
                left -= len(piece)
                if "break-upload" in trouble and len(up["data"]) > total // 2:
                    trouble.discard("break-upload")
                    self.close_connection = True
                    self.connection.close()
                    return
                if "slow-upload" in trouble:
                    time.sleep(0.01)
        reply = dict(ret_code=0, image_id=image_id, received_bytes=len(up["data"]), total_bytes=total)
        if len(up["data"]) == total:
            up["job"] = up["job"] or job("ImportImage", [image_id], 3, total, up["done"])
            world.calls.append(dict(action="upload", image_id=image_id, sha256=hashlib.sha256(up["data"]).hexdigest()))
            reply["job_id"] = up["job"]
        self.reply(reply)

    # The console: a WebSocket that greets, echoes, pings once, and ends when "quit" is typed.
    def instance_page(self, path, query):
        authenticate("GET", path, query)
        _, _, instance_id, page = path.split("/")
        need(world.instances, [instance_id], "instance")
        if page == "console.log":
            return self.reply(b"[    0.000000] Linux version 6.1\r\nlogin: ", "text/plain")
        if world.instances[instance_id]["status"] != "running":
            raise Refused(1400, "PermissionDenied, instance [%s] is not running, has no console" % instance_id)
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.wfile.write(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(accept).decode()).encode())
        self.close_connection = True
        self.upgraded = True
        return None


def console(connection, rfile):
    def send(op, payload):
        head = struct.pack("!BB", 0x80 | op, len(payload)) if len(payload) < 126 else \
            struct.pack("!BBH", 0x80 | op, 126, len(payload)) if len(payload) < 65536 else \
            struct.pack("!BBQ", 0x80 | op, 127, len(payload))
        connection.sendall(head + payload)

    send(2, b"login: ")
    send(9, b"are you there")
    typed, ponged = b"", False
    while True:
        head = rfile.read(2)
        if len(head) < 2 or not head[1] & 0x80:
            break
        length = head[1] & 0x7f
        if length == 126:
            length = struct.unpack("!H", rfile.read(2))[0]
        mask = rfile.read(4)
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(rfile.read(length)))
        op = head[0] & 0x0f
        if op == 8:
            break
        if op == 10:
            ponged = ponged or payload == b"are you there"
        else:
            typed += payload
            send(2, payload)
        if b"flood" in typed:
            typed = b""
            send(2, b"x" * 100000 + b"END\r\n")
        if b"quit" in typed and ponged:
            send(2, b"bye, pong was heard\r\n")
            send(8, struct.pack("!H", 1000))
            break


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "fresh":
            globals()["world"] = World()
            trouble.clear()
        elif word.startswith("+"):
            trouble.add(word[1:])
        elif word.startswith("-"):
            trouble.discard(word[1:])
        print("ok", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()
