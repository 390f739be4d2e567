//! The commands of the ublk driver that a replicator uses, as typed calls.

use std::time::Duration;

use blk::Sectors;
use libublk::sys;

use crate::command::Command;
use crate::error::ControlError;

/// What the driver knows about one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Whether it is served.
    pub state: DeviceState,
    /// Requests per queue.
    pub depth: u16,
    /// Queues.
    pub queues: u16,
    /// The longest request.
    pub request_max: Sectors,
    /// The process that serves it, or did last; `None`: nobody yet.
    pub server: Option<u32>,
    /// Feature flags that were granted (`UBLK_F_*`).
    pub flags: u64,
    /// The server's own mark, given when the device was added.
    pub mark: u64,
}

/// Whether a device is served (`UBLK_S_DEV_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Added but not started, or stopped.
    Dead,
    /// Served.
    Live,
    /// Its server is gone; requests wait for a new one.
    Quiesced,
    /// Its server is gone; requests fail.
    FailIo,
    /// A state that this program does not know.
    Unknown(u16),
}

/// `/dev/ublkbN`, as it is to be.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// N of `/dev/ublkbN`; `None`: the driver chooses.
    pub id: Option<u32>,
    /// Its size.
    pub size: Sectors,
    /// Logical block in bytes: the strictest of the legs; a power of two, 512 to 4096.
    pub logical_block: u32,
    /// Physical block in bytes; a power of two, not less than the logical one.
    pub physical_block: u32,
    /// The longest read or write; at most 32 MiB, and whole pages.
    pub request_max: Sectors,
    /// Requests in flight; 1 to 4096.
    pub depth: u16,
    /// Whether nearness of sectors matters.
    pub rotational: bool,
    /// A number that the driver keeps, by which a later process knows its device again.
    pub mark: u64,
}

impl DeviceSpec {
    /// A device of that size and block size, everything else as usual.
    #[must_use]
    pub fn new(size: Sectors, logical_block: u32) -> Self {
        Self {
            id: None,
            size,
            logical_block,
            physical_block: logical_block.max(PHYSICAL_BLOCK),
            request_max: REQUEST_MAX,
            depth: DEPTH,
            rotational: false,
            mark: 0,
        }
    }

    /// What is wrong with it, in a few words; `None`: nothing.
    #[must_use]
    pub fn defect(&self) -> Option<String> {
        let block = self.logical_block;
        let in_range = |value: u32, least: u32, most: u32| (least..=most).contains(&value);
        let depth_max = sys::UBLK_MAX_QUEUE_DEPTH;
        let rules = [
            (
                block.is_power_of_two() && in_range(block, 512, 4096),
                format!(
                    "logical blocks of {block} bytes; 512 to 4096, a power of two, is possible"
                ),
            ),
            (
                self.physical_block.is_power_of_two() && self.physical_block >= block,
                format!(
                    "physical blocks of {} bytes over logical ones of {block}",
                    self.physical_block
                ),
            ),
            (
                self.size > Sectors(0) && self.size.bytes().is_multiple_of(u64::from(block.max(1))),
                format!("{} sectors; whole blocks of {block} bytes are needed", self.size),
            ),
            (
                self.request_max > Sectors(0)
                    && self.request_max.bytes() <= REQUEST_BYTES_LIMIT
                    && self.request_max.bytes().is_multiple_of(PAGE_BYTES),
                format!(
                    "requests of up to {} sectors; whole pages up to 32 MiB are possible",
                    self.request_max
                ),
            ),
            (
                in_range(u32::from(self.depth), 1, depth_max),
                format!("{} requests in flight; 1 to {depth_max} are possible", self.depth),
            ),
        ];
        rules.into_iter().find(|(kept, _)| !kept).map(|(_, what)| what)
    }
}

impl DeviceState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dead => "stopped",
            Self::Live => "served",
            Self::Quiesced => "waiting for a server",
            Self::FailIo => "failing requests",
            Self::Unknown(_) => "in a state unknown to this program",
        }
    }
}

/// Everything a device of ours is asked to have: payloads that are copied once, to
/// where they belong (P16), and a life beyond its server, with unanswered requests
/// sent again (P1, P10). Recovery without re-issue would fail them.
pub(crate) const FLAGS: u64 =
    (sys::UBLK_F_USER_COPY | sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE) as u64
        | sys::UBLK_F_CMD_IOCTL_ENCODE as u64;

/// GET_FEATURES: what the driver can do; fails before Linux 6.5.
pub(crate) fn features() -> Result<u64, ControlError> {
    command("GET_FEATURES", sys::UBLK_U_CMD_GET_FEATURES, None).exchange(0_u64)
}

