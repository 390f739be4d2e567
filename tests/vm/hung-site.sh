#!/bin/bash
# A remote device hangs in the kernel: the devices go on, also when their daemon is killed then.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

exec 3>&1 # for figures, which are told also when all is well

# Two devices, as ever, but the RD of the first one can be made to hang.
two_devices_and_one_can_hang() {
    two_devices
    modprobe -a dm-delay
    loop=$(losetup --show -f rd0)
    dmsetup create "hung-$$" --table "0 65536 linear $loop 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$," table
}

# Writes end, flushes don't: the device has a cache that can't be emptied any more.
flushes_hang() { set_table "0 65536 delay $loop 0 0 $loop 0 0 $loop 0 600000"; }

# Nothing ends.
everything_hangs() { dmsetup suspend --nolockfs --noflush "hung-$$"; }

nothing_hangs() {
    set_table "0 65536 linear $loop 0"
    dmsetup resume "hung-$$"
}

set_table() {
    dmsetup reload "hung-$$" --table "$1"
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dmsetup resume "hung-$$"
}

# Random writes with checksums over both devices, read back and checked; in the background, as $load.
start_load() {
    fio --ioengine=io_uring --direct=1 --iodepth=16 --bsrange=4k-64k --rw=randwrite --size=16M --fsync=16 \
        --verify=crc32c --do_verify=1 --verify_state_save=0 --output-format=terse --randrepeat=0 --time_based --runtime="$1" \
        --name=d0 --filename=/dev/replicator/d0 --name=d1 --filename=/dev/replicator/d1 >fio.txt 2>&1 &
    load=$!
}

end_load() { wait "$load" || fail "fio failed: $(<fio.txt)"; }

# A thread of some helper waits in the kernel for a disk.
a_helper_hangs() {
    local task -
    set +x
    for task in /proc/[0-9]*/task/*; do
        [[ $(cat "$task/comm" 2>/dev/null) == repl-helper ]] || continue
        [[ $(sed 's/.*) //; s/ .*//' "$task/stat" 2>/dev/null) != D ]] || return 0
    done
    return 1
}

kill_and_recover() {
    local pid began
    pid=$(daemon_pid repl)
    began=${EPOCHREALTIME/./}
    kill -KILL "$pid"
    until replicator recover repl 2>recover.err; do
        ((${EPOCHREALTIME/./} - began < 60000000)) || fail "recovery failed: $(<recover.err)"
        sleep 0.05
    done
    lived=$(((${EPOCHREALTIME/./} - began) / 1000))
    echo "# live again $lived ms after the kill: $1" >&3
    ((lived < 10000)) || fail "the devices waited for $lived ms"
}

# The device of a host can be used, and the load on it sees no error.
the_devices_live() {
    dd if=/dev/urandom of=/dev/replicator/d0 bs=4k count=1 seek=6144 oflag=direct,sync # not where the load is
    dd if=/dev/replicator/d1 of=/dev/null bs=4k count=1 iflag=direct
}

replicas_are_equal_in_the_end() {
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    dmsetup remove "hung-$$"
}

a_daemon_killed_while_a_flush_to_a_remote_device_hangs_is_followed_in_seconds() {
    two_devices_and_one_can_hang
    replicator create table
    start_load 20
    sleep 2
    flushes_hang
    eventually a_helper_hangs
    kill_and_recover 'a flush hangs'
    a_helper_hangs || fail 'the flush has ended: this proves nothing'
    the_devices_live
    end_load
    nothing_hangs
    replicas_are_equal_in_the_end
}

a_daemon_killed_while_writes_to_a_remote_device_hang_is_followed_in_seconds() {
    two_devices_and_one_can_hang
    replicator create table
    start_load 20
    sleep 2
    everything_hangs
    sleep 1
    kill_and_recover 'writes hang'
    the_devices_live
    end_load
    nothing_hangs
    replicas_are_equal_in_the_end
}

run_cases \
    a_daemon_killed_while_a_flush_to_a_remote_device_hangs_is_followed_in_seconds \
    a_daemon_killed_while_writes_to_a_remote_device_hang_is_followed_in_seconds
