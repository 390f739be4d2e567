//! The message `differs`: somebody else knows where a site's copies differ, and tells.
//!
//! ```text
//! differs SITE DEV [SECTOR+SECTORS …] more   in these ranges, and others that will be told
//! differs SITE DEV [SECTOR+SECTORS …]        in these, those that were told before, and no others
//! ```
//!
//! What was told is copied. A device that joined the site as `later` is taken in only when all
//! has been told of it.

use blk::{DevNr, Sector, Sectors, Time};

use super::MessageError;
use crate::machine::Replicator;

impl Replicator {
    pub(super) fn differs_message(
        &mut self,
        now: Time,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        let (end, words) = match rest.split_last() {
            Some((&"more", words)) => (false, words),
            _ => (true, rest),
        };
        let slink = self.remote_site("differs", words.first().copied().unwrap_or_default())?;
        let dev = words.get(1).copied().unwrap_or_default();
        let dev = self.device_called("differs", dev)?;
        let words = words.get(2..).unwrap_or_default();
        let ranges: Result<Vec<_>, _> = words.iter().map(|word| self.range(dev, word)).collect();
        let ranges = ranges?;
        let link = self.links.iter_mut().find(|link| link.nr() == slink);
        let link = link.filter(|link| link.dirty_log(dev).is_some());
        let link = link.ok_or(MessageError::NoLeg { slink, dev })?;
        let log = self.log.as_mut().ok_or(MessageError::NotRunning)?;
        if !ranges.is_empty() && log.is_whole(slink) && log.kept_beside(slink).is_none() {
            return Err(MessageError::LastCopy { slink });
        }
        link.differs(now, log, dev, &ranges, end);
        Ok(String::new())
    }

    fn range(&self, dev: DevNr, word: &str) -> Result<(Sector, Sectors), MessageError> {
        let size = self.plan.device(dev).expect("it was just looked up").size;
        let parsed = word.split_once('+').and_then(|(sector, len)| {
            let number = |text: &str| text.parse::<u64>().ok();
            let (sector, len) = (number(sector)?, number(len)?);
            let fits = len > 0 && sector.checked_add(len)? <= size.0;
            fits.then_some((Sector(sector), Sectors(len)))
        });
        parsed.ok_or_else(|| MessageError::Range { found: word.to_owned(), dev, size })
    }
}
