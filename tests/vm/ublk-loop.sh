#!/bin/bash
# tests/vm/ublk-loop.sh PROGRAM [CHECK…] proves the way between the kernel and a machine, on real ublk devices.
#
# PROGRAM is ublk-target's example `ublk-loop`: one engine thread and one ring for all devices. Needs root, ublk, and
# the modules brd and loop; meant to run as `ci/vm tests/vm/ublk-loop.sh PROGRAM`. Its exit status is 0 only if
#   - three devices (a block device, a loop device of 4096-byte blocks, a file) serve verified I/O at the same time;
#   - file systems can be made, mounted, trimmed, filled and checked on them;
#   - one device goes and comes back while the others are under load;
#   - a server killed with all tags in flight is followed by another, twice, and no application sees an error;
#   - a disk that hangs in the kernel holds up neither the server's death nor the recovery of the other devices;
#   - what is wrong is refused with a sentence, and leaves nothing behind;
#   - at the end no device, process or file is left.
set -euo pipefail

program=$(realpath -e "${1:?usage: ublk-loop.sh PROGRAM [CHECK…]}")
dir=$(mktemp -d /tmp/ublk-loop.XXXXXX)
shift
checks=("$@")
((${#checks[@]})) || checks=(
    serves_three_devices
    holds_file_systems
    loses_one_device_beside_live_ones
    removes_only_what_is_answered
    survives_kill
    survives_kill
    survives_kill_under_a_mount
    survives_kill_with_a_frozen_disk
)

main() {
    make_disks
    start_server
    refuses_bad_input
    add_devices
    local check
    for check in "${checks[@]}"; do
        "$check"
    done
    leaves_nothing
    printf 'all of it holds (%d s)\n' "$SECONDS"
}

make_disks() {
    step "three disks: a block device, a loop device with blocks of 4096 bytes, a file on ext4"
    modprobe ublk_drv
    modprobe brd rd_nr=2 rd_size=$((160 << 10))
    mkfs.ext4 -q /dev/ram1
    mkdir "$dir/fs"
    mount /dev/ram1 "$dir/fs"
    truncate -s 96M "$dir/blocks-of-4096"
    fallocate -l 96M "$dir/fs/file"
    loop=$(losetup --show -f --sector-size 4096 "$dir/blocks-of-4096")
    disks=(/dev/ram0 "$loop" "$dir/fs/file")
    trap finish EXIT
}

start_server() {
    rm -f "$dir/commands" "$dir/answers"
    mkfifo "$dir/commands"
    : >"$dir/answers"
    "$program" <"$dir/commands" >>"$dir/answers" 2>"$dir/log" &
    server=$!
    exec {commands}>"$dir/commands" {answers}<"$dir/answers"
}

refused() { printf '            %s\n' "$(ask "$@")"; }

# Sends one command; prints the answer, and fails unless it begins with $1.
ask() {
    local expected=$1 answer=
    shift
    printf '%s\n' "$*" >&"$commands"
    for ((i = 0; i < 900; i++)); do
        if read -r answer <&"$answers"; then
            [[ $answer == "$expected"* ]] && { printf '%s\n' "${answer#ok }"; return; }
            fail "'$*' was answered: $answer"
        fi
        kill -0 "$server" 2>/dev/null || fail "'$*': the server is gone: $(cat "$dir/log")"
        sleep 0.1
    done
    fail "'$*' was not answered"
}

refuses_bad_input() {
    step "what is wrong is refused, with a sentence"
    refused "error: $dir/none: no such file" add "$dir/none"
    refused "error: /dev/null: expected a block device or a regular file, found a character device" add /dev/null
    refused "error: /dev/ram1: in use by the file system mounted on" add /dev/ram1
    refused "error: ublk device 7: GET_DEV_INFO failed" recover 7 /dev/ram0
    [[ -z $(compgen -G '/dev/ublk[bc]*') ]] || fail "something was left behind"
}

add_devices() {
    step "three devices, one engine thread"
    local disk
    ids=()
    for disk in "${disks[@]}"; do
        ids+=("$(ask ok add "$disk")")
    done
    [[ $(cat "/sys/block/ublkb${ids[1]}/queue/logical_block_size") == 4096 ]] || fail "blocks of 4096 bytes are lost"
    [[ $(cat "/sys/block/ublkb${ids[0]}/queue/fua") == 1 ]] || fail "FUA is not advertised"
    [[ $(cat "/sys/block/ublkb${ids[0]}/queue/write_cache") == "write back" ]] || fail "the cache is not advertised"
    ask "error: ${disks[0]}: in use by this very process" add "${disks[0]}" >/dev/null
}

serves_three_devices() {
    step "verified I/O on three devices at once"
    verify "${ids[@]}"
}

# Random writes of all sizes with FUA, flush and trim among them, read back and compared, on all devices at once.
verify() {
    local jobs=() id
    for id in "$@"; do
        jobs+=(--name="ublkb$id" --filename="/dev/ublkb$id")
    done
    fio --ioengine=io_uring --direct=1 --rw=randrw --bsrange=4k-128k --iodepth=24 --size=24M --fsync=64 \
        --verify=crc32c --verify_backlog=256 --verify_fatal=1 --verify_state_save=0 --output-format=terse \
        "${jobs[@]}" >"$dir/fio.log" 2>&1 || fail "fio: $(cat "$dir/fio.log")"
}

holds_file_systems() {
    step "file systems: made, mounted, filled, trimmed, checked"
    local id
    for id in "${ids[@]}"; do
        mkfs.ext4 -q -F "/dev/ublkb$id"
        mkdir -p "$dir/mnt$id"
        mount "/dev/ublkb$id" "$dir/mnt$id"
        cp -r /etc "$dir/mnt$id/"
        sync -f "$dir/mnt$id"
        fstrim "$dir/mnt$id"
        umount "$dir/mnt$id"
        fsck.ext4 -nf "/dev/ublkb$id" >"$dir/fsck.log" 2>&1 || fail "fsck: $(cat "$dir/fsck.log")"
    done
    id=${ids[0]}
    blkdiscard --force --zeroout "/dev/ublkb$id" 2>/dev/null
    cmp -n $((64 << 20)) "/dev/ublkb$id" /dev/zero || fail "zeroing left something"
    cmp "/dev/ublkb${ids[1]}" "${disks[1]}" || fail "device and disk differ"
}

loses_one_device_beside_live_ones() {
    step "one device goes, and comes back, while the others are under load"
    (verify "${ids[0]}" "${ids[2]}") &
    local load=$!
    for _ in 1 2 3; do
        local began=${EPOCHREALTIME/./}
        ask ok remove "${ids[1]}" >/dev/null
        printf '       removed in %d ms\n' $(((${EPOCHREALTIME/./} - began) / 1000))
        [[ ! -e /dev/ublkb${ids[1]} && ! -e /dev/ublkc${ids[1]} ]] || fail "the device is still there"
        ids[1]=$(ask ok add "$loop")
    done
    wait "$load"
}

removes_only_what_is_answered() {
    step "a removal that waits for a request gives up in time, and succeeds when tried again"
    local id=${ids[1]}
    ask ok hold "$id" >/dev/null
    dd if="/dev/ublkb$id" of=/dev/null bs=4k count=1 iflag=direct status=none &
    local reader=$!
    sleep 0.5
    ask "error: ublk device $id: STOP_DEV did not end within" remove "$id" >/dev/null
    verify "${ids[0]}" "${ids[2]}"
    ask ok release "$id" >/dev/null
    wait "$reader" || true # the device was on its way out: success or an error, but an answer
    ask ok remove "$id" >/dev/null
    ids[1]=$(ask ok add "$loop")
}

survives_kill_under_a_mount() {
    step "a file system stays mounted across its server's death, and can be unmounted for good"
    local id=${ids[0]} n
    mkfs.ext4 -q -F "/dev/ublkb$id"
    mkdir -p "$dir/mnt$id"
    mount "/dev/ublkb$id" "$dir/mnt$id"
    cp -r /etc "$dir/mnt$id/"
    replace_server
    for n in 0 1 2; do
        ask ok recover "${ids[$n]}" "${disks[$n]}" >/dev/null
    done
    diff -r --no-dereference /etc "$dir/mnt$id/etc" || fail "files were lost"
    umount "$dir/mnt$id"
    # Fails if the new server's mount namespace keeps the file system alive.
    fsck.ext4 -f -y "/dev/ublkb$id" >"$dir/fsck.log" 2>&1 || fail "fsck: $(cat "$dir/fsck.log")"
    blkdiscard --zeroout --offset $((100 << 20)) --length 4096 "/dev/ublkb$id" 2>/dev/null || fail "somebody still has it"
}

survives_kill() {
    step "kill -9 with requests in flight, then a successor: no application sees an error"
    local jobs=() id
    for id in "${ids[@]}"; do
        jobs+=(--name="ublkb$id" --filename="/dev/ublkb$id")
    done
    fio --ioengine=io_uring --direct=1 --rw=randwrite --bs=4k --iodepth=128 --size=32M --time_based \
        --runtime=5 --do_verify=0 --verify=crc32c --randrepeat=1 --output-format=terse \
        "${jobs[@]}" >"$dir/fio.log" 2>&1 &
    local load=$!
    sleep 2
    kill -0 "$load" || fail "the load ended too early: $(cat "$dir/fio.log")"
    local began=${EPOCHREALTIME/./} n
    replace_server
    for n in 0 1 2; do
        ask ok recover "${ids[$n]}" "${disks[$n]}" >/dev/null
    done
    printf '       three devices live again after %d ms\n' $(((${EPOCHREALTIME/./} - began) / 1000))
    wait "$load" || fail "the application saw an error: $(cat "$dir/fio.log")"
    verify "${ids[@]}"
}

survives_kill_with_a_frozen_disk() {
    step "kill -9 while one disk hangs in the kernel: the other devices recover at once"
    ask ok remove "${ids[0]}" >/dev/null
    dmsetup create ublk-loop-frozen --table "0 $(blockdev --getsz /dev/ram0) linear /dev/ram0 0"
    disks[0]=/dev/mapper/ublk-loop-frozen
    ids[0]=$(ask ok add "${disks[0]}")
    fio --ioengine=io_uring --direct=1 --rw=randwrite --bs=4k --iodepth=16 --size=32M --output-format=terse \
        --name="ublkb${ids[0]}" --filename="/dev/ublkb${ids[0]}" >"$dir/fio.log" 2>&1 &
    local load=$!
    sleep 0.5
    dmsetup suspend --nolockfs --noflush ublk-loop-frozen
    sleep 1
    kill -0 "$load" || fail "the load ended too early"
    verify "${ids[1]}" "${ids[2]}"
    printf '       the other devices live beside it\n'
    replace_server
    local began=${EPOCHREALTIME/./} n
    for n in 1 2; do
        ask ok recover "${ids[$n]}" "${disks[$n]}" >/dev/null
    done
    printf '       two devices live again after %d ms\n' $(((${EPOCHREALTIME/./} - began) / 1000))
    verify "${ids[1]}" "${ids[2]}"
    (sleep 3 && dmsetup resume ublk-loop-frozen) &
    began=${EPOCHREALTIME/./}
    ask ok recover "${ids[0]}" "${disks[0]}" >/dev/null
    ((${EPOCHREALTIME/./} - began > 2000000)) || fail "recovery did not wait for the dead server's writes"
    wait "$load" || fail "the application saw an error: $(cat "$dir/fio.log")"
    verify "${ids[0]}"
    ask ok remove "${ids[0]}" >/dev/null
    dmsetup remove ublk-loop-frozen
    disks[0]=/dev/ram0
    ids[0]=$(ask ok add "${disks[0]}")
}

# kill -9, and a new server in its place, which knows no device yet.
replace_server() {
    kill -KILL "$server"
    wait "$server" 2>/dev/null || true
    exec {commands}>&- {answers}<&-
    start_server
}

leaves_nothing() {
    step "nothing is left: no device, no process, no file"
    local id
    for id in "${ids[@]}"; do
        ask ok remove "$id" >/dev/null
    done
    ask ok quit
    wait "$server"
    ls -d /dev/ublk[bc]* /sys/class/ublk-char/* /run/ublksrvd 2>/dev/null && fail "left behind"
    return 0
}

finish() {
    local status=$?
    exec {commands}>&- 2>/dev/null || true
    umount "$dir/fs" 2>/dev/null || true
    losetup -d "$loop" 2>/dev/null || true
    [[ $status == 0 ]] || cat "$dir/log" >&2
    exit "$status"
}

step() { printf '%3d s  %s\n' "$SECONDS" "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

main
