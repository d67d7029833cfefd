//! The commands of a client.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use postern_core::frame::DataKind;
use postern_core::handshake::Identity;
use postern_core::record::{NullRecorder, Record, Recorder};

use super::hooks::{Progress, is_allowed};
use super::{Client, Close, Stage, Waiting};
use crate::channel::MAX_CHANNEL;
use crate::claims::Wishes;
use crate::config::ChannelsConfig;
use crate::counts::Counts;
use crate::engine::{ClientRef, Operation, Request as EngineRequest};
use crate::exchange::{HistoryOptions, HistoryQuery, Publish, Recovery};
use crate::filter::Filter;
use crate::hooks::{HookCommand, HookRequests};
use crate::hub::{Form, Hub, JoinError};
use crate::namespaces::options::{ChannelOptions, DataFormat, DeltaType, RecoveryMode};
use crate::permissions::{self, Decision, Refusal, Subject, TokenVerdict};
use crate::protocol::{
    Answer, Command, Commands, ConnectRequest, Delta, Encoding, HistoryRequest, Message, PublishRequest, Raw,
    Reply, Request, RpcRequest, SubscribeRequest,
};
use crate::publication::{Since, Tags};
use crate::{Disconnect, ErrorCode};

/// The surroundings of a client while its commands are executed.
pub(crate) struct Turn<'t> {
    pub(crate) client: ClientRef,
    pub(crate) now: Instant,
    pub(crate) identity: &'t Identity,
    pub(crate) config: &'t ChannelsConfig,
    pub(crate) hub: &'t mut Hub,
    /// The replies.
    pub(crate) replies: Message<'t>,
    pub(crate) requests: &'t mut VecDeque<EngineRequest>,
    /// The requests to hooks.
    pub(crate) hooks: &'t mut HookRequests,
    pub(crate) counts: &'t mut Counts,
    /// Whether the message may contain a token, so that it must be overwritten.
    pub(crate) has_token: bool,
}

impl Turn<'_> {
    /// Replies with an error.
    pub(super) fn refuse(&mut self, id: u32, error: ErrorCode) {
        self.counts.error(error.number());
        self.replies.push(&Reply::Error { id, error: error.into() });
    }

    /// Replies with the result of a command.
    pub(super) fn answer(&mut self, id: u32, answer: Answer<'_>) {
        self.replies.push(&Reply::Answer { id, answer });
    }

    /// Emits a request to the channels of the node.
    pub(super) fn request(&mut self, command: u32, channel: Arc<str>, operation: Operation) {
        self.requests.push_back(EngineRequest { client: self.client, command, channel, operation });
    }
}

/// The end of a command without a reply.
pub(super) type Outcome = Result<(), Refusal>;

impl Client {
    /// Handles a message of a client without commands: the first one has the fields of `connect`, and others are ignored.
    ///
    /// # Errors
    /// The Close that ends the connection.
    pub(crate) fn execute_bare(&mut self, message: &[u8], turn: &mut Turn<'_>) -> Result<(), Close> {
        if !matches!(self.stage, Stage::New) {
            return Ok(());
        }
        turn.has_token = true;
        let result = match ConnectRequest::decode(Encoding::Json, message) {
            Ok(request) => {
                // The number in the reply, which is not sent.
                let (id, request) = (1, Request::Connect(request));
                turn.counts.command(&request);
                self.execute_one(Command { id, request }, Progress::New(&[]), turn, &mut NullRecorder)
            }
            Err(_) => Err(bad_request(FIRST_BARE)),
        };
        self.keep_if_checking(message, 0);
        result.inspect_err(|_| self.stage = Stage::Closed)
    }

