//! Real disks for tests: files, and loop devices over them where losetup works.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blk::{BufMut, DiskId, DiskOp, Errno, Event, Gather, IoId, IoOwner, Sector, Sectors, Span};
use tempfile::TempDir;
use uring::{Disk, OpenSpec, Reaped, Ring, RingSpec};

/// One disk of each kind that this machine has.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    // Dropped in this order: the loop device before the file behind it.
    _loop: Option<LoopDevice>,
    _directory: TempDir,
}

/// A loop device that goes away with its owner.
pub(crate) struct LoopDevice(pub(crate) PathBuf);

/// A ring with one disk, on which I/O is waited for.
pub(crate) struct OneDisk {
    pub(crate) ring: Ring,
    /// Sectors in a logical block.
    pub(crate) block: u64,
    next: u64,
}

pub(crate) type Ended = (Result<(), Errno>, Option<BufMut>);

impl Fixture {
    /// A file with direct I/O, a file without, and loop devices with small and
    /// large blocks. What this machine has not is left out, and said.
    pub(crate) fn all(size: Sectors) -> Vec<Self> {
        let mut found = vec![Self::file("file", None, size)];
        if Path::new("/dev/shm").is_dir() {
            found.push(Self::file("file on tmpfs", Some("/dev/shm"), size));
        } else {
            println!("left out: a file on tmpfs: there is no /dev/shm");
        }
        for (name, block) in [("loop device, 512", 512), ("loop device, 4096", 4096)] {
            match Self::loop_device(name, block, size) {
                Ok(fixture) => found.push(fixture),
                Err(why) => println!("left out: {name}: {why}"),
            }
        }
        found
    }

    pub(crate) fn file(name: &'static str, parent: Option<&str>, size: Sectors) -> Self {
        let directory = directory(parent);
        let path = directory.path().join("disk");
        make_file(&path, size);
        Self { name, path, _loop: None, _directory: directory }
    }

    pub(crate) fn loop_device(
        name: &'static str,
        block: u32,
        size: Sectors,
    ) -> Result<Self, String> {
        let directory = directory(None);
        let file = directory.path().join("disk");
        make_file(&file, size);
        let device = LoopDevice::over(&file, &["--sector-size", &block.to_string()])?;
        let path = device.0.clone();
        Ok(Self { name, path, _loop: Some(device), _directory: directory })
    }

    pub(crate) fn open(&self) -> Disk {
        Disk::open(&self.path, &OpenSpec::default()).unwrap()
    }
}

impl LoopDevice {
    pub(crate) fn over(file: &Path, options: &[&str]) -> Result<Self, String> {
        let output = Command::new("losetup")
            .args(["--show", "-f", "--direct-io=on"])
            .args(options)
            .arg(file)
            .output()
            .map_err(|error| format!("losetup: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Self(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

impl OneDisk {
    pub(crate) fn new(disk: Disk) -> Self {
        Self::on_ring(RingSpec::default(), disk)
    }

    pub(crate) fn on_ring(spec: RingSpec, disk: Disk) -> Self {
        let block = u64::from(disk.facts().logical_block) / 512;
        let mut ring = Ring::new(spec).unwrap();
        ring.add_disk(DISK, Arc::new(disk));
        Self { ring, block, next: 0 }
    }

    /// Carries one operation out, to its end.
    pub(crate) fn run(&mut self, op: DiskOp) -> Ended {
        let io = self.submit(op);
        let mut ended = self.wait(1);
        let (id, result, buf) = ended.pop().unwrap();
        assert_eq!(id, io);
        (result, buf)
    }

    pub(crate) fn submit(&mut self, op: DiskOp) -> IoId {
        self.next += 1;
        let io = IoId { owner: IoOwner(1), nr: self.next };
        self.ring.submit(io, DISK, op);
        io
    }

    /// Waits until `count` I/Os have ended, and no longer than anything here may take.
    pub(crate) fn wait(&mut self, count: usize) -> Vec<(IoId, Result<(), Errno>, Option<BufMut>)> {
        let began = Instant::now();
        let (mut reaped, mut ended) = (Vec::new(), Vec::new());
        while ended.len() < count {
            assert!(began.elapsed() < Duration::from_secs(60), "{} of {count}", ended.len());
            self.ring.submit_and_wait(Some(Span::from_secs(1))).unwrap();
            self.ring.reap(&mut reaped);
            for reaped in reaped.drain(..) {
                let Reaped::Done(Event::Done { io, result, buf }) = reaped else {
                    panic!("unexpected {reaped:?}")
                };
                ended.push((io, result, buf));
            }
        }
        ended
    }

    pub(crate) fn write(&mut self, sector: u64, data: Gather) {
        self.run(DiskOp::Write { sector: Sector(sector), data, fua: false }).0.unwrap();
    }

    pub(crate) fn read(&mut self, sector: u64, len: u64) -> Vec<u8> {
        let buf = BufMut::zeroed(Sectors(len).len());
        let (result, buf) = self.run(DiskOp::Read { sector: Sector(sector), buf });
        result.unwrap();
        buf.unwrap().to_vec()
    }
}

/// Bytes that no two sectors share.
pub(crate) fn pattern(sectors: u64, seed: u64) -> Vec<u8> {
    (0..sectors).flat_map(|i| (seed << 32 | i).to_le_bytes().repeat(64)).collect()
}

pub(crate) fn gather(bytes: &[u8]) -> Gather {
    Gather::from_elem(bytes.into(), 1)
}

/// In the build's own directory: there direct I/O works wherever a build does,
/// while the system's temporary directory may be a tmpfs.
fn directory(parent: Option<&str>) -> TempDir {
    TempDir::new_in(parent.unwrap_or(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

fn make_file(path: &Path, size: Sectors) {
    let file = std::fs::File::create_new(path).unwrap();
    file.set_len(size.bytes()).unwrap();
}

pub(crate) const DISK: DiskId = DiskId(3);
