//! What may name a device, and what may name a backing device.

use crate::ErrorKind;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

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
pub(crate) fn check_path(argument: &'static str, path: &str) -> Result<(), ErrorKind> {
    let absolute = path.starts_with('/') && path.len() <= PATH_BYTES_MAX;
    if absolute || is_maj_min(path) {
        return Ok(());
    }
    Err(ErrorKind::Path { argument, found: path.to_owned() })
}

/// The name of a replicator, from the name or from the path of its device.
pub(crate) fn bare_replicator(word: &str) -> Result<&str, ErrorKind> {
    let bare = ["/dev/mapper/", "/dev/replicator/"]
        .into_iter()
        .find_map(|directory| word.strip_prefix(directory))
        .unwrap_or(word);
    match check_name(bare) {
        Ok(()) => Ok(bare),
        Err(_) => Err(ErrorKind::ReplicatorName { found: word.to_owned() }),
    }
}

fn is_maj_min(word: &str) -> bool {
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok();
    word.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
}
