#!/bin/bash
# Copies of what a site lacks: first ones, those after an outage longer than the log, and those that are cut short.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

mib=$((1 << 20))

scribble() { head -c "${device_mib}M" /dev/urandom >"$1"; }

# ---- first copies

a_remote_disk_of_other_content_is_copied_to_while_the_device_is_in_use_core() { first_copy 'core 2 128 sync'; }

a_remote_disk_of_other_content_is_copied_to_while_the_device_is_in_use_disk() { first_copy 'disk 3 LEG.dirty 128 sync'; }

first_copy() {
    local dirty_log=$1
    group '1 async timeout_io:2s'
    scribble d0.0
    scribble d0.1
    cp d0.0 before
    replicator create table
    cmp before /dev/replicator/d0
    load_begins d0
    load_goes_on
    load_ends
    happened 'site 1: consistent'
    replicas_are_equal
}

what_is_all_zeroes_takes_no_space_on_a_thin_disk() {
    local dirty_log='core 2 128 sync' used
    group '1 async timeout_io:2s'
    scribble d0.1
    dd if=/dev/urandom of=d0.0 bs=1M seek=8 count=4 conv=notrunc
    replicator create table
    replicas_are_equal
    used=$(du -B1 d0.1 | cut -f1)
    ((used <= 5 * mib)) || fail "4 MiB of data take $used bytes"
}

a_resync_keeps_to_its_rate() {
    local dirty_log='core 2 128 sync' began ended before after rate
    group '1 async resync_rate:2m timeout_io:2s'
    scribble d0.0
    replicator create table
    eventually dirty_is_below 30
    before=$(bytes_written d0.1) began=${EPOCHREALTIME/./}
    sleep 5
    after=$(bytes_written d0.1) ended=${EPOCHREALTIME/./}
    rate=$(((after - before) * 1000 / ((ended - began) / 1000)))
    echo "# resync_rate 2048 KiB/s: $((rate / 1024)) KiB/s"
    ((rate * 4 >= 2 * mib * 3 && rate * 4 <= 2 * mib * 5)) || fail "expected 2 MiB/s, found $rate bytes/s"
    replicas_are_equal
}

# ---- outages longer than the log

after_an_outage_longer_than_the_log_only_what_was_written_is_copied_nolog() { long_outage 'nolog 0'; }

after_an_outage_longer_than_the_log_only_what_was_written_is_copied_core() { long_outage 'core 2 128 nosync'; }

after_an_outage_longer_than_the_log_only_what_was_written_is_copied_disk() { long_outage 'disk 3 LEG.dirty 128 nosync'; }

long_outage() {
    outlasts_the_log "$1"
    all_dirty_is 4
    copied_is_at_most 5
}

a_daemon_that_dies_in_a_long_outage_has_everything_copied_without_a_dirty_log() { killed_in_outage 'nolog 0' 32; }

a_daemon_that_dies_in_a_long_outage_has_everything_copied_with_one_in_memory() { killed_in_outage 'core 2 128 nosync' 32; }

a_daemon_that_dies_in_a_long_outage_has_only_dirty_regions_copied_with_one_on_disk() {
    killed_in_outage 'disk 3 LEG.dirty 128 nosync' 4
}

killed_in_outage() {
    outlasts_the_log "$1"
    kill_daemon
    replicator recover repl
    all_dirty_is "$2"
    copied_is_at_most $(($2 + 1))
}

# outlasts_the_log DIRTY_LOG: an outage of site 1, in which 4 MiB are written, thrice.
outlasts_the_log() {
    local dirty_log=$1
    group '1 async timeout_io:2s'
    scribble d0.0
    cp d0.0 d0.1
    replicator create table
    replicator wait --timeout 60s repl # without a dirty log it is copied when it joins
    disk_is d0.1 failing
    for _ in 1 2 3; do
        dd if=/dev/urandom of=/dev/replicator/d0 bs=64k seek=128 count=64 oflag=direct
    done
    eventually happened 'site 1: detached, since the log was full'
}

# all_dirty_is MIB: or a little more, for regions that were written in part.
all_dirty_is() {
    eventually nothing_is_in_the_log
    local found
    found=$(site_number 1 dirty)
    ((found >= $1 * mib && found <= ($1 * 16 + 2) * mib / 16)) || fail "expected $1 MiB, found $found dirty bytes"
}

nothing_is_in_the_log() { [[ $(site_number 1 lag) == 0 ]]; }

