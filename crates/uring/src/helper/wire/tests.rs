//! Messages on their way between a process and its helper.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;

use super::*;
use crate::helper::line;

fn there_and_back<M: Wire>(message: &M, fd: Option<BorrowedFd<'_>>) -> (M, Option<OwnedFd>) {
    let (here, there) = line().unwrap();
    send(here.as_fd(), message, fd, SendFlags::empty()).unwrap();
    receive(there.as_fd(), RecvFlags::empty()).unwrap().unwrap()
}

fn requests() -> Vec<Request> {
    let spec = OpenSpec {
        access: Access::Look,
        busy_limit: Duration::from_millis(7),
        size_min: Sectors(8),
    };
    let odd = OsString::from_vec(b"/dev/\xff odd".to_vec());
    vec![
        Request::Hello,
        Request::Call(Call { nr: 5, work: Work::Sync }),
        Request::Call(Call {
            nr: u64::MAX,
            work: Work::Fallocate { mode: -3, offset: 1 << 40, len: 512 },
        }),
        Request::Call(Call { nr: 7, work: Work::Read { offset: 4096, len: 512 } }),
        Request::Call(Call {
            nr: 8,
            work: Work::Write { offset: 1, len: 2, dsync: true, vectors: 1 << 47, count: 3 },
        }),
        Request::Open { path: odd.into(), spec },
        Request::Open { path: "/x".into(), spec: OpenSpec::default() },
    ]
}

fn replies() -> Vec<Reply> {
    let facts = Facts {
        size: Sectors(1 << 33),
        logical_block: 4096,
        memory_align: 512,
        direct: true,
        medium: Medium { volatile_cache: false, rotational: true },
        identity: Identity::new("wwid:eui.1/part2"),
        extent: Extent { of: Identity::new("wwid:eui.1"), from: 1 << 20, to: 1 << 42 },
    };
    let why = "/dev/x: in use by /dev/mapper/ä; waited 20 ms".to_owned();
    vec![
        Reply::Here,
        Reply::Called { nr: 5, result: 0 },
        Reply::Called { nr: 6, result: -libc::EIO },
        Reply::Opened(Ok(facts)),
        Reply::Opened(Err(NotOpened { errno: Errno(libc::EBUSY), why })),
    ]
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    for request in requests() {
        let (back, fd) = there_and_back(&request, None);
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
        assert!(fd.is_none());
    }
    for reply in replies() {
        assert_eq!(format!("{:?}", there_and_back(&reply, None).0), format!("{reply:?}"));
    }
}

#[test]
fn a_descriptor_arrives_as_the_same_file() {
    let file = tempfile::tempfile().unwrap();
    let (_, fd) = there_and_back(&requests()[0], Some(file.as_fd()));
    let there = File::from(fd.unwrap());
    file.set_len(4711).unwrap();
    assert_eq!(there.metadata().unwrap().len(), 4711);
}

#[test]
fn a_message_that_is_cut_or_too_long_is_none() {
    let mut all = Vec::new();
    requests().iter().for_each(|request| {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        all.push(bytes);
    });
    for bytes in all {
        for len in 0..bytes.len() {
            let mut reader = Reader(&bytes[..len]);
            assert!(Request::read(&mut reader).is_none(), "{len} of {} bytes", bytes.len());
        }
        let (here, there) = line().unwrap();
        let longer = [bytes.as_slice(), b"x"].concat();
        rustix::net::send(&here, &longer, SendFlags::empty()).unwrap();
        let error = receive::<Request>(there.as_fd(), RecvFlags::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn the_end_of_the_other_process_is_seen() {
    let (here, there) = line().unwrap();
    drop(there);
    assert!(receive::<Reply>(here.as_fd(), RecvFlags::empty()).unwrap().is_none());
    let sent = send(here.as_fd(), &requests()[0], None, SendFlags::empty());
    assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
