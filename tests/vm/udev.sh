#!/bin/bash
# What the real systemd-udevd makes of dist/udev/59-replicator.rules. Run as `ci/vm tests/vm/udev.sh`.

# shellcheck source=tests/vm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rules=/run/udev/rules.d

# One device, with the rules at work.
a_device() {
    with_rules
    one_device "$@"
    replicator create table
}

with_rules() {
    mkdir -p "$rules"
    cp "$root"/dist/udev/59-replicator.rules "$rules"
    udevadm control --reload
}

one_device() {
    truncate -s 32M log
    [[ -e ld ]] || truncate -s 32M ld
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $work/log 0 auto 65536 blockdev 1 0
${1:-d0}: 0 65536 replicator-dev repl 0 0 1 ${2:-$work/ld} nolog 0
TABLE
}

# Also on the way out of a case that failed.
remove_disks() {
    rm -f "$rules"/5*
    udev_works || /lib/systemd/systemd-udevd --daemon
    udevadm control --reload
}

udev_works() { udevadm control --ping 2>/dev/null; }
udev_has_ended() { ! pgrep -x systemd-udevd >/dev/null; }

# ends_at PATH DEVICE: it is a link to that device, by now.
ends_at() {
    [[ $(readlink -f "$1") == "$2" && -b $1 ]] || fail "expected $1 to lead to $2, found $(readlink -f "$1")"
}

property() { udevadm info --query=property --property="$2" --value "$1"; }

has_property() { [[ $(property "$1" "$2") == "$3" ]]; }

create_returns_when_the_links_of_udev_are_there_and_remove_when_they_are_gone() {
    truncate -s 32M ld
    mkfs.ext4 -q -L data -U 3b1a1c5e-0f4a-4c1d-9a55-6f3e4a7d9b10 ld
    local link links=(replicator/d0 disk/by-id/replicator-name-d0 disk/by-label/data
        disk/by-uuid/3b1a1c5e-0f4a-4c1d-9a55-6f3e4a7d9b10)
    a_device
    # Without a moment between.
    for link in "${links[@]}"; do
        [[ -L /dev/$link ]] || fail "expected /dev/$link to be there when create returns"
    done
    for link in "${links[@]}"; do
        ends_at "/dev/$link" "$(readlink -f /dev/replicator/d0)"
    done
    [[ $(property /dev/replicator/d0 ID_FS_TYPE) == ext4 ]]
    replicator remove repl
    for link in "${links[@]}" replicator ../run/replicator-udev; do
        [[ ! -e /dev/$link && ! -L /dev/$link ]] || fail "expected /dev/$link to be gone when remove returns"
    done
    nothing_is_left
}

without_rules_or_without_udev_the_daemon_makes_its_link_itself() {
    one_device
    replicator create table
    test -b /dev/replicator/d0
    [[ ! -e /dev/disk/by-id/replicator-name-d0 ]]
    replicator remove repl
    udevadm control --exit
    eventually udev_has_ended
    replicator create table
    test -b /dev/replicator/d0
    replicator remove repl
    nothing_is_left
}

what_is_made_on_a_device_is_seen_without_a_word() {
    a_device
    mkfs.ext4 -q -U 5dca9c2c-5c3b-4d3f-8b6a-3c1f1d7f1a20 /dev/replicator/d0
    eventually test -b /dev/disk/by-uuid/5dca9c2c-5c3b-4d3f-8b6a-3c1f1d7f1a20
    wipefs -qa /dev/replicator/d0
    eventually test ! -L /dev/disk/by-uuid/5dca9c2c-5c3b-4d3f-8b6a-3c1f1d7f1a20
}

