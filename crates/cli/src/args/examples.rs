//! What the help of a verb ends with: command lines that one could type. A test reads each.

pub(crate) const ALL: &str = "\
Examples:
  replicator create data.table    # start what a table says
  mkfs.ext4 /dev/replicator/data  # use its device
  replicator why                  # is all well? if not, why?
  replicator status               # how it is, in numbers
  replicator top                  # and how that changes
  replicator remove repl          # bring everything to the sites, and stop

`replicator VERB --help` has more for each verb. Manual: replicator(8), replicator.table(5).";

pub(crate) const CREATE: &str = "\
Examples:
  replicator create data.table
  replicator create - <data.table
  replicator create --all                     # all of /etc/replicator/*.table
  replicator create --require-all data.table  # not without its remote sites
  replicator create --mark /dev/vg/mark west.table  # a failover, over there";

pub(crate) const RUN: &str = "\
Examples:
  replicator run data.table
  replicator run --name repl --timeout 5m two-replicators.table";

pub(crate) const REMOVE: &str = "\
Examples:
  replicator remove repl
  replicator remove --timeout 10m repl  # the sites may take longer
  replicator remove --no-drain repl     # the log keeps what they lack
  replicator remove --force repl        # also in use, or without a daemon";

pub(crate) const RELOAD: &str = "\
Examples:
  replicator table repl >data.table  # what holds; change it,
  replicator reload data.table       # and go on as it says";

pub(crate) const RENAME: &str = "\
Examples:
  replicator rename data archive  # a device: /dev/replicator/archive
  replicator rename repl east     # the replicator";

pub(crate) const LS: &str = "\
Examples:
  replicator ls
  replicator ls --json --target replicator-dev";

pub(crate) const TABLE: &str = "\
Examples:
  replicator table
  replicator table repl";

pub(crate) const STATUS: &str = "\
Examples:
  replicator status
  replicator status --json repl
  replicator status --watch repl
  replicator status --watch 10 --json repl >>samples";

pub(crate) const TOP: &str = "\
Examples:
  replicator top              # q ends it
  replicator top --once repl  # for a script, or a report

Keys: q ends it; with several replicators, a number or the left and right
arrows choose one; j, k and the arrows scroll.";

pub(crate) const EVENTS: &str = "\
Examples:
  replicator events repl
  replicator events --follow
  replicator events --json --follow repl >>events.json";

pub(crate) const METRICS: &str = "\
Examples:
  replicator metrics
  replicator metrics --listen 127.0.0.1:9917
  replicator metrics --listen unix:/run/replicator-metrics";

pub(crate) const WHY: &str = "\
Examples:
  replicator why
  replicator why repl || echo 'look after it'";

pub(crate) const WAIT: &str = "\
Examples:
  replicator wait repl                    # shows how far a copy is
  replicator wait --site 1 --timeout 30s repl
  replicator wait --verified repl         # after the message `verify`";

pub(crate) const SUSPEND: &str = "\
Examples:
  replicator suspend repl  # all its devices
  replicator suspend data  # one";

pub(crate) const RESUME: &str = "\
Examples:
  replicator resume repl";

pub(crate) const MESSAGE: &str = "\
Examples:
  replicator message repl 0 slink message 1 policy sync
  replicator message repl 0 slink message 1 fallbehind size=500m on_limit:bitmap
  replicator message repl 0 verify
  replicator message data 0 device add 2 1 /dev/sdx core 1 1024";

pub(crate) const DIFFERS: &str = "\
Examples:
  replicator differs west 1 ranges  # what `log dirty` printed at the other host";

pub(crate) const RECOVER: &str = "\
Examples:
  replicator recover repl";

pub(crate) const UPGRADE: &str = "\
Examples:
  replicator upgrade repl   # after a new program was installed
  replicator upgrade --all";

pub(crate) const LOG: &str = "\
Examples:
  replicator log check /dev/vg/log
  replicator log dump --json --live /dev/vg/log
  replicator log dirty /dev/vg/log --site 1 >ranges
  replicator log repair /dev/vg/log        # shows what is lost
  replicator log repair --yes /dev/vg/log  # and cuts it";

pub(crate) const DIRTY: &str = "\
Examples:
  replicator dirty check --live /dev/vg/data-dirty
  replicator dirty dump /dev/vg/data-dirty";

pub(crate) const MARK: &str = "\
Examples:
  replicator mark check /dev/vg/mark && echo 'its devices can be used'";

pub(crate) const TARGETS: &str = "\
Examples:
  replicator targets -v";

pub(crate) const VERSION: &str = "\
Examples:
  replicator version  # will this kernel do?";

/// Its examples, and what messages there are.
pub(crate) fn message() -> String {
    format!("{MESSAGE}\n\n{}", replicator::message::HELP)
}
