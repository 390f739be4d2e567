//! Waiting a moment for writers that are about to come back.
//!
//! ```text
//! launched at once     │ A A A │ B B B │ A A A │ B B B │    half of the writers in each group
//! after a moment       │ A A A B B B │ A A A B B B │        all of them
//! ```
//!
//! Who was just acknowledged often writes again at once. A group that is launched before they do
//! leaves them behind, and from then on two halves of an application take turns: twice as many
//! groups, of half the size. So a group waits for as many changes as were acknowledged, for a
//! quarter of what the write of a group takes at most; and only while writers do come back that
//! soon: else nobody gains, and each would wait.

use blk::{Span, Time};

/// How long writers are waited for, and whether that is worth it.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// When the group in flight was sent.
    sent: Option<Time>,
    /// When the last one arrived.
    arrived: Time,
    /// How long the write of a group takes, of late.
    write_time: Span,
    /// How many writes a group has, of late, in sixteenths.
    sixteenths: u64,
    /// Changes that may be about to come, from those who were acknowledged.
    left: u64,
    /// Until when they count as coming back.
    until: Time,
    /// How often they did, of late.
    trust: u8,
}

impl Gather {
    /// A group of so many writes is on its way.
    pub(crate) fn sent(&mut self, now: Time, writes: u64) {
        self.sent = Some(now);
        self.sixteenths = (self.sixteenths * 7 + writes * 16) / 8;
    }

    /// How long the write of a group takes, of late, and how many writes it has.
    pub(crate) fn pace(&self) -> (Span, u64) {
        (self.write_time, self.sixteenths.div_ceil(16))
    }

    /// It has arrived.
    pub(crate) fn arrived(&mut self, now: Time) {
        self.arrived = now;
        if let Some(sent) = self.sent.take() {
            // The first one says more than nothing.
            let share = if self.write_time.is_zero() { 1 } else { 8 };
            self.write_time = self.write_time * (share - 1) / share + now.since(sent) / share;
        }
    }

    /// When a group last arrived.
    pub(crate) fn arrived_at(&self) -> Time {
        self.arrived
    }

    /// So many changes were acknowledged.
    pub(crate) fn acknowledged(&mut self, now: Time, changes: u64) {
        self.look(now);
        self.left += changes;
        self.until = now + (self.write_time / PATIENCE).min(PATIENCE_MAX);
    }

    /// A change has come.
    pub(crate) fn came(&mut self, now: Time) {
        self.look(now);
        if self.left == 1 {
            self.trust = (self.trust + 1).min(TRUST_MAX);
        }
        self.left = self.left.saturating_sub(1);
    }

    /// One has come for which a group has no room: who comes behind it would not find any.
    pub(crate) fn no_more(&mut self) {
        self.left = 0;
    }

    /// Until when a group that could be launched waits; `None`: it does not.
    pub(crate) fn holds_until(&self, now: Time) -> Option<Time> {
        let holds = self.left > 0 && now < self.until && self.trust >= TRUSTED;
        holds.then_some(self.until)
    }

    /// Who has not come back by now does not count any more.
    fn look(&mut self, now: Time) {
        if self.left > 0 && now >= self.until {
            self.left = 0;
            self.trust /= 2;
        }
    }
}

/// A share of a group's write. What is waited in vain costs that much, until trust is gone.
const PATIENCE: u32 = 4;
/// Nobody who has a disk that slow comes back later than this by being slow himself.
const PATIENCE_MAX: Span = Span::from_millis(2);
/// So often they have to have come back before a group waits for them.
const TRUSTED: u8 = 4;
/// Three failures in a row, and nobody is waited for.
const TRUST_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time(micros * 1000)
    }

    /// Writers of whom each group's come back after `micros`, at a disk that takes 400.
    fn writers_come_back_after(micros: u64, rounds: u64) -> Gather {
        let mut gather = Gather::default();
        for round in 0..rounds {
            let now = round * 1000;
            gather.sent(at(now), 2);
            gather.arrived(at(now + 400));
            gather.acknowledged(at(now + 400), 2);
            gather.came(at(now + 400 + micros));
            gather.came(at(now + 400 + micros));
        }
        gather
    }

    #[test]
    fn writers_who_come_back_at_once_are_waited_for_until_all_are_there() {
        let mut gather = writers_come_back_after(50, 10);
        gather.acknowledged(at(20_000), 2);
        assert_eq!(gather.holds_until(at(20_001)), Some(at(20_100)), "a quarter of 400");
        gather.came(at(20_002));
        assert!(gather.holds_until(at(20_003)).is_some());
        gather.came(at(20_004));
        assert_eq!(gather.holds_until(at(20_005)), None);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_quarter_of_a_write() {
        let mut gather = writers_come_back_after(50, 10);
        gather.acknowledged(at(20_000), 2);
        assert_eq!(gather.holds_until(at(20_100)), None);
    }

    #[test]
    fn writers_who_take_their_time_are_not_waited_for() {
        let mut gather = writers_come_back_after(200, 10);
        gather.acknowledged(at(20_000), 2);
        assert_eq!(gather.holds_until(at(20_001)), None);
    }

    #[test]
    fn trust_is_lost_soon_and_won_back() {
        let mut gather = writers_come_back_after(50, 100);
        for late in 0..3 {
            let now = 200_000 + late * 1000;
            gather.acknowledged(at(now), 2);
            gather.came(at(now + 500));
        }
        gather.acknowledged(at(300_000), 1);
        assert_eq!(gather.holds_until(at(300_001)), None);
        for soon in 0..4 {
            gather.acknowledged(at(310_000 + soon * 1000), 1);
            gather.came(at(310_010 + soon * 1000));
        }
        gather.acknowledged(at(400_000), 1);
        assert!(gather.holds_until(at(400_001)).is_some());
    }

    #[test]
    fn a_group_that_has_no_room_waits_for_nobody() {
        let mut gather = writers_come_back_after(50, 10);
        gather.acknowledged(at(20_000), 2);
        gather.no_more();
        assert_eq!(gather.holds_until(at(20_001)), None);
    }
}
