//! Time as a value: handed in, never asked for.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a clock that never jumps, in nanoseconds since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A length of time.
pub type Span = Duration;

/// Wall-clock time in nanoseconds since 1970, for people; nothing decides by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Time {
    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        // A span of centuries saturates: "never" is a fair answer to it.
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_a_span_behind_another_or_not_at_all() {
        let (early, late) = (Time(5), Time(5) + Span::from_nanos(7));
        assert_eq!(
            (late, late - early, late.since(early)),
            (Time(12), Span::from_nanos(7), late - early)
        );
        assert_eq!(early.since(late), Span::ZERO);
        assert_eq!(Time(1) + Span::MAX, Time(u64::MAX));
    }
}
