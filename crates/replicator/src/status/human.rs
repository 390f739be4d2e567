//! Bytes and times as people say them: two digits or so, and a unit.

/// `512 B`, `1.2 GiB`, `80 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // What would be rounded to 1024 is 1 of the next.
    while value >= 1023.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{} {}", number(value), units[unit])
}

/// `20 ms`, `42 s`, `12 min`, `5 h`, `3 d`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    let (length, unit) = match seconds {
        0.0 => (1.0, "s"),
        s if s < 0.9995 => (0.001, "ms"),
        s if s < 2.0 * MINUTE => (1.0, "s"),
        s if s < 2.0 * HOUR => (MINUTE, "min"),
        s if s < 2.0 * DAY => (HOUR, "h"),
        _ => (DAY, "d"),
    };
    format!("{} {unit}", number(seconds / length))
}

/// With one decimal if it has but one digit before it, and something behind it.
fn number(value: f64) -> String {
    let text = format!("{value:.*}", usize::from(value < 9.95));
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_leaves_a_digit_before_the_point() {
        let said = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1_288_490_188, "1.2 GiB"),
            (80 << 20, "80 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (count, expected) in said {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn times_are_said_in_the_unit_that_people_would_choose() {
        let said = [
            (0.0, "0 s"),
            (0.0004, "0.4 ms"),
            (0.02, "20 ms"),
            (0.9999, "1 s"),
            (3.0, "3 s"),
            (9.96, "10 s"),
            (119.0, "119 s"),
            (720.0, "12 min"),
            (5.5 * HOUR, "5.5 h"),
            (30.0 * DAY, "30 d"),
        ];
        for (span, expected) in said {
            assert_eq!(seconds(span), expected);
        }
    }
}
