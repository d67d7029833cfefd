//! Text of a server as it may be printed: without control characters, without credentials, and short.

/// The secrets that must not be printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redaction {
    secrets: Vec<String>,
}

impl Redaction {
    /// Adds a secret. Texts of fewer than six bytes are ignored: they occur by chance.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= 6 {
            self.secrets.push(secret.to_owned());
            // The longest first, so that a secret that contains another is replaced as a whole.
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// Returns the beginning of the text of a server, in one line.
    pub(crate) fn show(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "[…]");
        }
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = line.chars().take(MAX).flat_map(escaped).collect();
        if line.chars().nth(MAX).is_some() {
            shown.push('…');
        }
        shown
    }
}

/// Replaces characters that control a terminal or change the direction of text.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_hidden = character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let escape = is_hidden.then(|| character.escape_unicode());
    let itself = (!is_hidden).then_some(character);
    escape.into_iter().flatten().chain(itself)
}

/// The most characters of a text.
const MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_server_cannot_control_the_terminal() {
        let redaction = Redaction::default();
        assert_eq!(redaction.show("a\x1b[2Jb\r\n  c\u{202e}d"), "a\\u{1b}[2Jb c\\u{202e}d");
        assert_eq!(redaction.show(&"x".repeat(200)).chars().count(), MAX + 1);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut redaction = Redaction::default();
        for secret in ["secret", "Bearer secret-token", "abc"] {
            redaction.add(secret);
        }
        assert_eq!(redaction.show("got Bearer secret-token, secret, abc"), "got […], […], abc");
    }
}
