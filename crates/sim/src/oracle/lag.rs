//! What a site lacks of what was acknowledged: writes, bytes, and since when.

use std::collections::BTreeMap;

use blk::Time;

use super::Nr;

/// Acknowledged writes that a site lacked when somebody looked last.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag {
    lacking: BTreeMap<Nr, (u64, Time)>,
    sectors: u64,
}

impl Lag {
    pub(super) fn push(&mut self, nr: Nr, sectors: u64, acked: Time) {
        self.lacking.insert(nr, (sectors, acked));
        self.sectors += sectors;
    }

    /// The oldest, and when it was acknowledged.
    pub(super) fn first(&self) -> Option<(Nr, Time)> {
        self.lacking.first_key_value().map(|(&nr, &(_, acked))| (nr, acked))
    }

    pub(super) fn pop(&mut self) {
        if let Some((_, (sectors, _))) = self.lacking.pop_first() {
            self.sectors -= sectors;
        }
    }

    /// What is behind `head` is lost; and a new machine, with a new clock, does not know how
    /// old the rest is.
    pub(super) fn truncate(&mut self, head: Nr) {
        let lost = self.lacking.split_off(&head.next());
        self.sectors -= lost.values().map(|(sectors, _)| sectors).sum::<u64>();
        self.lacking.values_mut().for_each(|(_, acked)| *acked = Time(u64::MAX));
    }

    /// Writes and sectors up to `nr`: acknowledgements need not come in the order of the log.
    pub(super) fn upto(&self, nr: Nr) -> (u64, u64) {
        if self.lacking.last_key_value().is_none_or(|(&last, _)| last <= nr) {
            return (self.lacking.len() as u64, self.sectors);
        }
        let older = self.lacking.range(..=nr).map(|(_, &(sectors, _))| sectors);
        older.fold((0, 0), |(writes, all), sectors| (writes + 1, all + sectors))
    }
}
