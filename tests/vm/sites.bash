# shellcheck shell=bash
# What the tests of remote sites share: disks that fail, hang, are slow, go and come back; load; how sites are. Sourced.
#
# The replica of device N on site S is the file dN.S; those of remote sites are behind a device-mapper device.

# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

device_mib=32
declare -A loops=() # under each remote disk
load=

# ---- groups

# group SITE…: makes the files, the disks and the table of a group of $devices devices (1) with a log of $log_mib (8).
# A SITE is what follows `blockdev` and its count. The remote dirty logs are $dirty_log, in which LEG is the replica.
group() {
    local - site device leg slinks='' nr
    set +x
    truncate -s "${log_mib:-8}M" log
    for site; do
        # shellcheck disable=SC2086 # words
        slinks+=" blockdev $(count $site) $site"
    done
    echo "repl: 0 1 replicator ringbuffer 4 $work/log 0 auto $((${log_mib:-8} * 2048)) blockdev 1 0$slinks" >table
    for ((device = 0; device < ${devices:-1}; device++)); do
        truncate -s "${device_mib}M" "d$device.0"
        leg="d$device: 0 $((device_mib * 2048)) replicator-dev repl $device 0 1 $work/d$device.0 nolog 0"
        for site; do
            nr=d$device.${site%% *}
            truncate -s "${device_mib}M" "$nr"
            disk_comes "$nr"
            leg+=" ${site%% *} 1 $(disk "$nr") $(dirty_log "$nr")"
        done
        echo "$leg" >>table
    done
}

count() { echo $#; }

dirty_log() {
    local words=${dirty_log:-core 2 128 nosync}
    [[ $words != *LEG* ]] || truncate -s 1M "$1.dirty"
    echo "${words//LEG/$work/$1}"
}

# Every site has everything, by itself and soon; D never failed; and the replicas are equal.
replicas_are_equal() {
    local file
    replicator wait --timeout 60s repl
    no_errors
    replicator remove repl
    for file in d?.[1-9]; do
        cmp "${file%.*}.0" "$file"
    done
    nothing_is_left
}

kill_daemon() {
    local pid
    pid=$(daemon_pid repl)
    kill -KILL "$pid"
    eventually test ! -d "/proc/$pid"
}

# ---- disks

disk() { echo "/dev/mapper/case-$$-$1"; }

disk_comes() {
    loops[$1]=${loops[$1]:-$(losetup --show --find "$work/$1")}
    dmsetup create "case-$$-$1" --uuid "case-$$-$1" --table "$(mapping "$1" healthy)"
}

# Whoever has it open gets errors from now on; when nobody has, it is gone.
disk_goes() { dmsetup remove --force --deferred "case-$$-$1"; }

is_gone() { [[ ! -e $(disk "$1") ]]; }

# What is there is gone, and another disk of zeroes has its name.
disk_is_swapped() {
    disk_goes "$1"
    eventually is_gone "$1"
    losetup -d "${loops[$1]}"
    rm "$1"
    truncate -s "${device_mib}M" "$1"
    loops[$1]=$(losetup --show --find "$work/$1")
    dmsetup create "case-$$-$1" --uuid "case-$$-other-$1" --table "$(mapping "$1" healthy)"
}

# Everything that is asked of it from now on waits.
disk_hangs() { dmsetup suspend --noflush --nolockfs "case-$$-$1"; }

# disk_is NAME healthy | failing | read_only | slow MILLISECONDS
disk_is() {
    local -
    set +x
    disk_hangs "$1"
    dmsetup load "case-$$-$1" --table "$(mapping "$@")"
    dmsetup resume "case-$$-$1"
}

mapping() {
    local size=$((device_mib * 2048)) loop=${loops[$1]}
    case $2 in
    healthy) echo "0 $size linear $loop 0" ;;
    slow) echo "0 $size delay $loop 0 0 $loop 0 $3" ;;
    read_only) echo "0 $size flakey $loop 0 0 1 1 error_writes" ;;
    failing) echo "0 $size error" ;;
    esac
}

# Bytes that arrived at it. (A mapped disk also counts what the kernel refuses to begin without waiting.)
bytes_written() {
    local counters
    read -ra counters <"/sys/block/${loops[$1]#/dev/}/stat"
    echo $((counters[6] * 512))
}

# For the end of a case, however it ended: nothing hangs any more.
free_disks() {
    local name
    [[ $status == 0 ]] || events
    [[ -z $load ]] || kill "$load" 2>/dev/null
    ! declare -F end_users >/dev/null || end_users
    for name in $(mapped); do
        dmsetup wipe_table --noflush --nolockfs "$name" && dmsetup resume "$name"
    done
}

remove_disks() {
    local name
    for name in $(mapped); do
        patiently dmsetup remove "$name"
    done
    [[ -z ${scsi:-} ]] || scsi_disks_go
}

mapped() { [[ ! -e /dev/mapper/control ]] || dmsetup ls | sed -n "s/^\(case-$$-[^[:space:]]*\).*/\1/p"; }

# ---- load

# load_begins DEVICE…: random writes with checksums, read back and checked all along, until load_ends.
load_begins() {
    local device jobs=()
    for device; do
        jobs+=(--name="$device" --filename="/dev/replicator/$device")
    done
    fio --ioengine=io_uring --direct=1 --iodepth=8 --bsrange=512-64k --rw=randwrite --size="${load_size:-16M}" \
        --thinktime=50ms --thinktime_blocks=8 \
        --verify=crc32c --verify_backlog=128 --verify_fatal=1 --fsync=32 --randrepeat=0 --time_based --runtime=300 \
        --trigger-file="$work/stop" --trigger=/bin/true --minimal --terse-version=3 --output=load.fio \
        "${jobs[@]}" >load.txt 2>&1 &
    load=$!
    eventually changes_pass 50
}

# Nothing failed, and nothing hung.
load_ends() {
    touch stop
    wait "$load" || fail "the load failed: $(cat load.txt load.fio)"
    load=
    (($(longest load.fio) < 15000)) || fail "a request took $(longest load.fio) ms"
}

# The longest request of a fio run, in ms.
longest() { awk -F';' '{ for (f = 39; f <= 80; f += 41) if ($f > most) most = $f } END { print int(most / 1000) }' "$1"; }

# The load goes on.
load_goes_on() {
    local before
    before=$(changes)
    eventually changes_pass $((before + 50))
}

changes() { replicator status d0 | sed -n 's/.* changes:\([0-9]*\).*/\1/p'; }

changes_pass() { local -; set +x; (($(changes) > $1)); }

no_errors() {
    local line
    replicator status --target replicator-dev >said
    while read -r line; do
        [[ $line == *' errors:0'* ]] || fail "expected no errors, found $line"
    done <said
}

# ---- sites

# site NR WORD…: the site is all of this.
site() {
    local - nr=$1 field word
    set +x
    shift
    field=$(replicator status repl | tr ' ' '\n' | sed -n "s/^site$nr://p")
    for word; do
        [[ ,$field, == *,$word,* ]] || return 1
    done
}

# site_number NR NAME: of its field NAME=NUMBER….
site_number() { replicator status repl | tr ' ' '\n' | sed -n "s/^site$1:.*,$2=\([0-9.]*\).*/\1/p"; }

# What happened to the sites, a line each.
events() {
    replicator status --json repl |
        sed -n '/^ *"slink": /{N;s/^ *"slink": \([0-9]*\),\n *"what": "\(.*\)"$/site \1: \2/p}'
}

happened() { local -; set +x; events | grep -q "$1"; }
