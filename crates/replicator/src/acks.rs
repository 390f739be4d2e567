//! When a change may be acknowledged (I2, P1).
//!
//! | request | waits for |
//! |---|---|
//! | write, discard, write-zeroes | its group is written, and every earlier one |
//! | the same with FUA | … and durable |
//! | FLUSH | everything acknowledged before it is durable |
//! | any change, with sites that writers wait for | … and each of them grants it (`slink::Grant`) |
//!
//! Every queue is in the order of the log, so the front decides.

use std::collections::VecDeque;

use blk::{DevNr, ReqId, Seq};

/// Changes and flushes that wait to be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    plain: VecDeque<Waiting>,
    fua: VecDeque<Waiting>,
    flushes: VecDeque<Waiting>,
}

/// How far things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) written: Seq,
    pub(crate) durable: Seq,
    /// How far the site allows that allows least; `None` if none minds.
    pub(crate) granted: Option<Seq>,
}

/// A request, and what must be reached before it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: Seq,
    pub(crate) req: ReqId,
    pub(crate) dev: DevNr,
}

impl Acks {
    pub(crate) fn change(&mut self, waiting: Waiting, fua: bool) {
        let queue = if fua { &mut self.fua } else { &mut self.plain };
        assert!(queue.back().is_none_or(|last| last.seq < waiting.seq));
        queue.push_back(waiting);
    }

    pub(crate) fn flush(&mut self, waiting: Waiting) {
        self.flushes.push_back(waiting);
    }

    /// The request ends otherwise: its payload could not be had.
    pub(crate) fn forget(&mut self, req: ReqId) -> Option<Waiting> {
        for queue in [&mut self.plain, &mut self.fua] {
            if let Some(at) = queue.iter().position(|waiting| waiting.req == req) {
                return queue.remove(at);
            }
        }
        None
    }

    /// The requests that may be acknowledged now.
    pub(crate) fn ready(&mut self, reached: Reached) -> impl Iterator<Item = Waiting> {
        let sites = reached.granted.unwrap_or(reached.written);
        let plain = reached.written.min(sites);
        let durable = reached.durable.min(sites);
        let queues = [
            (&mut self.plain, plain),
            (&mut self.fua, durable),
            (&mut self.flushes, reached.durable),
        ];
        queues.into_iter().flat_map(|(queue, limit)| {
            let reached = move |waiting: &Waiting| waiting.seq <= limit;
            std::iter::from_fn(move || {
                queue.front().is_some_and(reached).then(|| queue.pop_front()).flatten()
            })
        })
    }

    /// The changes that wait for more than `granted`: they are not going to get it.
    pub(crate) fn refused(&mut self, granted: Seq) -> impl Iterator<Item = Waiting> {
        [&mut self.plain, &mut self.fua].into_iter().flat_map(move |queue| {
            let kept = queue.partition_point(|waiting| waiting.seq <= granted);
            queue.split_off(kept)
        })
    }

    /// All that `may_end` now, whatever they wait for.
    pub(crate) fn give_up(&mut self, may_end: impl Fn(ReqId) -> bool) -> Vec<Waiting> {
        let mut ended = Vec::new();
        for queue in [&mut self.plain, &mut self.fua, &mut self.flushes] {
            let (end, stay) = queue.drain(..).partition(|waiting| may_end(waiting.req));
            *queue = stay;
            let end: VecDeque<Waiting> = end;
            ended.extend(end);
        }
        ended
    }

    /// What must become durable for those that wait for nothing else.
    pub(crate) fn wants_durable(&self, written: Seq) -> Seq {
        let fua = self.fua.iter().rev().map(|waiting| waiting.seq).find(|seq| *seq <= written);
        let flush = self.flushes.back().map(|waiting| waiting.seq);
        fua.max(flush).unwrap_or_default()
    }

    /// How many changes are not acknowledged.
    pub(crate) fn changes(&self) -> usize {
        self.plain.len() + self.fua.len()
    }

    /// The oldest change that is not acknowledged.
    pub(crate) fn oldest_change(&self) -> Option<Seq> {
        let fronts = [&self.plain, &self.fua].into_iter().filter_map(VecDeque::front);
        fronts.map(|waiting| waiting.seq).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.fua.is_empty() && self.flushes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seq: u64) -> Waiting {
        Waiting { seq: Seq(seq), req: ReqId(seq), dev: DevNr(0) }
    }

    fn reached(written: u64, durable: u64, sites: Option<u64>) -> Reached {
        Reached { written: Seq(written), durable: Seq(durable), granted: sites.map(Seq) }
    }

    fn ready(acks: &mut Acks, reached: Reached) -> Vec<u64> {
        acks.ready(reached).map(|waiting| waiting.req.0).collect()
    }

    #[test]
    fn a_plain_write_waits_for_the_log_and_a_fua_write_for_its_media() {
        let mut acks = Acks::default();
        acks.change(waiting(1), false);
        acks.change(waiting(2), true);
        assert_eq!(ready(&mut acks, reached(0, 0, None)), [0_u64; 0]);
        assert_eq!(ready(&mut acks, reached(2, 1, None)), [1]);
        assert_eq!(ready(&mut acks, reached(2, 2, None)), [2]);
        assert!(acks.is_empty());
    }

    #[test]
    fn every_change_waits_for_the_slowest_sync_site() {
        let mut acks = Acks::default();
        acks.change(waiting(1), false);
        acks.change(waiting(2), true);
        assert_eq!(ready(&mut acks, reached(2, 2, Some(0))), [0_u64; 0]);
        assert_eq!(ready(&mut acks, reached(2, 2, Some(1))), [1]);
        assert_eq!(ready(&mut acks, reached(2, 2, Some(2))), [2]);
    }

    #[test]
    fn a_flush_waits_for_what_was_written_before_it_and_no_more() {
        let mut acks = Acks::default();
        acks.flush(waiting(3));
        assert_eq!(ready(&mut acks, reached(9, 2, None)), [0_u64; 0]);
        assert_eq!(acks.wants_durable(Seq(9)), Seq(3));
        assert_eq!(ready(&mut acks, reached(9, 3, None)), [3]);
    }

    #[test]
    fn only_what_is_written_is_asked_to_become_durable() {
        let mut acks = Acks::default();
        acks.change(waiting(1), true);
        acks.change(waiting(5), true);
        assert_eq!(acks.wants_durable(Seq(3)), Seq(1));
    }
}
