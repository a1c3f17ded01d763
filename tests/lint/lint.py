#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the tree that no compiler checks. TAP; run from anywhere with the top folder as argument."""
import pathlib
import re
import shutil
import subprocess
import sys

top = pathlib.Path(sys.argv[1])
SOURCES = sorted(path for folder in ("src", "bench", "tests")
                 for pattern in ("*.c", "*.h") for path in (top / folder).rglob(pattern))
LONGEST = 1000  # lines of a file: beyond it, it has two jobs
count = 0
failed = 0


def claim(text, offenders):
    """One TAP line; the offenders are named below it."""
    global count, failed
    count += 1
    failed += bool(offenders)
    print(f"{'not ok' if offenders else 'ok'} {count} - {text}")
    for offender in offenders[:20]:
        print(f"#   {offender}")


def name(path):
    return str(path.relative_to(top))


def text_of(path):
    return path.read_text(encoding="utf-8")


claim("every source begins with its licence",
      [name(p) for p in SOURCES if not text_of(p).startswith("/* SPDX-License-Identifier: Apache-2.0 */\n")])
claim("no file has grown beyond its job",
      [f"{name(p)}: {n} lines" for p in SOURCES if (n := text_of(p).count("\n")) > LONGEST])
claim("no line is longer than 100 characters",
      [f"{name(p)}:{i}" for p in SOURCES for i, line in enumerate(text_of(p).split("\n"), 1) if len(line) > 100])
# Split in two so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
claim("nothing is marked unfinished",
      [f"{name(p)}:{i}" for p in SOURCES for i, line in enumerate(text_of(p).split("\n"), 1) if UNFINISHED.search(line)])
claim("a header of one room is not included by its folder's inside",
      [f"{name(p)}: {m}" for p in (top / "src").rglob("*.[ch]")
       for m in re.findall(r'#include "([a-z0-9-]+/[a-z0-9-]+-private\.h)"', text_of(p))])

FINDINGS = text_of(top / "src/guest/include/guest/inspect.h").replace("\\\n", "")
FINDINGS = [f"`{code}` | {severity.lower()}" for code, severity in re.findall(r'X\(\w+, "([a-z_.]+)", (\w+),', FINDINGS)]
TOLD = re.findall(r"^\| (`[a-z_.]+` \| [a-z]+) \|", text_of(top / "docs/findings.md"), re.M)
claim("every finding is in docs/findings.md, and no other", [] if len(FINDINGS) > 40 and TOLD == FINDINGS else
      sorted(set(TOLD) ^ set(FINDINGS)) or ["order"])

MANUALS = sorted((top / "man").iterdir())
if shutil.which("mandoc"):
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *map(str, MANUALS)], capture_output=True, text=True)
    claim("mandoc has nothing to say of the manuals", lint.stdout.splitlines())
SCRIPTS = [top / "quickstart", top / "test", top / ".ci/run", *sorted((top / "tools").rglob("*"))]
SCRIPTS = [p for p in SCRIPTS if p.is_file() and (p.suffix == ".sh" or text_of(p).startswith("#!/bin/bash"))]
claim("every script parses",
      [name(p) for p in SCRIPTS if subprocess.run(["bash", "-n", str(p)], capture_output=True).returncode != 0])
if shutil.which("clang-format"):
    style = subprocess.run(["clang-format", "--dry-run", "--Werror", *map(str, SOURCES)], capture_output=True, text=True)
    claim("clang-format would change nothing",
          sorted({line.split(": error")[0].removeprefix(f"{top}/") for line in style.stderr.splitlines() if ": error" in line}))

print(f"1..{count}")
sys.exit(failed > 0)
