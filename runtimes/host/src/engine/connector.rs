//! Opens connections to Redis: by TCP, by TLS or by a Unix socket, to a server or to the master that the sentinels name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postern_channels::relay::command::{Cause, Failure};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo,
};
use smol::future::FutureExt;
use smol::{Task, Timer};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::address::{Address, Place};
use super::encoding;
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
    /// The number of the configuration of the sentinels by which it is the master.
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
        Ok(Connector { place, login, sentinel_login, tls, timeout: settings.timeout })
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
            Place::Sentinels { .. } => self.find_master(tls).await?,
        };
        // The link has deadlines for replies.
        let config = || AsyncConnectionConfig::new().set_response_timeout(None);
        let commands = self.connect(&server, config()).await?;
        let messages = self.connect(&server, of_messages(config())).await?;
        Ok(Opened { commands, messages, server })
    }

    async fn connect(&self, server: &Server, config: AsyncConnectionConfig) -> Result<Connection, Failure> {
        let result = connect(server, &self.login, config, self.timeout * 2).await;
        match self.place {
            Place::Server(_) => result,
            // The URL in the log does not have it.
            Place::Sentinels { .. } => result.map_err(|failure| named(server, failure)),
        }
    }

    /// Asks until the sentinels name another master than `server`. Without sentinels, it never returns.
    pub(super) async fn watch(self: Arc<Self>, server: Server, interval: Duration) -> Failure {
        loop {
            match self.place {
                Place::Server(_) => smol::future::pending().await,
                Place::Sentinels { .. } => Timer::after(interval).await,
            };
            // A sentinel that was cut off names an old master by an old configuration.
            if let Ok(master) = self.find_master(server.tls.clone()).await
                && master.epoch > server.epoch
                && master.address != server.address
            {
                let text = format!("the sentinels name another master: {master}");
                return Failure::new(Cause::Replica, text);
            }
        }
    }

    /// Asks all sentinels at the same time for the master.
    ///
    /// The most recent configuration counts. If most sentinels have the same, the others are not waited for.
    async fn find_master(&self, tls: Option<Tls>) -> Result<Server, Failure> {
        let Place::Sentinels { sentinels, master } = &self.place else {
            return Err(Failure::new(Cause::Unreachable, "there are no sentinels"));
        };
        let (sender, answers) = smol::channel::bounded(sentinels.len());
        let ask = |(host, port): &(String, u16)| {
            let address = ConnectionAddr::Tcp(host.clone(), *port);
            let sentinel = Server { address, epoch: 0, tls: tls.clone() };
            let (login, master) = (self.sentinel_login.clone(), master.clone());
            let (timeout, sender) = (self.timeout, sender.clone());
            smol::spawn(async move {
                // It fails if no more answers are needed.
                _ = sender.send(ask(&sentinel, &login, &master, timeout).await).await;
            })
        };
        // Dropping the tasks ends them.
        let _tasks: Vec<Task<()>> = sentinels.iter().map(ask).collect();
        drop(sender);
        let (mut masters, mut failures) = (Vec::<Server>::new(), Vec::<Failure>::new());
        while let Ok(answer) = answers.recv().await {
            match answer {
                Ok(server) => {
                    masters.push(server);
                    let last = masters.last().map(|last| (&last.address, last.epoch));
                    let same = masters.iter().filter(|one| Some((&one.address, one.epoch)) == last).count();
                    if same > sentinels.len() / 2 {
                        break;
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        masters.into_iter().max_by_key(|server| server.epoch).ok_or_else(|| no_master(&failures))
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

/// Asks a sentinel for the master with a name.
async fn ask(
    sentinel: &Server,
    login: &RedisConnectionInfo,
    master: &str,
    timeout: Duration,
) -> Result<Server, Failure> {
    let question = async {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = connect(sentinel, login, config, timeout).await?;
        let mut fields = redis::cmd("SENTINEL");
        fields.arg("MASTER").arg(master);
        let fields = fields.query_async::<HashMap<String, String>>(&mut connection.redis).await;
        let fields = fields.map_err(|error| {
            if error.detail().is_some_and(|text| text.contains("No such master")) {
                return Failure::new(Cause::Unreachable, format!("no master has the name {master}"));
            }
            encoding::failure(&error)
        })?;
        // During a failover, this address is more recent than the one among the fields. It must not be older than the epoch.
        let mut address = redis::cmd("SENTINEL");
        address.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let address = address.query_async::<Option<(String, u16)>>(&mut connection.redis).await;
        let address = address.map_err(|error| encoding::failure(&error))?;
        let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        let (Some((host, port)), Some(epoch)) = (address, epoch) else {
            return Err(Failure::new(Cause::Protocol, "the answer of a sentinel has another form"));
        };
        Ok(Server { address: ConnectionAddr::Tcp(host, port), epoch, tls: sentinel.tls.clone() })
    };
    let late = async {
        Timer::after(timeout).await;
        Err(Failure::new(Cause::Timeout, "no answer in time"))
    };
    question.or(late).await.map_err(|failure| {
        let failure = named(sentinel, failure);
        if failure.cause == Cause::Credentials {
            return Failure::new(failure.cause, format!("POSTERN_REDIS_SENTINEL_PASSWORD: {}", failure.text));
        }
        failure
    })
}

/// Returns the failure of a server with its address.
fn named(server: &Server, failure: Failure) -> Failure {
    Failure::new(failure.cause, format!("{server}: {}", failure.text))
}

/// Returns the failure if no sentinel knows the master.
fn no_master(failures: &[Failure]) -> Failure {
    let is_for_operator =
        |failure: &&Failure| matches!(failure.cause, Cause::Credentials | Cause::Permission | Cause::Tls);
    let cause = failures.iter().find(is_for_operator).map_or(Cause::Unreachable, |failure| failure.cause);
    let texts: Vec<&str> = failures.iter().map(|failure| &*failure.text).collect();
    Failure::new(cause, format!("no sentinel names the master: {}", texts.join("; ")))
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
