#!/bin/bash
# Sites that are compared with what they should hold, while the devices are in use.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

# flip FILE BYTE: one byte there is another, behind everybody's back.
flip() {
    python3 - "$1" "$2" <<'PYTHON'
import os, sys
fd, at = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2])
byte = os.pread(fd, 1, at)[0]
os.pwrite(fd, bytes([byte ^ 0x55]), at)
os.fsync(fd)
PYTHON
}

differing() { replicator status repl | tr ' ' '\n' | sed -n 's/^site1:.*,differ=\([0-9]*\).*/\1/p'; }

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

# group_in_use: one device, a remote disk that is a loop device over d0.1, and load on the first half of it.
group_in_use() {
    local load_size=8M
    group '1 async timeout_io:5s'
    head -c "${device_mib}M" /dev/urandom >d0.0
    cp d0.0 d0.1
    replicator create table
    load_begins d0
}

nothing_is_found_while_everything_is_written_to() {
    group_in_use
    local round
    for round in 1 2 3; do
        replicator message repl 0 verify
        replicator wait --verified --timeout 120s repl >said || fail "round $round: $(<said)"
        grep 'site 1: verified .*; nothing differs' said
    done
    load_ends
    happened 'site 1: verified: nothing differs'
    replicator why repl
    replicas_are_equal
}

a_byte_that_has_changed_under_a_live_site_is_found_and_mended_under_load() {
    group_in_use
    flip d0.1 $((20 * 1048576 + 4711))
    replicator message repl 0 verify 1
    refused '; 1 range differs (device 0 from sector 40969 on, 512 B)' \
        replicator wait --verified --timeout 120s repl
    [[ $(differing) == 1 ]]
    says '; apart from that '
    if replicator why repl; then fail 'a site that differs is not in sync'; fi
    site 1 streaming consistent # nothing durable has become of it
    replicator status --json repl | python3 -c 'import json, sys
verify = json.load(sys.stdin)["repl"]["sites"][1]["verify"]
assert verify["first"] == [{"dev": 0, "sector": 40969, "sectors": 1}], verify
assert verify["whole"] and not verify["running"], verify'
    [[ $(replicator message repl 0 verify 1 d0 repair) == 'site 1: device 0 (d0) is compared, and repaired' ]]
    replicator wait --verified --timeout 120s repl
    happened 'site 1: detached, since something there differed'
    happened 'site 1: consistent'
    load_goes_on
    load_ends
    replicator message repl 0 verify 1
    replicator wait --verified --timeout 120s repl | grep 'nothing differs'
    replicas_are_equal
}

a_comparison_keeps_to_the_rate_and_can_be_stopped() {
    group '1 async resync_rate:2m timeout_io:5s'
    replicator create table
    replicator message repl 0 verify
    sleep 4
    replicator status repl | tr ' ' '\n' | grep '^site1:' >said
    grep -E ',verify=(1[0-9]|2[0-9]|3[0-9])%,differ=0,eta=' said || fail "expected about 25 % of 32 MiB, found $(<said)"
    [[ $(replicator message repl 0 verify 1 stop) == 'site 1: nothing is compared any more' ]]
    says 'verified in part'
    refused 'or one of the remote sites 1, found "0"' replicator message repl 0 verify 0
    replicas_are_equal
}

run_cases \
    nothing_is_found_while_everything_is_written_to \
    a_byte_that_has_changed_under_a_live_site_is_found_and_mended_under_load \
    a_comparison_keeps_to_the_rate_and_can_be_stopped
