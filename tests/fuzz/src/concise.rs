//! Any text is a table in the form of `dmsetup --concise`, or an error (P14).
#![no_main]

use libfuzzer_sys::fuzz_target;
use table::TableFile;

fuzz_target!(|input: &str| {
    match TableFile::parse_concise(input) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(file) => {
            assert_eq!(TableFile::parse(&file.to_string()).as_ref(), Ok(&file), "printed: {file}");
        }
    }
});
