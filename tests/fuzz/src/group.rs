//! Any block is the header of a group, which is written as it is, or an error (P14).
#![no_main]

use blk::BLOCK_BYTES;
use fuzz::blocks;
use libfuzzer_sys::fuzz_target;
use replog::format::group::GroupHeader;

fuzz_target!(|input: &[u8]| {
    for block in blocks(input, BLOCK_BYTES) {
        match GroupHeader::decode(&block) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok((header, crc)) => {
                let mut again = vec![0; BLOCK_BYTES];
                assert_eq!((header.encode(&mut again), &again), (crc, &block));
            }
        }
    }
});
