//! The stub for builds without the feature `hooks`, in which the settings refuse a URL.

use std::io;
use std::time::Instant;

use postern_channels::hooks::{HookAnswer, HookRequest};
use postern_core::Record;
use slog::Logger;

/// The URL to which events are sent. This build cannot have such settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookSettings {}

/// Figures of events. This build has none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HookStats {}

/// Ignores all events.
#[derive(Debug, Clone, Default)]
pub struct Hooks;

impl Hooks {
    pub(crate) fn start(_: Option<&HookSettings>, _: u32, _: &Logger) -> io::Result<Hooks> {
        Ok(Hooks)
    }

    pub(crate) fn record(&self, _: &Record<'_>) {}

    pub(crate) fn channel(&self, _: &str, _: bool) {}

    pub(crate) fn ask(&self, _: &HookRequest, complete: impl FnOnce(HookAnswer) + Send + 'static) {
        complete(HookAnswer::Failed);
    }

    pub(crate) fn stats(&self) -> Option<HookStats> {
        None
    }

    pub(crate) fn finish(&self, _: Instant, _: impl FnMut() -> bool) -> usize {
        0
    }
}
