# SPDX-License-Identifier: Apache-2.0
"""What the CLI's tests share: the stub server, running imprint against it, and TAP."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.abspath(sys.argv[1])
KEY, SECRET = "TESTACCESSKEY0000001", "testsecretkeytestsecretkey0000000000000A"


class Stub:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "stub.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.endpoint = "http://127.0.0.1:%d/iaas/" % self.port

    def tell(self, *words):
        for word in words:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "ok\n"

    def calls(self):
        """All calls since the last "fresh", as their parameters."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return json.load(opener.open("http://127.0.0.1:%d/stub/calls" % self.port))

    def call(self, action):
        """The last call of this action, without what every call has."""
        common = {"action", "zone", "time_stamp", "access_key_id", "version", "signature", "signature_method",
                  "signature_version", "offset", "limit"}
        found = [c for c in self.calls() if c["action"] == action]
        return {k: v for k, v in found[-1].items() if k not in common} if found else None

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return "status %d\nstdout: %s\nstderr: %s" % (self.status, self.out, self.err)


stub = Stub()
home = tempfile.mkdtemp(prefix="imprint-cli-")
config = os.path.join(home, "config", "imprint")


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("IMPRINT_") and k not in ("COLUMNS", "NO_COLOR")}
    env.update(IMPRINT_ENDPOINT=stub.endpoint, IMPRINT_ACCESS_KEY_ID=KEY, IMPRINT_SECRET_ACCESS_KEY=SECRET,
               XDG_CONFIG_HOME=os.path.join(home, "config"), HOME=home, TZ="UTC", LC_ALL="C.UTF-8")
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def imprint(*words, stdin="", **env):
    done = subprocess.run([PROGRAM] + list(words), input=stdin, capture_output=True, text=True, timeout=60,
                          env=environment(**env), cwd=home)
    return Result(done.returncode, done.stdout, done.stderr)


# --- TAP ----------------------------------------------------------------------------------------------------------------

count = failures = 0


def check(claim, text, result=None):
    global count, failures
    count += 1
    print("%s %d - %s" % ("ok" if claim else "not ok", count, text.replace("\n", " ").replace("#", "")))
    if not claim:
        failures += 1
        for line in str(result if result is not None else "").splitlines():
            print("#   " + line)
    return claim


def check_run(words, status=0, out=None, err=None, calls=None, text=None, **more):
    """Runs "noun verb …" on a fresh world; `out` and `err` are patterns, `calls` an action with its parameters."""
    stub.tell("fresh", *more.pop("trouble", ()))
    result = imprint(*(words.split() if isinstance(words, str) else words), **more)
    good = result.status == status
    for pattern, got in ((out, result.out), (err, result.err)):
        if pattern is not None:
            good = good and (re.search(pattern, got, re.S | re.M) is not None if pattern else got == "")
    if calls is not None:
        sent = stub.call(calls[0])
        good = good and sent == calls[1]
        if sent != calls[1]:
            result.err += "\nsent: %s\nwanted: %s" % (sent, calls[1])
    check(good, text or ("imprint " + (words if isinstance(words, str) else " ".join(words))), result)
    return result


def end():
    stub.stop()
    shutil.rmtree(home, ignore_errors=True)
    print("1..%d" % count)
    sys.exit(1 if failures else 0)
