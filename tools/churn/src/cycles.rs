//! The ways in which a connection ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use smol::Timer;
use smol::future::FutureExt;
use smol::lock::Semaphore;

use super::Failure;
use super::client::Client;
use super::options::Options;

/// The way in which a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// By a closing handshake that the client begins.
    Close,
    /// The client ends its side without a Close.
    End,
    /// By a reset.
    Reset,
    /// A request without a user: 401.
    NoUser,
    /// A request for another path: 404.
    NotFound,
    /// An invalid frame: 1002.
    Malformed,
    /// A message that is too long: 1009.
    TooBig,
    /// The client closes its socket in the middle of its request.
    HalfRequest,
    /// The rest of the request is never sent: 408.
    LateRequest,
    /// A ping is not answered: 4408.
    NoPong,
    /// A message is never completed: 1008.
    LateMessage,
    /// The client does not read the echoes.
    NotReading,
    /// By an operator: 4403.
    Operator,
}

impl Kind {
    /// All kinds, with their number in a hundred cycles. Those that wait for a timeout are rare.
    const SHARES: [(Kind, u64); 13] = [
        (Kind::Close, 24),
        (Kind::End, 14),
        (Kind::Reset, 14),
        (Kind::NoUser, 9),
        (Kind::NotFound, 6),
        (Kind::Malformed, 9),
        (Kind::TooBig, 6),
        (Kind::HalfRequest, 9),
        (Kind::LateRequest, 2),
        (Kind::NoPong, 2),
        (Kind::LateMessage, 2),
        (Kind::NotReading, 1),
        (Kind::Operator, 2),
    ];

    /// Returns the kind of a cycle. In any hundred consecutive cycles each kind has its share.
    pub(crate) fn of_cycle(number: u64) -> Kind {
        // 37 has no divisor in common with 100, so consecutive cycles are rarely of the same kind.
        let mut place = number % 100 * 37 % 100;
        for (kind, share) in Kind::SHARES {
            match place.checked_sub(share) {
                Some(rest) => place = rest,
                None => return kind,
            }
        }
        Kind::Close
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Close => "close",
            Kind::End => "end",
            Kind::Reset => "reset",
            Kind::NoUser => "no_user_401",
            Kind::NotFound => "not_found_404",
            Kind::Malformed => "malformed_1002",
            Kind::TooBig => "too_big_1009",
            Kind::HalfRequest => "half_request",
            Kind::LateRequest => "late_request_408",
            Kind::NoPong => "no_pong_4408",
            Kind::LateMessage => "late_message_1008",
            Kind::NotReading => "slow_consumer",
            Kind::Operator => "operator_4403",
        }
    }

    /// Whether its connections are admitted.
    pub(crate) fn is_admitted(self) -> bool {
        !matches!(self, Kind::NoUser | Kind::NotFound | Kind::HalfRequest | Kind::LateRequest)
    }
}

/// The server to connect to, and the state that all cycles share.
#[derive(Debug)]
pub(crate) struct Target {
    server: SocketAddr,
    control: SocketAddr,
    api_key: String,
    /// Number of users so far. Each connection has its own user, so that entries of the index of users come and go,
    /// too.
    users: Cell<u64>,
    /// Limits the concurrent requests to the control port, which accepts at most 64.
    operators: Semaphore,
}

impl Target {
    pub(crate) fn new(options: &Options) -> Target {
        Target {
            server: options.server,
            control: options.control,
            api_key: options.api_key.clone(),
            users: Cell::new(0),
            operators: Semaphore::new(16),
        }
    }

    fn new_user(&self) -> String {
        let number = self.users.replace(self.users.get() + 1);
        format!("user-{number}")
    }

    /// Opens a connection of a new user, and exchanges one message.
    async fn open(&self) -> Result<(Client, String), Failure> {
        let user = self.new_user();
        let mut client = Client::connect(self.server).await?;
        client.ask("/ws", Some(&user)).await?;
        client.expect_status(101).await?;
        client.send(b"\x81\x85\0\0\0\0Hello").await?;
        client.expect(b"\x81\x05Hello").await?;
        Ok((client, user))
    }

