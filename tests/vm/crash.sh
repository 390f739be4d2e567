#!/bin/bash
# The daemon dies, under load and otherwise: no error reaches an application, nothing is lost.
#
#   ROUNDS=2    how often it is killed under one load
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Random writes with checksums over both devices of the group, read back and checked.
fio_verify() {
    fio --ioengine=io_uring --direct=1 --iodepth=16 --bsrange=512-64k --rw=randwrite --size=16M \
        --verify=crc32c --do_verify=1 --fsync=32 --randrepeat=0 --group_reporting \
        --name=d0 --filename=/dev/replicator/d0 --name=d1 --filename=/dev/replicator/d1 "$@"
}

kill_daemon() {
    local pid
    pid=$(daemon_pid repl)
    kill -KILL "$pid"
    eventually test ! -d "/proc/$pid"
}

replicas_are_equal() {
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    nothing_is_left
}

two_devices_under_load_read_back_what_was_written() {
    two_devices
    replicator create table
    fio_verify
    replicas_are_equal
}

file_systems_work_and_are_on_the_remote_site_afterwards() {
    two_devices
    replicator create table
    mkfs.ext4 -q /dev/replicator/d0
    mkfs.ext4 -q /dev/replicator/d1
    mkdir mnt mnt2
    mount /dev/replicator/d0 mnt
    mount /dev/replicator/d1 mnt2
    cp -r /etc/. mnt 2>/dev/null || true # what root may read, devices and sockets aside
    cp -r mnt/. mnt2
    umount mnt mnt2
    replicas_are_equal
    fsck.ext4 -fn rd0
    mount -o loop,ro rd0 mnt
    mount -o loop,ro rd1 mnt2
    diff -r --no-dereference mnt mnt2
}

a_daemon_killed_under_load_is_recovered_without_an_error() {
    two_devices
    replicator create table
    local device
    device=$(readlink -f /dev/replicator/d0)
    local round rounds=${ROUNDS:-2}
    fio_verify --time_based --runtime=$((5 + 5 * rounds)) >fio.txt 2>&1 &
    local load=$!
    for ((round = 0; round < rounds; round++)); do
        sleep $((1 + round % 2))
        kill_daemon
        replicator ls | grep -E '^repl .* dead$'
        replicator recover repl
    done
    wait $load || fail "fio failed: $(<fio.txt)"
    echo "# killed $rounds times under load"
    [[ $(readlink -f /dev/replicator/d0) == "$device" ]]
    replicas_are_equal
}

acknowledged_writes_survive_the_daemon() {
    two_devices
    replicator create table
    dd if=/dev/urandom of=pattern bs=1M count=8
    dd if=pattern of=/dev/replicator/d0 bs=64k oflag=direct
    kill_daemon
    replicator recover repl
    dd if=/dev/replicator/d0 of=back bs=1M count=8 iflag=direct
    cmp pattern back
    replicas_are_equal
}

a_dead_replicator_says_what_to_do() {
    two_devices
    replicator create table
    kill_daemon
    refused 'replicator recover repl' replicator status repl
    refused 'replicator recover repl' replicator create table
    refused 'replicator recover repl' replicator remove repl
    replicator table repl | cmp - table
    replicator remove --force repl
    nothing_is_left
    replicator create table # the log is replayed
    replicas_are_equal
}

a_living_replicator_is_not_recovered() {
    two_devices
    replicator create table
    refused 'lives' replicator recover repl
    refused 'expected a replicator' replicator recover nobody
}

run_takes_over_what_a_dead_daemon_left() {
    two_devices
    "$REPLICATOR" run table 2>log.txt &
    local daemon=$!
    eventually test -b /dev/replicator/d1
    local device
    device=$(readlink -f /dev/replicator/d0)
    dd if=/dev/urandom of=pattern bs=1M count=4
    dd if=pattern of=/dev/replicator/d0 bs=64k oflag=direct
    kill -KILL $daemon
    wait $daemon || true
    "$REPLICATOR" run table 2>log.txt &
    daemon=$!
    dd if=/dev/replicator/d0 of=back bs=1M count=4 iflag=direct # waits for the successor
    cmp pattern back
    [[ $(readlink -f /dev/replicator/d0) == "$device" ]]
    kill -TERM $daemon
    wait $daemon
    nothing_is_left
}

run_goes_on_with_the_devices_of_a_dead_daemon_whatever_its_table_says_by_now() {
    two_devices
    "$REPLICATOR" run table 2>log.txt &
    local daemon=$!
    eventually test -b /dev/replicator/d1
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    kill -KILL $daemon
    wait $daemon || true
    sed -i '/^d1/d' table # somebody edits it just then
    "$REPLICATOR" run table 2>log.txt &
    daemon=$!
    echo waits >mnt/file
    sync -f mnt/file
    test -b /dev/replicator/d1
    grep -q 'goes on with the table that this one had' log.txt
    umount mnt
    eventually replicator reload table
    [[ ! -e /dev/replicator/d1 ]]
    kill -TERM $daemon
    wait $daemon
    nothing_is_left
}

sigterm_with_a_mounted_device_leaves_it_to_a_successor() {
    two_devices
    replicator create table
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    echo before >mnt/file
    local pid
    pid=$(daemon_pid repl)
    kill -TERM "$pid"
    eventually test ! -d "/proc/$pid"
    (echo after >mnt/file2 && sync -f mnt/file2) &
    local writer=$!
    replicator recover repl
    wait $writer
    umount mnt
    mount /dev/replicator/d0 mnt
    [[ $(cat mnt/file mnt/file2) == $'before\nafter' ]]
    umount mnt
    replicas_are_equal
}

run_cases \
    two_devices_under_load_read_back_what_was_written \
    file_systems_work_and_are_on_the_remote_site_afterwards \
    a_daemon_killed_under_load_is_recovered_without_an_error \
    acknowledged_writes_survive_the_daemon \
    a_dead_replicator_says_what_to_do \
    a_living_replicator_is_not_recovered \
    run_takes_over_what_a_dead_daemon_left \
    run_goes_on_with_the_devices_of_a_dead_daemon_whatever_its_table_says_by_now \
    sigterm_with_a_mounted_device_leaves_it_to_a_successor
