//! One table: `START LEN TARGET ARGS`.

use std::sync::Arc;

use blk::{Sector, Sectors};

use crate::args::Args;
use crate::error::Fault;
use crate::limits::SECTORS_MAX;
use crate::origin::{Origin, Part, Places};
use crate::spelling::choose;
use crate::words::Word;
use crate::{Entry, ErrorKind, Target, replicator, replicator_dev};

/// Reads a whole table; `end` is where it would stand if there are no words.
pub(crate) fn read(
    text: &Arc<str>,
    name: Option<(String, &Word<'_>)>,
    words: &[Word<'_>],
    end: usize,
) -> Result<Entry, Fault> {
    let mut places = Places::default();
    let name = name.map(|(name, word)| {
        places.note(Part::Name, word);
        name
    });
    let mut args = Args::new(words, end);
    let (start, len) = start_and_len(&mut args)?;
    let target = target(&mut args, len, &mut places)?;
    Ok(Entry { name, start, len, target, origin: Origin::new(text, places) })
}

fn start_and_len(args: &mut Args<'_>) -> Result<(Sector, Sectors), Fault> {
    let (found, word) = args.number("<start> (sectors)", 0..SECTORS_MAX.0 + 1)?;
    if found != 0 {
        return Err(word.fault(ErrorKind::Start { found }));
    }
    let (len, word) = args.number("<length> (sectors)", 0..SECTORS_MAX.0 + 1)?;
    if len == 0 {
        return Err(word.fault(ErrorKind::Empty));
    }
    Ok((Sector(found), Sectors(len)))
}

fn target(args: &mut Args<'_>, len: Sectors, places: &mut Places) -> Result<Target, Fault> {
    let word = args.next("<target_type>", "`replicator` or `replicator-dev`")?;
    match choose("<target_type>", word, &KINDS)? {
        Kind::Replicator => replicator::read(args, places).map(Target::Replicator),
        Kind::ReplicatorDev => replicator_dev::read(args, len, places).map(Target::ReplicatorDev),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Replicator,
    ReplicatorDev,
}

const KINDS: [(&str, Kind); 2] =
    [("replicator", Kind::Replicator), ("replicator-dev", Kind::ReplicatorDev)];
