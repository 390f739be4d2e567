#!/bin/bash
# Devices as ublksrv's `ublk` gives and takes them, on real ublk devices. No registry carries that program, so it is
# played by ublk-target's example ublk-front, which speaks as it does, byte by byte; a real one can be named instead.
#
#   tests/vm/ublk-add.sh FRONT-END
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

front_end=$(realpath -e "${1:?expected the front end: ublk-front, or ublksrv\'s ublk}")

# In this directory as the host has it: our program is found beside the front end's.
ublk() {
    [[ -e bin/ublk ]] || { mkdir -p bin && cp "$front_end" bin/ublk && ln -s "$REPLICATOR" bin/ublk.replicator; }
    timeout "${patience:-60}" bin/ublk "$@"
}

# ends_with STATUS COMMAND…
ends_with() {
    local expected=$1 status=0
    shift
    "$@" || status=$?
    [[ $status == "$expected" ]] || fail "expected status $expected of $*, found $status"
}

why_it_failed() { cat "$REPLICATOR_RUNTIME_DIR/ublk.error"; }

# forgotten TEXT: the last failure said that, and nothing else of it is left.
forgotten() {
    grep -F -- "$1" <<<"$(why_it_failed)" || fail "expected an error with '$1', found: $(why_it_failed)"
    rm "$REPLICATOR_RUNTIME_DIR/ublk.error"
}

no_file() { [[ ! -e /run/ublksrvd/$1.pid ]]; }

no_daemon() { [[ ! -e $REPLICATOR_RUNTIME_DIR/repl ]]; }

number_of() { basename "$(readlink -f "/dev/replicator/$1")" | tr -dc 0-9; }

kill_daemon() {
    local pid
    pid=$(daemon_pid repl)
    kill -KILL "$pid"
    eventually test ! -d "/proc/$pid"
}

ublk_add_starts_a_replicator_and_each_further_one_gives_another_device_of_it() {
    two_devices
    ublk add -t replicator --table "$work/table" --name d1 -n 7 >said
    grep -E '^dev id 7: nr_hw_queues 1 queue_depth 128 block size 512 dev_capacity 65536' said
    grep -E "target .*\"name\":\"replicator\"" said
    [[ $(readlink -f /dev/replicator/d1) == /dev/ublkb7 && ! -e /dev/replicator/d0 ]]
    [[ $(replicator ls | wc -l) == 2 ]]
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none
    ublk add -t replicator --table table --name d0 -d 32 --max_io_buf_bytes 65536 -q 2 -r 1 -i 1 -u 1 >said # a relative path
    grep 'queue_depth 32' said
    grep 'max rq size 65536' said
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct status=none
    # Nothing of the caller is left open there.
    [[ -z $(find "/proc/$(daemon_pid repl)/fd" -lname 'pipe:*') ]]
    [[ $(ublk list | grep -c '^dev id ') == 2 ]]
    ublk list -n 7 | grep -E 'queue 0: tid [0-9]+ affinity\((0 1 |0-1|0 |)'
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
    no_file 7
    nothing_is_left
}

a_pid_file_is_what_ublksrv_reads_of_each_device_however_it_was_made() {
    two_devices
    replicator create table
    local n file
    n=$(number_of d1)
    file=/run/ublksrvd/$n.pid
    [[ $(stat -c '%a %u' "$file" | tr '\n' ' ') == '600 0 ' && $(head -n 1 "$file" | tr -d '\0') == "$(daemon_pid repl)" ]]
    python3 - "$file" "$n" "$(daemon_pid repl)" <<'PYTHON'
import json, os, sys
data = open(sys.argv[1], "rb").read()
n, pid = int(sys.argv[2]), int(sys.argv[3])
head = b"%d\n" % pid
assert data[:32] == head + bytes(32 - len(head)), data[:32]
assert data.endswith(b"}\0") and data.count(0, 32) == 1, data[-4:]
told = json.loads(data[32:-1])
assert (told["dev_info"]["dev_id"], told["dev_info"]["ublksrv_pid"], told["dev_info"]["state"]) == (n, pid, 1), told
assert len(told["dev_info"]) == 14, told["dev_info"]
assert told["params"]["basic"]["dev_sectors"] == 65536 and told["params"]["devt"]["disk_major"] > 0, told["params"]
queue = told["queues"]["0"]
assert os.path.exists("/proc/%d/task/%d" % (pid, queue["tid"])) and queue["tid"] != pid, queue
cpus = "".join("%d " % cpu for cpu in sorted(os.sched_getaffinity(queue["tid"])))
assert queue["affinity"] == cpus, queue
expected = {"name": "replicator", "type": 0, "dev_size": 65536 * 512, "device": "d1", "replicator": "repl"}
assert told["target"] == expected, told["target"]
PYTHON
    ublk set_affinity -n "$n" -q 0 --cpuset '[1]'
    grep -E '^Cpus_allowed_list:\s1$' "/proc/$(daemon_pid repl)/task/$(ublk list -n "$n" | grep -oP 'tid \K[0-9]+')/status"
    replicator remove repl
    no_file "$n"
}

