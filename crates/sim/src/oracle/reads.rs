//! Reads: each sector is a register that never goes back (P2).

use std::ops::Range;

use super::{Content, Nr, Oracle, Violation};

/// What a read on its way must at least show, sector by sector.
#[derive(Clone, Debug)]
pub struct ReadFloor {
    row: Range<usize>,
    floors: Vec<Nr>,
}

impl ReadFloor {
    /// Its sectors in the row of all sectors.
    #[must_use]
    pub fn row(&self) -> Range<usize> {
        self.row.clone()
    }
}

impl Oracle {
    /// A read was handed in: what is acknowledged, or was read, by now it must show.
    #[must_use]
    pub fn read_submitted(&mut self, row: Range<usize>) -> ReadFloor {
        self.reading += 1;
        ReadFloor { floors: self.floors[row.clone()].to_vec(), row }
    }

    /// A read has ended without data.
    pub fn read_failed(&mut self) {
        self.reading -= 1;
    }

    /// A read has ended.
    ///
    /// # Errors
    /// If a sector shows something older than its floor, or what no write wrote (P2).
    pub fn read(&mut self, read: &ReadFloor, returned: &[Content]) -> Result<(), Violation> {
        let ReadFloor { row, floors } = read;
        self.reading -= 1;
        for ((at, &floor), &content) in row.clone().zip(floors).zip(returned) {
            // Zeroes have many readings: the oldest that is allowed binds later reads least.
            let seen = self.history.readings(at, content).filter(|&nr| nr >= floor).last();
            let Some(seen) = seen else {
                let place = self.layout.place(at);
                return Err(Violation::StaleRead { place, returned: content, newest: floor });
            };
            self.floors[at] = self.floors[at].max(seen);
        }
        Ok(())
    }
}
