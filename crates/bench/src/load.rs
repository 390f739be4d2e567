//! The closed loop that stands in for applications: as many requests as the depth
//! says, each followed by the next.

use blk::{Buf, BufMut, Data, DevNr, Op, ReqId, Sector, Sectors, Time};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::Zipf;

use crate::case::{Case, Kind, Pattern};

/// Requests without end, a fixed number of them in flight.
pub(crate) struct Load {
    kind: Kind,
    fua: bool,
    len: Sectors,
    devices: u32,
    addresses: Addresses,
    rng: SmallRng,
    /// Written from, at an offset of each write's own.
    payload: Buf,
    /// Read into; nobody looks at it.
    sink: BufMut,
    /// When each request in flight was issued, by its number.
    issued: Vec<Time>,
}

enum Addresses {
    Random { blocks: u64 },
    Zipf { blocks: u64, ranks: Zipf<f64> },
    Sequential { blocks: u64, next: Vec<u64> },
}

impl Load {
    /// The requests of a case, the same ones for the same seed.
    pub(crate) fn new(case: &Case, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut payload = BufMut::zeroed(case.len().len() + PAYLOAD_SPREAD);
        rng.fill_bytes(&mut payload);
        Self {
            kind: case.kind,
            fua: case.fua,
            len: case.len(),
            devices: case.devices,
            addresses: Addresses::new(case),
            payload: payload.freeze(),
            sink: BufMut::zeroed(case.len().len()),
            issued: vec![Time(0); case.depth],
            rng,
        }
    }

    /// The numbers of all requests: as many as may be in flight.
    pub(crate) fn requests(&self) -> impl Iterator<Item = ReqId> + use<> {
        (0..self.issued.len() as u64).map(ReqId)
    }

    /// The next thing to ask, under a number that is free.
    pub(crate) fn issue(&mut self, now: Time, req: ReqId) -> (DevNr, Op) {
        self.issued[index(req)] = now;
        let dev = (req.0 % u64::from(self.devices)) as u32;
        let block = self.addresses.next(&mut self.rng, dev);
        let (sector, len) = (Sector(block * self.len.0), self.len);
        let op = match self.kind {
            Kind::Read => Op::Read { sector, len },
            Kind::Write => Op::Write { sector, len, fua: self.fua },
        };
        (DevNr(dev), op)
    }

    /// How long a request took that ends now, in nanoseconds.
    pub(crate) fn latency(&self, now: Time, req: ReqId) -> u64 {
        u64::try_from(now.since(self.issued[index(req)]).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The payload of a write.
    pub(crate) fn fill(&self, req: ReqId, buf: &mut [u8]) {
        let start = index(req) * 512 % PAYLOAD_SPREAD;
        buf.copy_from_slice(&self.payload[start..start + buf.len()]);
    }

    /// What a read got.
    pub(crate) fn take(&mut self, offset: Sectors, data: &Data) {
        let to = &mut self.sink[offset.len()..];
        match data {
            Data::Bytes(bytes) => to[..bytes.len()].copy_from_slice(bytes),
            Data::Zeroes(len) => to[..len.len()].fill(0),
        }
    }
}

impl Addresses {
    fn new(case: &Case) -> Self {
        let blocks = case.device_size().0 / case.len().0;
        match case.pattern {
            Pattern::Random => Self::Random { blocks },
            Pattern::Zipf => {
                let ranks = Zipf::new(blocks as f64, ZIPF_EXPONENT);
                Self::Zipf { blocks, ranks: ranks.expect("a device has blocks") }
            }
            Pattern::Sequential => {
                Self::Sequential { blocks, next: vec![0; case.devices as usize] }
            }
        }
    }

    fn next(&mut self, rng: &mut SmallRng, dev: u32) -> u64 {
        match self {
            Self::Random { blocks } => rng.random_range(0..*blocks),
            // A rank is from 1; neighbours in rank are no neighbours on the device.
            Self::Zipf { blocks, ranks } => rng.sample(*ranks) as u64 * SCATTER % *blocks,
            Self::Sequential { blocks, next } => {
                let next = &mut next[dev as usize];
                let block = *next % *blocks;
                *next += 1;
                block
            }
        }
    }
}

fn index(req: ReqId) -> usize {
    usize::try_from(req.0).expect("a request's number is less than the depth")
}

const ZIPF_EXPONENT: f64 = 0.99;
/// A prime, so that every rank has a block of its own.
const SCATTER: u64 = 2_654_435_761;
/// Writes differ by where in so many bytes they begin.
const PAYLOAD_SPREAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Phase;
    use std::collections::BTreeMap;

    fn sectors(case: &Case, count: usize) -> Vec<u64> {
        let mut load = Load::new(case, 1);
        let at = |(_, op): (DevNr, Op)| op.range().unwrap().0.0;
        (0..count).map(|_| at(load.issue(Time(0), ReqId(0)))).collect()
    }

    #[test]
    fn sequential_requests_follow_each_other_and_wrap() {
        let case = Case {
            pattern: Pattern::Sequential,
            data_mib: 1,
            ..Case::random_writes(1, Phase::Burst)
        };
        let found = sectors(&case, 257);
        assert!(found[..256].windows(2).all(|pair| pair[1] == pair[0] + 8));
        assert_eq!((found[0], found[256]), (0, 0));
    }

    #[test]
    fn a_zipf_load_has_favourites_and_stays_on_the_device() {
        let case =
            Case { pattern: Pattern::Zipf, data_mib: 16, ..Case::random_writes(1, Phase::Burst) };
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        sectors(&case, 10_000).into_iter().for_each(|at| *counts.entry(at).or_default() += 1);
        assert!(counts.keys().all(|at| *at < case.device_size().0));
        let favourite = *counts.values().max().unwrap();
        assert!((500..3000).contains(&favourite), "1/H(4096) of 10000 is about 1100: {favourite}");
    }

    #[test]
    fn each_request_belongs_to_one_device() {
        let case = Case { devices: 3, ..Case::random_writes(6, Phase::Burst) };
        let mut load = Load::new(&case, 1);
        let devs: Vec<u32> = load.requests().map(|req| load.issue(Time(0), req).0.0).collect();
        assert_eq!(devs, [0, 1, 2, 0, 1, 2]);
    }
}
