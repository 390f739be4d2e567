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
    grep -qs '^[0-9]* (repl-helper) D ' /proc/[0-9]*/task/*/stat
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
    ((lived < 20000)) || fail "the devices waited for $lived ms"
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

# within SECONDS COMMAND…: the command succeeds, and in time.
within() {
    local limit=$1 began=${EPOCHREALTIME/./} took
    shift
    "$@"
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
    echo "# $took ms: ${*##*/}" >&3
    ((took < limit * 1000)) || fail "$* took $took ms"
}

# Whatever hangs, all verbs answer; `remove` says what is missing, and --no-drain ends the daemon all the same.
verbs_answer_and_the_daemon_ends() {
    local pid
    pid=$(daemon_pid repl)
    within 5 replicator status
    within 5 replicator suspend d0
    within 5 replicator resume d0
    within 5 replicator ls
    within 30 refused 'site 1 ' replicator remove --timeout 20s repl
    within 5 replicator status repl
    within 30 removed_without_draining
    [[ ! -d /proc/$pid ]] || fail "the daemon (process $pid) is still there"
}

# The log keeps what the site lacks, which may be said as a failure to drain.
removed_without_draining() {
    replicator remove --no-drain repl || true
    nothing_is_left
}

starts_and_catches_up() {
    within 15 replicator create table
    the_devices_live
    nothing_hangs
    replicas_are_equal_in_the_end
}

with_a_flush_that_hangs_all_verbs_answer_and_the_daemon_ends() {
    two_devices_and_one_can_hang
    replicator create table
    flushes_hang
    start_load 4 # several writes in a group: then the barrier is a flush
    end_load
    a_helper_hangs
    verbs_answer_and_the_daemon_ends
    a_helper_hangs || fail 'the flush has ended: this proves nothing'
    starts_and_catches_up
}

with_writes_that_hang_all_verbs_answer_and_the_daemon_ends() {
    two_devices_and_one_can_hang
    replicator create table
    everything_hangs
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    sleep 1
    verbs_answer_and_the_daemon_ends
    starts_and_catches_up
}

a_site_that_is_absent_is_noticed_and_taken_in_and_refused_if_all_is_required() {
    two_devices
    mv rd0 elsewhere
    refused "device 0 on site 1: $work/rd0: no such file" replicator create --require-all table
    nothing_is_left
    replicator create table 2>notices
    grep -F "device 0 on site 1: $work/rd0: no such file or device; the site is down until it is back" notices
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    mv elsewhere rd0
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    replicator create --require-all table
    replicator remove repl
}

# Two devices; the RD of the first one is a disk that takes 16 requests at a time, and can be made to sit on them.
two_devices_and_one_can_be_full() {
    two_devices
    modprobe -a dm-mod
    scsi_disks_go # another case's, with other parameters
    modprobe scsi_debug dev_size_mb=32 max_queue=16 host_max_queue=16
    eventually compgen -G "$scsi_debug/adapter0/host*/target*/*/block/*" >/dev/null
    scsi=$(basename "$scsi_debug"/adapter0/host*/target*/*/block/*)
    udevadm settle
    echo 1000 >"/sys/block/$scsi/device/timeout" # or the kernel would give the requests up
    echo none >"/sys/block/$scsi/queue/scheduler"
    # Or a flush might be the first to come, which takes this disk twelve times as long as a write.
    echo 'write through' >"/sys/block/$scsi/queue/write_cache"
    dmsetup create "hung-$$" --table "0 65536 linear /dev/$scsi 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$," table
    # All that came while the disk did not answer goes there at once.
    sed -i 's/blockdev 2 1 async/blockdev 3 1 async order:flush/' table
}

scsi_debug=/sys/bus/pseudo/drivers/scsi_debug

# requests_take SECONDS: set while nothing is in flight.
requests_take() {
    dmsetup suspend --noudevsync --nolockfs --noflush "hung-$$"
    until is_idle; do sleep 0.5; done
    delay_is $(($1 * 250 + 1)) # in jiffies, of which Debian has 250 a second
    dmsetup resume --noudevsync "hung-$$" # udev would look at the disk, and hang
}

delay_is() { echo "$1" >"$scsi_debug/delay"; }

is_idle() { [[ $(tr -d ' ' <"/sys/block/$scsi/inflight") == 00 ]]; }

# As many reads as the disk takes; $readers.
fill_the_queue() {
    local block
    readers=()
    for ((block = 0; block < 16; block++)); do
        dd if="/dev/$scsi" of=/dev/null bs=4k skip="$block" count=1 iflag=direct status=none &
        readers+=($!)
    done
    eventually is_full
}

is_full() {
    local reads writes
    read -r reads writes <"/sys/block/$scsi/inflight"
    ((reads + writes == 16))
}

a_daemon_killed_while_the_queue_of_a_remote_device_is_full_is_followed_in_seconds() {
    two_devices_and_one_can_be_full
    replicator create table
    # In bursts, and so few of them that the site stays fed from the log.
    fio --ioengine=io_uring --direct=1 --iodepth=8 --iodepth_batch=8 --iodepth_batch_complete_min=8 \
        --bs=4k --rw=randwrite --size=16M --thinktime=200ms --thinktime_blocks=8 --output-format=terse \
        --time_based --runtime=20 --name=d0 --filename=/dev/replicator/d0 >fio.txt 2>&1 &
    load=$!
    sleep 4
    requests_take 25
    fill_the_queue
    sleep 2 # for writes that find no room
    kill_and_recover 'a queue is full'
    is_full || fail 'the queue is not full any more: this proves nothing'
    the_devices_live
    end_load
    wait "${readers[@]}"
    requests_take 0
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 "/dev/$scsi"
    cmp ld1 rd1
}

# For the end of a case, however it ended.
remove_disks() {
    [[ ! -e $scsi_debug/delay ]] || patiently delay_is 0 # when nothing is in flight any more
    scsi_disks_go
}

run_cases \
    a_daemon_killed_while_a_flush_to_a_remote_device_hangs_is_followed_in_seconds \
    a_daemon_killed_while_writes_to_a_remote_device_hang_is_followed_in_seconds \
    a_daemon_killed_while_the_queue_of_a_remote_device_is_full_is_followed_in_seconds \
    with_a_flush_that_hangs_all_verbs_answer_and_the_daemon_ends \
    with_writes_that_hang_all_verbs_answer_and_the_daemon_ends \
    a_site_that_is_absent_is_noticed_and_taken_in_and_refused_if_all_is_required
