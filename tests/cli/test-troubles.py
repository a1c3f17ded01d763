#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong and what is said then; waiting and interrupts; settings; terminals."""
import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import termios
import time

from peer import PROGRAM, SECRET, Result, check, check_run, config, end, environment, home, imprint, stub

I = "i-4kq0z8pw"


class Terminal:
    """imprint on a terminal of its own; read() waits for a pattern."""

    def __init__(self, *words, columns=80, **env):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave, self.text = slave, ""
        self.process = subprocess.Popen([PROGRAM] + list(words), stdin=slave, stdout=slave, stderr=slave, cwd=home,
                                        env=environment(TERM="xterm", **env), start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def read(self, pattern, seconds=10):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
            if re.search(pattern, self.text, re.S):
                return True
        return False

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        status = self.process.wait(10)
        self.read("never", 0.2)
        self.after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        return Result(status, self.text, "")


def server():
    check_run("image list", status=1, IMPRINT_ENDPOINT="http://127.0.0.1:1/", text="refused connections name the next step",
              err=r"nothing answers at http://127.0.0.1:1/iaas/: connection refused\n  next: is imprintd running\? start it with "
                  r"./quickstart or systemctl start imprintd")
    check_run("image list", status=1, IMPRINT_ENDPOINT="http://no-such-host.invalid/", err="is the endpoint right")
    check_run("image list", status=2, IMPRINT_ENDPOINT="ftp://x/", err="no address of an API")
    check_run("image list", status=4, IMPRINT_SECRET_ACCESS_KEY="wrong", err="AuthFailure.*read from IMPRINT_SECRET_ACCESS_KEY")
    check_run("image list", status=4, IMPRINT_ACCESS_KEY_ID="WRONG", err="AuthFailure")
    check_run("image list", status=4, trouble=["+skew"], err=r"RequestHasExpired.*this machine's clock says \S+Z, the server's \S+Z: "
                                                             r"\d+ s apart.*set the clocks right")
    check_run("image list", status=1, trouble=["+foreign"], err="answered HTTP 200, which is no reply of the API")
    check_run("instance stop " + I, status=1, trouble=["+hang-up"], IMPRINT_ZONE="test1a",
              err="it may have been done or not: look with 'imprint job list'")
    check_run("image list", status=4, IMPRINT_ZONE="elsewhere", err="access denied for zone")
    check_run("image list", IMPRINT_ENDPOINT=stub.endpoint, http_proxy="http://127.0.0.1:1/", HTTP_PROXY="http://127.0.0.1:1/",
              text="no proxy stands between us and this machine")
    check_run("image list", out="", status=2, IMPRINT_ACCESS_KEY_ID=None, err="no access key is set.*imprint configure")


def usage():
    check_run("", status=2, err="", out="Usage: imprint NOUN", text="imprint alone shows its help")
    check_run("image", status=2, err="Usage: imprint image COMMAND", out="")
    check_run("image --help", out="Usage: imprint image COMMAND", err="")
    check_run("help image import", out="Usage: imprint image import")
    check_run("--version", out=r"\Aimprint \d+\.\d+\.\d+\n\Z")
    check_run("images list -q", out="debian12x64", text="the plural is understood")
    check_run("imaeg list", status=2, err="did you mean imprint image")
    check_run("image list --serch x", status=2, err="did you mean --search")
    if os.path.exists("/dev/full"):
        done = subprocess.run([PROGRAM, "image", "list"], stdout=open("/dev/full", "w"), stderr=subprocess.PIPE, text=True,
                              env=environment())
        check(done.returncode == 1 and "No space left" in done.stderr, "output that cannot be written is a failure", done.stderr)


def settings():
    path = os.path.join(config, "config")
    none = dict(IMPRINT_ENDPOINT=None, IMPRINT_ACCESS_KEY_ID=None, IMPRINT_SECRET_ACCESS_KEY=None)
    stub.tell("fresh")
    answers = "%s\nTESTACCESSKEY0000001\n%s\n" % (stub.endpoint, SECRET)
    result = imprint("configure", stdin=answers, **none)
    check(result.status == 0 and "zone test1a" in result.err and SECRET not in result.out + result.err,
          "configure takes three answers and finds the zone", result)
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the file is its owner's only")
    check_run("image list -q", out="debian12x64", err="", text="then nothing else is needed", **none)
    os.chmod(path, 0o644)
    check_run("image list -q", out="debian12x64", err=r"warning: others can read the secret key in .*chmod 600", **none)
    os.chmod(path, 0o600)
    result = imprint("configure", stdin="\n\nwrongsecret\n", **none)
    check(result.status == 4 and SECRET in open(path).read(), "a key that does not work is not written", result)
    check_run("configure --no-input --no-check --endpoint http://h:1/", err="written", **none)
    check("endpoint = http://h:1/" in open(path).read(), "options are kept by configure")
    secret = os.path.join(home, "secret")
    with open(secret, "w") as out:
        out.write(SECRET + "\n")
    check_run(["image", "list", "-q", "--endpoint", stub.endpoint, "--secret-file", secret, "--access-key", "TESTACCESSKEY0000001"],
              out="debian12x64", text="all of it by options", **none)
    check_run("image list -o csv -q", out="debian12x64")
    check_run("zone list", IMPRINT_OUTPUT="csv", out=r"\Azone_id,status\n", text="IMPRINT_OUTPUT names the form")
    check_run("zone list", IMPRINT_OUTPUT="yaml", status=2, err="none of: table json csv")
    os.unlink(path)


def jobs():
    stub.tell("fresh")
    job = imprint("instance", "stop", I).out.split()[1]
    check_run_on = lambda *words: imprint(*words)
    result = check_run_on("job", "wait", job)
    check(result.status == 0 and result.out == job + " successful\n", "job wait", result)
    result = check_run_on("job", "show", job)
    check("resource_ids" not in result.out and "RESOURCES" in result.out and I in result.out, "job show", result)
    check("i-4kq0z8pw" in check_run_on("job", "list").out, "job list")
    result = check_run_on("job", "cancel", job)
    check(result.status == 0 and "asked to stop" in result.out, "job cancel", result)
    check_run("job wait j-missing", status=3, err="job j-missing does not exist")
    check_run("instance stop %s --wait" % I, status=1, trouble=["+job-fails"],
              err=r"job j-\w+ failed: pool local: the pool is full\n  next: imprint job show j-")
    check_run("instance run -i debian12 --count 3 --wait", status=7, trouble=["+job-partly"], out=r"\Ai-\w+\ni-\w+\ni-\w+\n\Z",
              err=r"i-\w+: done\n  i-\w+: failed: pool local: the pool is full.*was done in part")
    check_run("instance stop %s --wait --timeout 1" % I, status=6, trouble=["+stuck"],
              err=r"job j-\w+ is not over yet; it goes on\n  next: imprint job wait j-")
    check_run("instance run -i debian12 -q --wait", out=r"\Ai-\w{8}\n\Z", err="", text="-q says ids and nothing else")
    result = check_run("instance run -i debian12 --wait -o json", out=r"\A\[")
    stub.tell("fresh", "+stuck")
    process = subprocess.Popen([PROGRAM, "instance", "stop", I, "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    check(process.returncode == -signal.SIGINT and
          re.search(r"stopped waiting; job j-\w+ goes on\n  next: 'imprint job show j-\w+' looks at it, 'imprint job cancel j-\w+' stops it",
                    err), "Ctrl-C says that the job goes on, and how to look at or cancel it", Result(process.returncode, out, err))
    path = os.path.join(home, "slow.raw")
    with open(path, "wb") as out:
        out.write(os.urandom(24 << 20))
    stub.tell("fresh", "+slow-upload")
    process = subprocess.Popen([PROGRAM, "image", "import", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    command = re.search(r"next: imprint (image import \S+ --resume img-\w+)", err)
    check(process.returncode == -signal.SIGINT and command, "an upload that is stopped says how to go on", Result(process.returncode, out, err))
    stub.tell("-slow-upload")
    time.sleep(1)
    result = imprint(*command[1].split(), "--wait")
    check(result.status == 0 and "available" in result.out, "and it goes on", result)


def terminals():
    stub.tell("fresh")
    term = Terminal("image", "list")
    result = term.end()
    check("\033[1mID" in result.out and max(len(l) for l in re.sub("\033.[0-9;]*m", "", result.out).split("\r\n")) <= 80,
          "on a terminal titles are bold and 80 columns are kept to", result)
    term = Terminal("image", "list", NO_COLOR="1")
    check("\033" not in term.end().out, "NO_COLOR is heeded")
    stub.tell("fresh", "+stuck")
    term = Terminal("instance", "stop", I, "--wait")
    check(term.read(r"StopInstances i-4kq0z8pw: working  \d s") and term.read(r"[⠋⠙⠹].*[⠸⠼⠴]"), "a spinner turns", term.text)
    stub.tell("-stuck")
    check(term.end().status == 0, "until the job is over")
    stub.tell("fresh", "+slow-upload")
    path = os.path.join(home, "bar.raw")
    with open(path, "wb") as out:
        out.write(os.urandom(24 << 20))
    term = Terminal("image", "import", path, "--wait", columns=120)
    check(term.read(r"upload img-\w+  █+░+ +\d+ %  [\d.]+ MiB of 24.0 MiB  [\d.]+ [KM]iB/s  \d+ s left"),
          "a bar shows percent, bytes, rate and the time left", term.text)
    check(term.end().status == 0, "and the import ends well")
    stub.tell("fresh")
    stub.tell("fresh")
    imprint("keypair", "create", "--name", "second")
    term = Terminal("instance", "run", "-i", "debian12")
    check(term.read(r"Which key pair.*1  kp-bn2n7700  k1.*2  kp-\w+  second.*Number"), "of several key pairs one is asked for", term.text)
    term.type("2\n")
    check(term.end().status == 0 and stub.call("RunInstances")["login_keypair"] != "kp-bn2n7700", "and the one picked is used")
    result = imprint("instance", "run", "-i", "debian12")
    check(result.status == 2 and "--keypair" in result.err, "without a terminal all are named instead", result)


def consoles():
    stub.tell("fresh")
    result = imprint("instance", "console", I, stdin="hello\nquit\n")
    check(result.status == 0 and "login: " in result.out and "hello\nquit" in result.out and "bye, pong was heard" in result.out,
          "a script can use the console; pings are answered", result)
    result = imprint("instance", "console", I, stdin="hello\n")
    check(result.status == 0 and "hello" in result.out, "it ends when the input is over and the machine silent", result)
    result = imprint("instance", "console", I, stdin="flood\nquit\n")
    check(result.out.count("x") >= 100000 and "END" in result.out, "much output arrives whole", len(result.out))
    result = imprint("instance", "console", I, stdin="z" * 50000 + "quit\n")
    check(result.out.count("z") == 50000, "and so does much input", len(result.out))
    check_run("instance console i-stopped1", status=5, err=r"is not running, has no console\n  next: imprint instance start i-stopped1 --wait")
    check_run("instance console i-missing", status=3, err="i-missing. does not exist")
    check_run("instance log i-missing", status=3, err="i-missing. does not exist")
    stub.tell("fresh")
    term = Terminal("instance", "console", I)
    check(term.read("Ctrl-] leaves.*login: "), "on a terminal it says how to leave", term.text)
    raw = termios.tcgetattr(term.slave)
    check(not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG), "the terminal is raw")
    term.type("ab\x03cd")
    check(term.read("ab\x03cd"), "Ctrl-C goes to the machine", term.text)
    term.type("\x1d")
    result = term.end()
    check(result.status == 0 and "left the console" in result.out and term.after == term.before, "Ctrl-] leaves and restores", result)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGABRT):
        term = Terminal("instance", "console", I)
        term.read("login: ")
        term.process.send_signal(number)
        result = term.end()
        check(result.status == -number and term.after == term.before, "%s leaves the terminal as it was" % number.name, result)
    term = Terminal("instance", "console", I)
    term.read("login: ")
    term.type("quit")
    result = term.end()
    check("bye" in result.out and term.after == term.before, "and so does the end of the machine", result)


for part in (server, usage, settings, jobs, terminals, consoles):
    part()
end()
