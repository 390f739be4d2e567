#!/bin/bash
# The commands, as a user and a script use them, on real ublk devices.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

create_returns_when_the_devices_are_usable_and_remove_leaves_nothing() {
    two_devices
    replicator create table
    [[ $(blockdev --getsz /dev/replicator/d0) == 65536 ]]
    [[ $(readlink -f /dev/replicator/d1) == /dev/ublkb* ]]
    replicator remove repl
    nothing_is_left
}

what_is_written_reaches_every_replica_before_remove_returns() {
    two_devices
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=1M count=8 oflag=direct
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=64 oflag=direct
    dd if=/dev/replicator/d0 of=copy0 bs=1M iflag=direct
    replicator remove repl
    cmp copy0 ld0
    cmp ld0 rd0
    cmp ld1 rd1
}

ls_shows_replicators_and_devices_with_state_and_block_device() {
    two_devices
    [[ -z $(replicator ls) ]]
    replicator create table
    replicator ls | grep -E '^repl +replicator +running$'
    replicator ls | grep -E '^d0 +replicator-dev +running +/dev/ublkb[0-9]+$'
    [[ $(replicator ls --target replicator | wc -l) == 1 ]]
    replicator ls --json | python3 -c 'import json,sys; assert len(json.load(sys.stdin)) == 3'
}

table_prints_what_create_reads() {
    two_devices
    replicator create table
    replicator table >printed
    cmp printed table
    [[ $(replicator table d0) == "$(sed -n 's/^d0: //p' table)" ]]
    replicator remove repl
    replicator create - <printed
    replicator table repl | cmp - printed
    replicator remove repl
    local lines
    mapfile -t lines <table
    replicator create "${lines[@]/#/--table=}"
    replicator table repl | cmp - printed
    replicator remove repl
    replicator create --concise "$(sed 's/: /,,,,/' table | tr '\n' ';')"
    replicator table repl | cmp - printed
}

status_prints_the_2009_layout() {
    two_devices
    replicator create table
    replicator status repl | grep -E '^repl: 0 1 replicator '
    replicator status d0 | grep -E '^0 65536 replicator-dev '
    [[ $(replicator status | wc -l) == 3 ]]
    replicator status --json | python3 -c 'import json,sys; assert "repl" in json.load(sys.stdin)'
}

suspend_holds_requests_until_resume() {
    two_devices
    replicator create table
    replicator suspend d0
    replicator ls | grep -E '^d0 .* suspended '
    dd if=/dev/zero of=/dev/replicator/d0 bs=4k count=1 oflag=direct &
    local writer=$!
    dd if=/dev/zero of=/dev/replicator/d1 bs=4k count=1 oflag=direct # the other one goes on
    sleep 0.5
    kill -0 $writer
    replicator resume d0
    wait $writer
    replicator message repl 0 suspend
    replicator message repl 0 resume
    dd if=/dev/zero of=/dev/replicator/d0 bs=4k count=1 oflag=direct
}

a_name_is_taken_once() {
    two_devices
    replicator create table
    refused 'the name repl is taken' replicator create table
    sed 's/repl\b/other/g; s/^d1/e1/' table >same_device
    refused 'the name d0 is taken by a device of the replicator repl' replicator create same_device
    replicator status repl
}

a_device_in_use_is_refused_and_its_user_named() {
    two_devices
    replicator create table
    sed 's/repl\b/other/g; s/^d/e/; s/log 0 auto/log2 0 auto/' table >other
    truncate -s 64M log2
    refused "$work/ld0" replicator create other
    mkfs.ext4 -q /dev/replicator/d0
    mkdir mnt
    mount /dev/replicator/d0 mnt
    refused "$work/mnt" replicator remove repl
    umount mnt
    tail -f /dev/null 3</dev/replicator/d1 &
    local reader=$!
    refused "tail" replicator remove repl
    kill $reader
    wait $reader || true
    replicator remove repl
}

a_bad_table_is_one_error_with_its_place_and_nothing_is_made() {
    two_devices
    sed 's/nosync/nosink/' table >bad
    refused 'bad:2:' replicator create bad
    sed 's/^d1: 0 65536/d1: 0 99999999/' table >bad
    refused "$work/ld1" replicator create bad
    grep -v '^repl' table >bad
    refused 'bad:1:' replicator create bad
    grep '^repl' table >bad
    refused 'at least one device' replicator create bad
    head -c 4096 /dev/urandom >bad
    refused 'bad' replicator create bad
    sed "s,/rd1,/rd0," table >bad
    refused "$work/rd0" replicator create bad
    nothing_is_left
    cmp <(head -c 1M log) <(head -c 1M /dev/zero) # not even a log
}

