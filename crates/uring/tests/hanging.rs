//! Disks that hang in the kernel, beside one that doesn't (P5).

#![allow(clippy::unwrap_used, reason = "a test's answer to an error is to fail")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use blk::{DiskId, DiskOp, IoId, IoOwner, Sector, Sectors};
use common::{Fixture, LoopDevice, OneDisk, gather, pattern};
use uring::{Disk, OpenSpec};

/// A file system that can be frozen: what would change it then hangs.
struct Freezer {
    // Thawed, unmounted, and only then taken away.
    mounted: PathBuf,
    _device: LoopDevice,
    _image: Fixture,
}

impl Freezer {
    fn new() -> Result<Self, String> {
        let image = Fixture::file("file", None, Sectors((64 << 20) / 512));
        let device = LoopDevice::over(&image.path, &[])?;
        let mounted = image.path.with_file_name("mounted");
        std::fs::create_dir(&mounted).unwrap();
        run("mkfs.ext4", &[Path::new("-q"), &device.0])?;
        run("mount", &[&device.0, &mounted])?;
        Ok(Self { mounted, _device: device, _image: image })
    }

    fn file(&self, name: &str) -> Disk {
        let path = self.mounted.join(name);
        std::fs::File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
        Disk::open(&path, &OpenSpec::default()).unwrap()
    }

    fn freeze(&self) {
        run("fsfreeze", &[Path::new("-f"), &self.mounted]).unwrap();
    }

    fn thaw(&self) {
        run("fsfreeze", &[Path::new("-u"), &self.mounted]).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &[Path::new("-u"), &self.mounted]);
        // Lazily: a ring that is dropped with I/O in flight keeps its disks open.
        let _ = run("umount", &[Path::new("-l"), &self.mounted]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let said = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(said)
}

#[test]
fn any_number_of_hanging_disks_leaves_a_good_one_its_flush() {
    let freezer = match Freezer::new() {
        Ok(freezer) => freezer,
        Err(why) => return println!("left out: {why}"),
    };
    let good = Fixture::file("file", None, Sectors(2048));
    let mut disk = OneDisk::new(good.open());
    // More than the four workers for each processor that the kernel allows by itself.
    let processors = std::thread::available_parallelism().unwrap().get();
    let hanging = u32::try_from(processors * 4 + 8).unwrap();
    let ids = (0..hanging).map(|nr| DiskId(100 + nr));
    for id in ids.clone() {
        disk.ring.add_disk(id, Arc::new(freezer.file(&id.0.to_string())));
    }
    freezer.freeze();
    for id in ids {
        let io = IoId { owner: IoOwner(2), nr: u64::from(id.0) };
        let (sector, len) = (Sector(0), Sectors(8));
        disk.ring.submit(io, id, DiskOp::WriteZeroes { sector, len, unmap: false, fua: false });
    }
    disk.write(0, gather(&pattern(8, 1)));
    disk.run(DiskOp::Flush).0.unwrap();
    assert_eq!(disk.ring.in_flight(), hanging as usize);

    freezer.thaw();
    let ended = disk.wait(hanging as usize);
    assert!(ended.into_iter().all(|(_, result, _)| result == Ok(())));
    drop(disk);
}
