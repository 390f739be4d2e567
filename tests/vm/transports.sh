#!/bin/bash
# The remote disk is on another machine: NVMe/TCP, iSCSI and NBD, with the settings of docs/transports.md. The wire is
# cut, and the other machine loses its power between a write and the flush. Both machines are this one.
#
#   VOLATILE=PATH    tests/volatile: the disk that the other machine has, and its write cache, which is in memory only
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

volatile=${VOLATILE:-${CARGO_TARGET_DIR:-$root/target}/release/volatile}
config=/sys/kernel/config
nqn=nqn.2009-10.example:site uuid=7d0c3a52-6b41-4d5e-9a0e-2f6f0f6c1a77
iqn=iqn.2009-10.example:site serial=5e1f00d5

# one_remote PATH: a table with one device, whose remote disk is there.
one_remote() {
    truncate -s 64M log
    truncate -s 32M ld
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $work/log 0 auto 131072 blockdev 1 0 blockdev 3 1 async timeout_io:5s
d0: 0 65536 replicator-dev repl 0 0 1 $work/ld nolog 0 1 1 $1 core 2 1024 nosync
TABLE
}

# ---- the other machine

# Its disk: what was not flushed is lost when this process is killed.
disk_has_power() {
    [[ -e rd ]] || truncate -s 32M rd
    rm -f socket
    mkfifo -m 600 power.$((powers += 1))
    "$volatile" serve "$work/socket" rd="$work/rd" <power.$powers >>volatile.txt 2>&1 &
    disk=$!
    exec {power}>"power.$powers"
    eventually test -S socket
}

disk_loses_power() {
    kill -KILL "$disk"
    wait "$disk" || true
    exec {power}>&-
}

# As a block device of the other machine.
disk_is_attached() { nbd-client -unix "$work/socket" -N rd -timeout 30 /dev/nbd15 && eventually blockdev_has_size /dev/nbd15; }
disk_is_detached() { nbd-client -d /dev/nbd15; }
blockdev_has_size() { [[ $(blockdev --getsz "$1") == 65536 ]]; }

the_wire() { ip link set lo "$1"; }

have_configfs() {
    mountpoint -q "$config" || mount -t configfs none "$config"
}

# ---- NVMe/TCP

nvme_is_exported() {
    local at=$config/nvmet/subsystems/$nqn
    modprobe -a nvmet-tcp nvme-tcp
    have_configfs
    mkdir "$at" "$at/namespaces/1"
    echo 1 >"$at/attr_allow_any_host"
    echo -n /dev/nbd15 >"$at/namespaces/1/device_path"
    echo "$uuid" >"$at/namespaces/1/device_uuid"
    echo 1 >"$at/namespaces/1/enable"
    at=$config/nvmet/ports/1
    mkdir "$at"
    echo tcp >"$at/addr_trtype"
    echo ipv4 >"$at/addr_adrfam"
    echo 127.0.0.1 >"$at/addr_traddr"
    echo 4420 >"$at/addr_trsvcid"
    ln -s "$config/nvmet/subsystems/$nqn" "$at/subsystems/$nqn"
}

nvme_is_unexported() {
    local at=$config/nvmet
    rm -f "$at/ports/1/subsystems/$nqn"
    [[ ! -d $at/ports/1 ]] || rmdir "$at/ports/1"
    [[ ! -d $at/subsystems/$nqn ]] || { rmdir "$at/subsystems/$nqn/namespaces/1" && rmdir "$at/subsystems/$nqn"; }
}

# What `nvme connect` writes there. Lost, the connection is given up, and with it the disk: it does not come back as if
# nothing had been.
nvme_is_connected() {
    echo "transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=$nqn,keep_alive_tmo=${kato:-5},ctrl_loss_tmo=${loss:-0},reconnect_delay=1" \
        >/dev/nvme-fabrics
}

