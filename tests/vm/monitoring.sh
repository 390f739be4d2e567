#!/bin/bash
# What is seen of a replicator at work: events, top, status --watch, metrics.
# shellcheck source=tests/vm/sites.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/sites.bash"

watchers=()

# For the end of a case, however it ended.
end_users() {
    local pid
    for pid in "${watchers[@]}"; do kill "$pid" 2>/dev/null; done
}

# in_background FILE VERB…: it goes on printing to the file.
in_background() {
    local file=$1
    shift
    "$REPLICATOR" "$@" >"$file" 2>&1 &
    watchers+=($!)
}

told_has() { grep -q "$1" told; }

events_tell_in_order_how_a_site_goes_down_and_comes_back_under_load() {
    group '1 async timeout_io:2s'
    replicator create table
    in_background told events --json --follow repl
    eventually told_has '"event":"started"'
    load_begins d0
    disk_is d0.1 failing
    eventually told_has '"event":"went_down"'
    load_goes_on
    disk_is d0.1 healthy
    eventually told_has '"event":"came_up"'
    replicator message repl 0 verify
    eventually told_has '"event":"verified"'
    refused 'unknown message' replicator message repl 0 format
    load_ends
    replicas_are_equal
    wait "${watchers[0]}" || fail "events --follow did not end with the replicator: $(<told)"
    python3 - <<'PYTHON'
import json
told = [json.loads(line) for line in open("told")]
numbered = [event for event in told if "seq" in event]
assert [event["seq"] for event in numbered] == list(range(1, len(numbered) + 1)), "each once, and in order"
assert len({event["life"] for event in told}) == 1
times = [event["seconds"] for event in numbered]
assert times == sorted(times) and all(event["time"].endswith("Z") for event in told)
words = [event["event"] for event in told]
order = ["started", "went_down", "came_up", "asked", "verified", "asked", "refused", "asked", "ended"]
at = 0
for word in order:
    at = words.index(word, at) + 1
down = next(event for event in told if event["event"] == "went_down")
assert (down["slink"], down["reason"]) == (1, "error"), down
assert not {"gap", "unreachable"} & set(words), words
PYTHON
}

# ask COUNT: so many messages that are none; two events each.
ask() {
    python3 - "$REPLICATOR_RUNTIME_DIR/repl/control" "$1" <<'PYTHON'
import socket, sys
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[1])
for _ in range(int(sys.argv[2])):
    daemon.sendall(b'{"verb":"message","device":null,"words":["format"]}\n')
    answer = b""
    while not answer.endswith(b"\n"):
        answer += daemon.recv(4096)
    assert b"error" in answer, answer
PYTHON
}

events_that_were_overwritten_are_told_as_a_gap_and_a_successor_begins_anew() {
    two_devices
    replicator create table
    ask 600
    replicator events --json repl >told
    [[ $(wc -l <told) == 1001 ]] || fail "expected a gap and 1000 events, found $(wc -l <told)"
    head -n 1 told | grep '"event":"gap","from":1,"to":20[0-9],'
    [[ $(replicator events --since 1190 repl | wc -l) -lt 20 ]]
    rm told
    in_background told events --json --follow repl
    eventually told_has '"event":"refused"'
    kill_daemon
    eventually told_has '"event":"unreachable"'
    replicator recover repl
    eventually told_has '"event":"recovered"'
    [[ $(sed -n 's/.*"life":"\([^"]*\)".*/\1/p' told | sort -u | wc -l) == 2 ]]
    replicator remove repl
    nothing_is_left
}

# The load reads back what it wrote now and then. The picture is in the output: `ci/picture` makes docs/top.svg of it.
writes_are_seen() {
    local -
    set +x
    replicator top --once --every 2s repl >picture
    ! grep -q '^writes 0 B' picture
}

top_and_metrics_show_what_there_is() {
    local words
    log_mib=16 group '1 async timeout_io:2s' '2 async size 12m on_limit:bitmap timeout_io:2s'
    replicator create table
    load_begins d0
    disk_is d0.2 failing
    eventually site 2 down
    load_goes_on
    disk_is d0.1 slow 20
    eventually writes_are_seen
    sed 's/^/# |/' picture
    for words in 'repl: running' '^log  ' '^   0  streaming' '^   1  streaming' '^   2  down' '^site 2: down'; do
        grep "$words" picture || fail "expected '$words' in $(<picture)"
    done
    [[ $(wc -L <picture) -le 80 ]]
    replicator metrics >numbers
    grep -x 'replicator_up{replicator="repl"} 1' numbers
    grep -x 'replicator_site_state{replicator="repl",site="2",state="down"} 1' numbers
    grep -x 'replicator_site_state{replicator="repl",site="1",state="down"} 0' numbers
    grep -x 'replicator_device_errors_total{replicator="repl",device="d0"} 0' numbers
    disk_is d0.1 healthy
    disk_is d0.2 healthy
    load_ends
    eventually site 2 streaming
    replicator metrics repl | grep -x 'replicator_site_state{replicator="repl",site="2",state="streaming"} 1'
    replicas_are_equal
}

