//! Any bytes are a superblock, which is written as they are, or an error (P14).
#![no_main]

use fuzz::blocks;
use libfuzzer_sys::fuzz_target;
use replog::format::superblock::Superblock;

fuzz_target!(|input: &[u8]| {
    for slot in blocks(input, 8192) {
        match Superblock::decode(&slot) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(superblock) => {
                let again = Superblock::decode(&superblock.encode());
                assert_eq!(again.as_ref(), Ok(&superblock));
            }
        }
    }
});
