//! A document as a man page: as much of markdown as documents here use.
//!
//! Headings become sections, a table a list of its first column, code is kept as it is. Links
//! keep their text.

use super::ManPage;

/// The page.
pub(super) fn page(page: &ManPage, markdown: &str) -> String {
    let ManPage { name, section, about, .. } = page;
    let title = name.to_uppercase();
    let mut out = Roff::default();
    out.line(&format!(
        ".TH {title} {section} \"\" \"replicator {}\" \"replicator\"",
        env!("CARGO_PKG_VERSION")
    ));
    out.line(".SH NAME");
    out.line(&format!("{} \\- {}", escaped(name), escaped(about)));
    out.line(".SH DESCRIPTION");
    let lines: Vec<&str> = markdown.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        at += out.block(&lines[at..]);
    }
    out.text
}

#[derive(Default)]
struct Roff {
    text: String,
}

impl Roff {
    fn line(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }

    /// Writes what begins here; returns how many lines it was.
    fn block(&mut self, lines: &[&str]) -> usize {
        let first = lines[0];
        let is_item = |line: &str| item(line).is_some();
        // A man page has no pictures.
        let is_left_out = ["<!--", "# ", "![", "[!["].iter().any(|it| first.starts_with(it));
        if first.trim().is_empty() || is_left_out {
            1
        } else if let Some(title) = first.strip_prefix("## ") {
            // In capitals, as sections are; what is code there is not told apart.
            self.line(&format!(".SH {}", quoted(&escaped(&title.replace('`', "").to_uppercase()))));
            1
        } else if let Some(title) = first.strip_prefix("### ") {
            self.line(&format!(".SS {}", quoted(&inline(title))));
            1
        } else if first.trim_start().starts_with("```") {
            self.fenced(lines)
        } else if first.starts_with("    ") {
            self.indented(lines)
        } else if first.starts_with('|') {
            self.table(lines)
        } else if is_item(first) {
            self.item(lines)
        } else {
            let end =
                |line: &&str| line.trim().is_empty() || is_item(line) || line.starts_with("```");
            let len = lines.iter().position(end).unwrap_or(lines.len()).max(1);
            self.line(".PP");
            self.prose(&lines[..len]);
            len
        }
    }

    fn prose(&mut self, lines: &[&str]) {
        let joined = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
        let text = inline(&joined);
        text.lines().for_each(|line| self.line(&guarded(line)));
    }

    /// Lines as they are.
    fn code<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        for line in [".PP", ".RS 4", ".nf"] {
            self.line(line);
        }
        lines.for_each(|line| self.line(&guarded(&escaped(line))));
        for line in [".fi", ".RE"] {
            self.line(line);
        }
    }

    fn fenced(&mut self, lines: &[&str]) -> usize {
        let is_fence = |line: &&str| line.trim_start().starts_with("```");
        let len = lines[1..].iter().position(is_fence).map_or(lines.len() - 1, |at| at + 1);
        self.code(lines[1..len].iter().copied());
        (len + 1).min(lines.len())
    }

    fn indented(&mut self, lines: &[&str]) -> usize {
        let goes_on = |line: &&str| line.starts_with("    ") || line.trim().is_empty();
        let mut len = lines.iter().position(|line| !goes_on(line)).unwrap_or(lines.len());
        while lines[len - 1].trim().is_empty() {
            len -= 1;
        }
        self.code(lines[..len].iter().map(|line| line.strip_prefix("    ").unwrap_or_default()));
        len
    }

    /// Each row a paragraph, under what stands in its first cell.
    fn table(&mut self, lines: &[&str]) -> usize {
        let len = lines.iter().position(|line| !line.starts_with('|')).unwrap_or(lines.len());
        // A head that is code is a row like the others.
        let head = usize::from(!lines[0].starts_with("| `"));
        let rows = lines[..len]
            .iter()
            .enumerate()
            .filter(|(nr, line)| *nr >= head && !line.starts_with("|---"));
        for (_, row) in rows {
            let cells = cells(row);
            self.line(".TP");
            self.line(&guarded(&inline(&cells[0])));
            let rest: Vec<&String> = cells[1..].iter().filter(|cell| !cell.is_empty()).collect();
            for (nr, cell) in rest.iter().enumerate() {
                if nr > 0 {
                    self.line(".br");
                }
                self.line(&guarded(&inline(cell)));
            }
            if rest.is_empty() {
                self.line("\\&");
            }
        }
        len
    }

    /// An item of a list, with what is indented under it.
    fn item(&mut self, lines: &[&str]) -> usize {
        let (mark, _) = item(lines[0]).expect("it is one");
        let indent = mark.len() + 1;
        let belongs =
            |line: &&str| line.trim().is_empty() || line.starts_with(&" ".repeat(indent.min(2)));
        let mut len =
            1 + lines[1..].iter().position(|line| !belongs(line)).unwrap_or(lines.len() - 1);
        while lines[len - 1].trim().is_empty() {
            len -= 1;
        }
        let bullet = if mark == "*" { "\\(bu" } else { mark };
        self.line(&format!(".IP {bullet} 3"));
        let stripped: Vec<&str> =
            lines[..len].iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
        let paragraph = stripped.iter().position(|line| line.trim().is_empty()).unwrap_or(len);
        self.prose(&stripped[..paragraph]);
        if paragraph < len {
            self.line(".RS");
            let mut at = paragraph;
            while at < len {
                at += self.block(&stripped[at..]);
            }
            self.line(".RE");
        }
        len
    }
}

/// The mark of an item, and what is behind it.
fn item(line: &str) -> Option<(&str, &str)> {
    let (mark, rest) = line.split_once(' ')?;
    let digits = mark.strip_suffix('.').unwrap_or("x");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (mark == "*" || mark == "-" || is_number).then_some((mark, rest))
}

/// The cells of a row; a bar behind a backslash, or in code, is none.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut chars = row.trim().trim_start_matches('|').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'|') => {
                cells.last_mut().expect("there is one always").extend(chars.next());
            }
            '|' => cells.push(String::new()),
            c => cells.last_mut().expect("there is one always").push(c),
        }
    }
    // Behind the last bar there is nothing.
    cells.pop();
    cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Text with code, bold, italics and links.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        let fence = "`".repeat(ticks);
        if ticks > 0
            && let Some((code, after)) = rest[ticks..].split_once(&fence)
        {
            out += &format!("\\fB{}\\fR", escaped(code.trim()));
            rest = after;
        } else if let Some((bold, after)) = span(rest, "**") {
            out += &format!("\\fB{}\\fR", inline(bold));
            rest = after;
        } else if let Some((italic, after)) = span(rest, "*") {
            out += &format!("\\fI{}\\fR", inline(italic));
            rest = after;
        } else if let Some((label, target, after)) = link(rest) {
            out += &inline(label);
            if target.contains("://") {
                out += &format!(" ({})", escaped(target));
            }
            rest = after;
        } else {
            out += &escaped(&c.to_string());
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// What stands between two `mark`s, the first of which begins `text`.
fn span<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (inner, after) = text.strip_prefix(mark)?.split_once(mark)?;
    let is_one = !inner.is_empty() && !inner.starts_with([' ', '\n']) && !inner.ends_with(' ');
    is_one.then_some((inner, after))
}

/// `[label](target)`.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (label, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = rest.split_once(')')?;
    (!label.contains(['\n', '['])).then_some((label, target, after))
}

/// Nothing of it means anything to roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

/// A line that begins with no request.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// One argument of a request.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\(dq"))
}
