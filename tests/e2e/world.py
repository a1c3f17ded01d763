# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a real imprintd in a folder of its own, the real command line, real QEMU, and TAP.

Usage of each test: TEST.py IMPRINTD IMPRINT WORKER GUESTS... [--NAME=VALUE]... ; machines run under TCG and an embedded
libvirt. IMPRINT_E2E_DIR is where folders are made, in place of /tmp; with IMPRINT_E2E_KEEP they are kept.
"""
import atexit
import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

IMPRINTD, IMPRINT, WORKER = (os.path.abspath(path) for path in sys.argv[1:4])
GUESTS = [os.path.abspath(path) for path in sys.argv[4:] if not path.startswith("-")]
OPTIONS = dict(word[2:].split("=", 1) for word in sys.argv[4:] if word.startswith("--"))
# Everything is waited for, nothing is timed: this is only where waiting becomes failing, also on a slow, busy machine.
PATIENCE_S = 180
INIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.py")


# --- TAP ----------------------------------------------------------------------------------------------------------------

count = failures = 0


def check(claim, text, detail=""):
    global count, failures
    count += 1
    print("%s %d - %s" % ("ok" if claim else "not ok", count, text.replace("\n", " ").replace("#", "")), flush=True)
    if not claim:
        failures += 1
        note(detail() if callable(detail) else detail)
    return bool(claim)


def note(text):
    for line in str(text).splitlines():
        print("#   " + line, flush=True)


def end():
    print("1..%d" % count, flush=True)
    sys.exit(1 if failures else 0)


def wait_for(probe, seconds=PATIENCE_S, pause=0.05):
    """The first true answer of probe(), or its last one."""
    until = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer or time.monotonic() > until:
            return answer
        time.sleep(pause)


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return "status %d\nstdout: %s\nstderr: %s" % (self.status, self.out, self.err)


class Failed(Exception):
    """A command that the rest of the test stands on did not work."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# --- The world ----------------------------------------------------------------------------------------------------------

