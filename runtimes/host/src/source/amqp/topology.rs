//! The exchange and the queues, and their declaration.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer, ErrorKind, ExchangeKind};

use super::settings::AmqpSettings;
use crate::source::Mode;

/// Declares everything that the settings name, and begins to consume. `node` distinguishes the queue of this process from the
/// queues of others; it is part of the name with [`Mode::Each`].
///
/// # Errors
/// The broker has refused a declaration, or the connection is lost.
pub(super) async fn consume(
    channel: &Channel,
    settings: &AmqpSettings,
    node: &str,
) -> Result<Consumer, DeclareError> {
    let AmqpSettings { mode, exchange, queue, prefetch, dead_letter, .. } = settings;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel
        .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, none())
        .await
        .map_err(of("POSTERN_AMQP_EXCHANGE"))?;
    let (queue, options, arguments) = match mode {
        Mode::Shared => {
            if let Some(name) = dead_letter {
                let of = of("POSTERN_AMQP_DEAD_LETTER");
                let name = || name.as_str().into();
                channel.exchange_declare(name(), ExchangeKind::Fanout, durable, none()).await.map_err(&of)?;
                let arguments = table([("x-queue-type", text("quorum"))]);
                channel
                    .queue_declare(name(), QueueDeclareOptions::durable(), arguments)
                    .await
                    .map_err(&of)?;
                channel
                    .queue_bind(name(), name(), "".into(), QueueBindOptions::default(), none())
                    .await
                    .map_err(&of)?;
            }
            let mut arguments = table([
                ("x-queue-type", text("quorum")),
                // One node consumes, so that the order is kept. Another one continues when it ends.
                ("x-single-active-consumer", AMQPValue::Boolean(true)),
                // A message that ends the process each time is not delivered without end.
                ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ]);
            if let Some(name) = dead_letter {
                arguments.insert("x-dead-letter-exchange".into(), text(name));
            }
            (queue.clone(), QueueDeclareOptions::durable(), arguments)
        }
        Mode::Each => {
            // No dead letters: the broker would also send the messages there that are dropped because the queue is full.
            let arguments = table([
                ("x-max-length-bytes", AMQPValue::LongLongInt(QUEUE_BYTES)),
                ("x-overflow", text("drop-head")),
            ]);
            (format!("{queue}.{node}"), QueueDeclareOptions::exclusive().auto_delete(), arguments)
        }
    };
    let of_queue = of("POSTERN_AMQP_QUEUE");
    channel.queue_declare(queue.as_str().into(), options, arguments).await.map_err(&of_queue)?;
    // Two bindings for all channels and users: each binding more makes a broker slower, and its changes can lose messages.
    for key in ["channel.#", "user.#"] {
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        channel
            .queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), none())
            .await
            .map_err(&of_queue)?;
    }
    channel.basic_qos(*prefetch, BasicQosOptions::default()).await.map_err(of("POSTERN_AMQP_PREFETCH"))?;
    channel
        .basic_consume(queue.as_str().into(), node.into(), BasicConsumeOptions::default(), none())
        .await
        .map_err(&of_queue)
}

/// The error of a declaration.
#[derive(Debug)]
pub(super) struct DeclareError {
    /// The setting that has to be changed, if the broker has refused the declaration.
    pub(super) setting: Option<&'static str>,
    pub(super) error: lapin::Error,
}

impl DeclareError {
    /// Returns the change that an operator has to make.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let ErrorKind::ProtocolError(error) = self.error.kind() else { return None };
        let AMQPErrorKind::Soft(soft) = error.kind() else { return None };
        #[expect(clippy::wildcard_enum_match_arm, reason = "other errors are not about a declaration")]
        match soft {
            AMQPSoftError::ACCESSREFUSED => {
                Some("allow the user to configure, write and read the exchanges and queues of these names")
            }
            AMQPSoftError::PRECONDITIONFAILED => {
                Some("it exists with other properties; delete it, or write another name")
            }
            AMQPSoftError::RESOURCELOCKED => Some("another connection has it; write another name"),
            AMQPSoftError::NOTFOUND => Some("the broker cannot use it now; check the nodes of its cluster"),
            _ => None,
        }
    }
}

/// Returns a function that adds the setting to an error, if the broker has refused the declaration.
fn of(setting: &'static str) -> impl Fn(lapin::Error) -> DeclareError {
    move |error| DeclareError { setting: error.is_amqp_soft_error().then_some(setting), error }
}

fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The number of deliveries of a message after which the broker gives it up.
const DELIVERY_LIMIT: i32 = 5;

/// The most bytes of messages in the queue of a node.
const QUEUE_BYTES: i64 = 64 * 1024 * 1024;