partitions_have_links_too() {
    truncate -s 32M ld
    sfdisk -q ld <<<$'label: gpt\nsize=8M, name=first, uuid=0f7f4a3e-90e8-4a35-bc37-5d4b3e0e7a01\nsize=8M'
    a_device
    local device
    device=$(readlink -f /dev/replicator/d0)
    ends_at /dev/replicator/d0-part1 "${device}p1"
    ends_at /dev/replicator/d0-part2 "${device}p2"
    ends_at /dev/disk/by-id/replicator-name-d0-part2 "${device}p2"
    ends_at /dev/disk/by-partlabel/first "${device}p1"
    ends_at /dev/disk/by-partuuid/0f7f4a3e-90e8-4a35-bc37-5d4b3e0e7a01 "${device}p1"
}

the_device_has_the_uuid_and_not_its_local_disk() {
    truncate -s 32M disk
    mkfs.ext4 -q -U 8a0f3d9b-6f0d-4f0e-9f3c-2b9d1a5c7e30 disk
    local disk uuid=/dev/disk/by-uuid/8a0f3d9b-6f0d-4f0e-9f3c-2b9d1a5c7e30
    disk=$(losetup --find --show disk)
    eventually test -b "$uuid"
    ends_at "$uuid" "$disk"
    a_device d0 "$disk"
    ends_at "$uuid" "$(readlink -f /dev/replicator/d0)"
    udevadm trigger --settle "$disk"
    ends_at "$uuid" "$(readlink -f /dev/replicator/d0)"
    replicator remove repl
    ends_at "$uuid" "$disk"
    losetup -d "$disk"
}

a_suspended_device_is_not_read_and_keeps_what_it_had() {
    local uuid=/dev/disk/by-uuid/b3a8e2f4-1c59-4f4e-8d20-7c5a90d1ef40
    truncate -s 32M ld
    mkfs.ext4 -q -U "${uuid##*/}" ld
    a_device
    has_property /dev/replicator/d0 SYSTEMD_READY 1
    replicator suspend repl
    eventually has_property /dev/replicator/d0 REPLICATOR_SUSPENDED 1
    # Udev would wait for a read; and systemd would unmount what is not ready any more.
    timeout 20 udevadm trigger --settle /dev/replicator/d0
    has_property /dev/replicator/d0 SYSTEMD_READY 1
    test -b "$uuid"
    replicator resume repl
    eventually has_property /dev/replicator/d0 REPLICATOR_SUSPENDED ''
    replicator message d0 0 suspend
    eventually has_property /dev/replicator/d0 REPLICATOR_SUSPENDED 1
    # What comes while it is suspended is not ready before it answers.
    rm "/run/udev/data/b$(cat "/sys/block/$(basename "$(readlink -f /dev/replicator/d0)")/dev")"
    timeout 20 udevadm trigger --settle --action=add /dev/replicator/d0
    has_property /dev/replicator/d0 SYSTEMD_READY 0
    replicator message d0 0 resume
    eventually has_property /dev/replicator/d0 SYSTEMD_READY 1
    eventually test -b "$uuid"
}

who_follows_a_dead_daemon_says_that_nothing_is_suspended() {
    a_device
    replicator suspend repl
    eventually has_property /dev/replicator/d0 REPLICATOR_SUSPENDED 1
    kill -KILL "$(daemon_pid repl)"
    replicator recover repl
    eventually has_property /dev/replicator/d0 REPLICATOR_SUSPENDED ''
    test -b /dev/replicator/d0
    test -b /dev/disk/by-id/replicator-name-d0
}

a_device_that_is_called_otherwise_has_other_links_after_a_change() {
    a_device
    local device
    device=$(readlink -f /dev/replicator/d0)
    called "$device" e1
    ends_at /dev/replicator/e1 "$device"
    ends_at /dev/disk/by-id/replicator-name-e1 "$device"
    [[ ! -L /dev/disk/by-id/replicator-name-d0 && ! -L /dev/replicator/d0 ]]
    # A daemon takes back what it has said itself, and no more.
    called "$device" d0
    ends_at /dev/replicator/d0 "$device"
    [[ ! -L /dev/disk/by-id/replicator-name-e1 && ! -L /dev/replicator/e1 ]]
    replicator remove repl
    nothing_is_left
}

called() {
    sed -i "s/NAME=.*/NAME=$2/" "/run/replicator-udev/$(basename "$1")"
    udevadm trigger --settle --action=change "$1"
}

