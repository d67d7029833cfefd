//! The control port and the watchdog with workers that reply, are slow, are busy, or have ended.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::StatusCode;
use postern_channels::Channels;
use postern_core::handshake::{Identity, Secrets};
use postern_core::session::{Ending, Traffic};
use postern_core::worker::AdminRequest;
use postern_core::{ConnectionId, Record, Recorder, Summary, WorkerConfig};
use serde_json::{Value, json};
use smol::Timer;
use smol::future::FutureExt;

use super::api::{ClientMethod, ErrorMode, Method, NodeMethod};
use super::response::HttpResponse;
use super::router::Endpoint;
use super::worker_pool::WorkerPool;
use super::*;
use crate::application::Worker;
use crate::hooks::Hooks;
use crate::lifecycle::supervisor::Supervisor;
use crate::lifecycle::watchdog::Watchdog;
use crate::liveness::Liveness;
use crate::log::LogSettings;
use crate::metrics::LogAndCounters;
use crate::revocations::RevocationTable;
use crate::settings::{Program, Settings};
use crate::source::{Source, SourceSettings};
use crate::workers::{Reply, Request, SubmitError, WorkerReply};

/// A worker without connections whose behaviour a test chooses.
struct FakeWorker {
    worker: RefCell<Worker>,
    recorder: RefCell<LogAndCounters>,
    requests: RefCell<Vec<Request>>,
    behaviour: Cell<Behaviour>,
}

#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Prompt,
    /// It accepts requests and performs them at its next turn.
    Slow,
    Busy,
    Gone,
}

impl FakeWorker {
    fn new(behaviour: Behaviour, log: &Log) -> Rc<FakeWorker> {
        let now = Instant::now();
        let channels = Channels::new(Arc::default(), 0, now);
        let worker = Worker::with_application(channels, Arc::new(WorkerConfig::default()), 0, now);
        Rc::new(FakeWorker {
            worker: RefCell::new(worker),
            recorder: RefCell::new(LogAndCounters::new(log.worker(0), Hooks::default())),
            requests: RefCell::default(),
            behaviour: Cell::new(behaviour),
        })
    }

    fn turn(&self) {
        let mut worker = self.worker.borrow_mut();
        let recorder = self.recorder.borrow();
        for request in self.requests.take() {
            request.perform(&mut worker, &recorder, Instant::now(), &|_| None);
        }
    }

    /// Counts a connection that has ended.
    fn count_one(&self) {
        let identity = Identity::new(b"123", b"", b"").unwrap();
        let traffic = Traffic { messages_received: 5, ..Traffic::default() };
        let summary = Summary { lasted: Duration::ZERO, round_trip: None, traffic };
        let (connection, ending) = (ConnectionId(1), Ending::Eof);
        self.recorder.borrow_mut().record(&Record::Closed {
            connection,
            identity: &identity,
            ending,
            reason: ending.reason(),
            summary,
        });
    }
}

struct FakeWorkers(Vec<Rc<FakeWorker>>);

impl Workers for FakeWorkers {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn submit(&self, number: usize, request: Request) -> Result<(), SubmitError> {
        let worker = &self.0[number];
        match worker.behaviour.get() {
            Behaviour::Prompt => {
                worker.requests.borrow_mut().push(request);
                worker.turn();
            }
            Behaviour::Slow => worker.requests.borrow_mut().push(request),
            Behaviour::Busy => return Err(SubmitError::Busy),
            Behaviour::Gone => return Err(SubmitError::Gone),
        }
        Ok(())
    }

    fn refused(&self) -> u64 {
        0
    }
}

fn log() -> Log {
    Log::start(&LogSettings::default(), io::sink()).unwrap()
}

fn workers(behaviours: &[Behaviour]) -> Vec<Rc<FakeWorker>> {
    let log = log();
    behaviours.iter().map(|behaviour| FakeWorker::new(*behaviour, &log)).collect()
}

