#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes on their way in: uploads in pieces, broken off and gone on with, full disks, URLs through proxies and over bad
lines, paths that lead elsewhere. The real command line, imprintd and worker.

Usage: test-upload.py IMPRINTD IMPRINT WORKER"""
import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
if os.geteuid() == 0 and "IMPRINT_OWN_MOUNTS" not in os.environ:  # for a disk that is soon full
    os.environ["IMPRINT_OWN_MOUNTS"] = "1"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0:
        os.execvp("unshare", ["unshare", "--mount", "--", sys.executable, *sys.argv])
    del os.environ["IMPRINT_OWN_MOUNTS"]

from world import World, check, main, note, wait_for  # noqa: E402

MIB = 1 << 20
BOOT = b"\xeb\xfe\x90\x90".ljust(510, b"\0") + b"\x55\xaa"
PLAIN = {"virt_uri": "memory:", "import_private_addresses": "yes"}

world = World(**PLAIN)


def disk(name, size, folder=None):
    path = os.path.join(folder or world.disks, name)
    with open(path, "wb") as file:
        file.write(BOOT + os.urandom(size - 512))
    with open(path, "rb") as file:
        return path, "sha256:" + hashlib.sha256(file.read()).hexdigest()


def prepare():
    world.start()


def arrived(image, digest, text):
    found = world.one("image", image)
    return check(found["status"] == "available" and found["digest"] == digest, text, found)


def drop(*images):
    world.do("image", "delete", *images, "--now")


# --- Requests of our own making -----------------------------------------------------------------------------------------

def signed(method, path, **params):
    params.update(access_key_id=world.key["access_key_id"], signature_method="HmacSHA256", signature_version="1",
                  version="1", time_stamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), zone="local1a")
    query = "&".join("%s=%s" % (name, urllib.parse.quote(params[name], safe="-_.~")) for name in sorted(params))
    digest = hmac.new(world.key["secret_access_key"].encode(), ("%s\n%s\n%s" % (method, path, query)).encode(),
                      hashlib.sha256).digest()
    return "%s?%s&signature=%s" % (path, query, urllib.parse.quote(base64.b64encode(digest).decode(), safe=""))


def ask(method, path, body=None, headers=None, **params):
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
    connection.request(method, signed(method, path, **params), body, headers or {})
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


def begin_upload(**params):
    return ask("GET", "/iaas/", action="ImportImage", image_name="piecewise", **params)["image_id"]


def put(image, body, where):
    return ask("PUT", "/data/images/" + image, body, {"Content-Range": "bytes " + where})


class Slow:
    """A PUT that has sent its headers and a part of its body."""

    def __init__(self, image, body, where):
        path = signed("PUT", "/data/images/" + image)
        self.socket = socket.create_connection(("127.0.0.1", world.port), 60)
        self.socket.sendall(("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nContent-Range: bytes %s\r\n\r\n" %
                             (path, len(body), where)).encode())
        self.body = body

    def send(self, count):
        self.socket.sendall(self.body[:count])
        self.body = self.body[count:]

    def reply(self):
        text = b""
        while b"}" not in text:
            got = self.socket.recv(65536)
            if not got:
                break
            text += got
        return json.loads(text[text.index(b"{"):])


def received(image):
    try:
        return os.path.getsize(os.path.join(world.state, "uploads", image + ".part"))
    except OSError:
        return -1


def pieces():
    path, digest = disk("pieces.raw", 3 * MIB)
    with open(path, "rb") as file:
        body = file.read()
    total = len(body)
    image = begin_upload(digest=digest)
    reply = put(image, body[:MIB], "0-%d/%d" % (MIB - 1, total))
    check(reply["ret_code"] == 0 and reply["received_bytes"] == MIB and "job_id" not in reply, "a first piece", reply)
    for where, what in (("%d-%d/%d" % (2 * MIB, total - 1, total), "a piece that leaves a gap"),
                        ("0-%d/%d" % (MIB - 1, total), "a piece that is there already")):
        reply = put(image, body[:MIB], where)
        check(reply["ret_code"] != 0 and "goes on at byte %d" % MIB in reply["message"] and reply["received_bytes"] == MIB,
              "%s is refused, and told where it goes on" % what, reply)
    for where in ("5-2/9", "x-y/z", "0-9", "%d-%d/%d" % (MIB, total, total), "*/x"):
        reply = put(image, b"x", where)
        check(reply["ret_code"] == 1100 and "Content-Range" in reply["message"], "bytes %s is no range" % where, reply)
    reply = put(image, body[MIB:MIB + 9], "%d-%d/%d" % (MIB, MIB + 4, total))
    check(reply["ret_code"] == 1100 and "longer than was announced" in reply["message"], "a body longer than its range", reply)
    reply = ask("PUT", "/data/images/" + image, None, {"Content-Range": "bytes */%d" % total})
    at = reply["received_bytes"]
    check(reply["ret_code"] == 0 and MIB <= at <= MIB + 5, "the state is told", reply)

    first = Slow(image, body[at:2 * MIB], "%d-%d/%d" % (at, 2 * MIB - 1, total))
    first.send(1000)
    check(wait_for(lambda: received(image) >= at + 1000, 60), "one client sends")
    reply = put(image, body[at:], "%d-%d/%d" % (at, total - 1, total))
    check("another request" in reply["message"], "a second one is told to wait", reply)
    first.send(2 * MIB)
    reply = first.reply()
    check(reply["ret_code"] == 0 and reply["received_bytes"] == 2 * MIB, "and does the first no harm", reply)

    cut = Slow(image, body[2 * MIB:], "%d-%d/%d" % (2 * MIB, total - 1, total))
    cut.send(100000)
    check(wait_for(lambda: received(image) >= 2 * MIB + 100000, 60), "a client sends a part")
    world.restart()
    cut.socket.close()
    reply = ask("PUT", "/data/images/" + image, None, {"Content-Range": "bytes */%d" % total})
    at = reply["received_bytes"]
    check(2 * MIB <= at < total, "what arrived is there after kill -9 of imprintd", reply)
    reply = put(image, body[at:], "%d-%d/%d" % (at, total - 1, total))
    check(reply["ret_code"] == 0 and reply.get("job_id"), "the last piece begins the import", reply)
    wait_for(lambda: world.one("image", image)["status"] == "available")
    arrived(image, digest, "and the pieces are the file")
    reply = put(image, b"x", "0-0/1")
    check(reply["ret_code"] != 0 and "waits for no upload" in reply["message"], "afterwards nothing more is taken", reply)
    reply = ask("PUT", "/data/images/img-none0000", b"x", {"Content-Range": "bytes 0-0/1"})
    check(reply["ret_code"] == 2100, "nor for an image that is not there", reply)
    admin = world.key
    world.add_user("other")
    other = begin_upload()
    world.key, mine = admin, world.key
    drop(image, other)
    mine_image = begin_upload()
    world.key = mine
    reply = put(mine_image, b"x", "0-0/1")
    check(reply["ret_code"] in (2100, 1400), "nor from another user", reply)
    check(received(mine_image) <= 0, "whose bytes are not kept")
    world.key = admin
    drop(mine_image)


# --- The command line over a bad line -----------------------------------------------------------------------------------

class Line:
    """Between the command line and imprintd: lets so many bytes through, then none until it is mended."""

    def __init__(self, most):
        self.most, self.passed, self.mended = most, 0, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", world.port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            while True:
                bytes = source.recv(65536)
                if not bytes:
                    break
                if counted:
                    self.passed += len(bytes)
                    if self.passed > self.most:
                        self.mended.wait()
                sink.sendall(bytes)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stuck(self):
        return wait_for(lambda: self.passed > self.most, 60)


def begin(line, *words):
    port, world.port = world.port, line.port
    process = world.begin("image", "import", *words, "--wait", "-q")
    world.port = port
    return process


def waiting_image():
    return next(image["image_id"] for image in world.json("image", "list") if image["status"] == "pending")


def broken():
    path, digest = disk("long.raw", 64 * MIB)  # more than sockets hold: the end of it is with the command line alone
    line = Line(3 * MIB)
    process = begin(line, path)
    check(line.stuck(), "the command line uploads over a line that gets stuck")
    image = waiting_image()
    wait_for(lambda: received(image) > MIB, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    line.mended.set()
    result = world.imprint("image", "import", path, "--resume", image, "--wait", "-q")
    check(result.status == 0, "after kill -9 of the command line --resume ends the upload", result)
    arrived(image, digest, "with the right bytes")
    drop(image)

    path, digest = disk("broken.raw", 8 * MIB)
    line = Line(3 * MIB)
    process = begin(line, path)
    line.stuck()
    image = waiting_image()
    wait_for(lambda: received(image) > MIB, 60)
    world.restart()
    line.mended.set()
    out, err = process.communicate(timeout=120)
    check(process.returncode == 0, "after kill -9 of imprintd the command line goes on by itself", err)
    arrived(image, digest, "with the right bytes")
    drop(image)

    with open(path, "rb") as file:
        body = file.read()
    image = begin_upload()
    put(image, body[:MIB], "0-%d/%d" % (MIB - 1, len(body)))
    line = Line(900)  # the question passes, what is sent then does not
    process = begin(line, path, "--resume", image)
    line.stuck()
    put(image, body[MIB:], "%d-%d/%d" % (MIB, len(body) - 1, len(body)))
    line.mended.set()
    out, err = process.communicate(timeout=120)
    check(process.returncode == 0, "an upload that another connection ends meanwhile is followed", err)
    arrived(image, digest, "to its end")
    drop(image)

    image = begin_upload()
    put(image, os.urandom(9 * MIB), "0-%d/%d" % (9 * MIB - 1, 20 * MIB))
    result = world.imprint("image", "import", path, "--resume", image, "--wait", "-q")
    check(result.status == 1 and "another file" in result.err, "an upload of a larger file is not gone on with", result)
    drop(image)
    check(received(image) == -1, "its bytes go with the image that is given up")


# --- Full disks ---------------------------------------------------------------------------------------------------------

def full():
    if "IMPRINT_OWN_MOUNTS" not in os.environ:
        note("skipped: a small disk of our own needs root")
        return
    path, digest = disk("full.raw", 12 * MIB)
    world.kill(15)
    small = os.path.join(world.folder, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "small", small], check=True)
    try:
        world.configure(storage_uri="local:" + os.path.join(small, "pool"), **PLAIN)
        world.start()
        result = world.imprint("image", "import", path, "--server-path", "--wait")
        check(result.status == 1 and "No space left" in result.err, "a full pool fails the import with the reason", result)
        check(not world.json("image", "list"), "and leaves no image")
        check(wait_for(lambda: not os.listdir(os.path.join(small, "pool", "layers")), 60), "and no file")
        check(world.pool_clean(), "the pool is clean")
        other, digest = disk("fits.raw", 2 * MIB)
        image = world.do("image", "import", other, "--server-path")
        arrived(image, digest, "a smaller one fits")
        drop(image)
        world.kill(15)

        uploads = os.path.join(world.state, "uploads")
        world.configure(**PLAIN)
        subprocess.run(["mount", "--bind", small, uploads], check=True)
        filler = os.path.join(small, "filler")
        with open(filler, "wb") as file:
            file.write(bytes(6 * MIB))
        world.start()
        image = begin_upload()
        body = os.urandom(3 * MIB)
        reply = put(image, body, "0-%d/%d" % (len(body) - 1, len(body)))
        check(reply["ret_code"] == 5200 and "No space left" in reply["message"],
              "an upload onto a full disk is refused", reply)
        os.unlink(filler)
        at = ask("PUT", "/data/images/" + image, None, {"Content-Range": "bytes */%d" % len(body)})["received_bytes"]
        body = BOOT + body[512:] if at == 0 else body
        reply = put(image, body[at:], "%d-%d/%d" % (at, len(body) - 1, len(body)))
        check(reply["ret_code"] == 0 and reply["received_bytes"] == len(body), "and goes on when there is room", reply)
        wait_for(lambda: world.one("image", image)["status"] != "pending")
        world.kill(15)
        subprocess.run(["umount", uploads], check=True)
    finally:
        subprocess.run(["umount", "-l", small], check=True)
        world.start()


# --- URLs ---------------------------------------------------------------------------------------------------------------

class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body, asked, gate, most = b"", [], threading.Event(), None

    def log_message(self, *words):
        pass

    def do_GET(self):
        span = self.headers.get("Range")
        begin = int(span[6:].split("-")[0]) if span and self.headers.get("If-Range") == '"one"' else 0
        Server.asked.append((self.path, begin))
        self.send_response(206 if begin else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(Server.body) - begin))
        if begin:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(Server.body) - 1, len(Server.body)))
        self.end_headers()
        end = len(Server.body)
        try:
            if self.path.endswith("/stuck") and begin == 0:
                self.wfile.write(Server.body[:2 * MIB])
                self.wfile.flush()
                Server.gate.wait(120)
                return
            if self.path.endswith("/pieces"):
                end = min(end, begin + MIB)
            self.wfile.write(Server.body[begin:end])
        except OSError:
            pass
        self.close_connection = True


def urls():
    path, digest = disk("url.raw", 4 * MIB)
    with open(path, "rb") as file:
        Server.body = file.read()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = "http://127.0.0.1:%d" % server.server_port
    image = world.do("image", "import", base + "/pieces", "--digest", digest)
    arrived(image, digest, "connections that break are gone on with")
    check([begin for _, begin in Server.asked] == [0, MIB, 2 * MIB, 3 * MIB], "from where they broke", Server.asked)
    drop(image)

    Server.asked.clear()
    process = world.begin("image", "import", base + "/stuck", "--digest", digest, "-q")
    process.wait()
    image = waiting_image()
    check(wait_for(lambda: received(image) >= 2 * MIB, 60), "a server gets stuck")
    world.kill()
    Server.gate.set()
    world.start()
    wait_for(lambda: world.one("image", image)["status"] == "available")
    arrived(image, digest, "after kill -9 of imprintd the fetch goes on")
    begins = [begin for _, begin in Server.asked]
    try:
        os.setxattr(path, "user.imprint.test", b"x")
        check(begins == [0, 2 * MIB], "from what was there", begins)
    except OSError:
        note("this file system keeps no attributes: the fetch begins anew")
    drop(image)

    Server.asked.clear()
    world.kill(15)
    world.configure(virt_uri="memory:", import_proxy=base)
    world.start()
    image = world.do("image", "import", "http://nowhere.invalid/disk.raw", "--digest", digest)
    arrived(image, digest, "a fetch through the proxy of the configuration")
    check(Server.asked == [("http://nowhere.invalid/disk.raw", 0)], "which is asked for the whole address", Server.asked)
    drop(image)
    secret = world.imprint("image", "import", "http://user:geheim@nowhere.invalid/disk.raw", "--wait", "-q")
    shown = json.dumps(world.one("image", secret.out.strip())) + json.dumps(world.json("job", "list")) + secret.err
    with open(world.log) as file:
        shown += file.read()
    check(secret.status == 0 and "geheim" not in shown, "a password in an address is shown nowhere")
    drop(secret.out.strip())
    world.kill(15)
    world.configure(**PLAIN)
    world.start()


# --- Paths --------------------------------------------------------------------------------------------------------------

def paths():
    outside = os.path.join(world.folder, "outside")
    os.mkdir(outside)
    path, _ = disk("secret.raw", MIB, outside)
    beside = world.disks + "-beside"
    os.mkdir(beside)
    disk("near.raw", MIB, beside)
    inside, digest = disk("inside.raw", MIB)
    os.symlink(path, os.path.join(world.disks, "link.raw"))
    os.symlink(outside, os.path.join(world.disks, "folder"))
    os.symlink("inside.raw", os.path.join(world.disks, "within.raw"))
    os.mkfifo(os.path.join(world.disks, "pipe"))
    elsewhere = "not below a folder"
    for name, word, text in (
            (path, elsewhere, "a file outside"), (os.path.join(beside, "near.raw"), elsewhere, "a folder with a longer name"),
            (os.path.join(world.disks, "link.raw"), elsewhere, "a link that leads out"),
            (os.path.join(world.disks, "folder/secret.raw"), elsewhere, "a folder that leads out"),
            (os.path.join(world.disks, "../outside/secret.raw"), elsewhere, "a way up"),
            ("/proc/self/environ", elsewhere, "a file of the kernel"),
            ("/dev/zero", elsewhere, "a device"),
            (os.path.join(world.disks, "pipe"), "not a regular file", "a pipe"),
            (world.disks + "/", "not", "a folder"),
            (os.path.join(world.disks, "none.raw"), "cannot be opened", "a file that is not there"),
            ("inside.raw", "absolute", "a path that does not say from where")):
        reply = ask("GET", "/iaas/", action="ImportImage", source=name)
        check(reply["ret_code"] in (1100, 1400) and word in reply.get("message", ""), "%s is refused" % text, reply)
    check(not world.json("image", "list"), "none of them became an image")
    image = world.do("image", "import", os.path.join(world.disks, "within.raw"), "--server-path")
    arrived(image, digest, "a link that stays inside is fine")
    drop(image)

    world.kill(15)
    world.configure(import_paths="", **PLAIN)
    world.start()
    reply = ask("GET", "/iaas/", action="ImportImage", source=inside)
    check(reply["ret_code"] == 1400 and "import_paths" in reply["message"], "without folders nothing is read from paths",
          reply)


main(prepare, pieces, broken, full, urls, paths)
