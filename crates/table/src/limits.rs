//! The most and the least a table may ask for, each with its reason (I10).

use blk::Sectors;

/// The longest table text, in bytes. A group at all its limits, with paths of
/// a sane length, is a tenth of it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// The longest device name, in bytes: device-mapper has room for 128 with the
/// terminating zero.
pub const NAME_BYTES_MAX: usize = 127;

/// The longest UUID of the concise form, in bytes: as long as device-mapper's.
pub const UUID_BYTES_MAX: usize = 128;

/// The longest path, in bytes: Linux's `PATH_MAX` without the terminating zero.
pub const PATH_BYTES_MAX: usize = 4095;

/// The most site links of one replicator, the local one included: the set of
/// sites a write still waits for is one 32-bit word.
pub const SITES_MAX: usize = 32;

/// The most devices of one replicator: all of them are served by one thread.
pub const DEVICES_MAX: usize = 64;

/// The most legs of one replicator, over all its devices: each is a file
/// descriptor, a queue and a line of the log's roster.
pub const LEGS_MAX: usize = 512;

/// The highest device number: a C `int`, as in 2009.
pub const DEV_NR_MAX: u32 = i32::MAX as u32;

/// The longest device or offset: the kernel counts bytes of a device in a
/// signed 64-bit number.
pub const SECTORS_MAX: Sectors = Sectors((1 << 54) - 1);

/// The smallest log, as in 2009: two I/Os of the largest size, 1 MiB each.
pub const LOG_SECTORS_MIN: Sectors = Sectors(4096);

/// The smallest RAM tail: one I/O of the largest size.
pub const TAIL_BYTES_MIN: u64 = 1 << 20;

/// The largest RAM tail; it is allocated and locked at start.
pub const TAIL_BYTES_MAX: u64 = 64 << 30;

/// The smallest region of a dirty log: 4 KiB, the log's block. The 2009 code
/// wanted 1 MiB at least, as it split all I/O at region borders; nothing is
/// split here, and a small region is what makes a resync short.
pub const REGION_SECTORS_MIN: Sectors = Sectors(8);

/// The most regions of one leg: 32 MiB of bits.
pub const REGIONS_MAX: u64 = 1 << 28;

/// The shortest deadline of a backing I/O, in milliseconds: below it a healthy
/// flash device would be called hung.
pub const TIMEOUT_IO_MS_MIN: u64 = 10;

/// The longest deadline of a backing I/O, in milliseconds: an hour. A device
/// that was silent for so long is down, whatever the table says.
pub const TIMEOUT_IO_MS_MAX: u64 = 3_600_000;
