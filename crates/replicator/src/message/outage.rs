//! `down` and `up`: an outage by hand; `drain`: everything to its site.

use blk::{DevNr, SlinkNr, Time};

use super::{MessageError, refuse_more};
use crate::machine::Replicator;
use crate::status::why::why;

impl Replicator {
    /// A site moves as one, so a message to a device can't take one down.
    pub(super) fn hold_message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
        held: bool,
    ) -> Result<String, MessageError> {
        refuse_device(target, first)?;
        refuse_more(first, rest, 1)?;
        let word = rest.first().copied().unwrap_or_default();
        let slink = self.remote_site(first, word)?;
        self.set_down(now, slink, held)?;
        Ok(String::new())
    }

    /// Takes a remote site down, or lets it be tried again.
    ///
    /// # Errors
    /// No such site, or no log.
    pub fn set_down(&mut self, now: Time, slink: SlinkNr, down: bool) -> Result<(), MessageError> {
        let link = self.links.iter_mut().find(|link| link.nr() == slink && !slink.is_local());
        let link = link.ok_or(MessageError::NoSite { slink })?;
        let log = self.log.as_mut().ok_or(MessageError::NotRunning)?;
        link.hold(now, log, down);
        log::warn!("site {slink}: {}", if down { "taken down by hand" } else { "may be up again" });
        Ok(())
    }

    /// Begins to bring everything that is written to every site; what is lacking now.
    pub(super) fn drain_message(
        &mut self,
        now: Time,
        target: Option<DevNr>,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        refuse_device(target, first)?;
        refuse_more(first, rest, 0)?;
        let written = self.log.as_ref().ok_or(MessageError::NotRunning)?.written();
        self.drain_upto = Some(written);
        let status = self.status(now);
        let lacking = |slink: u16| {
            let site = status.site(slink);
            site.is_some_and(|site| !site.has_everything_up_to(written.0))
        };
        let unreachable =
            |slink: u16| status.site(slink).is_some_and(|site| status.is_cut_off(site));
        let mut answer = String::new();
        for reason in why(&status) {
            let Some(slink) = reason.slink.filter(|slink| lacking(*slink)) else { continue };
            let end = if unreachable(slink) { " (not waited for)" } else { "" };
            answer += &format!("{reason}{end}\n");
        }
        Ok(answer)
    }
}

fn refuse_device(target: Option<DevNr>, message: &str) -> Result<(), MessageError> {
    target.map_or(Ok(()), |_| Err(MessageError::OfReplicator { message: message.to_owned() }))
}
