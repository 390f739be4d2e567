#!/bin/bash
# Legs of both block sizes, and sites that acknowledgements wait for, on real ublk devices.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# one_device SITES LD RD: a device of 16 MiB and its table.
one_device() {
    local slinks=$1 ld=$2 rd=$3
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $log 0 auto 65536 $slinks
d0: 0 32768 replicator-dev repl 0 0 1 $ld nolog 0 1 1 $rd core 2 1024 nosync
TABLE
}

files() {
    truncate -s 32M log
    truncate -s 16M ld rd
    log=$work/log
}

loop_of_4096() { losetup --show --find --sector-size 4096 --direct-io=on "$1" 2>/dev/null || losetup --show --find --sector-size 4096 "$1"; }

a_device_has_the_blocks_of_its_strictest_leg() {
    files
    local loop
    loop=$(loop_of_4096 rd)
    one_device "blockdev 1 0 blockdev 2 1 async" "$work/ld" "$loop"
    replicator create table
    [[ $(blockdev --getss /dev/replicator/d0) == 4096 ]]
    dd if=/dev/urandom of=/dev/replicator/d0 bs=4k count=1000 oflag=direct
    replicator remove repl
    cmp ld rd
}

everything_works_on_blocks_of_4096_bytes_the_log_too() {
    files
    local ld rd
    log=$(loop_of_4096 log) ld=$(loop_of_4096 ld) rd=$(loop_of_4096 rd)
    one_device "blockdev 2 0 async blockdev 2 1 async" "$ld" "$rd"
    replicator create table
    fio --name=verify --filename=/dev/replicator/d0 --rw=randwrite --bs=4k --size=16m --direct=1 --ioengine=io_uring \
        --iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --output=fio.out
    replicator remove repl
    cmp ld rd
}

a_device_of_512_byte_blocks_takes_single_sectors() {
    files
    one_device "blockdev 1 0 blockdev 2 1 async" "$work/ld" "$work/rd"
    replicator create table
    [[ $(blockdev --getss /dev/replicator/d0) == 512 ]]
    dd if=/dev/urandom of=/dev/replicator/d0 bs=512 count=301 seek=7 oflag=direct
    dd if=/dev/replicator/d0 of=copy bs=512 count=301 skip=7 iflag=direct
    replicator remove repl
    cmp -n $((301 * 512)) -i $((7 * 512)):0 ld copy
    cmp ld rd
}

what_is_acknowledged_is_on_every_sync_site() {
    files
    one_device "blockdev 2 0 sync blockdev 2 1 sync" "$work/ld" "$work/rd"
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=64 oflag=direct
    dd if=/dev/replicator/d0 of=copy bs=1M count=4 iflag=direct
    # Nobody has stopped anything, or waited: the sites have it because the writes have ended.
    cmp -n $((4 << 20)) copy ld
    cmp -n $((4 << 20)) copy rd
    replicator status repl | grep -E '^repl: 0 1 replicator S,0,0 S,0,0 '
}

discarded_sectors_read_as_zeroes_everywhere() {
    files
    one_device "blockdev 1 0 blockdev 2 1 async" "$work/ld" "$work/rd"
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=1M count=16 oflag=direct
    blkdiscard --offset $((1 << 20)) --length $((2 << 20)) /dev/replicator/d0
    blkdiscard --zeroout --offset $((8 << 20)) --length $((1 << 20)) /dev/replicator/d0
    local at
    for at in 1 2 8; do
        cmp -n $((1 << 20)) <(dd if=/dev/replicator/d0 bs=1M skip=$at count=1 iflag=direct status=none) /dev/zero
    done
    replicator remove repl
    for at in 1 2 8; do
        cmp -n $((1 << 20)) -i $((at << 20)):0 rd /dev/zero
    done
    cmp ld rd
}

run_cases \
    a_device_has_the_blocks_of_its_strictest_leg \
    everything_works_on_blocks_of_4096_bytes_the_log_too \
    a_device_of_512_byte_blocks_takes_single_sectors \
    what_is_acknowledged_is_on_every_sync_site \
    discarded_sectors_read_as_zeroes_everywhere
