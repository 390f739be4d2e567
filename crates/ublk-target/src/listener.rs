//! Who hears that the driver has taken a device away, whoever asked it to: `ublk del` tells the
//! driver, and its server only notices.

use std::fmt;
use std::sync::Arc;

use crate::inbox::QueueName;

/// Hears of devices that an engine has let go of. It is called on the engine's thread, and may not
/// wait.
#[derive(Clone)]
pub struct Listener(Arc<Hear>);

type Hear = dyn Fn(Released) + Send + Sync;

/// One device in one life on an engine, of which nothing is held any more; see
/// [`Device::is`](crate::Device::is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released(pub(crate) QueueName);

impl Listener {
    /// Tells `hear` of each device, also of those that it asked to be let go of itself.
    pub fn new(hear: impl Fn(Released) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(crate) fn tell(&self, queue: QueueName) {
        (self.0)(Released(queue));
    }
}

impl Default for Listener {
    /// For those who need not know.
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
