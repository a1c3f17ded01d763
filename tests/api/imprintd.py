# SPDX-License-Identifier: Apache-2.0
"""A real imprintd in a folder of its own, over a make-believe hypervisor, for the tests of the API; and TAP lines."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ZONE = "test1a"
_count = _failed = 0


def check(claim, text, detail=None):
    global _count, _failed
    _count += 1
    print("%sok %d - %s" % ("" if claim else "not ", _count, text.replace("#", "")))
    if not claim:
        _failed += 1
        if detail is not None:
            print("# " + str(detail)[:2000].replace("\n", "\n# "))
    sys.stdout.flush()
    return bool(claim)


def end():
    print("1..%d" % _count)
    sys.exit(1 if _failed else 0)


class Imprintd:
    """with Imprintd(program) as daemon: daemon.port, daemon.key("ann") …"""

    def __init__(self, program, http=""):
        self.program = program
        self.state = tempfile.mkdtemp(prefix="imprint-api-")
        os.chmod(self.state, 0o755)
        os.mkdir(os.path.join(self.state, "source"))
        self.log = os.path.join(self.state, "log")
        self.process = None
        with open(os.path.join(self.state, "imprintd.conf"), "w") as conf:
            conf.write("[imprintd]\nzone = %s\n[virt]\nuri = memory:\n[net]\nmode = user\n[import]\npaths = %s/source\n"
                       "[limits]\nstop_timeout = 5\nmemory_reserve = 0\nmonitor = 1\n[http]\nport = 0\n%s" % (ZONE, self.state, http))

    def run(self, *words):
        done = subprocess.run([self.program, "--state", self.state, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=60)
        if done.returncode != 0:
            raise SystemExit("imprintd %s: %s" % (" ".join(words), done.stderr))
        return dict(line.split(": ", 1) for line in done.stdout.split("\n") if ": " in line)

    def user(self, name, *options):
        """Adds a user; (access key, secret, user id)."""
        user = self.run("user", "add", name, *options)
        return self.key(name) + (user["user_id"],)

    def key(self, name):
        made = self.run("key", "add", name)
        return made["access_key_id"], made["secret_access_key"]

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.program, "--state", self.state], stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in open(self.log, errors="replace"):
                if " serves zone " in line:
                    self.port = int(line.rsplit(":", 1)[1].split("/")[0])
                    return self
            time.sleep(0.05)
        raise SystemExit("imprintd did not start:\n" + open(self.log, errors="replace").read())

    def alive(self):
        return self.process.poll() is None

    def rss_mib(self):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0

    def complaints(self):
        """What the sanitizers, or an assertion, said."""
        text = open(self.log, errors="replace").read()
        return [line for line in text.split("\n")
                if "runtime error" in line or "AddressSanitizer" in line or "Assertion" in line or "LeakSanitizer" in line]

    def disk(self, name, mib=1):
        path = os.path.join(self.state, "source", name)
        with open(path, "wb") as disk:
            disk.truncate(mib << 20)
        os.chmod(path, 0o644)
        return path

    def stop(self):
        """The exit status of a clean end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            return "does not end"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.state, ignore_errors=True)