class World:
    """One imprintd with all its state below one folder; a user, an administrator, has a key."""

    def __init__(self, pool=None, **settings):
        self.folder = tempfile.mkdtemp(prefix="imprint-e2e-", dir=os.environ.get("IMPRINT_E2E_DIR", "/tmp"))
        os.chmod(self.folder, 0o711)
        self.state = os.path.join(self.folder, "state")
        self.disks = os.path.join(self.folder, "disks")  # from where imports are allowed
        self.pool = pool or os.path.join(self.state, "pool")
        self.log = os.path.join(self.folder, "imprintd.log")
        self.embed = os.path.join(self.folder, "libvirt")
        self.port = free_port()
        self.pid = None
        self.init = subprocess.Popen([sys.executable, INIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.end)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        os.mkdir(self.disks)
        self.config = os.path.join(self.folder, "imprintd.conf")
        self.configure(**settings)
        self.key = {}
        self.add_user("tester", admin=True)

    def configure(self, **settings):
        """settings: section_key="value", over what the tests need."""
        wanted = {"imprintd_state_dir": self.state, "imprintd_worker": WORKER,
                  "storage_uri": "local:" + self.pool, "virt_uri": "qemu:///embed?root=" + self.embed,
                  "virt_accel": "tcg", "virt_tb_cache": 32, "net_mode": "user", "http_port": self.port,
                  "limits_min_memory": 16, "limits_memory_reserve": 64, "import_paths": self.disks}
        wanted.update(settings)
        sections = {}
        for name, value in wanted.items():
            section, key = name.split("_", 1)
            sections.setdefault(section, []).append("%s = %s" % (key, value))
        with open(self.config, "w") as file:
            for section, lines in sections.items():
                file.write("[%s]\n%s\n" % (section, "\n".join(lines)))

    # The daemon

    def operator(self, *words):
        done = subprocess.run([IMPRINTD, "--config", self.config, *words], capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise Failed("imprintd %s: %s" % (" ".join(words), done.stderr))
        return done.stdout

    def add_user(self, name, admin=False):
        self.operator("user", "add", name, *(["--admin"] if admin else []))
        self.key = dict(re.findall(r"^(\w+): (.*)$", self.operator("key", "add", name), re.M))

    def tell_init(self, *words):
        self.init.stdin.write("\t".join(words) + "\n")
        self.init.stdin.flush()
        return self.init.stdout.readline().strip()

    def launch(self):
        self.pid = int(self.tell_init("run", self.log, IMPRINTD, "--config", self.config))

    def start(self):
        """Starts imprintd and waits until it answers."""
        self.launch()
        if not wait_for(lambda: self.answers() or not self.runs()) or not self.runs():
            raise Failed("imprintd does not start:\n" + tail(self.log))

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(256)
        except OSError:
            return False

    def runs(self):
        return self.pid is not None and self.tell_init("alive", str(self.pid)) == "yes"

    def kill(self, number=signal.SIGKILL):
        """Ends imprintd; its exit status, negative for a signal."""
        try:
            if self.runs():
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it has just ended by itself
        status = int(self.tell_init("wait", str(self.pid)))
        self.pid = None
        return status

    def restart(self):
        self.kill()
        self.start()

    def end(self):
        """Nothing that we started stays: imprintd, machines, workers, files."""
        if self.init.poll() is None:
            if self.pid is not None:
                self.kill()
            for pid, _ in self.machines():
                os.kill(pid, signal.SIGKILL)
            self.init.stdin.close()
            try:
                self.init.wait(30)
            except subprocess.TimeoutExpired:
                self.init.kill()
        if "IMPRINT_E2E_KEEP" not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)

    # The command line

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("IMPRINT_") and k != "COLUMNS"}
        env.update(IMPRINT_ENDPOINT="http://127.0.0.1:%d/iaas/" % self.port, HOME=self.folder, TZ="UTC", LC_ALL="C.UTF-8",
                   XDG_CONFIG_HOME=os.path.join(self.folder, "config"),
                   IMPRINT_ACCESS_KEY_ID=self.key.get("access_key_id", ""),
                   IMPRINT_SECRET_ACCESS_KEY=self.key.get("secret_access_key", ""))
        env.update(more)
        return env

    def begin(self, *words, **more):
        """imprint as a process of its own, for what goes on while it runs."""
        return subprocess.Popen([IMPRINT, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, cwd=self.folder, env=self.environment(), **more)

    def imprint(self, *words, stdin="", seconds=PATIENCE_S):
        done = subprocess.run([IMPRINT, *words], input=stdin, capture_output=True, text=True, timeout=seconds,
                              cwd=self.folder, env=self.environment())
        return Result(done.returncode, done.stdout, done.stderr)

    def json(self, *words, status=0, **more):
        """What a command prints with -o json; Failed when it does not end as it should."""
        result = self.imprint(*words, "-o", "json", **more)
        if result.status != status:
            raise Failed("imprint %s: %s" % (" ".join(words), result))
        return json.loads(result.out) if result.out.strip() else None

    def one(self, noun, id):
        found = self.json(noun, "show", id)
        return found[0] if isinstance(found, list) else found

    def status(self, noun, id):
        return self.one(noun, id)["status"]

    def run(self, image, *words):
        """A new instance that runs; its id."""
        result = self.imprint("instance", "run", "--image", image, "--no-login", "--wait", "-q", *words)
        if result.status != 0:
            raise Failed("instance run: %s" % result)
        return result.out.split()[0]

    def do(self, *words, **more):
        """A verb that must work, waited for; the first id it prints."""
        result = self.imprint(*words, "--wait", "-q", **more)
        if result.status != 0:
            raise Failed("imprint %s: %s" % (" ".join(words), result))
        return (result.out.split() or [""])[0]

    def ask(self, action, **params):
        """An action as it goes over the wire, for what the command line has no word for; the reply."""
        params.update(action=action, access_key_id=self.key["access_key_id"], signature_method="HmacSHA256",
                      signature_version="1", version="1", zone="local1a",
                      time_stamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        query = "&".join("%s=%s" % (name, urllib.parse.quote(params[name], safe="-_.~")) for name in sorted(params))
        digest = hmac.new(self.key["secret_access_key"].encode(), ("GET\n/iaas/\n" + query).encode(), hashlib.sha256)
        signature = urllib.parse.quote(base64.b64encode(digest.digest()).decode(), safe="")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/iaas/?%s&signature=%s" % (query, signature))
        reply = json.loads(connection.getresponse().read())
        connection.close()
        return reply

    # What is really there

    def console(self, instance):
        path = os.path.join(self.state, "console", instance + ".log")
        try:
            with open(path, errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def says(self, instance, pattern, after=0, seconds=PATIENCE_S):
        """Waits until the console's log matches, behind its first `after` characters; the match."""
        return wait_for(lambda: re.search(pattern, self.console(instance)[after:]), seconds)

    def machines(self):
        """(pid, name) of each QEMU of ours, from the process list: whatever imprintd and libvirt think."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/cmdline" % entry, "rb") as file:
                        words = file.read().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if words[0].endswith("qemu-system-x86_64") and any(self.embed in word for word in words):
                    name = [w for w in words if w.startswith("guest=")]
                    found.append((int(entry), name[0][6:].split(",")[0] if name else ""))
        return sorted(found)

    def machine(self, instance):
        """The pid of its QEMU; None."""
        return next((pid for pid, name in self.machines() if name == instance), None)

    def pool_clean(self):
        """Waits for the collector, which works in the background, and compares pool and record."""
        return wait_for(lambda: self.imprint("pool", "check").status == 0, 60, 0.3)


def tail(path, lines=25):
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError as error:
        return str(error)


class Terminal:
    """imprint on a terminal of its own."""

    def __init__(self, world, *words):
        import pty
        self.master, slave = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen([IMPRINT, *words], stdin=slave, stdout=slave, stderr=slave, cwd=world.folder,
                                        env=world.environment(TERM="xterm"), start_new_session=True)
        os.close(slave)

    def hears(self, pattern, seconds=PATIENCE_S):
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text) and time.monotonic() < until:
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
        return re.search(pattern, self.text)

    def type(self, text):
        os.write(self.master, text.encode())

    def leave(self):
        """Ctrl-]; the exit status."""
        self.type("\x1d")
        self.hears("left the console", 30)
        status = self.process.wait(30)
        os.close(self.master)
        return status


def main(*parts):
    """Runs the parts of a test one after the other; one that cannot go on fails, the next still runs."""
    for part in parts:
        try:
            part()
        except (Failed, subprocess.TimeoutExpired) as error:
            check(False, "%s goes on to its end" % part.__name__, str(error))
    end()
