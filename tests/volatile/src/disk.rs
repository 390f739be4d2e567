//! A disk with a volatile write cache: what was not flushed is there to be read, and may be lost.
//!
//! Whatever is written stays in the cache, sector by sector and version by version, until a flush
//! or a write with FUA puts it on the media, a file. A power cut may leave any version of a sector
//! that the cache had since: a disk writes back what it likes, when it likes. So a write may be
//! torn, and a newer one may be there where an older one is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::seed::Seed;

/// Bytes that are written whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// Versions of one sector that the cache can tell apart; of more, the oldest is forgotten.
const VERSIONS_MAX: usize = 4;

pub(crate) struct Disk {
    media: File,
    sectors: u64,
    cached: BTreeMap<u64, Vec<Version>>,
    honest: bool,
}

/// What a sector held after one write.
struct Version {
    /// The write's place in the order of all writes to all disks.
    at: u64,
    bytes: Box<[u8]>,
}

/// What a power cut does to the cache of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// All of it had been written back.
    Kept,
    /// None of it had.
    Lost,
    /// Of each eight sectors so many were lost, here and there.
    Scattered(u64),
    /// What was written later than that was not there yet.
    Before(u64),
}

/// How much of a cache a cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) lost: usize,
    pub(crate) cached: usize,
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let context = || path.display().to_string();
        let media = File::options().read(true).write(true).open(path).with_context(context)?;
        let bytes = media.metadata().with_context(context)?.len();
        ensure!(
            bytes.is_multiple_of(SECTOR as u64),
            "{}: expected whole sectors, found {bytes} bytes",
            path.display()
        );
        let sectors = bytes / SECTOR as u64;
        Ok(Self { media, sectors, cached: BTreeMap::new(), honest: true })
    }

    /// From now on a flush ends and does nothing.
    pub(crate) fn lie(&mut self) {
        self.honest = false;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sectors * SECTOR as u64
    }

    pub(crate) fn read(&self, sector: u64, bytes: &mut [u8]) -> Result<()> {
        self.media.read_exact_at(bytes, sector * SECTOR as u64).context("reading the media")?;
        let end = sector + (bytes.len() / SECTOR) as u64;
        for (&at, versions) in self.cached.range(sector..end) {
            let newest = versions.last().expect("a cached sector has a version");
            let from = (at - sector) as usize * SECTOR;
            bytes[from..from + SECTOR].copy_from_slice(&newest.bytes);
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, at: u64, sector: u64, bytes: &[u8]) {
        for (sector, bytes) in (sector..).zip(bytes.chunks_exact(SECTOR)) {
            let versions = self.cached.entry(sector).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(Version { at, bytes: bytes.into() });
        }
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.flush_range(0, self.sectors)
    }

    /// Puts the newest versions of these sectors on the media.
    pub(crate) fn flush_range(&mut self, sector: u64, count: u64) -> Result<()> {
        if !self.honest {
            return Ok(());
        }
        let mut after = self.cached.split_off(&sector);
        let mut beyond = after.split_off(&(sector + count));
        for (sector, versions) in after {
            let newest = versions.last().expect("a cached sector has a version");
            write_media(&self.media, sector, &newest.bytes)?;
        }
        self.cached.append(&mut beyond);
        Ok(())
    }

    /// The power is cut: the media are what they happen to be then, and nothing is in the cache.
    pub(crate) fn cut(&mut self, fate: Fate, seed: &mut Seed) -> Result<Loss> {
        let cached = std::mem::take(&mut self.cached);
        let mut loss = Loss { lost: 0, cached: cached.len() };
        for (sector, versions) in cached {
            // How many of its versions had come by on the media; 0 leaves what was flushed last.
            let written = match fate {
                Fate::Kept => versions.len(),
                Fate::Lost => 0,
                Fate::Scattered(of_eight) if seed.below(8) < of_eight => {
                    seed.below(versions.len() as u64) as usize
                }
                Fate::Scattered(_) => versions.len(),
                Fate::Before(end) => versions.iter().filter(|version| version.at < end).count(),
            };
            loss.lost += usize::from(written < versions.len());
            if let Some(version) = versions[..written].last() {
                write_media(&self.media, sector, &version.bytes)?;
            }
        }
        Ok(loss)
    }

    /// The places, in the order of all writes, of the oldest and the newest that is in the cache.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let places = || self.cached.values().flatten().map(|version| version.at);
        Some((places().min()?, places().max()?))
    }
}

