#!/bin/bash
# A log that fails, hangs or is gone: the devices go on without it, also after a crash; it is never replayed; another takes its place.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

a_log_that_fails_under_load_is_done_without_and_made_anew() {
    group_with_log '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is log failing
    eventually log_is lost,bypassed
    load_goes_on
    replicator why >said || true # not all is well
    grep replace-log said
    eventually site 1 detached consistent
    disk_is log healthy
    load_goes_on
    log_is lost,bypassed
    replicator message repl 0 replace-log
    refute log_is lost,bypassed
    load_goes_on
    load_ends
    replicas_are_equal
}

a_log_that_hangs_is_done_without_after_its_deadline() {
    group_with_log '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_hangs log
    eventually log_is lost,bypassed
    load_goes_on
    load_ends
    disk_is log healthy
    replicator message repl 0 replace-log
    replicas_are_equal
}

a_daemon_that_is_killed_without_its_log_goes_on_without_it() {
    group_with_log '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is log failing
    eventually log_is lost,bypassed
    load_goes_on
    kill_daemon
    replicator recover repl
    log_is lost,bypassed
    load_goes_on
    # The dead log is back, and older than the devices: nobody looks at it.
    disk_is log healthy
    kill_daemon
    replicator recover repl
    log_is lost,bypassed
    load_goes_on
    replicator message repl 0 replace-log
    load_goes_on
    kill_daemon
    replicator recover repl
    refute log_is lost,bypassed
    touch stop
    wait "$load" || fail "the load failed: $(cat load.txt load.fio)"
    load=
    replicas_are_equal
}

a_log_on_another_device_takes_the_place_of_one_that_is_gone() {
    group_with_log '1 async timeout_io:2s'
    replicator create table
    printf 'before' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    disk_is log failing
    printf 'behind' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    log_is lost,bypassed
    replicator remove --no-drain repl # nothing arrives at site 1
    disk_goes log
    eventually is_gone log
    replicator create table
    log_is lost,bypassed
    [[ $(head -c 6 /dev/replicator/d0) == behind ]]
    truncate -s "${device_mib}M" log2
    disk_comes log2
    refused 'does not fit' replicator message repl 0 replace-log "$(disk log2)" 0 999999999
    replicator message repl 0 replace-log "$(disk log2)"
    refute log_is lost,bypassed
    replicator table repl | grep -F "$(disk log2)"
    replicator table >table.new
    replicator wait --timeout 60s repl
    replicator remove repl
    # Who still names the old log is told; who names the new one goes on.
    disk_comes log
    refused 'have run without this log' replicator create table
    replicator create table.new
    [[ $(head -c 6 /dev/replicator/d0) == behind ]]
    replicas_are_equal
}

a_daemon_that_is_killed_while_its_log_is_replaced_goes_on_and_another_try_ends_well() {
    group_with_log '1 async timeout_io:2s'
    slow_logs_are_no_dead_ones
    replicator create table
    disk_is log failing
    printf 'behind' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    log_is lost,bypassed
    truncate -s "${device_mib}M" log2
    disk_comes log2
    disk_is log2 slow 3000
    replicator message repl 0 replace-log "$(disk log2)" 2>said &
    eventually table_names log2
    kill_daemon
    wait $! && fail "it was replaced by a daemon that was killed"
    replicator recover repl
    log_is lost,bypassed
    [[ $(head -c 6 /dev/replicator/d0) == behind ]]
    disk_is log2 healthy
    # Who could not be asked changed nothing.
    refused 'does not fit' replicator message repl 0 replace-log "$(disk log)" 0 999999999
    table_names log2
    replicator message repl 0 replace-log
    refute log_is lost,bypassed
    kill_daemon
    replicator recover repl
    refute log_is lost,bypassed
    replicas_are_equal
}