    /// Disconnects a user by the API.
    async fn disconnect(&self, user: &str) -> Result<(), Failure> {
        let _permit = self.operators.acquire().await;
        let body = format!("{{\"user\":\"{user}\"}}");
        let head = format!(
            "POST /api/disconnect HTTP/1.1\r\nHost: churn\r\nConnection: close\r\nX-API-Key: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.api_key,
            body.len()
        );
        let mut client = Client::connect(self.control).await?;
        client.send([head, body].concat().as_bytes()).await?;
        client.expect_status(200).await?;
        client.read_out().await?;
        match client.unused().trim_ascii_end() {
            b"{\"result\":{\"disconnected\":1}}" => Ok(()),
            other => {
                Err(format!("/api/disconnect did not disconnect one connection: {}", other.escape_ascii())
                    .into())
            }
        }
    }
}

/// Runs one cycle: opens a connection, and ends it. Fails if it ends otherwise than expected.
pub(crate) async fn run(kind: Kind, target: &Target) -> Result<(), Failure> {
    let late = async {
        Timer::after(PATIENCE).await;
        Err("the connection did not end in time".into())
    };
    end(kind, target).or(late).await
}

async fn end(kind: Kind, target: &Target) -> Result<(), Failure> {
    match kind {
        Kind::Close => {
            let (mut client, _) = target.open().await?;
            client.send(b"\x88\x82\0\0\0\0\x03\xe8").await?;
            client.expect_close(1000).await
        }
        Kind::End => target.open().await.map(drop),
        Kind::Reset => target.open().await?.0.reset(),
        Kind::NoUser => refused(target, "/ws", 401).await,
        Kind::NotFound => refused(target, "/", 404).await,
        Kind::Malformed => {
            let (mut client, _) = target.open().await?;
            // A reserved opcode.
            client.send(b"\x83\x80\0\0\0\0").await?;
            client.expect_close(1002).await
        }
        Kind::TooBig => {
            let (mut client, _) = target.open().await?;
            client.send(b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0").await?;
            client.expect_close(1009).await
        }
        Kind::HalfRequest => {
            let mut client = Client::connect(target.server).await?;
            client.send(b"GET /ws HTTP/1.1\r\nHost: churn\r\n").await
        }
        Kind::LateRequest => {
            let mut client = Client::connect(target.server).await?;
            client.send(b"GET /ws HTTP/1.1\r\nHost: churn\r\n").await?;
            client.expect_status(408).await?;
            client.read_out().await
        }
        Kind::NoPong => {
            let (mut client, _) = target.open().await?;
            client.expect_close(4408).await
        }
        Kind::LateMessage => {
            let (mut client, _) = target.open().await?;
            client.send(b"\x01\x85\0\0\0\0Hello").await?;
            client.expect_close(1008).await
        }
        Kind::NotReading => {
            let (mut client, _) = target.open().await?;
            client.narrow()?;
            let message = [&b"\x82\xfe\xea\x60\0\0\0\0"[..], &[0; 60_000]].concat();
            // The buffers of both sides fill up. Then the server stops reading, and drops the connection.
            while client.send(&message).await.is_ok() {}
            Ok(())
        }
        Kind::Operator => {
            let (mut client, user) = target.open().await?;
            target.disconnect(&user).await?;
            client.expect_close(4403).await
        }
    }
}

async fn refused(target: &Target, path: &str, status: u16) -> Result<(), Failure> {
    let user = (status != 401).then(|| target.new_user());
    let mut client = Client::connect(target.server).await?;
    client.ask(path, user.as_deref()).await?;
    client.expect_status(status).await?;
    client.read_out().await
}

/// The limit for one cycle. The slowest takes two seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(30);
