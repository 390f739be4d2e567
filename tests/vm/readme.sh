#!/bin/bash
# What the README shows for the first ten minutes is typed as it stands there.
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

the_first_ten_minutes_are_as_the_readme_says() {
    section >section.md
    # What stands between fences and has a log in it is the table; what is indented is typed.
    awk '/^```/ { fenced = !fenced; next } fenced' section.md >data.table
    sed -n 's/^    //p' section.md | grep -vE '^(\./ci/|cargo )' | sed "s,/run/replicator/,$REPLICATOR_RUNTIME_DIR/," >typed
    grep -q ringbuffer data.table
    (($(wc -l <typed) > 15))
    trap away EXIT
    # shellcheck disable=SC1091 # it is the README's
    . ./typed >said 2>&1
    cat said
    grep -qx 'site 1: in sync' said || grep -qx 'repl: site 1: in sync' said
    # An outage, what the site lacks meanwhile, and what it has in the end.
    grep -q 'site 1: down for .*the log keeps what it lacks' said
    [[ $(tail -n 1 said) == hello ]]
    cmp /srv/data-ld /srv/data-rd
}

section() { sed -n '/^## Ten minutes/,/^## At a glance/p' "$root/README.md"; }

away() {
    local status=$?
    ! mountpoint -q /mnt || umount /mnt
    end_case || status=1
    rm -f /srv/log /srv/data-ld /srv/data-rd
    exit $status
}

run_cases the_first_ten_minutes_are_as_the_readme_says
