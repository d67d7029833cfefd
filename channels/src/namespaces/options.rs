//! The options of a namespace, and the table from which the channels file is read and documented.

use std::time::Duration;

use super::patterns::Pattern;
use super::value;

/// The options of the channels of one namespace. By default everything is off.
///
/// Options of Centrifugo have their names and meanings. `for_client` means every connected client, `for_subscriber` a client
/// that is subscribed to the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Whether every client may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Patterns of the channels to which a client may subscribe.
    pub subscribe_for: Vec<Pattern>,
    /// Whether the users who are listed in a name may subscribe without another permission.
    pub allow_user_limited_channels: bool,
    /// Whether the backend decides about subscriptions that no rule before it allows.
    pub subscribe_hook: bool,
    /// Whether every client may publish.
    pub allow_publish_for_client: bool,
    /// Whether subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Patterns of the channels to which a client may publish.
    pub publish_for: Vec<Pattern>,
    /// Whether the backend decides about publications that no rule before it allows.
    pub publish_hook: bool,
    /// Whether the backend answers calls of procedures.
    pub rpc_hook: bool,
    /// Whether every client may ask for the presence.
    pub allow_presence_for_client: bool,
    /// Whether subscribers may ask for the presence.
    pub allow_presence_for_subscriber: bool,
    /// Whether every client may read the history.
    pub allow_history_for_client: bool,
    /// Whether subscribers may read the history.
    pub allow_history_for_subscriber: bool,

    /// Whether the server knows which clients are subscribed.
    pub presence: bool,
    /// Whether subscribers that ask for it get joins and leaves.
    pub join_leave: bool,
    /// Whether all subscribers get joins and leaves.
    pub force_push_join_leave: bool,

    /// The number of publications that are kept. 0: no history.
    pub history_size: usize,
    /// The time after the last publication after which the history is removed. Zero: no history.
    pub history_ttl: Duration,
    /// The time for which the position of a stream outlives its last publication.
    pub history_meta_ttl: Duration,
    /// The maximum size of the publications that are kept, in bytes of data. 0: not limited.
    pub history_bytes: usize,
    /// Whether a client may ask for notifications of gaps.
    pub allow_positioning: bool,
    /// Whether all clients get notifications of gaps.
    pub force_positioning: bool,
    /// Whether a client may ask for recovery.
    pub allow_recovery: bool,
    /// Whether all subscriptions are recoverable.
    pub force_recovery: bool,
    /// The publications that a recovery returns.
    pub force_recovery_mode: RecoveryMode,
    /// Whether a new subscriber gets the last publication as if it had asked for recovery.
    pub auto_cache_recover: bool,

    /// The data that may be published.
    pub publication_data_format: DataFormat,
    /// The maximum size of the data of a publication, in bytes. 0: not limited.
    pub max_publication: usize,
    /// The number of publications in a second that a connection may make. It is also the number that it may make at once.
    /// 0: not limited.
    pub rate: u32,
    /// Whether the connection that publishes gets its own publication.
    pub exclude_publisher: bool,
    /// The kinds of deltas that a subscriber may ask for.
    pub allowed_delta_types: Vec<DeltaType>,
    /// Whether publications are sent as deltas to subscribers that asked for them, if the publisher does not say otherwise.
    pub delta_publish: bool,
    /// Whether a subscriber may select publications by their tags.
    pub allow_tags_filter: bool,
    /// Whether messages contain a number in place of the name of the channel, for subscribers that support it.
    pub allow_channel_compaction: bool,
    /// The publications that a subscriber gets of those in one [`ChannelOptions::conflate_interval`].
    pub conflate: Conflation,
    /// The least time between two publications to a subscriber. Only with [`Conflation::Latest`].
    pub conflate_interval: Duration,
    /// The reaction to a subscriber that does not read fast enough.
    pub slow: SlowPolicy,
}

/// The publications that a recovery returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// All publications after the position of the subscriber.
    Stream,
    /// The last publication.
    Cache,
}

/// The data of publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFormat {
    /// Any JSON text.
    Json,
    /// A JSON object.
    JsonObject,
    /// Any bytes. Only connections with the Protobuf encoding can subscribe.
    Binary,
}

/// A kind of delta between two publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaType {
    /// The delta of the version control system Fossil.
    Fossil,
}

/// The publications that a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflation {
    /// All.
    Off,
    /// The latest one of each interval.
    Latest,
}

/// The reaction to a subscriber that does not read fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowPolicy {
    /// Its connection is closed with [`Disconnect::Slow`](crate::Disconnect::Slow).
    Close,
    /// Publications are dropped, and the subscriber gets a notification of the gap.
    Drop,
    /// Of the publications that wait for it, only the latest one is kept.
    Conflate,
}

