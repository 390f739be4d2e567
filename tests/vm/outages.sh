#!/bin/bash
# Remote disks that fail, hang, go, are slow or are not there: the devices go on, and the sites come back by themselves.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

a_short_outage_is_made_up_for_from_the_log() {
    local log_mib=64
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is d0.1 failing
    eventually site 1 down consistent
    load_goes_on
    disk_is d0.1 healthy
    load_ends
    replicator wait --timeout 60s repl
    if happened detached; then fail 'the log was large enough'; fi
    replicas_are_equal
}

a_remote_disk_that_fails_takes_its_site_down_and_it_comes_back_by_itself() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is d0.1 read_only
    eventually happened 'site 1: down: a write for device 0 failed'
    load_goes_on
    disk_is d0.1 failing
    eventually site 1 down
    load_goes_on
    disk_is d0.1 healthy
    eventually happened 'site 1: up again'
    load_goes_on
    load_ends
    replicas_are_equal
}

a_remote_disk_that_goes_and_comes_back_under_its_path_is_taken_in_again() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_goes d0.1
    eventually is_gone d0.1
    eventually site 1 down
    load_goes_on
    disk_comes d0.1
    load_ends
    replicas_are_equal
}

a_remote_disk_that_hangs_takes_its_site_down_and_catches_up_when_it_goes_on() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_hangs d0.1
    load_goes_on
    eventually site 1 down
    happened 'site 1: down: .* for device 0 hangs'
    load_goes_on
    disk_is d0.1 healthy
    load_goes_on
    load_ends
    replicas_are_equal
}

a_scsi_disk_that_is_deleted_and_found_again_is_taken_in_again() {
    modprobe scsi_debug dev_size_mb=$device_mib
    group '1 async timeout_io:2s'
    scsi_disk_comes
    sed -i "s,$(disk d0.1),$work/scsi," table
    replicator create table
    load_begins d0
    echo 1 >"/sys/block/$scsi/device/delete"
    eventually site 1 down
    load_goes_on
    scsi_disk_comes
    load_ends
    replicator wait --timeout 60s repl
    no_errors
    replicator remove repl
    cmp d0.0 scsi
}

# The disk of scsi_debug is found, whatever its name is this time.
scsi_disk_comes() {
    local host=(/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*)
    echo '- - -' >"${host[0]}/scsi_host/$(basename "${host[0]}")/scan"
    eventually scsi_disk_is_found "${host[0]}"
    ln -sf "/dev/$scsi" scsi
}

