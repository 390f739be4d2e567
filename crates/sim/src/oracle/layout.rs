//! All sectors of all devices in one row, so that a table over them is one array.

use std::ops::Range;

use blk::{DevNr, Sector, Sectors};

/// The devices of the group, numbered from 0, one behind the other.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where each device starts; one more for the end of the last.
    starts: Vec<usize>,
}

impl Layout {
    /// Devices of these sizes, numbered from 0.
    #[must_use]
    pub fn new(sizes: &[Sectors]) -> Self {
        let mut starts = vec![0];
        for size in sizes {
            let end = starts.last().expect("starts with one") + number(size.0);
            starts.push(end);
        }
        Self { starts }
    }

    /// Sectors of all devices together.
    #[must_use]
    pub fn total(&self) -> usize {
        *self.starts.last().expect("starts with one")
    }

    /// Device numbers.
    pub fn devices(&self) -> impl Iterator<Item = DevNr> + use<> {
        (0..self.starts.len() - 1).map(|dev| DevNr(u32::try_from(dev).expect("few devices")))
    }

    /// Size of a device.
    #[must_use]
    pub fn size(&self, dev: DevNr) -> Sectors {
        Sectors(self.device(dev).len() as u64)
    }

    /// The row's indices of a device.
    #[must_use]
    pub fn device(&self, dev: DevNr) -> Range<usize> {
        let dev = number(u64::from(dev.0));
        self.starts[dev]..self.starts[dev + 1]
    }

    /// The row's indices of a range of a device; `None` if it is not inside the device.
    #[must_use]
    pub fn range(&self, dev: DevNr, sector: Sector, len: Sectors) -> Option<Range<usize>> {
        let device = self.device(dev);
        let start = device.start.checked_add(usize::try_from(sector.0).ok()?)?;
        let end = start.checked_add(usize::try_from(len.0).ok()?)?;
        (end <= device.end).then_some(start..end)
    }

    /// Device and sector behind an index of the row.
    #[must_use]
    pub fn place(&self, at: usize) -> Place {
        let dev = self.starts.partition_point(|&start| start <= at) - 1;
        let sector = Sector((at - self.starts[dev]) as u64);
        Place { dev: DevNr(u32::try_from(dev).expect("few devices")), sector }
    }
}

/// A sector of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub dev: DevNr,
    /// Its sector.
    pub sector: Sector,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sector {} of device {}", self.sector, self.dev)
    }
}

fn number(value: u64) -> usize {
    usize::try_from(value).expect("a simulated device fits in memory")
}
