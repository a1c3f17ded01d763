#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed and a pool that is full: one job fails and says why, nothing is left, and all goes on.
Usage: see world.py; the guest is NANO.BIN. The pool is a small file system of its own, for which one must be root."""
import http.server
import os
import re
import signal
import subprocess
import threading

from world import GUESTS, World, check, main, note, tail, wait_for

MIB = 1 << 20
POOL_MIB = 32


class Source(http.server.BaseHTTPRequestHandler):
    """A disk that comes in halves: the second one when it is let go."""
    protocol_version = "HTTP/1.1"
    half_sent, go_on = threading.Event(), threading.Event()
    body = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        try:
            self.wfile.write(self.body[:len(self.body) // 2])
            self.wfile.flush()
            self.half_sent.set()
            self.go_on.wait()
            self.wfile.write(self.body[len(self.body) // 2:])
        except OSError:
            self.half_sent.set()

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()

    def log_message(self, *_):
        pass


folder = None
world = None
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Source)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/disk.raw" % server.server_port
nano = b""


def disk(name, mib):
    """The guest's boot sector, and then nothing that could be left out."""
    path = os.path.join(world.disks, name)
    with open(path, "wb") as file:
        file.write(nano.ljust(MIB, b"\0"))
        file.write(os.urandom((mib - 1) * MIB))
    return path


def workers():
    """The pids of our workers: below imprintd, whatever user they run as."""
    found = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True).stdout
    parents = {}
    for line in found.splitlines():
        pid, parent, name = line.split(None, 2)
        parents[int(pid)] = (int(parent), name)

    def ours(pid):
        while pid in parents and pid != world.pid:
            pid = parents[pid][0]
        return pid == world.pid

    return [pid for pid, (_, name) in parents.items() if name.startswith("imprint-worker") and ours(pid)]


def layers():
    return sorted(os.listdir(os.path.join(world.pool, "layers")))


def nothing_left(before, text):
    check(wait_for(lambda: layers() == before, 60), "%s leaves nothing in the pool" % text, lambda: layers())
    check(world.pool_clean(), "which agrees with the record", lambda: world.imprint("pool", "check"))
    uploads = os.path.join(world.state, "uploads")
    check(wait_for(lambda: os.listdir(uploads) == [], 30), "and nothing of what came in", lambda: os.listdir(uploads))
    check(wait_for(lambda: not workers(), 30), "no worker goes on", workers())


def killed():
    image = world.do("image", "import", disk("nano.raw", 2), "--server-path", "--name", "nano")
    before = layers()
    Source.body = nano.ljust(16 * MIB, b"\1")
    importing = world.begin("image", "import", url, "--wait")
    check(Source.half_sent.wait(180), "an import is under way")
    pids = wait_for(workers)
    check(pids, "in a worker")
    os.kill(pids[0], signal.SIGKILL)
    _, err = importing.communicate(timeout=180)
    Source.go_on.set()
    check(importing.returncode == 1 and re.search(r"worker.*(killed|signal|ended|died)", err),
          "which is killed, and the reason is told", err)
    jobs = world.json("job", "list", "--status", "failed")
    check(len(jobs) == 1 and "worker" in jobs[0]["error_message"], "the job says it, too", jobs)
    check([i["image_id"] for i in world.json("image", "list")] == [image], "no image comes of it")
    nothing_left(before, "the killed import")
    again = world.do("image", "import", url, "--name", "again")
    check(world.status("image", again) == "available", "the next import works")
    world.do("image", "delete", again, "--now")


def cancelled():
    before = layers_when_still()
    Source.half_sent.clear()
    Source.go_on.clear()
    world.imprint("image", "import", url)
    Source.half_sent.wait(180)
    job = world.json("job", "list", "--status", "pending,working")[0]
    check(world.imprint("job", "cancel", job["job_id"]).status == 0, "an import is cancelled half way")
    check(wait_for(lambda: world.status("job", job["job_id"]) == "failed"), "and ends",
          lambda: world.one("job", job["job_id"]))
    Source.go_on.set()
    nothing_left(before, "the cancelled import")


def layers_when_still():
    world.pool_clean()
    return layers()


def full():
    before = layers_when_still()
    image = world.json("image", "list")[0]["image_id"]
    refused = world.imprint("image", "import", disk("big.raw", POOL_MIB + 16), "--server-path", "--wait")
    check(refused.status == 1 and re.search("no space|full|space left", refused.err, re.I),
          "an import into a pool that gets full fails and says so", refused)
    nothing_left(before, "the import that did not fit")

    filler = os.path.join(world.pool, "filler")
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    os.truncate(filler, os.stat(filler).st_size // 4096 * 4096)
    result = world.imprint("instance", "run", "-i", image, "-c", "1", "-m", "16", "--no-login", "--wait")
    check(result.status == 1 and re.search("no space|full|space left", result.err, re.I),
          "an instance for whose disk there is no room fails and says so", result)
    check([i for i in world.json("instance", "list") if i["status"] != "ceased"] == [], "and is no instance")
    check(world.machines() == [], "and no QEMU")
    nothing_left(before, "it")
    os.unlink(filler)
    instance = world.run(image, "-c", "1", "-m", "16")
    check(world.says(instance, "NANO up"), "with room it runs", lambda: world.console(instance))
    world.do("instance", "terminate", instance, "--now")
    small = world.do("image", "import", disk("small.raw", 2), "--server-path", "--name", "small")
    check(world.status("image", small) == "available", "and imports go on")


def prepare():
    global world, nano, folder
    import tempfile
    with open(GUESTS[0], "rb") as file:
        nano = file.read()
    settings = {"import_private_addresses": "yes", "limits_recycle": 0}
    if os.geteuid() != 0:
        note("not root: the pool is an ordinary folder")
        world = World(**settings)
    else:
        folder = tempfile.mkdtemp(prefix="imprint-pool-")
        os.chmod(folder, 0o711)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=755" % POOL_MIB, "imprint-pool", folder], check=True)
        world = World(pool=folder, **settings)
    world.start()


def finish():
    check(world.kill(signal.SIGTERM) == 0, "imprintd ends well", lambda: tail(world.log))


try:
    main(prepare, killed, cancelled, *([full] if os.geteuid() == 0 else []), finish)
finally:
    if world is not None:
        world.end()
    if folder is not None:
        subprocess.run(["umount", folder])
        os.rmdir(folder)
