//! What a disk should say of each region, and what it was last asked to say.
//!
//! Of a block that is neither marked anew nor in an unflushed write: whatever a crash
//! leaves of it, each region of `asked` is dirty in it.

use std::ops::Range;

use bitvec::order::Lsb0;
use bitvec::slice::BitSlice;
use bitvec::vec::BitVec;

use crate::format::{Block, Identity, REGIONS_PER_BLOCK};

/// A bit to a region, twice.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// As memory says.
    wanted: BitVec<u64, Lsb0>,
    /// As the last write of each block said, ended or not; nothing where a block is stale.
    asked: BitVec<u64, Lsb0>,
    /// Blocks that say nothing for this session, as far as anybody knows.
    stale: Vec<bool>,
}

impl Image {
    /// All clean in memory, unknown on the disk.
    pub(crate) fn new(regions: u64) -> Self {
        let regions = usize::try_from(regions).expect("a bitmap fits in memory");
        let blocks = regions.div_ceil(PER_BLOCK);
        Self {
            wanted: BitVec::repeat(false, regions),
            asked: BitVec::repeat(false, regions),
            stale: vec![true; blocks],
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.stale.len()
    }

    pub(crate) fn regions(&self) -> usize {
        self.wanted.len()
    }

    /// Marks regions; which of their blocks have to be written for it.
    pub(crate) fn mark(&mut self, regions: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        self.wanted[regions.clone()].fill(true);
        blocks_of(&regions).filter(move |block| {
            let of_block = range_of(*block, self.asked.len());
            let part = regions.start.max(of_block.start)..regions.end.min(of_block.end);
            !self.asked[part].all()
        })
    }

    /// Clears a region; its block, if that says otherwise.
    pub(crate) fn clear(&mut self, region: usize) -> Option<usize> {
        let was = self.wanted.replace(region, false);
        (was && self.asked[region]).then_some(region / PER_BLOCK)
    }

    /// Nothing that the disk says is of use any more.
    pub(crate) fn forget(&mut self) {
        self.asked.fill(false);
        self.stale.fill(true);
    }

    /// Whether a block should say something else than it does.
    pub(crate) fn is_changed(&self, block: usize) -> bool {
        let range = range_of(block, self.regions());
        self.stale[block] || self.wanted[range.clone()] != self.asked[range]
    }

    /// Whatever a block says is old, although its regions may be right.
    pub(crate) fn outdate(&mut self, block: usize) {
        self.stale[block] = true;
    }

    /// A block as it should be, which from now on is what was asked for.
    pub(crate) fn ask(&mut self, identity: &Identity, block: usize) -> Block {
        let range = range_of(block, self.regions());
        let words = words_of(&range);
        self.asked[range.clone()].copy_from_bitslice(&self.wanted[range]);
        self.stale[block] = false;
        let words = self.asked.as_raw_slice()[words].to_vec();
        Block { identity: *identity, nr: block as u64, bypassed: None, words }
    }

    /// A block was read that can be believed; the regions that it says are dirty.
    pub(crate) fn take(&mut self, block: &Block) -> Vec<Range<usize>> {
        let nr = usize::try_from(block.nr).expect("one of these blocks");
        let range = range_of(nr, self.regions());
        let found = &BitSlice::<u64, Lsb0>::from_slice(&block.words)[..range.len()];
        self.asked[range.clone()].copy_from_bitslice(found);
        self.stale[nr] = false;
        let dirty = runs(found);
        dirty.into_iter().map(|run| range.start + run.start..range.start + run.end).collect()
    }

    /// The regions of a block.
    pub(crate) fn range_of(&self, block: usize) -> Range<usize> {
        range_of(block, self.regions())
    }
}

/// Runs of ones.
fn runs(bits: &BitSlice<u64, Lsb0>) -> Vec<Range<usize>> {
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Some(zeroes) = bits[at..].first_one() {
        let start = at + zeroes;
        at = start + bits[start..].leading_ones();
        runs.push(start..at);
    }
    runs
}

fn range_of(block: usize, regions: usize) -> Range<usize> {
    block * PER_BLOCK..regions.min((block + 1) * PER_BLOCK)
}

/// Blocks begin at whole words.
fn words_of(regions: &Range<usize>) -> Range<usize> {
    regions.start / 64..regions.end.div_ceil(64)
}

fn blocks_of(regions: &Range<usize>) -> Range<usize> {
    if regions.is_empty() {
        return 0..0;
    }
    regions.start / PER_BLOCK..(regions.end - 1) / PER_BLOCK + 1
}

const PER_BLOCK: usize = REGIONS_PER_BLOCK as usize;
