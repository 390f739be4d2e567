//! Any words are a message that a machine at work carries out, or an error (P14).
#![no_main]

use blk::{DevNr, Machine as _, Time};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut machine = fuzz::machine();
    for (nr, line) in input.lines().take(20).enumerate() {
        let now = Time(1 << 40 | (nr as u64) << 20);
        let words: Vec<&str> = line.split_whitespace().collect();
        let (target, words) = match words.split_first() {
            Some((&"0", rest)) => (Some(DevNr(0)), rest),
            Some((&"9", rest)) => (Some(DevNr(9)), rest),
            _ => (None, &words[..]),
        };
        if let Err(error) = machine.message(now, target, words) {
            assert!(!error.to_string().is_empty());
        }
        machine.poll(now, &mut Vec::new());
    }
});
