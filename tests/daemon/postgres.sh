#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# imprintd whose record is in PostgreSQL: a server that is down, refuses us, dies and comes back; one imprintd for one database.
# usage: postgres.sh PATH-OF-IMPRINTD PATH-OF-IMPRINT PATH-OF-A-RAW-DISK
set -u
imprintd=$1 imprint=$2 disk=$3
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -1)
[ -x "$bin/postgres" ] || { echo "1..0 # SKIP PostgreSQL is not installed"; exit 0; }
n=0 failed=0
top=$(mktemp -d /tmp/imprint-pgd-XXXXXX)
pid='' second='' server=''
trap 'kill -9 $pid $second 2>/dev/null; kill -QUIT $server 2>/dev/null; rm -rf "$top"' EXIT
chmod 711 "$top"
mkdir -p "$top/pg" "$top/one" "$top/two"

check() { # STATUS CLAIM: a claim that holds when STATUS is 0
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=$((failed + 1)); sed 's/^/# /' "$top/out"; fi
}
has() { grep -qF -- "$1" "$top/out"; }
as_postgres() { # PostgreSQL refuses to be root
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
pg_start() {
    as_postgres "$bin/postgres" -D "$top/pg/data" >>"$top/pg/log" 2>&1 &
    for _ in $(seq 600); do "$bin/pg_isready" -q -h "$top/pg" && break; sleep 0.1; done
    server=$(head -1 "$top/pg/data/postmaster.pid")
}
pg_kill() { # at once, with all who are connected
    kill -QUIT "$server"
    while kill -0 "$server" 2>/dev/null; do sleep 0.1; done
}
sql() { "$bin/psql" -qAt -h "$top/pg" -U postgres -d "${2:-imprint}" -c "$1"; }
configure() { # FOLDER WAIT PASSWORD DATABASE
    printf '[virt]\nuri = memory:\n[net]\nmode = user\n[http]\nport = 0\n[record]\nwait = %s\n' "$2" >"$top/$1/imprintd.conf"
    printf 'uri = postgresql://imprint:%s@/%s?host=%s\n' "$3" "$4" "$top/pg" >>"$top/$1/imprintd.conf"
}
# Until imprintd serves or ends; what it says is in out.
await() {
    for _ in $(seq 600); do
        grep -q ' serves zone ' "$top/one/log" && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    cp "$top/one/log" "$top/out"
    port=$(sed -n 's/.* serves zone .*:\([0-9]*\)\/iaas\/$/\1/p' "$top/one/log")
    export IMPRINT_ENDPOINT=http://127.0.0.1:$port/iaas/
}
launch() { : >"$top/one/log"; "$imprintd" --state "$top/one" 2>"$top/one/log" & pid=$!; }
cli() { "$imprint" --config "$top/none" "$@" >"$top/out" 2>&1; }
# The same until it succeeds: a record that is back, a job that is at its end.
soon() { for _ in $(seq 300); do "$@" && return 0; sleep 0.2; done; return 1; }
ends() { cli -o csv job list && ! grep -qE 'pending|working' "$top/out"; }

[ "$(id -u)" = 0 ] && chown postgres: "$top/pg"
echo admin >"$top/pg/password"
as_postgres "$bin/initdb" -D "$top/pg/data" -A scram-sha-256 -U postgres --pwfile="$top/pg/password" --no-sync -E UTF8 \
    --locale=C.UTF-8 >"$top/out" 2>&1
check $? "a cluster is made"
[ $failed = 0 ] || { echo "1..$n"; exit 1; }
printf "listen_addresses=''\nfsync=off\nunix_socket_directories='%s'\n" "$top/pg" >"$top/pg/conf"
as_postgres sh -c "cat '$top/pg/conf' >>'$top/pg/data/postgresql.conf'"
export PGPASSWORD=admin

# --- The server is down, and then it is not what we need
configure one 0 geheim imprint
launch; await; wait $pid; check $((! $?)) "without a server imprintd ends"
has 'cannot connect to PostgreSQL' && has 'see that it runs'; check $? "with a sentence that says what to look at"
[ "$(grep -c ' error ' "$top/out")" = 1 ]; check $? "which is the only one"
configure one 60 geheim imprint
launch
soon grep -q 'trying for 60 s' "$top/one/log"; check $? "told to wait, it says that it does"
kill -TERM $pid; wait $pid; check $((! $?)) "and ends when it is told to, meanwhile"
launch
pg_start && sql "CREATE ROLE imprint LOGIN PASSWORD 'geheim'" postgres && sql "CREATE DATABASE imprint OWNER imprint" postgres
check $? "the server comes up, with a database for imprintd"
await; [ -n "$port" ]; check $? "imprintd waited for it, and serves"
kill -TERM $pid; wait $pid; check $? "and ends"
for case in 'wrong imprint password_authentication_failed' 'geheim nosuch does_not_exist'; do
    read -r password database words <<<"$case"
    configure one 0 "$password" "$database"
    launch; await; wait $pid; check $((! $?)) "imprintd does not start: $words"
    has "${words//_/ }" && ! has "$password@"; check $? "and says so, without the password"
done
configure one 30 geheim imprint

# --- Users and objects
"$imprintd" --state "$top/one" user add ann --admin >"$top/out" 2>&1; check $? "a user is added"
"$imprintd" --state "$top/one" key add ann >"$top/out" 2>&1; check $? "with a key"
IMPRINT_ACCESS_KEY_ID=$(sed -n 's/^access_key_id: //p' "$top/out")
IMPRINT_SECRET_ACCESS_KEY=$(sed -n 's/^secret_access_key: //p' "$top/out")
export IMPRINT_ACCESS_KEY_ID IMPRINT_SECRET_ACCESS_KEY IMPRINT_ZONE=local1a
launch; await; [ -n "$port" ]; check $? "imprintd starts"
cli -q keypair create --name key --stdout; check $? "a key pair is made"
cli -q image import "$disk" --name disk --force --wait; check $? "an image is imported"
image=$(grep -o 'img-[a-z0-9]*' "$top/out" | head -1)
cli -q instance run --image "$image" --no-login --no-start --name first --wait; check $? "an instance is made of it"
kill -9 $pid; wait $pid 2>/dev/null
launch; await; [ -n "$port" ]; check $? "after kill -9 imprintd starts again"
cli keypair list && has key; check $? "the key pair is there"
cli image list && has "$image" && has available; check $? "the image too"
cli instance list && has first && has stopped; check $? "and the instance"

# --- One imprintd for one database
configure two 0 geheim imprint
"$imprintd" --state "$top/two" >"$top/out" 2>&1; check $((! $?)) "a second imprintd on the database is refused"
has "process $pid" && has 'serves from this database'; check $? "with the first one's process"
"$imprintd" --state "$top/one" user list >"$top/out" 2>&1 && has ann; check $? "operators' verbs work beside"
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'imprint'" >/dev/null; check $? "all connections are ended"
cli image list; check $? "the next request is answered"
cli keypair delete "$(sql 'SELECT keypair_id FROM keypairs')"; check $? "and the next change is made"
"$imprintd" --state "$top/two" >"$top/out" 2>&1; check $((! $?)) "a second imprintd is still refused"

# --- The server dies while imprintd serves
cli -q instance run --image "$image" --no-login --count 5; check $? "a job of five machines"
pg_kill
cli image list; check $((! $?)) "without the server a request fails"
has 'record of' || has 'record cannot be reached'; check $? "and says what is away"
kill -0 $pid; check $? "imprintd stays"
grep -q 'cannot connect to PostgreSQL' "$top/one/log"; check $? "its log has the reason"
pg_start; check $? "the server comes back"
soon cli image list; check $? "requests are answered again"
soon ends; check $? "the job comes to its end"
cli -o csv instance list --status running && [ "$(grep -c '^i-' "$top/out")" = 5 ]; check $? "with all five machines"
cli -o csv job list && ! has failed; check $? "and no job failed"
kill -TERM $pid; wait $pid; check $? "imprintd ends"
: >"$top/two/log"
"$imprintd" --state "$top/two" 2>"$top/two/log" & second=$!
soon grep -q ' serves zone \|refused' "$top/two/log"; cp "$top/two/log" "$top/out"; has ' serves zone '; check $? "then another may have the database"
kill -TERM $second; wait $second; check $? "and ends"
echo "1..$n"
[ $failed = 0 ]
