#!/bin/bash
# Messages and changed tables for a replicator whose device is in use: every one of them, and the data stays right.
# shellcheck disable=SC2016 # what is said has backticks in it
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

say() { replicator message repl 0 "$@"; }

# table_has TEXT…: so `table` prints it, and a successor of the daemon would go on.
table_has() {
    local text
    for text; do
        replicator table repl | grep -qF -- "$text" || fail "expected '$text', found $(replicator table repl)"
    done
}

# why_has TEXT: whatever the exit status is, which tells that a site is not in sync.
why_has() {
    local said
    said=$(replicator why repl) || true
    [[ $said == *"$1"* ]]
}

in_force() { local -; set +x; ! site 1 demoted && why_has 'site 1: in sync'; }

status_has() { local -; set +x; replicator status repl | grep -qF -- "$1"; }

every_message_is_taken_while_the_device_is_in_use() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    say stat on
    say replog statistics on
    status_has ' nc='
    status_has ' ring->start=512 '
    say statistics reset
    say replog statistics reset
    say slink message 1 policy sync
    table_has 'blockdev 3 1 sync timeout_io:2s'
    load_goes_on
    eventually happened 'site 1: promoted'
    say slink message 1 policy async
    say slink message 1 fallbehind ios=2000
    load_goes_on
    say slink message 1 fallbehind size 16m on_limit:bitmap on_down:hold
    say slink message 1 fallbehind timeout=30s resync_rate:100m timeout_io:5s
    load_goes_on
    table_has 'blockdev 8 1 async timeout 30s on_limit:bitmap on_down:hold timeout_io:5s resync_rate:100m'
    say slink message 1 fallbehind ios=0 on_down:bitmap resync_rate:0
    say slink message 0 timeout_io:20s
    say slink message 0 policy sync
    eventually happened 'site 0: promoted'
    load_goes_on
    say slink message 0 policy async
    say bookmark in the middle of it
    status_has ' bookmark:'
    say down 1
    site 1 down
    load_goes_on
    why_has 'the message `down` took it down' || fail "found $(replicator why repl)"
    say up 1
    eventually in_force
    say invalidate 1
    eventually happened 'site 1: resync began'
    load_goes_on
    say suspend
    say resume
    load_goes_on
    say drain
    load_ends
    say drain
    eventually in_force
    replicas_are_equal
}

a_wrong_message_says_what_was_expected_and_changes_nothing() {
    group '1 async timeout_io:2s'
    replicator create table
    replicator table repl >before
    refused 'unknown message "format": expected one of: resume [all]' say format
    refused 'expected `on`, `off` or `reset`, found "maybe"' say statistics maybe
    refused '<slink_policy>: expected `sync`, `async` or `stall`, found `fast`' say slink message 1 policy fast
    refused 'expected a site link of `repl` (0, 1), found 4' say slink message 4 policy sync
    refused 'expected a remote site link' say slink del 0
    refused 'expected a site link without devices' say slink del 1
    refused 'expected one of the remote sites 1' say down 7
    refused 'expected a text' say bookmark
    refused 'expected one leg of a device per site link' replicator message d0 0 device add 1 1 /x nolog 0
    replicator table repl | cmp - before
    replicator remove repl
    nothing_is_left
}

is_free() { [[ $(dmsetup info --columns --noheadings --options open "case-$$-$1") == *0 ]]; }

# A disk for device 0 at site 2.
second_disk() {
    truncate -s "${device_mib}M" d0.2
    disk_comes d0.2
}

a_site_is_added_and_removed_and_added_again_while_the_device_is_in_use() {
    group '1 async timeout_io:2s'
    second_disk
    replicator create table
    load_begins d0
    say slink add 2 async timeout_io:2s
    replicator message d0 0 device add 2 1 "$(disk d0.2)" core 1 128
    eventually happened 'site 2: consistent'
    load_goes_on
    replicator message d0 0 device del 2
    eventually is_free d0.2
    say slink del 2
    load_goes_on
    table_has 'blockdev 1 0 blockdev 3 1 async timeout_io:2s'
    say slink add 2 sync timeout_io:2s
    say device add d0 2 1 "$(disk d0.2)" core 1 128
    load_goes_on
    eventually happened 'site 2: promoted'
    load_ends
    replicas_are_equal
}

# The site has been given something that it has not ended.
lags() { (($(site_number "$1" lag) > 0)); }