impl Default for ChannelOptions {
    fn default() -> ChannelOptions {
        ChannelOptions {
            allow_subscribe_for_client: false,
            subscribe_for: Vec::new(),
            allow_user_limited_channels: false,
            subscribe_hook: false,
            allow_publish_for_client: false,
            allow_publish_for_subscriber: false,
            publish_for: Vec::new(),
            publish_hook: false,
            rpc_hook: false,
            allow_presence_for_client: false,
            allow_presence_for_subscriber: false,
            allow_history_for_client: false,
            allow_history_for_subscriber: false,
            presence: false,
            join_leave: false,
            force_push_join_leave: false,
            history_size: 0,
            history_ttl: Duration::ZERO,
            history_meta_ttl: Duration::from_secs(720 * 3600),
            history_bytes: 0,
            allow_positioning: false,
            force_positioning: false,
            allow_recovery: false,
            force_recovery: false,
            force_recovery_mode: RecoveryMode::Stream,
            auto_cache_recover: false,
            publication_data_format: DataFormat::Json,
            max_publication: 0,
            rate: 0,
            exclude_publisher: false,
            allowed_delta_types: Vec::new(),
            delta_publish: false,
            allow_tags_filter: false,
            allow_channel_compaction: false,
            conflate: Conflation::Off,
            conflate_interval: Duration::from_millis(100),
            slow: SlowPolicy::Close,
        }
    }
}

impl ChannelOptions {
    /// Returns whether channels have a history: a size and a time are set.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }
}

/// An option as it is written in the channels file.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// The name, which is also the name of the field.
    pub name: &'static str,
    /// The heading under which it is documented.
    pub group: &'static str,
    /// Its values, and where they are stored.
    pub kind: OptionKind,
    /// The description.
    pub help: &'static str,
    /// Whether Centrifugo does not have it.
    pub is_own: bool,
}

impl OptionSpec {
    /// Returns the value of the option, as it is written in the channels file.
    pub fn show(&self, options: &ChannelOptions) -> String {
        // A field is reached through a mutable reference only.
        let mut options = options.clone();
        match self.kind {
            OptionKind::Switch(field) => field(&mut options).to_string(),
            OptionKind::Count(field, _) => field(&mut options).to_string(),
            OptionKind::Rate(field) => field(&mut options).to_string(),
            OptionKind::Duration(field, _) => match *field(&mut options) {
                Duration::ZERO => "0".to_owned(),
                duration => quoted(&value::show_duration(duration)),
            },
            OptionKind::Size(field) => match *field(&mut options) {
                0 => "0".to_owned(),
                size => quoted(&value::show_size(size)),
            },
            OptionKind::Patterns(field) => list(field(&mut options).iter().map(|item| quoted(item.as_str()))),
            OptionKind::Deltas(field) => list(field(&mut options).iter().map(|item| word(*item))),
            OptionKind::Recovery(field) => word(*field(&mut options)),
            OptionKind::Format(field) => word(*field(&mut options)),
            OptionKind::Conflation(field) => word(*field(&mut options)),
            OptionKind::Slow(field) => word(*field(&mut options)),
        }
    }
}

/// Returns a text as TOML writes it. It consists of visible ASCII characters, which Rust writes in the same way.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// Returns the word of a value.
fn word<T: Words>(value: T) -> String {
    let word = T::WORDS.iter().find(|(_, other)| *other == value).map(|(word, _)| *word);
    quoted(word.unwrap_or_default())
}

/// The field of an option.
type Field<T> = fn(&mut ChannelOptions) -> &mut T;

/// The values of an option, and the field in which they are stored.
#[derive(Debug, Clone, Copy)]
pub enum OptionKind {
    /// `true` or `false`.
    Switch(Field<bool>),
    /// A whole number, and its maximum.
    Count(Field<usize>, usize),
    /// A whole number for each second.
    Rate(Field<u32>),
    /// A time as text, such as `25s`, and its maximum.
    Duration(Field<Duration>, Duration),
    /// A number of bytes, or a text such as `64KiB`.
    Size(Field<usize>),
    /// A list of patterns of channel names.
    Patterns(Field<Vec<Pattern>>),
    /// A list of kinds of deltas.
    Deltas(Field<Vec<DeltaType>>),
    /// One of the words of [`RecoveryMode`].
    Recovery(Field<RecoveryMode>),
    /// One of the words of [`DataFormat`].
    Format(Field<DataFormat>),
    /// One of the words of [`Conflation`].
    Conflation(Field<Conflation>),
    /// One of the words of [`SlowPolicy`].
    Slow(Field<SlowPolicy>),
}

