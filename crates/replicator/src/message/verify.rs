//! The message `verify`: what a site holds is compared with what it should hold, while
//! applications write.
//!
//! ```text
//! verify [all | SITE [DEV]]          compare; `status` and `why` tell how far it is, and what differs
//! verify [all | SITE [DEV]] repair   and have copied what differs
//! verify [all | SITE [DEV]] stop     end it
//! ```

use blk::{DevNr, SlinkNr, Time};
use slink::Verification;

use super::MessageError;
use crate::machine::Replicator;

impl Replicator {
    /// Has a site's copies, or one device's, compared; one comparison of a site at a time.
    ///
    /// # Errors
    /// A site, or a device there, that the table does not name, or the local site.
    pub fn verify(
        &mut self,
        now: Time,
        slink: SlinkNr,
        ask: Verification,
    ) -> Result<(), MessageError> {
        let link = self.links.iter_mut().find(|link| link.nr() == slink && !slink.is_local());
        let link = link.ok_or(MessageError::NoSite { slink })?;
        if let Some(dev) = ask.dev.filter(|dev| link.dirty_log(*dev).is_none()) {
            return Err(MessageError::NoLeg { slink, dev });
        }
        let log = self.log.as_ref().ok_or(MessageError::NotRunning)?;
        link.verify(now, log, ask);
        Ok(())
    }

    pub(super) fn verify_message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        let (then, rest) = match rest.split_last() {
            Some((&"repair", rest)) => (Then::Repair, rest),
            Some((&"stop", rest)) => (Then::Stop, rest),
            _ => (Then::Tell, rest),
        };
        let (sites, dev) = self.copies_named(target, first, rest)?;
        let mut answer = String::new();
        for slink in sites {
            let what = dev.map_or("everything there".to_owned(), |dev| self.device_label(dev));
            let told = match then {
                Then::Stop => {
                    let links = self.links.iter_mut().filter(|link| link.nr() == slink);
                    links.for_each(|link| link.stop_verifying(now));
                    "nothing is compared any more".to_owned()
                }
                Then::Tell | Then::Repair => {
                    let repair = then == Then::Repair;
                    self.verify(now, slink, Verification { dev, repair })?;
                    let end = if repair { ", and repaired" } else { "" };
                    format!("{what} is compared{end}")
                }
            };
            answer += &format!("site {slink}: {told}\n");
        }
        Ok(answer)
    }
}

/// What becomes of what is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Tell,
    Repair,
    Stop,
}
