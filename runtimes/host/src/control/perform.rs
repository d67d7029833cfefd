//! Performs calls of the server API.

use std::mem;

use postern_channels::backend::ClientCommand;
use postern_core::handshake::Revocation;
use postern_core::worker::AdminRequest;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use slog::{debug, info};

use super::admin_api::{AdminApi, ProcessInfo, QUERY_TIMEOUT};
use super::api::{
    self, Call, ClientCall, ClientMethod, InstanceInfo, Listing, Method, MethodError, MethodErrorCode,
    MethodResult, NodeMethod, Others, Params,
};
use super::listing::{Clock, as_json_line};
use crate::channels::Batch;
use crate::escape::Quoted;
use crate::revocations::{Full, MOST};
use crate::workers::{Command, Reply, WorkerReply};

impl AdminApi {
    /// Performs calls in their order, and returns the result of each. Consecutive commands to clients are performed in one turn
    /// of each worker.
    pub(super) async fn perform(&self, calls: &[Result<Call<'_>, MethodError>]) -> Vec<MethodResult> {
        let mut results = Vec::with_capacity(calls.len());
        let mut commands = Vec::new();
        let mut batch = self.process.node.batch();
        for call in calls {
            let result = match call {
                Ok(Call { method: Method::Clients(method), params }) => match self.parse(*method, params) {
                    Ok(command) => {
                        batch.wake();
                        commands.push(command);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Ok(Call { method: Method::Node(method), params }) => {
                    results.extend(self.command(mem::take(&mut commands)).await);
                    self.perform_now(*method, params, &mut batch).await
                }
                Err(error) => Err(error.clone()),
            };
            results.extend(self.command(mem::take(&mut commands)).await);
            results.push(result);
        }
        results.extend(self.command(commands).await);
        results
    }

    /// Parses a command to clients.
    fn parse(&self, method: ClientMethod, params: &Params<'_>) -> Result<ClientCall, MethodError> {
        let ProcessInfo { max_message, node, .. } = &self.process;
        ClientCall::parse(method, params, *max_message, &node.config().namespaces).inspect_err(|_| {
            if method == ClientMethod::Send {
                self.count_send(None);
            }
        })
    }

    /// Performs a call that does not concern clients.
    async fn perform_now(
        &self,
        method: NodeMethod,
        params: &Params<'_>,
        batch: &mut Batch<'_>,
    ) -> MethodResult {
        let ProcessInfo { node, log, .. } = &self.process;
        match method {
            NodeMethod::Publish => api::publish(batch, params, log).await,
            NodeMethod::Broadcast => api::broadcast(batch, params, log).await,
            NodeMethod::Presence => api::presence(node, params).await,
            NodeMethod::PresenceStats => api::presence_stats(node, params).await,
            NodeMethod::History => api::history(node, params).await,
            NodeMethod::HistoryRemove => api::history_remove(node, params).await,
            NodeMethod::Channels => api::channels(node, params).await,
            NodeMethod::Info => self.node_info().await,
            NodeMethod::Connections => self.connections(api::listing(params)?).await,
            NodeMethod::Drain => Ok(self.drain()),
            NodeMethod::Revoke => self.revoke(params).await,
        }
    }

    /// Revokes credentials: first for new connections, then for those that exist.
    async fn revoke(&self, params: &Params<'_>) -> MethodResult {
        let ProcessInfo { revocations, tokens, log, .. } = &self.process;
        let entry = api::revocation(params, *tokens)?;
        revocations.add(&entry).map_err(|Full| {
            MethodError::new(
                MethodErrorCode::NotAvailable,
                format!("{MOST} revocations are kept; revoke users, or tokens issued before a time"),
            )
        })?;
        let message = api::of_revocation(&entry);
        let line = entry.to_line().into_bytes().into();
        let asked = Others::ask(&self.process.node, message, Some(line));
        let command = Command::Revoke(entry.revocation.clone());
        let mut count = 0;
        for reply in self.pool.query(QUERY_TIMEOUT, command).await {
            match reply {
                Reply::Ok(WorkerReply::Affected(affected)) => count += affected,
                Reply::Ok(_) | Reply::Timeout => return Err(unresponsive()),
                Reply::Gone => {}
            }
        }
        let Revocation { user, session, token_id, issued_before } = &*entry.revocation;
        let quoted = |text: &Option<Box<str>>| text.as_deref().map(|text| Quoted(text).to_string());
        info!(log, # "api_revoke", "credentials revoked by the control port";
            "user" => quoted(user), "session" => quoted(session), "by_token_id" => token_id.is_some(),
            "issued_before" => *issued_before, "until" => entry.until, "count" => count);
        let others = match asked {
            Some(asked) => Some(asked.answers().await),
            None => None,
        };
        Ok(Others::add(others.as_ref(), "revoked", count))
    }

    /// Describes all nodes.
    async fn node_info(&self) -> MethodResult {
        let sum = self.sum().await.map_err(|_| unresponsive())?;
        let node = &self.process.node;
        let own = InstanceInfo::new(node, &sum).ok_or_else(unresponsive)?;
        api::info(node, &own).await
    }

    /// Lists connections, by their numbers.
    async fn connections(&self, listing: Listing) -> MethodResult {
        let Listing { selector, after, limit } = listing;
        // One more than the limit shows whether there are more.
        let request = AdminRequest::List { selector, after, limit: limit + 1 };
        let replies = self.pool.query(QUERY_TIMEOUT, request).await;
        let mut lines = Vec::new();
        for (number, reply) in replies.into_iter().enumerate() {
            match reply {
                Reply::Ok(WorkerReply::Connections(connections)) => {
                    lines.extend(connections.into_iter().map(|(status, peer)| (number, status, peer)));
                }
                Reply::Ok(_) | Reply::Timeout => return Err(unresponsive()),
                Reply::Gone => {}
            }
        }
        lines.sort_unstable_by_key(|(_, status, _)| status.id);
        let has_more = lines.len() > limit;
        lines.truncate(limit);
        let next = lines.last().filter(|_| has_more).map(|(_, status, _)| status.id.0);
        let clock = Clock::now();
        let connections: Vec<Value> =
            lines.iter().map(|(worker, status, peer)| as_json_line(status, *peer, *worker, clock)).collect();
        Ok(api::raw(&json!({ "connections": connections, "next": next })))
    }

    /// Requests that the process drains. Repeating the request has no effect.
    fn drain(&self) -> Box<RawValue> {
        if !self.process.status.is_draining() {
            info!(self.process.log, # "api_drain", "drain requested by the control port");
        }
        self.process.status.request_drain();
        api::raw(&json!({ "draining": true }))
    }

    /// Performs commands in one turn of each worker. A worker that has ended has no connections.
    async fn command(&self, commands: Vec<ClientCall>) -> Vec<MethodResult> {
        if commands.is_empty() {
            return Vec::new();
        }
        let ask = |call: &ClientCall| Others::ask(&self.process.node, call.message.clone()?, None);
        let asked: Vec<_> = commands.iter().map(ask).collect();
        let batch = Command::Batch(commands.iter().map(ClientCall::to_worker).collect());
        let mut affected = vec![0; commands.len()];
        let mut has_replied = true;
        for reply in self.pool.query(QUERY_TIMEOUT, batch).await {
            match reply {
                Reply::Ok(WorkerReply::Batch(replies)) => {
                    for (affected, reply) in affected.iter_mut().zip(replies) {
                        if let WorkerReply::Affected(count) = reply {
                            *affected += count;
                        }
                    }
                }
                Reply::Ok(_) | Reply::Timeout => has_replied = false,
                Reply::Gone => {}
            }
        }
        if commands.iter().any(ClientCall::changes_channels) {
            // The workers have performed all effects of a turn when they reply in the next one.
            let replies = self.pool.query(QUERY_TIMEOUT, AdminRequest::Probe).await;
            has_replied &= !replies.iter().any(|reply| matches!(reply, Reply::Timeout));
        }
        let mut others = Vec::with_capacity(asked.len());
        for asked in asked {
            others.push(match asked {
                Some(asked) => Some(asked.answers().await),
                None => None,
            });
        }
        let result = |((command, count), others): ((&ClientCall, usize), &Option<Others>)| {
            if let ClientCommand::Send(_) = command.command {
                self.count_send(has_replied.then_some(count));
            }
            if !has_replied {
                return Err(unresponsive());
            }
            self.log(command, count);
            command.result(count, others.as_ref())
        };
        commands.iter().zip(affected).zip(&others).map(result).collect()
    }

    fn log(&self, command: &ClientCall, count: usize) {
        let log = &self.process.log;
        match &command.command {
            ClientCommand::Send(message) => {
                debug!(log, # "api_send", "message sent by the control port";
                    "to" => %command, "bytes" => message.len(), "count" => count);
            }
            ClientCommand::Disconnect { close } => {
                let code = close.as_ref().map_or(0, |(code, _)| code.0);
                info!(log, # "api_disconnect", "connections closed by the control port";
                    "of" => %command, "code" => code, "count" => count);
            }
            ClientCommand::Subscribe(subscription) => {
                info!(log, # "api_subscribe", "clients subscribed by the control port";
                    "of" => %command, "channel" => %Quoted(&subscription.channel), "count" => count);
            }
            ClientCommand::Refresh { .. } => {
                debug!(log, # "api_refresh", "clients refreshed by the control port";
                    "of" => %command, "count" => count);
            }
            ClientCommand::Expire => {
                info!(log, # "api_disconnect", "connections closed by the control port";
                    "of" => %command, "count" => count);
            }
            ClientCommand::Unsubscribe { channel } => {
                let channel = channel.as_deref().unwrap_or("*");
                info!(log, # "api_unsubscribe", "clients unsubscribed by the control port";
                    "of" => %command, "channel" => %Quoted(channel), "count" => count);
            }
        }
    }
}

/// The error if not all workers have replied.
fn unresponsive() -> MethodError {
    MethodError::new(
        MethodErrorCode::Internal,
        "not all workers have replied; the request may have been performed by some; try again",
    )
}
