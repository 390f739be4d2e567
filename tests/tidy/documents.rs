//! The rules for what people read: links lead somewhere, and what the program is quoted with it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{self, crates};

/// A page, its path seen from the top of the repository.
struct Page {
    path: String,
    text: String,
}

fn pages() -> Vec<Page> {
    let page = |path: String| Page { text: source::read(&path), path };
    ["", "docs"].into_iter().flat_map(|at| source::names_in(at, "md")).map(page).collect()
}

impl Page {
    /// Its lines outside of code blocks, with their numbers.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut in_code = false;
        let numbered = self.text.lines().enumerate().map(|(nr, line)| (nr + 1, line));
        let is_prose = |(_, line): &(usize, &str)| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        };
        numbered.filter(is_prose).collect()
    }

    /// What `#…` of a link can name: headings, as they are spelled there.
    fn anchors(&self) -> BTreeSet<String> {
        let lines = self.prose();
        let titles = lines.iter().filter_map(|(_, line)| line.strip_prefix('#'));
        titles.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The targets of its links.
    fn links(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (nr, line) in self.prose() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            found.extend(targets.map(|(target, _)| (nr, target)));
        }
        found
    }
}

/// A heading as GitHub names it in links: letters, digits and hyphens, a hyphen for a blank.
fn anchor(title: &str) -> String {
    let linked: String = title.split("](").map(|part| part.trim_start_matches('[')).collect();
    let kept = linked.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut dead = Vec::new();
    for page in &pages {
        for (nr, link) in page.links().into_iter().filter(|(_, link)| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = resolve(&page.path, path);
            let there = source::exists(&target);
            let of_page = pages.iter().find(|page| page.path == target);
            let named =
                anchor.is_empty() || of_page.is_some_and(|it| it.anchors().contains(anchor));
            if !there || !named {
                dead.push(format!("{}:{nr}: {link}", page.path));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n  {}", dead.join("\n  "));
}

/// `path`, seen from the page `from`, seen from the top.
fn resolve(from: &str, path: &str) -> String {
    if path.is_empty() {
        return from.to_owned();
    }
    let mut parts = PathBuf::new();
    for part in Path::new(from).parent().expect("a page has a directory").join(path).components() {
        match part.as_os_str().to_str() {
            Some("..") => drop(parts.pop()),
            Some(".") | None => {}
            Some(part) => parts.push(part),
        }
    }
    parts.to_str().expect("names are UTF-8").to_owned()
}

/// A table's first column that quotes the program: under these headings of the page.
const QUOTES: (&str, &str) = ("docs/troubleshooting.md", "## When a command is refused");

#[test]
fn the_program_says_what_it_is_quoted_with() {
    let said = all_that_is_said();
    let page = pages().into_iter().find(|page| page.path == QUOTES.0).expect("the page is there");
    let section = page.text.split_once(QUOTES.1).expect("the section is there").1;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let (mut quotes, mut strange) = (0, Vec::new());
    for cell in rows.filter_map(|row| row.split_once(" | ")) {
        for quote in cell.0.split("`, `").flat_map(|quote| quote.split('`').next()) {
            quotes += 1;
            let mut parts = quote.split('…').map(str::trim);
            if parts.any(|part| !said.contains(part)) {
                strange.push(quote.to_owned());
            }
        }
    }
    assert!(quotes > 20, "the page quotes what the program says");
    assert!(strange.is_empty(), "nobody says:\n  {}", strange.join("\n  "));
}

/// All text of all products; a string that goes on in the next line is one.
fn all_that_is_said() -> String {
    let files = crates().into_iter().flat_map(|krate| krate.sources());
    let joined = |text: &str| {
        let mut parts = text.split("\\\n");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.trim_start())
    };
    files.map(|file| joined(&file.text)).collect()
}

/// A diagram that a page has from the file which it is about.
#[test]
fn a_diagram_is_that_of_the_code() {
    let mut checked = 0;
    for page in pages() {
        for part in page.text.split("<!-- from ").skip(1) {
            let (path, rest) = part.split_once(" -->").expect("a mark ends");
            let of_page = rest.split("```").nth(1).expect("a diagram stands behind its mark");
            let header = source::read(path);
            let lines = header.lines().filter_map(|line| line.strip_prefix("//!"));
            let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
            let header = lines.collect::<Vec<_>>().join("\n");
            let of_code = header.split("```").nth(1).expect("the file begins with a diagram");
            assert_eq!(of_page, of_code, "{}: the diagram of {path}", page.path);
            checked += 1;
        }
    }
    assert!(checked > 0, "there are such diagrams");
}