/// A type whose values are words of the channels file.
pub trait Words: Copy + PartialEq + 'static {
    /// Each word and its value.
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for RecoveryMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("stream", RecoveryMode::Stream), ("cache", RecoveryMode::Cache)];
}

impl Words for DataFormat {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("json", DataFormat::Json),
        ("json_object", DataFormat::JsonObject),
        ("binary", DataFormat::Binary),
    ];
}

impl Words for DeltaType {
    const WORDS: &'static [(&'static str, Self)] = &[("fossil", DeltaType::Fossil)];
}

impl Words for Conflation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Conflation::Off), ("latest", Conflation::Latest)];
}

impl Words for SlowPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("close", SlowPolicy::Close), ("drop", SlowPolicy::Drop), ("conflate", SlowPolicy::Conflate)];
}

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

const PERMISSIONS: &str = "Permissions";
const PRESENCE: &str = "Presence";
const HISTORY: &str = "History and recovery";
const PUBLICATIONS: &str = "Publications";

/// Returns an option of Centrifugo.
const fn option(group: &'static str, name: &'static str, kind: OptionKind, help: &'static str) -> OptionSpec {
    OptionSpec { name, group, kind, help, is_own: false }
}

/// Returns an option of Postern.
const fn own(group: &'static str, name: &'static str, kind: OptionKind, help: &'static str) -> OptionSpec {
    OptionSpec { is_own: true, ..option(group, name, kind, help) }
}

