//! Which regions of a device are out of sync on a site.
