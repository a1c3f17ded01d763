#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# imprintd as an operator meets it: configuration, users beside a running one, one per folder, ends and kills.
# usage: imprintd.sh PATH-OF-IMPRINTD PATH-OF-IMPRINT
set -u
imprintd=$1 imprint=$2
n=0 failed=0
state=$(mktemp -d /tmp/imprint-daemon-XXXXXX)
pid=
trap '[ -n "$pid" ] && kill -9 $pid 2>/dev/null; rm -rf "$state"' EXIT

check() { # STATUS CLAIM: a claim that holds when STATUS is 0
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=$((failed + 1)); fi
}
has() { grep -qF -- "$1" "$state/out"; }
run() { "$imprintd" --state "$state" "$@" >"$state/out" 2>&1; }
start() {
    : >"$state/log"
    "$imprintd" --state "$state" 2>"$state/log" &
    pid=$!
    for _ in $(seq 100); do
        grep -q ' serves zone ' "$state/log" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    port=$(sed -n 's/.* serves zone .*:\([0-9]*\)\/iaas\/$/\1/p' "$state/log")
    export IMPRINT_ENDPOINT=http://127.0.0.1:$port/iaas/
}

"$imprintd" --print-config >"$state/out"; check $? "--print-config"
has "#port = 7200"; check $? "shows the port"
printf '[virt]\nuri = test:///default\n[net]\nmode = user\n[http]\nport = 0\n' >"$state/imprintd.conf"
run --check-config; check $? "a good file"
printf '[http]\n\nportt = 1\n' >"$state/bad.conf"
"$imprintd" --config "$state/bad.conf" --check-config >"$state/out" 2>&1; check $((! $?)) "a bad one is refused"
has "bad.conf line 3: section [http] has no key portt"; check $? "with file, line and key"
printf '[net]\nsubnet = 10.180.0.1/20\n' >"$state/bad.conf"
"$imprintd" --config "$state/bad.conf" --check-config >"$state/out" 2>&1; check $((! $?)) "as is a subnet that is none"
has "10.180.0.0/20 is the network"; check $? "with what it should be"
"$imprintd" --config "$state/none.conf" --check-config >"$state/out" 2>&1; check $((! $?)) "a named file must be there"
"$imprintd" --nonsense >"$state/out" 2>&1; [ $? = 2 ]; check $? "wrong usage is status 2"

run user add ann --admin; check $? "a user is added before the first start"
run user add ann; check $((! $?)) "once"
run key add ann; check $? "and gets a key"
export IMPRINT_ACCESS_KEY_ID=$(sed -n 's/^access_key_id: //p' "$state/out")
export IMPRINT_SECRET_ACCESS_KEY=$(sed -n 's/^secret_access_key: //p' "$state/out")
export IMPRINT_ZONE=local1a
[ -n "$IMPRINT_SECRET_ACCESS_KEY" ]; check $? "its secret is shown"
! strings -a "$state/imprint.db" 2>/dev/null | grep -qF "$IMPRINT_SECRET_ACCESS_KEY"; check $? "and is not in the record"

start
[ -n "$port" ]; check $? "imprintd starts"
[ "$(cat "$state/imprintd.pid")" = $pid ]; check $? "its pid is in imprintd.pid"
"$imprint" zone list >"$state/out" 2>&1; check $? "the key opens the API"
has local1a; check $? "the zone is listed"
"$imprint" --zone elsewhere image list >"$state/out" 2>&1; check $((! $?)) "another zone is refused"
run; check $((! $?)) "a second imprintd on the folder is refused"
has "another imprintd (process $pid)"; check $? "with the process that has it"
run user add bob; check $? "a user is added beside the running one"
run key add bob; check $? "with a key"
(
    export IMPRINT_ACCESS_KEY_ID=$(sed -n 's/^access_key_id: //p' "$state/out")
    export IMPRINT_SECRET_ACCESS_KEY=$(sed -n 's/^secret_access_key: //p' "$state/out")
    "$imprint" image list >"$state/out2" 2>&1
); check $? "which works at once"
run user list; has bob; check $? "the list has both"

kill -9 $pid; wait $pid 2>/dev/null
# What it had forked and is not yet another program holds its lock for a moment longer.
flock "$state/imprintd.pid" sleep 1 &
while flock -n "$state/imprintd.pid" true; do sleep 0.02; done
start
[ -n "$port" ]; check $? "after kill -9 it starts again"
"$imprint" zone list >"$state/out" 2>&1; check $? "and answers"
kill -HUP $pid; sleep 0.3; kill -0 $pid; check $? "SIGHUP does nothing"
kill -TERM $pid; wait $pid; check $? "SIGTERM is a clean end"
pid=
run user disable bob; check $? "a user is disabled without a daemon"

layer="INSERT INTO layers (layer_id, pool, name, state, size_bytes, depth, create_time)
    VALUES ('l-lost', 'local:$state/pool', 'l-lost', 'frozen', 512, 1, 0)"
python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()' \
    "$state/imprint.db" "$layer"; check $? "the record knows a layer"
rm -rf "$state/pool"
run; check $((! $?)) "an emptied pool is refused"
has "is its file system mounted? If it is lost for good: imprintd pool accept-loss"; check $? "with what to do"
run pool lose; [ $? = 2 ]; check $? "wrong usage of pool is status 2"
run pool accept-loss; check $? "the loss is accepted"
has "1 layer marked as lost"; check $? "with what is lost"
start
[ -n "$port" ]; check $? "then it starts"
run pool accept-loss; check $((! $?)) "and while it runs, no loss is accepted"
"$imprint" pool check >"$state/out" 2>&1; [ $? = 1 ]; check $? "the check is not clean"
has "damaged: layer l-lost"; check $? "and names the layer"
"$imprint" pool scrub --wait >"$state/out" 2>&1; check $((! $?)) "a scrub fails"
has "l-lost"; check $? "and names it, too"
"$imprint" pool pause; check $? "merging is paused"
"$imprint" pool check >"$state/out" 2>&1; has "not merged: paused"; check $? "which the check tells"
"$imprint" pool resume; check $? "and resumed"
"$imprint" pool scrub --rate much >"$state/out" 2>&1; [ $? = 2 ]; check $? "a rate that is none is refused"
"$imprint" snapshot copies >"$state/out" 2>&1; check $((! $?)) "without a second pool there are no copies"
has "[storage] second"; check $? "with how to have one"
kill -TERM $pid; wait $pid
pid=
echo "1..$n"
[ $failed = 0 ]
