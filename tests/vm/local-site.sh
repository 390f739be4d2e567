#!/bin/bash
# The local disk fails, hangs, is not there, is another, has a bad sector: the device goes on, and the disk is rebuilt.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

# A group whose local disk d0.0 can fail; on site 1 the device has another copy.
group_of_disks() {
    truncate -s "${device_mib}M" d0.0
    disk_comes d0.0
    group '1 async timeout_io:2s'
    sed -i "s,$work/d0.0,$(disk d0.0),; s/blockdev 1 0 /blockdev 3 0 async timeout_io:2s /" table
}

a_local_disk_that_hangs_is_given_up_and_rebuilt_when_it_goes_on() {
    local log_mib=4
    group_of_disks
    replicator create table
    load_begins d0
    disk_hangs d0.0
    eventually happened 'site 0: down: .* for device 0 hangs'
    eventually happened 'site 0: detached, since the log was full'
    site 1 streaming read
    load_goes_on
    disk_is d0.0 healthy
    eventually happened 'site 0: no region is dirty any more'
    load_goes_on
    load_ends
    replicas_are_equal
}

a_local_disk_that_fails_and_comes_back_soon_is_made_up_for_from_the_log() {
    local log_mib=64
    group_of_disks
    replicator create table
    load_begins d0
    disk_is d0.0 failing
    eventually site 0 down
    load_goes_on
    disk_is d0.0 healthy
    eventually happened 'site 0: up again'
    load_goes_on
    load_ends
    if happened detached; then fail 'the log was large enough'; fi
    replicas_are_equal
}

an_empty_disk_in_its_place_is_rebuilt_under_load_once_somebody_says_so() {
    local log_mib=4
    group_of_disks
    replicator create table
    load_begins d0
    disk_is_swapped d0.0
    eventually says 'expected the backing device'
    load_goes_on
    cmp -n 4096 d0.0 /dev/zero
    replicator message repl 0 rebuild
    eventually site 0 resyncing
    load_goes_on
    eventually happened 'site 0: no region is dirty any more'
    load_goes_on
    load_ends
    replicas_are_equal
}

a_bad_sector_is_read_from_the_other_copy_and_written_again() {
    group_of_disks
    replicator create table
    dd if=/dev/urandom of=data bs=64k count=64
    dd if=data of=/dev/replicator/d0 bs=64k oflag=direct
    replicator wait --timeout 60s repl
    eventually cmp -n $((64 * 65536)) data d0.0
    # Reads of 8 of its sectors fail; what they held is not there any more.
    disk_hangs d0.0
    dd if=/dev/zero of=d0.0 bs=4k seek=100 count=1 conv=notrunc,fsync
    dmsetup load "case-$$-d0.0" <<TABLE
0 800 linear ${loops[d0.0]} 0
800 8 flakey ${loops[d0.0]} 800 0 1 1 error_reads
808 $((device_mib * 2048 - 808)) linear ${loops[d0.0]} 808
TABLE
    dmsetup resume "case-$$-d0.0"
    dd if=/dev/replicator/d0 of=read bs=64k count=64 iflag=direct
    cmp data read
    eventually cmp -n $((64 * 65536)) data d0.0
    if happened 'site 0'; then fail 'the site works'; fi
    # Nobody else has it: an error, and nothing but that.
    disk_is d0.1 failing
    dd if=/dev/urandom of=/dev/replicator/d0 bs=4k seek=2000 count=1 oflag=direct
    eventually site 1 down
    if dd if=/dev/replicator/d0 of=/dev/null bs=4k skip=100 count=1 iflag=direct; then fail 'expected an error'; fi
    dd if=/dev/replicator/d0 of=/dev/null bs=4k skip=101 count=1 iflag=direct
    disk_is d0.1 healthy
    disk_is d0.0 healthy
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp d0.0 d0.1
    nothing_is_left
}

a_group_starts_without_its_local_disk_where_another_copy_is_complete() {
    group_of_disks
    disk_goes d0.0
    refused 'its backing device on site 0 is not there, and the log has never seen it' replicator create table
    nothing_is_left
    disk_comes d0.0
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=64 oflag=direct
    replicator remove repl
    disk_goes d0.0
    replicator create table 2>notice
    grep -F "device 0 on site 0: $(disk d0.0): no such file or device" notice
    site 0 down
    load_begins d0
    load_goes_on
    disk_comes d0.0
    eventually happened 'site 0: up again'
    load_goes_on
    load_ends
    replicas_are_equal
}

a_daemon_that_is_killed_while_the_local_disk_is_lost_is_succeeded_at_once() {
    local log_mib=4 began
    group_of_disks
    replicator create table
    load_begins d0
    disk_hangs d0.0
    eventually happened 'site 0: detached'
    began=$SECONDS
    kill_daemon
    replicator recover repl
    echo "# recovered after $((SECONDS - began)) s"
    ((SECONDS - began < 25)) || fail "it took $((SECONDS - began)) s"
    load_goes_on
    site 0 down
    disk_is d0.0 healthy
    eventually happened 'site 0: up again'
    load_goes_on
    touch stop
    wait "$load" || fail "the load failed: $(cat load.txt load.fio)"
    load=
    replicas_are_equal
}

with_no_complete_copy_left_readers_wait_and_a_forced_remove_ends_them() {
    group_of_disks
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=64 oflag=direct
    replicator wait --timeout 60s repl
    disk_is d0.0 failing
    disk_is d0.1 failing
    dd if=/dev/replicator/d0 of=/dev/null bs=64k count=1 iflag=direct &
    local reader=$!
    eventually says 'no complete copy can be read'
    kill -0 $reader
    disk_is d0.1 healthy
    wait $reader
    disk_is d0.1 failing
    dd if=/dev/replicator/d0 of=/dev/null bs=64k count=1 iflag=direct &
    reader=$!
    eventually says 'no complete copy can be read'
    replicator remove --force --no-drain repl
    if wait $reader; then fail 'expected an error'; fi
    nothing_is_left
    disk_is d0.0 healthy
    disk_is d0.1 healthy
    replicator create table
    replicas_are_equal
}

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

run_cases \
    a_local_disk_that_hangs_is_given_up_and_rebuilt_when_it_goes_on \
    a_local_disk_that_fails_and_comes_back_soon_is_made_up_for_from_the_log \
    an_empty_disk_in_its_place_is_rebuilt_under_load_once_somebody_says_so \
    a_bad_sector_is_read_from_the_other_copy_and_written_again \
    a_group_starts_without_its_local_disk_where_another_copy_is_complete \
    a_daemon_that_is_killed_while_the_local_disk_is_lost_is_succeeded_at_once \
    with_no_complete_copy_left_readers_wait_and_a_forced_remove_ends_them
