//! NBD on the wire, as much of it as QEMU and fio speak: the fixed newstyle handshake, simple replies.
//!
//! The names are those of the specification (doc/proto.md of the NetworkBlockDevice project).

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

use crate::disk::SECTOR;
use crate::rig::Request;

const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 2;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;

const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 0x8000_0001;
const REP_ERR_UNKNOWN: u32 = 0x8000_0006;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES. No CAN_MULTI_CONN.
const TRANSMISSION_FLAGS: u16 = 1 | 4 | 8 | 32 | 64;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_TRIM: u16 = 4;
const CMD_WRITE_ZEROES: u16 = 6;
const CMD_FLAG_FUA: u16 = 1;

pub(crate) const EINVAL: u32 = 22;
pub(crate) const EIO: u32 = 5;

const OPTION_MAX: u32 = 4096;
const PAYLOAD_MAX: u32 = 32 << 20;

/// A request with the handle that its reply names; an error number if it can't be done.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) handle: u64,
    pub(crate) request: Result<Request, u32>,
}

/// Until the client has chosen a disk: its number and size, or none if it went away. `find` knows
/// the disks by their names.
pub(crate) fn handshake(
    stream: &mut (impl Read + Write),
    find: impl Fn(&str) -> Option<(usize, u64)>,
) -> Result<Option<(usize, u64)>> {
    let mut hello = Vec::new();
    hello.extend(NBDMAGIC.to_be_bytes());
    hello.extend(IHAVEOPT.to_be_bytes());
    hello.extend((FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
    stream.write_all(&hello)?;
    let no_zeroes = u32::from_be_bytes(take(stream)?) & u32::from(FLAG_NO_ZEROES) != 0;
    loop {
        let magic = u64::from_be_bytes(take(stream)?);
        ensure!(magic == IHAVEOPT, "expected an option, found {magic:#x}");
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        ensure!(length <= OPTION_MAX, "an option of {length} bytes");
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPT_EXPORT_NAME => {
                let name = String::from_utf8(data)?;
                let (disk, size) = find(&name).with_context(|| format!("no disk {name}"))?;
                let mut reply = size.to_be_bytes().to_vec();
                reply.extend(TRANSMISSION_FLAGS.to_be_bytes());
                reply.resize(reply.len() + if no_zeroes { 0 } else { 124 }, 0);
                stream.write_all(&reply)?;
                return Ok(Some((disk, size)));
            }
            OPT_ABORT => {
                reply_option(stream, option, REP_ACK, &[])?;
                return Ok(None);
            }
            OPT_INFO | OPT_GO => {
                let Some(found) = find(wanted(&data)?) else {
                    reply_option(stream, option, REP_ERR_UNKNOWN, &[])?;
                    continue;
                };
                describe(stream, option, found.1)?;
                if option == OPT_GO {
                    return Ok(Some(found));
                }
            }
            _ => reply_option(stream, option, REP_ERR_UNSUP, &[])?,
        }
    }
}

/// The name in the data of an OPT_INFO or OPT_GO.
fn wanted(data: &[u8]) -> Result<&str> {
    let (length, rest) = data.split_first_chunk().context("no length of a name")?;
    let name = rest.get(..u32::from_be_bytes(*length) as usize).context("a name cut short")?;
    Ok(std::str::from_utf8(name)?)
}

fn describe(stream: &mut impl Write, option: u32, size: u64) -> Result<()> {
    let mut info = INFO_EXPORT.to_be_bytes().to_vec();
    info.extend(size.to_be_bytes());
    info.extend(TRANSMISSION_FLAGS.to_be_bytes());
    reply_option(stream, option, REP_INFO, &info)?;
    let mut info = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    for bytes in [SECTOR as u32, 4096, PAYLOAD_MAX] {
        info.extend(bytes.to_be_bytes());
    }
    reply_option(stream, option, REP_INFO, &info)?;
    reply_option(stream, option, REP_ACK, &[])
}

fn reply_option(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> Result<()> {
    let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend(data);
    Ok(stream.write_all(&reply)?)
}

/// The next command to a disk of so many bytes; none if the client says good-bye.
pub(crate) fn command(stream: &mut impl Read, size: u64) -> Result<Option<Command>> {
    let magic = u32::from_be_bytes(take(stream)?);
    ensure!(magic == REQUEST_MAGIC, "expected a request, found {magic:#x}");
    let flags = u16::from_be_bytes(take(stream)?);
    let kind = u16::from_be_bytes(take(stream)?);
    let handle = u64::from_be_bytes(take(stream)?);
    let offset = u64::from_be_bytes(take(stream)?);
    let length = u32::from_be_bytes(take(stream)?);
    if kind == CMD_DISC {
        return Ok(None);
    }
    if kind == CMD_WRITE && length > PAYLOAD_MAX {
        bail!("a write of {length} bytes");
    }
    let mut bytes = vec![0; if kind == CMD_WRITE { length as usize } else { 0 }];
    stream.read_exact(&mut bytes)?;

    let sector_bytes = SECTOR as u64;
    let aligned = (offset | u64::from(length)).is_multiple_of(sector_bytes);
    let inside = offset.checked_add(u64::from(length)).is_some_and(|end| end <= size);
    let (sector, count) = (offset / sector_bytes, u64::from(length) / sector_bytes);
    let fua = flags & CMD_FLAG_FUA != 0;
    let request = match kind {
        CMD_FLUSH => Ok(Request::Flush),
        _ if !aligned || !inside => Err(EINVAL),
        CMD_READ if length > PAYLOAD_MAX => Err(EINVAL),
        CMD_READ => Ok(Request::Read { sector, count }),
        CMD_WRITE => Ok(Request::Write { sector, bytes, fua }),
        CMD_WRITE_ZEROES => Ok(Request::Zero { sector, count, fua }),
        CMD_TRIM => Ok(Request::Trim { sector, count, fua }),
        _ => Err(EINVAL),
    };
    Ok(Some(Command { handle, request }))
}

/// The end of a command: what it read, or the number of its error.
pub(crate) fn reply(stream: &mut impl Write, handle: u64, end: Result<&[u8], u32>) -> Result<()> {
    let (error, bytes) = end.map_or_else(|error| (error, &[][..]), |bytes| (0, bytes));
    let mut reply = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(error.to_be_bytes());
    reply.extend(handle.to_be_bytes());
    reply.extend(bytes);
    Ok(stream.write_all(&reply)?)
}

fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