# called_only NAME OTHER DEVICE: links by one name, none by the other.
called_only() {
    local part
    ends_at "/dev/replicator/$1" "$3"
    ends_at "/dev/disk/by-id/replicator-name-$1" "$3"
    for part in "" -part1; do
        [[ ! -L /dev/replicator/$2$part && ! -L /dev/disk/by-id/replicator-name-$2$part ]]
    done
}

# shellcheck disable=SC2016 # a dollar in a name is a dollar
a_device_gets_another_name_while_it_is_mounted_and_its_links_move() {
    a_device
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    local device odd='e$1' link='e\x241'
    device=$(readlink -f /dev/replicator/d0)
    replicator rename d0 "$odd" >said
    [[ ! -s said ]]
    called_only "$link" d0 "$device"
    mountpoint -q mnt
    sed 's/^d0:/e$1:/' table >expected
    diff <(replicator table) expected
    replicator ls | grep -F "$odd"
    replicator suspend "$odd"
    eventually has_property "/dev/replicator/$link" REPLICATOR_SUSPENDED 1
    # Also while it is suspended; and what it was is free for another.
    replicator rename "$odd" f0
    called_only f0 "$link" "$device"
    has_property /dev/replicator/f0 REPLICATOR_SUSPENDED 1
    replicator resume f0
    echo kept >mnt/file
    kill -KILL "$(daemon_pid repl)"
    replicator ls | grep -E '^f0 .*waiting'
    replicator recover repl
    replicator rename f0 d0
    called_only d0 f0 "$device"
    [[ $(<mnt/file) == kept ]]
    umount mnt
    replicator log check --live log | grep -q d0
    replicator table repl >again
    replicator remove repl
    nothing_is_left
    replicator create again
}

the_partitions_of_a_device_follow_its_name() {
    truncate -s 32M ld
    sfdisk -q ld <<<$'label: gpt\nsize=8M, name=first\nsize=8M'
    a_device
    local device
    device=$(readlink -f /dev/replicator/d0)
    replicator rename d0 e0
    called_only e0 d0 "$device"
    ends_at /dev/replicator/e0-part1 "${device}p1"
    ends_at /dev/replicator/e0-part2 "${device}p2"
    ends_at /dev/disk/by-id/replicator-name-e0-part2 "${device}p2"
    ends_at /dev/disk/by-partlabel/first "${device}p1"
}

without_rules_the_daemon_moves_its_link_itself() {
    one_device
    replicator create table
    local device
    device=$(readlink -f /dev/replicator/d0)
    replicator rename d0 e0
    ends_at /dev/replicator/e0 "$device"
    [[ ! -L /dev/replicator/d0 ]]
    replicator remove repl
    nothing_is_left
}

a_replicator_gets_another_name_while_its_device_is_in_use() {
    a_device
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    local pid
    pid=$(daemon_pid repl)
    replicator rename repl east
    [[ $(daemon_pid east) == "$pid" && ! -e $REPLICATOR_RUNTIME_DIR/repl ]]
    refused 'expected a replicator or a device, found none' replicator status repl
    replicator status east
    diff <(replicator table) <(sed 's/^repl:/east:/; s/-dev repl /-dev east /' table)
    eventually has_property /dev/replicator/d0 REPLICATOR_GROUP east
    # By its old name somebody else could begin, but not on its disks.
    refused 'in use by the replicator east' replicator create <(sed 's/^d0:/d1:/' table)
    replicator upgrade east
    kill -KILL "$(daemon_pid east)"
    replicator recover east
    [[ $(replicator ls | grep -c running) == 2 ]]
    echo kept >mnt/file
    replicator rename d0 e0
    replicator rename east repl
    ends_at /dev/replicator/e0 "$(readlink -f /dev/replicator/e0)"
    umount mnt
    replicator remove repl
    nothing_is_left
}

