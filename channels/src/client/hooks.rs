//! Commands that wait for the answer of a hook, or for the command before them.
//!
//! The commands for one channel are executed in their order, so a command for a channel waits for an earlier one whose hook has
//! not answered. Commands for other channels do not wait. The hooks of procedure calls are asked at the same time, because the
//! protocol does not order them.

use postern_core::record::Recorder;
use zeroize::Zeroizing;

use super::commands::{Outcome, Turn};
use super::credentials::Grant;
use super::{Client, Close, Stage};
use crate::ErrorCode;
use crate::config::ChannelsConfig;
use crate::hooks::{Allowed, HookAnswer, HookCommand, HookError, HookRequest};
use crate::permissions::{Decision, Hook, Refusal};
use crate::protocol::{Answer, Command, Commands, Encoding, Raw, Reply, ReplyError, Request};

/// The commands of a client that wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// In the order of their arrival.
    commands: Vec<ParkedCommand>,
    /// The number of the next request to a hook.
    next: u32,
}

/// A command that waits.
#[derive(Debug)]
struct ParkedCommand {
    /// The number of the request to its hook. `None` if the hook has not been asked.
    request: Option<u32>,
    /// The channel that it is about.
    channel: Option<Box<str>>,
    /// The command, as the client has sent it. It may contain a token, so its memory is overwritten when it is dropped.
    bytes: Zeroizing<Box<[u8]>>,
}

impl ParkedCommand {
    fn memory(&self) -> usize {
        size_of::<ParkedCommand>() + self.bytes.len() + self.channel.as_ref().map_or(0, |name| name.len())
    }
}

/// The progress of a command that may have a hook.
pub(super) enum Progress<'b> {
    /// The hook has not been asked. The bytes of the command, so that it can wait.
    New(&'b [u8]),
    /// The hook allows the command.
    Allowed(Allowed),
}

impl Progress<'_> {
    /// Returns the state of the hook, which is on or off for a channel.
    pub(super) fn hook(&self, is_on: bool) -> Hook {
        match self {
            _ if !is_on => Hook::Off,
            Progress::New(_) => Hook::Pending,
            Progress::Allowed(_) => Hook::Allowed,
        }
    }

    /// Returns what the hook says about a subscription.
    pub(super) fn into_grant(self) -> Option<Grant> {
        match self {
            Progress::New(_) => None,
            Progress::Allowed(Allowed { info, data }) => Some(Grant { info, data, ..Grant::default() }),
        }
    }
}

/// Returns whether a command may be executed. If not, its hook is asked.
pub(super) fn is_allowed(decision: Decision) -> Result<bool, Refusal> {
    match decision {
        Decision::Allowed(_) => Ok(true),
        Decision::Refused(refusal) => Err(refusal),
        Decision::AskHook => Ok(false),
    }
}

/// Returns whether a value is a JSON text in one line.
fn is_one_line(data: &[u8]) -> bool {
    Raw::new(data).one_line().is_ok_and(|line| *line == *data)
}

impl Client {
    /// Executes a command that has arrived, or lets it wait for an earlier one.
    pub(super) fn execute_in_order(
        &mut self,
        command: Command<'_>,
        bytes: &[u8],
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        let channel = command.request.channel();
        if channel
            .is_some_and(|channel| self.parked().iter().any(|it| it.channel.as_deref() == Some(channel)))
        {
            if let Err(error) = self.park(bytes, channel, None, turn.config) {
                turn.refuse(command.id, error);
            }
            return Ok(());
        }
        self.execute_one(command, Progress::New(bytes), turn, recorder)
    }

    /// Returns whether the hook of another command may be asked now.
    pub(super) fn may_ask(&self, config: &ChannelsConfig) -> bool {
        self.parked().iter().filter(|parked| parked.request.is_some()).count() < config.max_hook_requests
    }

    /// Asks the hook of a command, or lets the command wait until that is possible.
    ///
    /// # Errors
    /// Too many commands wait.
    pub(super) fn ask(
        &mut self,
        progress: &Progress<'_>,
        channel: Option<&str>,
        command: impl FnOnce() -> HookCommand,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        // The hook of a command that it has allowed is not asked again.
        let &Progress::New(bytes) = progress else { return Err(ErrorCode::Internal.into()) };
        let number = self.may_ask(turn.config).then(|| {
            let parked = &mut self.occasional().parked;
            parked.next = parked.next.wrapping_add(1);
            parked.next
        });
        self.park(bytes, channel, number, turn.config)?;
        if let Some(number) = number {
            let (client, id, encoding) = (self.place, self.id, self.encoding);
            let (identity, command) = (turn.identity.clone(), command());
            let deadline = turn.now + turn.config.hook_timeout;
            turn.hooks.add(HookRequest { client, number, id, identity, encoding, command }, deadline);
        }
        Ok(())
    }

