//! As much of Markdown as the documents here use.

use std::collections::HashMap;
use std::fmt;

/// A document, taken apart.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its headings.
    pub headings: Vec<Heading>,
    /// Its fenced blocks.
    pub blocks: Vec<Block>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// The lines that are in no block, with their numbers; rows of tables, too.
    pub prose: Vec<(usize, String)>,
}

/// A heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Its line, from 1.
    pub line: usize,
    /// What it says.
    pub title: String,
    /// What a link to it has behind `#`.
    pub anchor: String,
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The document that it stands in.
    pub document: String,
    /// The title of the heading above it.
    pub heading: String,
    /// The line of its fence, from 1.
    pub line: usize,
    /// What stands behind the fence: `sh`, `text`.
    pub language: String,
    /// Its lines.
    pub text: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The title of the heading above it.
    pub heading: String,
    /// The cells of its first line.
    pub header: Vec<String>,
    /// The other lines with their numbers, without the one of dashes.
    pub rows: Vec<(usize, Vec<String>)>,
}

/// A link to somewhere in this repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its line, from 1.
    pub line: usize,
    /// The path from the folder of the document; empty for the document itself.
    pub path: String,
    /// What stands behind `#`, if anything does.
    pub anchor: Option<String>,
}

impl Document {
    /// Takes a text apart.
    pub fn parse(path: &str, text: &str) -> Self {
        let mut document = Self {
            path: path.to_owned(),
            headings: Vec::new(),
            blocks: Vec::new(),
            tables: Vec::new(),
            prose: Vec::new(),
        };
        let mut anchors = HashMap::new();
        let mut heading = String::new();
        let mut block: Option<Block> = None;
        let mut is_table = false;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            if let Some(open) = &mut block {
                if line.trim_end() == FENCE {
                    document.blocks.extend(block.take());
                } else {
                    open.text.push_str(line);
                    open.text.push('\n');
                }
                continue;
            }
            let was_table = std::mem::replace(&mut is_table, line.starts_with('|'));
            if let Some(language) = line.strip_prefix(FENCE) {
                block = Some(Block {
                    document: path.to_owned(),
                    heading: heading.clone(),
                    line: number,
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
                continue;
            }
            if is_table {
                document.table_line(number, line, was_table, &heading);
            }
            if let Some(title) = title(line) {
                heading = title.to_owned();
                let anchor = unique(anchor(title), &mut anchors);
                document.headings.push(Heading { line: number, title: heading.clone(), anchor });
            }
            document.prose.push((number, line.to_owned()));
        }
        document
    }

    fn table_line(&mut self, number: usize, line: &str, was_table: bool, heading: &str) {
        let cells = cells(line);
        match self.tables.last_mut() {
            Some(table) if was_table => {
                let is_rule = cells.iter().all(|cell| cell.chars().all(|c| "-: ".contains(c)));
                if !is_rule || !table.rows.is_empty() {
                    table.rows.push((number, cells));
                }
            }
            _ => self.tables.push(Table { heading: heading.to_owned(), header: cells, rows: Vec::new() }),
        }
    }

    /// The links to somewhere in this repository.
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (line, text) in &self.prose {
            for part in without_code(text).split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, anchor) = match target.split_once('#') {
                    Some((path, anchor)) => (path, Some(anchor.to_owned())),
                    None => (target, None),
                };
                links.push(Link { line: *line, path: path.to_owned(), anchor });
            }
        }
        links
    }

    /// What stands between backticks, with the lines.
    pub fn code_spans(&self) -> Vec<(usize, &str)> {
        let spans = self.prose.iter().flat_map(|(line, text)| spans(text).map(|span| (*line, span)));
        spans.collect()
    }

    /// The one table below this heading whose first cell is this.
    ///
    /// # Panics
    ///
    /// If there is none, or there are several.
    #[track_caller]
    pub fn table(&self, heading: &str, first: &str) -> &Table {
        let is_it =
            |table: &&Table| table.heading == heading && table.header.first().is_some_and(|c| c == first);
        let found: Vec<_> = self.tables.iter().filter(is_it).collect();
        let [table] = found[..] else {
            panic!("{}: one table `{first}` is expected under `{heading}`, not {}", self.path, found.len())
        };
        table
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({}, under `{}`)", self.document, self.line, self.language, self.heading)
    }
}

