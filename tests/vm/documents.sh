#!/bin/bash
# What the README shows for the first ten minutes is typed as it stands there; what a site kept is brought back here as
# docs/operations.md says.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

the_first_ten_minutes_are_as_the_readme_says() {
    section >section.md
    # What stands between fences is the table; what is indented outside of them is typed.
    awk '/^```/ { fenced = !fenced; next } fenced' section.md >data.table
    awk '/^```/ { fenced = !fenced; next } !fenced && sub(/^    /, "")' section.md | grep -vE '^(\./ci/|cargo )' | sed "s,/run/replicator/,$REPLICATOR_RUNTIME_DIR/," >typed
    grep -q ringbuffer data.table
    (($(wc -l <typed) > 15))
    trap away EXIT
    # shellcheck disable=SC1091 # it is the README's
    . ./typed >said 2>&1
    grep -q 'site 1: in sync' said
    # An outage, what the site lacks meanwhile, and what it has in the end.
    grep -q 'site 1: down for .*the log keeps what it lacks' said
    grep -qx hello said
    cmp /srv/data-ld /srv/data-rd
}

section() { sed -n '/^## Ten minutes/,/^## At a glance/p' "$root/README.md"; }

away() {
    local status=$?
    [[ $status == 0 ]] || cat said
    ! mountpoint -q /mnt || umount /mnt
    end_case || status=1
    rm -f /srv/log /srv/data-ld /srv/data-rd
    exit $status
}

what_a_site_kept_when_it_was_taken_down_is_brought_back_here() {
    truncate -s 8M log log2 log3
    truncate -s 32M ld rd
    group repl log ld rd nosync >here
    replicator create here
    mkfs.ext4 -q /dev/replicator/data
    mkdir mnt
    mount /dev/replicator/data mnt
    echo good >mnt/file
    sync -f mnt
    replicator message repl 0 drain
    replicator message repl 0 down 1
    rm mnt/file
    sync -f mnt
    umount mnt
    replicator remove --no-drain repl
    # Its journal is not empty: it was in use.
    mount -o loop,ro,noload rd mnt
    [[ $(<mnt/file) == good ]]
    umount mnt
    group back log2 rd ld sync >there
    replicator create there
    replicator wait back
    replicator remove back
    cmp ld rd
    group repl log3 ld rd nosync >here
    replicator create here
    mount /dev/replicator/data mnt
    [[ $(<mnt/file) == good ]]
    umount mnt
    replicator remove repl
    cmp ld rd
}

# group NAME LOG LOCAL REMOTE INIT: a table.
group() {
    echo "$1: 0 1 replicator ringbuffer 4 $work/$2 0 auto 16384 blockdev 1 0 blockdev 2 1 async"
    echo "data: 0 65536 replicator-dev $1 0 0 1 $work/$3 nolog 0 1 1 $work/$4 core 2 128 $5"
}

run_cases \
    the_first_ten_minutes_are_as_the_readme_says \
    what_a_site_kept_when_it_was_taken_down_is_brought_back_here
