#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images on their way out: each format compared with what came in and brought in again; downloads broken off and gone on
with, by curl and by the command line; imprintd killed in the middle; full disks; other people's images. The real command
line, imprintd and worker.

Usage: test-export.py IMPRINTD IMPRINT WORKER"""
import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
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
PLAIN = {"virt_uri": "memory:"}
FORMATS = {"qcow2": "qcow2", "raw": "raw", "raw.zst": None, "vmdk": "vmdk"}

world = World(**PLAIN)


def disk(name, size, pieces):
    """A sparse disk with random bytes at some places."""
    path = os.path.join(world.disks, name)
    with open(path, "wb") as file:
        file.write(BOOT)
        for offset, length in pieces:
            file.seek(offset)
            file.write(os.urandom(length))
        file.truncate(size)
    return path


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(MIB), b""):
            sha.update(piece)
    return sha.hexdigest()


def import_path(path, *words):
    return world.do("image", "import", path, "--server-path", *words)


def out(name):
    return os.path.join(world.folder, name)


def export(image, *words):
    return world.imprint("image", "export", image, *words, "-q")


def exports():
    return world.json("image", "exports")


def files():
    return os.listdir(os.path.join(world.state, "exports"))


def drop_exports():
    ids = [one["export_id"] for one in exports() if one["status"] == "available"]
    if ids:
        world.imprint("image", "unexport", *ids)


def drop(*images):
    world.do("image", "delete", *images, "--now")


def ask(action, **params):
    params.update(action=action, access_key_id=world.key["access_key_id"], signature_method="HmacSHA256",
                  signature_version="1", version="1", time_stamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                  zone="local1a")
    query = "&".join("%s=%s" % (name, urllib.parse.quote(params[name], safe="-_.~")) for name in sorted(params))
    sign = hmac.new(world.key["secret_access_key"].encode(), ("GET\n/iaas/\n" + query).encode(), hashlib.sha256).digest()
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
    connection.request("GET", "/iaas/?%s&signature=%s" % (query, urllib.parse.quote(base64.b64encode(sign).decode(), safe="")))
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


def prepare():
    world.start()


# --- Formats ------------------------------------------------------------------------------------------------------------

def formats():
    size = 37 * MIB + 3 * 512
    path = disk("disk.raw", size, ((4096, 3 * MIB), (9 * MIB + 12345, 70000), (20 * MIB, MIB), (size - 700, 700)))
    image = import_path(path)
    for name, kind in FORMATS.items():
        target = out("out." + name)
        result = export(image, "--format", name, "--file", target)
        check(result.status == 0 and result.out.strip() == target, "an image is exported as %s" % name, result)
        row = [one for one in exports() if one["format"] == name][0]
        check(row["digest"] == "sha256:" + digest(target) and row["size_bytes"] == os.path.getsize(target) and
              row["disk_bytes"] == size, "with its size and digest", row)
        if name == "raw":
            check(digest(target) == digest(path), "byte by byte what came in")
            check(os.stat(target).st_blocks * 512 < 8 * MIB, "with its holes", os.stat(target).st_blocks)
        elif kind is not None and shutil.which("qemu-img"):
            done = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", kind, path, target], capture_output=True, text=True)
            check(done.returncode == 0, "qemu-img finds in it what came in", done.stdout + done.stderr)
            done = subprocess.run(["qemu-img", "check", "-f", kind, target], capture_output=True, text=True)
            check(done.returncode == 0, "and nothing wrong", done.stdout + done.stderr)
        again = import_path(shutil.copy(target, world.disks), *(["--format", kind] if kind else []))
        copy = out("again.raw")
        result = export(again, "--format", "raw", "--file", copy)
        check(result.status == 0 and digest(copy) == digest(path), "imported again it is the same disk", result)
        os.unlink(copy)
        drop(again)
    usage = ask("DescribeUsage")
    lines = [line for line in usage["usage_set"] if line["resource_type"] == "image_export"]
    check(len(lines) == 8 and usage["exports_bytes"] == sum(line["own_bytes"] for line in lines) > 0,
          "the files count in the usage", usage)
    before = os.path.getmtime(out("out.raw"))
    result = export(image, "--format", "raw", "--file", out("out.raw"))
    check(result.status != 0 and "there already" in result.err and os.path.getmtime(out("out.raw")) == before,
          "a file that is there is not written over", result)
    layers(image, path)
    drop_exports()
    check(not files() and not exports(), "when they are dropped, no file stays", files())
    drop(image)


def layers(image, path):
    """An image of an instance: a layer on a layer, 20 GiB."""
    instance = world.run(image, "--cpu", "1")
    world.do("instance", "stop", instance, "--force")
    captured = world.do("image", "capture", instance)
    target = out("captured.qcow2")
    result = export(captured, "--file", target)
    check(result.status == 0, "an image of two layers is exported", result)
    if shutil.which("qemu-img"):
        done = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", path, target], capture_output=True, text=True)
        check(done.returncode == 0, "and holds what both hold", done.stdout + done.stderr)
    world.do("instance", "terminate", instance, "--now")
    drop(captured)


# --- Broken lines -------------------------------------------------------------------------------------------------------

class Line:
    """Between a client and imprintd: after so many bytes for the client, none until it is mended."""

    def __init__(self, most):
        self.most, self.passed, self.asked, self.mended = most, 0, b"", threading.Event()
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
            threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            for bytes in iter(lambda: source.recv(65536), b""):
                if counted:
                    self.passed += len(bytes)
                    if self.passed > self.most:
                        self.mended.wait()
                else:
                    self.asked += bytes
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
    process = world.begin("image", "export", *words, "-q")
    world.port = port
    return process


def broken():
    path = disk("long.raw", 64 * MIB, ((512, 48 * MIB),))
    image = import_path(path)
    check(export(image, "--format", "raw", "--file", out("first.raw")).status == 0, "an image to break off")

    target, part = out("cut.raw"), out("cut.raw.part")
    line = Line(20 * MIB)
    process = begin(line, image, "--format", "raw", "--file", target)
    check(line.stuck(), "the line gets stuck")
    check(wait_for(lambda: os.path.exists(part) and os.path.getsize(part) > 10 * MIB, 60), "with a part of it here")
    process.send_signal(signal.SIGKILL)
    process.wait()
    line.mended.set()
    have = os.path.getsize(part)
    line = Line(1 << 40)
    process = begin(line, image, "--format", "raw", "--file", target)
    words, err = process.communicate(timeout=300)
    check(process.returncode == 0 and digest(target) == digest(path), "after kill -9 the same command ends it", err)
    check(b"Range: bytes=%d-" % have in line.asked and line.passed < 64 * MIB - have + MIB, "from where it was", line.passed)
    check(not os.path.exists(part), "and nothing else stays")

    target = out("other.raw")
    with open(target + ".part", "wb") as file:
        file.write(os.urandom(5 * MIB))
    result = export(image, "--format", "raw", "--file", target)
    check(result.status == 0 and digest(target) == digest(path), "what belonged to another file is not gone on with", result)

    target = out("restart.raw")
    line = Line(20 * MIB)
    process = begin(line, image, "--format", "raw", "--file", target)
    line.stuck()
    world.restart()
    line.mended.set()
    words, err = process.communicate(timeout=300)
    check(process.returncode == 0 and digest(target) == digest(path),
          "after kill -9 of imprintd the command line goes on by itself", err)
    curl(image, path)
    drop_exports()
    drop(image)


def curl(image, path):
    url = world.imprint("image", "export", image, "--format", "raw", "--url", "--valid", "1").out.strip()
    check("expires=" in url and "signature=" in url, "a URL for any program", url)
    target = out("curl.raw")
    with open(path, "rb") as source, open(target, "wb") as file:
        file.write(source.read(30 * MIB + 7))
    if shutil.which("curl"):
        done = subprocess.run(["curl", "-C", "-", "-sSfo", target, url], capture_output=True, text=True, timeout=300)
        check(done.returncode == 0 and digest(target) == digest(path), "curl goes on where it was", done.stderr)
    parts = urllib.parse.urlsplit(url)

    def get(query):
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)
        connection.request("GET", parts.path + "?" + query, headers={"Range": "bytes=0-0"})
        reply = connection.getresponse()
        reply.read()
        connection.close()
        return reply.status

    check(get(parts.query) == 206, "it works as it is")
    check(get(parts.query.replace("expires=20", "expires=21")) == 403, "not with a later end")
    check(get(parts.query.replace(world.key["access_key_id"], "A" * 20)) == 403, "nor under another key")
    key = world.key
    world.add_user("other")
    mine = world.imprint("image", "exports", "-q").out
    reply = ask("ExportImage", image=image, format="raw")
    check(reply["ret_code"] == 2100, "another user does not export the image", reply)
    check(mine.strip() == "", "and does not see its file", mine)
    world.key = key


# --- Killed in the middle, refused, full --------------------------------------------------------------------------------

def killed():
    path = disk("big.raw", 256 * MIB, ((512, 200 * MIB),))
    image = import_path(path)
    for round, name in enumerate(("raw", "raw.zst", "qcow2", "vmdk")):
        reply = ask("ExportImage", image=image, format=name)
        begun = os.path.join(world.state, "exports", reply["export_id"])
        wait_for(lambda: os.path.exists(begun) and os.stat(begun).st_blocks > 8 * round * 1024, 60, 0.005)
        during = exports()[0]["status"]
        world.restart()
        result = world.imprint("job", "wait", reply["job_id"])
        row = [one for one in exports() if one["export_id"] == reply["export_id"]]
        check(result.status == 0 and row and row[0]["digest"] == "sha256:" + digest(begun),
              "killed (%s), an export as %s is made all the same" % (during, name), (result, row))
    check(sorted(files()) == sorted(one["export_id"] for one in exports()), "no other file stays", files())
    drop_exports()

    reply = ask("ExportImage", image=image, format="vmdk")
    cancelled = world.imprint("job", "cancel", reply["job_id"])
    world.imprint("job", "wait", reply["job_id"])
    left = exports()
    check((cancelled.status == 0 and not left and not files()) or left, "a cancelled one leaves nothing", (left, files()))
    drop_exports()

    reply = ask("ExportImage", image=image, format="raw")
    drop(image)
    world.imprint("job", "wait", reply["job_id"])
    row = [one for one in exports() if one["export_id"] == reply["export_id"]]
    check(row and row[0]["digest"] == "sha256:" + digest(path), "an image that is deleted meanwhile is exported whole", row)
    drop_exports()
    check(world.pool_clean(), "and its layer goes afterwards")


def refused():
    image = import_path(disk("small.raw", MIB, ((512, 5000),)))
    reply = ask("ExportImage", image=image, format="vhdx")
    check(reply["ret_code"] == 1101 or reply["ret_code"] == 1100, "an unknown format is refused", reply)
    check(export(image, "--format", "ova").status == 2, "by the command line as well")
    reply = ask("ExportImage", image="img-none0000")
    check(reply["ret_code"] == 2100, "so is an unknown image", reply)
    world.kill(signal.SIGTERM)
    world.configure(export_max_bytes="1M", **PLAIN)
    world.start()
    reply = ask("ExportImage", image=image)
    check(reply["ret_code"] == 5200 and "exports take" in reply["message"], "beyond their limit no export is made", reply)
    world.kill(signal.SIGTERM)
    with open(os.path.join(world.state, "exports", "exp-forgotten"), "w") as file:
        file.write("of a crash")
    world.configure(**PLAIN)
    world.start()
    check(not files(), "what no row knows is gone after a start", files())
    drop(image)


def full():
    if "IMPRINT_OWN_MOUNTS" not in os.environ:
        note("skipped: a small disk of our own needs root")
        return
    image = import_path(disk("full.raw", 16 * MIB, ((512, 12 * MIB),)))
    small = os.path.join(world.state, "exports")
    world.kill(signal.SIGTERM)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "small", small], check=True)
    try:
        world.start()
        for name in FORMATS:
            result = export(image, "--format", name, "--file", out("full." + name))
            check(result.status == 1 and "No space left" in result.err and image in result.err,
                  "a full disk fails the export as %s with the reason" % name, result)
            check(not files() and not exports(), "and leaves nothing", files())
        world.kill(signal.SIGTERM)
    finally:
        subprocess.run(["umount", "-l", small], check=True)
        world.start()
    check(export(image, "--file", out("fits.qcow2")).status == 0, "with room it works")
    drop_exports()
    drop(image)


main(prepare, formats, broken, killed, refused, full)
