//! Bars, cells and wrapped sentences: text of a certain width.

/// `[####....]`, so many characters wide; the share is of 0 to 1.
pub(super) fn bar(width: usize, share: f64) -> String {
    let inner = width.saturating_sub(2);
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let full = (share * inner as f64).round() as usize;
    // Something is something, and not all is not all.
    let full = match full {
        0 if share > 0.0 => 1.min(inner),
        full if full == inner && share < 1.0 => inner.saturating_sub(1),
        full => full,
    };
    format!("[{}{}]", "#".repeat(full), ".".repeat(inner - full))
}

/// Not wider than `width`; what is left out is seen.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { kept + "…" }
}

/// Words in lines of at most `width`; all but the first begin with blanks.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let more = if line.trim().is_empty() { 0 } else { 1 } + word.chars().count();
        if !line.trim().is_empty() && line.chars().count() + more > width {
            lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
        }
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.trim().is_empty() {
        lines.push(line);
    }
    lines.into_iter().map(|line| cut(&line, width)).collect()
}

const INDENT: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_only_when_all_is_full_and_empty_only_when_nothing_is() {
        assert_eq!(bar(12, 0.0), "[..........]");
        assert_eq!(bar(12, 0.001), "[#.........]");
        assert_eq!(bar(12, 0.5), "[#####.....]");
        assert_eq!(bar(12, 0.999), "[#########.]");
        assert_eq!(bar(12, 1.0), "[##########]");
        assert_eq!(bar(12, f64::NAN), "[..........]");
        assert_eq!(bar(1, 0.5), "[]");
    }

    #[test]
    fn sentences_are_wrapped_between_words_and_cut_only_within_one() {
        assert_eq!(wrapped("one two three", 7), ["one two", "  three"]);
        assert_eq!(wrapped("one two three", 80), ["one two three"]);
        assert_eq!(wrapped("abcdefghijk l", 5), ["abcd…", "  l"]);
        assert_eq!(wrapped("", 5), [""; 0]);
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("abcd", 0), "");
    }
}
