//! What a world met: a run that never met it proves little about it.

use std::fmt;

use blk::Span;
use slink::State;

use crate::oracle::View;

/// How often things happened to the sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Outages that began.
    pub outages: u64,
    /// Sites that went down.
    pub down: u64,
    /// Sites that were detached.
    pub detached: u64,
    /// Resyncs that began.
    pub resyncs: u64,
    /// Sites that became inconsistent.
    pub inconsistent: u64,
    /// Sites that became consistent again.
    pub consistent: u64,
    /// Sites that acknowledgements went on without.
    pub demoted: u64,
    /// Sites that came into force again.
    pub promoted: u64,
    /// Operations that hung, and ended after all.
    pub hung: u64,
    /// Reads that met a bad sector.
    pub bad: u64,
    /// Disks on which something of a dead process was still in flight.
    pub zombies: u64,
    /// Disks that could not be opened.
    pub not_opened: u64,
    /// Sites' disks that were replaced.
    pub replaced: u64,
    /// Messages, and other tables, while it was at work.
    pub messages: u64,
    /// Worlds that ended since the last complete copy was lost.
    pub nothing_left: u64,
    /// Sites that reads came from, in place of the local one.
    pub lost_local: u64,
    /// Times that local disks stood in for a lost log, and that it was replaced.
    pub bypassed: u64,
    /// See `bypassed`.
    pub replaced_logs: u64,
    /// Times that everything was healed, and every site became equal.
    pub converged: u64,
    /// Comparisons of sites.
    pub verified: u64,
    /// Times that the log came to have another size.
    pub resized: u64,
    /// Times that the log moved.
    pub moved: u64,
    /// Devices that grew.
    pub grown: u64,
    /// The longest that a request took that no site may hold up.
    pub longest: Span,
}

impl Met {
    /// Compares what a machine says of a site with what it said before.
    pub(super) fn compare(&mut self, before: View, now: View) {
        let began = |is: fn(&View) -> bool| u64::from(is(&now) && !is(&before));
        self.down += began(|view| view.state == State::Down);
        self.detached += began(|view| view.detached);
        self.resyncs += began(|view| view.state == State::Resyncing);
        self.inconsistent += began(|view| !view.consistent);
        self.consistent += began(|view| view.consistent);
        self.demoted += began(|view| !view.in_force);
        self.promoted += began(|view| view.in_force);
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outages, down, detached, resyncs, inconsistent, consistent, .. } = self;
        let Self { demoted, promoted, hung, zombies, not_opened, replaced, messages, .. } = self;
        write!(
            f,
            "{outages} disks went away, {hung} operations hung, {zombies} disks were busy, \
             {not_opened} not opened, {replaced} replaced, {messages} messages; sites: {down} down, {detached} detached, \
             {resyncs} resyncs, {inconsistent} inconsistent, {consistent} consistent again, \
             {demoted} out of force, {promoted} in force again, {} converged, {} verified; the local \
             one was lost {} times, and {} times nothing was left; {} reads met a bad sector; \
             {} times there was no log, {} times it was replaced, {} times resized, {} times it moved; {} devices grew; \
             the longest request that no site may hold up took {:?}",
            self.converged,
            self.verified,
            self.lost_local,
            self.nothing_left,
            self.bad,
            self.bypassed,
            self.replaced_logs,
            self.resized,
            self.moved,
            self.grown,
            self.longest
        )
    }
}

impl std::ops::AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.outages += other.outages;
        self.down += other.down;
        self.detached += other.detached;
        self.resyncs += other.resyncs;
        self.inconsistent += other.inconsistent;
        self.consistent += other.consistent;
        self.demoted += other.demoted;
        self.promoted += other.promoted;
        self.hung += other.hung;
        self.bad += other.bad;
        self.zombies += other.zombies;
        self.not_opened += other.not_opened;
        self.replaced += other.replaced;
        self.messages += other.messages;
        self.nothing_left += other.nothing_left;
        self.lost_local += other.lost_local;
        self.bypassed += other.bypassed;
        self.replaced_logs += other.replaced_logs;
        self.converged += other.converged;
        self.verified += other.verified;
        self.resized += other.resized;
        self.moved += other.moved;
        self.grown += other.grown;
        self.longest = self.longest.max(other.longest);
    }
}
