#!/bin/bash
# Disks that are used twice, by whatever path, and disks in each other's place: refused, by name, and nothing changes.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

scsi=()

# A SCSI disk of 64 MiB by two paths, ${scsi[0]} and ${scsi[1]}: they have the same WWID.
one_disk_by_two_paths() {
    local host
    scsi_disks_go # another case's, with other parameters
    modprobe scsi_debug dev_size_mb=64 add_host=2 vpd_use_hostno=0 removable=0 no_uld=0 "$@"
    eventually scsi_disks_are 2
    mapfile -t scsi < <(scsi_disks)
    for host in "${scsi[@]}"; do
        eventually test -b "$host"
    done
}

scsi_disks() { grep -l scsi_debug /sys/block/sd*/device/model | sed 's,/sys/block/\(sd[a-z]*\)/.*,/dev/\1,'; }

scsi_disks_are() { [[ $(scsi_disks | wc -l) == "$1" ]]; }

# For the end of a case, however it ended.
free_disks() {
    swapoff "$work"/swap* /dev/sd? 2>/dev/null
    ! grep -q ' /dev/sd' /proc/mounts || umount "$work"/mnt*
}

remove_disks() {
    [[ ! -e /dev/mapper/over-$$ ]] || dmsetup remove --retry "over-$$"
    losetup --list --noheadings --output NAME,BACK-FILE | while read -r name file; do
        [[ $file != /dev/loop* ]] || losetup -d "$name"
    done
    scsi_disks_go
}

# one_device LOG LD RD: a device of 16 MiB, and its table. The log is a new one.
one_device() {
    [[ ! -f $1 ]] || { truncate -s 0 "$1" && truncate -s 32M "$1"; }
    cat >"${table:-table}" <<TABLE
${name:-repl}: 0 1 replicator ringbuffer 4 $1 0 auto 32768 blockdev 1 0 blockdev 2 1 async
${device:-d0}: 0 32768 replicator-dev ${name:-repl} 0 0 1 $2 nolog 0 1 1 $3 core 2 1024 nosync
TABLE
}

files() {
    local file
    for file; do
        truncate -s 32M "$file"
    done
}

# unchanged COMMAND…: the command leaves every byte of the case's files, and of the SCSI disks, as it was.
unchanged() {
    local before after
    sync
    before=$(bytes)
    "$@"
    sync
    after=$(bytes)
    [[ $before == "$after" ]] || fail "expected nothing to change; before: $before; after: $after"
}

bytes() {
    local disk
    for disk in log ld rd file other "${scsi[@]}"; do
        [[ ! -e $disk ]] || cksum "$disk"
    done
}

# cannot_start TEXT: what the table names is refused, and nothing of it is left.
cannot_start() {
    unchanged refused "$1" replicator create table
    nothing_is_left
}

# starts_without TEXT: a remote disk that can't be used keeps nobody from starting; why says so; nothing is written to it.
starts_without() {
    replicator create table 2>notices
    grep -F -- "$1" notices
    eventually says "$1"
    replicator remove --no-drain repl || true
    nothing_is_left
}

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

one_disk_by_two_paths_is_refused_in_one_group() {
    one_disk_by_two_paths
    files log ld rd
    one_device "$work/log" "${scsi[0]}" "${scsi[1]}"
    cannot_start "device 0 on site 0 (${scsi[0]}) and device 0 on site 1 (${scsi[1]}) are the same: wwid:"
    one_device "${scsi[0]}" "${scsi[1]}" "$work/rd"
    cannot_start 'the log'
    one_device "$work/log" "$work/ld" "${scsi[0]}"
    sed -i "s,blockdev 2 1 async,blockdev 3 1 async mark:${scsi[1]}," table
    cannot_start 'the mark of site 1'
}

one_disk_by_two_paths_is_refused_in_two_groups_and_its_holder_named() {
    one_disk_by_two_paths
    files log ld rd other
    name=first device=e0 table=held one_device "$work/other" "${scsi[0]}" "$work/rd"
    replicator create held
    one_device "$work/log" "${scsi[1]}" "$work/rd2"
    refused "${scsi[1]}: in use by the replicator first as device 0 on site 0 (${scsi[0]})" replicator create table
    one_device "${scsi[1]}" "$work/ld" "$work/rd2"
    refused "the log: ${scsi[1]}: in use by the replicator first" replicator create table
    one_device "$work/log" "$work/ld" "${scsi[1]}"
    refused "${scsi[1]}: in use by the replicator first" replicator create --require-all table
    replicator create table 2>notices
    grep -F "in use by the replicator first as device 0 on site 0 (${scsi[0]}); the site is down" notices
    # Also while it runs, when it is tried again; and what a dead daemon had is not free.
    kill -KILL "$(daemon_pid first)"
    eventually says "in use by the replicator first as device 0 on site 0 (${scsi[0]}), whose daemon died"
    replicator recover first
    dd if=/dev/urandom of=/dev/replicator/e0 bs=64k count=16 oflag=direct
    replicator remove first
    # Given back: nobody has it, so the site comes.
    replicator wait --timeout 60s repl
    replicator remove repl
}

