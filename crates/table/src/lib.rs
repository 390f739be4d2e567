//! dm table text to typed tables, and back.
