//! Patterns for the names of channels.

/// Returns whether a name matches a pattern, in which `*` matches any characters, `?` one, and each other character itself.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // The rest of the pattern after the last star, and the rest of the name that it has not matched yet.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut rest = name.clone();
        match (pattern.next(), rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => retry = Some((pattern.clone(), name.clone())),
            (Some(expected), Some(found)) if expected == '?' || expected == found => name = rest,
            _ => {
                // The star matches one more character.
                let Some((after_star, unmatched)) = &mut retry else { return false };
                if unmatched.next().is_none() {
                    return false;
                }
                (pattern, name) = (after_star.clone(), unmatched.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters_and_a_question_mark_one() {
        for (pattern, matching, others) in [
            ("news", &["news"][..], &["", "new", "news1", "xnews"][..]),
            ("*", &["", "a", "auction:42"], &[]),
            ("auction:*", &["auction:", "auction:42"], &["auction", "xauction:1"]),
            ("*:42", &["auction:42", ":42", ":42:42"], &["auction:421"]),
            ("a*b*c", &["abc", "aabbcc", "axbxbxc"], &["ab", "acb", "abcd"]),
            ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
            ("#*", &["#123"], &["123"]),
        ] {
            for name in matching {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in others {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
        // The time does not grow exponentially.
        assert!(!matches(&"a*".repeat(100), &"a".repeat(99)));
    }
}
