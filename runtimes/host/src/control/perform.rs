//! Performs calls of the server API.

use std::mem;

use postern_channels::backend::ClientCommand;
use postern_core::worker::AdminRequest;
use serde_json::json;
use slog::{debug, info};

use super::admin_api::{AdminApi, ProcessInfo, QUERY_TIMEOUT};
use super::api::{self, Call, ClientCall, Method, MethodError, MethodErrorCode, MethodResult};
use crate::metrics::Usage;
use crate::workers::{Command, Reply, WorkerReply};

impl AdminApi {
    /// Performs calls in their order, and returns the result of each. Consecutive commands to clients are performed in one turn
    /// of each worker.
    pub(super) async fn perform(&self, calls: &[Result<Call<'_>, MethodError>]) -> Vec<MethodResult> {
        let mut results = Vec::with_capacity(calls.len());
        let mut commands = Vec::new();
        for call in calls {
            let command = match call {
                Ok(call) => {
                    let (max_message, config) = (self.process.max_message, self.process.node.config());
                    ClientCall::parse(call.method, &call.params, max_message, &config.namespaces)
                }
                Err(error) => Err(error.clone()),
            };
            if let Ok(Some(command)) = command {
                commands.push(command);
                continue;
            }
            results.extend(self.command(mem::take(&mut commands)).await);
            results.push(match (command, call) {
                (Ok(_), Ok(call)) => self.perform_now(call).await,
                (Err(error), _) => Err(error),
                (Ok(_), Err(error)) => Err(error.clone()),
            });
            if let Ok(Call { method: Method::Send, .. }) = call {
                self.count_send(None);
            }
        }
        results.extend(self.command(commands).await);
        results
    }

    /// Performs a call that does not concern clients.
    async fn perform_now(&self, call: &Call<'_>) -> MethodResult {
        let ProcessInfo { node, log, .. } = &self.process;
        let params = &call.params;
        match call.method {
            Method::Publish => api::publish(node, params, log),
            Method::Broadcast => api::broadcast(node, params, log),
            Method::Presence => api::presence(node, params),
            Method::PresenceStats => api::presence_stats(node, params),
            Method::History => api::history(node, params),
            Method::HistoryRemove => api::history_remove(node, params),
            Method::Channels => api::channels(node, params),
            Method::Info => self.node_info().await,
            // These concern clients.
            Method::Subscribe | Method::Unsubscribe | Method::Disconnect | Method::Refresh | Method::Send => {
                Err(unresponsive())
            }
        }
    }

    /// Describes the node.
    async fn node_info(&self) -> MethodResult {
        let sum = self.sum().await.map_err(|_| unresponsive())?;
        let ProcessInfo { node, program, id, name, started, .. } = &self.process;
        let channels = node.stats().channels;
        let usage = Usage::now();
        Ok(api::raw(&json!({ "nodes": [{
            "uid": id,
            "name": name,
            "version": program.version,
            "num_clients": sum.totals.connections,
            "num_users": sum.users,
            "num_channels": channels.occupied_channels,
            "num_subs": channels.subscriptions,
            "uptime": started.elapsed().unwrap_or_default().as_secs(),
            "process": { "rss": usage.resident.unwrap_or_default() },
        }] })))
    }

    /// Performs commands in one turn of each worker. A worker that has ended has no connections.
    async fn command(&self, commands: Vec<ClientCall>) -> Vec<MethodResult> {
        if commands.is_empty() {
            return Vec::new();
        }
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
        let result = |(command, count): (&ClientCall, usize)| {
            if let ClientCommand::Send(_) = command.command {
                self.count_send(has_replied.then_some(count));
            }
            if !has_replied {
                return Err(unresponsive());
            }
            self.log(command, count);
            command.result(count)
        };
        commands.iter().zip(affected).map(result).collect()
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
                    "of" => %command, "channel" => %crate::escape::Quoted(&subscription.channel), "count" => count);
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
                    "of" => %command, "channel" => %crate::escape::Quoted(channel), "count" => count);
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
