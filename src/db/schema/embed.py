#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a C header of the numbered migrations: embed.py OUT.h 001-init.sql 002-….sql"""
import sys

with open(sys.argv[1], "w") as out:
    out.write("/* Made by embed.py from the numbered files beside it. */\n#define DB_MIGRATIONS {")
    for path in sys.argv[2:]:
        text = open(path).read()
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        quoted = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
        out.write(" \\\n" + " \\\n".join('"%s\\n"' % line for line in quoted) + ",")
    out.write(" }\n")
