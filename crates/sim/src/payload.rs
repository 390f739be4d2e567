//! What is written: sectors that say themselves who wrote them and where they belong.
//!
//! ```text
//! word  0        1                      2        3..64
//!       magic    device << 32 | content sector   filler, derived from all of these
//! ```
//!
//! So one look at 512 bytes tells a whole sector from a torn, a garbled and a
//! misdirected one, whichever disk it is found on, the log included.

#![allow(
    missing_docs,
    reason = "every variant is documented; its fields say the rest by name and type"
)]

use blk::{DevNr, SECTOR_BYTES, Sector};

use crate::cell::Cell;
use crate::rng::splitmix;

/// What one write put into all its sectors; its number, or [`Content::ZEROES`].
///
/// A write that the front end issues again after a crash carries the same content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(pub u32);

/// What one look at a sector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All zeroes.
    Zeroes,
    /// A whole sector of a write, meant for this place.
    Tagged { content: Content, dev: DevNr, sector: Sector },
    /// A sector of a write with other bytes mixed in.
    Torn,
    /// Nothing that any write wrote.
    Foreign,
}

impl Content {
    /// Zeroes: never written, discarded or zeroed.
    pub const ZEROES: Self = Self(0);

    /// What the disks of a site hold before it joins: of no write.
    ///
    /// # Panics
    /// If there are that many sites.
    #[must_use]
    pub fn initial(site: usize) -> Self {
        Self(FIRST_INITIAL + u32::try_from(site).expect("few sites"))
    }

    /// Whether it is what disks held before their site joined.
    #[must_use]
    pub fn is_initial(self) -> bool {
        self.0 >= FIRST_INITIAL
    }
}

impl Cell for Content {
    fn zeroes() -> Self {
        Self::ZEROES
    }
}

/// Fills `bytes` with what `content` has for the sectors of `dev` from `sector` on.
///
/// # Panics
/// If `bytes` are not whole sectors.
pub fn fill(bytes: &mut [u8], dev: DevNr, sector: Sector, content: Content) {
    assert!(bytes.len().is_multiple_of(SECTOR_BYTES), "a payload has whole sectors");
    for (sector, cell) in (sector.0..).zip(bytes.chunks_exact_mut(SECTOR_BYTES)) {
        if content == Content::ZEROES {
            cell.fill(0);
        } else {
            write_words(cell, dev, Sector(sector), content);
        }
    }
}

/// Looks at one sector.
#[must_use]
pub fn decode(cell: &[u8]) -> Decoded {
    if word(cell, 0) != MAGIC {
        let zeroes = cell.iter().all(|&byte| byte == 0);
        return if zeroes { Decoded::Zeroes } else { Decoded::Foreign };
    }
    let (who, sector) = (word(cell, 1), Sector(word(cell, 2)));
    let mut filler = Filler::new(who, sector);
    if (3..WORDS).any(|at| word(cell, at) != filler.next(at)) {
        return Decoded::Torn;
    }
    let [content, dev] = halves(who);
    Decoded::Tagged { content: Content(content), dev: DevNr(dev), sector }
}

fn write_words(cell: &mut [u8], dev: DevNr, sector: Sector, content: Content) {
    let who = u64::from(dev.0) << 32 | u64::from(content.0);
    let mut filler = Filler::new(who, sector);
    for (at, slot) in cell.chunks_exact_mut(8).enumerate() {
        let value = match at {
            0 => MAGIC,
            1 => who,
            2 => sector.0,
            _ => filler.next(at),
        };
        slot.copy_from_slice(&value.to_le_bytes());
    }
}

fn word(cell: &[u8], at: usize) -> u64 {
    let bytes = cell[at * 8..at * 8 + 8].try_into().expect("eight bytes make a word");
    u64::from_le_bytes(bytes)
}

fn halves(word: u64) -> [u32; 2] {
    [word, word >> 32].map(|half| u32::try_from(half & 0xffff_ffff).expect("masked to 32 bits"))
}

/// Words that depend on the identity in every bit, one multiplication each.
struct Filler {
    base: u64,
}

impl Filler {
    fn new(who: u64, sector: Sector) -> Self {
        let mut state = who ^ sector.0.rotate_left(17);
        Self { base: splitmix(&mut state) }
    }

    fn next(&mut self, at: usize) -> u64 {
        (self.base ^ at as u64).wrapping_mul(0xff51_afd7_ed55_8ccd)
    }
}

/// No run has as many writes.
const FIRST_INITIAL: u32 = 0xffff_0000;
/// "simulate", read as a number.
const MAGIC: u64 = u64::from_le_bytes(*b"simulate");
const WORDS: usize = SECTOR_BYTES / 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn two_sectors() -> [u8; 1024] {
        let mut bytes = [0; 1024];
        fill(&mut bytes, DevNr(3), Sector(40), Content(7));
        bytes
    }

    #[test]
    fn a_sector_says_who_wrote_it_and_where_it_belongs() {
        let bytes = two_sectors();
        let expected =
            |sector| Decoded::Tagged { content: Content(7), dev: DevNr(3), sector: Sector(sector) };
        assert_eq!(decode(&bytes[..512]), expected(40));
        assert_eq!(decode(&bytes[512..]), expected(41));
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let whole = two_sectors();
        for bit in 0..512 * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let seen = decode(&bytes[..512]);
            assert!(!matches!(seen, Decoded::Tagged { .. } | Decoded::Zeroes), "bit {bit}");
        }
    }

    #[test]
    fn any_tear_between_two_writes_is_seen() {
        let (mut old, new) = ([0; 512], two_sectors());
        fill(&mut old, DevNr(3), Sector(40), Content(6));
        for at in (8..512).step_by(8) {
            let mut torn = old;
            torn[..at].copy_from_slice(&new[..at]);
            let seen = decode(&torn);
            // The first word is the same in every payload: a tear behind it changes nothing.
            let untouched = torn == old;
            assert!(untouched || seen == Decoded::Torn, "torn at {at}: {seen:?}");
        }
    }
}
