//! A log that is lost: the local disks stand in for it, and they keep no order.
//!
//! What survives is no prefix then: of each sector by itself the newest that was promised, or
//! something newer. So it is until everything has drained.

use blk::{DevNr, Sector, Sectors};

use super::{Content, Nr, Oracle, Violation};

impl Oracle {
    /// The machine says that its log is lost.
    pub fn log_is_lost(&mut self) {
        self.without_log = true;
        self.sites[0].set_lenient(true);
    }

    /// Everything has drained.
    pub(super) fn log_is_there(&mut self) {
        self.without_log = false;
        self.cache_lost.clear();
        self.sites[0].set_lenient(false);
    }

    /// Whether the log is, or was, lost.
    #[must_use]
    pub fn is_without_log(&self) -> bool {
        self.without_log
    }

    /// A sector is on the media of the local site, which stands in for the log. What it was
    /// written over can't come back any more, and is as durable: a copy that was read before may
    /// still bring it to a site. (Zeroes are taken for the newest that there were.)
    pub fn locally_durable(&mut self, dev: DevNr, sector: Sector, content: Content) {
        let Some(row) = self.layout.range(dev, sector, Sectors(1)) else { return };
        let at = row.start;
        let Some(shown) = self.history.readings(at, content).next() else { return };
        let was_there = [Content::ZEROES, self.history.initial(at)];
        let upto_it = self.history.of(at).iter().filter(|&&nr| nr <= shown);
        let contents = upto_it.map(|&nr| self.history.content(at, nr));
        for content in contents.filter(|content| !was_there.contains(content)) {
            self.log.insert(content, at);
        }
    }

    /// A local disk that stands in for the log lost its power, and this is what it still holds.
    /// The machine has what the cache held, and writes it again; if it dies before, that is gone
    /// where no FLUSH had been made, as on any disk (P1, P8).
    pub fn cache_is_lost(&mut self, dev: DevNr, sector: Sector, content: Content) {
        if let Some(row) = self.layout.range(dev, sector, Sectors(1)) {
            self.cache_lost.insert(row.start, content);
        }
    }

    /// What [`Oracle::recovered`] demands, sector by sector.
    ///
    /// # Errors
    /// If one shows something older than what was promised (P1), or nobody's.
    pub(super) fn recovered_without_log(
        &mut self,
        power_cut: bool,
        shown: &[Content],
    ) -> Result<Nr, Violation> {
        let now = self.tick();
        // What one sector shows of a write is no promise about its others.
        let mut all = Vec::with_capacity(shown.len());
        for (at, &content) in shown.iter().enumerate() {
            let was_lost = self.cache_lost.get(&at) == Some(&content);
            let promised = self.history.promised(at, power_cut || was_lost);
            let Some(found) = self.history.readings(at, content).next() else {
                let (place, heads) = (self.layout.place(at), Vec::new());
                return Err(Violation::NotAPrefix { place, content, heads });
            };
            if found < promised {
                return Err(Violation::Lost { promised, head: found });
            }
            all.push(found);
        }
        for (at, &found) in all.iter().enumerate() {
            self.history.truncate_sector(at, found, power_cut, now);
            self.floors[at] = found;
        }
        let newest = all.into_iter().max().unwrap_or(Nr(0));
        self.acked = newest;
        self.stable = if power_cut { newest } else { self.stable.min(newest) };
        self.lags.iter_mut().for_each(|lag| lag.truncate(newest));
        for site in 0..self.sites.len() {
            self.refresh(site, 0..self.layout.total())?;
        }
        self.recovering = false;
        self.cache_lost.clear();
        Ok(newest)
    }
}
