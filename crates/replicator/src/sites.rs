//! What is done about sites: reading from the one that has everything, mending what could not
//! be read, copying one anew because somebody says so.

use blk::{DevNr, Effect, Op, ReqId, SlinkNr, Time};

use crate::machine::Replicator;
use crate::message::MessageError;
use crate::reads::{At, ReadRequest};
use crate::reload::ReloadError;

impl Replicator {
    // ---- reads

    pub(crate) fn take_read(
        &mut self,
        now: Time,
        req: ReqId,
        dev: DevNr,
        op: Op,
        effects: &mut Vec<Effect>,
    ) {
        let (sector, len) = op.range().expect("a read has a range");
        let log = self.log.as_mut().expect("requests are taken when the log is open");
        let device = self.devices.get_mut(&dev).expect("a request's device was looked up");
        device.in_flight += 1;
        device.counters.reads += 1;
        let request = ReadRequest { req, dev, sector, len };
        let at = At { now, log, effects: &mut *effects };
        if let Some(ended) = self.reads.begin(&request, at) {
            self.end_read(ended, effects);
        }
    }

    /// Before links look around: what hangs there, they are to know.
    pub(crate) fn watch_reads(&mut self, now: Time) {
        let Some(log) = &mut self.log else { return };
        self.reads.watch_deadlines(now, log);
        for (slink, mend) in self.reads.take_mends() {
            let link = self.links.iter_mut().find(|link| link.nr() == slink);
            // It may have gone meanwhile.
            if let Some(link) = link {
                link.mend(mend);
            }
        }
    }

    /// After links have looked around: another copy may be the base.
    pub(crate) fn go_on_reading(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(log) = &mut self.log else { return };
        for ended in self.reads.go_on(At { now, log, effects: &mut *effects }) {
            self.end_read(ended, effects);
        }
    }

    // ---- copying anew

    /// Has everything on a remote site, or one device's copy there, copied anew, whatever disks
    /// are there by now.
    ///
    /// # Errors
    /// A site, or a device there, that the table does not name, the local site, or one whose
    /// copy is the last (P6).
    pub fn resync(
        &mut self,
        now: Time,
        slink: SlinkNr,
        dev: Option<DevNr>,
    ) -> Result<(), MessageError> {
        if slink.is_local() {
            return Err(MessageError::NoSite { slink });
        }
        self.copy_anew(now, slink, dev)
    }

    /// Has the local copy, or one device's, made anew from the site that reads come from then,
    /// whatever disks are there by now.
    ///
    /// # Errors
    /// A device that the table does not name, or a local copy that is the last (P6), or stands in
    /// for a log that is lost (P8).
    pub fn rebuild(&mut self, now: Time, dev: Option<DevNr>) -> Result<(), MessageError> {
        self.copy_anew(now, SlinkNr::LOCAL, dev)
    }

    fn copy_anew(
        &mut self,
        now: Time,
        slink: SlinkNr,
        dev: Option<DevNr>,
    ) -> Result<(), MessageError> {
        let link = self.links.iter_mut().find(|link| link.nr() == slink);
        let link = link.ok_or(MessageError::NoSite { slink })?;
        if let Some(dev) = dev.filter(|dev| link.dirty_log(*dev).is_none()) {
            return Err(MessageError::NoLeg { slink, dev });
        }
        let log = self.log.as_mut().ok_or(MessageError::NotRunning)?;
        if slink.is_local() && log.is_lost() {
            // P8: it stands in for the log, and nothing else does.
            return Err(ReloadError::LogLost.into());
        }
        if log.is_whole(slink) && log.kept_beside(slink).is_none() {
            return Err(MessageError::LastCopy { slink });
        }
        link.resync(now, log, dev);
        Ok(())
    }
}
