//! Opens connections to Redis: by TCP, by TLS or by a Unix socket, to a server, or to the master that the
//! sentinels or the nodes of a cluster name.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_channels::relay::command::{Cause, Failure};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, ServerErrorKind,
};
use smol::future::FutureExt;
use smol::{Task, Timer};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::address::{Address, Place};
use super::encoding::{self, Encoder};
use super::{cluster, sentinel};
use crate::settings::{EngineSettings, TlsFiles};
use crate::tls::{self, ConnectError, Tls};

/// Opens the connections of a process.
#[derive(Debug)]
pub(super) struct Connector {
    place: Place,
    /// The user, the password and the database of Redis.
    login: RedisConnectionInfo,
    /// The login of the sentinels.
    sentinel_login: RedisConnectionInfo,
    /// The files for TLS. `None`: connections are without TLS.
    tls: Option<TlsFiles>,
    timeout: Duration,
    prefix: String,
    /// The slot of all keys in a cluster.
    slot: u16,
    /// The nodes of the cluster that were known last.
    known: Mutex<Vec<HostPort>>,
}

/// A host and its port.
pub(super) type HostPort = (String, u16);

/// The answer of a sentinel, or of a node of a cluster.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) master: ConnectionAddr,
    /// The number of the configuration by which it is the master.
    pub(super) epoch: u64,
    /// The nodes of the cluster.
    pub(super) nodes: Vec<HostPort>,
}

/// The connections of an attempt.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) commands: Connection,
    pub(super) messages: Connection,
    pub(super) server: Server,
}

/// A connection.
pub(super) struct Connection {
    pub(super) redis: MultiplexedConnection,
    /// Reads and writes, unless the client library has a task for it. The connection ends when this is dropped.
    _task: Option<Task<()>>,
}

/// A server that is used.
#[derive(Debug, Clone)]
pub(super) struct Server {
    address: ConnectionAddr,
    /// The number of the configuration of the sentinels or of the cluster by which it is the master.
    epoch: u64,
    /// The configuration that the connections to it have.
    tls: Option<Tls>,
}

