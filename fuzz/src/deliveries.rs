//! Messages of a broker, and the publications that follow from them, compared with a second implementation of the rules.
//!
//! * A message is rejected if and only if it breaks a rule, and the reason is one of the rules that it breaks.
//! * A message that breaks no rule is published to each channel that it names once, or to none of those for which it is too old.
//! * A publication has the payload in the form of its channel, and the key, the version and the tags of the message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use postern_channels::exchange::Publish;
use postern_channels::namespaces::options::DataFormat;
use postern_channels::namespaces::{ChannelOptions, Namespaces};
use postern_channels::protocol::MAX_DEPTH;
use postern_channels::source::{Delivery, HEADER_PREFIX, Header, Outcome, Poison, map};
use serde::de::IgnoredAny;

use crate::json_text::{levels, without_space};

/// Checks an input: lines up to an empty one, then the body of the message. The first character of a line says what follows.
///
/// ```text
/// k routing key    c content type    i message id    s timestamp    e expiration    n the present time, in milliseconds
/// t NAME=TEXT    d NAME=NUMBER    b NAME=true or false    l NAME=list, separated by |    o NAME, a header of another type
/// ```
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let end = input.windows(2).position(|bytes| bytes == b"\n\n");
    let (head, body) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 2..]));
    let Ok(head) = str::from_utf8(head) else { return };
    let names: Vec<String> = head.lines().map(header_name).collect();
    let mut headers = Vec::new();
    let (mut delivery, mut time) = (Delivery { body, ..Delivery::default() }, 0);
    for (line, name) in head.lines().zip(&names) {
        let Some((kind, rest)) = line.split_at_checked(1) else { continue };
        let value = rest.split_once('=').map_or("", |(_, value)| value);
        let header = match kind {
            "k" => {
                delivery.routing_key = rest;
                continue;
            }
            "c" => {
                delivery.content_type = Some(rest);
                continue;
            }
            "i" => {
                delivery.message_id = Some(rest);
                continue;
            }
            "s" => {
                delivery.timestamp = rest.parse().ok();
                continue;
            }
            "e" => {
                delivery.expiration = Some(rest);
                continue;
            }
            "n" => {
                time = rest.parse().unwrap_or(0);
                continue;
            }
            "t" => Header::Text(value),
            "d" => Header::Number(value.parse().unwrap_or(0)),
            "b" => Header::Flag(value == "true"),
            "l" => Header::List(value.split('|').filter(|name| *name != "-").collect()),
            "o" => Header::Other,
            _ => continue,
        };
        headers.push((name.as_str(), header));
    }
    delivery.headers = &headers;
    let outcome = map(&delivery, &NAMESPACES, time);
    let (faults, targets) = Judge { delivery: &delivery }.judge();
    let published = match outcome {
        Outcome::DeadLetter(poison) => {
            assert!(faults.contains(&poison), "{poison:?} is not among {faults:?}: {delivery:?}");
            return;
        }
        Outcome::Expired => Vec::new(),
        Outcome::Publish(publications) => {
            assert!(!publications.is_empty(), "{delivery:?}");
            publications
        }
    };
    assert!(faults.is_empty(), "{faults:?} are not noticed: {delivery:?}");
    let fresh: Vec<&str> =
        targets.iter().map(String::as_str).filter(|&it| is_fresh(&delivery, it, time)).collect();
    let channels: Vec<&str> = published.iter().map(|publish| &*publish.channel).collect();
    assert_eq!(channels, fresh, "{delivery:?}");
    published.iter().for_each(|publish| check_publication(&delivery, publish, time));
}

/// Returns the name of the header in a line. It has the prefix, unless it begins with an exclamation mark.
fn header_name(line: &str) -> String {
    let rest = line.get(1..).unwrap_or_default();
    let name = rest.split('=').next().unwrap_or_default();
    match name.strip_prefix('!') {
        Some(name) => name.to_owned(),
        None => format!("{HEADER_PREFIX}{name}"),
    }
}

fn check_publication(delivery: &Delivery<'_>, publish: &Publish, time: i64) {
    let judge = Judge { delivery };
    let options = options(&publish.channel).expect("a namespace");
    let body = delivery.body;
    match (options.publication_data_format, judge.text()) {
        (DataFormat::Binary, _) => assert_eq!(&*publish.data, body),
        (DataFormat::Json | DataFormat::JsonObject, Some(text)) => {
            assert_eq!(serde_json::from_slice::<String>(&publish.data).ok().as_deref(), Some(text));
            assert!(!publish.data.contains(&b'\n'));
        }
        (DataFormat::Json | DataFormat::JsonObject, None) => assert_eq!(&*publish.data, without_space(body)),
    }
    let limit = options.max_publication;
    assert!(limit == 0 || publish.data.len() <= limit);
    let tags: BTreeMap<&str, &str> = publish.tags.iter().collect();
    let expected = judge.tags();
    assert_eq!(tags, expected.iter().map(|(key, value)| (*key, value.as_str())).collect(), "{delivery:?}");
    assert_eq!(publish.tags.as_slice().len(), expected.len(), "each key once");
    assert_eq!(publish.key.as_deref(), delivery.message_id.filter(|id| !id.is_empty()));
    assert_eq!(publish.version.as_ref().map_or(0, |version| version.number), judge.version().unwrap_or(0));
    assert_eq!(
        publish.history.is_some(),
        options.history_size > 0 && judge.flag("skip-history") != Some(true)
    );
    assert_eq!(publish.delta, judge.flag("delta") == Some(true));
    assert!(publish.info.is_none() && publish.time == time);
}

