#!/bin/bash
# What a daemon tells a service manager, which is a script here. Run as `ci/vm tests/vm/service.sh`. With systemd itself:
# tests/systemd/run.

# shellcheck source=tests/vm/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Writes what it is told to `told`, a line for each datagram.
a_service_manager() {
    python3 -u -c '
import socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("notify")
while True:
    print(notify.recv(4096).decode().replace("\n", " "))' >told &
    manager=$!
    eventually test -S notify
}

# the_service WATCHDOG_MS
the_service() {
    export NOTIFY_SOCKET=$work/notify
    bash -c "WATCHDOG_PID=\$\$ WATCHDOG_USEC=${1}000 exec $REPLICATOR run --timeout 5s table" 2>log.txt &
    daemon=$!
    eventually grep -q READY=1 told
}

pings() { grep -c WATCHDOG=1 told; }

# pinged TIMES: so often, from now on.
pinged() {
    local goal=$(($(pings) + $1)) - began=$SECONDS
    set +x
    until (($(pings) >= goal)); do
        ((SECONDS - began < 30)) || fail "expected $goal pings, found $(pings)"
        sleep 0.1
    done
}

it_is_ready_when_its_devices_are_there_and_is_pinged_alive_until_it_says_that_it_ends() {
    two_devices
    a_service_manager
    the_service 1000
    test -b /dev/replicator/d0
    test -b /dev/replicator/d1
    grep -q 'READY=1 STATUS=serves 2 devices' told
    pinged 5
    kill -TERM "$daemon"
    wait "$daemon"
    grep -q STOPPING=1 told
    kill "$manager"
    nothing_is_left
}

# The thread that pings waits for no disk.
a_site_that_hangs_is_no_reason_not_to_be_pinged() {
    two_devices
    local loop
    loop=$(losetup --show -f rd0)
    dmsetup create "hung-$$" --table "0 65536 linear $loop 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$," table
    a_service_manager
    the_service 2000
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=64 oflag=direct
    # Longer than its deadline, 10 s.
    pinged 28
    replicator status repl | grep -q 'down'
    kill -TERM "$daemon"
    pinged 2
    dmsetup resume "hung-$$"
    wait "$daemon"
    kill "$manager"
}

run_cases \
    it_is_ready_when_its_devices_are_there_and_is_pinged_alive_until_it_says_that_it_ends \
    a_site_that_hangs_is_no_reason_not_to_be_pinged
