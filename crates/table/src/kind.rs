//! Everything that can be wrong with a table, with the facts.

use thiserror::Error;

use blk::{DevNr, Sectors, SlinkNr};

use crate::limits::{
    DEVICES_MAX, LEGS_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, REGION_SECTORS_MIN, REGIONS_MAX,
    SITES_MAX, TEXT_BYTES_MAX, UUID_BYTES_MAX,
};

/// What is wrong; printed as a sentence that says what was expected and what was found.
///
/// `argument` is the name of a parameter as the documentation spells it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the facts that the sentence above them names")]
pub enum ErrorKind {
    /// More text than any table needs.
    #[error("expected a table of at most {TEXT_BYTES_MAX} bytes, found {bytes}")]
    TextBytes { bytes: usize },
    /// A byte that no UTF-8 text has here.
    #[error("expected UTF-8 text, found byte 0x{byte:02x}")]
    NotUtf8 { byte: u8 },
    /// A character that can't be seen.
    #[error("expected printable text, spaces and tabs, found character U+{:04X}", *character as u32)]
    Character { character: char },

    /// A line of a file without a name.
    #[error("expected the device's name and a colon, `NAME:`, found {}", quoted(found))]
    NoName { found: String },
    /// A name before a table that is given without a file, as `--table` is.
    #[error("expected a table without a name, `START LEN TARGET ARGS`, found {}", quoted(found))]
    NameGiven { found: String },
    /// A word that can't name a device.
    #[error(
        "device name: expected 1 to {NAME_BYTES_MAX} printable ASCII characters without `/`, and \
         not `.` or `..`, found {}",
        quoted(found)
    )]
    Name { found: String },
    /// A word that can't name a replicator.
    #[error(
        "<replicator_device>: expected a replicator's name, bare or behind /dev/mapper/ or \
         /dev/replicator/, found {}",
        quoted(found)
    )]
    ReplicatorName { found: String },
    /// A name given twice.
    #[error("device name: expected one that is not yet taken, found {} again", quoted(name))]
    NameTaken { name: String },
    /// More targets than one in a device.
    #[error("expected one target per device, found another line for the same device")]
    ManyTargets,
    /// No target at all.
    #[error("expected a table, `START LEN TARGET ARGS`, found nothing")]
    NoTable,

    /// A line that ends too early.
    #[error("{argument}: expected {expected}, found the end of the table")]
    Missing { argument: &'static str, expected: &'static str },
    /// A word that isn't one of those allowed.
    #[error("{argument}: expected {}, found {}", list(allowed), quoted(found))]
    Word { argument: &'static str, allowed: Vec<&'static str>, found: String },
    /// A word that can't begin the next part of a table.
    #[error(
        "{argument}: expected {expected}, found {} (if that belongs to what is before it: \
         {count} there is too small)",
        quoted(found)
    )]
    Next { argument: &'static str, expected: &'static str, found: String, count: &'static str },
    /// A word that isn't a number, or one out of range.
    #[error("{argument}: expected a whole number from {min} to {max}, found {}", quoted(found))]
    Number { argument: &'static str, min: u64, max: u64, found: String },
    /// A word that isn't a number with one of its units.
    #[error("{argument}: expected {expected}, found {}", quoted(found))]
    Quantity { argument: &'static str, expected: &'static str, found: String },
    /// A quantity that no 64-bit number holds.
    #[error("{argument}: expected {expected}, less than 2^64 in all, found {}", quoted(found))]
    QuantityOverflow { argument: &'static str, expected: &'static str, found: String },
    /// A quantity out of range.
    #[error(
        "{argument}: expected {min} to {max} (a bare number is {plain}), found {}",
        quoted(found)
    )]
    QuantityRange {
        argument: &'static str,
        min: String,
        max: String,
        plain: &'static str,
        found: String,
    },
    /// A number of parameters that the type doesn't have.
    #[error("{argument}: expected {expected}, found {found}")]
    Count { argument: &'static str, expected: &'static str, found: usize },
    /// A number of parameters that is larger than what is left.
    #[error("{argument}: expected no more than the {left} words that follow, found {count}")]
    CountBeyondEnd { argument: &'static str, count: u64, left: usize },
    /// Something that can't be a backing device's name.
    #[error(
        "{argument}: expected an absolute path of at most {PATH_BYTES_MAX} bytes or MAJOR:MINOR, \
         found {}",
        quoted(found)
    )]
    Path { argument: &'static str, found: String },

    /// A parameter behind the options.
    #[error("expected another `key:value` option, found {}: options come last", quoted(found))]
    OptionsLast { found: String },
    /// An option that isn't one.
    #[error("option: expected {}, found {}", list(allowed), quoted(key))]
    OptionKey { allowed: Vec<&'static str>, key: String },
    /// An option given twice.
    #[error("option: expected `{key}` once, found it twice")]
    OptionTwice { key: &'static str },

    /// A table that doesn't begin at sector 0.
    #[error("<start>: expected 0, as a target is a whole device, found {found}")]
    Start { found: u64 },
    /// Site links of which the first isn't the local one.
    #[error("<slink_nr>: expected 0, the local site, as the first site link, found {found}")]
    FirstSlink { found: SlinkNr },
    /// A site link number given twice.
    #[error("<slink_nr>: expected a number of its own for each site link, found {nr} again")]
    SlinkTwice { nr: SlinkNr },
    /// More site links than a replicator may have.
    #[error("expected at most {SITES_MAX} site links, found another one")]
    Sites,
    /// Policies that contradict each other.
    #[error("<slink_policy>: expected either `sync` or `async`, found both")]
    PolicyConflict,
    /// A policy word given twice.
    #[error("<slink_policy>: expected each word once, found `{word}` again")]
    PolicyTwice { word: &'static str },
    /// A limit on falling behind for a site that can't.
    #[error(
        "<fall_behind>: expected none with policy `sync`, which can't fall behind, found {}",
        quoted(found)
    )]
    SyncFallBehind { found: String },

    /// A device without sectors.
    #[error("<length>: expected at least 1 sector, found 0")]
    Empty,
    /// Legs of which the first isn't the LD.
    #[error("<slink_nr>: expected 0, the local device, as the first leg, found {found}")]
    FirstLeg { found: SlinkNr },
    /// Two legs of a device on one site link.
    #[error("<slink_nr>: expected one leg of a device per site link, found {nr} again")]
    LegTwice { nr: SlinkNr },
    /// A region size that no dirty log can have.
    #[error(
        "<region_size>: expected a power of two, at least {REGION_SECTORS_MIN} sectors, found {}",
        quoted(found)
    )]
    Region { found: String },
    /// A region that is larger than its device.
    #[error("<region_size>: expected at most the device's {len} sectors, found {found}")]
    RegionBeyondDevice { found: Sectors, len: Sectors },
    /// So many regions that their bits would fill the memory.
    #[error(
        "<region_size>: expected at least {least} sectors, for at most {REGIONS_MAX} regions on \
         a device of {len} sectors, found {found}"
    )]
    RegionCount { found: Sectors, least: Sectors, len: Sectors },

    /// One device for two purposes.
    #[error("{}: expected a device of its own for {role}, found {taken}", quoted(path))]
    PathTwice { path: String, role: String, taken: String },
    /// A device of a replicator that the tables lack.
    #[error("<replicator_device>: expected {}, found {}", replicators(known), quoted(name))]
    ReplicatorUnknown { name: String, known: Vec<String> },
    /// A leg on a site link that its replicator lacks.
    #[error("<slink_nr>: expected a site link of `{replicator}` ({}), found {nr}", numbers(known))]
    SlinkUnknown { nr: SlinkNr, replicator: String, known: Vec<SlinkNr> },
    /// A device number given twice.
    #[error(
        "<dev_nr>: expected a number of its own for each device of `{replicator}`, found {nr}, \
         which is `{taken}`"
    )]
    DevNrTwice { nr: DevNr, replicator: String, taken: String },
    /// More devices than a replicator may have.
    #[error("expected at most {DEVICES_MAX} devices of `{replicator}`, found another one")]
    Devices { replicator: String },
    /// More legs than a replicator may have.
    #[error("expected at most {LEGS_MAX} legs over all devices of `{replicator}`, found more")]
    Legs { replicator: String },

    /// A concise device without all of its fields.
    #[error(
        "expected `NAME,UUID,MINOR,FLAGS,TABLE`, found the device's end instead of its {missing}"
    )]
    Field { missing: &'static str },
    /// A UUID that device-mapper would not take.
    #[error("uuid: expected one word of at most {UUID_BYTES_MAX} bytes, found {}", quoted(found))]
    Uuid { found: String },
    /// A read-only device.
    #[error(
        "flags: expected `rw` or nothing, found `ro`: a replicated device is there to be written"
    )]
    ReadOnly,
}

/// A word as found; a long one is cut.
pub(crate) fn quoted(word: &str) -> String {
    match word.char_indices().nth(FOUND_MAX) {
        Some((cut, _)) => format!("`{}...`", &word[..cut]),
        None if word.is_empty() => "nothing".to_owned(),
        None => format!("`{word}`"),
    }
}

/// `a`, `b` or `c`.
fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [rest @ .., last] => format!("`{}` or `{last}`", rest.join("`, `")),
    }
}

fn replicators(known: &[String]) -> String {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match known[..] {
        [] => "the name of a replicator in these tables, of which there is none".to_owned(),
        _ => format!("the name of a replicator in these tables ({})", list(&known)),
    }
}

pub(crate) fn numbers(known: &[SlinkNr]) -> String {
    known.iter().map(SlinkNr::to_string).collect::<Vec<_>>().join(", ")
}

/// The longest word that is quoted whole, in characters.
const FOUND_MAX: usize = 64;
