//! Another size for the log, now and then, while applications work.

use blk::{Sectors, Span};

use super::clock::Due;
use super::{Stage, Subject, World};
use crate::less::Part;
use crate::rng::Rng;

/// Who asks for other sizes of the log.
#[derive(Default)]
pub(super) struct Resizer {
    rng: Option<Rng>,
    /// The size that the log had when it was looked at last.
    seen: Option<Sectors>,
}

impl<M: Subject> World<'_, M> {
    /// Now and then, somebody asks for another size of the log; `rng` decides which.
    #[must_use]
    pub fn resized(mut self, rng: Option<Rng>) -> Self {
        if let Some(mut rng) = rng {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Resize);
            self.resizer.rng = Some(rng);
        }
        self
    }

    pub(super) fn resize_at_random(&mut self) {
        let Some(mut rng) = self.resizer.rng.take() else { return };
        if self.serving {
            let (least, most) = (self.host.topology.log_size.0, self.host.topology.log.0);
            let size = *rng.pick(&[least, most, rng.clone().range(least, most)]);
            if self.sieve.keeps(Part::Resize) {
                self.resize(Sectors(size));
            }
        }
        if !self.healed {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Resize);
        }
        self.resizer.rng = Some(rng);
    }

    /// Somebody asks for another size of the log.
    pub(super) fn resize(&mut self, size: Sectors) {
        if self.machine.stage() == Stage::Running {
            self.host.log_resized = true;
            self.tell_machine(&format!("replog resize {size}"));
        }
    }

    /// Counts the sizes that the log came to have.
    pub(super) fn look_at_log_size(&mut self) {
        let now = self.machine.log_sectors();
        let before = std::mem::replace(&mut self.resizer.seen, now);
        self.met.resized += u64::from(before.is_some() && now.is_some() && before != now);
    }
}

fn pause(rng: &mut Rng) -> Span {
    let most = *rng.pick(&[300, 3_000, 30_000, 300_000]);
    Span::from_micros(rng.range(1, most))
}
