//! What the driver's request descriptors mean, and what its answers look like.

use blk::{Errno, Op, Sector, Sectors};
use libublk::sys;

/// Decodes one descriptor.
///
/// # Errors
/// `EOPNOTSUPP` for an operation that a device of ours never advertised.
pub(crate) fn decode(desc: &sys::ublksrv_io_desc) -> Result<Op, Errno> {
    let sector = Sector(desc.start_sector);
    let len = Sectors(u64::from(desc.nr_sectors));
    let has = |flag: u32| desc.op_flags & flag != 0;
    let fua = has(sys::UBLK_IO_F_FUA);
    match desc.op_flags & OPERATION_MASK {
        sys::UBLK_IO_OP_READ => Ok(Op::Read { sector, len }),
        sys::UBLK_IO_OP_WRITE => Ok(Op::Write { sector, len, fua }),
        // Its sector is meaningless (all ones); nothing may be computed from it.
        sys::UBLK_IO_OP_FLUSH => Ok(Op::Flush),
        sys::UBLK_IO_OP_DISCARD => Ok(Op::Discard { sector, len }),
        sys::UBLK_IO_OP_WRITE_ZEROES => {
            Ok(Op::WriteZeroes { sector, len, unmap: !has(sys::UBLK_IO_F_NOUNMAP), fua })
        }
        _ => Err(Errno(libc::EOPNOTSUPP)),
    }
}

/// The answer to a request: bytes moved, or a negative errno.
pub(crate) fn answer(op: &Op, result: Result<(), Errno>) -> i32 {
    match (result, op) {
        // EAGAIN would reach the application as an error of its own kind, and no
        // block device says it.
        (Err(Errno(libc::EAGAIN)), _) => -Errno::EIO.0,
        (Err(Errno(errno)), _) => -errno.abs().max(1),
        (Ok(()), Op::Read { len, .. } | Op::Write { len, .. }) => {
            i32::try_from(len.bytes()).expect("a request is at most 32 MiB")
        }
        (Ok(()), Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. }) => 0,
    }
}

const OPERATION_MASK: u32 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(op_flags: u32, start_sector: u64, nr_sectors: u32) -> sys::ublksrv_io_desc {
        sys::ublksrv_io_desc { op_flags, nr_sectors, start_sector, addr: 0 }
    }

    #[test]
    fn every_operation_that_is_advertised_is_understood() {
        let (sector, len) = (Sector(8), Sectors(16));
        let cases = [
            (0x0, Op::Read { sector, len }),
            (0x1, Op::Write { sector, len, fua: false }),
            (0x2001, Op::Write { sector, len, fua: true }),
            (0x3, Op::Discard { sector, len }),
            (0x5, Op::WriteZeroes { sector, len, unmap: true, fua: false }),
            (0x8005, Op::WriteZeroes { sector, len, unmap: false, fua: false }),
            (0xa005, Op::WriteZeroes { sector, len, unmap: false, fua: true }),
        ];
        for (flags, op) in cases {
            assert_eq!(decode(&desc(flags, 8, 16)), Ok(op), "{flags:#x}");
        }
    }

    #[test]
    fn hints_of_the_block_layer_change_nothing() {
        let swap_meta_failfast = 0x1_0f00;
        let op = Op::Write { sector: Sector(0), len: Sectors(8), fua: false };
        assert_eq!(decode(&desc(0x1 | swap_meta_failfast, 0, 8)), Ok(op));
    }

    #[test]
    fn a_flush_has_no_sector_to_go_wrong_with() {
        assert_eq!(decode(&desc(0x2, u64::MAX, 0)), Ok(Op::Flush));
    }

    #[test]
    fn zoned_operations_and_those_to_come_are_refused() {
        for op in [4, 10, 15, 18, 0xff] {
            assert_eq!(decode(&desc(op, 0, 8)), Err(Errno(libc::EOPNOTSUPP)));
        }
    }

    #[test]
    fn no_failure_is_answered_with_eagain_or_with_success() {
        let op = Op::Flush;
        assert_eq!(answer(&op, Err(Errno(libc::EAGAIN))), -libc::EIO);
        assert_eq!(answer(&op, Err(Errno(libc::ENOSPC))), -libc::ENOSPC);
        assert!(answer(&op, Err(Errno(0))) < 0);
    }

    #[test]
    fn reads_and_writes_are_answered_with_their_length() {
        let (sector, len) = (Sector(0), Sectors(8));
        assert_eq!(answer(&Op::Read { sector, len }, Ok(())), 4096);
        assert_eq!(answer(&Op::Write { sector, len, fua: true }, Ok(())), 4096);
        assert_eq!(answer(&Op::Discard { sector, len }, Ok(())), 0);
    }
}
