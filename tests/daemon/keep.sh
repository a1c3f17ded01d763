#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copies in a second pool, typed as an operator would: imprintd killed in the middle of a copy and of a restore, the pool
# removed, a bit turned over, the second pool full and away. The data is mostly holes: it takes time to read, and no room.
# usage: keep.sh PATH-OF-IMPRINTD PATH-OF-IMPRINT
set -u
imprintd=$1 imprint=$2
n=0 failed=0
state=$(mktemp -d /tmp/imprint-keep-XXXXXX)
second=$state/elsewhere/pool
pid=
trap '[ -n "$pid" ] && kill -9 $pid 2>/dev/null; umount "$state/elsewhere" 2>/dev/null; rm -rf "$state"' EXIT

check() { # STATUS CLAIM: a claim that holds when STATUS is 0
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=$((failed + 1)); sed 's/^/# /' "$state/out"; fi
}
has() { grep -qF -- "$1" "$state/out"; }
run() { "$imprintd" --state "$state" "$@" >"$state/out" 2>&1; }
cli() { "$imprint" --config "$state/none" "$@" >"$state/out" 2>&1; }
start() {
    : >"$state/log"
    "$imprintd" --state "$state" 2>"$state/log" &
    pid=$!
    for _ in $(seq 600); do
        grep -q ' serves zone ' "$state/log" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    port=$(sed -n 's/.* serves zone .*:\([0-9]*\)\/iaas\/$/\1/p' "$state/log")
    export IMPRINT_ENDPOINT=http://127.0.0.1:$port/iaas/
}
die() { kill -9 $pid; wait $pid 2>/dev/null; pid=; }
end() { kill -TERM $pid; wait $pid; pid=; }
# Waits for a file that is half made; there is none any more once the job is over.
half() { for _ in $(seq 3000); do compgen -G "$1/layers/*.part" >/dev/null && return 0; sleep 0.01; done; return 1; }
settle() { # until no job is pending or working
    for _ in $(seq 1200); do
        cli -o csv job list && ! grep -qE 'pending|working' "$state/out" && return 0
        sleep 0.1
    done
    return 1
}
sums() { (cd "$1/layers" && sha256sum -- *.qcow2); }

printf '[storage]\nsecond = local:%s\nscrub_rate = 0\n[virt]\nuri = memory:\n[net]\nmode = user\n[http]\nport = 0\n' "$second" \
    >"$state/imprintd.conf"
mkdir "$state/elsewhere"
run user add ann --admin && run key add ann; check $? "an administrator"
export IMPRINT_ACCESS_KEY_ID=$(sed -n 's/^access_key_id: //p' "$state/out")
export IMPRINT_SECRET_ACCESS_KEY=$(sed -n 's/^secret_access_key: //p' "$state/out")
export IMPRINT_ZONE=local1a
start
[ -n "$port" ]; check $? "imprintd starts"