/// ADD_DEV: makes `/dev/ublkcN`.
pub(crate) fn add(spec: &DeviceSpec) -> Result<DeviceInfo, ControlError> {
    let info = sys::ublksrv_ctrl_dev_info {
        nr_hw_queues: 1,
        queue_depth: spec.depth,
        max_io_buf_bytes: u32::try_from(spec.request_max.bytes())
            .expect("the specification was checked"),
        dev_id: spec.id.unwrap_or(u32::MAX),
        ublksrv_pid: own_pid(),
        flags: FLAGS,
        ublksrv_flags: spec.mark,
        ..Default::default()
    };
    Ok(command("ADD_DEV", sys::UBLK_U_CMD_ADD_DEV, spec.id).exchange(info)?.into())
}

/// SET_PARAMS, between ADD_DEV and START_DEV.
pub(crate) fn set_params(id: u32, spec: &DeviceSpec) -> Result<(), ControlError> {
    let params = params(spec);
    command("SET_PARAMS", sys::UBLK_U_CMD_SET_PARAMS, Some(id)).exchange(params).map(drop)
}

/// START_DEV: makes `/dev/ublkbN`. Ends only when every tag has been fetched and
/// the partition table has been read, through the engine.
pub(crate) fn start(id: u32) -> Result<(), ControlError> {
    with_pid(command("START_DEV", sys::UBLK_U_CMD_START_DEV, Some(id)))
}

/// STOP_DEV: takes `/dev/ublkbN` away, once its requests have been answered.
pub(crate) fn stop(id: u32) -> Result<(), ControlError> {
    command("STOP_DEV", sys::UBLK_U_CMD_STOP_DEV, Some(id)).send()
}

/// DEL_DEV: takes `/dev/ublkcN` away, once nobody has it open or mapped.
pub(crate) fn delete(id: u32) -> Result<(), ControlError> {
    command("DEL_DEV", sys::UBLK_U_CMD_DEL_DEV, Some(id)).send()
}

/// UPDATE_SIZE: whoever has `/dev/ublkbN` open learns of it. Not of a device that is stopped: drivers
/// before Linux 7.0 follow a null pointer then.
pub(crate) fn update_size(id: u32, size: Sectors) -> Result<(), ControlError> {
    let command = command("UPDATE_SIZE", sys::UBLK_U_CMD_UPDATE_SIZE, Some(id));
    Command { data: size.0, ..command }.send()
}

/// START_USER_RECOVERY: hands a quiesced device to this process; EBUSY until the
/// last trace of its old server is gone.
pub(crate) fn start_recovery(id: u32) -> Result<(), ControlError> {
    command("START_USER_RECOVERY", sys::UBLK_U_CMD_START_USER_RECOVERY, Some(id)).send()
}

/// END_USER_RECOVERY: requests flow again; ends when every tag has been fetched.
pub(crate) fn end_recovery(id: u32) -> Result<(), ControlError> {
    with_pid(command("END_USER_RECOVERY", sys::UBLK_U_CMD_END_USER_RECOVERY, Some(id)))
}

/// GET_DEV_INFO.
pub(crate) fn info(id: u32) -> Result<DeviceInfo, ControlError> {
    Ok(raw_info(id)?.into())
}

/// GET_DEV_INFO, as the driver says it.
pub(crate) fn raw_info(id: u32) -> Result<sys::ublksrv_ctrl_dev_info, ControlError> {
    let empty = sys::ublksrv_ctrl_dev_info::default();
    command("GET_DEV_INFO", sys::UBLK_U_CMD_GET_DEV_INFO, Some(id)).exchange(empty)
}

/// GET_PARAMS.
pub(crate) fn params_of(id: u32) -> Result<sys::ublk_params, ControlError> {
    let len = size_of::<sys::ublk_params>() as u32;
    let empty = sys::ublk_params { len, ..Default::default() };
    command("GET_PARAMS", sys::UBLK_U_CMD_GET_PARAMS, Some(id)).exchange(empty)
}

impl From<sys::ublksrv_ctrl_dev_info> for DeviceInfo {
    fn from(info: sys::ublksrv_ctrl_dev_info) -> Self {
        Self {
            id: info.dev_id,
            state: info.state.into(),
            depth: info.queue_depth,
            queues: info.nr_hw_queues,
            request_max: Sectors::from_bytes(info.max_io_buf_bytes.into()),
            server: u32::try_from(info.ublksrv_pid).ok().filter(|pid| *pid > 0),
            flags: info.flags,
            mark: info.ublksrv_flags,
        }
    }
}