/// Returns whether a message is not too old for a channel.
fn is_fresh(delivery: &Delivery<'_>, channel: &str, time: i64) -> bool {
    let sent = delivery.timestamp.map(|seconds| i128::from(seconds) * 1000);
    let age = sent.map_or(0, |sent| (i128::from(time) - sent).max(0));
    let expiration = delivery.expiration.and_then(|text| text.parse::<u64>().ok());
    let options = options(channel).expect("a namespace");
    let is_kept = options.history_size > 0 && Judge { delivery }.flag("skip-history") != Some(true);
    expiration.is_none_or(|most| age <= i128::from(most))
        && (!is_kept || age <= options.history_ttl.as_millis() as i128)
}

/// The second implementation. It looks for all faults.
struct Judge<'d> {
    delivery: &'d Delivery<'d>,
}

impl<'d> Judge<'d> {
    /// Returns all rules that are broken, and the channels, each once.
    fn judge(&self) -> (BTreeSet<Poison>, Vec<String>) {
        let mut faults = BTreeSet::new();
        let mut note = |is_broken: bool, poison| {
            if is_broken {
                faults.insert(poison);
            }
        };
        note(self.is_text() && str::from_utf8(self.delivery.body).is_err(), Poison::NotUtf8);
        note(self.version().is_none(), Poison::Header);
        note(!matches!(self.header("version-epoch"), None | Some(Header::Text(_))), Poison::Header);
        note(self.flag("skip-history").is_none() || self.flag("delta").is_none(), Poison::Header);
        let is_tag = |name: &str| name.starts_with(&format!("{HEADER_PREFIX}tag-"));
        let is_odd_tag = |(name, value): &(&str, Header<'_>)| {
            is_tag(name) && matches!(value, Header::List(_) | Header::Other)
        };
        note(self.delivery.headers.iter().any(is_odd_tag), Poison::Header);

        let mut targets = Vec::new();
        let personal = |user: &str| {
            let escaped: String = user
                .chars()
                .map(|character| match character {
                    '%' => "%25".to_owned(),
                    '#' => "%23".to_owned(),
                    ',' => "%2C".to_owned(),
                    other => other.to_string(),
                })
                .collect();
            let is_valid = !user.is_empty() && escaped.len() < 255 && !user.chars().any(char::is_control);
            is_valid.then(|| format!("#{escaped}")).ok_or(Poison::User)
        };
        match (self.names("channel"), self.names("user")) {
            (None, _) | (_, None) => note(true, Poison::Header),
            (Some(channels), Some(users)) => {
                let key = self.delivery.routing_key;
                let has_header = self.header("channel").is_some() || self.header("user").is_some();
                let (channels, users) = match key.split_once('.') {
                    _ if has_header => (channels, users),
                    Some(("channel", name)) => (vec![name], vec![]),
                    Some(("user", id)) => (vec![], vec![id]),
                    Some(_) | None => (vec![], vec![]),
                };
                note(channels.is_empty() && users.is_empty(), Poison::NoTarget);
                targets.extend(channels.into_iter().map(|name| Ok(name.to_owned())));
                targets.extend(users.into_iter().map(personal));
            }
        }
        let mut found: Vec<String> = Vec::new();
        for target in targets {
            match target {
                Err(poison) => note(true, poison),
                Ok(channel) if !is_channel(&channel) => note(true, Poison::Channel),
                Ok(channel) => match options(&channel) {
                    None => note(true, Poison::UnknownNamespace),
                    Some(options) => {
                        self.faults_of_channel(options).into_iter().for_each(|poison| note(true, poison));
                        if !found.contains(&channel) {
                            found.push(channel);
                        }
                    }
                },
            }
        }
        (faults, found)
    }