    /// Executes the commands of a message, except for the first `executed` ones.
    ///
    /// # Errors
    /// The Close that ends the connection. The replies to the commands before the fault are sent.
    pub(crate) fn execute(
        &mut self,
        message: &[u8],
        executed: usize,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        if matches!(self.stage, Stage::Refused) {
            turn.has_token = true;
            self.stage = Stage::Closed;
            return Err(bad_request("bad request: connect was refused"));
        }
        let mut commands = Commands::new(self.encoding, message);
        let mut start = 0;
        for index in 0.. {
            let Some(command) = commands.next() else { break };
            let bytes = message.get(start..commands.position()).unwrap_or_default();
            start = commands.position();
            if index < executed {
                continue;
            }
            // The commands after one that waits, or that ends the connection, are not decoded.
            let is_last = !matches!(self.stage, Stage::New | Stage::Connected);
            turn.has_token |= is_last || command.as_ref().map_or(true, |command| command.request.has_token());
            match &mut self.stage {
                Stage::Refused | Stage::Closing(_) | Stage::Closed => return Ok(()),
                Stage::Checking(connecting) | Stage::Connecting(connecting) => {
                    if connecting.waiting() + message.len() > turn.config.max_waiting {
                        self.stage = Stage::Closed;
                        return Err(Disconnect::TooManyRequests.into());
                    }
                    connecting.waiting.push(Waiting::new(message, index));
                    return Ok(());
                }
                Stage::New | Stage::Connected => {}
            }
            let result = match command {
                Ok(command) => {
                    turn.counts.command(&command.request);
                    self.execute_in_order(command, bytes, turn, recorder)
                }
                Err(malformed) if matches!(self.stage, Stage::New) => {
                    Err(Close { disconnect: malformed.into(), reason: Some(Cow::Borrowed(FIRST)) })
                }
                Err(malformed) => Err(Close {
                    disconnect: malformed.into(),
                    reason: Some(Cow::Borrowed(malformed.reason())),
                }),
            };
            if let Err(close) = result {
                self.stage = Stage::Closed;
                return Err(close);
            }
            if self.keep_if_checking(message, index) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Executes the commands that waited for the check of the token of `connect`, once it has passed, or for the reply to
    /// `connect`, once it is sent.
    ///
    /// # Errors
    /// As [`execute`](Client::execute).
    pub(crate) fn execute_waiting(
        &mut self,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        loop {
            let waiting = self.take_waiting();
            if waiting.is_empty() {
                return Ok(());
            }
            // A `connect` among them may be complete afterwards. Then the commands after it do not have to wait any more.
            for Waiting { message, executed } in waiting {
                if self.is_bare {
                    self.execute_bare(&message, turn)?;
                } else {
                    self.execute(&message, executed, turn, recorder)?;
                }
            }
        }
    }

    pub(super) fn execute_one(
        &mut self,
        command: Command<'_>,
        progress: Progress<'_>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        let Command { id, mut request } = command;
        let result = self.execute_request(id, &request, progress, turn, recorder);
        request.wipe_tokens();
        result
    }

    fn execute_request(
        &mut self,
        id: u32,
        request: &Request<'_>,
        progress: Progress<'_>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Result<(), Close> {
        if let (Stage::New, request) = (&self.stage, request) {
            let Request::Connect(connect) = request else {
                return Err(Close { disconnect: Disconnect::BadRequest, reason: Some(Cow::Borrowed(FIRST)) });
            };
            return self.connect(id, connect, turn);
        }
        let outcome = match request {
            Request::Connect(_) => return Err(bad_request("bad request: already connected")),
            Request::Pong if self.awaits_pong => {
                self.awaits_pong = false;
                Ok(())
            }
            Request::Pong => return Err(bad_request("bad request: no ping to answer")),
            Request::Subscribe(request) => self.subscribe(id, request, progress, turn),
            Request::Unsubscribe { channel } => {
                self.unsubscribe(id, channel, turn);
                Ok(())
            }
            Request::Publish(request) => self.publish(id, request, progress, turn, recorder),
            Request::Presence { channel } => self.presence(id, channel, Operation::Presence, turn),
            Request::PresenceStats { channel } => self.presence(id, channel, Operation::PresenceStats, turn),
            Request::History(request) => self.history(id, request, turn),
            Request::Rpc(request) => self.rpc(request, &progress, turn),
            Request::Send { .. } => return Err(Disconnect::NotAvailable.into()),
            Request::Refresh { token } => self.refresh(id, token, turn),
            Request::SubRefresh(request) => self.sub_refresh(id, request, turn),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Refusal::Error(error)) => {
                turn.refuse(id, error);
                Ok(())
            }
            Err(Refusal::Disconnect(disconnect)) => Err(disconnect.into()),
        }
    }

    fn subscribe(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        progress: Progress<'_>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let (channel, options) = permissions::find_channel(&turn.config.namespaces, &request.channel)?;
        if request.kind != 0 {
            // Maps and shared polls are experimental.
            return Err(ErrorCode::NotAvailable.into());
        }
        if self.wants(&request.channel, turn.hub) {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        let grant = match &*request.token {
            "" => None,
            token => Some(Client::verify_subscription_token(token, channel, turn)),
        };
        let token = match &grant {
            None => TokenVerdict::Absent,
            Some(Ok(_)) => TokenVerdict::Valid,
            Some(Err(refusal)) => TokenVerdict::Refused(*refusal),
        };
        let subject = Subject { user: turn.identity.id(), grants: self.patterns(), is_subscribed: false };
        let hook = progress.hook(options.subscribe_hook);
        let is_allowed = is_allowed(permissions::subscribe(subject, channel, options, token, hook))?;
        if options.publication_data_format == DataFormat::Binary && self.encoding == Encoding::Json {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !is_allowed {
            let command = || HookCommand::Subscribe {
                channel: channel.as_str().into(),
                data: request.data.as_bytes().into(),
            };
            return self.ask(&progress, Some(channel.as_str()), command, turn);
        }
        if !self.can_use(&progress) {
            return Err(ErrorCode::Internal.into());
        }
        let options = options.clone();
        let channel: Arc<str> = request.channel.as_ref().into();
        self.set_grant(&channel, grant.and_then(Result::ok).or_else(|| progress.into_grant()));
        let subscription = self.begin_subscription(id, channel, Some(request), &options, false, turn);
        subscription.inspect_err(|_| self.forget_grant(&request.channel))
    }

    /// Requests a subscription that is permitted.
    ///
    /// # Errors
    /// The client is subscribed already, has as many subscriptions as it may have, or its filter is not allowed.
    pub(super) fn begin_subscription(
        &mut self,
        id: u32,
        channel: Arc<str>,
        request: Option<&SubscribeRequest<'_>>,
        options: &ChannelOptions,
        is_server_side: bool,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let asks = |flag: fn(&SubscribeRequest<'_>) -> bool| request.is_some_and(flag);
        let is_fossil = asks(|request| request.delta == Delta::Fossil);
        let filter = match request.and_then(|request| request.filter) {
            None => None,
            // A delta refers to the publication before, which the filter might leave out.
            Some(_) if is_fossil || !options.allow_tags_filter => return Err(ErrorCode::BadRequest.into()),
            Some(filter) => Some(Filter::new(&filter.tree()?)?),
        };
        let wishes = Wishes {
            positioned: asks(|request| request.positioned),
            recoverable: asks(|request| request.recoverable),
            join_leave: asks(|request| request.join_leave),
        };
        let overrides = self.grant(&channel).map(|grant| grant.overrides).unwrap_or_default();
        let features = overrides.features(options, wishes);
        let was_recovering = asks(|request| request.recover);
        let is_cache = options.force_recovery_mode == RecoveryMode::Cache;
        let wants_recovery = was_recovering || (is_cache && options.auto_cache_recover);
        let recovery = wants_recovery && options.has_history();
        let recovery = recovery.then(|| Recovery {
            since: request.map_or(Since::new("", 0), |request| Since::new(&request.epoch, request.offset)),
            mode: options.force_recovery_mode,
            limit: turn.config.max_publications,
            bytes: turn.config.max_recovered_bytes,
            // `connect` must be answered.
            is_required: !is_server_side
                && asks(|request| request.flag & SubscribeRequest::REJECT_UNRECOVERED != 0),
        });
        // Joins and leaves come from the presence.
        let has_presence = features.presence || features.join_leave;
        let asks_for_number = asks(|request| request.flag & SubscribeRequest::COMPACTION != 0);
        let form = Form::of([
            // SDKs expect neither in the server-side subscriptions of `connect`.
            (!is_server_side && asks_for_number && options.allow_channel_compaction, Form::COMPACT),
            (
                !is_server_side && is_fossil && options.allowed_delta_types.contains(&DeltaType::Fossil),
                Form::DELTA,
            ),
            (filter.is_some(), Form::FILTERED),
            (is_server_side, Form::SERVER_SIDE),
            (features.recoverable, Form::RECOVERABLE),
            // A client that can recover follows offsets.
            (features.positioned || features.recoverable, Form::POSITIONED),
            (features.gets_join_leave, Form::JOIN_LEAVE),
            (has_presence, Form::PRESENT),
            (was_recovering, Form::WAS_RECOVERING),
            // In `connect`. A backend subscribes clients that are connected.
            (is_server_side && !self.is_connected(), Form::HELD),
        ]);
        self.join(&channel, form, filter, turn.hub).map_err(|error| match error {
            JoinError::AlreadySubscribed => ErrorCode::AlreadySubscribed,
            JoinError::LimitExceeded => ErrorCode::LimitExceeded,
        })?;
        let presence = has_presence.then(|| self.info_in(&channel, turn.identity, turn.config.share_email));
        let history = HistoryOptions::of(options);
        turn.request(
            id,
            channel,
            Operation::Subscribe { history, recovery, presence, is_certain: is_server_side },
        );
        Ok(())
    }

    fn unsubscribe(&mut self, id: u32, channel: &str, turn: &mut Turn<'_>) {
        let is_joining = turn.hub.is_joining(self.hub_key(), channel);
        let Some((channel, form)) = self.leave(channel, turn.hub) else {
            return turn.answer(id, Answer::Unsubscribe);
        };
        if is_joining {
            self.occasional().ended.push((channel.clone(), form));
        }
        let presence = form.has(Form::PRESENT).then_some(self.id);
        turn.request(id, channel, Operation::Unsubscribe { presence });
    }

    fn publish(
        &mut self,
        id: u32,
        request: &PublishRequest<'_>,
        progress: Progress<'_>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) -> Outcome {
        let (channel, options) = permissions::find_channel(&turn.config.namespaces, &request.channel)?;
        if request.data.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        let subject = self.subject(&request.channel, turn);
        let hook = progress.hook(options.publish_hook);
        let is_allowed = is_allowed(permissions::publish(subject, channel, options, hook))?;
        if options.rate != 0
            && matches!(progress, Progress::New(_))
            // A command that waits before its hook is asked is counted when it is asked.
            && (is_allowed || self.may_ask(turn.config))
            && !self.occasional().rates.take(channel.namespace(), options.rate, turn.now)
        {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let replaced = match &progress {
            Progress::Allowed(allowed) => allowed.data.as_deref(),
            Progress::New(_) => None,
        };
        let data = match replaced {
            // The host has checked it for the options of that time.
            Some(replaced) => data(Raw::new(replaced), options).map_err(|_| ErrorCode::Internal)?,
            None => data(request.data, options)?,
        };
        if !is_allowed {
            let command = || HookCommand::Publish {
                channel: channel.as_str().into(),
                data: data.as_ref().into(),
                format: options.publication_data_format,
                max_publication: options.max_publication,
            };
            return self.ask(&progress, Some(channel.as_str()), command, turn);
        }
        let options = options.clone();
        let info = self.info_in(&request.channel, turn.identity, turn.config.share_email);
        recorder.record(&Record::Publication {
            connection: turn.client.connection,
            identity: turn.identity,
            channel: &request.channel,
            kind: if options.publication_data_format == DataFormat::Binary {
                DataKind::Binary
            } else {
                DataKind::Text
            },
            payload: &data,
        });
        let channel: Arc<str> = request.channel.as_ref().into();
        let publish = Publish {
            channel: channel.clone(),
            data: data.as_ref().into(),
            info: Some(info),
            tags: Tags::default(),
            delta: options.delta_publish,
            time: 0,
            history: HistoryOptions::of(&options),
            key: None,
            version: None,
        };
        let excludes_publisher = options.exclude_publisher;
        turn.request(id, channel, Operation::Publish { publish: Box::new(publish), excludes_publisher });
        Ok(())
    }

    fn rpc(&mut self, request: &RpcRequest<'_>, progress: &Progress<'_>, turn: &mut Turn<'_>) -> Outcome {
        let method = &*request.method;
        if method.len() > MAX_CHANNEL {
            return Err(ErrorCode::BadRequest.into());
        }
        let options = turn.config.namespaces.of_method(method).ok_or(ErrorCode::MethodNotFound)?;
        if !options.rpc_hook {
            return Err(ErrorCode::NotAvailable.into());
        }
        let data = request.data.as_bytes().into();
        self.ask(progress, None, || HookCommand::Rpc { method: method.into(), data }, turn)
    }

    fn presence(&self, id: u32, channel: &str, operation: Operation, turn: &mut Turn<'_>) -> Outcome {
        let (name, options) = permissions::find_channel(&turn.config.namespaces, channel)?;
        allow(permissions::presence(self.subject(channel, turn), name, options))?;
        turn.request(id, channel.into(), operation);
        Ok(())
    }

    fn history(&self, id: u32, request: &HistoryRequest<'_>, turn: &mut Turn<'_>) -> Outcome {
        let channel = &*request.channel;
        let (name, options) = permissions::find_channel(&turn.config.namespaces, channel)?;
        allow(permissions::history(self.subject(channel, turn), name, options))?;
        let Some(options) = HistoryOptions::of(options) else { return Err(ErrorCode::NotAvailable.into()) };
        let most = turn.config.max_publications;
        let query = HistoryQuery {
            // A negative number asks for all.
            limit: Some(usize::try_from(request.limit).map_or(most, |limit| limit.min(most))),
            since: request.since.as_ref().map(|since| Since::new(&since.epoch, since.offset)),
            is_reverse: request.reverse,
        };
        turn.request(id, channel.into(), Operation::History(query, options));
        Ok(())
    }

    fn subject<'a>(&self, channel: &str, turn: &Turn<'a>) -> Subject<'a> {
        Subject { user: turn.identity.id(), grants: &[], is_subscribed: self.wants(channel, turn.hub) }
    }
}

/// Returns the data of a publication in the form in which it is passed on.
fn data<'a>(data: Raw<'a>, options: &ChannelOptions) -> Result<Cow<'a, [u8]>, ErrorCode> {
    let data = match options.publication_data_format {
        DataFormat::Binary => Cow::Borrowed(data.as_bytes()),
        DataFormat::Json => data.one_line()?,
        DataFormat::JsonObject => {
            let data = data.one_line()?;
            if !data.trim_ascii_start().starts_with(b"{") {
                return Err(ErrorCode::BadRequest);
            }
            data
        }
    };
    if options.max_publication != 0 && data.len() > options.max_publication {
        return Err(ErrorCode::LimitExceeded);
    }
    Ok(data)
}

/// Returns whether a request is allowed.
pub(super) fn allow(decision: Decision) -> Outcome {
    match decision {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused(refusal) => Err(refusal),
        // The rules of these requests ask no hook.
        Decision::AskHook => Err(ErrorCode::PermissionDenied.into()),
    }
}

fn bad_request(reason: &'static str) -> Close {
    Close { disconnect: Disconnect::BadRequest, reason: Some(Cow::Borrowed(reason)) }
}

/// The reason of a Close if the first message has no `connect`. It is not JSON, because it begins with a word.
const FIRST: &str = r#"bad request: first send {"id":1,"connect":{}}"#;

/// The same for a client without commands.
const FIRST_BARE: &str = "bad request: first send {}, or the fields of connect in it";
