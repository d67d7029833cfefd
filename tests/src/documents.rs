//! The documents of this repository, parsed with `pulldown-cmark`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::workspace;

pub mod shell;

/// A parsed document. Lines are counted from 1.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its whole text.
    pub text: String,
    /// The anchors of its headings.
    pub anchors: Vec<String>,
    /// Its fenced blocks.
    pub blocks: Vec<Block>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// The destinations of its links and pictures, with their lines.
    pub links: Vec<(usize, String)>,
    /// Its code spans, with their lines.
    pub code: Vec<(usize, String)>,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The document and the line of the block.
    pub place: String,
    /// The heading above it.
    pub heading: String,
    /// The language after the fence, such as `sh`.
    pub language: String,
    /// Its lines.
    pub text: String,
}

/// A table. Cells are Markdown.
#[derive(Clone, Debug)]
pub struct Table {
    /// The heading above it.
    pub heading: String,
    /// Its rows with their lines. The first one is the header.
    pub rows: Vec<(usize, Vec<String>)>,
}

impl Document {
    /// Parses a text.
    pub fn parse(path: &str, text: &str) -> Self {
        let mut document = Self { path: path.to_owned(), text: text.to_owned(), ..Self::default() };
        let mut seen = HashMap::new();
        let mut heading = String::new();
        let (mut is_heading, mut is_block) = (false, false);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let source = text.get(range.clone()).unwrap_or_default();
            let line = 1 + text.get(..range.start).unwrap_or_default().matches('\n').count();
            // Other events do not matter here.
            #[expect(clippy::wildcard_enum_match_arm)]
            match event {
                Event::Start(Tag::Heading { .. }) => {
                    is_heading = true;
                    heading.clear();
                }
                Event::End(TagEnd::Heading(_)) => {
                    is_heading = false;
                    document.anchors.push(unique(anchor(&heading), &mut seen));
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    is_block = true;
                    document.blocks.push(Block {
                        place: format!("{path}:{line}"),
                        heading: heading.clone(),
                        language: language.into_string(),
                        text: String::new(),
                    });
                }
                Event::End(TagEnd::CodeBlock) => is_block = false,
                Event::Start(Tag::Table(_)) => {
                    document.tables.push(Table { heading: heading.clone(), rows: Vec::new() });
                }
                Event::Start(Tag::TableHead | Tag::TableRow) => {
                    if let Some(table) = document.tables.last_mut() {
                        table.rows.push((line, Vec::new()));
                    }
                }
                Event::Start(Tag::TableCell) => {
                    if let Some((_, cells)) =
                        document.tables.last_mut().and_then(|table| table.rows.last_mut())
                    {
                        cells.push(source.trim().replace("\\|", "|"));
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push((line, dest_url.into_string()))
                }
                Event::Text(text) if is_block => {
                    if let Some(block) = document.blocks.last_mut() {
                        block.text.push_str(&text);
                    }
                }
                Event::Text(text) if is_heading => heading.push_str(&text),
                Event::Code(text) => {
                    if is_heading {
                        heading.push_str(&text);
                    }
                    document.code.push((line, text.into_string()));
                }
                _ => {}
            }
        }
        document
    }

    /// Returns the rows of the only table under this heading whose first cell is `first`, without the header.
    ///
    /// # Panics
    ///
    /// If there is not exactly one.
    #[track_caller]
    pub fn rows(&self, heading: &str, first: &str) -> &[(usize, Vec<String>)] {
        let is_it = |table: &&Table| table.heading == heading && table.rows[0].1[0] == first;
        let found: Vec<_> = self.tables.iter().filter(is_it).collect();
        let [table] = found[..] else {
            panic!("{}: {} tables `{first}` under `{heading}` instead of one", self.path, found.len())
        };
        &table.rows[1..]
    }

    /// Returns the only fenced block that contains this text.
    ///
    /// # Panics
    ///
    /// If there is not exactly one.
    #[track_caller]
    pub fn block(&self, text: &str) -> &Block {
        let found: Vec<_> = self.blocks.iter().filter(|block| block.text.contains(text)).collect();
        let [block] = found[..] else {
            panic!("{}: {} blocks with {text:?} instead of one", self.path, found.len())
        };
        block
    }
}

impl Block {
    /// Whether it contains shell commands.
    pub fn is_shell(&self) -> bool {
        ["sh", "bash"].contains(&&*self.language)
    }
}

/// Returns the code spans in a cell of a table.
pub fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Parses a document, given its path from the root.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn document(path: &str) -> Document {
    let text = fs::read_to_string(workspace::path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Document::parse(path, &text)
}

/// Parses all documents of the repository.
///
/// # Panics
///
/// If a folder cannot be read.
pub fn all() -> Vec<Document> {
    files("", "md").iter().map(|path| document(path)).collect()
}

/// Returns the paths of all files below a folder whose name ends in `extension`, or of all files if that is empty.
///
/// # Panics
///
/// If a folder cannot be read.
pub fn files(folder: &str, extension: &str) -> Vec<String> {
    fn collect(path: &Path, extension: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            let path = entry.expect("an entry of a folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Hidden files, such as the `.env` of a developer, and the output of builds and fuzzing.
            if path.is_symlink()
                || name.starts_with('.')
                || ["target", "corpus", "artifacts"].contains(&&*name)
            {
                continue;
            }
            if path.is_dir() {
                collect(&path, extension, found);
            } else if name.ends_with(extension) {
                let relative = path.strip_prefix(workspace::root()).unwrap_or(&path);
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    collect(&workspace::path(folder), extension, &mut found);
    found.sort();
    found
}

/// Returns the anchor that GitHub gives a heading: lower case, hyphens for spaces, without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

fn unique(anchor: String, seen: &mut HashMap<String, usize>) -> String {
    let count = seen.entry(anchor.clone()).or_default();
    *count += 1;
    if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_anchors_blocks_tables_links_and_code_with_their_lines() {
        let text = "# The `first` one?\nSee [this](#twice-1); `[no](link)`.\n\n| a | b |\n|---|---|\n| `x\\|y` | |\n\n\
                    ## Twice\n```sh\none\n```\n## Twice\n";
        let document = Document::parse("README.md", text);
        assert_eq!(document.anchors, ["the-first-one", "twice", "twice-1"]);
        let block = document.block("one");
        assert_eq!((&*block.place, &*block.heading, &*block.text), ("README.md:9", "Twice", "one\n"));
        assert!(block.is_shell());
        assert_eq!(document.rows("The first one?", "a"), [(6, vec!["`x|y`".to_owned(), String::new()])]);
        assert_eq!(document.links, [(2, "#twice-1".to_owned())]);
        assert_eq!(document.code[1], (2, "[no](link)".to_owned()));
    }
}
