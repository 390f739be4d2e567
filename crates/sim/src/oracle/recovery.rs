//! Recovery: what survives is a prefix of what was admitted, and holds what was promised.

use super::{Content, Nr, Oracle, Violation};

/// What the primary host died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process was killed; the host's disks kept their power.
    Kill,
    /// The host lost power, and with it the caches of its disks.
    PowerCut,
}

impl Oracle {
    /// The newest write that must survive this death (P1).
    #[must_use]
    pub fn required(&self, death: Death) -> Nr {
        match death {
            Death::Kill => self.acked,
            Death::PowerCut => self.stable,
        }
    }

    /// The engine is open again and `shown` is what its devices read as, in the row's
    /// order. What is lost is dead from now on; what survived is promised; after a power
    /// cut (`on_media`) so that it survives the next.
    ///
    /// # Errors
    /// If no end of the log explains it (P1, P10), or it misses what `required` demands
    /// (P1), or a site shows what is lost (P4).
    pub fn recovered(
        &mut self,
        required: Nr,
        on_media: bool,
        shown: &[Content],
    ) -> Result<Nr, Violation> {
        if self.without_log {
            return self.recovered_without_log(on_media, shown);
        }
        // Zeroes may fit several ends; all of them read the same, so the latest will do for
        // what is alive. The log itself may go on behind the earliest.
        let heads = self.heads(shown)?;
        let head = heads.last().map_or(Nr(0), |&(_, end)| end);
        let earliest = heads.first().map_or(Nr(0), |&(start, _)| start).max(required);
        if head < required {
            return Err(Violation::Lost { promised: required, head });
        }
        let now = self.tick();
        self.history.truncate(head, on_media, now);
        self.acked = head;
        self.stable = self.stable.min(head);
        for at in 0..self.floors.len() {
            self.floors[at] = *self.history.of(at).last().expect("a sector has a newest write");
        }
        self.admissions.resume_behind(self.history.write(earliest));
        self.lags.iter_mut().for_each(|lag| lag.truncate(head));
        for site in 0..self.sites.len() {
            self.refresh(site, 0..self.layout.total())?;
        }
        if on_media {
            // Media hold nothing that could still be lost: what was recovered from them must
            // be recovered again (P10).
            self.stable = self.stable.max(head);
        }
        self.recovering = false;
        Ok(head)
    }

    /// All ends of the log for which every sector shows what it shows, oldest first.
    fn heads(&self, shown: &[Content]) -> Result<Vec<(Nr, Nr)>, Violation> {
        let mut heads = vec![(Nr(0), self.history.last())];
        for (at, &content) in shown.iter().enumerate() {
            let allowed = self.history.heads(at, content);
            let left: Vec<_> = heads
                .iter()
                .flat_map(|&(a, b)| allowed.iter().map(move |&(c, d)| (a.max(c), b.min(d))))
                .filter(|(start, end)| start <= end)
                .collect();
            if left.is_empty() {
                let place = self.layout.place(at);
                return Err(Violation::NotAPrefix { place, content, heads });
            }
            heads = left;
        }
        Ok(heads)
    }
}
