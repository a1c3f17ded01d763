#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# imprintd whose record's disk is full, read-only or missing, whose record is damaged, newer, or in use by another.
# usage: record.sh PATH-OF-IMPRINTD PATH-OF-IMPRINT
set -u
if [ -z "${OWN_MOUNTS-}" ]; then
    unshare -m true 2>/dev/null || { echo "1..0 # SKIP no mounts of our own can be made here"; exit 0; }
    OWN_MOUNTS=1 exec unshare -m --propagation private "$0" "$@"
fi
imprintd=$1 imprint=$2
n=0 failed=0
top=$(mktemp -d /tmp/imprint-rec-XXXXXX)
disk=$top/disk
pid=''
trap 'kill -9 $pid 2>/dev/null; umount "$disk" 2>/dev/null; rm -rf "$top"' EXIT
mkdir -p "$disk" "$top/state" "$top/other"
mount -t tmpfs -o size=3m none "$disk" || { echo "1..0 # SKIP no mounts of our own can be made here"; exit 0; }

check() { # STATUS CLAIM: a claim that holds when STATUS is 0
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=$((failed + 1)); sed 's/^/# /' "$top/out"; fi
}
has() { grep -qF -- "$1" "$top/out"; }
cli() { "$imprint" --config "$top/none" "$@" >"$top/out" 2>&1; }
start() {
    : >"$top/log"
    "$imprintd" --state "$top/state" 2>"$top/log" &
    pid=$!
    for _ in $(seq 600); do
        grep -q ' serves zone ' "$top/log" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    cp "$top/log" "$top/out"
    port=$(sed -n 's/.* serves zone .*:\([0-9]*\)\/iaas\/$/\1/p' "$top/log")
    export IMPRINT_ENDPOINT=http://127.0.0.1:$port/iaas/
}
stop() { kill -TERM $pid; wait $pid; }
refused() { # WORDS CLAIM: a start that ends with one sentence that has the words
    start
    wait $pid; check $((! $?)) "$2: imprintd does not start"
    has "$1" && [ "$(grep -c ' error ' "$top/out")" = 1 ]; check $? "and says why in one sentence"
}

for folder in state other; do
    printf '[virt]\nuri = memory:\n[net]\nmode = user\n[http]\nport = 0\n[record]\nuri = sqlite:%s/imprint.db\n' "$disk" \
        >"$top/$folder/imprintd.conf"
done
"$imprintd" --state "$top/state" user add ann --admin >"$top/out" 2>&1 && "$imprintd" --state "$top/state" key add ann >"$top/out" 2>&1
check $? "a user with a key"
IMPRINT_ACCESS_KEY_ID=$(sed -n 's/^access_key_id: //p' "$top/out")
IMPRINT_SECRET_ACCESS_KEY=$(sed -n 's/^secret_access_key: //p' "$top/out")
export IMPRINT_ACCESS_KEY_ID IMPRINT_SECRET_ACCESS_KEY IMPRINT_ZONE=local1a

start; [ -n "$port" ]; check $? "imprintd starts on a small disk"
cli -q keypair create --name before --stdout; check $? "a key pair is made"
"$imprintd" --state "$top/other" >"$top/out" 2>&1; check $((! $?)) "a second imprintd on the file is refused"
has "process $pid"; check $? "with the first one's process"
head -c 3m /dev/zero >"$disk/ballast" 2>/dev/null
made=0
while [ $made -lt 200 ] && cli -q keypair create --name "more$made" --stdout; do made=$((made + 1)); done
[ $made -lt 200 ]; check $? "the disk is full after $made more"
has 'record cannot be reached or written'; check $? "the client is told whose trouble it is"
grep -q "$disk/imprint.db has no room left.*make room on its disk" "$top/log"; check $? "the log says what to do"
cli -o csv keypair list && [ "$(grep -c '^kp-' "$top/out")" = $((made + 1)) ]; check $? "what was made is there"
rm "$disk/ballast"
cli -q keypair create --name after --stdout; check $? "with room again, so is the next one"
kill -9 $pid; wait $pid 2>/dev/null

cp "$disk/imprint.db" "$top/copy.db"; cp "$disk/imprint.db-wal" "$top/copy.db-wal"
mount -o remount,ro,size=3m "$disk"; refused 'Read-only file system' "a read-only disk"
mount -o remount,rw,size=3m "$disk"
start; [ -n "$port" ]; check $? "writable again, imprintd starts"
cli -o csv keypair list && [ "$(grep -c '^kp-' "$top/out")" = $((made + 2)) ]; check $? "nothing is lost"
mv "$disk/imprint.db" "$disk/elsewhere"
cli -q keypair create --name lost --stdout; check $((! $?)) "a file that was moved away is not written to"
grep -q 'imprint.db is gone' "$top/log"; check $? "and the log says that it is gone"
mv "$disk/elsewhere" "$disk/imprint.db"
cli -q keypair create --name found --stdout; check $? "brought back, it is"
stop; check $? "imprintd ends"

umount "$disk"; rmdir "$disk"; refused 'see that its folder is there' "a disk that is not mounted"
mkdir "$disk"; mount -t tmpfs -o size=3m none "$disk"
head -c 100k /dev/urandom >"$disk/imprint.db"; refused 'is no SQLite database' "another file in its place"
cp "$top/copy.db" "$disk/imprint.db"; rm -f "$disk"/imprint.db-*
python3 - "$disk/imprint.db" <<'EOF'
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as record:
    record.execute("INSERT INTO schema_migrations VALUES (999, 0)")
EOF
refused 'its schema 999 is newer than this program' "a newer record"
cp "$top/copy.db" "$disk/imprint.db"; cp "$top/copy.db-wal" "$disk/imprint.db-wal"
start; [ -n "$port" ]; check $? "with the copy brought back imprintd starts"
cli -o csv keypair list && [ "$(grep -c '^kp-' "$top/out")" = $((made + 2)) ]; check $? "and has what was in it"
stop; check $? "imprintd ends"
echo "1..$n"
[ $failed = 0 ]
