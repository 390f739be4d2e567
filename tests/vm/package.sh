#!/bin/bash
# The Debian package: installed, used, removed and purged. In a virtual machine only: it is not for this host.
#
#   DEB=PATH    the package (default: that of ci/package)
# shellcheck source=tests/vm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

it_is_installed_used_removed_and_purged_and_leaves_nothing() {
    # The index of man pages takes a minute here, and `man` finds them without it.
    dpkg --no-triggers -i "$deb"
    dpkg -L replicator >files
    [[ $(/usr/bin/replicator --version) == "replicator $(dpkg-query -Wf '${Version}' replicator | cut -d- -f1)" ]]
    man -w 8 replicator | grep -x /usr/share/man/man8/replicator.8.gz
    man -w 5 replicator.table
    man -w 7 replicator-troubleshooting
    [[ $(readlink -f /usr/sbin/ublk.replicator) == /usr/bin/replicator ]]
    [[ -e /usr/lib/udev/rules.d/59-replicator.rules && -x /usr/lib/systemd/system-generators/replicator-generator ]]
    [[ -e /usr/lib/systemd/system/replicator-metrics.service && -e /usr/share/doc/replicator/examples/monitoring/alerts.yml ]]
    bash -ec '. /usr/share/bash-completion/completions/replicator; complete -p replicator'
    every_verb_has_a_man_page_and_completions
    links_of_documents_lead_somewhere
    # As an administrator does; systemd need not run for that.
    SYSTEMD_OFFLINE=1 systemctl enable replicator-metrics replicator@repl
    [[ -L $enabled/replicator-metrics.service && -L $enabled/replicator@repl.service ]]
    unset REPLICATOR_RUNTIME_DIR REPLICATOR_STATE_DIR
    devices
    in_use
    # What runs is not left without its program.
    if dpkg -r replicator; then fail 'it was removed while a replicator ran'; fi
    a_new_version_goes_on_with_what_runs
    /usr/bin/replicator remove repl
    dpkg --no-triggers -r replicator
    [[ ! -e /usr/bin/replicator ]]
    dpkg --no-triggers -P replicator
    cmp ld rd
    nothing_of_it_is_left
}

every_verb_has_a_man_page_and_completions() {
    local verb file
    /usr/bin/replicator --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p' >verbs
    (($(wc -l <verbs) > 20))
    zcat /usr/share/man/man8/replicator.8.gz >manual
    while read -r verb; do
        grep -q "^\.SS .*$verb" manual || fail "replicator(8) has no section about $verb"
        for file in bash-completion/completions/replicator zsh/vendor-completions/_replicator fish/vendor_completions.d/replicator.fish; do
            grep -qw "$verb" "/usr/share/$file" || fail "$file does not know $verb"
        done
    done <verbs
}

links_of_documents_lead_somewhere() {
    local page link
    # These two have other names in a package.
    for page in /usr/share/doc/replicator/{,docs/}*.md; do
        grep -oE '\]\([^)#]+' "$page" | sed 's/^](//' | grep -vE '^https?:|(^|/)(CHANGELOG\.md|LICENSE)$' | sort -u >links || true
        while read -r link; do
            [[ -e $(dirname "$page")/$link ]] || fail "$page has a link to $link"
        done <links
    done
}

a_new_version_goes_on_with_what_runs() {
    local pid
    pid=$(</run/replicator/repl/lock)
    dpkg --no-triggers -i "$deb"
    /usr/bin/replicator upgrade repl
    [[ $(</run/replicator/repl/lock) == "$pid" ]]
    [[ $(readlink "/proc/$pid/exe") == /usr/bin/replicator ]]
    dd if=/dev/urandom of=/dev/replicator/data bs=1M count=2 oflag=direct
    /usr/bin/replicator wait repl
}

nothing_of_it_is_left() {
    local path
    while read -r path; do
        # Directories are others' as well, but for its own.
        [[ ! -e $path || -d $path && $path != *replicator* ]] || fail "$path is left"
    done <files
    for path in "$enabled"/replicator* /run/replicator /run/replicator-udev /var/lib/replicator /etc/replicator; do
        [[ ! -e $path ]] || fail "$path is left"
    done
    if dpkg-query -W replicator; then fail 'dpkg knows it still'; fi
}

devices() {
    truncate -s 8M log
    truncate -s 32M ld rd
    printf 'repl: 0 1 replicator ringbuffer 4 %s/log 0 auto 16384 blockdev 1 0 blockdev 2 1 async\n' "$work" >table
    printf 'data: 0 65536 replicator-dev repl 0 0 1 %s/ld nolog 0 1 1 %s/rd core 2 128 nosync\n' "$work" "$work" >>table
}

in_use() {
    /usr/bin/replicator create table
    dd if=/dev/urandom of=/dev/replicator/data bs=1M count=2 oflag=direct
    /usr/bin/replicator wait repl
    /usr/bin/replicator why
    /usr/bin/replicator top --once | grep -w 'site 0'
    /usr/bin/replicator events repl | grep -w started
    /usr/bin/replicator metrics | grep -x 'replicator_up{replicator="repl"} 1'
}

enabled=/etc/systemd/system/multi-user.target.wants
if [[ -z ${VM_GUEST:-} ]]; then
    echo '# not in a virtual machine: nothing is installed on this host'
    exit
fi
built=("$root"/target/package/*.deb)
deb=${DEB:-${built[-1]}}
[[ -f $deb ]] || { echo "package: there is no package; ci/package makes one" >&2; exit 1; }
run_cases it_is_installed_used_removed_and_purged_and_leaves_nothing
