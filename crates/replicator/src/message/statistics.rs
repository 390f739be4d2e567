//! `statistics` and `replog statistics`: whether `status` shows the counters of 2009.

use super::MessageError;
use super::refuse_more;
use crate::machine::Replicator;

/// What is done about counters.
enum Switch {
    On,
    Off,
    Reset,
}

impl Replicator {
    pub(super) fn front_statistics(
        &mut self,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        match switch(first, rest)? {
            Switch::On => self.front.shown = true,
            Switch::Off => self.front.shown = false,
            Switch::Reset => self.front.reset(),
        }
        Ok(String::new())
    }

    pub(super) fn replog_message(
        &mut self,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        let Some((&"statistics", rest)) = rest.split_first() else {
            return Err(MessageError::word(first, "`statistics` or `resize`", rest.first()));
        };
        let switch = switch(&format!("{first} statistics"), rest)?;
        let log = self.log.as_mut().ok_or(MessageError::NotRunning)?;
        match switch {
            Switch::On => self.ring_shown = true,
            Switch::Off => self.ring_shown = false,
            Switch::Reset => {
                log.reset_ring_statistics();
                self.reads.met_pending = 0;
            }
        }
        Ok(String::new())
    }
}

fn switch(message: &str, rest: &[&str]) -> Result<Switch, MessageError> {
    refuse_more(message, rest, 1)?;
    match rest.first() {
        Some(&"on") => Ok(Switch::On),
        Some(&"off") => Ok(Switch::Off),
        Some(&"reset") => Ok(Switch::Reset),
        found => Err(MessageError::word(message, "`on`, `off` or `reset`", found)),
    }
}
