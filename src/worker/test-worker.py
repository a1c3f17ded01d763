#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The worker as imprintd starts it: a request on stdin, files as descriptors, messages on stdout.

test-worker.py WORKER MAKE-HOSTILE EVIL.SO"""
import bz2, ctypes, gzip, hashlib, http.server, json, lzma, os, signal, socket, struct, subprocess, sys, tempfile, threading, time

import tap
from tap import check

worker, make_hostile, evil = sys.argv[1:4]
folder = tempfile.mkdtemp(prefix="imprint-test-")
os.chmod(folder, 0o755)


def path(name):
    return os.path.join(folder, name)


def start(verb, request, source, out=None, source_flags=os.O_RDONLY, first=lambda: None, env=None):
    """Descriptors 3 and 4 must be just these, so they are put there in the child."""
    fds = [os.open(source, source_flags | (os.O_CREAT if source_flags != os.O_RDONLY else 0), 0o600)]
    if out:
        fds.append(os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]

    def place():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
        first()

    # fds 3 and 4 of the child are not closed: close_fds=False with everything else close-on-exec
    process = subprocess.Popen([worker, verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=place, close_fds=False, env=env)
    for fd in fds + high:
        os.close(fd)
    process.stdin.write(json.dumps(request).encode())
    process.stdin.close()
    return process


def finish(process):
    lines = process.stdout.read().decode().splitlines()
    noise = process.stderr.read().decode()
    process.wait()
    return process.returncode, [json.loads(line) for line in lines], noise


def run(verb, request, source, out=None, **more):
    status, messages, noise = finish(start(verb, request, source, out, **more))
    last = messages[-1] if messages else {}
    if status not in (0, 1) or (status == 0) != ("result" in last) or noise:
        print(f"# status {status}, {last}, {noise}")
    return last.get("result"), last.get("error"), messages


def sha(name):
    with open(path(name), "rb") as f:
        return "sha256:" + hashlib.sha256(f.read()).hexdigest()


def same(name):
    fine = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path("out")]).returncode == 0
    return fine and subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path("out"),
                                    path(name)]).returncode == 0


def prepare():
    with open(path("secret"), "w") as f:
        f.write("the secret of the host" * 200)
    subprocess.run([sys.executable, make_hostile, folder, path("secret")], check=True)
    disk = open(path("sound.raw"), "rb").read()
    for name, pack in (("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)):
        with open(path("sound.raw." + name), "wb") as f:
            f.write(pack(disk))
        with open(path("sound.qcow2." + name), "wb") as f:
            f.write(pack(open(path("sound.qcow2"), "rb").read()))
    subprocess.run(["zstd", "-q", path("sound.raw"), path("sound.vdi")], check=True)
    # A size that is no multiple of a cluster, nor of a sector.
    with open(path("odd.raw"), "wb") as f:
        f.write(disk[:3 * 2**20 + 777])
    with open(path("odd.raw.xz"), "wb") as f:
        f.write(lzma.compress(disk[:3 * 2**20 + 777]))
    with open(path("odd.padded"), "wb") as f:
        f.write(disk[:3 * 2**20 + 777].ljust(3 * 2**20 + 1024, b"\0"))
    # Data at the end of a long hole, and a compressed qcow2.
    with open(path("holes.raw"), "wb") as f:
        f.write(disk[:512])
        f.seek(100 * 2**20 + 4096)
        f.write(b"here" * 5000)
        f.truncate(300 * 2**20)
    for name, extra in (("zlib", []), ("zstd", ["-o", "compression_type=zstd"]), ("512", ["-o", "cluster_size=512"]),
                        ("2M", ["-o", "cluster_size=2M"]), ("v2", ["-o", "compat=0.10"])):
        subprocess.run(["qemu-img", "convert", *(["-c"] if name in ("zlib", "zstd") else []), "-O", "qcow2", *extra,
                        path("sound.raw"), path(f"{name}.qcow2")], check=True)


def test_formats():
    for name, form, packing in (
            ("sound.raw", "raw", ""), ("sound.qcow2", "qcow2", ""), ("sound.vmdk", "vmdk", ""),
            ("sound.stream.vmdk", "vmdk", ""), ("sound.vdi", "vdi", ""), ("sound.vhd", "vhd", ""),
            ("sound.fixed.vhd", "vhd", ""), ("sound.vhdx", "vhdx", ""), ("zlib.qcow2", "qcow2", ""),
            ("zstd.qcow2", "qcow2", ""), ("512.qcow2", "qcow2", ""), ("2M.qcow2", "qcow2", ""), ("v2.qcow2", "qcow2", ""),
            ("sound.raw.gz", "raw", "gz"), ("sound.raw.xz", "raw", "xz"), ("sound.raw.bz2", "raw", "bz2"),
            ("sound.raw.zst", "raw", "zst"), ("sound.qcow2.xz", "qcow2", "xz"), ("sound.qcow2.gz", "qcow2", "gz"),
            ("sound.vdi.zst", "vdi", "zst")):
        result, error, _ = run("import", {"kind": "fd", "digest": sha(name), "scratch_dir": folder}, path(name), path("out"))
        if not check(result, f"{name} is imported {error or ''}"):
            continue
        check(result["format"] == form and result["compression"] == packing, f"{name}: {form} {packing}")
        check(result["size_bytes"] == 4 * 2**20 and result["received_bytes"] == os.path.getsize(path(name)),
              f"{name}: its sizes")
        check(result["digest"] == sha(name), f"{name}: its digest is of what came in")
        check(result["data_bytes"] == 4 * 65536, f"{name}: only data is kept ({result['data_bytes']} bytes)")
        check(result["partition_table"] == "none" and result["firmware"] == "bios", f"{name}: what is on it")
        check(result["report"]["partition_table"] == "none" and result["report"]["size_bytes"] == result["size_bytes"],
              f"{name}: it was looked into")
        check(same("sound.raw"), f"{name}: QEMU finds the same disk and no fault")
    for name, plain in (("odd.raw", "odd.padded"), ("odd.raw.xz", "odd.padded"), ("holes.raw", "holes.raw")):
        result, error, messages = run("import", {}, path(name), path("out"))
        check(result and result["size_bytes"] == os.path.getsize(path(plain)) and result["digest"] == sha(name),
              f"{name} is imported {error or ''}")
        check(same(plain), f"{name}: the same disk")
    result, error, messages = run("import", {}, path("sound.raw"), path("out"))
    kinds = [next(iter(m)) for m in messages]
    check(kinds[-1] == "result" and kinds.count("result") == 1 and "progress" in kinds, "progress, then one result")
    check({m["progress"]["phase"] for m in messages if "progress" in m} == {"copy", "sync"}, "phases copy and sync")


def test_far():
    """Data behind 4 GiB: further tables, and VHDX's entries for bitmaps between the blocks."""
    with open(path("far.raw"), "wb") as f:
        f.write(open(path("sound.raw"), "rb").read(512))
        f.seek(4700 * 2**20)
        f.write(b"far away" * 10000)
        f.truncate(5000 * 2**20)
    for form in ("vhdx", "vmdk", "vdi", "vpc", "qcow2"):
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, *(["-o", "force_size=on"] if form == "vpc" else []),
                        path("far.raw"), path("far")], check=True)
        result, error, _ = run("import", {}, path("far"), path("out"))
        check(result and result["data_bytes"] <= 4 * 65536 and same("far.raw"), f"{form}: data far away {error or ''}")
        os.unlink(path("far"))


