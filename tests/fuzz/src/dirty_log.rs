//! Any block is one of a dirty log, which is written as it is, or an error: never a false "clean" (I7, P14).
#![no_main]

use blk::BLOCK_BYTES;
use dirty_log::format::Block;
use fuzz::blocks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for bytes in blocks(input, BLOCK_BYTES) {
        match Block::decode(&bytes) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(block) => {
                let mut again = [0; BLOCK_BYTES];
                block.encode(&mut again);
                assert_eq!(again[..], bytes);
            }
        }
    }
});
