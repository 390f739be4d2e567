#!/bin/bash
# Memory is short, and can be had only by writing what waits for that to the devices: nothing waits for itself. (Swap on
# a device is another matter, see TESTING.md.)
#
# Only in a small machine that is there for it, since what it takes away is missing for everybody:
#
#   VM_MEM=1G ci/vm tests/vm/pressure.sh
#
# The disks are of scsi_debug, which has all its memory from the beginning.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# group SITE_WORD…: one device of 128 MiB, a log of 16.
group() {
    local words site="1 $*" name start=0
    local -A mib=([log]=16 [ld]=128 [rd]=128)
    read -ra words <<<"$site"
    modprobe scsi_debug dev_size_mb=272 delay=0 max_queue=64
    eventually compgen -G '/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*' >/dev/null
    scsi=$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*)
    for name in log ld rd; do
        dmsetup create "case-$$-$name" --uuid "case-$$-$name" \
            --table "0 $((mib[$name] * 2048)) linear /dev/$scsi $start"
        start=$((start + mib[$name] * 2048))
    done
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $(disk log) 0 auto 32768 blockdev 1 0 blockdev ${#words[@]} $site
d0: 0 262144 replicator-dev repl 0 0 1 $(disk ld) nolog 0 1 1 $(disk rd) core 2 1024 nosync
TABLE
    replicator create table
}

disk() { echo "/dev/mapper/case-$$-$1"; }

# memory_is_short MIB: that much is left to be had, once all caches are dropped.
memory_is_short() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    (($(available) <= $1)) || echo $((($(available) - $1) / 2)) >/proc/sys/vm/nr_hugepages
    echo "# $(available) MiB are available"
    (($(available) < $1 + 50))
}

available() { awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo; }

# MiB of pages that the kernel took away from what they held, by itself or where somebody waited for that.
freed() { awk '/^pgsteal_(kswapd|direct) / { n += $2 } END { print int(n / 256) }' /proc/vmstat; }

sites_are_equal() {
    replicator wait --timeout 120s repl
    replicator status d0 | grep ' errors:0'
    replicator remove repl
    cmp "$(disk ld)" "$(disk rd)"
    nothing_is_left
}

# numbers MILLIONS: some 9 MB each, of which nothing is there twice.
numbers() { seq "$1"000000; }

files_are_written_while_whoever_needs_memory_waits_for_that() {
    local needing before
    group async
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    memory_is_short 120
    before=$(freed)
    # More than is available, so that pages have to be written to be had.
    while [[ -d mnt/lost+found ]]; do
        head -c 70M /dev/zero | tail -c 70M >/dev/null
    done &
    needing=$!
    numbers 12 >mnt/numbers
    echo 1 >/proc/sys/vm/drop_caches
    numbers 12 | cmp - mnt/numbers
    kill $needing
    wait $needing || true
    before=$(($(freed) - before))
    echo "# $before MiB were taken back"
    ((before > 60)) || fail 'memory was not short: this proves nothing'
    umount mnt
    sites_are_equal
}

free_disks() {
    echo 0 >/proc/sys/vm/nr_hugepages
}

remove_disks() {
    local name
    for name in log ld rd; do
        [[ ! -e $(disk $name) ]] || patiently dmsetup remove "case-$$-$name"
    done
    scsi_disks_go
}

if [[ ! ${VM_GUEST:-} ]] || (($(available) > 1024)); then
    echo '1..0 # SKIP memory is made short in a machine of its own: VM_MEM=1G ci/vm tests/vm/pressure.sh'
    exit
fi

run_cases \
    files_are_written_while_whoever_needs_memory_waits_for_that
