#!/bin/bash
# What a power cut at any place could leave of all disks: dm-log-writes records every write to the log, the LDs, the RDs,
# the dirty logs and the mark, in one order; the record is done again up to places all along, and what is there then is
# opened. (A flush of one disk is one of all here: that one is missing is found by tests/power-cut/lost-caches.)
#
#   PLACES=4      how many places, in each case; 0: after every write
#   VOLATILE=PATH WITNESS=PATH    the programs of tests
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

: "${PLACES:=4}" "${VOLATILE:=$root/target/release/volatile}" "${WITNESS:=$root/target/release/witness}"
export PLACES VOLATILE WITNESS

# The parts of the recorded disk, and how many sectors they have.
declare -A sectors=([db.0]=8192 [wal.0]=8192 [db.1]=8192 [wal.1]=8192 [db.dirty]=64 [wal.dirty]=64 [mark]=8)
parts=(log db.0 wal.0 db.1 wal.1 db.dirty wal.dirty mark)
recorded() { echo "/dev/mapper/case-$$-$1"; }

# record LOG_MIB SITE_WORD…: the disk, its parts, and the table.
record() {
    local start=0 part count
    sectors[log]=$(($1 * 2048))
    truncate -s 32M all
    truncate -s 1G writes
    touch said
    modprobe dm-log-writes
    recorded=$(losetup --show --find all)
    dmsetup create "case-$$" --table "0 65536 log-writes $recorded $(losetup --show --find writes)"
    for part in "${parts[@]}"; do
        count=${sectors[$part]}
        dmsetup create "case-$$-$part" --uuid "case-$$-$part" --table "0 $count linear /dev/mapper/case-$$ $start"
        places_of+=(--part "$work/made/$part:$start:$count")
        start=$((start + count))
    done
    table_of "${@:2}" >table
}

table_of() {
    local device number=0 words site
    site="1 $* mark:$(recorded mark)"
    read -ra words <<<"$site"
    echo "repl: 0 1 replicator ringbuffer 4 $(recorded log) 0 auto ${sectors[log]} blockdev 1 0 blockdev ${#words[@]} $site"
    for device in db wal; do
        echo "$device: 0 8192 replicator-dev repl $number 0 1 $(recorded $device.0) nolog 0" \
            "1 1 $(recorded $device.1) disk 3 $(recorded $device.dirty) 128 nosync"
        number=$((number + 1))
    done
}

# load LINES: until so many more are said, with a mark now and then that says how much had been said by then.
load() {
    local - until=$(($(wc -l <said) + $1)) began=$SECONDS writer
    "$WITNESS" write /dev/replicator/db /dev/replicator/wal --flush >>said &
    writer=$!
    set +x
    while (($(wc -l <said) < until)); do
        ((SECONDS - began < 120)) || fail "expected $until lines in 120 s, found $(wc -l <said)"
        sleep 0.1
        kill -0 $writer
        dmsetup message "case-$$" 0 mark "$(stat -c %s said)"
    done
    kill $writer
    wait $writer || true
}

# The record is complete. Others are from now on the disks of these names: those on which it is done again.
stop() {
    local part
    replicator remove repl
    remove_disks
    losetup -d "$recorded"
    mkdir made copy
    for part in "${parts[@]}"; do
        truncate -s $((sectors[$part] * 512)) "copy/$part"
        dmsetup create "case-$$-$part" --uuid "case-$$-$part" \
            --table "0 ${sectors[$part]} linear $(losetup --show --find "copy/$part") 0"
    done
}

every_place_opens() {
    export -f at
    export disks=/dev/mapper/case-$$
    "$VOLATILE" replay writes "${places_of[@]}" --places "$PLACES" --seed "${SEED:-$RANDOM}" -- \
        bash -exc 'at "$@"' at >places 2>&1 || fail "$(tail -n 30 places)"
    echo "# $(tail -n 1 places), $(wc -l <said) lines"
}

# at ENTRIES [BYTES]: the files in `made` are as a cut left the disks that came after so many of what was said.
at() {
    local part
    head -c "${2:-0}" said | sed -n 's/^flushed /acked /p' >acked
    for part in made/*; do
        dd if="$part" of="$disks-${part#made/}" bs=1M oflag=direct status=none
    done
    if [[ $("$REPLICATOR" mark dump --json "$disks-mark" 2>/dev/null) == *'"state": "consistent"'* ]]; then
        "$WITNESS" judge "$disks-db.1" "$disks-wal.1"
    fi
    "$REPLICATOR" create table
    "$WITNESS" judge /dev/replicator/db /dev/replicator/wal --acked acked
    "$REPLICATOR" wait --timeout 60s repl
    "$REPLICATOR" remove repl
    cmp "$disks-db.0" "$disks-db.1"
    cmp "$disks-wal.0" "$disks-wal.1"
}

remove_disks() {
    local part
    for part in "${parts[@]}" ''; do
        part=case-$$${part:+-$part}
        [[ ! -e /dev/mapper/$part ]] || patiently dmsetup remove "$part"
    done
}

a_site_that_keeps_up_is_in_order_after_every_write_and_nothing_flushed_is_lost() {
    local daemon
    record 8 async+stall
    replicator create table
    load 16
    daemon=$(daemon_pid repl)
    kill -KILL "$daemon"
    eventually test ! -d "/proc/$daemon"
    replicator recover repl
    load 16
    stop
    every_place_opens
}

a_site_that_is_given_up_and_copied_to_is_as_its_mark_says_after_every_write() {
    record 8 async ios 16 timeout_io:2s
    replicator create table
    load 4
    replicator message repl 0 down 1
    load 8
    is_dirty
    replicator message repl 0 up 1
    load 4
    replicator wait --timeout 60s repl
    stop
    every_place_opens
}

is_dirty() { replicator status repl | grep 'site1:.*,dirty=[1-9]'; }

run_cases \
    a_site_that_keeps_up_is_in_order_after_every_write_and_nothing_flushed_is_lost \
    a_site_that_is_given_up_and_copied_to_is_as_its_mark_says_after_every_write
