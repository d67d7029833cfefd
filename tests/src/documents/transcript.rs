//! What a document says that something prints, compared with what it prints.
//!
//! `…` stands for anything within a line, and alone in a line for any number of lines.

/// Whether all that was printed is what the document shows.
pub fn matches(shown: &str, printed: &[String]) -> bool {
    let shown: Vec<&str> = shown.lines().collect();
    let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
    lines_match(&shown, &printed)
}

/// The first line that the document shows, and that does not stand among the others, in their order and perhaps with more
/// around it.
pub fn missing<'s>(shown: &'s str, printed: &[String]) -> Option<&'s str> {
    let mut printed = printed.iter();
    shown.lines().find(|shown| !printed.any(|line| line_matches(&format!("{GAP}{shown}{GAP}"), line)))
}

fn lines_match(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        ([GAP], _) => true,
        ([GAP, rest @ ..], _) => {
            (0..=printed.len()).any(|at| lines_match(rest, printed.get(at..).unwrap_or_default()))
        }
        ([line, rest @ ..], [first, others @ ..]) => line_matches(line, first) && lines_match(rest, others),
        ([], [..]) | ([..], []) => false,
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let Some((before, after)) = shown.split_once(GAP) else { return shown == printed };
    let Some(mut rest) = printed.strip_prefix(before) else { return false };
    let parts: Vec<&str> = after.split(GAP).collect();
    let Some((last, parts)) = parts.split_last() else { return false };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

const GAP: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &str, printed: &str, expected: bool) {
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        assert_eq!(matches(shown, &printed), expected, "{shown:?} and {printed:?}");
    }

    #[test]
    fn a_gap_is_anything_and_nothing_else_is() {
        check("a\nb\n", "a\nb", true);
        check("a\nb\n", "a", false);
        check("a\n", "a\nb", false);
        check("a\n…\n", "a", true);
        check("a\n…\n", "a\nb\nc", true);
        check("a\n…\nc\n", "a\nb\nc", true);
        check("a\n…\nc\n", "a\nb\nc\nd", false);
        check("…\nc\n", "c\nb\nc", true);
        check("n: …, m: …\n", "n: 1, m: 2", true);
        check("n: …, m: …\n", "n: 1", false);
        check("…b", "abb", true);
        check("ab…ba", "aba", false);
        check("", "", true);
    }

    #[test]
    fn lines_of_a_log_come_in_their_order_with_more_around_them() {
        let log: Vec<String> = ["0 one, x: 1", "0 other", "0 two, y: 2"].map(str::to_owned).into();
        assert_eq!(missing("one\ntwo, y: …", &log), None);
        assert_eq!(missing("two\none", &log), Some("one"));
        assert_eq!(missing("one\none", &log), Some("one"));
    }
}
