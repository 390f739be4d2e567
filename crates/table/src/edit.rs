//! Edits of a group in the words of 2009's messages: what its table is afterwards.
//!
//! ```text
//! slink message NR { policy <slink_policy> | fallbehind <fall_behind>{=| }<N> | key:value }+
//! slink add     [<slink_type> <#slink_params>] NR [<slink_policy> [<fall_behind> <N>]] [key:value]...
//! slink del     NR
//! replog resize SECTORS
//! device add    [<replicator_device> <dev_nr>] [DEV] NR 1 <dev_path> <dlog_type> <#dlog_params> ...
//! device del    [DEV] NR
//! ```
//!
//! `DEV`, a number or a name, is there if the message is not sent to the device itself. An edit
//! may not make what no table may say.

use std::borrow::Cow;

use blk::{DevNr, SlinkNr};
use thiserror::Error;

use crate::args::{Args, Counted};
use crate::error::Fault;
use crate::kind::{numbers, quoted};
use crate::options::read_slink;
use crate::origin::Places;
use crate::replicator::{limit, log_size, policy, slink, slink_nr};
use crate::replicator_dev::leg;
use crate::spelling::{SLINK_TYPES, choose, find};
use crate::words::{Word, is_hidden};
use crate::{ErrorKind, Group, GroupDevice, SlinkOptions, SlinkTable};

/// What is wrong with an edit; printed as a sentence, like all errors of tables.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the facts that the sentence above them names")]
pub enum EditError {
    /// What no table may say either.
    #[error(transparent)]
    Table(ErrorKind),
    /// Something behind the last word of an edit.
    #[error("expected nothing more, found {}", quoted(found))]
    LeftOver { found: String },
    /// An edit of the site link that is always there.
    #[error("<slink_nr>: expected a remote site link; 0 is the local one, and stays")]
    LocalSlink,
    /// A site link that is to go before its legs.
    #[error(
        "<slink_nr>: expected a site link without devices, found {nr}, which has {}; \
         `device del {nr}` takes one away",
        devices.join(", ")
    )]
    SlinkInUse { nr: SlinkNr, devices: Vec<String> },
    /// A device that the group lacks.
    #[error("expected a device of `{replicator}` ({}), found {}", known.join(", "), quoted(found))]
    DeviceUnknown { replicator: String, known: Vec<String>, found: String },
    /// A leg that a device lacks.
    #[error(
        "<slink_nr>: expected a site link that has `{device}` ({}), found {nr}",
        numbers(known)
    )]
    LegUnknown { device: String, known: Vec<SlinkNr>, nr: SlinkNr },
}

impl Group {
    /// The group after an edit. `target` is the device that the words are said to, if one is.
    ///
    /// # Errors
    /// Words that are no edit, and edits that no table allows.
    pub fn edited(&self, target: Option<DevNr>, words: &[&str]) -> Result<Self, EditError> {
        let words = as_words(words)?;
        let mut group = self.clone();
        group.edit(target, &mut Args::new(&words, 0))?;
        group.checked().map_err(|error| EditError::Table(error.into_kind()))
    }

