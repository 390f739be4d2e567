#!/bin/bash
# What applications do to files and devices at random, reads, writes, mappings, holes, is read back as it was left.
#
#   FSX=PATH        the program (crates.io's fsx)
#   OPERATIONS=1000 how many of them in each run
#   SEED=N          of their order (default: any)
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

: "${FSX:=$root/target/tools/bin/fsx}" "${OPERATIONS:=1000}" "${SEED:=$RANDOM}"

# exercise FILE [KEY=VALUE…]: options of fsx above what is asked for everywhere.
exercise() {
    local file=$1 conf
    shift
    conf=$work/$(basename "$file").toml
    printf '%s\n' 'flen = 4194304' "${@}" '[opsize]' 'max = 131072' 'min = 512' "align = ${align:-1}" '[weights]' \
        'invalidate = 1' 'fsync = 1' 'fdatasync = 1' 'punch_hole = 5' 'sendfile = 2' 'posix_fadvise = 2' \
        "${weights[@]}" >"$conf"
    timeout 300 "$FSX" -q -f "$conf" -P "$work" -S "$SEED" -N "$OPERATIONS" "$file" >"$file.said" 2>&1 || {
        cat "$file.said"
        fail "seed $SEED: fsx on $file"
    }
}

replicas_are_equal() {
    replicator wait --timeout 60s repl
    replicator status --target replicator-dev | grep -c ' errors:0'
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    nothing_is_left
}

# Also when the daemon dies meanwhile.
a_device_is_read_back_as_it_was_left_by_random_operations() {
    two_devices
    replicator create table
    local align=512 weights=('truncate = 0' 'close_open = 0') device daemon running=()
    for device in d0 d1; do
        ln -s "/dev/replicator/$device" $device # what fsx says goes beside it
        exercise "$work/$device" 'blockmode = true' 'nosizechecks = true' &
        running+=($!)
    done
    sleep 2
    daemon=$(daemon_pid repl)
    kill -KILL "$daemon"
    eventually test ! -d "/proc/$daemon"
    replicator recover repl
    wait "${running[0]}"
    wait "${running[1]}"
    replicas_are_equal
}

files_on_ext4_and_xfs_are_read_back_as_they_were_left_by_random_operations() {
    two_devices
    truncate -s 320M ld1 rd1
    sed -i '/^d1/s/65536/655360/' table
    replicator create table
    mkfs.ext4 -q /dev/replicator/d0
    mkfs.xfs -q /dev/replicator/d1
    mkdir mnt mnt2
    mount /dev/replicator/d0 mnt
    mount /dev/replicator/d1 mnt2
    local weights=('truncate = 5' 'close_open = 1' 'copy_file_range = 3' 'posix_fallocate = 3') running
    exercise mnt/file &
    running=$!
    exercise mnt2/file
    wait $running
    umount mnt mnt2
    replicas_are_equal
    fsck.ext4 -fn rd0
    xfs_repair -n -f rd1
}

run_cases \
    a_device_is_read_back_as_it_was_left_by_random_operations \
    files_on_ext4_and_xfs_are_read_back_as_they_were_left_by_random_operations