an_absent_or_busy_device_is_named_and_nothing_is_made() {
    two_devices
    rm rd1
    refused "$work/rd1" replicator create --require-all table
    nothing_is_left
    truncate -s 32M rd1
    rm ld1
    refused "$work/ld1" replicator create table
    nothing_is_left
    truncate -s 32M ld1
    mkfs.ext4 -q ld0
    mkdir mnt
    mount -o loop ld0 mnt
    sed "s,$work/ld0,$(findmnt -no SOURCE mnt)," table >busy
    refused "$work/mnt" replicator create busy
    umount mnt
    nothing_is_left
}

one_device_under_two_paths_is_refused() {
    two_devices
    ln -s ld0 alias
    sed "s,$work/rd1,$work/alias," table >twice
    refused 'are the same' replicator create twice
    sed "s,$work/rd1,$(losetup --show -f rd0)," table >twice
    refused 'are the same' replicator create twice
    nothing_is_left
}

of_two_replicators_of_a_table_none_stays_if_one_fails() {
    two_devices
    sed 's/repl\b/other/g; s/^d/e/; s,/log ,/absent ,; s,/\([lr]d[01]\) ,/x\1 ,g' table >second
    cat table second >both
    refused 'replicator: other: ' replicator create both
    nothing_is_left
}

create_mode_makes_a_log_once() {
    two_devices
    sed -i 's/ auto / create /' table
    replicator create table
    replicator remove repl
    refused 'log' replicator create table
    nothing_is_left
    sed -i 's/4 \(.*\) create 131072/2 \1/' table
    replicator create table
}

without_root_nothing_works_and_the_error_says_so() {
    two_devices
    chmod 755 "$work"
    refused 'expected to be started by root' setpriv --reuid 65534 --clear-groups "$REPLICATOR" ls
    replicator create table
    refused 'expected to be started by root' setpriv --reuid 65534 --clear-groups "$REPLICATOR" status
}

without_the_driver_the_error_says_how_to_get_it() {
    two_devices
    modprobe -r ublk_drv
    refused 'modprobe ublk_drv' replicator create table
    nothing_is_left
}

a_runtime_directory_that_others_can_write_is_refused() {
    two_devices
    mkdir -m 777 open
    REPLICATOR_RUNTIME_DIR=$work/open refused 'expected mode 0700' replicator create table
    nothing_is_left
}

remove_waits_for_a_site_that_lacks_something_or_leaves_it_to_the_log() {
    two_devices
    modprobe dm-mod
    dmsetup create "hung-$$" --table "0 65536 linear $(losetup --show -f rd0) 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$," table
    replicator create table
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct # a remote site stalls nobody
    refused 'site 1 lacks 16 writes' replicator remove --timeout 1s repl
    replicator ls | grep -E '^d0 .* running ' # nothing was removed
    replicator remove --no-drain repl # and no daemon waits for what hangs
    nothing_is_left
    dmsetup resume "hung-$$"
    replicator create table
    replicator remove repl
    dmsetup remove "hung-$$"
    cmp ld0 rd0
}

the_log_can_be_checked_dumped_and_repaired() {
    two_devices
    if replicator log check log >report; then fail "an absent log was sound"; fi
    grep 'there is no log here' report
    refused 'there is no replication log at sector 0' replicator log dump log
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=16k count=32 oflag=direct
    refused 'in use by' replicator log check log
    replicator remove repl
    replicator log check log | grep 'verdict: sound'
    replicator log dump log
    replicator log dump --json log |
        python3 -c 'import json,sys; assert "end" in [json.loads(line) for line in sys.stdin][-1]'
    replicator log repair log | grep 'nothing to repair'
    refused 'multiple of 8' replicator log check log 3
}

