//! What somebody may have meant.

/// The one of `names` that is nearest to `typed`, if it is near enough to be a slip.
pub(super) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let slips = (typed.chars().count() / 3).max(1);
    let near = names
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= slips);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many slips make one of the other: a character too many, missing, another, or two exchanged (the optimal
/// string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut cost =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, slips) in [
            ("PATH", "PATH", 0),
            ("PAHT", "PATH", 1),
            ("PTH", "PATH", 1),
            ("PATHS", "PATH", 1),
            ("PAXH", "PATH", 1),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES", 3),
            ("", "PATH", 4),
            ("PATH", "", 4),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_named() {
        let names = ["PATH", "LISTEN", "TRUSTED_PROXIES"];
        assert_eq!(nearest("PAHT", names), Some("PATH"));
        assert_eq!(nearest("TRUSTED_PROXY", names), Some("TRUSTED_PROXIES"));
        assert_eq!(nearest("LISTNE", names), Some("LISTEN"));
        assert_eq!(nearest("COLOUR", names), None);
        assert_eq!(nearest("X", names), None);
    }
}
