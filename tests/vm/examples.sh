#!/bin/bash
# The tables that users copy from run as they are.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# example NAME: its table, with every path in this directory and a file there for each. Only
# its log is made smaller: it is written with zeroes first.
example() {
    sed -e "s,/var/lib/replicator,$work,g" -e 's/ 0 auto [0-9]*/ 0 auto 65536/' \
        "$root/examples/tables/$1.table" >table
    local path
    grep -v '^ *#' table | grep -o "$work/[^ ]*" | while read -r path; do
        mkdir -p "$(dirname "$path")"
        truncate -s 320M "$path"
    done
}

one_device_is_replicated_to_one_site() {
    example one-device
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/data bs=1M count=4 oflag=direct
    replicator remove repl
    cmp data-ld.img data-rd.img
}

two_devices_share_the_quickstart_s_log() {
    example quickstart
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/db bs=64k count=32 oflag=direct
    dd if=/dev/urandom of=/dev/replicator/wal bs=64k count=32 oflag=direct
    replicator remove quickstart
    cmp db-ld.img db-rd.img
    cmp wal-ld.img wal-rd.img
}

three_devices_are_replicated_to_three_sites() {
    example three-sites
    replicator create table
    local device site
    for device in d1 d2 d3; do
        dd if=/dev/urandom of=/dev/replicator/$device bs=64k count=16 oflag=direct
        cmp -n 1M /dev/replicator/$device "metro/$device.img" # site 1 is `sync`
    done
    replicator status repl | grep -E '^repl: 0 1 replicator A,.* S,.* A,.* A,'
    replicator remove repl
    for device in d1 d2 d3; do
        for site in metro region far; do
            cmp "local/$device.img" "$site/$device.img"
        done
    done
}

a_long_outage_is_remembered_on_a_disk_and_ends_with_equal_devices() {
    example long-outage
    dd if=/dev/urandom of=data-ld.img bs=1M count=16 conv=notrunc
    modprobe dm-mod
    dmsetup create "hung-$$" --table "0 655360 linear $(losetup --show -f data-rd.img) 0"
    sed -i "s,$work/data-rd.img,/dev/mapper/hung-$$," table
    replicator create table
    replicator wait --timeout 300s repl # what was on the local device is there, without dd
    cmp -n 64M data-ld.img data-rd.img
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/data bs=1M count=48 oflag=direct # more than the limit
    eventually detached
    dmsetup resume "hung-$$"
    replicator wait --timeout 300s repl
    replicator remove repl
    dmsetup remove "hung-$$"
    cmp -n 64M data-ld.img data-rd.img
}

detached() { grep -F 'what it lacks is in dirty regions (' <<<"$(replicator why repl)"; }

run_cases \
    a_long_outage_is_remembered_on_a_disk_and_ends_with_equal_devices \
    one_device_is_replicated_to_one_site \
    two_devices_share_the_quickstart_s_log \
    three_devices_are_replicated_to_three_sites