    /// Handles the answer of a hook. An answer that is late, or that arrives twice, has no effect.
    ///
    /// # Errors
    /// The Close that ends the connection.
    pub(crate) fn handle_hook(
        &mut self,
        number: u32,
        answer: HookAnswer,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        if !self.is_connected() {
            return Ok(());
        }
        let Some(at) = self.parked().iter().position(|parked| parked.request == Some(number)) else {
            return Ok(());
        };
        let bytes = self.unpark(at);
        let result = match Commands::new(self.encoding, &bytes).next() {
            Some(Ok(command)) => self.finish(command, answer, turn, recorder),
            // It was decoded before.
            Some(Err(_)) | None => Ok(()),
        };
        let result = result.and_then(|()| self.execute_parked(turn, recorder));
        result.inspect_err(|_| self.stage = Stage::Closed)
    }

    /// Executes or refuses a command whose hook has answered.
    fn finish(
        &mut self,
        command: Command<'_>,
        answer: HookAnswer,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        match answer {
            HookAnswer::Allowed(allowed) if matches!(command.request, Request::Rpc(_)) => {
                let data = allowed.data.unwrap_or_default();
                if self.can_get(&data) {
                    turn.answer(command.id, Answer::Rpc { data: &data });
                } else {
                    turn.refuse(command.id, ErrorCode::Internal);
                }
            }
            HookAnswer::Allowed(allowed) => {
                return self.execute_one(command, Progress::Allowed(allowed), turn, recorder);
            }
            HookAnswer::Refused(HookError { code, message, is_temporary }) => {
                turn.counts.error(code);
                let error = ReplyError { code, message: &message, is_temporary };
                turn.replies.push(&Reply::Error { id: command.id, error });
            }
            HookAnswer::Failed => turn.refuse(command.id, ErrorCode::Internal),
        }
        Ok(())
    }

    /// Returns whether a value can be a part of a message to this client.
    fn can_get(&self, data: &[u8]) -> bool {
        match self.encoding {
            Encoding::Json => data.is_empty() || is_one_line(data),
            Encoding::Protobuf => true,
        }
    }

    /// Returns whether the details of a permission can be used for a subscription of this client.
    pub(super) fn can_use(&self, progress: &Progress<'_>) -> bool {
        match progress {
            Progress::New(_) => true,
            Progress::Allowed(Allowed { info, data }) => {
                info.as_deref().is_none_or(is_one_line) && self.can_get(data.as_deref().unwrap_or_default())
            }
        }
    }

    /// Executes the commands that do not have to wait any more.
    fn execute_parked(&mut self, turn: &mut Turn<'_>, recorder: &mut impl Recorder) -> Result<(), Close> {
        while let Some(at) = self.next_parked(turn.config) {
            let count = self.parked().len();
            let bytes = self.unpark(at);
            if let Some(Ok(command)) = Commands::new(self.encoding, &bytes).next() {
                self.execute_one(command, Progress::New(&bytes), turn, recorder)?;
            }
            // A command that waits again, for its hook, keeps its place in front of those that wait for it.
            if self.parked().len() == count
                && let Some(moved) = self.occasional().parked.commands.get_mut(at..)
            {
                moved.rotate_right(1);
            }
        }
        Ok(())
    }

    /// Returns the index of the first command that can be executed: its hook has not been asked, but might be, and no earlier
    /// command is about its channel.
    fn next_parked(&self, config: &ChannelsConfig) -> Option<usize> {
        let parked = self.parked();
        if !self.may_ask(config) {
            return None;
        }
        (0..parked.len()).find(|&at| {
            let (before, rest) = parked.split_at(at);
            rest.first().is_some_and(|it| {
                it.request.is_none()
                    && (it.channel.is_none() || before.iter().all(|other| other.channel != it.channel))
            })
        })
    }

    fn parked(&self) -> &[ParkedCommand] {
        self.occasional.as_ref().map_or(&[], |occasional| &occasional.parked.commands)
    }

    /// Lets a command wait.
    ///
    /// # Errors
    /// Too many wait. One of any size may.
    fn park(
        &mut self,
        bytes: &[u8],
        channel: Option<&str>,
        request: Option<u32>,
        config: &ChannelsConfig,
    ) -> Result<(), ErrorCode> {
        let parked =
            ParkedCommand { request, channel: channel.map(Box::from), bytes: Zeroizing::new(bytes.into()) };
        let (memory, waiting) =
            (parked.memory(), self.parked().iter().map(ParkedCommand::memory).sum::<usize>());
        if waiting > 0 && waiting + memory > config.max_waiting {
            return Err(ErrorCode::TooManyRequests);
        }
        self.add_memory(memory);
        self.occasional().parked.commands.push(parked);
        Ok(())
    }

    /// Takes a command that waits.
    fn unpark(&mut self, at: usize) -> Zeroizing<Box<[u8]>> {
        let parked = self.occasional().parked.commands.remove(at);
        self.remove_memory(parked.memory());
        parked.bytes
    }
}
