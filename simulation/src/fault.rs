//! Planted faults: mistakes of a host or of an application. Each must be found, otherwise a check is missing.

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A worker does not learn that its inbox was full.
    ForgottenOverflow,
    /// The answer to a request is put into the inbox in front of the events of the request.
    EarlyAnswer,
    /// The missed events of a worker are handed to it at once, in front of events that have reached the inbox since.
    EarlyCatchUp,
    /// The streams of a restarted node have the epochs of the ones before.
    RepeatedEpoch,
    /// The requests of a connection that has ended are not executed.
    LostUnsubscribe,
    /// A worker is not woken for an event that finds its inbox empty.
    LostWake,
    /// A publication of the API is put into the inbox of each worker after the lock of the channel is released, so others
    /// overtake it.
    LateDelivery,
    /// Publications of the API lose their tags.
    LostTags,
    /// The filter of a subscription is not applied.
    ForgottenFilter,
    /// A subscription has the filter of another one.
    OtherFilter,
    /// The intervals of channels with conflation are shorter than configured.
    ShortInterval,
    /// Of the publications of a channel with conflation that wait in an inbox, the first one is kept in place of the last one.
    LostLatest,
    /// Commands lose their tokens.
    LostToken,
    /// Commands without a token get one.
    LentToken,
    /// Tokens without an expiry get one.
    InventedExpiry,
    /// Tokens are accepted without a valid signature.
    AcceptedForgery,
    /// The clock of the verifier of tokens does not advance.
    StoppedClock,
    /// Connections and subscriptions last after their tokens have expired.
    LongGrace,
    /// Connections and subscriptions end without the grace period.
    NoGrace,
    /// A full inbox refuses every message, and not only requests.
    LostMessage,
    /// A worker does not receive that it must close a connection whose user has a newer one at another worker.
    LostReplacement,
    /// A node does not compare the history of replication, so a stream that has lost its end keeps its epoch.
    TrustedFailover,
    /// A node uses the history of replication of its first connection, also after a failover.
    StaleReplication,
    /// The subscribers of a channel are not told that publications are missing.
    UntoldGap,
    /// A message of the engine is lost, and its connection stays.
    DroppedMessage,
    /// A publication without an idempotency key is tried again although it may have been published.
    RepeatedPublication,
    /// A node does not close a connection of a user with too many on all nodes.
    KeptConnection,
    /// A client does not make another attempt after one that has failed.
    ForgottenTimeout,
    /// All clients have the same random delays.
    SharedSeed,
    /// A client does not send its positions.
    LostPosition,
    /// A client loses a command for which the socket has no room at once.
    LostCommand,
    /// A client handles a message twice.
    RepeatedMessage,
    /// All plain clients have the same random delays.
    SharedDelays,
    /// A plain client loses a message that it has for a connection.
    LostPlainMessage,
    /// A plain client handles an echo twice.
    RepeatedEcho,
}

impl Fault {
    /// The faults around workers with the application `echo`.
    pub const ECHO: [Fault; 2] = [Fault::LostReplacement, Fault::LostMessage];

    /// The faults around workers with channels.
    pub const CHANNELS: [Fault; 19] = [
        Fault::ForgottenOverflow,
        Fault::EarlyAnswer,
        Fault::EarlyCatchUp,
        Fault::RepeatedEpoch,
        Fault::LostUnsubscribe,
        Fault::LostWake,
        Fault::LateDelivery,
        Fault::LostTags,
        Fault::ForgottenFilter,
        Fault::OtherFilter,
        Fault::ShortInterval,
        Fault::LostLatest,
        Fault::LostToken,
        Fault::LentToken,
        Fault::InventedExpiry,
        Fault::AcceptedForgery,
        Fault::StoppedClock,
        Fault::LongGrace,
        Fault::NoGrace,
    ];

    /// The faults around several nodes.
    pub const NODES: [Fault; 6] = [
        Fault::TrustedFailover,
        Fault::StaleReplication,
        Fault::UntoldGap,
        Fault::DroppedMessage,
        Fault::RepeatedPublication,
        Fault::KeptConnection,
    ];

    /// The faults of clients that are state machines.
    pub const CLIENT: [Fault; 5] = [
        Fault::ForgottenTimeout,
        Fault::SharedSeed,
        Fault::LostPosition,
        Fault::LostCommand,
        Fault::RepeatedMessage,
    ];

    /// The faults of plain clients.
    pub const PLAIN: [Fault; 3] = [Fault::SharedDelays, Fault::LostPlainMessage, Fault::RepeatedEcho];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Fault::ForgottenOverflow => "forgotten-overflow",
            Fault::EarlyAnswer => "early-answer",
            Fault::EarlyCatchUp => "early-catch-up",
            Fault::RepeatedEpoch => "repeated-epoch",
            Fault::LostUnsubscribe => "lost-unsubscribe",
            Fault::LostWake => "lost-wake",
            Fault::LateDelivery => "late-delivery",
            Fault::LostTags => "lost-tags",
            Fault::ForgottenFilter => "forgotten-filter",
            Fault::OtherFilter => "other-filter",
            Fault::ShortInterval => "short-interval",
            Fault::LostLatest => "lost-latest",
            Fault::LostToken => "lost-token",
            Fault::LentToken => "lent-token",
            Fault::InventedExpiry => "invented-expiry",
            Fault::AcceptedForgery => "accepted-forgery",
            Fault::StoppedClock => "stopped-clock",
            Fault::LongGrace => "long-grace",
            Fault::NoGrace => "no-grace",
            Fault::LostReplacement => "lost-replacement",
            Fault::LostMessage => "lost-message",
            Fault::TrustedFailover => "trusted-failover",
            Fault::StaleReplication => "stale-replication",
            Fault::UntoldGap => "untold-gap",
            Fault::DroppedMessage => "dropped-message",
            Fault::RepeatedPublication => "repeated-publication",
            Fault::KeptConnection => "kept-connection",
            Fault::ForgottenTimeout => "forgotten-timeout",
            Fault::SharedSeed => "shared-seed",
            Fault::LostPosition => "lost-position",
            Fault::LostCommand => "lost-command",
            Fault::RepeatedMessage => "repeated-message",
            Fault::SharedDelays => "shared-delays",
            Fault::LostPlainMessage => "lost-plain-message",
            Fault::RepeatedEcho => "repeated-echo",
        }
    }
}
