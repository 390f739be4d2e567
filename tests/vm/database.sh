#!/bin/bash
# PostgreSQL with its data on one device and its WAL on another: it never notices what is lost below, and its copy at the
# remote site is a database.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

device_mib=128
postgres=(/usr/lib/postgresql/*/bin)

# A group whose local disks and log can be lost; mnt-data and mnt-wal are file systems on its two devices, with a database.
database_begins() {
    local nr devices=2 log_mib=$device_mib
    chmod a+x "$work"
    for nr in 0 1; do
        truncate -s "${device_mib}M" "d$nr.0"
        disk_comes "d$nr.0"
    done
    group '1 async timeout_io:2s'
    disk_comes log
    sed -i "s,$work/log ,$(disk log) ,; s,$work/d\([01]\).0,$(disk d)\1.0,; s/blockdev 1 0 /blockdev 3 0 async timeout_io:2s /" table
    replicator create table
    file_system d0 mnt-data
    file_system d1 mnt-wal
    install -d -o postgres -g postgres mnt-data/db mnt-wal/db
    as_postgres initdb --no-sync --auth=trust --locale=C --wal-segsize=1 --waldir="$work/mnt-wal/db" "$work/mnt-data/db"
    # A WAL that needs no more room than it gets, and checkpoints that write a lot.
    cat >>mnt-data/db/postgresql.conf <<CONF
listen_addresses = ''
unix_socket_directories = '$work/mnt-data/db'
max_wal_size = 16MB
min_wal_size = 2MB
checkpoint_timeout = 30s
shared_buffers = 8MB
CONF
    postgres_is start
    as_postgres pgbench --initialize --quiet -h "$work/mnt-data/db" postgres
}

file_system() {
    mkfs.ext4 -q -E nodiscard "/dev/replicator/$1"
    mkdir "$2"
    mount "/dev/replicator/$1" "$2"
}

user=(setpriv --reuid=postgres --regid=postgres --clear-groups)

as_postgres() {
    local program=$1
    shift
    "${user[@]}" "${postgres[0]}/$program" "$@"
}

postgres_is() { as_postgres pg_ctl --pgdata="${db:-$work/mnt-data/db}" --log=/dev/null --wait --timeout=120 --mode=fast "$1"; }

query() { as_postgres psql -h "${db:-$work/mnt-data/db}" -Atc "$1" postgres; }

# Transactions, until transactions_end.
transactions_begin() {
    "${user[@]}" "${postgres[0]}/pgbench" -h "$work/mnt-data/db" --client=2 --time=600 postgres >transactions 2>&1 &
    load=$!
    transactions_go_on
}

transactions_go_on() {
    local before
    before=$(query 'select count(*) from pgbench_history')
    eventually transactions_pass $((before + 20))
}

transactions_pass() { (($(query 'select count(*) from pgbench_history') > $1)); }

# None failed: pgbench ends by itself when one does.
transactions_end() {
    kill -0 "$load" || fail "a transaction failed: $(cat transactions)"
    kill "$load"
    wait "$load" || true
    load=
    sums_agree
    echo "# $(query 'select count(*) from pgbench_history') transactions"
}

# Each transaction adds the same to four places.
sums_agree() {
    local sums
    sums=$(query 'select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
        (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)' | tr '|' '\n' | sort -u)
    [[ $(wc -l <<<"$sums") == 1 ]] || fail "expected equal sums, found $sums"
}

database_ends() {
    postgres_is stop
    umount mnt-data mnt-wal
    replicas_are_equal
}

# What is at the remote site is a database, with all that was in it.
copy_is_a_database() {
    local expected=$1 db=$work/mnt-data/db
    mount "$(disk d0.1)" mnt-data
    mount "$(disk d1.1)" mnt-wal
    postgres_is start
    sums_agree
    [[ $(query 'select count(*) from pgbench_history') == "$expected" ]]
    postgres_is stop
    umount mnt-data mnt-wal
}

a_database_never_notices_that_its_local_disks_are_swapped_for_empty_ones() {
    local count
    database_begins
    transactions_begin
    disk_is_swapped d0.0
    transactions_go_on
    disk_is_swapped d1.0
    transactions_go_on
    replicator message repl 0 rebuild
    patience=90 eventually happened 'site 0: no region is dirty any more'
    transactions_go_on
    transactions_end
    count=$(query 'select count(*) from pgbench_history')
    database_ends
    copy_is_a_database "$count"
}

a_database_never_notices_that_its_log_is_lost_and_another_takes_its_place() {
    local count
    database_begins
    transactions_begin
    disk_is log failing
    eventually log_is lost,bypassed
    transactions_go_on
    disk_is log healthy
    replicator message repl 0 replace-log
    if log_is lost,bypassed; then fail 'the log was replaced'; fi
    transactions_go_on
    transactions_end
    count=$(query 'select count(*) from pgbench_history')
    patience=90 eventually site 1 streaming consistent
    database_ends
    copy_is_a_database "$count"
}

log_is() { local -; set +x; replicator status repl | grep -q " log:$1 "; }

# For the end of a case, however it ended.
end_users() { [[ ! -e mnt-data/db/postmaster.pid ]] || kill -QUIT "$(head -n 1 mnt-data/db/postmaster.pid)"; }

run_cases \
    a_database_never_notices_that_its_local_disks_are_swapped_for_empty_ones \
    a_database_never_notices_that_its_log_is_lost_and_another_takes_its_place