ublk_del_takes_one_device_and_the_others_go_on() {
    two_devices
    replicator create table
    local n
    n=$(number_of d0)
    dd if=/dev/urandom of=written bs=64k count=16 status=none
    dd if=written of=/dev/replicator/d0 bs=64k oflag=direct status=none
    ublk del -n "$n"
    no_file "$n"
    [[ ! -e /dev/ublkc$n && ! -e /dev/replicator/d0 ]]
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none
    [[ $(replicator ls | wc -l) == 2 && $(replicator table | wc -l) == 3 ]]
    # It is there again, with what was written to it; then a daemon dies, whose successor does not give what was not asked for.
    ublk add -t replicator --table table --name d0
    cmp -n $((16 * 65536)) written /dev/replicator/d0
    ublk del -n "$(number_of d0)"
    kill_daemon
    replicator recover repl
    [[ ! -e /dev/replicator/d0 && -b /dev/replicator/d1 ]]
    # What a table says of a device that nobody has holds all the same.
    sed 's/d1$/d1/; s/async/async ios 1000/; s/blockdev 2 1/blockdev 4 1/' table >other
    replicator reload other
    [[ ! -e /dev/replicator/d0 ]]
    replicator remove repl
    cmp -n $((16 * 65536)) written ld0
    cmp ld0 rd0
    cmp ld1 rd1
}

with_the_last_device_the_daemon_ends_and_the_sites_have_everything() {
    two_devices
    ublk add -t replicator --table table --name d0
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct status=none
    ublk add -t replicator --table table --name d1
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none
    ublk del -a
    eventually no_daemon
    nothing_is_left
    cmp ld0 rd0
    cmp ld1 rd1
    # Also while it is just ending the next one is served.
    ublk add -t replicator --table table --name d0
    ublk del -n "$(number_of d0)"
    ublk add -t replicator --table table --name d0
    cmp -n $((16 * 65536)) ld0 /dev/replicator/d0
}

a_device_that_is_deleted_in_use_leaves_its_writes_with_the_others() {
    two_devices
    replicator create table
    dd if=/dev/zero of=/dev/replicator/d0 bs=4k count=20000 oflag=direct status=none &
    local writer=$!
    sleep 0.5
    ublk del -n "$(number_of d0)"
    if wait $writer; then fail 'expected a writer to a device that is gone to fail'; fi
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none
    replicator wait --timeout 60s repl
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
}

ublk_recover_lets_all_devices_of_a_dead_daemon_go_on() {
    two_devices
    ublk add -t replicator --table table --name d0
    ublk add -t replicator --table table --name d1
    local n0 n1
    n0=$(number_of d0)
    n1=$(number_of d1)
    kill_daemon
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none &
    local writer=$!
    ublk list -n "$n1" | grep 'state QUIESCED'
    ublk recover -n "$n1" | grep "^dev id $n1"
    wait $writer
    ublk recover -n "$n0" | grep "^dev id $n0" # all went on already
    [[ $(head -n 1 "/run/ublksrvd/$n0.pid" | tr -d '\0') == "$(daemon_pid repl)" ]]
    replicator remove repl
    cmp ld1 rd1
    # Who deletes a device of a dead daemon does not get it from the next one.
    replicator create table
    n0=$(number_of d0)
    kill_daemon
    ublk del -n "$n0"
    replicator recover repl
    [[ ! -e /dev/replicator/d0 && -b /dev/replicator/d1 ]]
    no_file "$n0"
    ublk add -t replicator --table table --name d0
    # What a dead daemon's devices were known by goes with them.
    n0=$(number_of d0)
    kill_daemon
    ublk del -n "$n0"
    replicator remove --force repl
    no_file "$n0"
    no_file "$(number_of d1)"
    nothing_is_left
}

a_device_that_the_replicator_lacks_joins_it() {
    two_devices
    grep -v ^d1: table >one
    ublk add -t replicator --table one
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct status=none
    ublk add -t replicator --table table --name d1 -n 9
    [[ $(readlink -f /dev/replicator/d1) == /dev/ublkb9 ]]
    replicator table repl | cmp - table
    dd if=/dev/urandom of=/dev/replicator/d1 bs=64k count=16 oflag=direct status=none
    replicator remove repl
    cmp ld0 rd0
    cmp ld1 rd1
}

