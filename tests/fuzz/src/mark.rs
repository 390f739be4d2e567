//! Any block is the mark of a site, which is written as it is, or an error (P14).
#![no_main]

use blk::BLOCK_BYTES;
use fuzz::blocks;
use libfuzzer_sys::fuzz_target;
use slink::mark::Mark;

fuzz_target!(|input: &[u8]| {
    for block in blocks(input, BLOCK_BYTES) {
        match Mark::decode(&block) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(mark) => assert_eq!(mark.encode()[..], block),
        }
    }
});