a_name_that_can_t_be_had_changes_nothing() {
    a_device
    truncate -s 32M log2 ld2
    cat >other <<TABLE
other: 0 1 replicator ringbuffer 4 $work/log2 0 auto 65536 blockdev 1 0
x0: 0 65536 replicator-dev other 0 0 1 $work/ld2 nolog 0
TABLE
    replicator create other
    local name before
    before=$(find /dev/replicator /dev/disk/by-id "$REPLICATOR_RUNTIME_DIR" /run/replicator-udev | sort)
    for name in repl d0; do
        refused 'the name x0 is taken by a device of the replicator other' replicator rename $name x0
        refused 'the name other is taken by a replicator' replicator rename $name other
        refused "nothing was changed: it is called $name already" replicator rename $name $name
    done
    refused 'expected a replicator or a device, found none' replicator rename nobody e0
    for name in '' a/b .. 'a b' "$(printf 'n%.0s' {1..128})"; do
        ! replicator rename d0 "$name" 2>error || fail "expected '$name' to be refused"
        grep -q 'expected up to 127 visible' error
    done
    # 32 of them take 128 characters in a link.
    refused 'at most 127 characters' replicator rename d0 "$(printf '$%.0s' {1..32})"
    echo precious >/dev/replicator/file
    refused 'expected nothing or a link to a ublk device' replicator rename d0 file
    rm /dev/replicator/file
    mkdir -p "$REPLICATOR_STATE_DIR"
    chmod 700 "$REPLICATOR_STATE_DIR"
    echo record >"$REPLICATOR_STATE_DIR/east.log"
    refused 'another replicator of that name' replicator rename repl east
    kill -KILL "$(daemon_pid other)"
    refused 'the name other is taken' replicator rename repl other
    refused 'its daemon is gone, its devices wait' replicator rename other west
    diff <(echo "$before") <(find /dev/replicator /dev/disk/by-id "$REPLICATOR_RUNTIME_DIR" /run/replicator-udev | sort)
    diff <(replicator table repl) table
    replicator recover other
}

a_service_keeps_the_name_by_which_it_is_started_again() {
    one_device
    python3 -c '
import socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("notify")
while True:
    print(notify.recv(4096).decode())' >told &
    local manager=$! daemon
    eventually test -S notify
    NOTIFY_SOCKET=$work/notify "$REPLICATOR" run table 2>log.txt &
    daemon=$!
    eventually test -b /dev/replicator/d0
    eventually replicator status repl
    refused 'nothing was changed: it is a service' replicator rename repl east
    replicator rename d0 e0
    test -b /dev/replicator/e0
    kill -TERM $daemon
    wait $daemon
    kill $manager
    nothing_is_left
}

a_kill_at_any_moment_of_a_rename_leaves_one_name_and_goes_on() {
    a_device
    local pause group=repl device=d0 other to node pid
    node=$(readlink -f /dev/replicator/d0)
    for pause in 0.1 0.15 0.18 0.2 0.22 0.24 0.26 0.28 0.3 0.35 0.4 0.5; do
        for to in group device; do
            other=$RANDOM-$to
            pid=$(daemon_pid "$group")
            replicator rename "${!to}" "$other" >said 2>&1 &
            local rename=$!
            sleep $pause
            kill -KILL "$pid"
            wait $rename || true
            # One directory has a state, whatever it is called.
            [[ $(find "$REPLICATOR_RUNTIME_DIR" -name state.json | wc -l) == 1 ]]
            group=$(basename "$(dirname "$(find "$REPLICATOR_RUNTIME_DIR" -name state.json)")")
            eventually is_dead "$group"
            replicator recover "$group"
            [[ $(ls "$REPLICATOR_RUNTIME_DIR") == "$group" ]]
            device=$(replicator table --target replicator-dev "$group" | cut -d: -f 1)
            echo "# after $pause s: $group, $device ($other)"
            [[ $(ls /dev/replicator) == "$device" ]]
            eventually called_only "$device" "$other-none" "$node"
            [[ $(find /dev/disk/by-id -name 'replicator-name-*') == "/dev/disk/by-id/replicator-name-$device" ]]
            replicator table "$group" | grep -q "^$device: 0 65536 replicator-dev $group "
        done
    done
    replicator remove "$group"
    nothing_is_left
}

