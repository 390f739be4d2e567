# shellcheck shell=bash
# tests/blktests/words.bash: what other people's tests ask of a program for ublk, said in ours. Sourced by the programs
# that they call in its place: tests/blktests/rublk and tests/ublk-selftests/kublk. A device of theirs is one device of a
# replicator with a log and a remote site, whose disks are files.
#
#   REPLICATOR=PATH   the program under test

# make_device NAME DIRECTORY LD SECTORS [nosync]: log and remote site are made in the directory. The remote disk gets a
# copy of the local one first, unless they are known to be equal.
make_device() {
    local name=$1 directory=$2 ld=$3 sectors=$4 dirty_log='core 1 1024'
    [[ ! ${5:-} ]] || dirty_log='core 2 1024 nosync'
    mkdir -p "$directory"
    # What another test left in a file of the same name is none of this one's.
    rm -f "$directory"/{log,rd}
    truncate -s 64M "$directory/log"
    truncate -s $((sectors * 512)) "$directory/rd"
    cat >"$directory/table" <<TABLE
$name: 0 1 replicator ringbuffer 4 $directory/log 0 auto 131072 blockdev 1 0 blockdev 2 1 async
d-$name: 0 $sectors replicator-dev $name 0 0 1 $ld nolog 0 1 1 $directory/rd $dirty_log
TABLE
    replicator create "$directory/table"
}

# Also if somebody has it open, and if its daemon is gone.
remove_device() { replicator remove --force --no-drain "$1"; }

# all_devices PREFIX: the names of those that begin so.
all_devices() { replicator ls --target replicator | awk -v prefix="$1" 'index($1, prefix) == 1 { print $1 }'; }

# name_of NR: what is /dev/ublkbNR.
name_of() { replicator ls | awk -v device="/dev/ublkb$1" '$4 == device { sub(/^d-/, "", $1); print $1 }' | grep .; }

# number_of NAME
number_of() { replicator ls | awk -v name="d-$1" '$1 == name { sub("/dev/ublkb", "", $4); print $4 }' | grep .; }

# describe NAME [WAITING]: with the daemon's process as the 7th word of its line, and as the 11th the driver's state, as
# those tests read it; WAITING is that of a device whose daemon is gone.
describe() {
    local state number
    number=$(number_of "$1") || fail "there is no device $1"
    state=$(replicator ls | awk -v name="d-$1" '$1 == name { print $3 }')
    case $state in
    running) state=LIVE ;;
    waiting) state=${2:-QUIESCED} ;;
    esac
    echo "dev id $number: nr_hw_queues 1 queue_depth 128 block size 512 dev_capacity $(sectors_of "/sys/block/ublkb$number/size")"
    echo "        max rq size 524288 daemon pid $(cat "/run/replicator/$1/lock") flags 0x0 state $state"
}

# sectors_of FILE…: of disk images together, or what the file of a block device in sysfs says.
sectors_of() {
    local file sum=0
    for file; do
        case $file in
        /sys/*) sum=$((sum + $(<"$file"))) ;;
        *) sum=$((sum + $(stat -c %s "$file") / 512)) ;;
        esac
    done
    echo $sum
}

replicator() { "${REPLICATOR:-replicator}" "$@"; }

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}
