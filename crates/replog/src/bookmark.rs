//! Bookmarks: a text between two writes, which sites are shipped past in order.

use blk::{BLOCK_BYTES, DevNr, SECTOR_BYTES, Sector, Sectors, Seq};

use crate::format::crc::crc32c;
use crate::format::group::{Entry, EntryOp};
use crate::log::{Change, Refusal, Replog};

/// The last bookmark that was set since the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// Its number, as if it were a write.
    pub seq: Seq,
    /// What it says.
    pub text: String,
}

impl Replog {
    /// Sets a bookmark behind everything that was taken, or says why not now. `dev` is any
    /// device: it is nobody's write.
    ///
    /// # Panics
    /// If the text has more than [`BOOKMARK_BYTES_MAX`] bytes.
    pub fn bookmark(&mut self, dev: DevNr, text: &str) -> Result<Seq, Refusal> {
        assert!(text.len() <= BOOKMARK_BYTES_MAX, "a bookmark's text fits its sector");
        if self.takes_nothing() {
            return Err(Refusal::LogFailed);
        }
        let change = Change::new(dev, EntryOp::Bookmark, Sector(0), Sectors(0), false);
        let taken = self.open.as_ref().map_or(0, crate::commit::OpenGroup::len);
        let seq = Seq(self.index.next_seq().0 + taken);
        let mut buf = self.take_for(&change, SECTOR_BYTES as u64)?;
        buf.fill(0);
        buf[..text.len()].copy_from_slice(text.as_bytes());
        let crc = crc32c(&buf);
        self.add_filled(&change, crc, buf.freeze());
        self.counters.writes += 1;
        self.bookmark = Some(Bookmark { seq, text: text.to_owned() });
        Ok(seq)
    }

    /// The last bookmark since the log was opened.
    #[must_use]
    pub fn last_bookmark(&self) -> Option<&Bookmark> {
        self.bookmark.as_ref()
    }
}

/// What an entry of a group says, if it is a bookmark with a text: `group` is all of its group.
#[must_use]
pub fn text(entry: &Entry, group: &[u8]) -> Option<String> {
    let range = entry.payload_range().filter(|_| entry.op == EntryOp::Bookmark)?;
    let bytes = group.get(range)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    Some(String::from_utf8_lossy(&bytes[..end]).chars().map(shown).collect())
}

/// The longest text: a sector's.
pub const BOOKMARK_BYTES_MAX: usize = SECTOR_BYTES;

const _: () = assert!(BOOKMARK_BYTES_MAX <= BLOCK_BYTES);