# After each step that one could be cut behind.
what_a_crash_has_cut_of_a_rename_is_done_by_who_recovers() {
    a_device
    local node run=$REPLICATOR_RUNTIME_DIR
    node=$(readlink -f /dev/replicator/d0)
    # The table has a device's name.
    kill -KILL "$(daemon_pid repl)"
    eventually is_dead repl
    sed -i 's/^d0:/e0:/' "$run/repl/table"
    replicator recover repl
    called_only e0 d0 "$node"
    replicator ls | grep -E '^e0 .*running'
    # And its state, and its link.
    kill -KILL "$(daemon_pid repl)"
    eventually is_dead repl
    sed -i 's/^e0:/f0:/' "$run/repl/table"
    sed -i 's/"name": "e0"/"name": "f0", "was": "e0"/' "$run/repl/state.json"
    mv /dev/replicator/e0 /dev/replicator/f0
    cp -r "$run/repl" before
    replicator recover repl
    called_only f0 e0 "$node"
    ! grep -q '"was"' "$run/repl/state.json" || fail 'expected the old name to be forgotten'
    # Nobody recovers it: whatever it is known by goes.
    kill -KILL "$(daemon_pid repl)"
    eventually is_dead repl
    cp before/state.json "$run/repl/state.json"
    ln -s "../${node#/dev/}" /dev/replicator/e0
    sed -i 's/"pid": [0-9]*/"pid": '"$(<"$run/repl/lock")/" "$run/repl/state.json"
    replicator remove --force repl
    nothing_is_left
    # A replicator's directory has its name; what held it meanwhile has the old one.
    replicator create table
    kill -KILL "$(daemon_pid repl)"
    eventually is_dead repl
    mv "$run/repl" "$run/east"
    mkdir -m 700 "$run/repl"
    touch "$run/repl/lock"
    [[ $(replicator table east | head -n 1) == east:* ]]
    refused 'expected a replicator or a device, found none' replicator recover repl
    replicator recover east
    [[ $(ls "$run") == east ]]
    grep -q '^east: ' "$run/east/table"
    eventually has_property /dev/replicator/d0 REPLICATOR_GROUP east
    replicator remove east
    nothing_is_left
}

# The host knows by its name what became of a log.
a_log_is_not_opened_by_a_name_that_its_replicator_had() {
    one_device
    replicator create table
    echo old | dd of=/dev/replicator/d0 oflag=direct conv=sync status=none
    truncate -s 32M log2
    replicator message repl 0 replace-log "$work/log2"
    echo new | dd of=/dev/replicator/d0 oflag=direct conv=sync status=none
    [[ -e $REPLICATOR_STATE_DIR/repl.log ]]
    replicator rename repl east
    [[ $(ls "$REPLICATOR_STATE_DIR") == east.log ]]
    replicator table >now
    replicator remove east
    refused "log is known to this host as one of the replicator east" replicator create table
    nothing_is_left
    replicator create now
    [[ $(head -c 3 /dev/replicator/d0) == new ]]
    replicator remove east
    mv "$REPLICATOR_STATE_DIR"/{east,repl}.log
    sed -i 's/^east:/repl:/; s/-dev east /-dev repl /' now
    replicator create now
}

is_dead() { replicator ls | grep -qE "^$1 .*dead"; }

by_uuid() { find /dev/disk/by-id -name 'replicator-uuid-*' | sort; }

