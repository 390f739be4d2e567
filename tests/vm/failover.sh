#!/bin/bash
# A host dies, its remote site is opened there as a replicator of its own, and both come together again: by hand, as
# docs/failover.md says it. Of what is the same on both sides nothing is copied.
#
#   WITNESS=PATH     tests/power-cut's program (default: the release build)
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

device_mib=32
mib=$((1 << 20))
witness=${WITNESS:-${CARGO_TARGET_DIR:-$root/target}/release/witness}
writer=

# Two devices, db and wal, on the disks of host east, db.east and wal.east, and on those of host west. Disks are there
# when disk_comes.
two_hosts() {
    local - disk
    set +x
    [[ -x $witness ]] || fail "expected the witness at $witness; run cargo build --release -p witness"
    cp "$witness" witness # a guest's file system is slow
    for disk in {db,wal}.{east,west}; do
        truncate -s "${device_mib}M" "$disk"
    done
    truncate -s 8M {east,west}.log
    truncate -s 1M mark {db,wal}.{east,west}.dirty
    replicator_of east west "${init:-nosync}" 'async timeout_io:2s' "mark:$work/mark"
    replicator_of west east later 'async timeout_io:2s'
}

# replicator_of HERE THERE INIT POLICY OPTION…: the table HERE.table, of a replicator HERE that runs on that host.
replicator_of() {
    local here=$1 there=$2 init=$3 words name nr=0
    shift 3
    words="1 $*"
    # shellcheck disable=SC2086 # words
    {
        echo "$here: 0 1 replicator ringbuffer 4 $work/$here.log 0 auto 16384 blockdev 1 0 blockdev $(count $words) $words"
        for name in db wal; do
            echo "$name: 0 $((device_mib * 2048)) replicator-dev $here $nr 0 1 $(disk $name.$here) nolog 0" \
                "1 1 $(disk $name.$there) disk 3 $work/$name.$here.dirty 128 $init"
            nr=$((nr + 1))
        done
    } >"$here.table"
}

both_hosts_are_there() {
    local disk
    for disk in {db,wal}.{east,west}; do
        disk_comes "$disk"
    done
    # What nobody writes to is not all zeroes: zeroes would not be copied anyhow.
    head -c 16M /dev/urandom | dd of="$(disk db.east)" bs=1M seek=16 oflag=direct status=none iflag=fullblock
    dd if="$(disk db.east)" of="$(disk db.west)" bs=1M oflag=direct status=none
}

# On a slow guest the remote disks come a moment later than the devices.
east_runs() {
    replicator create east.table
    replicator wait --timeout 60s east
}

application_begins() {
    RUST_BACKTRACE=0 ./witness write /dev/replicator/db /dev/replicator/wal >>"$1" &
    writer=$!
    eventually has_written "$1" "${2:-3}"
}

has_written() { (($(wc -l <"$1") >= $2)); }

application_ends() {
    kill "$writer" 2>/dev/null || true
    wait "$writer" 2>/dev/null || true
}

# The host of a replicator dies under load, and its disks are not there any more.
host_dies() {
    local disk
    kill -KILL "$(daemon_pid "$1")"
    # It would not be there to be removed; here, all hosts are one, and whoever writes waits for a successor.
    replicator remove --force "$1"
    application_ends
    for disk in {db,wal}."$1"; do
        eventually disk_goes_away "$disk"
    done
}

disk_goes_away() { dmsetup remove "case-$$-$1" 2>/dev/null; }

says() { grep -F -- "$1" <<<"$(replicator why west || true)"; }

# opened_at_west: as long as nobody is at east. The image is such as an application could have found.
opened_at_west() {
    eventually replicator mark check mark
    ./witness judge "$(disk db.west)" "$(disk wal.west)" >judged || fail "the image is out of order"
    echo "# west has $(<judged)"
    replicator create --mark mark west.table
    # What is there is used as it is, and goes on to be.
    application_begins acked.west 5
}

# east_returns DIRTY_LOG…: its disks are there again, and nothing happens to them before it is told where they differ.
east_returns() {
    local disk option=()
    for disk; do
        option+=(--dirty-log "$disk")
    done
    for disk in {db,wal}.east; do
        disk_comes "$disk"
    done
    cksum {db,wal}.east >before
    eventually says 'nobody has told yet where its backing device differs'
    cksum {db,wal}.east | cmp - before
    replicator log dirty east.log --site 1 "${option[@]}" >differs
    copied=$(($(bytes_written db.east) + $(bytes_written wal.east)))
}

# Where nobody writes: what is not copied keeps it.
a_sector_rots_at_east() { printf 'not what it was' | dd of=db.east bs=1 seek=$((20 * mib + 4711)) conv=notrunc,fsync status=none; }

