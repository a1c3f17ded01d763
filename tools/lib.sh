# SPDX-License-Identifier: Apache-2.0
# What quickstart, test, .ci/run and the tools share: speaking, timing, packages, and processes of our own.
# Sourced by bash after `set -euo pipefail`; $top is the top of the source tree.

top=${top:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { warn "$*"; exit 1; }

now_ms() { date +%s%3N; }
seconds() { printf '%d.%01d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root and there is no sudo: $*"
    fi
}

# packages GROUP… : the packages of these groups, one a line.
packages() {
    local group
    for group; do
        sed -n "s/^$group: *//p" "$top/tools/packages" | tr -s ' ' '\n'
    done | sort -u
}

packages_missing() {
    local name
    for name in $(packages "$@"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s\n' "$name"
    done
}

# Installs what is missing of the groups and starts no service: /usr/sbin/policy-rc.d is set for the time of the
# installation where there is none. Its output goes to the file $1.
packages_install() {
    local log=$1 names policy=
    shift
    names=$(packages_missing "$@")
    [ -n "$names" ] || return 0
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=1
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
    fi
    local rc=0
    # shellcheck disable=SC2086
    { as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends \
            install $names; } >>"$log" 2>&1 </dev/null || rc=$?
    [ -z "$policy" ] || as_root rm -f /usr/sbin/policy-rc.d
    return "$rc"
}

# A process is known by its id and the time it was started at, so that an id used again is never taken for ours.
process_birth() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# process_note FILE PID : writes down a process we started.
process_note() { printf '%s %s\n' "$2" "$(process_birth "$2")" >"$1"; }

# process_of FILE : prints the id of the noted process if it still runs (a zombie does not).
process_of() {
    local pid birth
    [ -r "$1" ] || return 1
    read -r pid birth <"$1" || return 1
    [ -n "$birth" ] && [ "$(process_birth "$pid")" = "$birth" ] || return 1
    [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" != Z ] || return 1
    printf '%s\n' "$pid"
}

# process_end FILE [SECONDS] : ends the noted process, by TERM and after a while by KILL.
process_end() {
    local pid left=$((${2:-20} * 10))
    if pid=$(process_of "$1"); then
        kill -TERM "$pid" 2>/dev/null || as_root kill -TERM "$pid" || true
        while process_of "$1" >/dev/null && [ $left -gt 0 ]; do
            sleep 0.1
            left=$((left - 1))
        done
        ! process_of "$1" >/dev/null || kill -KILL "$pid" 2>/dev/null || as_root kill -KILL "$pid" || true
    fi
    rm -f "$1"
}