a_device_has_a_link_that_stays_whatever_it_is_called_and_wherever_its_log_is() {
    truncate -s 32M ld
    sfdisk -q ld <<<$'label: gpt\nsize=8M, name=first'
    a_device
    local links device
    device=$(readlink -f /dev/replicator/d0)
    links=$(by_uuid)
    [[ $links =~ ^/dev/disk/by-id/replicator-uuid-[-0-9a-f]{36}-0.*-0-part1$ && $(wc -l <<<"$links") == 2 ]]
    ends_at "$(head -n 1 <<<"$links")" "$device"
    ends_at "$(tail -n 1 <<<"$links")" "${device}p1"
    truncate -s 32M log2
    replicator message repl 0 replace-log "$work/log2"
    replicator rename repl east
    replicator rename d0 e0
    [[ $(by_uuid) == "$links" ]]
    kill -KILL "$(daemon_pid east)"
    replicator recover east
    udevadm trigger --settle --action=add "$device"
    [[ $(by_uuid) == "$links" ]]
    # Also after the next start, which finds the new log only.
    replicator table >again
    replicator remove east
    [[ -z $(by_uuid) ]]
    replicator create again
    [[ $(by_uuid) == "$links" ]]
}

# shellcheck disable=SC2016 # and so are they here
names_are_mangled_alike_by_udev_and_by_the_daemon() {
    a_device 'a$b%k#1"~'
    local device
    device=$(readlink -f '/dev/replicator/a\x24b\x25k#1\x22\x7e')
    test -b "$device"
    ends_at '/dev/disk/by-id/replicator-name-a\x24b\x25k#1\x22\x7e' "$device"
    [[ $(ls /dev/replicator) == 'a\x24b\x25k#1\x22\x7e' ]]
}

a_link_among_those_of_device_mapper_is_made_on_request_only() {
    a_device
    [[ ! -L /dev/mapper/d0 ]]
    replicator remove repl
    echo 'KERNEL=="ublkb*", ENV{REPLICATOR_MAPPER}="1"' >"$rules/58-mapper.rules"
    udevadm control --reload
    replicator create table
    ends_at /dev/mapper/d0 "$(readlink -f /dev/replicator/d0)"
    replicator remove repl
    [[ ! -L /dev/mapper/d0 ]]
}

links_that_were_lost_come_back_when_udev_looks_again() {
    a_device
    local device
    device=$(readlink -f /dev/replicator/d0)
    rm /dev/replicator/d0 /dev/disk/by-id/replicator-name-d0
    udevadm trigger --settle --action=add "$device"
    ends_at /dev/replicator/d0 "$device"
    ends_at /dev/disk/by-id/replicator-name-d0 "$device"
}

a_dead_daemon_s_links_go_with_its_device() {
    a_device
    kill -KILL "$(daemon_pid repl)"
    test -b /dev/replicator/d0
    replicator remove --force repl
    [[ ! -L /dev/disk/by-id/replicator-name-d0 ]]
    nothing_is_left
}

run_cases \
    create_returns_when_the_links_of_udev_are_there_and_remove_when_they_are_gone \
    without_rules_or_without_udev_the_daemon_makes_its_link_itself \
    what_is_made_on_a_device_is_seen_without_a_word \
    partitions_have_links_too \
    the_device_has_the_uuid_and_not_its_local_disk \
    a_suspended_device_is_not_read_and_keeps_what_it_had \
    who_follows_a_dead_daemon_says_that_nothing_is_suspended \
    a_device_that_is_called_otherwise_has_other_links_after_a_change \
    a_device_gets_another_name_while_it_is_mounted_and_its_links_move \
    the_partitions_of_a_device_follow_its_name \
    without_rules_the_daemon_moves_its_link_itself \
    a_replicator_gets_another_name_while_its_device_is_in_use \
    a_name_that_can_t_be_had_changes_nothing \
    a_service_keeps_the_name_by_which_it_is_started_again \
    a_kill_at_any_moment_of_a_rename_leaves_one_name_and_goes_on \
    what_a_crash_has_cut_of_a_rename_is_done_by_who_recovers \
    a_log_is_not_opened_by_a_name_that_its_replicator_had \
    a_device_has_a_link_that_stays_whatever_it_is_called_and_wherever_its_log_is \
    names_are_mangled_alike_by_udev_and_by_the_daemon \
    a_link_among_those_of_device_mapper_is_made_on_request_only \
    links_that_were_lost_come_back_when_udev_looks_again \
    a_dead_daemon_s_links_go_with_its_device
