//! The type registry: class × name → constructor, with use counts.
//!
//! A table names its parts by type (`ringbuffer`, `blockdev`, `disk`); whoever
//! builds a replicator looks the names up here, so a new type is one file and
//! one [`Registry::register`]. The registry knows no class itself: the crate
//! that owns a class defines a marker type and says, through [`Class`], what
//! its constructors look like.
//!
//! Promises: a name is registered once per class; a type in use stays
//! registered; a [`Lease`] is a use for exactly as long as it lives; the
//! listing has a stable order. Nothing is global: who builds replicators owns a
//! registry. A lease may move to the thread that owns what was built.

#![forbid(unsafe_code)]

mod error;
mod lease;
mod version;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use error::RegistryError;
pub use lease::Lease;
pub use version::Version;

/// A kind of part that has exchangeable types: replog, slink, dirty log, target.
///
/// Implemented by an empty marker type in the crate that owns the class:
///
/// ```
/// struct Wheels;
/// impl registry::Class for Wheels {
///     const NAME: &'static str = "wheels";
///     type Constructor = fn(usize) -> Vec<char>;
/// }
/// ```
pub trait Class: 'static {
    /// The class as people read it in listings and errors; one class, one name.
    const NAME: &'static str;
    /// What makes an instance, usually a `fn` pointer.
    type Constructor: Clone + 'static;
}

/// The types that exist, by class and name.
#[derive(Default)]
pub struct Registry {
    types: BTreeMap<Key, Type>,
}

/// One line of the listing, [`Registry::types`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// The class, [`Class::NAME`].
    pub class: &'static str,
    /// The type's name, as tables spell it.
    pub name: &'static str,
    /// The version its author gave it.
    pub version: Version,
    /// How many leases of it are alive.
    pub users: usize,
}

impl Registry {
    /// The longest name of a type, in bytes: device-mapper's type names have
    /// room for 16 with their terminating zero.
    pub const NAME_BYTES_MAX: usize = 15;

    /// A registry that knows no type.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `name` known in class `C`.
    ///
    /// # Errors
    /// [`RegistryError::BadName`] unless `name` is 1..=[`Self::NAME_BYTES_MAX`]
    /// lower-case letters, digits, `-` or `_`, a letter first;
    /// [`RegistryError::Duplicate`] if the class has that name already.
    pub fn register<C: Class>(
        &mut self,
        name: &'static str,
        version: Version,
        constructor: C::Constructor,
    ) -> Result<(), RegistryError> {
        if !is_type_name(name) {
            return Err(RegistryError::BadName { class: C::NAME, name });
        }
        if let Some(found) = self.types.get(&(C::NAME, name)) {
            let version = found.version;
            return Err(RegistryError::Duplicate { class: C::NAME, name, version });
        }
        let constructor = Box::new(constructor);
        self.types.insert((C::NAME, name), Type { version, users: Arc::default(), constructor });
        Ok(())
    }

    /// Forgets `name` of class `C`.
    ///
    /// # Errors
    /// [`RegistryError::InUse`] while a lease of it is alive,
    /// [`RegistryError::Unknown`] if there is no such type.
    pub fn unregister<C: Class>(&mut self, name: &str) -> Result<(), RegistryError> {
        let (&key, found) = self.find::<C>(name)?;
        let users = found.users.load(Ordering::Relaxed);
        if users > 0 {
            return Err(RegistryError::InUse { class: C::NAME, name: key.1, users });
        }
        self.types.remove(&key);
        Ok(())
    }

    /// The constructor registered as `name` in class `C`; it counts as in use
    /// until the lease is dropped.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], with the names that are registered.
    ///
    /// # Panics
    /// If two classes with different constructors share a [`Class::NAME`].
    pub fn get<C: Class>(&self, name: &str) -> Result<Lease<C>, RegistryError> {
        let (_, found) = self.find::<C>(name)?;
        let constructor = found
            .constructor
            .downcast_ref::<C::Constructor>()
            .expect("classes that share a NAME share a Constructor")
            .clone();
        Ok(Lease::new(constructor, Arc::clone(&found.users)))
    }

    /// Every registered type, sorted by class, then by name.
    #[must_use]
    pub fn types(&self) -> Vec<TypeInfo> {
        let info = |(&(class, name), found): (&Key, &Type)| TypeInfo {
            class,
            name,
            version: found.version,
            users: found.users.load(Ordering::Relaxed),
        };
        self.types.iter().map(info).collect()
    }

    fn find<C: Class>(&self, name: &str) -> Result<(&Key, &Type), RegistryError> {
        let of_class = || self.types.iter().filter(|((class, _), _)| *class == C::NAME);
        of_class().find(|((_, known), _)| *known == name).ok_or_else(|| RegistryError::Unknown {
            class: C::NAME,
            name: name.to_owned(),
            registered: of_class().map(|((_, known), _)| *known).collect(),
        })
    }
}

/// Class and name; the order of the listing is the order of the map.
type Key = (&'static str, &'static str);

struct Type {
    version: Version,
    users: Arc<AtomicUsize>,
    /// The class's `Constructor`, whatever that is.
    constructor: Box<dyn Any>,
}

/// Names are words of a table and of listings, so they are kept plain.
fn is_type_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    name.len() <= Registry::NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
