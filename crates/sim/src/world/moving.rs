//! The log moves to another disk while applications work, and back; as a daemon has it move, who
//! also keeps the table that the next life goes by.

use blk::{DiskId, Sectors, Span, Time};

use super::clock::{self, Due};
use super::crash::Host;
use super::log_loss::Loss;
use super::{Stage, Subject, World};
use crate::less::Part;
use crate::rng::Rng;
use crate::topology::Role;

/// How far a machine is with another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    /// It is being made.
    UnderWay,
    /// It is ready, and the other one is at work.
    Prepared,
    /// Everything waits for it, and it for being named by the table.
    GivenUp,
    /// It could not be made.
    Failed,
    /// It is at work; or none is being made.
    Done,
}

/// Who has the log move.
#[derive(Default)]
pub(super) struct Mover {
    rng: Option<Rng>,
    now: Option<Move>,
}

/// The log is to move.
#[derive(Clone, Copy)]
struct Move {
    to: DiskId,
    /// What the table named before.
    was_moved: bool,
    given_up: Option<Time>,
}

impl<M: Subject> World<'_, M> {
    /// Now and then, somebody has the log move; `rng` decides when.
    #[must_use]
    pub fn moved(mut self, rng: Option<Rng>) -> Self {
        if let Some(mut rng) = rng {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Move);
            self.mover.rng = Some(rng);
        }
        self
    }

    pub(super) fn move_at_random(&mut self) {
        let Some(mut rng) = self.mover.rng.take() else { return };
        let well = self.machine.stage() == Stage::Running && self.mover.now.is_none();
        let (least, most) = (self.host.topology.log_size.0, self.host.topology.log.0);
        let size = Sectors(*rng.pick(&[least, most]));
        let wiped = rng.chance(90);
        if self.serving && well && self.sieve.keeps(Part::Move) {
            self.begin_move(size, wiped);
        }
        if !self.healed {
            let after = pause(&mut rng);
            self.clock.plan(after, Due::Move);
        }
        self.mover.rng = Some(rng);
    }

    fn begin_move(&mut self, size: Sectors, wiped: bool) {
        let [log, new] = [Role::Log, Role::NewLog].map(|role| self.host.topology.disk(role));
        let to = if self.machine.log_disk() == log { new } else { log };
        if self.host.disks.is_busy(to) {
            return;
        }
        if wiped {
            self.host.disks.wipe(to);
        }
        let was_moved = self.host.log_moved;
        self.host.logs_begun += 1;
        // Without a log at work it does not matter what the table names, and that comes first.
        if self.machine.loss() != Loss::None {
            self.host.name_log(to == new);
        }
        if self.machine.move_log(to, size, self.host.logs_begun) {
            self.tell(|| format!("     the log is to move to {to:?}"));
            self.mover.now = Some(Move { to, was_moved, given_up: None });
        } else {
            self.host.log_moved = was_moved;
        }
    }

    /// After each poll: goes on with it; whether that says something to the machine.
    pub(super) fn look_at_move(&mut self) -> bool {
        let Some(mut it) = self.mover.now else { return false };
        let now = self.clock.now;
        let held = it.given_up.is_some_and(|at| now.since(at) > HOLD_LIMIT);
        match self.machine.moving() {
            Moving::Done => {
                self.met.moved += u64::from(self.machine.log_disk() == it.to);
                self.tell(|| "     the log has moved".to_owned());
                self.mover.now = None;
                false
            }
            Moving::Failed => self.cancel_move(it),
            _ if held => self.cancel_move(it),
            Moving::Prepared if it.given_up.is_none() => {
                self.machine.give_up_log(now);
                it.given_up = Some(now);
                self.mover.now = Some(it);
                self.clock.plan(HOLD_LIMIT + Span::from_millis(1), Due::Named);
                true
            }
            Moving::GivenUp if !self.mover_names(it) => {
                let after = clock::opening(&mut self.rng);
                self.clock.plan(after, Due::Named);
                self.host.name_log(it.to != self.host.topology.disk(Role::Log));
                false
            }
            Moving::GivenUp | Moving::Prepared | Moving::UnderWay => false,
        }
    }

    /// Whether the table names the log that is to come.
    fn mover_names(&self, it: Move) -> bool {
        self.host.log_moved == (it.to != self.host.topology.disk(Role::Log))
    }

    /// The table that names the new log is kept.
    pub(super) fn log_is_named(&mut self) {
        if self.mover.now.is_some() && self.machine.moving() == Moving::GivenUp {
            self.machine.begin_new_log();
        }
    }

    /// Whether somebody has the log moved just now.
    pub(super) fn is_moving(&self) -> bool {
        self.mover.now.is_some()
    }

    fn cancel_move(&mut self, it: Move) -> bool {
        self.tell(|| "     the log does not move".to_owned());
        if self.machine.cancel_new_log() {
            self.host.log_moved = it.was_moved;
        }
        self.mover.now = None;
        true
    }
}

impl Host {
    /// The table names one of the disks for a log; how large that is, the log says.
    fn name_log(&mut self, moved: bool) {
        self.log_moved = moved;
        self.log_resized = true;
    }

    /// The next life's log is where the table says.
    pub(super) fn go_by_the_table(&mut self) {
        if std::mem::take(&mut self.log_moved) {
            self.disks.exchange_logs();
        }
    }
}

fn pause(rng: &mut Rng) -> Span {
    let most = *rng.pick(&[300, 3_000, 30_000, 300_000]);
    Span::from_micros(rng.range(1, most))
}

/// As a daemon has it.
const HOLD_LIMIT: Span = Span::from_secs(30);
