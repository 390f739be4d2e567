//! What becomes of the devices while their log is lost.

use super::super::data::{Fate, LogStatus, LossStatus, Status};

/// The sentence about it, if it is.
pub(super) fn lost(status: &Status, log: &LogStatus) -> Option<String> {
    let loss = log.loss.as_ref()?;
    let failure = log.failure.as_deref().unwrap_or("the log was lost in an earlier life");
    if let Some(held) = &loss.held {
        return Some(format!("everything waits: {failure}; {held}"));
    }
    if !loss.bypassed {
        return Some(format!("writers wait: {failure}; {}", about_to(status)));
    }
    Some(format!("there is no log: {}", next(status, loss)))
}

/// On the way to do without.
fn about_to(status: &Status) -> String {
    let holds = |site: &&super::SiteStatus| !site.is_local() && !site.detached;
    let holding = status.sites.iter().filter(holds).find(|it| it.limits.on_full != Fate::Detach);
    holding.map_or("the local disks are about to stand in for it".to_owned(), |site| {
        let (nr, name) = (site.slink, &status.name);
        format!(
            "the table says that they wait for site {nr}, which nothing can be sent to now; \
             `replicator message {name} 0 resync {nr}` gives it up"
        )
    })
}

/// What is to be done about it.
fn next(status: &Status, loss: &LossStatus) -> String {
    let goes_on = "the devices go on against the local disks alone, and other sites get nothing";
    match (&loss.replacing, &loss.replace_failed) {
        (Some(step), _) => format!("{goes_on}; a new one is being made ({step})"),
        (None, Some(why)) => format!("{goes_on}; no new one could be made: {why}"),
        (None, None) => {
            let message = format!("replicator message {} 0 replace-log [PATH]", status.name);
            format!("{goes_on}; `{message}` makes a new one")
        }
    }
}
