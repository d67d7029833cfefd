//! A backend that decides about commands of clients, at once, late, twice or never, and a service that checks tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postern_channels::engine::{Answer, ChannelEvent, ClientRef};
use postern_channels::hooks::{Allowed, HookAnswer, HookCommand, HookError, HookRequest};
use postern_core::TokenCheck;

use super::node::{Node, number};
use crate::random::Random;

/// The backend, and what it has decided about each command, by the number in the data of the command.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    verdicts: BTreeMap<u64, Verdict>,
    /// The answers that are on their way: the delay of each, and its worker.
    pub(crate) answers: Vec<(Duration, usize, ChannelEvent)>,
    /// Whether it answers at once, and allows everything.
    pub(super) is_healed: bool,
}

/// A decision about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
    Failed,
    /// It never answers.
    Silent,
}

/// The end of a command whose hook was asked, as its client learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookEnd {
    Executed,
    Error(u32),
}

impl Node {
    /// Decides about a command of a client.
    pub(crate) fn ask(&mut self, worker: usize, request: &HookRequest, random: &mut Random) {
        let data = match &request.command {
            HookCommand::Subscribe { data, .. }
            | HookCommand::Publish { data, .. }
            | HookCommand::Rpc { data, .. } => data.clone(),
        };
        let Some(asked) = number(&data) else {
            self.violation.get_or_insert("a hook is asked about a command without its data");
            return;
        };
        let verdict = match random.within(0..=19) {
            _ if self.backend.is_healed => Verdict::Allowed,
            0..=13 => Verdict::Allowed,
            14..=16 => Verdict::Refused,
            17 => Verdict::Failed,
            _ => Verdict::Silent,
        };
        if self.backend.verdicts.insert(asked, verdict).is_some() {
            self.violation.get_or_insert("a hook is asked twice about a command");
        }
        let answer = match verdict {
            Verdict::Allowed => {
                let is_replaced = matches!(request.command, HookCommand::Publish { .. }) && random.one_in(3);
                let is_rpc = matches!(request.command, HookCommand::Rpc { .. });
                let data = match (is_replaced, is_rpc) {
                    (true, _) => Some(Arc::from(self.data(random).into_bytes())),
                    (false, true) => Some(Arc::from(&*data)),
                    (false, false) => None,
                };
                HookAnswer::Allowed(Allowed { info: None, data })
            }
            Verdict::Refused => {
                HookAnswer::Refused(HookError { code: REFUSED, message: "no".into(), is_temporary: false })
            }
            Verdict::Failed => HookAnswer::Failed,
            Verdict::Silent => {
                self.mail.marks.insert("a hook does not answer");
                return;
            }
        };
        let event =
            ChannelEvent::Hook { client: request.client, number: request.number, answer: Box::new(answer) };
        let delay = |random: &mut Random| match random.one_in(2) {
            true => random.micros(1..=500),
            false => random.micros(500..=8_000_000),
        };
        let first = if self.backend.is_healed { Duration::from_micros(1) } else { delay(random) };
        if random.one_in(8) {
            self.backend.answers.push((delay(random), worker, event.clone()));
        }
        self.backend.answers.push((first, worker, event));
    }

    /// Asks the service about a connection token.
    pub(crate) fn check_token(
        &mut self,
        worker: usize,
        client: ClientRef,
        command: u32,
        check: &TokenCheck,
        random: &mut Random,
    ) {
        let delay = match (self.backend.is_healed, random.one_in(2)) {
            (true, _) => Duration::from_micros(1),
            (false, true) => random.micros(1..=500),
            (false, false) => random.micros(500..=3_000_000),
        };
        let answer = Answer::TokenChecked(self.issuer.check(check, delay));
        let event = ChannelEvent::Answer { client, command, channel: "".into(), answer };
        self.backend.answers.push((delay, worker, event));
    }

    /// Checks the end of a command with this number in its data, whose hook must have been asked if it was executed.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn check_hook(&mut self, asked: u64, end: HookEnd) -> Result<(), &'static str> {
        match (self.backend.verdicts.get(&asked), end) {
            (Some(Verdict::Allowed), HookEnd::Executed) => Ok(()),
            (_, HookEnd::Executed) => Err("a command is executed that its hook has not allowed"),
            (Some(Verdict::Refused), HookEnd::Error(REFUSED)) => {
                self.mail.marks.insert("a hook refuses");
                Ok(())
            }
            // Also because the answer is late.
            (Some(_), HookEnd::Error(INTERNAL)) => {
                self.mail.marks.insert("a hook fails");
                Ok(())
            }
            (None, HookEnd::Error(TOO_MANY)) => {
                self.mail.marks.insert("too many commands wait for hooks");
                Ok(())
            }
            (_, HookEnd::Error(_)) => Err("a command with a hook has an error without a cause"),
        }
    }

    /// Puts an answer of the backend into the inbox of a worker.
    pub(crate) fn answer(&mut self, worker: usize, event: ChannelEvent) {
        self.mail.answer_hook(worker, event);
    }
}

/// The error of a command that the backend refuses.
const REFUSED: u32 = 1000;

/// The error of a command about which the backend does not decide.
const INTERNAL: u32 = 100;

/// The error of a command that is one too many.
const TOO_MANY: u32 = 111;
