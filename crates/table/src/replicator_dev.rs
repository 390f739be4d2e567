//! The arguments of the `replicator-dev` target:
//!
//! ```text
//! <replicator_device> <dev_nr>
//! { <slink_nr> 1 <dev_path> <dlog_type> <#dlog_params> [<dlog_dev_path>] [<region_size> [sync|nosync|later]] }+
//! ```

use blk::{DevNr, Sectors, SlinkNr};

use crate::args::{Args, Counted};
use crate::error::Fault;
use crate::limits::{DEV_NR_MAX, REGION_SECTORS_MIN, REGIONS_MAX};
use crate::name::{bare_replicator, path};
use crate::origin::{Part, Places};
use crate::replicator::slink_nr;
use crate::spelling::{INITS, choose};
use crate::units::digits;
use crate::words::Word;
use crate::{DirtyLogTable, ErrorKind, Init, LegTable, ReplicatorDevTable};

/// Reads the arguments behind the word `replicator-dev`, of a device of `len`.
pub(crate) fn read(
    args: &mut Args<'_>,
    len: Sectors,
    places: &mut Places,
) -> Result<ReplicatorDevTable, Fault> {
    let replicator = replicator(args, places)?;
    let (nr, word) = args.number("<dev_nr>", 0..u64::from(DEV_NR_MAX) + 1)?;
    let dev_nr = DevNr(u32::try_from(nr).expect("the range fits 32 bits"));
    places.note(Part::DevNr, word);
    let mut legs: Vec<LegTable> = Vec::new();
    while legs.is_empty() || !args.is_empty() {
        let (slink, word) = if legs.is_empty() { slink_nr(args)? } else { next_slink_nr(args)? };
        check_slink(slink, word, &legs, places)?;
        places.note(Part::LegSlink(legs.len()), word);
        legs.push(leg(slink, args, len, legs.len(), places)?);
    }
    Ok(ReplicatorDevTable { replicator, dev_nr, legs })
}

fn replicator(args: &mut Args<'_>, places: &mut Places) -> Result<String, Fault> {
    let word = args.next("<replicator_device>", "the replicator's name")?;
    let bare = bare_replicator(word)?;
    places.note(Part::Replicator, word);
    Ok(bare)
}

/// The site link number of a leg behind another one.
fn next_slink_nr<'w>(args: &mut Args<'w>) -> Result<(SlinkNr, &'w Word<'w>), Fault> {
    match args.peek() {
        Some(word) if digits(&word.text).is_none() => {
            let kind = ErrorKind::Next {
                argument: "<slink_nr>",
                expected: "the site link number of another leg",
                found: word.owned(),
                count: "#dlog_params",
            };
            Err(word.fault(kind))
        }
        _ => slink_nr(args),
    }
}

/// The LD comes first, and each site link once.
fn check_slink(
    slink: SlinkNr,
    word: &Word<'_>,
    legs: &[LegTable],
    places: &Places,
) -> Result<(), Fault> {
    if legs.is_empty() && !slink.is_local() {
        return Err(word.fault(ErrorKind::FirstLeg { found: slink }));
    }
    let Some(taken) = legs.iter().position(|leg| leg.slink == slink) else { return Ok(()) };
    let fault = word.fault(ErrorKind::LegTwice { nr: slink });
    Err(fault.with_first(places.find(Part::LegSlink(taken))))
}

/// The leg on a site link, behind its number.
pub(crate) fn leg(
    slink: SlinkNr,
    args: &mut Args<'_>,
    len: Sectors,
    nth: usize,
    places: &mut Places,
) -> Result<LegTable, Fault> {
    let count = args.counted("#dev_params")?;
    let [word] = count.words else {
        return Err(count.wrong("1 parameter (<dev_path>)", count.words.len()));
    };
    let path = path("<dev_path>", word)?;
    places.note(Part::LegPath(nth), word);
    let dirty_log = dirty_log(args, len, nth, places)?;
    Ok(LegTable { slink, path, dirty_log })
}

fn dirty_log(
    args: &mut Args<'_>,
    len: Sectors,
    nth: usize,
    places: &mut Places,
) -> Result<DirtyLogTable, Fault> {
    let kind = args.next("<dlog_type>", "`nolog`, `core` or `disk`")?;
    let kind = choose("<dlog_type>", kind, &DIRTY_LOGS)?;
    let count = args.counted("#dlog_params")?;
    match (kind, count.words) {
        (Kind::Nolog, []) => Ok(DirtyLogTable::Nolog),
        (Kind::Core, [_] | [_, _]) => {
            let (region, init) = region_and_init(&mut count.args(), len)?;
            Ok(DirtyLogTable::Core { region, init })
        }
        (Kind::Disk, [device, _] | [device, _, _]) => {
            let path = path("<dlog_dev_path>", device)?;
            places.note(Part::DirtyLogPath(nth), device);
            let mut params = Args::new(&count.words[1..], device.at.end);
            let (region, init) = region_and_init(&mut params, len)?;
            Ok(DirtyLogTable::Disk { path, region, init })
        }
        (kind, _) => Err(wrong_count(kind, &count)),
    }
}

fn wrong_count(kind: Kind, count: &Counted<'_>) -> Fault {
    let expected = match kind {
        Kind::Nolog => "0 parameters of `nolog`",
        Kind::Core => "1 or 2 parameters of `core` (<region_size> [sync|nosync|later])",
        Kind::Disk => {
            "2 or 3 parameters of `disk` (<dlog_dev_path> <region_size> [sync|nosync|later])"
        }
    };
    count.wrong(expected, count.words.len())
}

fn region_and_init(params: &mut Args<'_>, len: Sectors) -> Result<(Sectors, Option<Init>), Fault> {
    let word = params.next("<region_size>", "a number of sectors")?;
    let region = region(&word.text, len).map_err(|kind| word.fault(kind))?;
    let init = match params.is_empty() {
        true => None,
        false => Some(choose(
            "[sync|nosync|later]",
            params.next("[sync|nosync|later]", "a word")?,
            INITS,
        )?),
    };
    Ok((region, init))
}

fn region(text: &str, len: Sectors) -> Result<Sectors, ErrorKind> {
    let fine = |region: &u64| region.is_power_of_two() && *region >= REGION_SECTORS_MIN.0;
    let Some(found) = digits(text).filter(fine).map(Sectors) else {
        return Err(ErrorKind::Region { found: text.to_owned() });
    };
    if found > len {
        return Err(ErrorKind::RegionBeyondDevice { found, len });
    }
    if len.0.div_ceil(found.0) > REGIONS_MAX {
        let least = Sectors(len.0.div_ceil(REGIONS_MAX).next_power_of_two());
        return Err(ErrorKind::RegionCount { found, least, len });
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Kind {
    Nolog,
    Core,
    Disk,
}

/// `-` is what the code of 2009 also took for "none".
const DIRTY_LOGS: [(&str, Kind); 4] =
    [("nolog", Kind::Nolog), ("core", Kind::Core), ("disk", Kind::Disk), ("-", Kind::Nolog)];
