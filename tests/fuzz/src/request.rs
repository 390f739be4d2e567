//! Any bytes on the control socket are a request, or an error (P14).
#![no_main]
#![allow(dead_code, reason = "only requests are read here")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../crates/cli/src/control/protocol.rs"]
mod protocol;

fuzz_target!(|input: &[u8]| {
    match protocol::Request::parse(input) {
        Err(error) => assert!(!error.is_empty()),
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("a request is a line");
            assert_eq!(protocol::Request::parse(&line).as_ref(), Ok(&request));
        }
    }
});
