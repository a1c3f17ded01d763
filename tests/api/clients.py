# SPDX-License-Identifier: Apache-2.0
"""How the public clients of the QingCloud API speak, byte for byte: what they sign, in which order, how they encode it, which
parameters they send unasked, and which headers. Each class is one of them, or one way in which they differ.

    client.call("RunInstances", image_id="debian12x64", vxnets=["vxnet-0"])     the reply, decoded
"""
import base64
import hashlib
import hmac
import http.client
import json
import random
import socket
import time
import urllib.parse
import uuid

from imprintd import ZONE


class Broken(Exception):
    """The reply is none that a client of this API could read."""


def stamp(offset=0):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset))


def escape(text):
    return urllib.parse.quote(str(text), safe="-_.~")


def flat(params):
    """Lists become name.1, name.2 …; None is left out."""
    out = {}
    for name, value in params.items():
        if isinstance(value, (list, tuple)):
            for number, item in enumerate(value, 1):
                out["%s.%d" % (name, number)] = item
        elif value is not None:
            out[name] = value
    return out


def expand(data, step, pair):
    """The data of one meter as [(time, value or None)], as the public expanders read it."""
    points = []
    for item in data:
        jump = isinstance(item, list) and (isinstance(item[1], list) or not pair)
        if not points and not jump:
            raise Broken("the first item has no time: %r" % item)
        at = points[-1][0] + (item[0] if jump else step) if points else item[0]
        points.append((at, None if item == "NA" else item[1] if jump else item))
    return points


def mac(secret, text, method="HmacSHA256"):
    digest = hashlib.sha1 if method == "HmacSHA1" else hashlib.sha256
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), digest).digest()).decode()


def chunked(body, size=7):
    """The body in pieces, as a client without Content-Length sends it."""
    out = b""
    for at in range(0, len(body), size):
        piece = body[at:at + size]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"


