//! Any bytes are a table file, which prints as one that means the same, or an error (P14).
#![no_main]

use libfuzzer_sys::fuzz_target;
use table::TableFile;

fuzz_target!(|input: &[u8]| {
    match TableFile::parse_bytes(input) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(file) => {
            assert_eq!(TableFile::parse(&file.to_string()).as_ref(), Ok(&file), "printed: {file}");
            let _ = file.groups();
        }
    }
});
