//! The cells of a disk, sparse and cheap to clone: clones share what neither changed.

use std::rc::Rc;

use crate::cell::Cell;

/// What a disk holds, by sector; untouched sectors take no memory.
#[derive(Clone)]
pub(crate) struct Image<C> {
    chunks: Vec<Option<Rc<[C; CHUNK]>>>,
    /// What untouched sectors hold.
    blank: C,
}

impl<C: Cell> Image<C> {
    /// `sectors` sectors that hold `blank`.
    pub(crate) fn new(sectors: u64, blank: C) -> Self {
        Self { chunks: vec![None; index(sectors.div_ceil(CHUNK as u64))], blank }
    }

    pub(crate) fn at(&self, sector: u64) -> C {
        let (chunk, cell) = place(sector);
        self.chunks[chunk].as_ref().map_or_else(|| self.blank.clone(), |cells| cells[cell].clone())
    }

    pub(crate) fn set(&mut self, sector: u64, value: C) {
        let (chunk, cell) = place(sector);
        let blank = || Rc::new(std::array::from_fn(|_| self.blank.clone()));
        let cells = self.chunks[chunk].get_or_insert_with(blank);
        Rc::make_mut(cells)[cell] = value;
    }
}

/// Sectors that are shared or copied together: one log block.
const CHUNK: usize = 8;

fn place(sector: u64) -> (usize, usize) {
    (index(sector / CHUNK as u64), index(sector % CHUNK as u64))
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated disk fits in memory")
}
