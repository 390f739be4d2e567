//! What the registry refuses, with the facts.

use thiserror::Error;

use crate::{Registry, Version};

/// Why a type was not registered, unregistered or handed out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// A name that could not be a word of a table or of a listing.
    #[error(
        "`{name}` can't name a {class} type: expected 1 to {max} lower-case letters, digits, \
         `-` or `_`, a letter first",
        max = Registry::NAME_BYTES_MAX
    )]
    BadName {
        /// The class asked for.
        class: &'static str,
        /// The name refused.
        name: &'static str,
    },
    /// The class has a type of that name.
    #[error("the {class} type `{name}` is registered already, in version {version}")]
    Duplicate {
        /// The class asked for.
        class: &'static str,
        /// The name that is taken.
        name: &'static str,
        /// The version of the type that has it.
        version: Version,
    },
    /// The class has no type of that name.
    #[error("there is no {class} type `{name}`: {}", known(registered))]
    Unknown {
        /// The class asked for.
        class: &'static str,
        /// The name asked for.
        name: String,
        /// The names the class does have, sorted.
        registered: Vec<&'static str>,
    },
    /// The type has users.
    #[error(
        "the {class} type `{name}` is in use {users} time{}: stop its users first",
        if *users == 1 { "" } else { "s" }
    )]
    InUse {
        /// The class asked for.
        class: &'static str,
        /// The name asked for.
        name: &'static str,
        /// How many leases are alive.
        users: usize,
    },
}

fn known(registered: &[&str]) -> String {
    match registered {
        [] => "none is registered".to_owned(),
        names => format!("expected one of `{}`", names.join("`, `")),
    }
}