    fn edit(&mut self, target: Option<DevNr>, args: &mut Args<'_>) -> Result<(), EditError> {
        let what = choose("", args.next("message", "`slink`, `device` or `replog`")?, NOUNS)?;
        let next = |args: &mut Args<'_>, verbs: &Verbs, expected| {
            choose(what.word(), args.next(what.word(), expected)?, verbs)
        };
        match what {
            Noun::Slink => match next(args, SLINK_VERBS, "`message`, `add` or `del`")? {
                Verb::Message => self.slink_message(args),
                Verb::Add => self.slink_add(args),
                Verb::Del => self.slink_del(args),
            },
            Noun::Replog => {
                choose("replog", args.next("replog", "`resize`")?, REPLOG_VERBS)?;
                self.replog_resize(args)
            }
            Noun::Device => match next(args, DEVICE_VERBS, "`add` or `del`")? {
                Verb::Del => self.device_del(target, args),
                Verb::Add | Verb::Message => self.device_add(target, args),
            },
        }
    }

    // ---- the log

    fn replog_resize(&mut self, args: &mut Args<'_>) -> Result<(), EditError> {
        self.table.log.size = Some(log_size("replog resize (sectors)", args)?);
        refuse_more(args)
    }

    // ---- site links

    fn slink_message(&mut self, args: &mut Args<'_>) -> Result<(), EditError> {
        let at = self.known_slink(args)?;
        let table = &mut self.table.slinks[at];
        let mut options = Vec::new();
        loop {
            let word = args.next("slink message", CHANGES)?;
            match &*word.text {
                "policy" => {
                    let words = args.next("<slink_policy>", "`sync`, `async` or `stall`")?;
                    table.policy = Some(policy(words)?);
                }
                "fallbehind" => table.set_limit(args)?,
                text if text.contains(':') => options.push(word.clone()),
                _ => return Err(fault(word, unknown_change(word))),
            }
            if args.is_empty() {
                break;
            }
        }
        let given = read_slink(&options, 0, &mut Places::default())?;
        table.options = table.options.clone().overruled_by(given);
        Ok(())
    }

    fn slink_add(&mut self, args: &mut Args<'_>) -> Result<(), EditError> {
        let first = args.next("slink add", "a site link number")?;
        let mut words = vec![first.clone()];
        let mut kind = SLINK_TYPES[0].0;
        if let Some(given) = find(&first.text, SLINK_TYPES) {
            kind = given;
            words = args.counted("#slink_params")?.words.to_vec();
            refuse_more(args)?;
        }
        while let Some(word) = args.peek() {
            words.push(word.clone());
            args.next("slink add", "a word")?;
        }
        let (nr, word) = slink_nr(&mut Args::new(&words, first.at.end))?;
        if let Some(at) = self.table.slinks.iter().position(|it| it.nr == nr) {
            return Err(fault(word, ErrorKind::SlinkTwice { nr: self.table.slinks[at].nr }));
        }
        let params = Counted::all("slink add", word, &words);
        let places = &mut Places::default();
        self.table.slinks.push(slink(kind, nr, &params, self.table.slinks.len(), places)?);
        Ok(())
    }

    fn slink_del(&mut self, args: &mut Args<'_>) -> Result<(), EditError> {
        let at = self.known_slink(args)?;
        refuse_more(args)?;
        let nr = self.table.slinks[at].nr;
        let has = |it: &&GroupDevice| it.table.legs.iter().any(|leg| leg.slink == nr);
        let devices: Vec<String> =
            self.devices.iter().filter(has).map(|it| it.name.clone()).collect();
        if nr.is_local() {
            return Err(EditError::LocalSlink);
        }
        if !devices.is_empty() {
            return Err(EditError::SlinkInUse { nr, devices });
        }
        self.table.slinks.remove(at);
        Ok(())
    }

    fn known_slink(&self, args: &mut Args<'_>) -> Result<usize, EditError> {
        let (nr, word) = slink_nr(args)?;
        self.table.slinks.iter().position(|slink| slink.nr == nr).ok_or_else(|| {
            let (replicator, known) = (self.name.clone(), self.slink_nrs());
            fault(word, ErrorKind::SlinkUnknown { nr, replicator, known })
        })
    }

    fn slink_nrs(&self) -> Vec<SlinkNr> {
        self.table.slinks.iter().map(|slink| slink.nr).collect()
    }

    // ---- legs

    fn device_add(&mut self, target: Option<DevNr>, args: &mut Args<'_>) -> Result<(), EditError> {
        let at = self.device(target, args)?;
        let (nr, word) = slink_nr(args)?;
        let known = self.slink_nrs();
        let device = &mut self.devices[at];
        if !known.contains(&nr) {
            let replicator = self.name.clone();
            return Err(fault(word, ErrorKind::SlinkUnknown { nr, replicator, known }));
        }
        if device.table.legs.iter().any(|leg| leg.slink == nr) {
            return Err(fault(word, ErrorKind::LegTwice { nr }));
        }
        let nth = device.table.legs.len();
        device.table.legs.push(leg(nr, args, device.len, nth, &mut Places::default())?);
        refuse_more(args)
    }

    fn device_del(&mut self, target: Option<DevNr>, args: &mut Args<'_>) -> Result<(), EditError> {
        let at = self.device(target, args)?;
        let (nr, _) = slink_nr(args)?;
        refuse_more(args)?;
        let device = &mut self.devices[at];
        if nr.is_local() {
            return Err(EditError::LocalSlink);
        }
        let known = device.table.legs.iter().map(|leg| leg.slink).collect();
        let Some(leg) = device.table.legs.iter().position(|leg| leg.slink == nr) else {
            let device = device.name.clone();
            return Err(EditError::LegUnknown { device, known, nr });
        };
        device.table.legs.remove(leg);
        Ok(())
    }

    /// The device that is meant: the one the words are said to, or the one they name.
    fn device(&self, target: Option<DevNr>, args: &mut Args<'_>) -> Result<usize, EditError> {
        let names = |word: &Word<'_>| crate::name::bare_replicator(word).ok();
        if args.peek().and_then(names).as_ref() == Some(&self.name) {
            args.next("<replicator_device>", "the replicator's name")?;
            let word = args.next("<dev_nr>", "a device's number")?;
            let named = self.named_device(word)?;
            let (nr, name) = (self.devices[named].table.dev_nr, &self.devices[named].name);
            // What is said to a device is about that device only.
            return match target {
                Some(target) if target != nr => Err(EditError::DeviceUnknown {
                    replicator: self.name.clone(),
                    known: vec![target.to_string()],
                    found: format!("{nr} {name}"),
                }),
                _ => Ok(named),
            };
        }
        let at = target.and_then(|nr| self.devices.iter().position(|it| it.table.dev_nr == nr));
        at.map_or_else(|| self.named_device(args.next("device", "a device")?), Ok)
    }

    fn named_device(&self, word: &Word<'_>) -> Result<usize, EditError> {
        let is_nr = |it: &GroupDevice| it.table.dev_nr.to_string() == word.text;
        let by_nr = self.devices.iter().position(is_nr);
        by_nr.or_else(|| self.devices.iter().position(|it| it.name == word.text)).ok_or_else(|| {
            let known = |it: &GroupDevice| format!("{} {}", it.table.dev_nr, it.name);
            let known = self.devices.iter().map(known).collect();
            let (replicator, found) = (self.name.clone(), word.owned());
            EditError::DeviceUnknown { replicator, known, found }
        })
    }
}