def test_probe():
    for name in ("sound.raw", "sound.qcow2", "sound.vhdx"):
        result, error, _ = run("probe", {}, path(name))
        check(result and result["size_bytes"] == 4 * 2**20 and result["partitions"] == 0, f"probe {name} {error or ''}")
    result, error, _ = run("probe", {}, path("sound.qcow2.xz"))
    check(result == {"format": "qcow2", "compression": "xz"}, f"probe of a compressed image {error or ''}")
    result, error, _ = run("probe", {}, path("backing.qcow2"))
    check(error and error["code"] == "BAD_IMAGE", "probe refuses as import does")


def test_fold():
    """Layers of a disk become one, which shows the same."""
    run_tool = lambda *argv: subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "low.qcow2", "64M")
    run_tool("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 9M", "low.qcow2")
    for below, name, command in (("low", "middle", "write -P 2 5M 6M"), ("middle", "top", "write -z 4M 3M")):
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", below + ".qcow2", "-F", "qcow2", name + ".qcow2")
        run_tool("qemu-io", "-f", "qcow2", "-c", command, name + ".qcow2")

    def fold(request):
        out = os.open(path("folded.qcow2"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        fds = [os.dup2(fd, 100 + i) for i, fd in enumerate([out] + [os.open(path(name), os.O_RDONLY) for name in ("top.qcow2", "middle.qcow2")])]
        process = subprocess.Popen([worker, "fold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=False,
                                   preexec_fn=lambda: [os.dup2(fd, 3 + i) for i, fd in enumerate(fds)] and None)
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        return process

    status, messages, noise = finish(fold({"backing": "low.qcow2"}))
    check(messages[-1].get("result") == {"copied_bytes": 4 << 20}, f"layers are folded {messages[-1]} {noise}")
    check(subprocess.run(["qemu-img", "compare", "-q", "top.qcow2", "folded.qcow2"], cwd=folder).returncode == 0, "and show the same")
    began = time.time()
    finish(fold({"backing": "low.qcow2", "rate": 2 << 20}))
    check(time.time() - began >= 2, "a rate is kept")
    process = fold({"backing": "low.qcow2", "rate": 65536})
    process.stdout.readline()
    process.terminate()
    check(finish(process)[0] == -signal.SIGTERM, "SIGTERM ends it")


def export(format, layers, sources, **more):
    out = os.open(path("exported"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    fds = [out] + [os.open(path(name), os.O_RDONLY) for name in sources]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
    process = subprocess.Popen([worker, "export"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               close_fds=False, preexec_fn=lambda: [os.dup2(fd, 3 + i) for i, fd in enumerate(high)] and None)
    for fd in fds + high:
        os.close(fd)
    process.stdin.write(json.dumps(dict({"format": format, "layers": layers}, **more)).encode())
    process.stdin.close()
    status, messages, noise = finish(process)
    return messages[-1].get("result"), messages[-1].get("error") or noise


def test_export():
    """Four layers: raw below, overlays of several sizes, zeros that hide data, an end within a cluster."""
    run_tool = lambda *argv: subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    size = 36 * 2**20 + 3 * 512
    with open(path("e0.raw"), "wb") as f:
        f.write(os.urandom(3 << 20) + b"text " * 500000)
        f.truncate(size - (8 << 20))
    for below, name, form in (("e0.raw", "e1", "raw"), ("e1", "e2", "qcow2"), ("e2", "e3", "qcow2")):
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", form, "-b", below, name, str(size))
        run_tool("qemu-io", "-c", "write -q -P 0x%d 1000k 300k" % (int(name[1]) + 20), name)
    run_tool("qemu-io", "-c", "write -q -z 64k 640k", "-c", "write -q -P 9 %d 512" % (size - 512), "-c", "write -q -P 8 20m 2m", "e2")
    run_tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "e3", "e.raw")
    chain = ("qcow2 qcow2 qcow2 raw", ("e3", "e2", "e1", "e0.raw"))
    for form in ("raw", "qcow2", "vmdk", "raw.zst"):
        result, error = export(form, *chain, max_bytes=size)
        check(result and result["disk_bytes"] == size and result["digest"] == sha("exported") and
              result["size_bytes"] == os.path.getsize(path("exported")), f"a chain becomes {form}: {result or error}")
        if form == "raw.zst":
            run_tool("zstd", "-dqf", "exported", "-o", "unpacked")
        compared = ("raw", "unpacked") if form == "raw.zst" else (form, "exported")
        check(subprocess.run(["qemu-img", "compare", "-q", "-f", compared[0], "-F", "raw", compared[1], "e.raw"],
                             cwd=folder).returncode == 0, f"{form} holds what QEMU reads")
        first = result and result["digest"]
        check(first == export(form, *chain, max_bytes=size)[0]["digest"], f"{form} comes out alike each time")
        got, error, _ = run("import", {"force": 1, "format": "" if form == "raw.zst" else form}, path("exported"), path("out"))
        check(got and same("e.raw"), f"{form} comes in again: {error}")
    result, error = export("qcow2", "qcow2", ("e3",), max_bytes=size)
    subprocess.run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", "", "e3"], cwd=folder, check=True)
    check(result and subprocess.run(["qemu-img", "compare", "-q", "exported", "e3"], cwd=folder).returncode == 0,
          "no file is read that was not handed over, whatever the layer names")
    for form, layers, sources, word in (("vhdx", "raw", ("e0.raw",), "not exported"), ("raw", "", (), "no layers"),
                                        ("raw", "vmdk", ("e0.raw",), "qcow2 or raw"), ("raw", "qcow2", ("e0.raw",), "layer 1")):
        result, error = export(form, layers, sources)
        check(not result and word in error["text"], f"refused: {error}")


def refused(request, name, code, word, text):
    result, error, _ = run("import", request, path(name), path("out"))
    check(not result and error and error["code"] == code and word in error["text"], f"{text}: {error}")
    with open(path("out"), "rb") as f:
        check(f.read(4) != b"QFI\xfb", f"{text}: no image came out")


def test_refused():
    refused({"digest": "sha256:" + "0" * 64}, "sound.raw", "BAD_IMAGE", "digest", "a wrong digest")
    refused({"digest": "sha256:" + "0" * 64}, "sound.raw.xz", "BAD_IMAGE", "digest", "a wrong digest of a compressed disk")
    refused({"digest": "md5:123"}, "sound.raw", "BAD_MESSAGE", "64", "another kind of digest")
    refused({"kind": "ftp"}, "sound.raw", "BAD_MESSAGE", "kind", "an unknown kind")
    refused({"max_bytes": 2**20}, "sound.raw", "QUOTA", "limit", "more than may come in")
    refused({"max_bytes": 2**20}, "sound.raw.xz", "QUOTA", "limit", "more than may be unpacked")
    refused({"max_bytes": 3 * 2**20}, "sound.qcow2", "QUOTA", "limit", "a disk above the limit")
    refused({"format": "qcow2"}, "sound.raw.gz", "BAD_IMAGE", "declared", "a compressed disk of another format")
    refused({"scratch_dir": "/nowhere"}, "sound.raw", "INTERNAL", "/nowhere", "a scratch folder that is not there")
    with open(path("vhd.gz"), "wb") as f:
        f.write(gzip.compress(open(path("sound.fixed.vhd"), "rb").read()))
    refused({}, "vhd.gz", "BAD_IMAGE", "fixed VHD", "a compressed fixed VHD that was not announced")
    result, error, _ = run("import", {"format": "vhd", "scratch_dir": folder}, path("vhd.gz"), path("out"))
    check(result and same("sound.raw"), "and one that was")
    with open(path("twice.gz"), "wb") as f:
        f.write(gzip.compress(gzip.compress(b"x" * 100000)))
    refused({}, "twice.gz", "BAD_IMAGE", "once more", "compressed twice")
    result, error, _ = run("import", {"force": True}, path("zeros"), path("out"))
    check(result and result["data_bytes"] == 0, "an empty disk, forced")


def test_hostile():
    texts = set()
    rows = [line.rstrip("\n").split("\t") for line in open(path("index"))]
    for name, declared, word in rows:
        request = {"max_bytes": 2**40, "format": "" if declared == "-" else declared}
        result, error, _ = run("import", request, path(name), path("out"))
        if not (error and error["code"] in ("BAD_IMAGE", "QUOTA") and word in error["text"] and error["text"] not in texts):
            check(False, f"{name}: {result} {error}")
        texts.add(error["text"] if error else name)
        with open(path("out"), "rb") as f:
            if b"the secret" in f.read():
                check(False, f"{name}: the secret is out")
    check(len(texts) == len(rows), f"{len(rows)} hostile images: each refused with a sentence of its own")


def test_bombs():
    zeros = bytes(2**20)
    head = open(path("sound.raw"), "rb").read(2**20)
    packer = lzma.LZMACompressor(preset=0)
    with open(path("bomb.xz"), "wb") as f:
        f.write(packer.compress(head))
        for _ in range(2000):
            f.write(packer.compress(zeros))
        f.write(packer.flush())
    refused({"max_ratio": 1000}, "bomb.xz", "BAD_IMAGE", "bomb", "two gigabytes in a small file")
    refused({"max_bytes": 2**29}, "bomb.xz", "QUOTA", "limit", "the same above the limit of bytes")
    with open(path("cut.xz"), "wb") as f:
        f.write(open(path("sound.raw.xz"), "rb").read()[:-20])
    refused({}, "cut.xz", "BAD_IMAGE", "ends early", "compressed data cut short")
    with open(path("junk.xz"), "wb") as f:
        f.write(open(path("sound.raw.xz"), "rb").read() + b"junk")
    refused({}, "junk.xz", "BAD_IMAGE", "follow", "junk behind compressed data")


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []
    limit = None
    slow = False

    def log_message(self, *args):
        pass

    def do_GET(self):
        body = open(path("sound.qcow2"), "rb").read()
        want = self.headers.get("Range")
        begin = int(want[6:].split("-")[0]) if want and self.headers.get("If-Range") == '"one"' else 0
        Server.seen.append(begin)
        self.send_response(206 if begin else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.path == "/slow":
            try:
                for at in range(begin, len(body), 4096):
                    self.wfile.write(body[at:at + 4096])
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                pass
            return
        end = len(body) if self.path == "/whole" else begin + 100000
        self.wfile.write(body[begin:end])
        self.close_connection = True


def fetch(address, request=None, **more):
    request = {"kind": "url", "url": address, "allow_private": True, **(request or {})}
    return start("import", request, path("staging"), path("out"), source_flags=os.O_RDWR, **more)


def test_url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://user:geheim@127.0.0.1:{server.server_port}"
    _, messages, noise = finish(fetch(base + "/whole", {"digest": sha("sound.qcow2")}))
    check("result" in messages[-1] and same("sound.raw"), f"an image is fetched and imported {messages[-1]}")
    check(any(m.get("progress", {}).get("phase") == "fetch" for m in messages), "with progress of the fetch")
    os.unlink(path("staging"))
    Server.seen.clear()
    _, messages, noise = finish(fetch(base + "/broken", {"digest": sha("sound.qcow2")}))
    check("result" in messages[-1] and Server.seen[:3] == [0, 100000, 200000], f"broken connections are gone on with {Server.seen}")
    os.unlink(path("staging"))

    process = fetch(base + "/slow")
    while os.path.getsize(path("staging")) < 100000:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    began = time.time()
    status, messages, noise = finish(process)
    check(status == -signal.SIGTERM and time.time() - began < 2, f"SIGTERM ends it at once ({status})")
    time.sleep(0.2)
    size = os.path.getsize(path("staging"))
    time.sleep(0.3)
    check(os.path.getsize(path("staging")) == size, "and its child with it")
    Server.seen.clear()
    _, messages, noise = finish(fetch(base + "/whole", {"digest": sha("sound.qcow2")}))
    check("result" in messages[-1] and same("sound.raw"), "a later worker finishes the work")
    try:
        os.setxattr(path("staging"), "user.imprint.test", b"x")
        check(Server.seen == [size], f"from where the first one was killed {Server.seen} {size}")
    except OSError:
        print("# this file system keeps no attributes: the fetch begins anew")
    os.unlink(path("staging"))

    _, messages, noise = finish(fetch(base + "/whole", {"allow_private": False}))
    error = messages[-1].get("error", {})
    check(error.get("code") == "DENIED" and "private" in error["text"], f"loopback is refused: {error}")
    check("geheim" not in json.dumps(messages) + noise, "and the password stays out of it")
    _, messages, noise = finish(fetch("ftp://127.0.0.1/x"))
    check(messages[-1].get("error", {}).get("code") == "BAD_MESSAGE", "ftp is refused")


def test_killed():
    before = set(os.listdir(folder)) | {"out", "big.raw"}
    with open(path("big.raw"), "wb") as f:
        f.write(open(path("sound.raw"), "rb").read(2**20))
        block = os.urandom(2**20)
        for _ in range(300):
            f.write(block)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        process = start("import", {"scratch_dir": folder}, path("big.raw"), path("out"))
        time.sleep(0.08)
        process.send_signal(sign)
        status, messages, noise = finish(process)
        check(status == -sign and not any("result" in m for m in messages), f"killed by {sign.name}")
        with open(path("out"), "rb") as f:
            check(f.read(4) != b"QFI\xfb", "what it leaves is no image")
        check(set(os.listdir(folder)) == before, "and no other file")


def test_changed():
    """The digest and the data must be of one state of the file."""
    for change, word in ((lambda f: os.truncate(f, 512), "while it was read"), (lambda f: os.utime(f), "changed while")):
        with open(path("big.raw"), "r+b") as f:
            f.write(open(path("sound.raw"), "rb").read(2**20) + bytes(range(256)) * 4 * 2**18)
            f.truncate(3 * 2**30)  # so that the digest takes a while
        process = start("import", {}, path("big.raw"), path("out"))
        line = process.stdout.readline()
        change(path("big.raw"))
        status, messages, noise = finish(process)
        error = messages[-1].get("error", {})
        check(b"progress" in line and status == 1 and error.get("code") == "BAD_IMAGE" and word in error["text"],
              f"{word}: {messages[-1]} {noise}")
        with open(path("out"), "rb") as f:
            check(f.read(4) != b"QFI\xfb", "and no image came out")


# --- The sandbox -------------------------------------------------------------------------------------------------------

BELTS = ["user", "limits", "no-new-privileges", "namespaces", "landlock", "no-tcp", "syscalls"]
LANDLOCK, UNSHARE = (444, 38), (272, 1)  # x86-64's numbers, and what a kernel or a container says that has them not


def without(*calls):
    """For the child before it runs the worker: these system calls fail."""
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # the number
    for number, errno in calls:
        code += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | errno)]
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000))
    program = ctypes.create_string_buffer(b"".join(code))
    filter = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)

    def first():
        libc.prctl(38, 1, 0, 0, 0)
        if libc.prctl(22, 2, ctypes.c_char_p(filter), 0, 0) != 0:
            os._exit(99)
    first.program = program  # must live as long
    return first


def become_nobody():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def report(first=None):
    result = subprocess.run([worker, "--sandbox-report"], capture_output=True, text=True, preexec_fn=first)
    return {line.split()[0]: line.split(None, 1)[1] for line in result.stdout.splitlines()}, result


def test_report():
    belts, result = report()
    check(result.returncode == 0 and list(belts) == BELTS, f"--sandbox-report names each belt {result}")
    check(all(belts[belt] == "fastened" for belt in BELTS[:3]), f"user, limits and privileges are always there {belts}")
    check(all(text == "fastened" or len(text) > 8 for text in belts.values()), f"and why one is not {belts}")
    belts, result = report(without(LANDLOCK, UNSHARE))
    check(result.returncode == 0 and belts["landlock"].startswith("no: ") and belts["namespaces"].startswith("no: "),
          f"a kernel without landlock, in a container {belts}")
    for first, weak, text in ((without(LANDLOCK), False, "without landlock"), (without(UNSHARE), False, "without namespaces"),
                              (without(LANDLOCK, UNSHARE), True, "without either")):
        status, messages, noise = finish(start("import", {}, path("sound.raw"), path("out"), first=first))
        logs = [m["log"] for m in messages if "log" in m]
        check(status == 0 and same("sound.raw"), f"an image is imported {text} {messages[-1]} {noise}")
        check(bool(logs) == weak and all("weak" in json.dumps(log) for log in logs), f"which is told if it is weak {logs}")
    if os.geteuid() == 0:
        status, messages, noise = finish(start("import", {}, path("sound.raw"), path("out"), first=become_nobody))
        check(status == 0 and same("sound.raw"), f"and without root {messages[-1]} {noise}")


def evil_run(**more):
    env = dict(os.environ, LD_PRELOAD=evil, EVIL_FOLDER=path("evil"), ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0",
               **more)
    for name in ("made", "victim"):
        if os.path.exists(path("evil/" + name)):
            os.unlink(path("evil/" + name))
    for name in ("secret", "victim"):
        with open(path("evil/" + name), "w") as f:
            f.write("to be had by anyone")
    return env


def test_evil():
    """A worker that was taken over by the image it reads."""
    os.mkdir(path("evil"))
    os.chmod(path("evil"), 0o777)
    inet, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    unix.bind(path("evil/socket"))
    os.chmod(path("evil/socket"), 0o777)
    unix.listen()
    port = str(inet.getsockname()[1])
    free = subprocess.run(["/bin/true"], env=evil_run(EVIL_PORT=port, EVIL_AT_ONCE="1", EVIL_EXEC="1"), capture_output=True,
                          text=True)
    ways = [line for line in free.stderr.splitlines() if line.endswith("worked")]
    check(len(ways) >= 7 and "a program ran" in free.stdout, f"outside the sandbox, evil works {free}")
    status, messages, noise = finish(start("import", {}, path("sound.raw"), path("out"), env=evil_run(EVIL_PORT=port)))
    check("evil: tried all" in noise and "worked" not in noise, f"in the worker, none of {len(ways)} ways works: {noise}")
    check(os.path.exists(path("evil/victim")) and not os.path.exists(path("evil/made")), "and no file comes or goes")
    status, messages, noise = finish(start("import", {}, path("sound.raw"), path("out"),
                                           env=evil_run(EVIL_PORT=port, EVIL_EXEC="1")))
    check("tried all" in noise and "a program ran" not in noise + json.dumps(messages), f"nor runs a program ({status})")


def test_requests():
    for text, word in (("", ""), ("[]", "object"), ("{", ""), ('{"max_bytes":-1}', "negative"), ('{"kind":"url"}', "url")):
        result = subprocess.run([worker, "import"], input=text.encode(), capture_output=True)
        error = json.loads(result.stdout.decode().splitlines()[-1]).get("error", {})
        check(result.returncode == 1 and error["code"] == "BAD_MESSAGE" and word in error["text"], f"request {text!r}: {error}")
    result = subprocess.run([worker, "dance"], input=b"{}", capture_output=True)
    check(b"BAD_ACTION" in result.stdout, "an unknown verb")
    result = subprocess.run([worker, "import"], input=b"{}", capture_output=True)
    check(b"not open" in result.stdout, "no descriptors")
    check(subprocess.run([worker], capture_output=True).returncode == 2, "no verb is a usage error")


try:
    for tool in ("qemu-img", "zstd"):
        if subprocess.run(["which", tool], capture_output=True).returncode:
            tap.skip(f"{tool} is missing")
    prepare()
    for test in (test_requests, test_formats, test_far, test_probe, test_fold, test_export, test_refused, test_hostile, test_bombs, test_url, test_killed, test_changed, test_report, test_evil):
        test()
    tap.plan()
finally:
    subprocess.run(["rm", "-rf", folder])
sys.exit(tap.status())