what_can_t_be_had_says_why_in_the_runtime_directory_and_leaves_nothing() {
    two_devices
    ends_with 237 ublk add -t replicator
    forgotten 'expected --table FILE'
    ends_with 237 ublk add -t replicator --table absent
    forgotten 'reading the table absent: No such file'
    ends_with 237 ublk add -t replicator --table table
    forgotten 'the table has 2 devices (d0, d1): expected one'
    ends_with 237 ublk add -t replicator --table table --name d7
    forgotten 'no device d7; it has d0, d1'
    ends_with 237 ublk add -t replicator --table table --name d0 -e 1
    forgotten 'never fail'
    ends_with 237 ublk add -t replicator --table table --name d0 -n 99999999
    forgotten 'expected a number from 0 to 1048575'
    ends_with 234 ublk add -t replicator --table table --eventfd 3
    ends_with 234 ublk add -t nothing
    sed 's/nosync/nosink/' table >bad
    ends_with 237 ublk add -t replicator --table bad --name d0
    forgotten 'bad:2:'
    mv rd1 away && mv ld1 ld
    ends_with 237 ublk add -t replicator --table table --name d0
    forgotten "$work/ld1"
    mv away rd1 && mv ld ld1
    ends_with 1 ublk recover -n 99 # no file says whose it is
    nothing_is_left
}

what_a_replicator_that_runs_refuses_changes_nothing() {
    two_devices
    ublk add -t replicator --table table --name d0
    local n
    n=$(number_of d0)
    ends_with 237 ublk add -t replicator --table table --name d0
    forgotten 'the device d0 can be had already: /dev/ublkb'
    ends_with 237 ublk add -t replicator --table table --name d1 -n "$n"
    forgotten 'a device of that number exists'
    sed 's/^d1: 0 65536/d1: 0 32768/' table >shorter
    ends_with 237 ublk add -t replicator --table shorter --name d1
    forgotten 'expected the device as this replicator has it'
    sed 's/^d1: /d9: /; s/repl 1/repl 7/; s,/ld1,/ld0,' table >twice
    ends_with 237 ublk add -t replicator --table twice --name d9
    forgotten 'ld0'
    # A file that somebody else wrote, in a directory where everybody may, is not believed.
    cp "/run/ublksrvd/$n.pid" /run/ublksrvd/99.pid
    ends_with 237 ublk recover -n 99
    rm /run/ublksrvd/99.pid
    forgotten 'expected the number of a device that a replicator served, found 99'
    replicator suspend repl
    ends_with 237 ublk add -t replicator --table table --name d1
    forgotten 'is suspended'
    replicator resume repl
    # Whatever was refused: the one that was there goes on, and another still comes.
    dd if=/dev/urandom of=/dev/replicator/d0 bs=64k count=16 oflag=direct status=none
    ublk add -t replicator --table table --name d1
    [[ ! -e $REPLICATOR_RUNTIME_DIR/ublk.error ]]
    kill_daemon
    ends_with 237 ublk add -t replicator --table table --name d1
    forgotten 'its daemon died and its devices wait'
    ublk recover -n "$n"
}

help_is_printed_and_a_person_may_type_the_command() {
    two_devices
    ublk help -t replicator | grep -- '--table FILE'
    bin/ublk.replicator add --table table --name d0
    bin/ublk.replicator add --table table --name d0 2>errors && fail 'expected a refusal'
    grep '^ublk.replicator: repl: the device d0 can be had already' errors
    rm "$REPLICATOR_RUNTIME_DIR/ublk.error"
}

a_device_that_is_only_stopped_is_deleted_after_a_while() {
    two_devices
    replicator create table
    local n
    n=$(number_of d0)
    # Who stops it dies before he deletes it.
    ublk stop -n "$n" || return 0 # the original has no such word
    [[ -e /dev/ublkc$n ]]
    eventually test ! -e "/dev/ublkc$n"
    no_file "$n"
}

run_cases \
    ublk_add_starts_a_replicator_and_each_further_one_gives_another_device_of_it \
    a_pid_file_is_what_ublksrv_reads_of_each_device_however_it_was_made \
    ublk_del_takes_one_device_and_the_others_go_on \
    with_the_last_device_the_daemon_ends_and_the_sites_have_everything \
    a_device_that_is_deleted_in_use_leaves_its_writes_with_the_others \
    ublk_recover_lets_all_devices_of_a_dead_daemon_go_on \
    a_device_that_the_replicator_lacks_joins_it \
    what_can_t_be_had_says_why_in_the_runtime_directory_and_leaves_nothing \
    what_a_replicator_that_runs_refuses_changes_nothing \
    a_device_that_is_only_stopped_is_deleted_after_a_while \
    help_is_printed_and_a_person_may_type_the_command
