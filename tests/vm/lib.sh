# shellcheck shell=bash
# What the tests on real ublk devices share. Sourced, as root, on a kernel that has ublk_drv.
#
#   the_name_of_a_function_is_the_sentence() { …; }
#   run_cases the_name_of_a_function_is_the_sentence …
#
# prints `ok N - sentence` or `not ok N - sentence` for each, and fails if one fails. A case
# runs in a shell of its own, in an empty directory, under `set -e`; what it started is ended.
#
#   REPLICATOR=PATH     the program under test (default: the newest build)
#   ONLY=REGEX          only cases whose sentence matches
#   TURN=K/N            only those of tests/vm/always, and of the others one in N, each in the turn that its sentence says

# shellcheck disable=SC2030,SC2031 # what a case sets, its end reads in the same shell

set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d /tmp/case.XXXXXX)
export REPLICATOR_RUNTIME_DIR=$work/run # what else runs on this host is not touched
export REPLICATOR_STATE_DIR=$work/state

run_cases() {
    local case number=0 failed=0 status began
    REPLICATOR=$(find_program)
    export REPLICATOR
    have_driver
    echo "1..$#"
    for case in "$@"; do
        number=$((number + 1))
        { [[ ${case//_/ } =~ ${ONLY:-} ]] && has_its_turn "${case//_/ }"; } || continue
        began=$SECONDS
        # Not in a condition: bash would then ignore `set -e` in the whole case.
        set +e
        run_case "$case" >"$work.log" 2>&1
        status=$?
        set -e
        if [[ $status == 0 ]]; then
            echo "ok $number - ${case//_/ } # $((SECONDS - began)) s"
            grep '^# ' "$work.log" || true # figures
        else
            echo "not ok $number - ${case//_/ } # $((SECONDS - began)) s"
            sed 's/^/# /' "$work.log"
            failed=$((failed + 1))
        fi
    done
    rm -rf "$work" "$work.log" "$work.program"
    [[ $failed == 0 ]] || fail "$failed of $# failed"
}

has_its_turn() {
    local turn turns sum
    [[ ${TURN:-} ]] || return 0
    ! grep -qxF "$1" "$root/tests/vm/always" || return 0
    IFS=/ read -r turn turns <<<"$TURN"
    read -r sum _ < <(cksum <<<"$1")
    ((sum % turns == turn - 1))
}

run_case() (
    set -e
    before=$(on_host)
    trap 'status=$?; end_case || status=1; exit $status' EXIT
    mkdir -p "$work"
    cd "$work"
    set -x
    "$1"
)

# Ends what the case started; fails if the case left something that only force could end.
end_case() {
    set +ex
    local name mount left
    [[ $status == 0 ]] || how_it_is
    ! declare -F free_disks >/dev/null || free_disks
    # Whoever waits for it gets errors, and does not hold it.
    [[ ! -e /dev/mapper/hung-$$ ]] || { dmsetup wipe_table --noflush --nolockfs "hung-$$" && dmsetup resume "hung-$$"; }
    for mount in "$work"/mnt*; do
        mountpoint -q "$mount" && umount "$mount"
    done
    for name in "$REPLICATOR_RUNTIME_DIR"/*; do
        [[ ! -d $name ]] || "$REPLICATOR" remove --force --no-drain "$(basename "$name")"
    done
    [[ ! -e /dev/mapper/hung-$$ ]] || patiently dmsetup remove "hung-$$"
    ! declare -F remove_disks >/dev/null || remove_disks
    losetup --list --noheadings --output NAME,BACK-FILE | while read -r name mount; do
        [[ $mount != "$work"/* ]] || losetup -d "$name"
    done
    have_driver
    left=$(leftovers)
    cd /
    rm -rf "$work"
    [[ -z $left ]] || { echo "left behind: $left"; return 1; }
}

# What the replicators of a case that failed say of themselves.
how_it_is() {
    local name
    for name in "$REPLICATOR_RUNTIME_DIR"/*; do
        [[ -d $name ]] || continue
        timeout 10 "$REPLICATOR" why "$(basename "$name")"
        timeout 10 "$REPLICATOR" status "$(basename "$name")"
        tail -n 20 "$name/log"
    done
}

# patiently COMMAND…: until it succeeds, for a minute: what is in flight has to end, and udev looks at disks that come.
patiently() {
    local - tries
    set +x
    for ((tries = 0; tries < 600; tries++)); do
        "$@" 2>/dev/null && return
        sleep 0.1
    done
    "$@"
}

# The disks of scsi_debug, with whatever parameters.
scsi_disks_go() { [[ ! -d /sys/module/scsi_debug ]] || patiently modprobe -r scsi_debug; }

# What this case has left on the host; nothing if it left nothing.
leftovers() {
    find "$REPLICATOR_RUNTIME_DIR" -mindepth 1 2>/dev/null
    diff <(echo "$before") <(on_host) | grep '^>'
}

# Whatever a replicator can leave outside its runtime directory.
on_host() {
    local pid program verb -
    set +x
    { find /dev -maxdepth 2 \( -path '/dev/replicator*' -o -name 'ublk[bc]*' \); find /run/replicator-udev; } 2>/dev/null | sort
    find /run/ublksrvd -name '*.pid' 2>/dev/null | sort
    for pid in /proc/[0-9]*; do
        { IFS= read -r -d '' program && IFS= read -r -d '' verb; } 2>/dev/null <"$pid/cmdline" || continue
        [[ "$program $verb" != 'replicator daemon' ]] || echo "$pid"
    done
}

nothing_is_left() {
    local left
    left=$(leftovers) || true
    [[ -z $left ]] || fail "expected nothing to be left, found $left"
}

have_driver() {
    [[ -e /dev/ublk-control ]] || modprobe ublk_drv || fail 'this kernel has no ublk_drv'
}

# The verbs, as a user types them.
replicator() { "$REPLICATOR" "$@"; }

# Files for a group of two devices on a local and a remote site, and its table.
two_devices() {
    truncate -s 64M log
    truncate -s 32M ld0 rd0 ld1 rd1
    cat >table <<TABLE
repl: 0 1 replicator ringbuffer 4 $work/log 0 auto 131072 blockdev 1 0 blockdev 2 1 async
d0: 0 65536 replicator-dev repl 0 0 1 $work/ld0 nolog 0 1 1 $work/rd0 core 2 1024 nosync
d1: 0 65536 replicator-dev repl 1 0 1 $work/ld1 nolog 0 1 1 $work/rd1 core 2 1024 nosync
TABLE
}

# refused TEXT COMMAND…: the command fails with status 1 and one message that contains TEXT.
refused() {
    local text=$1 status=0
    shift
    "$@" >refused.out 2>refused.err || status=$?
    [[ $status == 1 ]] || fail "expected status 1 of $*, found $status: $(<refused.err)"
    [[ ! -s refused.out ]] || fail "expected no output of $*, found $(<refused.out)"
    grep -qF -- "$text" refused.err || fail "expected an error with '$text', found: $(<refused.err)"
    grep -q '^replicator: ' refused.err || fail "expected 'replicator: …', found: $(<refused.err)"
}

# eventually COMMAND…: the command succeeds within a minute: a guest on a busy host is slow.
eventually() {
    local - began=$SECONDS
    set +x
    until "$@"; do
        ((SECONDS - began < ${patience:-60})) || fail "expected $* within ${patience:-60} s"
        sleep 0.1
    done
}

# writing DISK [PAUSE]: a block after the other, each as soon as the one before is there, or PAUSE seconds later, now and
# then with a flush, from when it has begun until `stopped`. Then `longest` has the milliseconds of what took longest.
writing() {
    rm -f stop begun
    PATH=/usr/bin:$PATH python3 -I -S -c '
import mmap, os, sys, time
disk, pause = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT), float(sys.argv[2])
blocks = os.lseek(disk, 0, os.SEEK_END) // 4096
block, longest, count = mmap.mmap(-1, 4096), 0, 0
while not os.path.exists("stop"):
    block[:8] = count.to_bytes(8, "little")
    began = time.monotonic()
    assert os.pwrite(disk, block, count * 37 % blocks * 4096) == 4096
    count += 1
    if count % 64 == 0:
        os.fdatasync(disk)
    longest = max(longest, time.monotonic() - began)
    if count == 10:
        open("begun", "w")
    time.sleep(pause)
print(int(longest * 1000))' "$1" "${2:-0}" >longest &
    writer=$!
    eventually test -e begun
}

stopped() {
    touch stop
    wait "$writer"
}

daemon_pid() { cat "$REPLICATOR_RUNTIME_DIR/$1/lock"; }

fail() {
    echo "$*" >&2
    exit 1
}

find_program() {
    local found=${REPLICATOR:-} target=${CARGO_TARGET_DIR:-$root/target}
    # shellcheck disable=SC2012 # names that cargo makes
    [[ -n $found ]] || found=$(ls -t "$target"/{debug,release}/replicator 2>/dev/null | head -n 1)
    [[ -x $found ]] || fail 'expected a built program; run cargo build -p replicator-cli'
    # From memory, and without what only a debugger reads: a guest's file system is slow.
    strip --strip-debug -o "$work.program" "$found" 2>/dev/null || cp "$found" "$work.program"
    echo "$work.program"
}