    fn faults_of_channel(&self, options: &ChannelOptions) -> Vec<Poison> {
        let mut faults = Vec::new();
        let is_kept = options.history_size > 0 && self.flag("skip-history") != Some(true);
        if self.version().is_some_and(|version| version > 0) && !is_kept {
            faults.push(Poison::Version);
        }
        let body = self.delivery.body;
        let length = match (options.publication_data_format, self.text()) {
            (DataFormat::Binary, _) => Some(body.len()),
            (DataFormat::Json, Some(text)) => {
                // serde_json has a shorter form of these two.
                let longer = 4 * text.matches(['\u{8}', '\u{c}']).count();
                serde_json::to_string(text).ok().map(|text| text.len() + longer)
            }
            (DataFormat::JsonObject, Some(_)) => {
                faults.push(Poison::NotAnObject);
                None
            }
            (DataFormat::Json | DataFormat::JsonObject, None) => {
                let text = str::from_utf8(body).ok();
                let is_json = text.is_some_and(|text| {
                    serde_json::from_str::<IgnoredAny>(text).is_ok() && levels(text) <= MAX_DEPTH
                });
                if !is_json {
                    faults.push(Poison::NotJson);
                } else if options.publication_data_format == DataFormat::JsonObject
                    && !body.trim_ascii_start().starts_with(b"{")
                {
                    faults.push(Poison::NotAnObject);
                }
                is_json.then(|| without_space(body).len())
            }
        };
        let limit = options.max_publication;
        if limit != 0 && length.is_some_and(|length| length > limit) {
            faults.push(Poison::TooLarge);
        }
        faults
    }

    /// Returns the first header with a name.
    fn header(&self, name: &str) -> Option<&'d Header<'d>> {
        let name = format!("{HEADER_PREFIX}{name}");
        self.delivery.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value)
    }

    /// Returns the names in a header. `None`: it has another type.
    fn names(&self, name: &str) -> Option<Vec<&'d str>> {
        match self.header(name) {
            None => Some(Vec::new()),
            Some(Header::Text(text)) => Some(text.split(',').map(str::trim).collect()),
            Some(Header::List(names)) => Some(names.clone()),
            Some(Header::Number(_) | Header::Flag(_) | Header::Other) => None,
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.header(name) {
            None | Some(Header::Flag(false) | Header::Text("false")) => Some(false),
            Some(Header::Flag(true) | Header::Text("true")) => Some(true),
            Some(Header::Text(_) | Header::Number(_) | Header::List(_) | Header::Other) => None,
        }
    }

    fn version(&self) -> Option<u64> {
        match self.header("version") {
            None => Some(0),
            Some(Header::Number(number)) => (*number).try_into().ok(),
            Some(Header::Text(text)) => text.parse().ok(),
            Some(Header::Flag(_) | Header::List(_) | Header::Other) => None,
        }
    }

    fn tags(&self) -> BTreeMap<&'d str, String> {
        let tag = |(name, value): &'d (&'d str, Header<'d>)| {
            let key = name.strip_prefix(HEADER_PREFIX)?.strip_prefix("tag-")?;
            match value {
                Header::Text(text) => Some((key, (*text).to_owned())),
                Header::Number(number) => Some((key, number.to_string())),
                Header::Flag(flag) => Some((key, flag.to_string())),
                Header::List(_) | Header::Other => None,
            }
        };
        self.delivery.headers.iter().filter_map(tag).collect()
    }

    fn is_text(&self) -> bool {
        let content_type = self.delivery.content_type.unwrap_or_default().to_ascii_lowercase();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        (media_type == "text" || media_type.starts_with("text/")) && media_type != "text/json"
    }

    fn text(&self) -> Option<&'d str> {
        str::from_utf8(self.delivery.body).ok().filter(|_| self.is_text())
    }
}

fn is_channel(name: &str) -> bool {
    let users = name.rfind('#').unwrap_or(name.len());
    let is_valid = |(at, character): (usize, char)| match at < users {
        true => matches!(character, ' '..='~'),
        false => !character.is_control(),
    };
    (1..=255).contains(&name.len()) && name.char_indices().all(is_valid)
}

/// Returns the options of a channel, if its namespace is configured.
fn options(channel: &str) -> Option<&'static ChannelOptions> {
    let name = channel.strip_prefix('$').unwrap_or(channel);
    let end = name.find([':', '#']).filter(|&at| name[at..].starts_with(':'));
    let namespace = end.map(|end| &name[..end]);
    match namespace {
        None => Some(NAMESPACES.without_namespace()),
        Some(namespace) => {
            NAMESPACES.named().find(|(name, _)| *name == namespace).map(|(_, options)| &**options)
        }
    }
}

/// Namespaces with each format, with and without history and a limit.
static NAMESPACES: LazyLock<Namespaces> = LazyLock::new(|| {
    let of = |publication_data_format, max_publication, history_size| ChannelOptions {
        publication_data_format,
        max_publication,
        history_size,
        history_ttl: Duration::from_secs(60),
        ..ChannelOptions::default()
    };
    let named = [
        ("live".into(), of(DataFormat::Json, 12, 0)),
        ("object".into(), of(DataFormat::JsonObject, 0, 10)),
        ("binary".into(), of(DataFormat::Binary, 12, 0)),
    ];
    Namespaces::new(of(DataFormat::Json, 0, 10), named)
});
