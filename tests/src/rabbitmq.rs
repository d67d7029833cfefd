//! RabbitMQ as a child of a test, and a backend that publishes to it. See [`postern_chain::rabbitmq`].

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use postern_chain::rabbitmq::{BrokerAddresses, RabbitMq};
use tempfile::TempDir;

use crate::ports;
use crate::process::Process;

/// A running broker. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Broker {
    broker: RabbitMq,
    // In the order in which they end.
    server: Mutex<Process>,
    _mapper: Process,
    _folder: TempDir,
}

impl Broker {
    /// Starts a broker, or returns the one that other tests of this process use at the same time.
    ///
    /// # Panics
    ///
    /// If it cannot be downloaded or does not start.
    pub fn shared() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start());
            *shared = Arc::downgrade(&broker);
            broker
        })
    }

    /// Starts a broker.
    ///
    /// # Panics
    ///
    /// As [`shared`](Broker::shared).
    pub fn start() -> Broker {
        Broker::configured("")
    }

    /// Starts a broker with these lines in its configuration.
    ///
    /// # Panics
    ///
    /// As [`shared`](Broker::shared).
    pub fn configured(lines: &str) -> Broker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let addresses =
            BrokerAddresses { amqp: ports::free(), distribution: ports::free(), mapper: ports::free() };
        let broker = RabbitMq::prepare(folder.path(), addresses).expect("RabbitMQ is downloaded");
        let mut configuration = OpenOptions::new().append(true).open(folder.path().join("rabbitmq.conf"));
        let written = configuration.as_mut().map(|file| file.write_all(lines.as_bytes()));
        written.expect("a configuration").expect("a configuration");
        let mut mapper = broker.mapper().expect("Erlang is complete");
        let mut mapper = Process::spawn("epmd", &mut mapper).expect("epmd starts");
        mapper.wait_until_listening(addresses.mapper, START_TIMEOUT).expect("epmd listens");
        let server = Mutex::new(start(&broker));
        Broker { broker, server, _mapper: mapper, _folder: folder }
    }

    /// Returns the URL of the virtual host `/`.
    pub fn url(&self) -> String {
        self.broker.url()
    }

    /// Creates a virtual host, and returns its URL.
    ///
    /// # Panics
    ///
    /// If it cannot be created.
    pub fn add_host(&self, name: &str) -> String {
        self.control(&["add_vhost", name]);
        self.control(&["set_permissions", "--vhost", name, "guest", ".*", ".*", ".*"]);
        self.url().replace("%2f", name)
    }

    /// Runs `rabbitmqctl`, and returns its output.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn control(&self, arguments: &[&str]) -> String {
        let output = self.broker.control(arguments).output().expect("rabbitmqctl starts");
        let Output { status, stdout, stderr } = &output;
        let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        assert!(status.success(), "rabbitmqctl {arguments:?}: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// Stops the server.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn stop(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.terminate(START_TIMEOUT).expect("RabbitMQ ends");
    }

    /// Starts the server again after [`stop`](Broker::stop), with its data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&self) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = start(&self.broker);
    }
}

fn start(broker: &RabbitMq) -> Process {
    let process = Process::spawn("rabbitmq", &mut broker.server()).expect("RabbitMQ starts");
    process
        .wait_for_line(|line| line.contains("Server startup complete"), START_TIMEOUT)
        .expect("RabbitMQ serves");
    process
}

/// A connection of a backend, which publishes and waits until the broker has confirmed it.
pub struct Publisher {
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Publisher {
    /// Connects to a broker. The exchange must exist when it publishes.
    ///
    /// # Panics
    ///
    /// If it cannot connect.
    pub fn connect(url: &str, exchange: &str) -> Publisher {
        smol::block_on(async {
            let runtime = lapin::runtime::default_runtime().expect("smol");
            let options = ConnectionProperties::default();
            let connection =
                Connection::connect_with_runtime(url, options, runtime).await.expect("a connection");
            let channel = connection.create_channel().await.expect("a channel");
            channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirmations");
            Publisher { _connection: connection, channel, exchange: exchange.to_owned() }
        })
    }

    /// Publishes a message with these properties, and waits until a queue has it.
    ///
    /// # Panics
    ///
    /// If no queue gets it.
    #[track_caller]
    pub fn send(&self, key: &str, body: &[u8], properties: BasicProperties) {
        let returned = smol::block_on(async {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let (exchange, properties) = (self.exchange.as_str().into(), properties.with_delivery_mode(2));
            let sent = self.channel.basic_publish(exchange, key.into(), options, body, properties).await;
            sent.expect("a confirmation").await.expect("a confirmation").take_message()
        });
        assert!(returned.is_none(), "{key}: no queue gets it");
    }

    /// Publishes messages without properties other than their ids, and waits until queues have all of them.
    ///
    /// # Panics
    ///
    /// If the connection is lost.
    pub fn send_all(&self, key: &str, messages: impl IntoIterator<Item = (String, String)>) {
        let confirmed = async {
            let mut unconfirmed = Vec::new();
            for (id, body) in messages {
                let properties =
                    BasicProperties::default().with_delivery_mode(2).with_message_id(id.as_str().into());
                let options = BasicPublishOptions::default();
                let (exchange, body) = (self.exchange.as_str().into(), body.as_bytes());
                let sent = self.channel.basic_publish(exchange, key.into(), options, body, properties).await;
                unconfirmed.push(sent.expect("a connection"));
            }
            for sent in unconfirmed {
                sent.await.expect("a confirmation");
            }
        };
        let late = async {
            smol::Timer::after(PATIENCE).await;
            panic!("messages are not confirmed in {PATIENCE:?}");
        };
        smol::block_on(smol::future::or(confirmed, late));
    }

    /// Takes a message from a queue, with its properties. `None` if the queue is empty.
    ///
    /// # Panics
    ///
    /// If the queue does not exist.
    pub fn take(&self, queue: &str) -> Option<(Vec<u8>, BasicProperties)> {
        smol::block_on(async {
            let options = BasicGetOptions { no_ack: true };
            let message = self.channel.basic_get(queue.into(), options).await.expect("a queue")?;
            Some((message.delivery.data, message.delivery.properties))
        })
    }

    /// Waits until a queue has messages, and takes one.
    ///
    /// # Panics
    ///
    /// If there is none after a minute.
    #[track_caller]
    pub fn wait_for(&self, queue: &str) -> (Vec<u8>, BasicProperties) {
        let start = Instant::now();
        loop {
            if let Some(message) = self.take(queue) {
                return message;
            }
            assert!(start.elapsed() < PATIENCE, "{queue} is empty");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the number of messages in a queue that are not delivered.
    ///
    /// # Panics
    ///
    /// If the queue does not exist.
    pub fn length(&self, queue: &str) -> u32 {
        smol::block_on(async {
            let options = QueueDeclareOptions::default().passive();
            let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
            queue.expect("a queue").message_count()
        })
    }
}

/// Returns a table of headers that are texts.
pub fn headers(texts: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, text) in texts {
        table.insert((*name).into(), AMQPValue::LongString(LongString::from(*text)));
    }
    table
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// The time that RabbitMQ may take to start, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

const PATIENCE: Duration = Duration::from_secs(60);