# Two devices; the remote one of d0 is behind a device that can be made to hang.
two_devices_and_one_that_can_hang() {
    two_devices
    modprobe dm-mod
    dmsetup create "hung-$$" --table "0 65536 linear $(losetup --show -f rd0) 0"
    sed -i "s,$work/rd0,/dev/mapper/hung-$$,; s/blockdev 2 1 async/blockdev 3 1 async timeout_io:1s/" table
}

says() { grep -F -- "$1" <<<"$(replicator why repl)"; }

a_dirty_log_on_a_disk_and_the_mark_of_a_site_can_be_looked_at() {
    truncate -s 64M log
    truncate -s 32M ld rd
    truncate -s 1M dirty mark
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $work/log 0 auto 131072 blockdev 1 0 blockdev 2 1 mark:$work/mark
d0: 0 65536 replicator-dev repl 0 0 1 $work/ld nolog 0 1 1 $work/rd disk 3 $work/dirty 1024 sync
TABLE
    dd if=/dev/urandom of=ld bs=1M count=32 conv=notrunc
    if replicator dirty check dirty >report; then fail "an absent dirty log was sound"; fi
    grep 'there is no dirty log here' report
    refused 'there is no dirty log here' replicator dirty dump dirty
    refused 'no mark says that the site is consistent' replicator mark check mark
    replicator create table
    refused 'in use by' replicator dirty check dirty
    refused 'in use by' replicator mark check mark
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld rd
    replicator dirty check dirty >report
    grep 'dirty log of device 0 on site 1, session ' report
    grep 'dirty: 0 regions, 0 sectors' report
    replicator dirty dump --json dirty |
        python3 -c 'import json,sys; assert json.loads(next(sys.stdin))["header"]["regions"] == 64'
    replicator dirty repair dirty | grep 'nothing to repair'
    replicator mark check mark | grep '^site 1 of replicator repl, .*: consistent, '
}

why_says_in_a_sentence_for_each_site_what_is_wrong() {
    two_devices_and_one_that_can_hang
    replicator create table
    replicator wait repl
    replicator why repl | grep '^site 1: in sync'
    replicator why | grep '^repl: site 0: in sync'
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct # a remote site stalls nobody
    eventually says 'site 1: down for '
    local status=0
    replicator why repl >said 2>errors || status=$?
    [[ $status == 1 && $(wc -l <said) == 2 ]]
    if grep '^replicator: ' errors; then fail 'expected no error: what was asked for was said'; fi
    grep -E '^site 1: down for .*: a (write|flush) for device 0 hangs; .*; the log keeps what it lacks' said
    replicator why --json repl >said || true
    python3 -c 'import json,sys; assert not json.load(sys.stdin)["repl"][1]["in_sync"]' <said
    replicator status repl | grep -E ' A,0,0 A,16,2048 .* site1:down,consistent,'
    dmsetup resume "hung-$$"
    replicator wait --timeout 60s repl
    replicator why repl
}

wait_ends_when_the_sites_have_what_was_written_or_says_what_keeps_them() {
    two_devices_and_one_that_can_hang
    replicator create table
    dmsetup suspend --nolockfs --noflush "hung-$$"
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    replicator wait --site 0 repl
    refused 'repl: expected one of the sites 0, 1, found 2' replicator wait --site 2 repl
    refused 'repl: not in sync within 3 s: site 1: down for ' replicator wait --timeout 3s repl
    dmsetup resume "hung-$$"
    replicator wait --timeout 60s repl
    cmp ld0 rd0
    replicator status --json | python3 -c 'import json,sys
events = [event["what"] for event in json.load(sys.stdin)["repl"]["events"] if event["slink"] == 1]
assert events[0].startswith("down: ") and "up again" in events, events'
}

a_site_is_copied_anew_on_a_message() {
    two_devices
    replicator create table
    dd if=/dev/urandom of=/dev/replicator/d0 bs=1M count=8 oflag=direct
    replicator wait repl
    dd if=/dev/urandom of=rd0 bs=1M count=2 conv=notrunc oflag=direct # somebody wrote to it
    refused 'or one of the remote sites 1, found "7"' replicator message repl 0 resync 7
    refused 'expected one of the devices 0 (d0), 1 (d1), found "d7"' replicator message repl 0 resync 1 d7
    [[ $(replicator message repl 0 resync 1 d0) == 'site 1: device 0 (d0) is copied anew' ]]
    replicator wait --timeout 60s repl
    cmp ld0 rd0
    [[ $(replicator message d1 0 resync) == 'site 1: device 1 (d1) is copied anew' ]]
    replicator wait --timeout 60s repl
    cmp ld1 rd1
}