fn api(workers: &[Rc<FakeWorker>], status: ProcessStatus) -> AdminApi {
    let log = log();
    let node = Node::new(1, usize::MAX, Arc::default(), Hooks::default());
    let (version, started) = ("1.2.3", SystemTime::now());
    node.set_instance(Instance { id: "1".to_owned(), name: "host".to_owned(), version, started });
    let info = ProcessInfo {
        program: Program { name: "postern", version: "1.2.3", about: "", has_workers: true, commands: &[] },
        started,
        listen: Vec::new(),
        max_connections: 10,
        control_connections: 4,
        max_message: 100,
        trusts_any: false,
        api_keys: Secrets::default(),
        has_console: true,
        settings: vec![("PORT", "8080".to_owned())],
        status,
        revocations: RevocationTable::new(&node),
        tokens: KnownTokens::new(&Settings::default()),
        node,
        source: Source::new(&SourceSettings::default()),
        dropped_records: log.dropped_records(),
        log: log.logger(),
    };
    AdminApi::new(info, FakeWorkers(workers.to_vec()))
}

/// Returns the status and the body of the response.
fn request(api: &AdminApi, endpoint: Endpoint, body: &str) -> (StatusCode, String) {
    smol::block_on(async {
        let reply =
            api.handle(endpoint, body.as_bytes(), ErrorMode::Body).await.unwrap_or_else(HttpResponse::from);
        let status = reply.status();
        let body = reply.into_body().collect().await.unwrap_or_else(|never| match never {}).to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    })
}

#[test]
fn a_query_has_a_reply_for_each_worker() {
    let workers = workers(&[Behaviour::Prompt, Behaviour::Slow, Behaviour::Busy, Behaviour::Gone]);
    let pool = WorkerPool::new(Rc::new(FakeWorkers(workers.clone())));
    let replies = smol::block_on(pool.query(Duration::from_millis(20), AdminRequest::Probe));
    assert!(
        matches!(replies[..], [Reply::Ok(WorkerReply::Alive), Reply::Timeout, Reply::Timeout, Reply::Gone]),
        "{replies:?}"
    );
    // A late reply is dropped.
    workers[1].turn();
}

#[test]
fn a_request_that_is_dropped_reports_its_worker_as_gone() {
    let workers = workers(&[Behaviour::Slow]);
    let pool = WorkerPool::new(Rc::new(FakeWorkers(workers.clone())));
    let query = pool.query(Duration::from_secs(60), AdminRequest::Probe);
    let dropped = async {
        workers[0].requests.borrow_mut().clear();
        std::future::pending().await
    };
    assert!(matches!(smol::block_on(query.or(dropped))[..], [Reply::Gone]));
}

#[test]
fn a_worker_is_unresponsive_since_its_first_unanswered_probe() {
    let since = |liveness: &Liveness| smol::block_on(liveness.unresponsive_since());
    for behaviour in [Behaviour::Slow, Behaviour::Busy] {
        let workers = workers(&[Behaviour::Prompt, behaviour]);
        let liveness = Liveness::new(Rc::new(FakeWorkers(workers.clone())));
        let before = Instant::now();
        let first = since(&liveness).expect("one is unresponsive");
        assert!(first >= before && first <= Instant::now());
        assert_eq!(since(&liveness), Some(first), "{behaviour:?}: the time stays");
        assert!(workers[1].requests.borrow().len() <= 1, "{behaviour:?}: it gets one probe");
        workers[1].behaviour.set(Behaviour::Prompt);
        workers[1].turn();
        assert_eq!(since(&liveness), None, "{behaviour:?}: it has replied");
    }
    let liveness = Liveness::new(Rc::new(FakeWorkers(workers(&[Behaviour::Gone]))));
    assert_eq!(since(&liveness), None, "a worker that has ended is not unresponsive");
}

#[test]
fn a_drain_may_be_requested_again() {
    let process_status = ProcessStatus::default();
    let api = api(&workers(&[Behaviour::Gone]), process_status.clone());
    for _ in 0..3 {
        let (status, body) = request(&api, Endpoint::Method(Method::Node(NodeMethod::Drain)), "{}");
        assert_eq!((status.as_u16(), body.as_str()), (200, "{\"result\":{\"draining\":true}}\n"));
        assert!(process_status.is_draining() && process_status.take_drain_request());
        assert!(!process_status.take_drain_request());
    }
}

