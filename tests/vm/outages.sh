#!/bin/bash
# Remote disks that fail, hang, go, are slow or are not there: the devices go on, and the sites come back by themselves.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

a_short_outage_is_made_up_for_from_the_log() {
    local log_mib=64
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is d0.1 failing
    eventually site 1 down consistent
    load_goes_on
    disk_is d0.1 healthy
    load_ends
    replicator wait --timeout 20s repl
    if happened detached; then fail 'the log was large enough'; fi
    replicas_are_equal
}

a_remote_disk_that_fails_takes_its_site_down_and_it_comes_back_by_itself() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is d0.1 read_only
    eventually happened 'down: a write for device 0 failed'
    load_goes_on
    disk_is d0.1 failing
    eventually site 1 down
    load_goes_on
    disk_is d0.1 healthy
    eventually happened 'up again'
    load_goes_on
    load_ends
    replicas_are_equal
}

a_remote_disk_that_goes_and_comes_back_under_its_path_is_taken_in_again() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_goes d0.1
    eventually is_gone d0.1
    eventually site 1 down
    load_goes_on
    disk_comes d0.1
    load_ends
    replicas_are_equal
}

a_remote_disk_that_hangs_takes_its_site_down_and_catches_up_when_it_goes_on() {
    group '1 async timeout_io:2s'
    replicator create table
    load_begins d0
    disk_hangs d0.1
    load_goes_on
    eventually site 1 down
    happened 'down: .* for device 0 hangs'
    load_goes_on
    disk_is d0.1 healthy
    load_goes_on
    load_ends
    replicas_are_equal
}

run_cases \
    a_short_outage_is_made_up_for_from_the_log \
    a_remote_disk_that_fails_takes_its_site_down_and_it_comes_back_by_itself \
    a_remote_disk_that_goes_and_comes_back_under_its_path_is_taken_in_again \
    a_remote_disk_that_hangs_takes_its_site_down_and_catches_up_when_it_goes_on