all_tables_of_the_directory_are_started_at_once() {
    mkdir etc
    export REPLICATOR_TABLE_DIR=$work/etc
    refused "expected files *.table, found none" replicator create --all
    local name
    for name in a b; do
        truncate -s 32M "$name-log" "$name-ld"
        cat >"etc/$name.table" <<TABLE
$name: 0 1 replicator ringbuffer 4 $work/$name-log 0 auto 65536 blockdev 1 0
$name-d: 0 65536 replicator-dev $name 0 0 1 $work/$name-ld nolog 0
TABLE
    done
    replicator create --all
    test -b /dev/replicator/a-d
    test -b /dev/replicator/b-d
    # What `table` prints is what is read, from a pipe as from a file.
    replicator table >printed
    replicator remove a b
    replicator create - <printed
    diff printed <(replicator table)
    replicator reload --all
    replicator remove a b
}

what_starts_a_daemon_refuses_a_name_that_is_taken_and_a_state_that_is_torn() {
    two_devices
    replicator create table
    refused 'the name repl is taken' replicator run table
    refused 'lives; there is nothing to recover' replicator recover repl
    local state=$REPLICATOR_RUNTIME_DIR/repl/state.json verb pid
    pid=$(daemon_pid repl)
    kill -KILL "$pid"
    eventually test ! -d "/proc/$pid"
    cp "$state" kept
    echo '{"pid":' >"$state"
    for verb in 'recover repl' 'run table' 'remove --force repl' 'ls'; do
        # shellcheck disable=SC2086 # words
        refused 'state.json: expected the state of a daemon' replicator $verb
    done
    # Who has nothing to do with it is not kept from his work, and takes neither its disks nor its names.
    sed 's/\brepl\b/other/; s/^d\([01]\):/e\1:/' table >other
    refused 'in use by the replicator repl as' replicator create other
    truncate -s 64M log2
    truncate -s 32M ld2
    cat >other <<TABLE
other: 0 1 replicator ringbuffer 4 $work/log2 0 auto 131072 blockdev 1 0
d2: 0 65536 replicator-dev other 0 0 1 $work/ld2 nolog 0
TABLE
    replicator create other
    replicator remove other
    cp kept "$state"
    replicator recover repl
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=4 oflag=direct
}

run_serves_in_the_foreground_until_sigterm() {
    two_devices
    "$REPLICATOR" run table 2>log.txt &
    local daemon=$!
    eventually test -b /dev/replicator/d1
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct
    kill -TERM $daemon
    wait $daemon
    cmp ld0 rd0
    nothing_is_left
}

run_cases \
    create_returns_when_the_devices_are_usable_and_remove_leaves_nothing \
    what_is_written_reaches_every_replica_before_remove_returns \
    ls_shows_replicators_and_devices_with_state_and_block_device \
    table_prints_what_create_reads \
    status_prints_the_2009_layout \
    suspend_holds_requests_until_resume \
    a_name_is_taken_once \
    a_device_in_use_is_refused_and_its_user_named \
    a_bad_table_is_one_error_with_its_place_and_nothing_is_made \
    an_absent_or_busy_device_is_named_and_nothing_is_made \
    one_device_under_two_paths_is_refused \
    of_two_replicators_of_a_table_none_stays_if_one_fails \
    create_mode_makes_a_log_once \
    without_root_nothing_works_and_the_error_says_so \
    without_the_driver_the_error_says_how_to_get_it \
    a_runtime_directory_that_others_can_write_is_refused \
    remove_waits_for_a_site_that_lacks_something_or_leaves_it_to_the_log \
    the_log_can_be_checked_dumped_and_repaired \
    a_dirty_log_on_a_disk_and_the_mark_of_a_site_can_be_looked_at \
    why_says_in_a_sentence_for_each_site_what_is_wrong \
    wait_ends_when_the_sites_have_what_was_written_or_says_what_keeps_them \
    a_site_is_copied_anew_on_a_message \
    all_tables_of_the_directory_are_started_at_once \
    what_starts_a_daemon_refuses_a_name_that_is_taken_and_a_state_that_is_torn \
    run_serves_in_the_foreground_until_sigterm
