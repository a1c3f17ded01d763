#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Completion, and that help and manual name the same commands and options."""
import os
import re
import subprocess
import sys

from peer import HERE, PROGRAM, check, end, environment, imprint, stub

ROOT = os.path.dirname(os.path.dirname(HERE))


def complete(*words, **env):
    return imprint("__complete", *words, **env).out.split()


def completion():
    stub.tell("fresh")
    check(complete("im") == ["image"], "nouns")
    check({"list", "import", "capture"} <= set(complete("image", "")), "verbs")
    check(complete("image", "show", "") == ["debian12x64", "img-0a1b2c3d", "debian12"], "ids and families of images are live")
    check(complete("image", "show", "img") == ["img-0a1b2c3d"], "what was typed narrows them")
    check(complete("instance", "run", "--image", "deb") == ["debian12x64", "debian12"], "values of options")
    check(complete("image", "import", "--format", "") == "raw qcow2 vmdk vdi vpc vhdx".split(), "choices")
    check(complete("image", "import", "") == ["@file"], "files are the shell's business")
    check(complete("image", "list", "--se") == ["--search", "--secret-file"], "options of the command and general ones")
    check(complete("keypair", "attach", "") == ["kp-bn2n7700"], "first the key pair")
    check(complete("keypair", "attach", "kp-bn2n7700", "i-4") == ["i-4kq0z8pw"], "then instances")
    check(complete("image", "capture", "i-4kq0z8pw", "") == [], "nothing when all words are there")
    check(complete("nonsense", "") == [] and complete("image", "nonsense", "") == [], "no noise for what is unknown")
    check(complete("image", "show", "", IMPRINT_ENDPOINT="http://127.0.0.1:1/") == [], "nor without a server")
    result = imprint("__complete", "image", "show", "", IMPRINT_ENDPOINT="http://127.0.0.1:1/")
    check(result.err == "" and result.status == 0, "not even on standard error", result)


def bash():
    script = """
. %s/completions/imprint.bash
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _imprint; echo "${COMPREPLY[*]}"; }
try %s image show img
try %s instance run --image = deb
""" % (ROOT, PROGRAM, PROGRAM)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment())
    check(done.stdout == "img-0a1b2c3d\ndebian12x64 debian12\n", "bash gets live ids, also behind --option=", done.stdout + done.stderr)


def help_options(text):
    """Long options with their letters, by section of a help text."""
    found = {}
    section = ""
    for line in text.splitlines():
        title = re.fullmatch(r"([A-Z][A-Za-z ]+):", line)
        section = title[1] if title else section
        option = re.match(r"  (?:-(\w), |    )--([a-z-]+)(?: ([A-Z0-9]+))?", line)
        if option:
            found.setdefault(section, set()).add((option[2], option[1] or "", option[3] or ""))
    return found


def manual_options(lines):
    found = set()
    for line in lines:
        option = re.match(r"\.It (?:Fl (\w) , )?Fl Fl ([a-z-]+)(?: Ar ([A-Z0-9]+))?", line)
        if option:
            found.add((option[2], option[1] or "", option[3] or ""))
    return found


def manual():
    sections, name = {}, ""
    for line in open(os.path.join(ROOT, "man", "imprint.1"), encoding="utf-8"):
        title = re.match(r"\.S[sh] (.*)", line)
        if title:
            name = title[1].strip()
        sections.setdefault(name, []).append(line)
    commands = set()
    top = imprint("--help").out
    nouns = re.findall(r"^  ([a-z]+)  ", top.split("General options")[0], re.M)
    check(len(nouns) >= 9, "the program's help names the nouns")
    for noun in nouns:
        text = imprint(noun, "--help").out
        verbs = re.findall(r"^  ([a-z-]+)", text.split("Commands:\n")[1], re.M) if "Commands:" in text else [""]
        for verb in verbs:
            words = [w for w in (noun, verb) if w]
            given = help_options(imprint(*words, "--help").out)
            usage = imprint(*words, "--help").out.splitlines()[0]
            title = [t for t in sections if re.match("imprint %s( [A-Z[]|$)" % " ".join(words), t)]
            commands.update(title)
            body = sections[title[0]] if len(title) == 1 else []
            check(len(title) == 1 and manual_options(body) == given.get("Options", set()),
                  "manual and help of %s have the same options" % " ".join(words),
                  "%s\nmanual: %s\nhelp: %s" % (title, manual_options(body), given.get("Options")))
            arguments = usage[len("Usage: imprint " + " ".join(words)):].replace(" [options]", "").replace("…", "...")
            check(bool(title) and title[0] == "imprint " + " ".join(words) + arguments, "and the same words", usage)
            for section, mark in (("What to list", "LISTING"), ("Waiting", "WAITING")):
                check((section in given) == any(mark in line for line in body), "and %s say both or none" % mark.lower())
                if section in given:
                    check(manual_options(sections[mark]) == given[section], "whose options are the same")
            check(manual_options(sections["General options"]) == given["General options"], "and the general ones")
    check({t for t in sections if t.startswith("imprint ")} == commands, "the manual has no other commands")
    for variable in ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ZONE", "CA_FILE", "OUTPUT", "CONFIG"):
        check(any("IMPRINT_" + variable in line for line in sections["ENVIRONMENT"]), "the manual names IMPRINT_" + variable)
    if any(os.access(os.path.join(d, "mandoc"), os.X_OK) for d in os.environ["PATH"].split(":")):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(ROOT, "man", "imprint.1")],
                              capture_output=True, text=True)
        check(done.returncode == 0, "mandoc has nothing to complain about", done.stdout)


completion()
bash()
manual()
end()