impl Block {
    /// Whether it is of this language.
    pub fn is(&self, languages: &[&str]) -> bool {
        languages.contains(&&*self.language)
    }

    /// The commands of a shell block: without comments and empty lines, and with those that go over several lines as one.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        let mut command = String::new();
        for line in self.text.lines() {
            let line = without_comment(line).trim();
            match line.strip_suffix('\\') {
                Some(begun) => command.push_str(begun),
                None => {
                    command.push_str(line);
                    if !command.is_empty() {
                        commands.push(std::mem::take(&mut command));
                    }
                }
            }
        }
        commands
    }
}

/// The spans between backticks of a line.
pub fn spans(line: &str) -> impl Iterator<Item = &str> {
    // Every second piece is inside; the last one only if it is closed.
    let count = line.matches('`').count() / 2;
    line.split('`').skip(1).step_by(2).take(count)
}

/// A line without its spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

fn without_comment(line: &str) -> &str {
    match line.find(" #") {
        Some(at) => line.get(..at).unwrap_or(line),
        None if line.starts_with('#') => "",
        None => line,
    }
}

fn title(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    (1..=6).contains(&level).then(|| title.strip_prefix(' ')).flatten().map(str::trim)
}

/// As GitHub makes it: lower case, hyphens for spaces, without punctuation.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

fn unique(anchor: String, seen: &mut HashMap<String, usize>) -> String {
    let count = seen.entry(anchor.clone()).or_default();
    *count += 1;
    if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
}

/// The cells of a line of a table. A pipe that belongs to a cell has a backslash before it.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace("\\|", "\0");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

const FENCE: &str = "```";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# The `first` one?
See [this](#twice-1), [that](docs/a.md#b) and [there](https://example.com/#c); `[no](link)`.

| a | b |
|---|---|
| `x\\|y` | |
| 2 | [c](d) |

## Twice
```sh
one --flag \\
  more   # comment
# a comment
two | three
```
## Twice
| other |
";

    #[test]
    fn a_text_is_taken_apart() {
        let document = Document::parse("README.md", TEXT);
        let anchors: Vec<_> = document.headings.iter().map(|heading| heading.anchor.as_str()).collect();
        assert_eq!(anchors, ["the-first-one", "twice", "twice-1"]);
        let [block] = &document.blocks[..] else { panic!("{:?}", document.blocks) };
        assert_eq!(block.to_string(), "README.md:10 (sh, under `Twice`)");
        assert_eq!(block.commands(), ["one --flag more", "two | three"]);
        let table = document.table("The `first` one?", "a");
        assert_eq!(table.header, ["a", "b"]);
        let row = |line, cells: [&str; 2]| (line, cells.map(str::to_owned).to_vec());
        assert_eq!(table.rows, [row(6, ["`x|y`", ""]), row(7, ["2", "[c](d)"])]);
        assert_eq!(document.table("Twice", "other").rows, []);
        let links: Vec<_> =
            document.links().into_iter().map(|link| (link.line, link.path, link.anchor)).collect();
        let link =
            |line, path: &str, anchor: Option<&str>| (line, path.to_owned(), anchor.map(str::to_owned));
        let expected = [link(2, "", Some("twice-1")), link(2, "docs/a.md", Some("b")), link(7, "d", None)];
        assert_eq!(links, expected);
        assert_eq!(document.code_spans(), [(1, "first"), (2, "[no](link)"), (6, "x\\|y")]);
    }
}