fn write_media(media: &File, sector: u64, bytes: &[u8]) -> Result<()> {
    media.write_all_at(bytes, sector * SECTOR as u64).context("writing the media")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const SECTORS: u64 = 64;

    fn disk() -> (TempDir, Disk) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("media");
        fs::write(&path, vec![0; SECTORS as usize * SECTOR]).unwrap();
        let disk = Disk::open(&path).unwrap();
        (home, disk)
    }

    fn media(home: &TempDir) -> Vec<u8> {
        let image = fs::read(home.path().join("media")).unwrap();
        image.chunks_exact(SECTOR).map(|sector| sector[0]).collect()
    }

    fn filled(byte: u8, sectors: usize) -> Vec<u8> {
        vec![byte; sectors * SECTOR]
    }

    #[test]
    fn what_was_written_is_read_whether_it_was_flushed_or_not() {
        let (_home, mut disk) = disk();
        disk.write(0, 10, &filled(1, 4));
        disk.flush().unwrap();
        disk.write(1, 12, &filled(2, 4));
        let mut read = filled(9, 8);
        disk.read(9, &mut read).unwrap();
        let seen: Vec<u8> = read.chunks_exact(SECTOR).map(|sector| sector[0]).collect();
        assert_eq!(seen, [0, 1, 1, 2, 2, 2, 2, 0]);
    }

    #[test]
    fn when_all_is_lost_exactly_what_was_flushed_is_there() {
        let (home, mut disk) = disk();
        disk.write(0, 0, &filled(1, 8));
        disk.flush().unwrap();
        disk.write(1, 4, &filled(2, 8));
        let loss = disk.cut(Fate::Lost, &mut Seed::new(0)).unwrap();
        assert_eq!(loss, Loss { lost: 8, cached: 8 });
        let mut expected = vec![0; SECTORS as usize];
        expected[..8].fill(1);
        assert_eq!(media(&home), expected);
    }

    #[test]
    fn a_range_that_was_flushed_survives_and_what_is_beside_it_does_not() {
        let (home, mut disk) = disk();
        disk.write(0, 0, &filled(1, 12));
        disk.flush_range(4, 4).unwrap();
        disk.cut(Fate::Lost, &mut Seed::new(0)).unwrap();
        assert_eq!(media(&home)[..12], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_write_is_torn_and_an_older_version_of_a_sector_comes_by() {
        let mut seen = [0; 3];
        for seed in 0..50 {
            let (home, mut disk) = disk();
            disk.write(0, 0, &filled(1, 8));
            disk.write(1, 0, &filled(2, 8));
            disk.cut(Fate::Scattered(4), &mut Seed::new(seed)).unwrap();
            for byte in &media(&home)[..8] {
                seen[usize::from(*byte)] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn a_cut_at_a_place_in_the_order_leaves_what_was_written_before() {
        let (home, mut disk) = disk();
        disk.write(7, 0, &filled(1, 4));
        disk.write(8, 2, &filled(2, 4));
        assert_eq!(disk.span(), Some((7, 8)));
        disk.cut(Fate::Before(8), &mut Seed::new(0)).unwrap();
        assert_eq!(media(&home)[..6], [1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_disk_that_lies_loses_what_was_flushed() {
        let (home, mut disk) = disk();
        disk.lie();
        disk.write(0, 0, &filled(1, 4));
        disk.flush().unwrap();
        disk.cut(Fate::Lost, &mut Seed::new(0)).unwrap();
        assert_eq!(media(&home)[..4], [0; 4]);
    }

    #[test]
    fn what_was_cut_is_the_same_again_with_the_same_seed() {
        let image = |seed| {
            let (home, mut disk) = disk();
            disk.write(0, 0, &filled(1, SECTORS as usize));
            disk.cut(Fate::Scattered(4), &mut Seed::new(seed)).unwrap();
            media(&home)
        };
        assert_eq!(image(3), image(3));
        assert_ne!(image(3), image(4));
    }
}