the_same_file_is_refused_in_two_groups_also_by_a_loop_device() {
    files log ld rd other
    local loop
    name=first device=e0 table=held one_device "$work/other" "$work/ld" "$work/rd"
    replicator create held
    loop=$(losetup --show -f ld)
    one_device "$work/log" "$loop" "$work/none"
    refused "$loop: in use by the replicator first as device 0 on site 0 ($work/ld)" replicator create table
    one_device "$work/log" "$(losetup --show -f --offset 1M ld)" "$work/none"
    refused "in use by the replicator first as device 0 on site 0 ($work/ld)" replicator create table
    one_device "$work/ld" "$work/log" "$work/none"
    refused "$work/ld: in use by the replicator first as device 0 on site 0 ($work/ld)" replicator create table
    replicator remove first
}

a_loop_device_over_a_used_file_or_over_another_loop_device_is_refused() {
    files log ld rd
    local over again
    over=$(losetup --show -f rd)
    one_device "$work/log" "$work/rd" "$over"
    cannot_start 'are the same: file:'
    again=$(losetup --show -f "$over")
    one_device "$work/log" "$work/rd" "$again"
    cannot_start 'are the same: file:'
    one_device "$work/log" "$over" "$again"
    cannot_start 'are the same: file:'
    one_device "$work/log" "$work/rd" "$(losetup --show -f --offset 1M rd)"
    cannot_start "has bytes in common with $work/rd"
    # Two parts of one file are two disks.
    truncate -s 64M rd
    one_device "$work/log" "$(losetup --show -f --sizelimit 32M rd)" "$(losetup --show -f --offset 32M rd)"
    replicator create table
    replicator remove repl
}

a_file_whose_loop_device_is_mounted_is_refused() {
    files log ld rd file
    mkfs.ext4 -q file
    mkdir mnt
    mount -o loop file mnt
    local loop
    loop=$(findmnt -no SOURCE mnt)
    one_device "$work/log" "$work/file" "$work/rd"
    refused "$work/file: in use by $loop, which is the same, and in use by the file system mounted on $work/mnt" \
        replicator create table
    one_device "$work/log" "$(losetup --show -f file)" "$work/rd"
    refused "in use by $loop, which is the same, and in use by the file system mounted on $work/mnt" \
        replicator create table
    umount mnt
    nothing_is_left
}

a_partition_and_its_disk_are_refused_together() {
    one_disk_by_two_paths num_parts=2
    files log ld rd
    eventually test -b "${scsi[0]}1"
    eventually test -b "${scsi[1]}2"
    one_device "$work/log" "${scsi[0]}" "${scsi[0]}1"
    cannot_start "${scsi[0]}1: has bytes in common with ${scsi[0]} (device 0 on site 0): both are parts of wwid:"
    one_device "${scsi[0]}1" "$work/ld" "${scsi[0]}"
    cannot_start "has bytes in common with ${scsi[0]}1 (the log)"
    # By the other path, too; the kernel knows nothing of that.
    one_device "$work/log" "${scsi[0]}" "${scsi[1]}1"
    cannot_start "${scsi[1]}1: has bytes in common with ${scsi[0]}"
    one_device "$work/log" "${scsi[0]}1" "${scsi[1]}1"
    cannot_start 'are the same: wwid:'
    # Two partitions are two disks.
    one_device "$work/log" "${scsi[0]}1" "${scsi[1]}2"
    replicator create table
    replicator remove repl
}