# copied_is_at_most MIB: when the site is back.
copied_is_at_most() {
    local before after
    before=$(bytes_written d0.1)
    disk_is d0.1 healthy
    replicator wait --timeout 60s repl
    after=$(bytes_written d0.1)
    ((after - before <= $1 * mib)) || fail "expected at most $1 MiB, found $((after - before)) bytes copied"
    replicas_are_equal
}

# ---- copies cut short

a_resync_cut_short_by_an_outage_goes_on_where_it_was() {
    local dirty_log='core 2 128 sync'
    group '1 async resync_rate:4m timeout_io:2s'
    scribble d0.0
    replicator create table
    eventually dirty_is_below 16
    disk_is d0.1 failing
    eventually site 1 down inconsistent
    (($(site_number 1 dirty) < 20 * mib))
    copied_is_at_most 20
}

a_daemon_that_dies_in_a_resync_goes_on_where_it_was_with_a_dirty_log_on_disk() {
    local dirty_log='disk 3 LEG.dirty 128 sync' before after load_size=4M
    group '1 async resync_rate:1m timeout_io:2s'
    scribble d0.0
    scribble d0.1
    replicator create table
    load_begins d0
    eventually dirty_is_below 24
    before=$(site_number 1 dirty)
    kill_daemon
    replicator recover repl
    after=$(site_number 1 dirty)
    echo "# killed in a resync: $before dirty bytes before, $after after recovery"
    site 1 inconsistent
    ((before > 0)) || fail 'it was done already: this proves nothing'
    ((after <= before + 4 * mib)) || fail "$before bytes were dirty before, $after after"
    load_ends
    the_rest_is_copied_at_once
    replicas_are_equal
}

a_daemon_that_dies_in_a_resync_begins_again_with_a_dirty_log_in_memory() {
    local dirty_log='core 2 128 sync' after
    group '1 async resync_rate:1m timeout_io:2s'
    scribble d0.0
    scribble d0.1
    replicator create table
    eventually dirty_is_below 20
    kill_daemon
    replicator recover repl
    after=$(site_number 1 dirty)
    site 1 inconsistent
    ((after >= 24 * mib)) || fail "expected all to be dirty again, or little less by now, found $after bytes"
    the_rest_is_copied_at_once
    replicas_are_equal
}

the_rest_is_copied_at_once() { replicator message repl 0 slink message 1 resync_rate:0; }

dirty_is_below() { (($(site_number 1 dirty) < $1 * mib)); }

# ---- other disks

another_disk_under_a_replicas_path_is_not_written_to_before_somebody_says_so() {
    local before
    group '1 async timeout_io:2s'
    replicator create table
    disk_is d0.1 failing
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    eventually site 1 down
    disk_goes d0.1
    eventually is_gone d0.1
    scribble d0.1
    cp d0.1 another
    dmsetup create "case-$$-d0.1" --uuid "another-$$" --table "$(mapping d0.1 healthy)"
    eventually says "found dm-uuid:another-$$; put the right disk back"
    cmp d0.1 another
    replicator message repl 0 resync 1
    replicas_are_equal
}

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

run_cases \
    a_remote_disk_of_other_content_is_copied_to_while_the_device_is_in_use_core \
    a_remote_disk_of_other_content_is_copied_to_while_the_device_is_in_use_disk \
    what_is_all_zeroes_takes_no_space_on_a_thin_disk \
    a_resync_keeps_to_its_rate \
    after_an_outage_longer_than_the_log_only_what_was_written_is_copied_nolog \
    after_an_outage_longer_than_the_log_only_what_was_written_is_copied_core \
    after_an_outage_longer_than_the_log_only_what_was_written_is_copied_disk \
    a_daemon_that_dies_in_a_long_outage_has_everything_copied_without_a_dirty_log \
    a_daemon_that_dies_in_a_long_outage_has_everything_copied_with_one_in_memory \
    a_daemon_that_dies_in_a_long_outage_has_only_dirty_regions_copied_with_one_on_disk \
    a_resync_cut_short_by_an_outage_goes_on_where_it_was \
    a_daemon_that_dies_in_a_resync_goes_on_where_it_was_with_a_dirty_log_on_disk \
    a_daemon_that_dies_in_a_resync_begins_again_with_a_dirty_log_in_memory \
    another_disk_under_a_replicas_path_is_not_written_to_before_somebody_says_so
