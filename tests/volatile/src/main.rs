//! Disks with volatile write caches, served over NBD, and what a power cut leaves of them; and what
//! it could have left of disks whose writes dm-log-writes has recorded.
//!
//! A machine under test has them through QEMU, which passes on its flushes and its FUA. The files
//! that are served are the media: what a cut leaves is in them, for the next boot.
//!
//! Standard input says when: `cut AFTER SEED HOW` cuts the power after so many more changes (writes
//! and flushes, of all disks). Nothing is answered then; a line says what was lost. When standard
//! input ends and no client is left, the server ends too.

#![forbid(unsafe_code)]

mod disk;
mod protocol;
mod rig;
mod seed;
mod server;
mod writes;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use rig::Rig;
use seed::Seed;
use server::Server;
use writes::{Entry, Part, PartName, Writes};

/// Disks with volatile write caches, and what a power cut leaves of them.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve files over NBD, as disks with a volatile write cache.
    Serve(Serve),
    /// Do again what dm-log-writes has recorded, and run a command at places on the way.
    Replay(Replay),
}

#[derive(Args)]
struct Serve {
    /// The socket, which is made.
    socket: PathBuf,
    /// The disks, by NAME=FILE.
    #[arg(required = true)]
    disks: Vec<String>,
    /// A disk whose flushes do nothing.
    #[arg(long)]
    lies: Vec<String>,
}

#[derive(Args)]
struct Replay {
    /// The disk with the record.
    writes: PathBuf,
    /// A part of the recorded disk, as FILE:START:SECTORS; the file is made.
    #[arg(long = "part", required = true)]
    parts: Vec<PartName>,
    /// At so many places, evenly, the last of them behind the last entry; 0: after each entry.
    #[arg(long, default_value_t = 0)]
    places: u64,
    /// Where in its even share each place is.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Gets the number of entries, and the last mark before; must succeed.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve(serve) => run(&serve),
        Command::Replay(options) => replay(&options),
    }
}

fn replay(options: &Replay) -> Result<()> {
    let mut writes = Writes::open(&options.writes)?;
    let parts = options.parts.iter().map(Part::create).collect::<Result<Vec<_>>>()?;
    let places = places(writes.left(), options.places, &mut Seed::new(options.seed));
    let (mut mark, mut tried) = (String::new(), 0);
    for number in 1.. {
        let Some(entry) = writes.next()? else { break };
        parts.iter().try_for_each(|part| part.apply(&entry))?;
        if let Entry::Mark(text) = entry {
            mark = text;
        }
        if places.binary_search(&number).is_ok() {
            let mut program = Program::new(&options.command[0]);
            program.args(&options.command[1..]).arg(number.to_string()).arg(&mark);
            let status = program.status().with_context(|| options.command.join(" "))?;
            ensure!(
                status.success(),
                "after {number} entries ({mark}) the command failed: {status}"
            );
            tried += 1;
        }
    }
    println!("{tried} places");
    Ok(())
}

/// One place in each of so many shares of the entries.
fn places(entries: u64, count: u64, seed: &mut Seed) -> Vec<u64> {
    let count = if count == 0 { entries } else { count.min(entries) };
    let place = |share: u64| {
        let (from, end) = (entries * share / count, entries * (share + 1) / count);
        if share + 1 == count { end } else { from + 1 + seed.below(end - from) }
    };
    (0..count).map(place).collect()
}

fn run(serve: &Serve) -> Result<()> {
    let mut rig = Rig::new();
    for disk in &serve.disks {
        let (name, path) =
            disk.split_once('=').with_context(|| format!("expected NAME=FILE, found {disk}"))?;
        rig.add(name, Path::new(path))?;
    }
    for name in &serve.lies {
        rig.lie(name)?;
    }
    let listener =
        UnixListener::bind(&serve.socket).with_context(|| serve.socket.display().to_string())?;
    let server = Server::new(rig);
    let accepting = Arc::clone(&server);
    thread::spawn(move || accepting.accept(&listener));
    println!("serving");
    for line in io::stdin().lines() {
        server.rig().arm(line?.parse()?);
    }
    server.wait_until_idle();
    server.rig().end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_and_end_with_the_last_entry() {
        assert_eq!(places(5, 0, &mut Seed::new(1)), [1, 2, 3, 4, 5]);
        assert_eq!(places(3, 10, &mut Seed::new(1)), [1, 2, 3]);
        assert!(places(0, 10, &mut Seed::new(1)).is_empty());
        for seed in 0..50 {
            let found = places(1000, 10, &mut Seed::new(seed));
            assert_eq!(found.len(), 10);
            for (share, place) in (0..).zip(&found) {
                assert!((share * 100 + 1..=share * 100 + 100).contains(place), "{found:?}");
            }
            assert_eq!(found[9], 1000);
        }
    }
}
