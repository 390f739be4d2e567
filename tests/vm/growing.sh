#!/bin/bash
# Devices become longer: while the group is at work, between two starts, and not where a disk is too short. And more, or fewer.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

a_device_grows_with_its_file_system_while_others_are_in_use() {
    devices=2 group '1 async timeout_io:2s'
    replicator create table
    mkfs.ext4 -q /dev/replicator/d1
    mounted
    dd if=/dev/urandom of=mnt/before bs=1M count=8 status=none
    load_begins d0
    disks_grow d1
    if tells_of_growth; then
        replicator reload longer >said
        grep -q 'device 1: grown from 65536 to 98304 sectors' said
        is_long d1 48
        resize2fs /dev/replicator/d1
    else
        refused 'in use by' replicator reload longer
        is_long d1 32
        load_goes_on
        umount mnt
        replicator reload longer >said
        grep -q 'device 1: grown from 65536 to 98304 sectors' said
        is_long d1 48
        e2fsck -fp /dev/replicator/d1 >said
        resize2fs /dev/replicator/d1
        mounted
    fi
    load_goes_on
    # It has room for that only now.
    dd if=/dev/urandom of=mnt/after bs=1M count=30 conv=fsync status=none
    (cd mnt && sha256sum before after) >sums
    kill_daemon
    replicator recover repl
    is_long d1 48
    (cd mnt && sha256sum --check --quiet) <sums
    umount mnt
    load_ends
    replicator wait --timeout 60s repl
    cmp d1.0 d1.1
    replicator table >printed
    replicator remove repl
    replicator create printed
    mounted
    (cd mnt && sha256sum --check --quiet) <sums
    umount mnt
    replicas_are_equal
}

# Whether this kernel's driver can make a device longer that is in use.
tells_of_growth() {
    local first
    first=$(printf '6.16\n%s\n' "$(uname -r)" | sort -V | head -n 1)
    [[ $first == 6.16 ]]
}

a_device_grows_only_as_far_as_its_disks_and_never_shrinks() {
    group '1 async timeout_io:2s'
    replicator create table
    sed 's/65536/98304/' table >longer
    refused 'has 65536 sectors' replicator reload longer
    truncate -s 48M d0.0
    # The local one is long enough, the remote one is not.
    refused 'has 65536 sectors' replicator reload longer
    is_long d0 32
    disks_grow d0
    replicator reload longer
    is_long d0 48
    refused 'what lies behind its new end would be lost' replicator reload table
    replicator remove repl
    refused 'and not shorter' replicator create table
    replicator create longer
    replicas_are_equal
}

a_device_grows_while_its_site_is_away_and_the_site_gets_it_all_when_it_is_back() {
    group '1 async timeout_io:2s'
    replicator create table
    disk_is d0.1 failing
    printf 'first' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    eventually site 1 down
    truncate -s 48M d0.0
    sed 's/65536/98304/' table >longer
    replicator reload longer
    is_long d0 48
    printf 'last' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 seek=12287 status=none
    # Back, and as short as it was: it stays down, and says why.
    disk_is d0.1 healthy
    eventually why_says 'the table gives the device 98304'
    disks_grow d0
    replicas_are_equal
}

a_device_that_grew_between_two_starts_is_copied_anew() {
    group '1 async timeout_io:2s'
    replicator create table
    printf 'first' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    replicator remove repl
    disks_grow d0
    printf 'unknown' | dd of=d0.1 conv=notrunc bs=1M seek=40 status=none
    replicator create longer
    is_long d0 48
    replicas_are_equal
}

# The daemon died when the table, and the log or not, had the new size, and the device had the old one.
a_daemon_that_dies_while_a_device_grows_is_followed_and_another_reload_makes_it_longer() {
    group '1 async timeout_io:2s'
    replicator create table
    printf 'first' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    disks_grow d0
    printf 'unknown' | dd of=d0.1 conv=notrunc bs=1M seek=40 status=none
    kill_daemon
    replicator table repl >served
    sed 's/ 65536 / 98304 /' served >run/repl/table
    replicator recover repl
    is_long d0 32
    replicator reload longer
    is_long d0 48
    printf 'last' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 seek=12287 status=none
    replicas_are_equal
}

a_device_comes_and_goes_with_a_start() {
    devices=2 dirty_log='core 2 128 sync' group '1 async timeout_io:2s'
    printf 'unknown' | dd of=d1.1 conv=notrunc bs=1M seek=20 status=none
    grep -v '^d1:' table >one
    replicator create one
    printf 'first' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    replicator remove repl
    replicator create table
    printf 'second' | dd of=/dev/replicator/d1 conv=sync oflag=direct bs=4096 status=none
    replicator wait --timeout 60s repl
    cmp d1.0 d1.1
    replicator remove repl
    replicator create one
    [[ ! -e /dev/replicator/d1 ]]
    replicas_are_equal
}

# Makes the disks of a device longer, and a table that says so.
disks_grow() {
    local - device_mib=48
    set +x
    truncate -s 48M "$1.0" "$1.1"
    losetup -c "${loops[$1.1]}"
    disk_is "$1.1" healthy
    sed "/^$1:/s/65536/98304/" table >longer
}

is_long() { [[ $(blockdev --getsize64 "/dev/replicator/$1") == $(($2 << 20)) ]]; }

mounted() { mkdir -p mnt && mount /dev/replicator/d1 mnt; }

why_says() { { replicator why || true; } | grep -qF "$1"; }

run_cases \
    a_device_grows_with_its_file_system_while_others_are_in_use \
    a_device_grows_only_as_far_as_its_disks_and_never_shrinks \
    a_device_grows_while_its_site_is_away_and_the_site_gets_it_all_when_it_is_back \
    a_device_that_grew_between_two_starts_is_copied_anew \
    a_daemon_that_dies_while_a_device_grows_is_followed_and_another_reload_makes_it_longer \
    a_device_comes_and_goes_with_a_start
