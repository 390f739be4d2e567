//! Medians and quartiles: a few rounds tell no more, and no less.

use serde::{Deserialize, Serialize};

/// The middle of some numbers, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quartiles {
    pub(crate) p25: f64,
    pub(crate) median: f64,
    pub(crate) p75: f64,
}

impl Quartiles {
    /// Of at least one number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        assert!(!sorted.is_empty(), "no number has no middle");
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| interpolated(&sorted, share);
        Self { p25: at(0.25), median: at(0.5), p75: at(0.75) }
    }
}

fn interpolated(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor(), place.ceil());
    let (low, high) = (sorted[below as usize], sorted[above as usize]);
    low + (high - low) * (place - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_numbers_if_they_must() {
        let found = Quartiles::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(found, Quartiles { p25: 1.75, median: 2.5, p75: 3.25 });
        assert_eq!(Quartiles::of([7.0]), Quartiles { p25: 7.0, median: 7.0, p75: 7.0 });
    }
}
