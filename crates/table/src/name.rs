//! What may name a device, and what may name a backing device.

use crate::ErrorKind;
use crate::error::Fault;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::words::Word;

/// Device-mapper's rule, kept to what a terminal shows and `/dev` can hold.
pub(crate) fn check_name(name: &str) -> Result<(), ErrorKind> {
    let fine = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        && name != "."
        && name != "..";
    if fine { Ok(()) } else { Err(ErrorKind::Name { found: name.to_owned() }) }
}

/// A backing device: an absolute path, or `MAJOR:MINOR`. A relative path would
/// mean one file to the command and another to its daemon.
pub(crate) fn path(argument: &'static str, word: &Word<'_>) -> Result<String, Fault> {
    let absolute = word.text.starts_with('/') && word.text.len() <= PATH_BYTES_MAX;
    if absolute || is_maj_min(&word.text) {
        return Ok(word.owned());
    }
    Err(word.fault(ErrorKind::Path { argument, found: word.owned() }))
}

/// The name of a replicator, from the name or from the path of its device.
pub(crate) fn bare_replicator(word: &Word<'_>) -> Result<String, Fault> {
    let bare = ["/dev/mapper/", "/dev/replicator/"]
        .into_iter()
        .find_map(|directory| word.text.strip_prefix(directory))
        .unwrap_or(&word.text);
    match check_name(bare) {
        Ok(()) => Ok(bare.to_owned()),
        Err(_) => Err(word.fault(ErrorKind::ReplicatorName { found: word.owned() })),
    }
}

fn is_maj_min(word: &str) -> bool {
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok();
    word.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
}
