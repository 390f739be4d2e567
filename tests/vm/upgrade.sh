#!/bin/bash
# One program after another serves the same devices, while they are in use.
#
#   ROUNDS=4    how often, under one load
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Random writes with checksums to a file of a file system on d0, and to d1, read back and checked.
load() {
    fio --ioengine=io_uring --direct=1 --iodepth=16 --bsrange=4k-64k --rw=randwrite --size=16M --verify=crc32c \
        --do_verify=1 --fsync=32 --randrepeat=0 --group_reporting --time_based --runtime="$1" \
        --name=d0 --filename="$work/mnt/file" --name=d1 --filename=/dev/replicator/d1 >fio.txt 2>&1
}

mounted() {
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
}

replicas_are_equal() {
    ! mountpoint -q mnt || umount mnt
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    nothing_is_left
}

# ask JSON: what the daemon answers.
ask() {
    PATH=/usr/bin:$PATH python3 -I -S -c '
import socket, sys
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[1])
daemon.sendall(sys.argv[2].encode() + b"\n")
for line in daemon.makefile():
    if not line.startswith("{\"progress\""):
        print(line)
        break' "$REPLICATOR_RUNTIME_DIR/repl/control" "$1"
}

a_program_goes_on_in_the_process_of_another_under_load_without_an_error() {
    two_devices
    replicator create table
    mounted
    local device pid round rounds=${ROUNDS:-4}
    device=$(readlink -f /dev/replicator/d0)
    pid=$(daemon_pid repl)
    load $((10 + 5 * rounds)) &
    local load=$!
    for ((round = 0; round < rounds; round++)); do
        sleep $((1 + round % 2))
        replicator upgrade repl | tee said
        grep -E '^repl: version [0-9.]+ goes on where [0-9.]+ was, after [0-9]+ ms$' said
        [[ $(daemon_pid repl) == "$pid" && -d /proc/$pid ]]
        replicator ls | grep -E '^repl .* running$'
        sed 's/^/# /' said
    done
    mountpoint -q mnt
    [[ $(readlink -f /dev/replicator/d0) == "$device" ]]
    wait $load || fail "fio failed: $(<fio.txt)"
    replicas_are_equal
    [[ ! -d /proc/$pid ]]
}

how_long_an_application_waits() {
    two_devices
    replicator -v create table
    local round quiet writer
    writing /dev/replicator/d0
    sleep 3
    stopped
    quiet=$(<longest)
    for round in 1 2 3; do
        writing /dev/replicator/d0
        replicator upgrade repl >said
        stopped
        echo "# $(<said)"
        echo "# the longest write: $(<longest) ms; before: $quiet ms"
    done
    sed 's/^/# /' "$REPLICATOR_RUNTIME_DIR/repl/log" | tail -n 20
    writing /dev/replicator/d0
    kill -KILL "$(daemon_pid repl)"
    replicator recover repl
    stopped
    echo "# the longest write, with a kill and recover: $(<longest) ms"
    replicas_are_equal
}

a_program_that_can_t_go_on_is_refused_and_nothing_has_changed() {
    two_devices
    replicator create table
    local pid writer
    pid=$(daemon_pid repl)
    writing /dev/replicator/d1
    ask '{"verb":"upgrade","program":"/bin/true"}' | tee answer
    grep -q 'is it a replicator of a version that has' answer
    ask '{"verb":"upgrade","program":"/nowhere/replicator"}' | grep 'the program /nowhere/replicator: No such file'
    ask '{"verb":"upgrade","program":"/etc/passwd"}' | grep 'Permission denied'
    ask '{"verb":"upgrade"}' | grep 'missing field'
    # A table that it can't read, and a log that a later version made.
    cp "$REPLICATOR_RUNTIME_DIR/repl/table" kept
    echo 'repl: 0 1 replicator spiral' >"$REPLICATOR_RUNTIME_DIR/repl/table"
    refused 'nothing was changed: the table of its daemon' replicator upgrade repl
    cp kept "$REPLICATOR_RUNTIME_DIR/repl/table"
    replicator suspend d0
    refused 'd0 is suspended, and would not be afterwards' replicator upgrade repl
    replicator resume d0
    replicator message repl 0 down 1
    refused 'site 1 was taken down by a message' replicator upgrade repl
    replicator message repl 0 up 1
    refused 'is a device of the replicator repl' replicator upgrade d0
    refused 'expected a replicator or a device' replicator upgrade nobody
    [[ $(daemon_pid repl) == "$pid" ]]
    stopped
    replicator wait --timeout 60s repl
    replicator upgrade --all
    replicas_are_equal
}

a_kill_at_any_moment_of_an_upgrade_is_a_crash_like_every_other() {
    two_devices
    replicator create table
    mounted
    local pid pause
    load 45 &
    local load=$!
    sleep 2
    for pause in 0.05 0.4 0.8 1.2 2; do
        pid=$(daemon_pid repl)
        replicator upgrade repl >said 2>&1 &
        local upgrade=$!
        sleep $pause
        kill -KILL "$pid"
        eventually test ! -d "/proc/$pid"
        wait $upgrade || true
        cat said
        replicator recover repl
    done
    wait $load || fail "fio failed: $(<fio.txt)"
    replicas_are_equal
}

# One whose writes hang is no reason to wait for it (P5).
a_site_that_hangs_keeps_no_upgrade_waiting_for_long() {
    two_devices
    local loop writer
    loop=$(losetup --show -f rd0)
    dmsetup create "hung-$$" --table "0 65536 linear $loop 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$," table
    replicator create table
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    writing /dev/replicator/d1
    replicator upgrade repl >said
    stopped
    echo "# $(<said)"
    echo "# the longest write: $(<longest) ms"
    replicator status repl | grep -q down
    dmsetup resume "hung-$$"
    replicator wait --timeout 120s repl
    replicas_are_equal
}

a_service_keeps_its_process_and_its_manners() {
    two_devices
    python3 -u -c '
import socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("notify")
while True:
    print(notify.recv(4096).decode().replace("\n", " "))' >told &
    local manager=$! daemon
    eventually test -S notify
    NOTIFY_SOCKET=$work/notify bash -c "WATCHDOG_PID=\$\$ WATCHDOG_USEC=2000000 exec $REPLICATOR run --timeout 5s table" 2>log.txt &
    daemon=$!
    eventually grep -q READY=1 told
    replicator upgrade repl
    replicator upgrade repl
    [[ $(grep -c READY=1 told) == 3 ]]
    grep -q 'repl: recovered, 2 devices' log.txt
    local goal=$(($(grep -c WATCHDOG=1 told) + 4))
    eventually pinged $goal
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    kill -TERM $daemon
    wait $daemon
    grep -q STOPPING=1 told
    kill $manager
    nothing_is_left
    cmp ld0 rd0
}

pinged() { (($(grep -c WATCHDOG=1 told) >= $1)); }

run_cases \
    a_program_goes_on_in_the_process_of_another_under_load_without_an_error \
    how_long_an_application_waits \
    a_program_that_can_t_go_on_is_refused_and_nothing_has_changed \
    a_kill_at_any_moment_of_an_upgrade_is_a_crash_like_every_other \
    a_site_that_hangs_keeps_no_upgrade_waiting_for_long \
    a_service_keeps_its_process_and_its_manners
