//! The figures of an exchange.

use std::ops::AddAssign;

/// Figures of an [`Exchange`](super::Exchange).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExchangeStats {
    /// The number of channels in the table: with subscribers, presence or a stream.
    pub channels: usize,
    /// The number of channels with subscribers.
    pub occupied_channels: usize,
    /// The number of subscriptions.
    pub subscriptions: usize,
    /// The number of publications that are kept.
    pub publications: usize,
    /// The bytes that count towards [`history_memory`](super::ExchangeConfig::history_memory).
    pub history_bytes: usize,
    /// The number of streams whose publications were all removed because of
    /// [`history_memory`](super::ExchangeConfig::history_memory), since the start.
    pub evicted: u64,
    /// The number of idempotency keys.
    pub idempotency_keys: usize,
    /// The number of idempotency keys that were forgotten because there were too many, since the start.
    pub forgotten_keys: u64,
    /// The number of clients that are present, in each channel.
    pub present: usize,
    /// The number of publications by clients, since the start.
    pub published_by_clients: u64,
    /// The number of publications by the server, since the start.
    pub published_by_server: u64,
    /// The number of recoveries after which the client misses nothing, since the start.
    pub recovered: u64,
    /// The number of recoveries that have failed, since the start.
    pub unrecovered: u64,
    /// The number of events that have found an inbox full, since the start. Each begins a lag.
    pub overflows: u64,
    /// The number of lags whose publications were all found in the history, since the start.
    pub covered_lags: u64,
    /// The number of lags with publications that are lost for the worker, since the start.
    pub uncovered_lags: u64,
}

impl AddAssign for ExchangeStats {
    fn add_assign(&mut self, other: ExchangeStats) {
        self.channels += other.channels;
        self.occupied_channels += other.occupied_channels;
        self.subscriptions += other.subscriptions;
        self.publications += other.publications;
        self.history_bytes += other.history_bytes;
        self.evicted += other.evicted;
        self.idempotency_keys += other.idempotency_keys;
        self.forgotten_keys += other.forgotten_keys;
        self.present += other.present;
        self.published_by_clients += other.published_by_clients;
        self.published_by_server += other.published_by_server;
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        self.overflows += other.overflows;
        self.covered_lags += other.covered_lags;
        self.uncovered_lags += other.uncovered_lags;
    }
}