# A volume with points: each has bytes of its own behind hundreds of megabytes of hole.
cli -q volume create --size 20 --wait; check $? "a volume"
volume=$(tail -1 "$state/out")
points=()
for i in 1 2; do
    head=$(ls -t "$state"/pool/layers/*.qcow2 | head -1)
    for file in "$state"/pool/layers/*.qcow2; do [ -n "$(find "$file" -perm /222)" ] && head=$file; done
    truncate -s "$((i * 300))M" "$head" && head -c 300000 /dev/urandom >>"$head"
    cli -q snapshot create "$volume" --name "p$i" --wait; check $? "point $i"
    points+=("$(tail -1 "$state/out")")
done

cli snapshot copy "${points[@]}"; check $? "both are to be copied"
half "$second"; check $? "a copy is under way"
die
compgen -G "$second/layers/*.part" >/dev/null; check $? "imprintd is killed in the middle of it"
[ ! -e "$second/notes/${points[1]}.json" ]; check $? "no note promises what is not there"
start
settle; check $? "after the next start the job ends"
has failed; check $((! $?)) "and has not failed"
cli snapshot copies; check $? "copies are listed"
{ has "${points[0]}" && has "${points[1]}"; }; check $? "both"
frozen() { sums "$second" | while read -r sum name; do grep -qF "$sum  $name" "$1" || return 1; done; }
sums "$state/pool" >"$state/sums"
frozen "$state/sums"; check $? "byte for byte"
! compgen -G "$second/layers/*.part" >/dev/null; check $? "nothing half made is left"
before=$(stat -c '%n %i %Y' "$second"/layers/*)
cli snapshot copy "${points[@]}" --wait; check $? "once more"
[ "$before" = "$(stat -c '%n %i %Y' "$second"/layers/*)" ]; check $? "moves nothing"

# Rot.
cli pool scrub --rate 0 --wait; check $? "a scrub finds all well"
layer=$(ls "$second/layers" | head -1)
chmod u+w "$state/pool/layers/$layer"
printf 'X' | dd of="$state/pool/layers/$layer" bs=1 seek=200000000 conv=notrunc status=none
chmod a-w "$state/pool/layers/$layer"
cli pool scrub --rate 0 --wait; check $? "a byte that changed is put right"
grep -qF "${layer%.qcow2} is damaged" "$state/log"; check $? "and the log names the layer"
sums "$state/pool" | grep -qF "$(grep -F "$layer" "$state/sums")"; check $? "with its old bytes"

# Everything is lost.
end
rm -rf "$state/pool"
run; check $((! $?)) "without its pool imprintd does not start"
has "imprintd pool accept-loss"; check $? "and says what to do"
run pool accept-loss; check $? "the loss is accepted"
start
cli snapshot show "${points[1]}" -o json; check $? "points are still listed"
grep -q '"damaged": 1' "$state/out"; check $? "as damaged"
cli snapshot volume "${points[0]}" --wait; check $((! $?)) "nothing is made of them"
has "is damaged: it was not in its pool"; check $? "with the reason"
cli snapshot restore "${points[1]}"; check $? "the later point is to be restored"
half "$state/pool"; check $? "a restore is under way"
die
start
settle; check $? "killed in the middle of it, it ends after the next start"
has failed; check $((! $?)) "and has not failed"
sums "$state/pool" | while read -r sum name; do grep -qF "$sum  $name" "$state/sums" || exit 1; done
check $? "with the bytes that were there"
[ "$(ls "$state/pool/layers" | wc -l)" = 2 ]; check $? "all of them"
for i in 0 1; do cli snapshot volume "${points[$i]}" --wait; check $? "point $((i + 1)) can be made a volume"; done
cli snapshot apply "${points[1]}" --wait; check $? "and the lost volume goes back to it"
cli pool check; check $? "the pool is clean"
cli snapshot forget "${points[@]}" --wait; check $? "copies are forgotten"
[ "$(ls "$second/layers" "$second/notes" | grep -c '\.')" = 0 ]; check $? "and nothing is left of them"

# The second pool is full, or away.
rm -rf "$second"
cli snapshot copy "${points[0]}" --wait; check $((! $?)) "a second pool that is away is not made anew"
has "is its file system mounted?"; check $? "and is missed"
if mount -t tmpfs -o size=200k small "$state/elsewhere" 2>/dev/null; then
    printf '[storage]\nsecond = local:%s/other\n[virt]\nuri = memory:\n[net]\nmode = user\n[http]\nport = 0\n' \
        "$state/elsewhere" >"$state/imprintd.conf"
    end
    start
    cli snapshot copy "${points[0]}" --wait; check $((! $?)) "nothing is copied to a pool that is too small"
    has "the second pool is too full"; check $? "with the reason"
    mount -o remount,size=20m "$state/elsewhere"
    cli snapshot copy "${points[0]}" --wait; check $? "with room it is"
fi
cli pool check; check $? "the pool is clean in the end"
end
echo "1..$n"
[ $failed = 0 ]
