//! What dm-log-writes has recorded: every write to a disk, in the order in which they ended.
//!
//! The kernel adds a write when it has been flushed, or had FUA, so any number of entries from the
//! beginning is what a power cut could have left. The format is that of the kernel's
//! drivers/md/dm-log-writes.c: a superblock, then entries, each in a sector, its data behind it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const SECTOR: u64 = 512;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
const ENTRY_BYTES: usize = 32;

/// A record of writes, and the place of the next one to be read.
pub(crate) struct Writes {
    file: File,
    sector_bytes: u64,
    at: u64,
    left: u64,
}

/// One entry: what was written, where, in sectors of 512 bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Write { sector: u64, bytes: Vec<u8> },
    Discard { sector: u64, count: u64 },
    Mark(String),
}

impl Writes {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0).context("reading the superblock")?;
        let [magic, version, left] = words(&head);
        ensure!(magic == MAGIC, "expected a superblock of dm-log-writes, found {magic:#x}");
        ensure!(version == VERSION, "expected version {VERSION}, found {version}");
        let size = head[24..].try_into().expect("four bytes");
        let sector_bytes = u64::from(u32::from_le_bytes(size));
        ensure!(
            sector_bytes >= SECTOR && sector_bytes.is_power_of_two(),
            "expected a size of sectors, found {sector_bytes}"
        );
        Ok(Self { file, sector_bytes, at: sector_bytes, left })
    }

    /// Entries that are still to be read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut head = vec![0; self.sector_bytes as usize];
        self.file.read_exact_at(&mut head, self.at).context("reading an entry")?;
        self.at += self.sector_bytes;
        let [sector, count, flags, length] = words(&head);
        let (sector, bytes) = (sector * (self.sector_bytes / SECTOR), count * self.sector_bytes);
        if flags & MARK != 0 {
            let text = head.get(ENTRY_BYTES..ENTRY_BYTES + length as usize);
            let text = text.context("a mark that is longer than its sector")?;
            let text = String::from_utf8_lossy(text);
            return Ok(Some(Entry::Mark(text.trim_end_matches('\0').to_owned())));
        }
        if flags & DISCARD != 0 {
            return Ok(Some(Entry::Discard { sector, count: bytes / SECTOR }));
        }
        ensure!(bytes <= 64 << 20, "expected an entry, found one of {bytes} bytes");
        let mut data = vec![0; bytes as usize];
        self.file.read_exact_at(&mut data, self.at).context("reading what was written")?;
        self.at += bytes;
        Ok(Some(Entry::Write { sector, bytes: data }))
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|n| {
        let word = bytes[8 * n..8 * n + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(word)
    })
}

/// A file that has what was written to a part of the disk.
pub(crate) struct Part {
    file: File,
    start: u64,
    sectors: u64,
}

/// `FILE:START:SECTORS`.
#[derive(Clone, Debug)]
pub(crate) struct PartName {
    path: PathBuf,
    start: u64,
    sectors: u64,
}

impl std::str::FromStr for PartName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let [path, start, sectors] = text.split(':').collect::<Vec<_>>()[..] else {
            bail!("expected FILE:START:SECTORS, found {text}");
        };
        Ok(Self { path: path.into(), start: start.parse()?, sectors: sectors.parse()? })
    }
}

impl Part {
    /// Makes the file, of zeroes.
    pub(crate) fn create(name: &PartName) -> Result<Self> {
        let file = File::create(&name.path).with_context(|| name.path.display().to_string())?;
        file.set_len(name.sectors * SECTOR)?;
        Ok(Self { file, start: name.start, sectors: name.sectors })
    }

    /// Writes what of an entry is in this part.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<()> {
        let (sector, count) = match *entry {
            Entry::Write { sector, ref bytes } => (sector, bytes.len() as u64 / SECTOR),
            Entry::Discard { sector, count } => (sector, count),
            Entry::Mark(_) => return Ok(()),
        };
        let from = sector.max(self.start);
        let end = (sector + count).min(self.start + self.sectors);
        if from >= end {
            return Ok(());
        }
        let zeroes;
        let bytes = match entry {
            Entry::Write { bytes, .. } => {
                &bytes[((from - sector) * SECTOR) as usize..((end - sector) * SECTOR) as usize]
            }
            _ => {
                zeroes = vec![0; ((end - from) * SECTOR) as usize];
                &zeroes
            }
        };
        Ok(self.file.write_all_at(bytes, (from - self.start) * SECTOR)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sector(words: &[u64], more: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(more);
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    /// A flush, a write of two sectors, a mark, a discard, as the kernel records them.
    fn record() -> Vec<u8> {
        let mut record = sector(&[MAGIC, VERSION, 4], &512_u32.to_le_bytes());
        record.extend(sector(&[0, 0, 1, 0], &[]));
        record.extend(sector(&[10, 2, 2, 0], &[]));
        record.extend([1; 512]);
        record.extend([2; 512]);
        record.extend(sector(&[0, 0, MARK, 7], b"said 42"));
        record.extend(sector(&[11, 1, DISCARD, 0], &[]));
        record
    }

    #[test]
    fn a_record_is_read_as_the_kernel_wrote_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("writes");
        fs::write(&path, record()).unwrap();
        let mut writes = Writes::open(&path).unwrap();
        let flush = Entry::Write { sector: 0, bytes: Vec::new() };
        let bytes = [[1; 512], [2; 512]].concat();
        assert_eq!(writes.next().unwrap(), Some(flush));
        assert_eq!(writes.next().unwrap(), Some(Entry::Write { sector: 10, bytes }));
        assert_eq!(writes.next().unwrap(), Some(Entry::Mark("said 42".to_owned())));
        assert_eq!(writes.next().unwrap(), Some(Entry::Discard { sector: 11, count: 1 }));
        assert_eq!(writes.next().unwrap(), None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("writes");
        fs::write(&path, [1; 512]).unwrap();
        assert!(Writes::open(&path).is_err());
    }

    #[test]
    fn a_part_gets_what_is_in_it() {
        let home = tempfile::tempdir().unwrap();
        let name = format!("{}:11:4", home.path().join("part").display());
        let part = Part::create(&name.parse().unwrap()).unwrap();
        let bytes = [[1; 512], [2; 512], [3; 512]].concat();
        part.apply(&Entry::Write { sector: 10, bytes }).unwrap();
        part.apply(&Entry::Write { sector: 14, bytes: vec![4; 1024] }).unwrap();
        part.apply(&Entry::Write { sector: 20, bytes: vec![9; 512] }).unwrap();
        part.apply(&Entry::Discard { sector: 0, count: 12 }).unwrap();
        let image = fs::read(home.path().join("part")).unwrap();
        let sectors: Vec<u8> = image.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!(sectors, [0, 3, 0, 4]);
    }
}