impl Connector {
    /// Creates a connector. It does not connect.
    ///
    /// # Errors
    /// The settings were not checked.
    pub(super) fn new(settings: &EngineSettings) -> Result<Connector, &'static str> {
        let Address { place, login, is_tls } = Address::parse(&settings.url)?;
        let mut login = login.set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &settings.password {
            login = login.set_password(password);
        }
        let mut sentinel_login = RedisConnectionInfo::default();
        if let Some(password) = &settings.sentinel_password {
            sentinel_login = sentinel_login.set_password(password);
        }
        let tls = is_tls.then(|| settings.tls.clone());
        let (prefix, slot) = (settings.prefix.clone(), cluster::slot(&settings.prefix));
        let (timeout, known) = (settings.timeout, Mutex::default());
        Ok(Connector { place, login, sentinel_login, tls, timeout, prefix, slot, known })
    }

    /// Returns the encoder for this kind of server.
    pub(super) fn encoder(&self) -> Encoder {
        match self.place {
            Place::Server(_) | Place::Sentinels { .. } => Encoder::new(&self.prefix),
            Place::Cluster { .. } => Encoder::in_cluster(&self.prefix),
        }
    }

    /// Opens the connections of commands and of messages, the latter with this configuration.
    pub(super) async fn open(
        self: Arc<Self>,
        of_messages: impl FnOnce(AsyncConnectionConfig) -> AsyncConnectionConfig,
    ) -> Result<Opened, Failure> {
        let tls = match &self.tls {
            Some(files) => Some(read_files(files.clone()).await?),
            None => None,
        };
        let server = match &self.place {
            Place::Server(address) => Server { address: address.clone(), epoch: 0, tls },
            Place::Sentinels { .. } | Place::Cluster { .. } => self.find_master(tls).await?,
        };
        // The link has deadlines for replies.
        let config = || AsyncConnectionConfig::new().set_response_timeout(None);
        let mut commands = self.connect(&server, config()).await?;
        self.check(&server, &mut commands).await?;
        let messages = self.connect(&server, of_messages(config())).await?;
        Ok(Opened { commands, messages, server })
    }

    async fn connect(&self, server: &Server, config: AsyncConnectionConfig) -> Result<Connection, Failure> {
        let result = connect(server, &self.login, config, self.timeout * 2).await;
        match self.place {
            Place::Server(_) => result,
            // The URL in the log does not have it.
            Place::Sentinels { .. } | Place::Cluster { .. } => {
                result.map_err(|failure| named(server, failure))
            }
        }
    }

    /// Checks that the server has all keys: an open link resets the pause between attempts, so a server without them would be
    /// connected to again and again. The link finds other failures.
    async fn check(&self, server: &Server, commands: &mut Connection) -> Result<(), Failure> {
        let result = self.encoder().check().exec_async(&mut commands.redis).await;
        let Err(error) = result else { return Ok(()) };
        use ServerErrorKind::{ClusterDown, CrossSlot, Moved};
        let ErrorKind::Server(Moved | CrossSlot | ClusterDown) = error.kind() else { return Ok(()) };
        match self.place {
            Place::Server(_) | Place::Sentinels { .. } => Err(encoding::in_cluster()),
            Place::Cluster { .. } => Err(named(server, encoding::failure(&error))),
        }
    }

    /// Asks until the sentinels or the nodes of the cluster name another master than `server`. With the address of a server, it
    /// never returns.
    pub(super) async fn watch(self: Arc<Self>, server: Server, interval: Duration) -> Failure {
        loop {
            match self.place {
                Place::Server(_) => smol::future::pending().await,
                Place::Sentinels { .. } | Place::Cluster { .. } => Timer::after(interval).await,
            };
            // One that was cut off names an old master by an old configuration.
            if let Ok(master) = self.find_master(server.tls.clone()).await
                && master.epoch > server.epoch
                && master.address != server.address
            {
                let text = match self.place {
                    Place::Server(_) | Place::Sentinels { .. } => {
                        format!("the sentinels name another master: {master}")
                    }
                    Place::Cluster { .. } => {
                        format!("the cluster names another master of the keys: {master} instead of {server}")
                    }
                };
                return Failure::new(Cause::Replica, text);
            }
        }
    }

    /// Asks all sentinels, or all known nodes of the cluster, at the same time for the master.
    ///
    /// The most recent configuration counts. If most of them have the same, the others are not waited for.
    async fn find_master(self: &Arc<Self>, tls: Option<Tls>) -> Result<Server, Failure> {
        let asked = self.asked();
        let (sender, answers) = smol::channel::bounded(asked.len().max(1));
        let ask = |address: &HostPort| {
            let (connector, address, tls) = (self.clone(), address.clone(), tls.clone());
            let sender = sender.clone();
            smol::spawn(async move {
                // It fails if no more answers are needed.
                _ = sender.send(connector.ask(address, tls).await).await;
            })
        };
        // Dropping the tasks ends them.
        let _tasks: Vec<Task<()>> = asked.iter().map(ask).collect();
        drop(sender);
        let (mut found, mut failures) = (Vec::<Answer>::new(), Vec::<Failure>::new());
        while let Ok(answer) = answers.recv().await {
            match answer {
                Ok(answer) => {
                    let is_same = |one: &&Answer| (&one.master, one.epoch) == (&answer.master, answer.epoch);
                    let same = found.iter().filter(is_same).count() + 1;
                    found.push(answer);
                    if same > asked.len() / 2 {
                        break;
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        let newest = found.into_iter().max_by_key(|answer| answer.epoch);
        let Answer { master, epoch, mut nodes } = newest.ok_or_else(|| self.no_master(&failures))?;
        nodes.truncate(MOST_KNOWN);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        Ok(Server { address: master, epoch, tls })
    }

    /// Returns the addresses of the URL, and of the nodes of the cluster that were known last: the others may have been replaced.
    fn asked(&self) -> Vec<HostPort> {
        let mut asked = match &self.place {
            Place::Server(_) => Vec::new(),
            Place::Sentinels { sentinels: addresses, .. } | Place::Cluster { nodes: addresses } => {
                addresses.clone()
            }
        };
        for node in &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            if !asked.contains(node) {
                asked.push(node.clone());
            }
        }
        asked
    }

    /// Asks a sentinel or a node for the master.
    async fn ask(&self, asked: HostPort, tls: Option<Tls>) -> Result<Answer, Failure> {
        let address = ConnectionAddr::Tcp(asked.0.clone(), asked.1);
        let server = Server { address, epoch: 0, tls };
        let question = async {
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let connect = |login| connect(&server, login, config, self.timeout);
            match &self.place {
                Place::Server(_) => Err(Failure::new(Cause::Unreachable, "the URL is the one of a server")),
                Place::Sentinels { master, .. } => {
                    sentinel::ask(&mut connect(&self.sentinel_login).await?.redis, master).await
                }
                Place::Cluster { .. } => {
                    let mut connection = connect(&self.login).await?;
                    cluster::ask(&mut connection.redis, self.slot, &asked, server.tls.is_some()).await
                }
            }
        };
        let late = async {
            Timer::after(self.timeout).await;
            Err(Failure::new(Cause::Timeout, "no answer in time"))
        };
        question.or(late).await.map_err(|failure| {
            let failure = named(&server, failure);
            match self.place {
                Place::Sentinels { .. } if failure.cause == Cause::Credentials => {
                    let text = format!("POSTERN_REDIS_SENTINEL_PASSWORD: {}", failure.text);
                    Failure::new(failure.cause, text)
                }
                Place::Sentinels { .. } | Place::Cluster { .. } | Place::Server(_) => failure,
            }
        })
    }

    /// Returns the failure if no sentinel and no node knows the master.
    fn no_master(&self, failures: &[Failure]) -> Failure {
        let is_for_operator = |failure: &&Failure| failure.cause.needs_operator();
        let cause = failures.iter().find(is_for_operator).map_or(Cause::Unreachable, |failure| failure.cause);
        let texts: Vec<&str> = failures.iter().map(|failure| &*failure.text).collect();
        let texts = texts.join("; ");
        let text = match self.place {
            Place::Server(_) | Place::Sentinels { .. } => format!("no sentinel names the master: {texts}"),
            Place::Cluster { .. } => {
                format!("no node of the cluster names the master of slot {}: {texts}", self.slot)
            }
        };
        Failure::new(cause, text)
    }
}

/// Reads the files for TLS, on a thread for blocking calls.
async fn read_files(files: TlsFiles) -> Result<Tls, Failure> {
    let result = smol::unblock(move || tls::read(&files)).await;
    result.map_err(|(file, error)| {
        let setting = match file {
            tls::TlsFile::Authorities => "POSTERN_REDIS_CA_FILE",
            tls::TlsFile::Certificate => "POSTERN_REDIS_CERT_FILE",
            tls::TlsFile::Key => "POSTERN_REDIS_KEY_FILE",
        };
        Failure::new(Cause::Tls, format!("{setting}: {error}"))
    })
}

async fn connect(
    server: &Server,
    login: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
    timeout: Duration,
) -> Result<Connection, Failure> {
    let failure = |error| encoding::failure(&error);
    let (ConnectionAddr::Tcp(host, port), Some(tls)) = (&server.address, &server.tls) else {
        let info = server.address.clone().into_connection_info().map_err(failure)?;
        let client =
            Client::open(ConnectionInfo::set_redis_settings(info, login.clone())).map_err(failure)?;
        let config = config.set_connection_timeout(Some(timeout));
        let redis = client.get_multiplexed_async_connection_with_config(&config).await.map_err(failure)?;
        return Ok(Connection { redis, _task: None });
    };
    let open = async {
        let stream = tls::connect(host, *port, Some(tls)).await.map_err(|error| match error {
            ConnectError::Tcp(error) => failure(error.into()),
            ConnectError::Tls(text) => Failure::new(Cause::Tls, text),
        })?;
        let opened = MultiplexedConnection::new_with_config(login, stream.compat(), config).await;
        let (redis, run) = opened.map_err(failure)?;
        Ok((redis, run))
    };
    let late = async {
        Timer::after(timeout).await;
        // Redis waits for the end of a line, and ClientHello may have none.
        Err(Failure::new(
            Cause::Timeout,
            "no connection by TLS in time; the port may be for connections without TLS",
        ))
    };
    let (redis, run) = open.or(late).await?;
    Ok(Connection { redis, _task: Some(smol::spawn(run)) })
}

/// Returns the failure of a server with its address.
fn named(server: &Server, failure: Failure) -> Failure {
    Failure::new(failure.cause, format!("{server}: {}", failure.text))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// The most nodes of a cluster that are asked in addition to the nodes of the URL.
const MOST_KNOWN: usize = 8;
