//! All that the driver tells of one device, under the driver's own names: what others who speak to
//! it, as ublksrv does, keep of their devices in files.

use libublk::sys;

use crate::control;
use crate::error::ControlError;

/// Numbers, each under its name.
pub type Fields = Vec<(&'static str, u64)>;

/// One device, in the driver's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDetails {
    /// `struct ublksrv_ctrl_dev_info`.
    pub info: Fields,
    /// Which parts of `struct ublk_params` count, and its length.
    pub params: Fields,
    /// Those parts, as far as devices of ours have them.
    pub parts: Vec<(&'static str, Fields)>,
}

impl DeviceDetails {
    pub(crate) fn of(id: u32) -> Result<Self, ControlError> {
        Ok(Self::new(&control::raw_info(id)?, &control::params_of(id)?))
    }

    fn new(info: &sys::ublksrv_ctrl_dev_info, params: &sys::ublk_params) -> Self {
        Self {
            info: info_fields(info),
            params: vec![("len", params.len.into()), ("types", params.types.into())],
            parts: vec![
                ("basic", basic(&params.basic)),
                ("discard", discard(&params.discard)),
                ("devt", devt(&params.devt)),
            ],
        }
    }
}

fn info_fields(it: &sys::ublksrv_ctrl_dev_info) -> Fields {
    vec![
        ("nr_hw_queues", it.nr_hw_queues.into()),
        ("queue_depth", it.queue_depth.into()),
        ("state", it.state.into()),
        ("pad0", it.pad0.into()),
        ("max_io_buf_bytes", it.max_io_buf_bytes.into()),
        ("dev_id", it.dev_id.into()),
        // Nobody serves it: -1.
        ("ublksrv_pid", u64::try_from(it.ublksrv_pid).unwrap_or_default()),
        ("pad1", it.pad1.into()),
        ("flags", it.flags),
        ("ublksrv_flags", it.ublksrv_flags),
        ("owner_uid", it.owner_uid.into()),
        ("owner_gid", it.owner_gid.into()),
        ("reserved1", it.reserved1),
        ("reserved2", it.reserved2),
    ]
}

fn basic(it: &sys::ublk_param_basic) -> Fields {
    vec![
        ("attrs", it.attrs.into()),
        ("logical_bs_shift", it.logical_bs_shift.into()),
        ("physical_bs_shift", it.physical_bs_shift.into()),
        ("io_opt_shift", it.io_opt_shift.into()),
        ("io_min_shift", it.io_min_shift.into()),
        ("max_sectors", it.max_sectors.into()),
        ("chunk_sectors", it.chunk_sectors.into()),
        ("dev_sectors", it.dev_sectors),
        ("virt_boundary_mask", it.virt_boundary_mask),
    ]
}

fn discard(it: &sys::ublk_param_discard) -> Fields {
    vec![
        ("discard_alignment", it.discard_alignment.into()),
        ("discard_granularity", it.discard_granularity.into()),
        ("max_discard_sectors", it.max_discard_sectors.into()),
        ("max_write_zeroes_sectors", it.max_write_zeroes_sectors.into()),
        ("max_discard_segments", it.max_discard_segments.into()),
        ("reserved0", it.reserved0.into()),
    ]
}

fn devt(it: &sys::ublk_param_devt) -> Fields {
    vec![
        ("char_major", it.char_major.into()),
        ("char_minor", it.char_minor.into()),
        ("disk_major", it.disk_major.into()),
        ("disk_minor", it.disk_minor.into()),
    ]
}
