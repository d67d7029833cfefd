//! Optional features of a build.

/// A feature that a build can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Amqp,
    Control,
    Assertion,
    Compression,
    Hooks,
    Nats,
    Redis,
}

impl Feature {
    /// Returns whether this build has it.
    pub(super) fn is_enabled(self) -> bool {
        match self {
            Feature::Amqp => cfg!(feature = "amqp"),
            Feature::Control => cfg!(feature = "control"),
            Feature::Assertion => cfg!(feature = "assertion"),
            Feature::Compression => cfg!(feature = "compression"),
            Feature::Hooks => cfg!(feature = "hooks"),
            Feature::Nats => cfg!(feature = "nats"),
            Feature::Redis => cfg!(feature = "redis"),
        }
    }

    /// Returns the error for a setting that needs the feature, without what to write instead.
    pub(super) fn lack(self) -> String {
        let (name, cargo_feature) = match self {
            Feature::Amqp => ("RabbitMQ", "amqp"),
            Feature::Control => ("control port", "control"),
            Feature::Assertion => ("signed identities", "assertion"),
            Feature::Compression => ("compression", "compression"),
            Feature::Hooks => ("hooks", "hooks"),
            Feature::Nats => ("NATS", "nats"),
            Feature::Redis => ("Redis", "redis"),
        };
        format!("this build has no {name}; build it with --features {cargo_feature}")
    }
}
