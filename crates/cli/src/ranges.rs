//! Where copies differ, as a text that one host writes and another reads.
//!
//! ```text
//! # what the log UUID holds beyond what site 1 and its own devices have in common
//! device 0 65536       its number, and its sectors
//! 2048 8               from this sector on, so many
//! device 1 65536
//! all                  anywhere
//! end                  nothing was cut off
//! ```

use anyhow::{Context, Result, bail, ensure};
use replog::tools::Lacking;

/// The ranges of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRanges {
    pub(crate) dev: u32,
    pub(crate) sectors: u64,
    /// First sectors and lengths.
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// The text that says it.
pub(crate) fn text(found: &Lacking) -> String {
    let (uuid, slink) = (&found.uuid, found.slink);
    let mut text = format!(
        "# what the log {uuid} holds beyond what site {slink} and its own devices have in common\n"
    );
    for device in &found.devices {
        text += &format!("device {} {}\n", device.dev, device.sectors);
        if device.all {
            text += "all\n";
        } else {
            text.extend(device.ranges.iter().map(|(at, len)| format!("{at} {len}\n")));
        }
    }
    text + "end\n"
}

/// Reads such a text.
pub(crate) fn parse(text: &str) -> Result<Vec<DeviceRanges>> {
    let mut devices: Vec<DeviceRanges> = Vec::new();
    let mut ended = false;
    for (nr, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let wrong = || format!("line {}: found {line:?}", nr + 1);
        ensure!(!ended, "{}, expected nothing behind `end`", wrong());
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["end"] => ended = true,
            ["device", dev, sectors] => {
                let dev = dev.parse().with_context(wrong)?;
                let sectors = sectors.parse().with_context(wrong)?;
                let is_new = devices.iter().all(|device| device.dev != dev);
                ensure!(is_new, "{}, expected each device once", wrong());
                devices.push(DeviceRanges { dev, sectors, ranges: Vec::new() });
            }
            [first, ref more @ ..] if more.len() <= 1 => {
                let Some(device) = devices.last_mut() else {
                    bail!("{}, expected `device NUMBER SECTORS` before it", wrong())
                };
                let (sector, len): (u64, u64) = match (first, more) {
                    ("all", []) => (0, device.sectors),
                    (at, [len]) => {
                        (at.parse().with_context(wrong)?, len.parse().with_context(wrong)?)
                    }
                    _ => bail!("{}, expected `SECTOR SECTORS`, `all` or `end`", wrong()),
                };
                let fits = sector.checked_add(len).is_some_and(|end| end <= device.sectors);
                ensure!(fits && len > 0, "{}, expected a range of the device", wrong());
                device.ranges.push((sector, len));
            }
            _ => bail!("{}, expected `device NUMBER SECTORS`, `SECTOR SECTORS` or `end`", wrong()),
        }
    }
    ensure!(ended, "expected `end` as the last line: the text is cut off");
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use replog::tools::LackingDevice;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_printed_is_what_is_read() {
        let device = |dev, all| LackingDevice {
            dev,
            sectors: 4096,
            all,
            ranges: BTreeMap::from([(8, 8), (4088, 8)]),
        };
        let devices = vec![device(0, false), device(7, true)];
        let found = Lacking { uuid: "u".into(), slink: 1, common: 9, session: None, devices };
        let read = parse(&text(&found)).unwrap();
        let of = |dev, ranges| DeviceRanges { dev, sectors: 4096, ranges };
        assert_eq!(read, [of(0, vec![(8, 8), (4088, 8)]), of(7, vec![(0, 4096)])]);
    }

    #[test]
    fn what_is_cut_off_or_is_no_such_text_is_refused_with_its_line() {
        for (text, expected) in [
            ("", "cut off"),
            ("device 0 8\n0 8\n", "cut off"),
            ("device 0 8\n0 9\nend", "line 2"),
            ("device 0 8\n0 0\nend", "line 2"),
            ("device 0 8\n18446744073709551615 2\nend", "line 2"),
            ("0 8\nend", "line 1: found \"0 8\", expected `device"),
            ("device 0 8\ndevice 0 8\nend", "expected each device once"),
            ("device x 8\nend", "line 1"),
            ("device 0 8\nall 3\nend", "line 2"),
            ("device 0 8\nnone\nend", "expected `SECTOR SECTORS`"),
            ("device 0 8\n1 2 3\nend", "line 2"),
            ("end\nend", "behind `end`"),
            ("\u{0}\nend", "line 1"),
        ] {
            let refusal = parse(text).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text:?}: {refusal}");
        }
    }
}
