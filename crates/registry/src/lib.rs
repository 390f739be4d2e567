//! The type registry: class and name to constructor, with use counts.