/// All options, in the order of the documentation.
pub const OPTIONS: &[OptionSpec] = &[
    option(
        PERMISSIONS,
        "allow_subscribe_for_client",
        OptionKind::Switch(|options| &mut options.allow_subscribe_for_client),
        "Every client may subscribe.",
    ),
    own(
        PERMISSIONS,
        "subscribe_for",
        OptionKind::Patterns(|options| &mut options.subscribe_for),
        "Clients may subscribe to the channels that match one of these patterns.",
    ),
    option(
        PERMISSIONS,
        "allow_user_limited_channels",
        OptionKind::Switch(|options| &mut options.allow_user_limited_channels),
        "The users in a name such as `dialog#1,2` may subscribe.",
    ),
    own(
        PERMISSIONS,
        "subscribe_hook",
        OptionKind::Switch(|options| &mut options.subscribe_hook),
        "The backend of `POSTERN_HOOK_URL` decides whether a client may subscribe, if no other option or token allows it.",
    ),
    option(
        PERMISSIONS,
        "allow_publish_for_client",
        OptionKind::Switch(|options| &mut options.allow_publish_for_client),
        "Every client may publish.",
    ),
    option(
        PERMISSIONS,
        "allow_publish_for_subscriber",
        OptionKind::Switch(|options| &mut options.allow_publish_for_subscriber),
        "Subscribers may publish.",
    ),
    own(
        PERMISSIONS,
        "publish_for",
        OptionKind::Patterns(|options| &mut options.publish_for),
        "Clients may publish to the channels that match one of these patterns.",
    ),
    own(
        PERMISSIONS,
        "publish_hook",
        OptionKind::Switch(|options| &mut options.publish_hook),
        "The backend decides whether a client may publish, if `publish_for` does not allow it.",
    ),
    own(
        PERMISSIONS,
        "rpc_hook",
        OptionKind::Switch(|options| &mut options.rpc_hook),
        "The backend answers calls of the procedures whose names begin with the namespace and a colon.",
    ),
    option(
        PERMISSIONS,
        "allow_presence_for_client",
        OptionKind::Switch(|options| &mut options.allow_presence_for_client),
        "Every client may ask for the presence.",
    ),
    option(
        PERMISSIONS,
        "allow_presence_for_subscriber",
        OptionKind::Switch(|options| &mut options.allow_presence_for_subscriber),
        "Subscribers may ask for the presence.",
    ),
    option(
        PERMISSIONS,
        "allow_history_for_client",
        OptionKind::Switch(|options| &mut options.allow_history_for_client),
        "Every client may read the history.",
    ),
    option(
        PERMISSIONS,
        "allow_history_for_subscriber",
        OptionKind::Switch(|options| &mut options.allow_history_for_subscriber),
        "Subscribers may read the history.",
    ),
    option(
        PRESENCE,
        "presence",
        OptionKind::Switch(|options| &mut options.presence),
        "The server keeps the list of the clients that are subscribed.",
    ),
    option(
        PRESENCE,
        "join_leave",
        OptionKind::Switch(|options| &mut options.join_leave),
        "Subscribers that ask for it get a join or leave for each other subscription.",
    ),
    option(
        PRESENCE,
        "force_push_join_leave",
        OptionKind::Switch(|options| &mut options.force_push_join_leave),
        "All subscribers get joins and leaves.",
    ),
    option(
        HISTORY,
        "history_size",
        OptionKind::Count(|options| &mut options.history_size, 1_000_000),
        "The number of publications that are kept. The history needs `history_ttl` as well.",
    ),
    option(
        HISTORY,
        "history_ttl",
        OptionKind::Duration(|options| &mut options.history_ttl, YEAR),
        "The time after the last publication after which the history is removed. The history needs `history_size` as well.",
    ),
    option(
        HISTORY,
        "history_meta_ttl",
        OptionKind::Duration(|options| &mut options.history_meta_ttl, YEAR),
        "The time for which the position of a stream is kept after its last publication.",
    ),
    own(
        HISTORY,
        "history_bytes",
        OptionKind::Size(|options| &mut options.history_bytes),
        "The maximum size of the data that is kept for one channel. `0`: only the number and the time are limited.",
    ),
    option(
        HISTORY,
        "allow_positioning",
        OptionKind::Switch(|options| &mut options.allow_positioning),
        "Subscribers that ask for it get a notification if they have missed a publication.",
    ),
    option(
        HISTORY,
        "force_positioning",
        OptionKind::Switch(|options| &mut options.force_positioning),
        "All subscribers get such notifications.",
    ),
    option(
        HISTORY,
        "allow_recovery",
        OptionKind::Switch(|options| &mut options.allow_recovery),
        "Subscribers that ask for it get the publications that they missed while they were not connected.",
    ),
    option(
        HISTORY,
        "force_recovery",
        OptionKind::Switch(|options| &mut options.force_recovery),
        "All subscribers get them.",
    ),
    option(
        HISTORY,
        "force_recovery_mode",
        OptionKind::Recovery(|options| &mut options.force_recovery_mode),
        "`stream`: a subscriber gets all publications that it missed. `cache`: it gets the last one.",
    ),
    option(
        HISTORY,
        "auto_cache_recover",
        OptionKind::Switch(|options| &mut options.auto_cache_recover),
        "In the mode `cache`, each new subscriber gets the last publication.",
    ),
    option(
        PUBLICATIONS,
        "publication_data_format",
        OptionKind::Format(|options| &mut options.publication_data_format),
        "`json`: any JSON. `json_object`: a JSON object. `binary`: any bytes, for clients with Protobuf only.",
    ),
    own(
        PUBLICATIONS,
        "max_publication",
        OptionKind::Size(|options| &mut options.max_publication),
        "The maximum size of the data of a publication. `0`: only the message is limited.",
    ),
    own(
        PUBLICATIONS,
        "rate",
        OptionKind::Rate(|options| &mut options.rate),
        "The number of publications for each second and connection, which is also its burst. `0`: no limit.",
    ),
    own(
        PUBLICATIONS,
        "exclude_publisher",
        OptionKind::Switch(|options| &mut options.exclude_publisher),
        "A connection does not get its own publications live. A recovery and the history contain them, because a position counts all publications.",
    ),
    option(
        PUBLICATIONS,
        "allowed_delta_types",
        OptionKind::Deltas(|options| &mut options.allowed_delta_types),
        "Subscribers may ask for deltas of these types. The only type is `fossil`.",
    ),
    option(
        PUBLICATIONS,
        "delta_publish",
        OptionKind::Switch(|options| &mut options.delta_publish),
        "Publications are sent as deltas to the subscribers that asked for them.",
    ),
    option(
        PUBLICATIONS,
        "allow_tags_filter",
        OptionKind::Switch(|options| &mut options.allow_tags_filter),
        "Subscribers may select publications by their tags.",
    ),
    option(
        PUBLICATIONS,
        "allow_channel_compaction",
        OptionKind::Switch(|options| &mut options.allow_channel_compaction),
        "Messages contain a number in place of the name of the channel, for subscribers that support it.",
    ),
    own(
        PUBLICATIONS,
        "conflate",
        OptionKind::Conflation(|options| &mut options.conflate),
        "`latest`: of the publications in one `conflate_interval`, a subscriber gets the latest one.",
    ),
    own(
        PUBLICATIONS,
        "conflate_interval",
        OptionKind::Duration(|options| &mut options.conflate_interval, MINUTE),
        "The least time between two publications to a subscriber, with `conflate`.",
    ),
    own(
        PUBLICATIONS,
        "slow",
        OptionKind::Slow(|options| &mut options.slow),
        "For subscribers that do not read fast enough. `close`: the connection is closed. `drop`: publications are \
         dropped, and the subscriber gets a notification. `conflate`: only the latest one is kept.",
    ),
];

#[cfg(test)]
mod tests;