and_is_taken_back() {
    replicator differs west 1 differs
    eventually is_being_copied # while the application goes on
    application_ends
    replicator wait --timeout 120s west
    copied=$(($(bytes_written db.east) + $(bytes_written wal.east) - copied))
    # Only that is left: so nothing else of what was the same was copied. And it can be mended.
    replicator message west 0 verify 1 repair
    replicator wait --verified --timeout 120s west | grep '1 range differs (device 0 from sector 40969 on, 512 B)'
    replicator remove west
    cmp db.east db.west
    cmp wal.east wal.west
    ./witness judge --acked acked.west "$(disk db.west)" "$(disk wal.west)"
}

is_being_copied() { replicator status --json west | grep -q 'resync began'; }

# told_bytes: that the old log or its dirty logs tell to differ.
told_bytes() { awk '$1 == "all" { sum += size } $1 == "device" { size = $3 } NF == 2 && $1 != "device" { sum += $2 } END { print sum * 512 }' differs; }

# A planned way back: the host that was there first goes on with what both have.
back_to_east() {
    truncate -s 0 east.log
    truncate -s 8M east.log # what it holds is of another life
    replicator_of east west nosync 'async timeout_io:2s'
    replicator create east.table
    application_begins acked.east 3
    application_ends
    replicator wait --timeout 60s east
    replicator remove east
    cmp db.east db.west
    ./witness judge --acked acked.east "$(disk db.east)" "$(disk wal.east)"
}

a_host_that_dies_under_load_is_taken_over_and_gets_back_only_what_differs() {
    two_hosts
    both_hosts_are_there
    east_runs
    disk_is db.west slow 20 # it is behind when it happens
    application_begins acked.lost 8
    host_dies east
    disk_is db.west healthy
    opened_at_west
    a_sector_rots_at_east
    east_returns
    local told
    told=$(told_bytes)
    and_is_taken_back
    echo "# told to differ: $((told / 1024)) KiB; written to east: $((copied / 1024)) KiB"
    ((told > 0)) || fail 'expected the log to hold something that west lacks'
    back_to_east
    nothing_is_left
}

a_site_that_was_detached_for_long_is_taken_over_with_what_its_dirty_logs_know() {
    two_hosts
    both_hosts_are_there
    east_runs
    disk_is db.west failing
    application_begins acked.lost 8
    eventually site_is_detached
    host_dies east
    disk_is db.west healthy
    opened_at_west
    a_sector_rots_at_east
    east_returns db.east.dirty wal.east.dirty
    and_is_taken_back
    echo "# written to east: $((copied / 1024)) KiB"
    # Without them, all of a device differs; and another's is refused.
    [[ $(replicator log dirty east.log --site 1 | grep -c '^all$') == 2 ]]
    refused 'expected a dirty log of site 1' replicator log dirty east.log --site 1 --dirty-log db.west.dirty
    back_to_east
    nothing_is_left
}

site_is_detached() { replicator status east | grep -q ' site1:[a-z]*,.*,dirty=[1-9]'; }

a_site_that_was_being_copied_to_is_opened_only_by_force() {
    local init=sync
    two_hosts
    both_hosts_are_there
    sed -i 's/async timeout_io:2s/async resync_rate:1m timeout_io:2s/; s/blockdev 4 1/blockdev 5 1/' east.table
    replicator create east.table
    eventually mark_says inconsistent
    host_dies east
    refused 'the site was being copied to' replicator create --mark mark west.table
    nothing_is_left
    replicator create --mark mark --force west.table 2>said
    grep 'started all the same' said
    east_returns
    # What was not copied yet is dirty in the dirty logs that nobody has named: so is everything.
    [[ $(grep -c '^all$' differs) == 2 ]]
    replicator differs west 1 differs
    replicator wait --timeout 120s west
    replicator remove west
    cmp db.east db.west
    nothing_is_left
}

mark_says() { replicator mark dump --live mark 2>/dev/null | grep -q ": $1, "; }

a_crash_of_the_new_host_loses_nothing_that_was_told() {
    two_hosts
    both_hosts_are_there
    east_runs
    disk_is db.west slow 20
    application_begins acked.lost 8
    host_dies east
    disk_is db.west healthy
    opened_at_west
    east_returns
    replicator differs west 1 differs
    kill -KILL "$(daemon_pid west)"
    replicator recover west
    application_ends
    replicator wait --timeout 120s west
    replicator remove west
    cmp db.east db.west
    cmp wal.east wal.west
    nothing_is_left
}

run_cases \
    a_host_that_dies_under_load_is_taken_over_and_gets_back_only_what_differs \
    a_site_that_was_detached_for_long_is_taken_over_with_what_its_dirty_logs_know \
    a_site_that_was_being_copied_to_is_opened_only_by_force \
    a_crash_of_the_new_host_loses_nothing_that_was_told