# From a port of this host, by whatever shell there is.
scraped() {
    exec 3<>/dev/tcp/127.0.0.1/9917 || return 1
    printf '%b' "$1" >&3
    cat <&3 >answer
    exec 3>&-
    grep -q "$2" answer
}

scraped_from() {
    python3 - "$1" <<'PYTHON' >answer
import socket, sys
caller = socket.socket(socket.AF_UNIX)
caller.connect(sys.argv[1])
caller.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
while part := caller.recv(65536):
    sys.stdout.write(part.decode())
PYTHON
    grep -q '^replicator_up{replicator="repl"} 1' answer
}

metrics_are_scraped_from_a_port_and_a_socket_and_a_daemon_that_died_is_not_up() {
    local get='GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'
    ip link set lo up 2>/dev/null || ifconfig lo up || true
    two_devices
    in_background served metrics --listen 127.0.0.1:9917
    in_background served.unix metrics --listen "unix:$work/metrics"
    eventually scraped "$get" '^HTTP/1.1 200 OK'
    replicator create table
    scraped "$get" '^replicator_up{replicator="repl"} 1' || fail "found $(<answer)"
    grep 'text/plain; version=0.0.4' answer
    eventually scraped_from "$work/metrics"
    scraped 'GET / HTTP/1.1\r\n\r\n' '^HTTP/1.1 404 '
    scraped 'POST /metrics HTTP/1.1\r\n\r\n' '^HTTP/1.1 405 '
    scraped 'SSH-2.0-x\r\n\r\n' '^HTTP/1.1 400 '
    kill_daemon
    scraped "$get" '^replicator_up{replicator="repl"} 0' || fail "found $(<answer)"
    replicator recover repl
    scraped "$get" '^replicator_up{replicator="repl"} 1' || fail "found $(<answer)"
    refused 'Address already in use' replicator metrics --listen 127.0.0.1:9917
    replicator remove repl
    nothing_is_left
}

# seen_by_top HOW: top in a terminal of its own, ended so; the terminal is as it was.
seen_by_top() {
    rm -f before after pid shown
    # shellcheck disable=SC2016 # another shell's
    keys "$1" | script -qec 'stty rows 24 cols 80; stty -g >before; bash -c "echo \$\$ >pid; exec $REPLICATOR top"; stty -g >after' shown >/dev/null
    [[ -s after ]] || fail "top has not ended by $1"
    cmp before after
    grep -q 'repl: running' shown || fail "expected a picture, found $(cat -v shown)"
    # The other screen, and back; the cursor too.
    grep -qF $'\e[?1049h' shown && grep -qF $'\e[?1049l' shown && grep -qF $'\e[?25h' shown
}

keys() {
    eventually grep -qs 'repl: running' shown
    case $1 in
    SIGTERM) kill -TERM "$(<pid)" ;;
    *) printf '%b' "$1" ;;
    esac
    eventually test -s after
}

top_gives_the_terminal_back_however_it_ends() {
    two_devices
    replicator create table
    seen_by_top q
    seen_by_top 'jk1\003'
    seen_by_top SIGTERM
    refused 'expected a terminal' replicator top </dev/null
    replicator remove repl
    nothing_is_left
}

a_status_is_watched_until_nobody_reads_it() {
    two_devices
    replicator create table
    timeout 60 "$REPLICATOR" status --watch 100ms | head -n 6 >said
    [[ $(grep -c '^repl: 0 1 replicator ' said) == 2 ]]
    timeout 60 "$REPLICATOR" status --json --watch 100ms repl | head -n 2 >said
    python3 -c 'import json,sys; assert all("repl" in json.loads(line) for line in sys.stdin)' <said
    timeout 60 "$REPLICATOR" events --follow | head -n 1 >said
    grep ' repl: started; devices: 2$' said
    replicator remove repl
    nothing_is_left
}

run_cases \
    events_tell_in_order_how_a_site_goes_down_and_comes_back_under_load \
    events_that_were_overwritten_are_told_as_a_gap_and_a_successor_begins_anew \
    top_and_metrics_show_what_there_is \
    metrics_are_scraped_from_a_port_and_a_socket_and_a_daemon_that_died_is_not_up \
    top_gives_the_terminal_back_however_it_ends \
    a_status_is_watched_until_nobody_reads_it
