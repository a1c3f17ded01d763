# SPDX-License-Identifier: Apache-2.0
"""Stands in for process 1 of a host: starts what it is told to and reaps whatever is left to it, at once. (The first
process of a container is often slow at that, and a dead machine then looks alive.) One order a line on standard input,
words separated by tabs:

run LOG PROGRAM WORD...   its process id
alive PID                 yes or no
wait PID                  its exit status once it has ended, negative for a signal
"""
import ctypes
import os
import select
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
ended = {}


def reap():
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended[pid] = os.waitstatus_to_exitcode(status)


def run(log, *words):
    pid = os.fork()
    if pid > 0:
        ended.pop(pid, None)  # of a process that had the number before
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    try:
        os.execv(words[0], words)
    except OSError as error:
        os.write(2, ("%s: %s\n" % (words[0], error)).encode())
    os._exit(127)


def obey(words):
    if words[0] == "run":
        return run(*words[1:])
    reap()
    pid = int(words[1])
    if words[0] == "alive":
        return "no" if pid in ended else "yes"
    while pid not in ended:
        signal.sigtimedwait([signal.SIGCHLD], 0.2)
        reap()
    return ended[pid]


def serve():
    assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    awake, sleeper = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(sleeper, False)
    signal.set_wakeup_fd(sleeper)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    text = b""
    while True:
        ready = select.select([0, awake], [], [], 5)[0]
        if awake in ready:
            os.read(awake, 4096)
        reap()
        if 0 in ready:
            got = os.read(0, 65536)
            if not got:
                return
            text += got
        while b"\n" in text:
            line, text = text.split(b"\n", 1)
            print(obey(line.decode().split("\t")), flush=True)


if __name__ == "__main__":
    serve()