a_dead_log_is_refused_also_where_the_host_has_forgotten_that_it_died() {
    dirty_log='disk 3 LEG.dirty 128 nosync' group_with_log '1 async timeout_io:2s'
    replicator create table
    printf 'before' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    disk_is log failing
    printf 'behind' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    log_is lost,bypassed
    eventually says_it_is_lost d0.1.dirty
    kill_daemon
    mv "$REPLICATOR_STATE_DIR" forgotten
    disk_is log healthy
    refused "says the dirty log $work/d0.1.dirty" replicator recover repl
    mv forgotten "$REPLICATOR_STATE_DIR"
    replicator recover repl
    log_is lost,bypassed
    [[ $(head -c 6 /dev/replicator/d0) == behind ]]
    replicator message repl 0 replace-log
    replicas_are_equal
}

a_log_that_works_moves_to_another_disk_under_load() {
    group_with_log '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    truncate -s "${device_mib}M" log2
    disk_comes log2
    refused 'expected another device' replicator message repl 0 replace-log
    refused 'does not fit' replicator message repl 0 replace-log "$(disk log2)" 0 999999999
    load_goes_on
    replicator message repl 0 replace-log "$(disk log2)"
    table_names log2
    eventually site 1 streaming consistent
    # Nobody asks the old one for anything any more.
    disk_is log failing
    load_goes_on
    refute log_is lost,bypassed
    kill_daemon
    replicator recover repl
    load_goes_on
    refute log_is lost,bypassed
    load_ends
    disk_is log healthy
    replicator remove repl
    refused 'have run without this log' replicator create table
    sed "s,$(disk log) ,$(disk log2) ," table >table.new
    replicator create table.new
    replicas_are_equal
}

a_daemon_that_is_killed_while_its_log_moves_goes_on_with_the_old_one() {
    group_with_log '1 async timeout_io:2s'
    slow_logs_are_no_dead_ones
    replicator create table
    printf 'before' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    truncate -s "${device_mib}M" log2
    disk_comes log2
    disk_is log2 slow 3000
    replicator message repl 0 replace-log "$(disk log2)" 2>said &
    sleep 2
    kill_daemon
    wait $! && fail "it was moved by a daemon that was killed"
    replicator recover repl
    table_names log
    refute log_is lost,bypassed
    [[ $(head -c 6 /dev/replicator/d0) == before ]]
    disk_is log2 healthy
    replicator message repl 0 replace-log "$(disk log2)"
    table_names log2
    replicas_are_equal
}

says_it_is_lost() { replicator dirty check --live "$1" | grep -q 'was lost, and is not to be replayed'; }

table_names() { replicator table repl | grep -qF "$(disk "$1")"; }

# A group whose log is a disk that can fail.
group_with_log() {
    local log_mib=$device_mib
    group "$@"
    disk_comes log
    sed -i "s,$work/log ,$(disk log) ,; s,blockdev 1 0,blockdev 3 0 async timeout_io:2s," table
}

# The log has the deadline of the local site.
slow_logs_are_no_dead_ones() { sed -i 's/blockdev 3 0 async timeout_io:2s/blockdev 3 0 async timeout_io:60s/' table; }

log_is() { local -; set +x; replicator status repl | grep -q " log:$1 "; }

refute() { if "$@"; then fail "expected otherwise: $*"; fi; }

run_cases \
    a_log_that_fails_under_load_is_done_without_and_made_anew \
    a_log_that_hangs_is_done_without_after_its_deadline \
    a_daemon_that_is_killed_without_its_log_goes_on_without_it \
    a_log_on_another_device_takes_the_place_of_one_that_is_gone \
    a_daemon_that_is_killed_while_its_log_is_replaced_goes_on_and_another_try_ends_well \
    a_dead_log_is_refused_also_where_the_host_has_forgotten_that_it_died \
    a_log_that_works_moves_to_another_disk_under_load \
    a_daemon_that_is_killed_while_its_log_moves_goes_on_with_the_old_one