impl From<u16> for DeviceState {
    fn from(state: u16) -> Self {
        match u32::from(state) {
            sys::UBLK_S_DEV_DEAD => Self::Dead,
            sys::UBLK_S_DEV_LIVE => Self::Live,
            sys::UBLK_S_DEV_QUIESCED => Self::Quiesced,
            sys::UBLK_S_DEV_FAIL_IO => Self::FailIo,
            _ => Self::Unknown(state),
        }
    }
}

fn params(spec: &DeviceSpec) -> sys::ublk_params {
    let rotational = if spec.rotational { sys::UBLK_ATTR_ROTATIONAL } else { 0 };
    let physical_shift = shift(spec.physical_block);
    let requests = u32::try_from(spec.request_max.0).expect("the specification was checked");
    sys::ublk_params {
        len: size_of::<sys::ublk_params>() as u32,
        types: sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD,
        basic: sys::ublk_param_basic {
            // Both: without a volatile cache the kernel sends no FLUSH and drops FUA.
            attrs: sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA | rotational,
            logical_bs_shift: shift(spec.logical_block),
            physical_bs_shift: physical_shift,
            io_opt_shift: physical_shift,
            io_min_shift: physical_shift,
            max_sectors: requests,
            dev_sectors: spec.size.0,
            ..Default::default()
        },
        discard: sys::ublk_param_discard {
            discard_granularity: spec.physical_block,
            max_discard_sectors: ZEROED_MAX,
            max_write_zeroes_sectors: ZEROED_MAX,
            max_discard_segments: 1,
            ..Default::default()
        },
        ..Default::default()
    }
}

fn shift(block: u32) -> u8 {
    u8::try_from(block.trailing_zeros()).expect("an exponent below 32")
}

fn command(name: &'static str, opcode: u32, device: Option<u32>) -> Command {
    Command { name, opcode, device, data: 0, limit: LIMIT }
}

/// For the commands that wait for the engine's FETCHes, and name the server: newer
/// kernels insist that it is the caller.
fn with_pid(command: Command) -> Result<(), ControlError> {
    Command { data: u64::from(own_pid().unsigned_abs()), limit: SERVE_LIMIT, ..command }.send()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("a process id is a positive int")
}

const PHYSICAL_BLOCK: u32 = 4096;
const REQUEST_MAX: Sectors = Sectors(2048);
const DEPTH: u16 = 128;
const PAGE_BYTES: u64 = 4096;
const REQUEST_BYTES_LIMIT: u64 = 32 << 20;
/// Most sectors of one discard or write-zeroes, 1 GiB: the answer to a request is
/// a signed 32-bit number of bytes.
const ZEROED_MAX: u32 = 1 << 21;
/// How long a command may take that waits for nobody but the kernel.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a command may take that waits for the engine to serve requests.
const SERVE_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> DeviceSpec {
        DeviceSpec::new(Sectors(2048), 512)
    }

    #[test]
    fn a_usual_device_has_no_defect() {
        assert_eq!(spec().defect(), None);
        assert_eq!(DeviceSpec::new(Sectors(2048), 4096).defect(), None);
    }

    #[test]
    fn what_the_driver_would_refuse_is_named_before_it_is_asked() {
        type Breakage = fn(&mut DeviceSpec);
        let cases: [(Breakage, &str); 7] = [
            (|spec| spec.logical_block = 256, "logical blocks of 256"),
            (|spec| spec.logical_block = 0, "logical blocks of 0"),
            (|spec| spec.physical_block = 256, "physical blocks of 256"),
            (|spec| spec.size = Sectors(0), "0 sectors"),
            (|spec| spec.request_max = Sectors(3), "requests of up to 3 sectors"),
            (|spec| spec.request_max = Sectors(1 << 17), "requests of up to 131072"),
            (|spec| spec.depth = 0, "0 requests"),
        ];
        for (break_it, expected) in cases {
            let mut spec = spec();
            break_it(&mut spec);
            let defect = spec.defect().unwrap();
            assert!(defect.starts_with(expected), "{defect}");
        }
    }

    #[test]
    fn a_device_of_odd_sectors_cannot_have_large_blocks() {
        let defect = DeviceSpec::new(Sectors(2049), 4096).defect().unwrap();
        assert!(defect.contains("whole blocks of 4096"), "{defect}");
    }

    #[test]
    fn zeroing_a_whole_request_fits_the_driver_s_answer() {
        assert!(i32::try_from(Sectors(u64::from(ZEROED_MAX)).bytes()).is_ok());
    }
}
