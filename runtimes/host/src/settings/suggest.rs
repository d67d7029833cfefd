//! Spelling suggestions for names of settings and flags.

use strsim::osa_distance;

/// Returns `did you mean A, B or C?` with the names nearest to `typed`, each as `show` writes it, or `otherwise` if no
/// name is near.
pub(super) fn suggest<'n>(
    typed: &str,
    names: impl IntoIterator<Item = &'n str>,
    show: impl Fn(&str) -> String,
    otherwise: &str,
) -> String {
    let meant: Vec<String> = nearest(typed, names).into_iter().map(show).collect();
    match meant.split_last() {
        None => otherwise.to_owned(),
        Some((last, [])) => format!("did you mean {last}?"),
        Some((last, others)) => format!("did you mean {} or {last}?", others.join(", ")),
    }
}

/// Returns the names that are nearest to `typed`, if any is near enough. Case and the separators `-` and `_` do not count.
///
/// A slip (`PAHT` for `PATH`) gives one name. An abbreviation (`MAX_MSG`, `ORIGINS`) gives those names that have all of
/// its words, and none if there are more than [`MOST`] of them.
fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let typed = normal(typed);
    let names: Vec<(String, &str)> = names.into_iter().map(|name| (normal(name), name)).collect();
    let slips = (typed.chars().count() / 3).max(1);
    let by_distance = names.iter().map(|(normal, name)| (osa_distance(&typed, normal), *name));
    if let Some((_, name)) =
        by_distance.filter(|(distance, _)| *distance <= slips).min_by_key(|(distance, _)| *distance)
    {
        return vec![name];
    }
    let abbreviated: Vec<(usize, &str)> =
        names.iter().filter_map(|(normal, name)| Some((spare_words(&typed, normal)?, *name))).collect();
    let least = abbreviated.iter().map(|(spare, _)| *spare).min();
    let best: Vec<&str> =
        abbreviated.iter().filter(|(spare, _)| Some(*spare) == least).map(|(_, name)| *name).collect();
    if best.len() > MOST { Vec::new() } else { best }
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Returns the number of words of `name` that the abbreviation `typed` leaves out. `None` if it is not an abbreviation
/// of it: each of its words must shorten a word of the name, in the same order.
fn spare_words(typed: &str, name: &str) -> Option<usize> {
    let mut words = name.split('-');
    let count = words.clone().count();
    let mut used = 0;
    for short in typed.split('-') {
        words.find(|word| shortens(short, word))?;
        used += 1;
    }
    Some(count - used)
}

/// Whether `short` has at least two characters, begins as `word` does, and has only characters of it, in their order:
/// `msg` and `message`.
fn shortens(short: &str, word: &str) -> bool {
    let mut rest = word.chars();
    short.chars().count() >= 2
        && short.chars().next() == word.chars().next()
        && short.chars().all(|typed| rest.any(|there| there == typed))
}

/// More names than this are not a guess.
const MOST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_or_an_abbreviation_suggests_the_name() {
        let names = ["PATH", "LISTEN", "TRUSTED_PROXIES", "MAX_MESSAGE", "MAX_CONNECTIONS", "PORT"];
        let names = names.into_iter().chain(["DRAIN_GRACE", "DRAIN_HARD", "DRAIN_SPREAD"]);
        let names = names.chain(["FIRST_TIMEOUT", "OTHER_TIMEOUT", "THIRD_TIMEOUT", "FOURTH_TIMEOUT"]);
        for (typed, expected) in [
            ("PAHT", &["PATH"][..]),
            ("PRT", &["PORT"]),
            ("port", &["PORT"]),
            ("TRUSTED_PROXY", &["TRUSTED_PROXIES"]),
            ("trusted-proxies", &["TRUSTED_PROXIES"]),
            ("LISTNE", &["LISTEN"]),
            ("MAX_MSG", &["MAX_MESSAGE"]),
            ("MAX_CONN", &["MAX_CONNECTIONS"]),
            ("MAX_CONNS", &["MAX_CONNECTIONS"]),
            ("PROXIES", &["TRUSTED_PROXIES"]),
            ("MSG", &["MAX_MESSAGE"]),
            ("DRAIN", &["DRAIN_GRACE", "DRAIN_HARD", "DRAIN_SPREAD"]),
            // No name is near, or too many are.
            ("COLOUR", &[]),
            ("X", &[]),
            ("", &[]),
            ("TIMEOUT", &[]),
            ("MESSAGE_MAX", &[]),
        ] {
            assert_eq!(nearest(typed, names.clone()), expected, "{typed}");
        }
    }

    #[test]
    fn a_guess_is_a_sentence() {
        let names = ["PATH", "DRAIN_GRACE", "DRAIN_HARD", "DRAIN_SPREAD"];
        let sentence = |typed| suggest(typed, names, |name| format!("P_{name}"), "no idea");
        assert_eq!(sentence("PAHT"), "did you mean P_PATH?");
        assert_eq!(sentence("DRAIN"), "did you mean P_DRAIN_GRACE, P_DRAIN_HARD or P_DRAIN_SPREAD?");
        assert_eq!(sentence("COLOUR"), "no idea");
    }
}