class Client:
    path = "/iaas/"
    headers = (("Host", "{host}"), ("Accept-Encoding", "identity"))
    post = False
    method = "HmacSHA256"
    skew = 0

    def __init__(self, port, key, secret, zone=ZONE):
        self.port, self.key, self.secret, self.zone = port, key, secret, zone
        self.socket = None

    # --- what differs from client to client

    def defaults(self, action):
        return {}

    def common(self, action):
        return {"action": action, "zone": self.zone, "req_id": uuid.uuid4().hex, "access_key_id": self.key,
                "signature_version": 1, "version": 1, "time_stamp": stamp(self.skew), "signature_method": self.method}

    def query(self, verb, params):
        """What is sent, signed."""
        text = "&".join("%s=%s" % (escape(name), escape(params[name])) for name in sorted(params))
        signature = mac(self.secret, "%s\n%s\n%s" % (verb, self.path, text), self.method)
        return text + "&signature=" + urllib.parse.quote_plus(signature)

    def body(self, verb, params):
        return self.query(verb, params).encode()

    def request(self, params):
        verb = "POST" if self.post else "GET"
        head = "".join("%s: %s\r\n" % (name, value.format(host="127.0.0.1:%d" % self.port)) for name, value in self.headers)
        if not self.post:
            return ("GET %s?%s HTTP/1.1\r\n%s\r\n" % (self.path, self.query(verb, params), head)).encode()
        body = self.body(verb, params)
        return ("POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (self.path, head, len(body))).encode() + body

    # --- the exchange

    def send(self, bytes):
        """One request on the connection that is kept; (status, headers, body)."""
        for fresh in (False, True):
            if self.socket is None or fresh:
                self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
            try:
                self.socket.sendall(bytes)
                reply = http.client.HTTPResponse(self.socket)
                reply.begin()
                return reply.status, dict((k.lower(), v) for k, v in reply.getheaders()), reply.read()
            except (http.client.HTTPException, OSError):
                self.socket.close()
                if fresh:
                    raise

    def call(self, action, **params):
        wanted = flat({**self.defaults(action), **params})
        wanted.update({name: value for name, value in self.common(action).items() if value is not None})
        status, headers, body = self.send(self.request(wanted))
        if status != 200:
            raise Broken("%s: status %d: %s" % (action, status, body[:200]))
        if headers.get("content-type") != "application/json":
            raise Broken("%s: Content-Type %s" % (action, headers.get("content-type")))
        reply = json.loads(body.decode())
        if type(reply.get("ret_code")) is not int:
            raise Broken("%s: ret_code %r" % (action, reply.get("ret_code")))
        if b'"ret_code":%d' % reply["ret_code"] not in body:
            raise Broken("%s: the reply is not compact: %s" % (action, body[:100]))
        return reply


class PythonSdk(Client):
    """qingcloud-sdk-python: sorted query, req_id, one kept connection, no User-Agent, a length of 0 with each GET."""
    headers = (("Host", "{host}"), ("Accept-Encoding", "identity"), ("Content-Length", "0"))


class PythonSdkPost(Client):
    """The same by POST: signs the sorted text, sends a form in the order in which things were added, blanks as '+'."""
    post = True
    headers = (("Host", "{host}"), ("Accept-Encoding", "identity"), ("Content-Type", "application/x-www-form-urlencoded"),
               ("Accept", "text/plain"), ("Connection", "Keep-Alive"))

    def body(self, verb, params):
        text = "&".join("%s=%s" % (escape(name), escape(params[name])) for name in sorted(params))
        signature = mac(self.secret, "POST\n%s\n%s" % (self.path, text))
        return urllib.parse.urlencode({**params, "signature": signature}).encode()


class Cli(Client):
    """qingcloud-cli: the Python SDK, with expires and with options nobody gave as empty or 0."""
    unset = {
        "DescribeImages": dict(offset=0, limit=20, verbose=0, search_word=""),
        "DescribeInstances": dict(offset=0, limit=20, verbose=0, search_word=""),
        "DescribeKeyPairs": dict(offset=0, limit=20, verbose=0, search_word=""),
        "DescribeJobs": dict(offset=0, limit=20),
        "DescribeVxnets": dict(offset=0, limit=20, verbose=0, search_word=""),
        "RunInstances": dict(instance_name="", login_passwd="", login_keypair="", hostname="", cpu_max=0, mem_max=0, nic_mqueue=0,
                             need_userdata=0, need_newsid=0, count=1, instance_type="", security_group=""),
        "ResizeInstances": dict(instance_type=""),
        "ResetInstances": dict(login_mode="", login_passwd="", login_keypair="", need_newsid=0),
        "StopInstances": dict(force=0),
        "TerminateInstances": dict(direct_cease=0),
        "CaptureInstance": dict(image_name=""),
    }

    def defaults(self, action):
        return self.unset.get(action, {})

    def common(self, action):
        return {**super().common(action), "expires": stamp(20 * 60 + self.skew)}


class GoSdk(Client):
    """qingcloud-sdk-go: /iaas, no version, no req_id, no zone for DescribeZones, and the defaults of its structs."""
    path = "/iaas"
    headers = (("Host", "{host}"), ("User-Agent", "Go-http-client/1.1"), ("Accept-Encoding", "gzip"))
    lists = dict(limit=20, offset=0, verbose=0)
    unset = {
        "DescribeInstances": dict(lists, is_cluster_node=0, not_transition=0),
        "RunInstances": dict(count=1, cpu=1, memory=1024, cpu_model="Westmere", gpu=0, need_newsid=0, need_userdata=0,
                             userdata_file="/etc/rc.local", userdata_path="/etc/qingcloud/userdata", dry_run=0),
        "CreateKeyPair": dict(encrypt_method="ssh-rsa", mode="system"),
        "ResetInstances": dict(need_newsid=0, force=0),
        "StopInstances": dict(force=0),
    }

    def defaults(self, action):
        return self.unset.get(action, self.lists if action.startswith("Describe") and action != "DescribeZones" else {})

    def common(self, action):
        common = {name: value for name, value in super().common(action).items() if name not in ("version", "req_id")}
        return {name: value for name, value in common.items() if name != "zone" or action != "DescribeZones"}


class GoSdkPost(GoSdk):
    """The same by POST: a chunked body and no Content-Type."""
    post = True

    def request(self, params):
        head = "".join("%s: %s\r\n" % (name, value.format(host="127.0.0.1:%d" % self.port)) for name, value in self.headers)
        return (("POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (self.path, head)).encode() +
                chunked(self.body("POST", params), 100))


class OldGoSdk(GoSdk):
    """The copies of it that builders and drivers carry: an empty value is signed and sent without '='."""

    def query(self, verb, params):
        pairs = []
        for name in sorted(params):
            value = str(params[name]).strip()
            pairs.append("%s=%s" % (name, urllib.parse.quote_plus(value).replace("+", "%20")) if value else name)
        text = "&".join(pairs)
        return text + "&signature=" + urllib.parse.quote_plus(mac(self.secret, "%s\n%s\n%s" % (verb, self.path, text)))

    def defaults(self, action):
        return {**super().defaults(action), **({"hostname": ""} if action == "RunInstances" else {})}


class Scripts(Client):
    """What people write themselves: SHA-1, any order of parameters and headers, lists as scalars and scalars as lists, gaps in
    the numbers, the signature anywhere and not encoded."""
    method = "HmacSHA1"
    headers = (("accept", "*/*"), ("x-anything", "at all"), ("host", "{host}"), ("user-agent", "curl/7.88.1"))

    def query(self, verb, params):
        params = dict(params)
        for name in [name for name in params if name.endswith(".1")]:
            if name[:-1] + "2" not in params:
                params[name[:-2]] = params.pop(name)  # a list of one as a scalar
            else:
                params[name[:-1] + "0"] = params.pop(name)  # numbers that do not begin at 1, with gaps
        for name in ("os_family", "search_word", "image"):
            if name in params:
                params[name + ".1"] = params.pop(name)  # a scalar as a list of one
        text = "&".join("%s=%s" % (escape(name), escape(params[name])) for name in sorted(params))
        pairs = ["%s=%s" % (escape(name), urllib.parse.quote_plus(str(params[name]))) for name in params]
        pairs.append("signature=" + mac(self.secret, "%s\n%s\n%s" % (verb, self.path, text), self.method))
        random.Random(text).shuffle(pairs)
        return "&".join(pairs)


STYLES = [PythonSdk, PythonSdkPost, Cli, GoSdk, GoSdkPost, OldGoSdk, Scripts]