a_site_that_hangs_is_removed_and_its_disk_is_let_go_of_when_that_has_ended() {
    group '1 sync on_down:hold timeout_io:2s'
    replicator create table
    load_begins d0
    disk_hangs d0.1
    eventually lags 1
    replicator message d0 0 device del 1
    say slink del 1
    load_goes_on
    ! is_free d0.1 || fail 'expected something to be in flight'
    refused 'site 1 is still being removed' say slink add 1
    disk_is d0.1 healthy
    eventually is_free d0.1
    load_ends
    no_errors
    replicator remove repl
    nothing_is_left
}

a_changed_table_is_reloaded_and_a_daemon_that_is_killed_goes_on_with_it() {
    group '1 async timeout_io:2s'
    second_disk
    replicator create table
    load_begins d0
    sed 's/^d0: \([0-9]*\) [0-9]*/d0: \1 8192/' table >smaller
    refused 'device 0 (d0): its size' replicator reload smaller
    sed -e '1s/blockdev 3 1 async/blockdev 4 1 async on_down:hold/' -e '1s/$/ blockdev 3 2 async timeout_io:2s/' \
        -e "2s,\$, 2 1 $(disk d0.2) core 1 128," table >changed
    replicator reload changed >said
    grep -q 'site 2: added: blockdev 3 2 async timeout_io:2s' said || fail "found $(<said)"
    grep -q 'site 1: blockdev .* is now blockdev 4 1 async on_down:hold timeout_io:2s' said || fail "found $(<said)"
    [[ -z $(replicator reload changed) ]] || fail 'the same table once more changes nothing'
    load_goes_on
    kill_daemon
    replicator recover repl
    table_has 'blockdev 3 2 async timeout_io:2s' 'on_down:hold'
    load_goes_on
    load_ends
    replicas_are_equal
}

log_has() { status_has "/$1 state:"; }

a_log_becomes_larger_and_smaller_while_the_device_is_in_use() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    refused "a log of 32768 sectors at sector 0 does not fit $work/log, which has 16384" say replog resize 32768
    refused 'expected a whole number from 4096' say replog resize 4095
    truncate -s 16M log
    say replog resize 32768 >said
    grep -q 'the log: its size of 16384 sectors is to be 32768' said || fail "found $(<said)"
    eventually log_has 32768
    table_has 'auto 32768'
    load_goes_on
    sed 's/ auto 16384 / auto 12000 /' table >smaller
    replicator reload smaller
    eventually log_has 12000
    truncate -s 6M log
    load_goes_on
    sed 's/ringbuffer 4 \(.*\) auto 12000/ringbuffer 6 \1 auto 12000 tail:16m ld_lag:log/' smaller >memory
    replicator reload memory
    table_has 'auto 12000 tail:16m ld_lag:log'
    load_goes_on
    truncate -s 16M log
    # Whoever comes after a daemon that was killed goes on with what it was asked for.
    say down 1
    load_goes_on
    say replog resize 30000
    kill_daemon
    replicator recover repl
    table_has 'auto 30000'
    eventually log_has 30000
    load_goes_on
    say replog resize 16384
    eventually log_has 16384
    load_ends
    replicator wait --timeout 60s repl
    replicator remove repl
    replicator log check log >said
    grep '16384 sectors' said
    grep 'verdict: sound' said
    # Its table is as it was, and so is the log's size.
    replicator create table
    replicas_are_equal
}

a_log_grows_with_its_block_device() {
    group '1 async timeout_io:2s'
    loops[log]=$(losetup --show --find "$work/log")
    sed -i "s,$work/log,${loops[log]}," table
    replicator create table
    load_begins d0
    truncate -s 16M log
    refused "does not fit ${loops[log]}, which has 16384" say replog resize 32768
    losetup --set-capacity "${loops[log]}"
    say replog resize 32768
    eventually log_has 32768
    load_goes_on
    load_ends
    replicas_are_equal
}

run_cases \
    every_message_is_taken_while_the_device_is_in_use \
    a_wrong_message_says_what_was_expected_and_changes_nothing \
    a_site_is_added_and_removed_and_added_again_while_the_device_is_in_use \
    a_site_that_hangs_is_removed_and_its_disk_is_let_go_of_when_that_has_ended \
    a_changed_table_is_reloaded_and_a_daemon_that_is_killed_goes_on_with_it \
    a_log_becomes_larger_and_smaller_while_the_device_is_in_use \
    a_log_grows_with_its_block_device
