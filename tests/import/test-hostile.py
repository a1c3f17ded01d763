#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images and servers that mean harm, by the way that every image takes: command line, imprintd, worker. Each is refused
with a sentence of its own; nothing of the host gets out, nothing stays in the pool, imprintd lives on.

Usage: test-hostile.py IMPRINTD IMPRINT WORKER MAKE-HOSTILE"""
import bz2
import concurrent.futures
import gzip
import hashlib
import http.server
import lzma
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
if os.geteuid() == 0 and "IMPRINT_OWN_NET" not in os.environ:  # for addresses that look public, and nobody else there
    os.environ["IMPRINT_OWN_NET"] = "1"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0:
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])
    del os.environ["IMPRINT_OWN_NET"]

from world import GUESTS, World, check, main, note, tail  # noqa: E402

MIB = 1 << 20
SECRET = b"a secret of the host, not to be had for an image\n"
PUBLIC = "11.22.33.44"  # in a network of our own: see above

world = World(virt_uri="memory:", import_max_bytes="1T", imprintd_job_threads=8)
disks = world.disks
secret = os.path.join(world.folder, "secret")
sentences = {}


def path(name):
    return os.path.join(disks, name)


def prepare():
    if "IMPRINT_OWN_NET" in os.environ:
        for words in ("link set lo up", "address add %s/32 dev lo" % PUBLIC, "address add 10.1.2.3/32 dev lo"):
            subprocess.run(["ip", *words.split()], check=True)
    with open(secret, "wb") as file:
        file.write(SECRET * 200)
    os.chmod(secret, 0o600)
    subprocess.run([sys.executable, GUESTS[0], disks, secret], check=True)
    world.start()


def refused(name, word, *words, source=None, where=("--server-path",)):
    """The claim that this import fails, saying `word`; the sentence is kept."""
    result = world.imprint("image", "import", source or path(name), *where, "--wait", *words)
    text = ([line for line in result.err.splitlines() if line.startswith("imprint: ")] or [""])[0]
    sentence = text.split(" failed: ")[-1]
    sentences.setdefault(sentence, []).append(name)
    good = result.status not in (0, 6) and sentence and word in text and SECRET[:20].decode() not in result.err + result.out
    return good, "%s: %s" % (name, result)


def all_refused(rows, text):
    """rows: arguments of refused(), tried side by side."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda row: refused(*row[0], **row[1]), rows))
    bad = [detail for good, detail in results if not good]
    return check(not bad, "%s (%d)" % (text, len(rows)), "\n".join(bad))


def holds_secret(folder):
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                if SECRET in file.read():
                    return os.path.join(root, name)
    return None


def unharmed(pid, text):
    check(world.runs() and world.pid == pid, "imprintd is unharmed by %s" % text, lambda: tail(world.log))
    check(world.imprint("image", "list", "-o", "csv").status == 0, "and answers")
    listed = world.json("image", "list")
    check(not listed, "no image is left", listed)
    check(world.pool_clean(), "the pool is clean", lambda: world.imprint("pool", "check"))
    left = [name for folder in ("pool/layers", "uploads") if os.path.isdir(os.path.join(world.state, folder))
            for name in os.listdir(os.path.join(world.state, folder))]
    check(not left, "no file is left", left)
    found = holds_secret(world.state)
    check(found is None, "no file holds what is the host's", found)
    with open(world.log, errors="replace") as file:
        log = file.read()
    loud = [line for line in log.splitlines() if "Sanitizer" in line or "runtime error" in line or "signal" in line]
    check(not loud, "no sanitizer and no crash speaks", "\n".join(loud))
    check(SECRET[:20].decode() not in log, "and the log keeps the secret")


# --- Formats ------------------------------------------------------------------------------------------------------------

def formats():
    pid = world.pid
    rows = [line.rstrip("\n").split("\t") for line in open(path("index"))]
    all_refused([((name, word, *(["--format", declared] if declared not in ("-", "qed") else [])), {})
                 for name, declared, word in rows if declared != "qed"], "hostile images are refused")
    shared = {text: names for text, names in sentences.items() if len(names) > 1}
    check(not shared, "each with a sentence of its own", shared)
    jobs = world.json("job", "list", "--action", "ImportImage", "--limit", "100")
    silent = [job for job in jobs if job["status"] != "failed" or not job["error_message"]]
    check(not silent and len(jobs) > 90, "which its job keeps", silent)
    good, detail = refused("two formats at once", "boot sector", "--force", source=path("boot-and.qcow2"))
    check(good, "--force takes no polyglot", detail)
    good, detail = refused("backing, forced", "backing", "--force", source=path("backing.qcow2"))
    check(good, "nor a backing file", detail)
    good, detail = refused("uploaded", "external data file", source=path("data-file.qcow2"), where=())
    check(good, "an upload is looked at in the same way", detail)
    good, detail = refused("digest", "announced", "--digest", "sha256:" + "0" * 64, source=path("sound.raw"))
    check(good, "a digest that is not its own", detail)
    unharmed(pid, "them")


