//! What happens in a world, told on standard error, for whoever looks for a cause.

use blk::{DiskOp, Effect, Event};

use super::back::written;
use super::{Subject, World};

impl<M: Subject> World<'_, M> {
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>12} {}", self.clock.now.0 / 1000, what());
        }
    }

    pub(super) fn wanted(&self, effect: &Effect) -> String {
        match effect {
            Effect::Submit { io, disk, op } => {
                let role = self.host.disks.role(*disk);
                let (serial, open) = (self.back.next(), self.handles.is_open(*disk));
                let what = match op {
                    DiskOp::Read { sector, buf } => format!("read {sector}+{}", buf.len() / 512),
                    DiskOp::Write { sector, fua, .. } => {
                        format!("write {sector}+{} fua {fua}", written(op))
                    }
                    DiskOp::WriteZeroes { sector, len, fua, .. } => {
                        format!("zeroes {sector}+{len} fua {fua}")
                    }
                    DiskOp::Flush => "flush".to_owned(),
                };
                let log = M::admissions(op);
                format!("  -> {serial:?} {io:?} {role:?} open {open}: {what} {log:?}")
            }
            Effect::Deliver { .. } | Effect::Fetch { .. } => "  -> data".to_owned(),
            other => format!("  -> {other:?}"),
        }
    }
}

/// An event in a few words.
pub(super) fn ended(event: &Event) -> String {
    match event {
        Event::Done { io, result, .. } => format!("{io:?} {result:?}"),
        other => format!("{other:?}"),
    }
}
