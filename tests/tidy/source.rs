//! The repository as the rules see it: crates, their files, and places in them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate under `crates/`.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The name of its directory.
    pub(crate) name: String,
}

impl Crate {
    /// The crates its manifest names, for its product and for its tests.
    pub(crate) fn dependencies(&self) -> Vec<String> {
        let manifest = read(&format!("crates/{}/Cargo.toml", self.name));
        let mut section = "";
        let mut found = Vec::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") {
                found.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
            }
        }
        found.retain(|name| !name.is_empty() && !name.starts_with('#'));
        found
    }

    /// Its Rust files: product, tests, examples.
    pub(crate) fn sources(&self) -> Vec<SourceFile> {
        files_under(&format!("crates/{}", self.name))
    }

    /// The file its product begins with.
    pub(crate) fn root(&self) -> SourceFile {
        let sources = self.sources();
        let named = |name: &str| {
            let path = format!("crates/{}/src/{name}", self.name);
            sources.iter().find(|file| file.path == path).cloned()
        };
        named("lib.rs").or_else(|| named("main.rs")).expect("a crate has a root")
    }
}

/// A Rust file, its path seen from the top of the repository.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// Whether all of it is there for tests only.
    pub(crate) fn is_test(&self) -> bool {
        !self.path.contains("/src/") || self.path.ends_with("/tests.rs")
    }

    /// Whether a crate or a program begins with it.
    pub(crate) fn is_root(&self) -> bool {
        ["src/lib.rs", "src/main.rs"].iter().any(|root| self.path.ends_with(root))
    }

    /// The name of the module it holds.
    pub(crate) fn module(&self) -> String {
        let path = Path::new(&self.path);
        let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        match stem(path).expect("a file has a name") {
            name if name == "mod" => {
                path.parent().and_then(stem).expect("a module's directory has a name")
            }
            name => name,
        }
    }

    /// Whether it has a line `mod NAME;`.
    pub(crate) fn declares(&self, module: &str) -> bool {
        let declaration = format!("mod {module};");
        self.text.lines().any(|line| {
            line.trim_end()
                .strip_suffix(&declaration)
                .is_some_and(|before| before.is_empty() || before.ends_with(' '))
        })
    }

    /// Lines, but for comments and unit tests, that hold one of the words.
    pub(crate) fn product_lines_with(&self, words: &[&str]) -> Vec<Place> {
        let tests = self.text.lines().position(|line| line.trim() == "#[cfg(test)]");
        let mut found = self.lines_with(words);
        found.retain(|place| tests.is_none_or(|tests| place.line <= tests));
        found.retain(|place| !place.text.starts_with("//"));
        found
    }

    /// Lines that hold one of the words.
    pub(crate) fn lines_with(&self, words: &[&str]) -> Vec<Place> {
        let hit = |line: &str| words.iter().any(|word| holds(line, word));
        let numbered = self.text.lines().enumerate().filter(|(_, line)| hit(line));
        numbered.map(|(index, _)| self.place(index + 1)).collect()
    }

    /// A line of it, numbered from 1.
    pub(crate) fn place(&self, line: usize) -> Place {
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        Place { path: self.path.clone(), line, text }
    }
}

/// Where a rule is broken.
#[derive(Debug)]
pub(crate) struct Place {
    path: String,
    line: usize,
    text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// All crates.
pub(crate) fn crates() -> Vec<Crate> {
    let mut names: Vec<String> = entries(&top().join("crates"))
        .into_iter()
        .filter(|path| path.join("Cargo.toml").exists())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names.into_iter().map(|name| Crate { name }).collect()
}

/// The Rust files of a directory and of all below it, in the order of their names.
pub(crate) fn files_under(directory: &str) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut waiting = vec![top().join(directory)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(entries(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let path = path.strip_prefix(top()).expect("it is below the top").to_owned();
            let path = path.to_str().expect("paths are ASCII").to_owned();
            found.push(SourceFile { text: read(&path), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Whether a word stands in a line, and not as a part of another one.
fn holds(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !part(before.chars().next_back()) && !part(after.chars().next())
    })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    found.map(|entry| entry.expect("a directory can be read").path()).collect()
}

/// The files of a directory, not of those below it, that end so.
pub(crate) fn names_in(directory: &str, extension: &str) -> Vec<String> {
    let mut found = entries(&top().join(directory));
    found.retain(|path| path.extension().is_some_and(|it| it == extension));
    found.sort();
    found
        .iter()
        .map(|path| path.strip_prefix(top()).expect("it is below the top"))
        .map(|path| path.to_str().expect("paths are ASCII").to_owned())
        .collect()
}

/// Whether there is such a file, or directory.
pub(crate) fn exists(path: &str) -> bool {
    top().join(path).exists()
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("there is a top")
}