def forced():
    result = world.imprint("image", "import", path("junk"), "--server-path", "--force", "--wait", "-q")
    image = result.out.strip()
    check(result.status == 0 and world.status("image", image) == "available", "junk becomes an image if one insists", result)
    world.do("image", "delete", image, "--now")
    with open(path("sound.raw"), "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    result = world.imprint("image", "import", path("sound.raw"), "--server-path", "--digest", digest, "--wait", "-q")
    image = result.out.strip()
    check(result.status == 0 and world.one("image", image)["digest"] == "sha256:" + digest, "a sound one with its digest",
          result)
    world.do("image", "delete", image, "--now")


# --- Bombs --------------------------------------------------------------------------------------------------------------

def compress_zstd(data):
    return subprocess.run(["zstd", "-q", "-c", "-3"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS = {"gz": lambda data: gzip.compress(data, 9), "xz": lambda data: lzma.compress(data, preset=1),
           "bz2": bz2.compress, "zst": compress_zstd}


def bombs():
    """A disk's first MiB, then 2 GiB of zeros as members of 32 MiB each; and more than the limit, which unpacks to bytes
    that do not pack as well."""
    pid = world.pid
    with open(path("sound.raw"), "rb") as file:
        head = file.read(MIB)
    rows = []
    for end, pack in PACKERS.items():
        member = pack(bytes(32 * MIB))
        with open(path("bomb." + end), "wb") as file:
            file.write(pack(head) + member * 64)
        rows.append((("bomb." + end, "a bomb"), {}))
    all_refused(rows, "files that unfold to a thousand times their size")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path("wide.qcow2"), "2T"], check=True)
    good, detail = refused("wide.qcow2", "above the limit")
    check(good, "a small file of a disk above the limit", detail)
    unharmed(pid, "bombs")

    world.kill(15)
    world.configure(virt_uri="memory:", import_max_bytes="16M", import_max_ratio=1000000, imprintd_job_threads=8)
    world.start()
    pid = world.pid
    rows = []
    noise = os.urandom(MIB)
    for end, pack in PACKERS.items():
        with open(path("much." + end), "wb") as file:
            file.write(pack(head + noise * 2 + bytes(17 * MIB)))
        rows.append((("much." + end, "limit"), {}))
    with open(path("much.raw"), "wb") as file:
        file.write(head)
        file.truncate(17 * MIB)
    rows.append((("much.raw", "limit"), {}))
    rows.append((("much, uploaded", "limit"), {"source": path("much.raw"), "where": ()}))
    all_refused(rows, "more than the limit in all")
    waiting = world.json("image", "list")
    check([image["status"] for image in waiting] == ["pending"], "an upload that is refused waits for another one", waiting)
    world.do("image", "delete", waiting[0]["image_id"])
    check(not world.json("image", "list"), "until its image is deleted")
    unharmed(pid, "too much")


# --- Servers ------------------------------------------------------------------------------------------------------------

class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secret_asked = 0

    def log_message(self, *words):
        pass

    def go(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        port = self.server.server_port
        with open(path("sound.qcow2"), "rb") as file:
            body = file.read()
        name = self.path.split("?")[0]
        if name == "/inside":  # what only this host should get
            Server.secret_asked += 1
            body = SECRET * 200
        hops = {"/to-loopback": "http://127.0.0.1:%d/inside" % port, "/to-private": "http://10.1.2.3:%d/inside" % port,
                "/to-metadata": "http://169.254.169.254/latest/meta-data", "/to-name": "http://localhost:%d/inside" % port,
                "/to-v6": "http://[::1]:%d/inside" % port, "/to-mapped": "http://[::ffff:127.0.0.1]:%d/inside" % port,
                "/to-number": "http://2130706433:%d/inside" % port, "/to-file": "file://" + secret,
                "/to-gopher": "gopher://127.0.0.1:%d/x" % port, "/for-ever": "/for-ever"}
        if name in hops:
            return self.go(hops[name])
        if name == "/none":
            return self.send_error(404)
        told = len(body) + {"/shorter": 1000, "/longer": -1000}.get(name, 0)
        self.send_response(200)
        self.send_header("Content-Length", str(told if name != "/huge" else 4 << 40))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


def servers():
    pid = world.pid
    if "IMPRINT_OWN_NET" not in os.environ:
        note("skipped: a network of our own needs root")
        return
    world.kill(15)
    world.configure(virt_uri="memory:", imprintd_job_threads=16)
    world.start()
    pid = world.pid
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = "http://%s:%d" % (PUBLIC, server.server_port)
    private = "private network"
    rows = [("loopback", private, "http://127.0.0.1:%d/inside" % server.server_port),
            ("as a name", private, "http://localhost:%d/inside" % server.server_port)]
    rows += [(name, private, base + name) for name in ("/to-loopback", "/to-private", "/to-metadata", "/to-name", "/to-v6",
                                                      "/to-mapped", "/to-number")]
    rows += [("/to-file", "only well-formed http", base + "/to-file"), ("/to-gopher", "only well-formed", base + "/to-gopher"),
             ("/for-ever", "redirects", base + "/for-ever"), ("/none", "no such file", base + "/none"),
             ("/shorter", "", base + "/shorter"), ("/huge", "larger", base + "/huge"),
             ("/longer", "cut short", base + "/longer")]
    all_refused([((name, word), {"source": url, "where": ()}) for name, word, url in rows],
                "addresses that lead astray are refused")
    check(Server.secret_asked == 0, "nobody asked for what lies inside", Server.secret_asked)
    good, detail = refused("a file:// address", "only http", source="file://" + secret, where=())
    check(good, "a file:// address is no address", detail)
    unharmed(pid, "servers")
    result = world.imprint("image", "import", base + "/sound.qcow2", "--wait", "-q")
    check(result.status == 0, "a sound image comes from a public address", result)
    if result.status == 0:
        world.do("image", "delete", result.out.strip(), "--now")


main(prepare, formats, forced, bombs, servers)
