//! `bookmark`: a text between two writes.

use blk::DevNr;
use replog::Refusal;
use replog::bookmark::BOOKMARK_BYTES_MAX;

use super::MessageError;
use crate::machine::Replicator;

impl Replicator {
    /// All words together are the text.
    pub(super) fn bookmark_message(
        &mut self,
        first: &str,
        rest: &[&str],
    ) -> Result<String, MessageError> {
        if rest.is_empty() {
            return Err(MessageError::word(first, "a text", None));
        }
        let text = rest.join(" ");
        let refused = |found| MessageError::BookmarkText { max: BOOKMARK_BYTES_MAX, found };
        if text.len() > BOOKMARK_BYTES_MAX {
            return Err(refused(format!("{} bytes", text.len())));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(refused(format!("the character U+{:04X}", c as u32)));
        }
        let dev = self.devices.keys().next().copied().unwrap_or(DevNr(0));
        let log = self.log.as_mut().ok_or(MessageError::NotRunning)?;
        let seq = log.bookmark(dev, &text).map_err(|refusal| match refusal {
            Refusal::LogFailed => MessageError::NotRunning,
            Refusal::RingFull => MessageError::Busy { why: "it is full" },
            Refusal::TailFull => MessageError::Busy { why: "its RAM tail is full" },
            Refusal::Overlap | Refusal::GroupFull => MessageError::Busy { why: "it is writing" },
        })?;
        Ok(format!("write {seq}\n"))
    }
}