#[test]
fn livez_fails_after_ten_seconds_without_a_reply() {
    for (unresponsive, status) in [
        (None, StatusCode::OK),
        (Some(Duration::from_millis(9_999)), StatusCode::OK),
        (Some(Duration::from_secs(10)), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        assert_eq!(health::live_response(unresponsive).status(), status, "{unresponsive:?}");
    }
}

#[test]
fn an_unresponsive_worker_is_not_ready_and_at_first_still_live() {
    let workers = workers(&[Behaviour::Slow, Behaviour::Gone]);
    let process_status = ProcessStatus::default();
    let api = api(&workers, process_status.clone());
    let (status, body) = request(&api, Endpoint::Readyz, "");
    let reasons = |body: &str| serde_json::from_str::<Value>(body).unwrap()["reasons"].clone();
    assert_eq!((status.as_u16(), reasons(&body)), (503, json!(["workers"])));
    assert_eq!(request(&api, Endpoint::Livez, "").0, StatusCode::OK);
    process_status.set_draining();
    let (status, body) = request(&api, Endpoint::Readyz, "");
    assert_eq!((status.as_u16(), reasons(&body)), (503, json!(["draining", "workers"])));
}

#[test]
fn the_watchdog_notifies_the_supervisor_while_every_worker_replies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let pause = |every| async move {
        Timer::after(every).await;
    };
    for (behaviour, expected) in
        [(Behaviour::Prompt, 2..=11), (Behaviour::Gone, 2..=11), (Behaviour::Slow, 0..=0)]
    {
        let supervisor = Supervisor::at(path.as_os_str(), Some(Duration::from_millis(200))).unwrap();
        let status = ProcessStatus::new(supervisor, None);
        let watchdog = Watchdog::new(&status).unwrap();
        let a_second = async {
            Timer::after(Duration::from_secs(1)).await;
        };
        smol::block_on(
            watchdog.serve(FakeWorkers(workers(&[Behaviour::Prompt, behaviour])), pause).or(a_second),
        );
        let mut datagram = [0; 16];
        let mut notifications = 0;
        while let Ok(length) = socket.recv(&mut datagram) {
            assert_eq!(&datagram[..length], b"WATCHDOG=1");
            notifications += 1;
        }
        assert!(expected.contains(&notifications), "{behaviour:?}: {notifications}");
        // After the handover the successor notifies the supervisor.
        status.set_handed_over(7);
        smol::block_on(
            Watchdog::new(&status).unwrap().serve(FakeWorkers(workers(&[Behaviour::Prompt])), pause),
        );
        let length = socket.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], b"MAINPID=7");
        assert!(socket.recv(&mut datagram).is_err());
    }
}

#[test]
fn the_counters_of_a_worker_that_is_gone_stay_in_the_sum() {
    let workers = workers(&[Behaviour::Prompt, Behaviour::Prompt]);
    let api = api(&workers, ProcessStatus::default());
    workers.iter().for_each(|worker| worker.count_one());
    let received = |api: &AdminApi| {
        let (status, text) = request(api, Endpoint::Metrics, "");
        let line = text.lines().find(|line| line.starts_with("postern_messages_received_total "));
        (status.as_u16(), line.map(str::to_owned))
    };
    let ten = (200, Some("postern_messages_received_total 10".to_owned()));
    assert_eq!(received(&api), ten);
    workers[0].behaviour.set(Behaviour::Gone);
    assert_eq!(received(&api), ten);
    assert_eq!(received(&api), ten, "and are counted once");
    workers[1].behaviour.set(Behaviour::Busy);
    assert_eq!(received(&api).0, 503, "a sum without one of the workers is not reported");
}

const SEND: Endpoint = Endpoint::Method(Method::Clients(ClientMethod::Send));

#[test]
fn a_request_fails_unless_all_workers_reply() {
    let workers = workers(&[Behaviour::Prompt, Behaviour::Busy]);
    let api = api(&workers, ProcessStatus::default());
    for (endpoint, body) in [
        (SEND, r#"{"user":"1","text":"a"}"#),
        (Endpoint::Method(Method::Clients(ClientMethod::Disconnect)), r#"{"user":"1"}"#),
        (Endpoint::Method(Method::Node(NodeMethod::Connections)), "{}"),
        (Endpoint::Info, ""),
    ] {
        let (status, response) = request(&api, endpoint, body);
        assert_eq!(status.as_u16(), 503, "{endpoint:?}: {response}");
    }
    workers[1].behaviour.set(Behaviour::Gone);
    let (status, response) = request(&api, SEND, r#"{"user":"1","text":"a"}"#);
    assert_eq!((status.as_u16(), response.as_str()), (200, "{\"result\":{\"sent\":0}}\n"));
}