scsi_disk_is_found() {
    scsi=$(basename "$1"/target*/*/block/*)
    [[ -b /dev/$scsi ]]
}

with_all_remote_disks_gone_a_log_that_fills_several_times_stalls_nobody() {
    local log_mib=4 healthy failed hung
    group '1 async timeout_io:2s' '2 async timeout_io:2s'
    replicator create table
    healthy=$(longest_write true)
    replicator wait --timeout 60s repl
    failed=$(longest_write both failing)
    happened 'site 1: detached, since the log was full'
    both healthy
    replicator wait --timeout 60s repl
    hung=$(longest_write both hang)
    eventually site 1 down
    eventually site 2 down
    both healthy
    replicas_are_equal
    echo "# longest write: healthy $healthy ms, all RDs failed and the log filled $failed ms, all RDs hung $hung ms"
}

# longest_write COMMAND…: in ms, of 16 MiB, of which the first come before the command.
longest_write() {
    local before load
    before=$(changes)
    fio --name=d0 --filename=/dev/replicator/d0 --ioengine=io_uring --direct=1 --iodepth=4 --bs=16k --rw=randwrite \
        --size=32M --io_size=16M --norandommap --thinktime=20ms --thinktime_blocks=8 --minimal --terse-version=3 --output=longest.fio >longest.txt 2>&1 &
    load=$!
    eventually changes_pass "$((before + 50))"
    "$@"
    wait $load || fail "the load failed: $(cat longest.txt longest.fio)"
    (($(longest longest.fio) < 5000)) || fail "a write took $(longest longest.fio) ms"
    longest longest.fio
}

both() {
    local disk
    for disk in d0.1 d0.2; do
        if [[ $1 == hang ]]; then disk_hangs $disk; else disk_is $disk "$1"; fi
    done
}

a_site_with_stall_that_is_gone_makes_writers_wait_when_the_log_is_full_and_nothing_fails() {
    local log_mib=4
    group '1 async+stall timeout_io:2s'
    replicator create table
    disk_is d0.1 failing
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=128 oflag=direct &
    local writer=$!
    eventually writers_wait_for_the_log
    says 'the log is full of what site 1 lacks'
    kill -0 $writer
    disk_is d0.1 healthy
    wait $writer
    if happened detached; then fail 'the site was given up'; fi
    replicas_are_equal
}

a_forced_remove_ends_writers_that_wait() {
    local log_mib=4
    group '1 async+stall timeout_io:2s'
    replicator create table
    disk_is d0.1 failing
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=128 oflag=direct &
    local writer=$!
    eventually writers_wait_for_the_log
    replicator remove --force --no-drain repl
    if wait $writer; then fail 'expected an error'; fi
    nothing_is_left
    disk_is d0.1 healthy
    replicator create table # what was acknowledged is in the log
    replicas_are_equal
}

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

writers_wait_for_the_log() { replicator status repl | grep -q ' log:[0-9]*%,full '; }

writers_get_errors_when_the_table_asks_for_them_and_no_more_when_the_site_is_back() {
    group '1 sync on_down:error timeout_io:2s'
    replicator create table
    disk_is d0.1 failing
    if dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=1 oflag=direct; then fail 'expected an error'; fi
    disk_is d0.1 healthy
    replicator wait --timeout 60s repl
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    replicator remove repl
    cmp d0.0 d0.1
}

a_group_starts_without_a_remote_disk_and_takes_it_in_when_it_is_there() {
    group '1 async timeout_io:2s'
    disk_goes d0.1
    refused "$(disk d0.1)" replicator create --require-all table
    nothing_is_left
    cmp <(head -c 1M log) <(head -c 1M /dev/zero) # not even a log
    replicator create table 2>notice
    grep -F "device 0 on site 1: $(disk d0.1): no such file or device" notice
    load_begins d0
    site 1 down
    disk_comes d0.1
    load_goes_on
    load_ends
    replicas_are_equal
}

a_group_starts_without_a_remote_disk_that_somebody_holds_and_takes_it_in_when_it_is_free() {
    group '1 async timeout_io:2s'
    dmsetup create "case-$$-holder" --table "0 8 linear $(disk d0.1) 0"
    refused "$(disk d0.1)" replicator create --require-all table
    nothing_is_left
    replicator create table 2>notice
    grep -F "device 0 on site 1: $(disk d0.1): in use by" notice
    load_begins d0
    site 1 down
    dmsetup remove "case-$$-holder"
    load_goes_on
    load_ends
    replicas_are_equal
}

three_sites_with_policies_of_their_own_hang_fail_and_come_back_one_after_the_other() {
    local devices=2
    group '1 sync on_down:bitmap timeout_io:2s' '2 async ios 64 timeout_io:2s' '3 async+stall timeout_io:2s'
    replicator create table
    disk_is d0.3 slow 20
    disk_is d1.3 slow 20
    load_begins d0 d1
    disk_hangs d0.1 # one of its two: the site goes as one
    eventually happened 'site 1: demoted'
    load_goes_on
    disk_is d1.2 failing
    eventually site 2 down
    load_goes_on
    disk_is d0.1 healthy
    replicator wait --timeout 180s --site 1 repl
    eventually happened 'site 1: promoted'
    disk_is d1.2 healthy
    replicator wait --timeout 180s --site 2 repl # a busy guest dirties almost what it copies
    load_goes_on
    disk_is d0.3 failing
    eventually site 3 down
    disk_is d0.3 slow 20
    load_goes_on
    load_ends
    replicas_are_equal
}

writers_are_never_acknowledged_beyond_a_limit_in_writes() {
    group '1 async ios 16 timeout_io:5s'
    replicator create table
    disk_is d0.1 slow 100
    lag_stays_within 16
    happened 'site 1: over its fall-behind limit'
    disk_is d0.1 healthy
    replicas_are_equal
}

writers_are_never_acknowledged_beyond_a_limit_in_bytes() {
    group '1 async size 128k timeout_io:5s'
    replicator create table
    disk_is d0.1 slow 100
    lag_stays_within 8
    happened 'site 1: over its fall-behind limit'
    disk_is d0.1 healthy
    replicas_are_equal
}

# lag_stays_within WRITES: of 16 KiB each, however fast they come; and they come.
lag_stays_within() {
    local lag most=0 samples=0 load
    fio --name=d0 --filename=/dev/replicator/d0 --ioengine=io_uring --direct=1 --iodepth=4 --bs=16k --rw=randwrite \
        --size=32M --time_based --runtime=8 --minimal --terse-version=3 --output=load.fio >load.txt 2>&1 &
    load=$!
    eventually changes_pass 4
    while kill -0 $load 2>/dev/null; do
        lag=$(acknowledged_lag)
        samples=$((samples + 1))
        most=$((lag > most ? lag : most))
    done
    wait $load || fail "the load failed: $(cat load.txt load.fio)"
    ((most <= $1)) || fail "the site lacked $most acknowledged writes"
    ((most * 2 >= $1)) || fail "the site lacked no more than $most writes: it was not slow"
    changes_pass 24 || fail "no more than $(changes) writes in 8 s"
    echo "# limit $1: in $samples samples the site lacked up to $most acknowledged writes; $(changes) were made in 8 s"
}

# Writes of d0 that were acknowledged, and are not on site 1. All from one look.
acknowledged_lag() {
    replicator status --json repl | awk -F'[:,]' '
        $1 ~ /"changes"/ { changes = $2 }
        $1 ~ /"in_flight"/ && !seen++ { in_flight = $2 }
        $1 ~ /"cursor"/ { cursor = $2 }
        END { print changes - in_flight - cursor }'
}

a_limit_in_time_holds_writers_until_the_site_has_what_is_older() {
    group '1 async timeout 1s timeout_io:5s'
    replicator create table
    disk_is d0.1 slow 500
    fio --name=d0 --filename=/dev/replicator/d0 --ioengine=io_uring --direct=1 --bs=16k --rw=randwrite --size=32M \
        --thinktime=250ms --time_based --runtime=6 --minimal --terse-version=3 --output=load.fio
    (($(longest load.fio) >= 500)) || fail "the longest write took $(longest load.fio) ms"
    happened 'site 1: over its fall-behind limit'
    happened 'site 1: within its fall-behind limit again'
    disk_is d0.1 healthy
    replicas_are_equal
}

a_limit_in_time_passes_also_when_nobody_writes() {
    group '1 async timeout 1s on_limit:bitmap timeout_io:10s'
    replicator create table
    disk_is d0.1 slow 3000
    dd if=/dev/urandom of=/dev/replicator/d0 bs=16k count=1 oflag=direct
    eventually happened 'site 1: detached, since it crossed its fall-behind limit'
    disk_is d0.1 healthy
    replicas_are_equal
}

run_cases \
    a_short_outage_is_made_up_for_from_the_log \
    a_remote_disk_that_fails_takes_its_site_down_and_it_comes_back_by_itself \
    a_remote_disk_that_goes_and_comes_back_under_its_path_is_taken_in_again \
    a_remote_disk_that_hangs_takes_its_site_down_and_catches_up_when_it_goes_on \
    a_scsi_disk_that_is_deleted_and_found_again_is_taken_in_again \
    with_all_remote_disks_gone_a_log_that_fills_several_times_stalls_nobody \
    a_site_with_stall_that_is_gone_makes_writers_wait_when_the_log_is_full_and_nothing_fails \
    a_forced_remove_ends_writers_that_wait \
    writers_get_errors_when_the_table_asks_for_them_and_no_more_when_the_site_is_back \
    a_group_starts_without_a_remote_disk_and_takes_it_in_when_it_is_there \
    a_group_starts_without_a_remote_disk_that_somebody_holds_and_takes_it_in_when_it_is_free \
    three_sites_with_policies_of_their_own_hang_fail_and_come_back_one_after_the_other \
    writers_are_never_acknowledged_beyond_a_limit_in_writes \
    writers_are_never_acknowledged_beyond_a_limit_in_bytes \
    a_limit_in_time_holds_writers_until_the_site_has_what_is_older \
    a_limit_in_time_passes_also_when_nobody_writes
