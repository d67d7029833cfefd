//! Workers that answer, that are slow, busy or gone, and what the control port makes of each.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::StatusCode;
use postern_core::handshake::{Identity, Secrets};
use postern_core::session::{Ending, Traffic};
use postern_core::{ConnectionId, Key, Record, Recorder, Summary, Worker, WorkerConfig};
use serde_json::{Value, json};
use smol::Timer;
use smol::future::FutureExt;

use super::router::Action;
use super::*;
use crate::log::LogSettings;
use crate::metrics::{Counts, Recording};
use crate::supervisor::Supervisor;
use crate::workers::{Answer, Desk, Job, SubmitError, WorkerContext};

/// A worker without connections that does its jobs as it is told.
struct Lazy {
    worker: RefCell<Worker>,
    recording: RefCell<Recording>,
    jobs: RefCell<Vec<Job>>,
    mood: Cell<Mood>,
    /// How often it was wished that the process drains.
    drains: Cell<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Mood {
    Willing,
    /// It takes jobs and does them when its turn comes.
    Slow,
    Busy,
    Gone,
}

struct Turn<'w> {
    worker: &'w mut Worker,
    counts: &'w Counts,
}

impl WorkerContext for Turn<'_> {
    fn worker(&mut self) -> &mut Worker {
        self.worker
    }

    fn counts(&self) -> &Counts {
        self.counts
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn socket(&self, _: Key) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Lazy {
    fn new(mood: Mood, log: &Log) -> Rc<Lazy> {
        let worker = Worker::new(Arc::new(WorkerConfig::default()), 0, Instant::now());
        Rc::new(Lazy {
            worker: RefCell::new(worker),
            recording: RefCell::new(Recording::new(log.worker(0))),
            jobs: RefCell::default(),
            mood: Cell::new(mood),
            drains: Cell::new(0),
        })
    }

    fn turn(&self) {
        let mut worker = self.worker.borrow_mut();
        let recording = self.recording.borrow();
        for job in self.jobs.take() {
            job(&mut Turn { worker: &mut worker, counts: recording.counts() });
        }
    }

    /// Lets it have had a connection.
    fn count_one(&self) {
        let identity = Identity::new(b"123", b"", b"").unwrap();
        let traffic = Traffic { messages_received: 5, ..Traffic::default() };
        let summary = Summary { lasted: Duration::ZERO, round_trip: None, traffic };
        let (connection, ending) = (ConnectionId(1), Ending::Eof);
        self.recording.borrow_mut().record(&Record::Closed {
            connection,
            identity: &identity,
            ending,
            summary,
        });
    }
}

struct Several(Vec<Rc<Lazy>>);

impl Workers for Several {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn submit(&self, number: usize, job: Job) -> Result<(), SubmitError> {
        let worker = &self.0[number];
        match worker.mood.get() {
            Mood::Willing => {
                worker.jobs.borrow_mut().push(job);
                worker.turn();
            }
            Mood::Slow => worker.jobs.borrow_mut().push(job),
            Mood::Busy => return Err(SubmitError::Busy),
            Mood::Gone => return Err(SubmitError::Gone),
        }
        Ok(())
    }

    fn drain(&self) {
        self.0.iter().for_each(|lazy| lazy.drains.set(lazy.drains.get() + 1));
    }
}

fn log() -> Log {
    Log::start(&LogSettings::default(), io::sink()).unwrap()
}

fn workers(moods: &[Mood]) -> Vec<Rc<Lazy>> {
    let log = log();
    moods.iter().map(|mood| Lazy::new(*mood, &log)).collect()
}

fn node(workers: &[Rc<Lazy>], phase: Phase) -> Node {
    let log = log();
    let facts = Facts {
        program: Program { name: "postern", version: "1.2.3", about: "", has_workers: true },
        started: SystemTime::now(),
        listen: Vec::new(),
        max_connections: 10,
        control_connections: 4,
        max_message: 100,
        trusts_any: false,
        api_keys: Secrets::default(),
        settings: vec![("PORT", "8080".to_owned())],
        phase,
        losses: log.losses(),
        log: log.logger(),
    };
    Node::new(facts, Several(workers.to_vec()))
}

/// The status and the body of an answer.
fn ask(node: &Node, action: Action, body: &str) -> (StatusCode, String) {
    smol::block_on(async {
        let reply = node.perform(action, "", body.as_bytes()).await.unwrap_or_else(reply::Reply::from);
        let status = reply.status();
        let body = reply.into_body().collect().await.unwrap_or_else(|never| match never {}).to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    })
}

#[test]
fn each_worker_answers_for_itself() {
    let workers = workers(&[Mood::Willing, Mood::Slow, Mood::Busy, Mood::Gone]);
    let desk = Desk::new(Several(workers.clone()));
    let asked =
        desk.ask(Duration::from_millis(20), || |context: &mut dyn WorkerContext| context.worker().len());
    let answers = smol::block_on(asked);
    assert_eq!(answers, [Answer::Said(0), Answer::Silent, Answer::Silent, Answer::Gone]);
    // The answer to nobody is no trouble.
    workers[1].turn();
}

#[test]
fn a_job_that_goes_with_its_worker_is_answered_by_nobody() {
    let workers = workers(&[Mood::Slow]);
    let desk = Desk::new(Several(workers.clone()));
    let asked = desk.ask(Duration::from_secs(60), || |_: &mut dyn WorkerContext| ());
    let dropped = async {
        workers[0].jobs.borrow_mut().clear();
        std::future::pending().await
    };
    assert_eq!(smol::block_on(asked.or(dropped)), [Answer::Gone]);
}

#[test]
fn a_worker_is_silent_from_the_question_that_it_has_not_answered() {
    for mood in [Mood::Slow, Mood::Busy] {
        let workers = workers(&[Mood::Willing, mood]);
        let desk = Desk::new(Several(workers.clone()));
        let before = Instant::now();
        let first = smol::block_on(desk.silent_since()).expect("one is silent");
        assert!(first >= before && first <= Instant::now());
        assert_eq!(smol::block_on(desk.silent_since()), Some(first), "{mood:?}: it is the same silence");
        assert!(workers[1].jobs.borrow().len() <= 1, "{mood:?}: it is not asked again");
        workers[1].mood.set(Mood::Willing);
        workers[1].turn();
        assert_eq!(smol::block_on(desk.silent_since()), None, "{mood:?}: it has spoken");
    }
    let desk = Desk::new(Several(workers(&[Mood::Gone])));
    assert_eq!(smol::block_on(desk.silent_since()), None, "nobody is there to be silent");
}

#[test]
fn a_drain_may_be_asked_for_as_often_as_one_likes() {
    let workers = workers(&[Mood::Gone]);
    let node = node(&workers, Phase::default());
    for times in 1..=3 {
        let (status, body) = ask(&node, Action::Drain, "");
        assert_eq!((status.as_u16(), body.as_str()), (202, "{\"draining\":true}\n"));
        assert_eq!(workers[0].drains.get(), times);
    }
}

#[test]
fn a_silence_of_ten_seconds_is_no_life() {
    for (silence, status) in [
        (None, StatusCode::OK),
        (Some(Duration::from_millis(9_999)), StatusCode::OK),
        (Some(Duration::from_secs(10)), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        assert_eq!(health::judge(silence).status(), status, "{silence:?}");
    }
}

#[test]
fn a_silent_worker_is_not_ready_and_lives_for_a_while() {
    let workers = workers(&[Mood::Slow, Mood::Gone]);
    let phase = Phase::default();
    let node = node(&workers, phase.clone());
    let (status, body) = ask(&node, Action::Readyz, "");
    let reasons = |body: &str| serde_json::from_str::<Value>(body).unwrap()["reasons"].clone();
    assert_eq!((status.as_u16(), reasons(&body)), (503, json!(["workers"])));
    assert_eq!(ask(&node, Action::Livez, "").0, StatusCode::OK);
    phase.drain();
    let (status, body) = ask(&node, Action::Readyz, "");
    assert_eq!((status.as_u16(), reasons(&body)), (503, json!(["draining", "workers"])));
}

#[test]
fn signs_of_life_are_given_while_every_worker_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let ear = UnixDatagram::bind(&path).unwrap();
    ear.set_nonblocking(true).unwrap();
    let pause = |every| async move {
        Timer::after(every).await;
    };
    for (mood, signs_expected) in [(Mood::Willing, 2..=11), (Mood::Gone, 2..=11), (Mood::Slow, 0..=0)] {
        let supervisor = Supervisor::at(path.as_os_str(), Some(Duration::from_millis(200))).unwrap();
        let phase = Phase::new(supervisor);
        let watchdog = phase.watchdog().unwrap();
        let a_second = async {
            Timer::after(Duration::from_secs(1)).await;
        };
        smol::block_on(watchdog.serve(Several(workers(&[Mood::Willing, mood])), pause).or(a_second));
        let mut words = [0; 16];
        let mut signs = 0;
        while let Ok(length) = ear.recv(&mut words) {
            assert_eq!(&words[..length], b"WATCHDOG=1");
            signs += 1;
        }
        assert!(signs_expected.contains(&signs), "{mood:?}: {signs}");
        // Once another has taken over, it is the one to give them.
        phase.hand_over(7);
        smol::block_on(phase.watchdog().unwrap().serve(Several(workers(&[Mood::Willing])), pause));
        let length = ear.recv(&mut words).unwrap();
        assert_eq!(&words[..length], b"MAINPID=7");
        assert!(ear.recv(&mut words).is_err());
    }
}

#[test]
fn what_a_worker_has_counted_outlives_it() {
    let workers = workers(&[Mood::Willing, Mood::Willing]);
    let node = node(&workers, Phase::default());
    workers.iter().for_each(|worker| worker.count_one());
    let received = |node: &Node| {
        let (status, text) = ask(node, Action::Metrics, "");
        let line = text.lines().find(|line| line.starts_with("postern_messages_received_total "));
        (status.as_u16(), line.map(str::to_owned))
    };
    let ten = (200, Some("postern_messages_received_total 10".to_owned()));
    assert_eq!(received(&node), ten);
    workers[0].mood.set(Mood::Gone);
    assert_eq!(received(&node), ten);
    assert_eq!(received(&node), ten, "and is not counted again");
    workers[1].mood.set(Mood::Busy);
    assert_eq!(received(&node).0, 503, "half of a sum is none");
}

#[test]
fn what_not_all_workers_have_done_is_no_success() {
    let workers = workers(&[Mood::Willing, Mood::Busy]);
    let node = node(&workers, Phase::default());
    for (action, body) in [
        (Action::Send, r#"{"user":"1","text":"a"}"#),
        (Action::Disconnect, r#"{"user":"1"}"#),
        (Action::Connections, ""),
        (Action::Info, ""),
    ] {
        let (status, said) = ask(&node, action, body);
        assert_eq!(status.as_u16(), 503, "{action:?}: {said}");
    }
    workers[1].mood.set(Mood::Gone);
    let (status, said) = ask(&node, Action::Send, r#"{"user":"1","text":"a"}"#);
    assert_eq!((status.as_u16(), said.as_str()), (200, "{\"sent\":0}\n"));
}
