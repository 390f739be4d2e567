//! A use of a type: the constructor, and the count that goes with it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Class;

/// A constructor in use; dropping it puts it back.
///
/// Keep it for as long as what it made: a type can't be unregistered while
/// something it made is alive. A clone is a use of its own.
#[must_use = "dropping the lease puts the type back"]
pub struct Lease<C: Class> {
    constructor: C::Constructor,
    users: Arc<AtomicUsize>,
}

impl<C: Class> Lease<C> {
    pub(crate) fn new(constructor: C::Constructor, users: Arc<AtomicUsize>) -> Self {
        users.fetch_add(1, Ordering::Relaxed);
        Self { constructor, users }
    }
}

impl<C: Class> Deref for Lease<C> {
    type Target = C::Constructor;
    fn deref(&self) -> &C::Constructor {
        &self.constructor
    }
}

impl<C: Class> Clone for Lease<C> {
    fn clone(&self) -> Self {
        Self::new(self.constructor.clone(), Arc::clone(&self.users))
    }
}

impl<C: Class> Drop for Lease<C> {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Class> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("class", &C::NAME)
            .field("users", &self.users.load(Ordering::Relaxed))
            .finish()
    }
}
