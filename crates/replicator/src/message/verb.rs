//! The first word of a message.

use super::MessageError;

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Resume,
    Suspend,
    Slink,
    Statistics,
    Replog,
    ReplaceLog,
    Device,
    Resync,
    Rebuild,
    Down,
    Up,
    Drain,
    Bookmark,
    Verify,
    Differs,
}

impl Verb {
    /// As in 2009 a word may be cut short, and the first list that has it wins.
    pub(super) fn of(word: &str) -> Result<Self, MessageError> {
        if word.is_empty() {
            return Err(MessageError::Empty);
        }
        let has = |(names, _): &&(&[&str], Self)| names.iter().any(|name| name.starts_with(word));
        let found = VERBS.iter().find(has).map(|(_, verb)| *verb);
        found.ok_or_else(|| MessageError::Unknown { found: word.to_owned() })
    }
}

/// Whether a message asks for what takes its time: everything written to reach its sites.
#[must_use]
pub fn is_drain(word: &str) -> bool {
    Verb::of(word) == Ok(Verb::Drain)
}

/// Whether a message asks for another log, which takes whoever can open its device.
#[must_use]
pub fn is_replace_log(word: &str) -> bool {
    Verb::of(word) == Ok(Verb::ReplaceLog)
}

/// `slink`, `device` or `replog`, if a message is an edit of the table (`table::Group::edited`).
#[must_use]
pub fn edit_noun(words: &[String]) -> Option<&'static str> {
    match Verb::of(words.first()?) {
        Ok(Verb::Slink) => Some("slink"),
        Ok(Verb::Device) => Some("device"),
        Ok(Verb::Replog) if words.get(1)? == "resize" => Some("replog"),
        _ => None,
    }
}

/// What each is called; those of 2009 come first, in their order.
const VERBS: &[(&[&str], Verb)] = &[
    (&["resume", "start"], Verb::Resume),
    (&["suspend", "postsuspend", "stop"], Verb::Suspend),
    (&["slink"], Verb::Slink),
    (&["statistics"], Verb::Statistics),
    (&["replog"], Verb::Replog),
    (&["replace-log"], Verb::ReplaceLog),
    (&["device"], Verb::Device),
    (&["resync", "invalidate"], Verb::Resync),
    (&["rebuild"], Verb::Rebuild),
    (&["down"], Verb::Down),
    (&["up"], Verb::Up),
    (&["drain"], Verb::Drain),
    (&["bookmark"], Verb::Bookmark),
    (&["verify"], Verb::Verify),
    (&["differs"], Verb::Differs),
];

/// The messages there are.
pub(super) const MESSAGES: &str = "resume [all], start [all], suspend [all], stop [all], \
                                   slink message NR {policy P | fallbehind TYPE=N | KEY:VALUE}..., \
                                   slink add NR ..., slink del NR, device add ..., device del NR, \
                                   statistics {on|off|reset}, replog statistics {on|off|reset}, \
                                   replog resize SECTORS, \
                                   replace-log [PATH [START [SIZE]]], \
                                   resync [all | SITE [DEV]] (or invalidate), rebuild [DEV], down SITE, up SITE, \
                                   drain, bookmark TEXT, \
                                   verify [all | SITE [DEV]] [repair | stop], \
                                   differs SITE DEV [SECTOR+SECTORS ...] [more]";

/// The messages, for a command line's help.
pub const HELP: &str = "\
Messages; the first word may be cut short: the first line that has it is meant
  resume [all]                       take requests again (also start)
  suspend [all]                      hold requests back (also stop, postsuspend)
  slink message NR policy POLICY     sync, async, stall, joined by +
  slink message NR fallbehind TYPE=N ios, size or timeout; 0 is no limit
  slink message NR KEY:VALUE         on_limit, on_down, timeout_io,
                                     resync_rate, order, mark
  slink add NR [POLICY [TYPE N]] [KEY:VALUE]...
  slink del NR                       one without devices
  statistics on|off|reset            counters of the front end in `status`
  replog statistics on|off|reset     the ring's
  replog resize SECTORS              another size for the log, when it can be
  replace-log [PATH [START [SIZE]]]  another log in its place, lost or at work
  device add NR 1 PATH DIRTY_LOG...  to a device: it comes to a site
  device del NR                      to a device: it goes from a site
  resync [all | SITE [DEV]]          copy it all there anew (also invalidate)
  rebuild [DEV]                      local disks, from a remote site
  down SITE                          an outage by hand
  up SITE                            its end; try the site at once
  drain                              return when all sites that can be reached
                                     have everything
  bookmark TEXT                      a text between two writes
  verify [all | SITE [DEV]] [repair | stop]
                                     compare what is there with what should be
  differs SITE DEV [SECTOR+SECTORS ...] [more]
                                     what is there differs in these ranges";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_that_has_a_word_wins() {
        for (words, verb) in [
            ("s st sta star start r re res resu resum resume", Verb::Resume),
            ("su sus suspend sto stop p po postsuspend", Verb::Suspend),
            ("sl sli slink", Verb::Slink),
            ("stat stati statistics", Verb::Statistics),
            ("rep repl replog", Verb::Replog),
            ("repla replace-log", Verb::ReplaceLog),
            ("resy resync i invalidate", Verb::Resync),
            ("reb rebuild", Verb::Rebuild),
            ("d de device", Verb::Device),
            ("do down", Verb::Down),
            ("u up", Verb::Up),
            ("dr drain", Verb::Drain),
            ("b bookmark", Verb::Bookmark),
            ("v verify", Verb::Verify),
            ("di differs", Verb::Differs),
        ] {
            for word in words.split(' ') {
                assert_eq!(Verb::of(word), Ok(verb), "{word}");
            }
        }
    }

    #[test]
    fn the_help_has_every_message() {
        for (names, _) in VERBS {
            assert!(names.iter().all(|name| HELP.contains(name)), "{names:?}");
            assert!(MESSAGES.contains(names[0]), "{names:?}");
        }
    }

    #[test]
    fn a_word_that_is_longer_than_any_is_none() {
        assert!(Verb::of("starts").is_err() && Verb::of("statisticsx").is_err());
        assert_eq!(Verb::of(""), Err(MessageError::Empty));
    }
}