what_is_mounted_swapped_to_or_below_another_device_is_refused_and_its_user_named() {
    one_disk_by_two_paths num_parts=2
    files log ld rd swap
    eventually test -b "${scsi[0]}1"
    mkfs.ext4 -q "${scsi[0]}1"
    mkdir mnt
    mount "${scsi[0]}1" mnt
    one_device "$work/log" "${scsi[0]}1" "$work/rd"
    refused "${scsi[0]}1: in use by the file system mounted on $work/mnt" replicator create table
    one_device "$work/log" "${scsi[0]}" "$work/rd" # the whole disk
    refused "${scsi[0]}: in use by" replicator create table
    one_device "$work/log" "$work/ld" "${scsi[0]}1"
    starts_without "${scsi[0]}1: in use by the file system mounted on $work/mnt"
    umount mnt

    mkswap -q "${scsi[0]}2"
    swapon "${scsi[0]}2"
    one_device "$work/log" "${scsi[0]}2" "$work/rd"
    refused "${scsi[0]}2: in use by swap on ${scsi[0]}2" replicator create table
    swapoff "${scsi[0]}2"

    modprobe dm-mod
    dmsetup create "over-$$" --table "0 32768 linear ${scsi[0]} 0"
    one_device "$work/log" "${scsi[0]}" "$work/rd"
    refused "${scsi[0]}: in use by /dev/mapper/over-$$" replicator create table
    one_device "$work/log" "/dev/mapper/over-$$" "${scsi[0]}"
    starts_without "${scsi[0]}: in use by /dev/mapper/over-$$"
    dmsetup remove "over-$$"
    one_device "$work/log" "${scsi[0]}" "$work/rd"
    replicator create table
    if dmsetup create "over-$$" --table "0 32768 linear ${scsi[0]} 0"; then fail 'a used disk was mapped'; fi
    if mount "${scsi[0]}" mnt; then fail 'a used disk was mounted'; fi
    replicator remove repl
}

a_file_that_is_swapped_to_is_refused() {
    files log ld rd
    dd if=/dev/zero of=swap bs=1M count=32
    chmod 600 swap
    mkswap -q swap
    # A file system in RAM can't be swapped to.
    swapon swap || { echo '# left out: no swap files here'; return 0; }
    one_device "$work/log" "$work/swap" "$work/rd"
    refused "$work/swap: in use by swap on $work/swap" replicator create table
    swapoff swap
    nothing_is_left
}

one_disk_as_log_and_local_device_is_refused() {
    files log ld rd
    one_device "$work/ld" "$work/ld" "$work/rd"
    cannot_start 'the log'
    ln ld hard
    one_device "$work/hard" "$work/ld" "$work/rd"
    cannot_start 'are the same: file:'
    one_device "$work/log" "$work/ld" "$work/rd"
    sed -i "s,core 2 1024,disk 3 $work/hard 1024," table
    cannot_start 'the dirty log of device 0 on site 1'
}

cables_that_were_crossed_between_two_starts_are_found_and_nothing_is_written() {
    local held
    two_devices
    dd if=/dev/urandom of=ld0 bs=1M count=32 conv=notrunc
    dd if=/dev/urandom of=ld1 bs=1M count=32 conv=notrunc
    cp ld0 rd0
    cp ld1 rd1
    cp table straight
    replicator create table
    replicator remove repl
    # The remote ones: the site is down, says why, and stays as it is.
    sed "s,/rd0 ,/x ,; s,/rd1 ,/rd0 ,; s,/x ,/rd1 ," straight >table
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    eventually says 'site 1: down for '
    says ', which is that of device 1 on site 1; put the right disk back'
    cksum ld1 rd1 | awk '{ print $1 }' | uniq | wc -l | grep -x 1
    replicator remove --no-drain repl
    # The local ones: the same, while the other site has everything in their place.
    sed "s,/ld0 ,/x ,; s,/ld1 ,/ld0 ,; s,/x ,/ld1 ," straight >table
    held=$(cksum ld0 ld1)
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    says 'site 0: down for '
    says ', which is that of device 1 on site 0; put the right disk back'
    replicator remove --no-drain repl
    [[ $(cksum ld0 ld1) == "$held" ]]
    # And where nobody has, nothing starts.
    sed -i 's/blockdev 1 0 blockdev 2 1 async/blockdev 1 0/; s/ 1 1 [^ ]*rd.*//' table
    refused ', which is that of device 1 on site 0; put the right disk back' replicator create table
    nothing_is_left
    # Back where they belong, everything goes on.
    replicator create straight
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
}

cables_that_are_crossed_while_it_runs_are_found_and_nothing_is_written() {
    two_devices
    dd if=/dev/urandom of=ld1 bs=1M count=32 conv=notrunc
    cp ld1 rd1
    ln -s rd0 path0
    ln -s rd1 path1
    sed -i "s,/rd0 ,/path0 ,; s,/rd1 ,/path1 ,; s/blockdev 2 1 async/blockdev 3 1 async timeout_io:1s/" table
    modprobe dm-mod
    dmsetup create "hung-$$" --table "0 65536 linear $(losetup --show -f rd0) 0"
    dmsetup create "over-$$" --table "0 65536 linear $(losetup --show -f rd1) 0"
    ln -sf "/dev/mapper/hung-$$" path0
    ln -sf "/dev/mapper/over-$$" path1
    replicator create table
    # A site that went down is opened afresh, by its paths, which lead elsewhere by then.
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    eventually says 'site 1: down for '
    ln -sf "/dev/mapper/over-$$" path0
    ln -sf "/dev/mapper/hung-$$" path1
    dmsetup resume "hung-$$"
    eventually says 'which is that of device'
    cmp ld1 rd1
    ln -sf "/dev/mapper/hung-$$" path0
    ln -sf "/dev/mapper/over-$$" path1
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
}

