//! Options that contradict each other, or have no effect because of each other.

use super::options::{ChannelOptions, Conflation, RecoveryMode, SlowPolicy};

/// A rule that the options of a namespace must not break.
pub(super) struct Contradiction {
    /// The options that the error is about. It names the first of them that the file contains.
    pub(super) options: &'static [&'static str],
    /// Whether the options break the rule.
    pub(super) holds: fn(&ChannelOptions) -> bool,
    /// The end of a sentence that begins with the name of the option.
    pub(super) complaint: &'static str,
}

/// Returns whether the options have no history, and neither its size nor its time is set.
fn lacks_history(options: &ChannelOptions) -> bool {
    options.history_size == 0 && options.history_ttl.is_zero()
}

/// Returns whether subscribers must get all publications, or a notification if they do not.
fn promises_all(options: &ChannelOptions) -> bool {
    let recovers = options.allow_recovery || options.force_recovery;
    options.allow_positioning
        || options.force_positioning
        || (recovers && options.force_recovery_mode == RecoveryMode::Stream)
}

const NEEDS_HISTORY: &str = "has no effect without a history; set history_size and history_ttl";
const NEEDS_PRESENCE: &str = "has no effect without the presence; write presence = true";

pub(super) const CONTRADICTIONS: &[Contradiction] = &[
    Contradiction {
        options: &["history_size"],
        holds: |options| options.history_size > 0 && options.history_ttl.is_zero(),
        complaint: "has no effect without history_ttl; write for example history_ttl = \"5m\"",
    },
    Contradiction {
        options: &["history_ttl"],
        holds: |options| options.history_size == 0 && !options.history_ttl.is_zero(),
        complaint: "has no effect without history_size; write for example history_size = 100",
    },
    Contradiction {
        options: &["history_meta_ttl", "history_ttl"],
        holds: |options| options.has_history() && options.history_meta_ttl < options.history_ttl,
        complaint: "contradicts: history_meta_ttl must be at least history_ttl",
    },
    Contradiction {
        options: &["history_bytes"],
        holds: |options| options.history_bytes > 0 && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["history_bytes"],
        holds: |options| options.history_bytes > 0 && options.history_bytes < options.max_publication,
        complaint: "is less than max_publication, so a publication might not fit into the history",
    },
    Contradiction {
        options: &["allow_history_for_client"],
        holds: |options| options.allow_history_for_client && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["allow_history_for_subscriber"],
        holds: |options| options.allow_history_for_subscriber && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["allow_positioning"],
        holds: |options| options.allow_positioning && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["force_positioning"],
        holds: |options| options.force_positioning && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["allow_recovery"],
        holds: |options| options.allow_recovery && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["force_recovery"],
        holds: |options| options.force_recovery && lacks_history(options),
        complaint: NEEDS_HISTORY,
    },
    Contradiction {
        options: &["force_recovery_mode"],
        holds: |options| {
            options.force_recovery_mode == RecoveryMode::Cache
                && !options.allow_recovery
                && !options.force_recovery
        },
        complaint: "has no effect without recovery; write force_recovery = true",
    },
    Contradiction {
        options: &["auto_cache_recover"],
        holds: |options| options.auto_cache_recover && options.force_recovery_mode != RecoveryMode::Cache,
        complaint: "needs the mode cache; write force_recovery_mode = \"cache\"",
    },
    Contradiction {
        options: &["allow_presence_for_client"],
        holds: |options| options.allow_presence_for_client && !options.presence,
        complaint: NEEDS_PRESENCE,
    },
    Contradiction {
        options: &["allow_presence_for_subscriber"],
        holds: |options| options.allow_presence_for_subscriber && !options.presence,
        complaint: NEEDS_PRESENCE,
    },
    Contradiction {
        options: &["force_push_join_leave"],
        holds: |options| options.force_push_join_leave && !options.join_leave,
        complaint: "has no effect without joins and leaves; write join_leave = true",
    },
    Contradiction {
        options: &["subscribe_for"],
        holds: |options| options.allow_subscribe_for_client && !options.subscribe_for.is_empty(),
        complaint: "has no effect, because allow_subscribe_for_client = true allows all channels; leave one of them out",
    },
    Contradiction {
        options: &["publish_for"],
        // A pattern of private channels has an effect: the option for every client does not apply to them.
        holds: |options| {
            options.allow_publish_for_client
                && options.publish_for.iter().any(|pattern| !pattern.as_str().starts_with('$'))
        },
        complaint: "has no effect, because allow_publish_for_client = true allows all channels; leave one of them out",
    },
    Contradiction {
        options: &["subscribe_hook"],
        holds: |options| options.subscribe_hook && options.allow_subscribe_for_client,
        complaint: "decides about subscriptions, so allow_subscribe_for_client has no effect; leave one of them out",
    },
    Contradiction {
        options: &["publish_hook"],
        holds: |options| {
            options.publish_hook && (options.allow_publish_for_client || options.allow_publish_for_subscriber)
        },
        complaint: "decides about publications, so allow_publish_for_client and allow_publish_for_subscriber have no effect; \
                    leave one of them out",
    },
    Contradiction {
        options: &["delta_publish"],
        holds: |options| options.delta_publish && options.allowed_delta_types.is_empty(),
        complaint: "has no effect without a type; write allowed_delta_types = [\"fossil\"]",
    },
    Contradiction {
        options: &["conflate_interval"],
        holds: |options| options.conflate == Conflation::Off,
        complaint: "has no effect without conflate; write conflate = \"latest\"",
    },
    Contradiction {
        options: &["conflate_interval"],
        holds: |options| options.conflate == Conflation::Latest && options.conflate_interval.is_zero(),
        complaint: "must be more than 0 with conflate; write for example \"100ms\"",
    },
    Contradiction {
        options: &["conflate"],
        holds: |options| options.conflate == Conflation::Latest && promises_all(options),
        complaint: "leaves publications out, which contradicts positioning and recovery; leave one of them out",
    },
    Contradiction {
        options: &["conflate"],
        holds: |options| options.conflate == Conflation::Latest && !options.allowed_delta_types.is_empty(),
        complaint: "leaves publications out that deltas would refer to; leave out conflate or allowed_delta_types",
    },
    Contradiction {
        options: &["conflate"],
        holds: |options| options.conflate == Conflation::Latest && options.allow_tags_filter,
        complaint: "leaves publications out that filters might select; leave out conflate or allow_tags_filter",
    },
    Contradiction {
        options: &["conflate"],
        holds: |options| options.conflate == Conflation::Latest && options.exclude_publisher,
        complaint: "leaves out what others have published before the publisher's own publication; leave out conflate or exclude_publisher",
    },
    Contradiction {
        options: &["slow"],
        holds: |options| options.slow == SlowPolicy::Conflate && promises_all(options),
        complaint: "leaves publications out, which contradicts positioning and recovery; write slow = \"drop\"",
    },
];