impl From<Fault> for EditError {
    fn from(fault: Fault) -> Self {
        Self::Table(fault.into_kind())
    }
}

impl SlinkTable {
    /// `TYPE=N`, or `TYPE N`; 0 is no limit.
    fn set_limit(&mut self, args: &mut Args<'_>) -> Result<(), EditError> {
        let word = args.next("<fall_behind>", "`ios`, `size` or `timeout`")?;
        let limit = match word.split_once('=') {
            Some((word, n)) => limit(&word, &n)?,
            None => limit(word, args.next("<N>", "a limit")?)?,
        };
        self.fall_behind = Some(limit).filter(|limit| !limit.is_unlimited());
        Ok(())
    }
}

impl SlinkOptions {
    fn overruled_by(self, given: Self) -> Self {
        Self {
            on_limit: given.on_limit.or(self.on_limit),
            on_down: given.on_down.or(self.on_down),
            timeout_io: given.timeout_io.or(self.timeout_io),
            resync_rate: given.resync_rate.or(self.resync_rate),
            order: given.order.or(self.order),
            mark: given.mark.or(self.mark),
        }
    }
}

fn fault(word: &Word<'_>, kind: ErrorKind) -> EditError {
    word.fault(kind).into()
}

fn unknown_change(word: &Word<'_>) -> ErrorKind {
    let allowed = vec!["policy", "fallbehind", "key:value"];
    ErrorKind::Word { argument: "slink message", allowed, found: word.owned() }
}

fn refuse_more(args: &Args<'_>) -> Result<(), EditError> {
    args.peek().map_or(Ok(()), |word| Err(EditError::LeftOver { found: word.owned() }))
}

/// The words of a message: what a table may hold, one after the other.
fn as_words<'w>(words: &[&'w str]) -> Result<Vec<Word<'w>>, EditError> {
    let mut at = 0;
    let word = |text: &&'w str| {
        if let Some(character) = text.chars().find(|c| is_hidden(*c)) {
            return Err(EditError::Table(ErrorKind::Character { character }));
        }
        let word = Word { text: Cow::Borrowed(text), at: at..at + text.len() };
        at = word.at.end + 1;
        Ok(word)
    };
    words.iter().map(word).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Noun {
    Slink,
    Device,
    Replog,
}

impl Noun {
    fn word(self) -> &'static str {
        match self {
            Self::Slink => "slink",
            Self::Device => "device",
            Self::Replog => "replog",
        }
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Message,
    Add,
    Del,
}

type Verbs = crate::spelling::Spellings<Verb>;

const NOUNS: &crate::spelling::Spellings<Noun> =
    &[("slink", Noun::Slink), ("device", Noun::Device), ("replog", Noun::Replog)];
const REPLOG_VERBS: &crate::spelling::Spellings<()> = &[("resize", ())];
const SLINK_VERBS: &Verbs = &[("message", Verb::Message), ("add", Verb::Add), ("del", Verb::Del)];
const DEVICE_VERBS: &Verbs = &[("add", Verb::Add), ("del", Verb::Del)];
const CHANGES: &str = "`policy`, `fallbehind` or `key:value`";
