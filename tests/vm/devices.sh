#!/bin/bash
# Devices come to a group at work, and go, while others are in use; and numbers are used again.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

a_device_comes_goes_and_another_takes_its_number_while_others_are_in_use() {
    three '1 async timeout_io:2s'
    replicator create one
    load_begins d0
    dd if=/dev/urandom of=d1.0 conv=notrunc bs=1M count=8 status=none
    replicator reload two >said
    grep -q 'device 1 (d1): added, 65536 sectors' said
    cmp -n $((8 << 20)) d1.0 /dev/replicator/d1
    mkfs.ext4 -q /dev/replicator/d1
    mounted d1
    dd if=/dev/urandom of=mnt/before bs=1M count=8 status=none conv=fsync
    load_goes_on
    kill_daemon
    replicator recover repl
    replicator table repl | grep -q '^d1: 0 65536 '
    dd if=/dev/urandom of=mnt/after bs=1M count=4 status=none conv=fsync
    (cd mnt && sha256sum before after) >sums
    # In use, it stays.
    refused 'in use by' replicator reload one
    (cd mnt && sha256sum --check --quiet) <sums
    umount mnt
    replicator wait --timeout 60s repl
    replicator reload one >said
    grep -q 'device 1 (d1): removed' said
    [[ ! -e /dev/replicator/d1 ]]
    # Both are its last image, and nobody's any more.
    cmp d1.0 d1.1
    mkdir -p mnt && mount -o loop,ro d1.0 mnt
    (cd mnt && sha256sum --check --quiet) <sums
    umount mnt
    load_goes_on
    sha256sum d1.0 d1.1 >images
    replicator reload other >said
    grep -q 'device 1 (d2): added, 65536 sectors' said
    load_goes_on
    printf 'second' | dd of=/dev/replicator/d2 conv=sync oflag=direct bs=4096 seek=9 status=none
    kill_daemon
    replicator recover repl
    [[ $(dd if=/dev/replicator/d2 iflag=direct bs=4096 skip=9 count=1 status=none | head -c 6) == second ]]
    load_ends
    sha256sum --check --quiet images
    replicas_are_equal
}

a_device_goes_with_all_it_has_and_not_while_a_site_lacks_some_of_it() {
    three '1 async timeout_io:20s'
    replicator create two
    load_begins d0
    dd if=/dev/urandom of=first bs=1M count=4 status=none
    dd if=first of=/dev/replicator/d1 oflag=direct bs=1M status=none
    # What was written a moment ago goes with it.
    replicator reload one
    cmp -n $((4 << 20)) first d1.0
    cmp d1.0 d1.1
    replicator reload two
    load_goes_on
    replicator wait --timeout 60s repl
    disk_hangs d1.1
    dd if=/dev/urandom of=first bs=1M count=1 status=none
    dd if=first of=/dev/replicator/d1 oflag=direct bs=1M seek=9 status=none
    refused 'site 1 does not have all of it' replicator reload one
    # It was not changed, and is still of use.
    dd if=first of=/dev/replicator/d1 oflag=direct bs=1M seek=11 status=none
    disk_is d1.1 healthy
    replicator wait --timeout 60s repl
    replicator reload one
    cmp d1.0 d1.1
    load_ends
    replicas_are_equal
}

a_device_goes_while_its_site_is_down_and_another_takes_its_number_there() {
    three '1 async timeout_io:2s'
    replicator create two
    printf 'first' | dd of=/dev/replicator/d1 conv=sync oflag=direct bs=4096 status=none
    replicator wait --timeout 60s repl
    disk_is d1.1 failing
    disk_is d0.1 failing
    dd if=/dev/urandom of=/dev/replicator/d1 oflag=direct bs=1M count=2 status=none
    eventually site 1 down
    replicator reload one
    replicator reload other
    dd if=/dev/urandom of=/dev/replicator/d2 oflag=direct bs=1M seek=3 count=2 status=none
    kill_daemon
    replicator recover repl
    disk_is d0.1 healthy
    disk_is d1.1 healthy
    # It was away before all that.
    [[ $(head -c 5 d1.1) == first ]]
    cp d1.0 d1.1
    replicas_are_equal
}

what_can_t_come_changes_nothing_and_says_why() {
    three '1 async timeout_io:2s'
    replicator create one
    replicator table >before
    truncate -s 16M d1.0
    refused 'has 32768 sectors, the table gives the device 65536' replicator reload two
    truncate -s 32M d1.0
    sed "s|$work/d1.0|$work/absent|" two >absent
    refused 'device 1 on site 0' replicator reload absent
    ln d0.0 same
    sed "s|$work/d1.0|$work/same|" two >same.table
    refused 'needs a disk of its own' replicator reload same.table
    # Somebody uses it.
    local loop
    loop=$(losetup --show --find d1.0)
    mkfs.ext4 -q "$loop"
    mkdir -p mnt && mount "$loop" mnt
    sed "s|$work/d1.0|$loop|" two >mounted.table
    refused 'in use by' replicator reload mounted.table
    umount mnt
    losetup -d "$loop"
    replicator table | cmp - before
    [[ $(find /dev -maxdepth 1 -name 'ublkb*' | wc -l) == 1 ]]
    # All of that is over, and nothing of it is held.
    replicator reload two
    printf 'first' | dd of=/dev/replicator/d1 conv=sync oflag=direct bs=4096 status=none
    replicas_are_equal
}

# The daemon died when the log knew of it, and the table did not name it yet; or when the table did, and there was no device.
a_daemon_that_dies_while_a_device_comes_is_followed_by_one_with_either_table() {
    three '1 async timeout_io:2s'
    replicator create one
    printf 'zero' | dd of=/dev/replicator/d0 conv=sync oflag=direct bs=4096 status=none
    replicator reload two
    printf 'first' | dd of=/dev/replicator/d1 conv=sync oflag=direct bs=4096 status=none
    replicator wait --timeout 60s repl
    replicator reload one
    kill_daemon
    replicator table repl >served
    grep -v '^d1:' served | cmp - served
    sed -n '/^d1:/p' two >>run/repl/table
    replicator recover repl
    [[ $(head -c 5 /dev/replicator/d1) == first ]]
    printf 'last!' | dd of=/dev/replicator/d1 conv=sync oflag=direct bs=4096 seek=5 status=none
    replicas_are_equal
}

# A group of three devices, and tables: one of d0, two with d1, and other with d2 under the number of d1.
three() {
    devices=3 dirty_log='core 2 128 sync' group "$1"
    grep -v '^d[12]:' table >one
    grep -v '^d2:' table >two
    grep -v '^d1:' table | sed 's/replicator-dev repl 2 /replicator-dev repl 1 /' >other
}

mounted() { mkdir -p mnt && mount "/dev/replicator/$1" mnt; }

run_cases \
    a_device_comes_goes_and_another_takes_its_number_while_others_are_in_use \
    a_device_goes_with_all_it_has_and_not_while_a_site_lacks_some_of_it \
    a_device_goes_while_its_site_is_down_and_another_takes_its_number_there \
    what_can_t_come_changes_nothing_and_says_why \
    a_daemon_that_dies_while_a_device_comes_is_followed_by_one_with_either_table