nvme_is_there() { grep -qs "$nqn" /sys/class/nvme/*/subsysnqn; }

nvme_is_disconnected() {
    local each
    for each in /sys/class/nvme/*; do
        ! grep -qs "$nqn" "$each/subsysnqn" || echo 1 >"$each/delete_controller"
    done
}

# keep THERE CONNECT: as a timer of the host would do it.
keep() {
    set +ex
    while sleep 1; do
        "$1" || "$2" 2>>keep.txt
    done
}

nvme() {
    disk_has_power
    disk_is_attached
    nvme_is_exported
    nvme_is_connected
    rd=/dev/disk/by-id/nvme-uuid.$uuid
    eventually test -b "$rd"
    keep nvme_is_there nvme_is_connected &
    keeper=$!
    one_remote "$rd"
    replicator create table
}

# ---- iSCSI

iscsi_is_exported() {
    local at=$config/target/core/fileio_0/rd
    modprobe -a target_core_mod target_core_file iscsi_target_mod iscsi_tcp
    have_configfs
    mkdir -p "$at"
    # Without fd_buffered_io=1 every write is on its media before it is answered.
    echo "fd_dev_name=/dev/nbd15,fd_dev_size=33554432" >"$at/control"
    echo "$serial" >"$at/wwn/vpd_unit_serial"
    echo 1 >"$at/enable"
    local to=$config/target/iscsi/$iqn/tpgt_1
    mkdir -p "$config/target/iscsi" "$config/target/iscsi/$iqn"
    mkdir "$to" "$to/lun/lun_0" "$to/np/127.0.0.1:3260"
    ln -s "$at" "$to/lun/lun_0/rd"
    echo 0 >"$to/attrib/authentication"
    echo 1 >"$to/attrib/generate_node_acls"
    echo 0 >"$to/attrib/demo_mode_write_protect"
    echo 1 >"$to/enable"
}

iscsi_is_unexported() {
    local to=$config/target/iscsi/$iqn/tpgt_1
    [[ ! -d $to ]] || {
        echo 0 >"$to/enable"
        rm -f "$to/lun/lun_0/rd"
        rmdir "$to/np/127.0.0.1:3260" "$to/lun/lun_0" "$to" "$config/target/iscsi/$iqn"
    }
    [[ ! -d $config/target/core/fileio_0/rd ]] || rmdir "$config/target/core/fileio_0/rd"
}

iscsi_is_connected() {
    mkdir -p /run/lock/iscsi
    [[ -s /etc/iscsi/initiatorname.iscsi ]] && grep -q '^InitiatorName=' /etc/iscsi/initiatorname.iscsi ||
        echo "InitiatorName=iqn.2009-10.example:host" >/etc/iscsi/initiatorname.iscsi
    pgrep -x iscsid >/dev/null || iscsid
    iscsiadm -m node -o new -T $iqn -p 127.0.0.1:3260
    iscsiadm -m node -T $iqn -o update -n node.session.timeo.replacement_timeout -v 5
    iscsiadm -m node -T $iqn -o update -n 'node.conn[0].timeo.noop_out_interval' -v 2
    iscsiadm -m node -T $iqn -o update -n 'node.conn[0].timeo.noop_out_timeout' -v 2
    iscsiadm -m node -T $iqn --login
}

iscsi_is_disconnected() {
    ! pgrep -x iscsid >/dev/null || {
        iscsiadm -m node -T $iqn --logout
        iscsiadm -m node -T $iqn -o delete
        iscsiadm -k 0
    }
}

iscsi() {
    disk_has_power
    disk_is_attached
    iscsi_is_exported
    iscsi_is_connected
    # Not by what it says of itself: while it can't be asked, udev takes such names away, and does not ask again.
    rd=/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-$iqn-lun-0
    eventually test -b "$rd"
    one_remote "$rd"
    replicator create table
}

# ---- NBD

nbd_is_connected() { nbd-client -unix "$work/socket" -N rd -timeout 5 /dev/nbd0; }
# One whose connection is lost stays half there: it has to be taken away, and comes back when nobody has it open.
nbd_is_there() {
    nbd-client -c /dev/nbd0 >/dev/null || return
    dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && return
    nbd-client -d /dev/nbd0
    return 1
}

nbd() {
    disk_has_power
    nbd_is_connected
    rd=/dev/nbd0
    eventually blockdev_has_size $rd
    keep nbd_is_there nbd_is_connected &
    keeper=$!
    one_remote $rd
    replicator create table
}

# ----

nobody_was_stalled() {
    stopped
    echo "# the longest write took $(<longest) ms"
    # timeout_io, and a bit: a machine that emulates another is slow.
    (($(<longest) < 8000)) || fail "expected no write of more than 8 s, found one of $(<longest) ms"
}

# From its log lines: between two looks at its status it may have been both.
it_says() { grep -q "site 1: $1" "$REPLICATOR_RUNTIME_DIR/repl/log"; }

everything_arrives() {
    replicator wait --timeout 180s repl
    replicator remove repl
}

# What is not flushed by now is lost.
both_have_the_same() {
    disk_loses_power
    cmp ld rd
}

# Also on the way out of a case that failed.
remove_disks() {
    the_wire up
    [[ -z ${keeper:-} ]] || kill "$keeper"
    nvme_is_disconnected
    iscsi_is_disconnected
    nvme_is_unexported
    iscsi_is_unexported
    nbd-client -d /dev/nbd0
    nbd-client -d /dev/nbd15
    ! kill -KILL "${disk:-}"
} >>/tmp/remove_disks.txt 2>&1

# wire_is_cut FOR: for so many seconds, under load.
wire_is_cut() {
    writing /dev/replicator/d0 0.005
    the_wire down
    eventually it_says down:
    sleep "$1"
    the_wire up
    eventually it_says 'up again'
    nobody_was_stalled
}

nvme_with_a_cut_wire_hurts_nobody_and_comes_back_by_itself() {
    nvme
    patience=120 wire_is_cut 5
    everything_arrives
    both_have_the_same
}

nvme_gets_again_what_a_machine_lost_that_it_had_not_flushed() {
    nvme
    writing /dev/replicator/d0 0.005
    sleep 2
    the_wire down
    # Its end of the connection is forgotten, and with it what it would have said yet.
    rm "$config/nvmet/ports/1/subsystems/$nqn"
    disk_loses_power
    nvme_is_unexported
    disk_is_detached
    disk_has_power
    disk_is_attached
    nvme_is_exported
    the_wire up
    patience=120 eventually it_says down:
    patience=120 eventually it_says 'up again'
    nobody_was_stalled
    everything_arrives
    both_have_the_same
}

iscsi_with_a_cut_wire_hurts_nobody_and_comes_back_by_itself() {
    iscsi
    patience=120 wire_is_cut 5
    everything_arrives
    both_have_the_same
}

iscsi_to_a_target_that_writes_through_loses_nothing_when_it_comes_back_as_if_nothing_had_been() {
    iscsi
    writing /dev/replicator/d0 0.005
    sleep 2
    the_wire down
    iscsi_is_unexported
    disk_loses_power
    disk_is_detached
    disk_has_power
    disk_is_attached
    iscsi_is_exported
    the_wire up
    sleep 5
    nobody_was_stalled
    everything_arrives
    both_have_the_same
}

nbd_whose_server_hangs_hurts_nobody_and_comes_back_by_itself() {
    nbd
    writing /dev/replicator/d0 0.005
    kill -STOP "$disk"
    eventually it_says down:
    sleep 10
    kill -CONT "$disk"
    patience=120 eventually it_says 'up again'
    nobody_was_stalled
    everything_arrives
    both_have_the_same
}

nbd_gets_again_what_a_server_lost_that_it_had_not_flushed() {
    nbd
    writing /dev/replicator/d0 0.005
    sleep 2
    disk_loses_power
    eventually it_says down:
    disk_has_power
    patience=120 eventually it_says 'up again'
    nobody_was_stalled
    everything_arrives
    both_have_the_same
}

powers=0
modprobe -a nbd 2>/dev/null || true
run_cases \
    nvme_with_a_cut_wire_hurts_nobody_and_comes_back_by_itself \
    nvme_gets_again_what_a_machine_lost_that_it_had_not_flushed \
    iscsi_with_a_cut_wire_hurts_nobody_and_comes_back_by_itself \
    iscsi_to_a_target_that_writes_through_loses_nothing_when_it_comes_back_as_if_nothing_had_been \
    nbd_whose_server_hangs_hurts_nobody_and_comes_back_by_itself \
    nbd_gets_again_what_a_server_lost_that_it_had_not_flushed
