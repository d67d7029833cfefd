//! The channels file, read from the disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use postern_channels::namespaces::file::parse;
use postern_channels::namespaces::options::OPTIONS;
use postern_channels::namespaces::{ChannelOptions, Namespaces};

/// Reads a channels file.
///
/// # Errors
/// All errors of the file, at least one: each is the place in the file, and the error with its correction.
pub(crate) fn read(path: &Path) -> Result<Namespaces, Vec<String>> {
    let text = read_text(path).map_err(|error| vec![error])?;
    parse(&text).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Reads a channels file, for a caller that shows one line.
///
/// # Errors
/// The first error of the file, and the number of the others.
pub(crate) fn read_or_first_error(path: &Path) -> Result<Namespaces, String> {
    read(path).map_err(|errors| match &errors[..] {
        [first, others @ ..] if !others.is_empty() => {
            format!("{first} (and {} more, which check-config lists)", others.len())
        }
        errors => errors.concat(),
    })
}

/// Checks that a backend answers the hooks of namespaces.
///
/// # Errors
/// There is none, and a namespace has a hook: the first one, with its correction.
pub(crate) fn check_hooks(namespaces: &Namespaces, has_backend: bool) -> Result<(), String> {
    let without = [("without_namespace".to_owned(), namespaces.without_namespace())];
    let named = namespaces.named().map(|(name, options)| (format!("namespaces.{name}"), options));
    let mut all = without.into_iter().chain(named);
    let option = |options: &ChannelOptions| {
        let hooks = [
            (options.subscribe_hook, "subscribe_hook"),
            (options.publish_hook, "publish_hook"),
            (options.rpc_hook, "rpc_hook"),
        ];
        hooks.into_iter().find(|(is_on, _)| *is_on).map(|(_, name)| name)
    };
    match all.find_map(|(name, options)| Some((name, option(options)?))) {
        Some((name, option)) if !has_backend => Err(format!(
            "{name}: {option} asks the backend of POSTERN_HOOK_URL, which is not set; set it, or leave out {option}"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Describes namespaces: one line for each, with the options that are not at their defaults.
pub(crate) fn describe(namespaces: &Namespaces) -> String {
    let all = [("without_namespace", namespaces.without_namespace())].into_iter().chain(namespaces.named());
    all.map(|(name, options)| format!("{name}: {}\n", describe_options(options))).collect()
}

fn describe_options(options: &ChannelOptions) -> String {
    let default = ChannelOptions::default();
    let set: Vec<String> = OPTIONS
        .iter()
        .map(|option| (option, option.show(options)))
        .filter(|(option, value)| *value != option.show(&default))
        .map(|(option, value)| format!("{} = {value}", option.name))
        .collect();
    if set.is_empty() { "no options, so all channels are closed".to_owned() } else { set.join(", ") }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Opening a pipe can block.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if read.map_err(unreadable)? as u64 > MAX_FILE {
        return Err("has more than 1 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: not UTF-8")
    })
}

/// The maximum size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &[u8], expected: Result<&str, &[&str]>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("channels.toml");
        fs::write(&path, content).unwrap();
        let result = read(&path).map(|namespaces| describe(&namespaces));
        let expected = expected
            .map(str::to_owned)
            .map_err(|errors| errors.iter().map(|&error| error.to_owned()).collect());
        assert_eq!(result, expected);
    }

    #[test]
    fn a_file_is_described_with_the_options_that_it_sets() {
        check(b"", Ok("without_namespace: no options, so all channels are closed\n"));
        check(
            b"[namespaces.auction]\nsubscribe_for = [\"auction:*\"]\nhistory_ttl = \"300s\"\nhistory_size = 10\n",
            Ok("without_namespace: no options, so all channels are closed\n\
                auction: subscribe_for = [\"auction:*\"], history_size = 10, history_ttl = \"5m\"\n"),
        );
    }

    #[test]
    fn errors_name_the_file_and_the_place() {
        check(
            b"[namespaces.auction]\npresense = true\nslow = \"never\"\n",
            Err(&[
                "line 2, column 1: \"presense\" is unknown; did you mean presence?",
                "line 3, column 8: slow: \"never\" is not a value; write \"close\" or \"drop\" or \"conflate\"",
            ]),
        );
        check(b"# a\n# \xff\n", Err(&["line 2: not UTF-8"]));
        check(&[b'#'; 1 << 20], Ok("without_namespace: no options, so all channels are closed\n"));
        check(&[b'#'; (1 << 20) + 1], Err(&["has more than 1 MiB"]));
    }

    #[test]
    fn one_line_has_the_first_error_and_the_number_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("channels.toml");
        for (content, expected) in [
            (
                "[namespaces.auction]\npresense = true\n",
                "line 2, column 1: \"presense\" is unknown; did you mean presence?",
            ),
            (
                "[namespaces.auction]\npresense = true\nslow = 1\npresence = 1\n",
                "line 2, column 1: \"presense\" is unknown; did you mean presence? (and 2 more, which check-config lists)",
            ),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(read_or_first_error(&path).unwrap_err(), expected);
        }
    }

    #[test]
    fn hooks_need_a_backend() {
        let namespaces = |text| parse(text).unwrap();
        let hooked =
            namespaces("[without_namespace]\n[namespaces.auction]\npublish_hook = true\nrpc_hook = true\n");
        assert_eq!(
            check_hooks(&hooked, false).unwrap_err(),
            "namespaces.auction: publish_hook asks the backend of POSTERN_HOOK_URL, which is not set; set it, or leave out publish_hook"
        );
        assert_eq!(check_hooks(&hooked, true), Ok(()));
        assert_eq!(check_hooks(&namespaces("[namespaces.auction]\npresence = true\n"), false), Ok(()));
        let without = namespaces("[without_namespace]\nrpc_hook = true\n");
        assert!(check_hooks(&without, false).unwrap_err().starts_with("without_namespace: rpc_hook asks"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let errors = read(folder.path()).unwrap_err();
        assert_eq!(errors, ["is not a regular file"]);
        let errors = read(&folder.path().join("missing")).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with("cannot be read: "), "{errors:?}");
    }
}
