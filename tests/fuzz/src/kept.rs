//! Any bytes are what the host keeps of a log, which is written as they are, or an error (P14).
#![no_main]

use blk::BLOCK_BYTES;
use libfuzzer_sys::fuzz_target;
use replog::format::kept::Kept;

fuzz_target!(|input: &[u8]| {
    let mut plain = input.to_vec();
    try_it(&plain);
    plain.resize(plain.len().max(2 * BLOCK_BYTES), 0);
    let (header, superblock) = plain.split_at_mut(BLOCK_BYTES);
    fuzz::seal(header);
    fuzz::seal(superblock);
    try_it(&plain);
});

fn try_it(bytes: &[u8]) {
    match Kept::decode(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(kept) => assert_eq!(Kept::decode(&kept.encode()).as_ref(), Ok(&kept)),
    }
}
