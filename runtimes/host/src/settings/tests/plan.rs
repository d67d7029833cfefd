//! The plan for a host.

use super::*;
use crate::listen::Address;
use crate::settings::names::{MAX_CONNECTIONS, MAX_HANDSHAKES};
use crate::settings::plan::Reduced;

fn plan(flags: &[&str], open_files: usize) -> Plan {
    let loaded = Texts { flags, ..Texts::default() }.loaded();
    Plan::resolve(&POSTERN, &loaded, &Host { open_files, ..HOST })
}

#[track_caller]
fn check(
    flags: &[&str],
    open_files: usize,
    limits: (usize, usize),
    expected: &[(&'static str, usize, usize)],
) {
    let plan = plan(flags, open_files);
    assert_eq!((plan.max_connections, plan.rules().handshake.max_handshakes), limits, "{flags:?}");
    let expected: Vec<Reduced> = expected
        .iter()
        .map(|(setting, written, applies)| Reduced { setting, written: *written, applies: *applies })
        .collect();
    assert_eq!(plan.reduced(), expected, "{flags:?}");
}

#[test]
fn limits_that_count_descriptors_follow_the_limit_of_open_files() {
    check(&[], 20_000, (17_874, 4096), &[]);
    // A default that is reduced is not reported.
    check(&[], 1024, (795, 398), &[]);
    let written = ["--max-connections=796", "--max-handshakes=4096"];
    check(&written, 1024, (795, 398), &[(MAX_CONNECTIONS, 796, 795), (MAX_HANDSHAKES, 4096, 398)]);
    check(&["--max-connections=795", "--max-handshakes=0"], 1024, (795, 0), &[]);
    let plan = plan(&[], 20_000);
    assert_eq!((plan.rules().max_connections, plan.rules().max_sockets), (Some(17_874), Some(19_860)));
    assert_eq!(plan.control_connections, 64);
}

#[test]
fn a_host_with_many_cores_has_no_more_workers_than_channels_can_tell_apart() {
    let loaded = Texts::default().loaded();
    for (cores, workers) in [(127, 127), (128, 128), (129, 128), (1024, 128)] {
        let host = Host { cores: cores.try_into().unwrap(), memory: 1 << 34, open_files: 20_000 };
        assert_eq!(Plan::resolve(&POSTERN, &loaded, &host).workers.get(), workers);
    }
}

#[test]
fn limits_that_are_not_written_derive_from_the_host() {
    let automatic = Texts::default().plan();
    assert_eq!((automatic.workers.get(), automatic.event_loops()), (2, 2));
    assert_eq!((automatic.rules().max_memory, automatic.log.queue), (8 << 30, 8 << 20));
    let flags = &["--workers=3", "--max-connections=5", "--max-memory=1MiB", "--log-queue=64KiB"];
    let written = Texts { flags, ..Texts::default() }.plan();
    assert_eq!((written.workers.get(), written.max_connections), (3, 5));
    assert_eq!((written.rules().max_memory, written.log.queue), (1 << 20, 64 << 10));
    // Less is buffered for a slow connection where all may hold little.
    assert_eq!(written.rules().session.pause_backlog, 16 << 10);
}

#[test]
fn a_program_without_workers_has_one_event_loop() {
    let program = Program { has_workers: false, ..POSTERN };
    let plan = Plan::resolve(&program, &Texts::default().loaded(), &HOST);
    assert_eq!(plan.event_loops(), 1);
}

#[test]
fn the_limits_of_a_worker_are_its_share() {
    #[derive(Debug)]
    struct Ready;
    impl postern_core::handshake::Readiness for Ready {
        fn is_ready(&self) -> bool {
            true
        }
    }
    let flags = &["--workers=2", "--max-connections=5", "--max-memory=7", "--max-handshakes=3"];
    let plan = Texts { flags, ..Texts::default() }.plan();
    let node = crate::channels::Node::new(1, 0, std::sync::Arc::default(), crate::hooks::Hooks::default());
    let parts = SharedParts {
        readiness: std::sync::Arc::new(Ready),
        assertion: None,
        revocations: crate::revocations::RevocationTable::new(&node),
        instance: 7,
        hash_seed: 8,
    };
    let [first, second] = [0, 1].map(|index| plan.worker(index, &parts));
    assert_eq!((first.max_connections, second.max_connections), (Some(3), Some(2)));
    assert_eq!((first.max_memory, first.handshake.max_handshakes), (4, 2));
    assert_eq!((first.handshake.instance, first.hash_seed), (7, 8));
    assert!(first.handshake.readiness.is_some());
    let names = Texts { flags: &["--subprotocols=chat"], ..Texts::default() }
        .plan()
        .rules()
        .handshake
        .subprotocols
        .clone();
    assert_eq!(names, ["chat", SUBPROTOCOL, "centrifuge-protobuf", "centrifuge-json"]);
}

#[test]
fn a_port_is_kept_only_if_a_supervisor_has_bound_all_listeners() {
    let listeners = crate::listen::bind(
        &[Address::Tcp("127.0.0.1:0".parse().unwrap())],
        &crate::listen::Access::default(),
    )
    .unwrap();
    let drain = plan(&["--handshake-timeout=7s"], 1024).drain(&listeners);
    assert_eq!(drain, DrainConfig { requests: Duration::from_secs(7), ..DrainConfig::default() });
}

#[test]
fn what_applies_on_this_host_is_printed_after_the_source() {
    let environment = &[("POSTERN_MAX_CONNECTIONS", "99999999"), ("POSTERN_MAX_MEMORY", "16MiB")];
    let printed = Texts { flags: &["--print-config"], environment, ..Texts::default() }.printed();
    let comment = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{name}=")));
        line.and_then(|line| Some(line.split_once("  # ")?.1)).unwrap_or_else(|| panic!("{printed}"))
    };
    assert_eq!(comment("POSTERN_MAX_CONNECTIONS"), "environment; 17874 on this host");
    assert_eq!(comment("POSTERN_MAX_MEMORY"), "environment");
    assert_eq!(comment("POSTERN_LOG_QUEUE"), "default; 8388608 on this host");
    assert_eq!(comment("POSTERN_WORKERS"), "default; 2 on this host");
}