# Files that were copied are others. Nobody knows what else happened to them.
disks_that_are_all_others_are_refused_with_the_reason_of_each() {
    local file
    files log ld rd
    one_device "$work/log" "$work/ld" "$work/rd"
    replicator create table
    printf 'before' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    replicator remove repl
    for file in ld rd; do
        cp "$file" copy
        mv copy "$file"
    done
    refused 'no complete copy of the devices can be read' replicator create table
    grep 'site 0: .*expected the backing device' refused.err
    grep 'site 1: .*expected the backing device' refused.err
    nothing_is_left
}

everything_that_a_daemon_leaves_on_the_host_is_for_root_only() {
    two_devices
    umask 000
    replicator create table
    [[ $(stat -c '%a %u' "$REPLICATOR_RUNTIME_DIR") == '700 0' ]]
    [[ $(stat -c '%a %u' "$REPLICATOR_RUNTIME_DIR/repl") == '700 0' ]]
    find "$REPLICATOR_RUNTIME_DIR" -mindepth 2 -printf '%m %U %f\n' >found
    grep -x '600 0 control' found
    grep -x '600 0 disks.json' found
    if grep -v '^600 0 ' found; then fail 'expected nothing that others may read'; fi
    # Not even a descriptor of the socket helps: whoever calls is asked who he is.
    chmod 755 "$work"
    chmod 711 "$REPLICATOR_RUNTIME_DIR" "$REPLICATOR_RUNTIME_DIR/repl"
    chmod 666 "$REPLICATOR_RUNTIME_DIR/repl/control"
    python3 - "$REPLICATOR_RUNTIME_DIR/repl/control" <<'PYTHON'
import os, socket, sys
os.setgroups([])
os.setuid(65534)
caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
caller.connect(sys.argv[1])
try:
    caller.sendall(b'{"info":{}}\n')
    answer = caller.recv(65536)
except (BrokenPipeError, ConnectionResetError):
    answer = b''
assert b'"pid"' not in answer, answer
print(answer)
PYTHON
    chmod 700 "$REPLICATOR_RUNTIME_DIR" "$REPLICATOR_RUNTIME_DIR/repl"
    replicator remove repl
}

state_that_others_could_have_written_is_never_trusted() {
    two_devices
    replicator create table
    local pid
    pid=$(daemon_pid repl)
    kill -KILL "$pid"
    eventually test ! -d "/proc/$pid"
    # Its devices wait, and its state says which they are.
    chmod 777 "$REPLICATOR_RUNTIME_DIR"
    refused 'expected mode 0700' replicator recover repl
    chmod 700 "$REPLICATOR_RUNTIME_DIR"
    chmod 777 "$REPLICATOR_RUNTIME_DIR/repl"
    refused 'expected mode 0700' replicator recover repl
    chmod 700 "$REPLICATOR_RUNTIME_DIR/repl"
    chown 65534 "$REPLICATOR_RUNTIME_DIR/repl"
    refused 'as its owner' replicator recover repl
    chown 0 "$REPLICATOR_RUNTIME_DIR/repl"
    replicator recover repl
    replicator remove repl
    nothing_is_left
}

run_cases \
    one_disk_by_two_paths_is_refused_in_one_group \
    one_disk_by_two_paths_is_refused_in_two_groups_and_its_holder_named \
    the_same_file_is_refused_in_two_groups_also_by_a_loop_device \
    a_loop_device_over_a_used_file_or_over_another_loop_device_is_refused \
    a_file_whose_loop_device_is_mounted_is_refused \
    a_partition_and_its_disk_are_refused_together \
    what_is_mounted_swapped_to_or_below_another_device_is_refused_and_its_user_named \
    a_file_that_is_swapped_to_is_refused \
    one_disk_as_log_and_local_device_is_refused \
    cables_that_were_crossed_between_two_starts_are_found_and_nothing_is_written \
    cables_that_are_crossed_while_it_runs_are_found_and_nothing_is_written \
    disks_that_are_all_others_are_refused_with_the_reason_of_each \
    everything_that_a_daemon_leaves_on_the_host_is_for_root_only \
    state_that_others_could_have_written_is_never_trusted
