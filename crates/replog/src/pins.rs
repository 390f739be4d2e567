//! Ring space that is being read is not reused (I6).

use std::collections::BTreeMap;

use crate::geometry::RingPos;
use crate::log::Replog;

/// Groups whose ring space is being read, and how often.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    all: BTreeMap<u64, Pin>,
    /// Those up to this group were another log's, which is lost.
    forgotten: u64,
}

#[derive(Debug)]
struct Pin {
    count: usize,
    pos: RingPos,
}

impl Pins {
    /// Where the oldest group lies that is being read.
    pub(crate) fn oldest(&self) -> Option<RingPos> {
        self.all.values().next().map(|pin| pin.pos)
    }
}

impl Replog {
    /// Keeps a group's ring space from being reused while it is read (I6).
    pub fn pin(&mut self, group: u64) {
        let pos = self.index.group(group).expect("a group is pinned while it is needed").pos;
        self.pins.all.entry(group).or_insert(Pin { count: 0, pos }).count += 1;
        self.ring.reads += 1;
    }

    /// What was pinned is another log's from now on.
    pub(crate) fn forget_pins(&mut self) {
        self.pins = Pins { all: BTreeMap::new(), forgotten: self.tip.group };
    }

    /// Ends one [`Replog::pin`].
    pub fn unpin(&mut self, group: u64) {
        if group <= self.pins.forgotten {
            return;
        }
        let pin = self.pins.all.get_mut(&group).expect("only what was pinned is unpinned");
        pin.count -= 1;
        if pin.count == 0 {
            self.pins.all.remove(&group);
        }
    }
}
