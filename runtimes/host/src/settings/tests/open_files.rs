//! Limits that depend on the host.

use super::*;
use crate::resources::open_files::allowed;

#[test]
fn limits_that_count_descriptors_follow_the_limit_of_open_files() {
    let shared = |flags: &[&str], limit: usize| {
        let mut settings = Texts { flags, ..Texts::default() }.settings();
        settings.workers = 2;
        settings.share_open_files(limit);
        settings
    };
    let limits = |settings: &Settings| (settings.max_connections, settings.worker.handshake.max_handshakes);
    let plenty = shared(&[], 20_000);
    assert_eq!((limits(&plenty), plenty.reduced.as_slice()), ((17_874, 4096), &[][..]));
    assert_eq!(plenty.worker.max_connections, Some(17_874));
    assert_eq!((plenty.worker.max_sockets, plenty.control.connections), (Some(19_860), 64));
    // Nobody wrote the default, so nobody is warned.
    let scarce = shared(&[], 1024);
    assert_eq!((limits(&scarce), scarce.reduced.as_slice()), ((795, 398), &[][..]));
    let written = shared(&["--max-connections=796", "--max-handshakes=4096"], 1024);
    let reduced = [(MAX_CONNECTIONS, 796, 795), (MAX_HANDSHAKES, 4096, 398)]
        .map(|(setting, written, holds)| Reduced { setting, written, holds });
    assert_eq!((limits(&written), written.reduced.as_slice()), ((795, 398), &reduced[..]));
    let fitting = shared(&["--max-connections=795", "--max-handshakes=0"], 1024);
    assert_eq!((limits(&fitting), fitting.reduced.as_slice()), ((795, 0), &[][..]));
}

#[test]
fn what_holds_on_this_host_is_printed_beside_what_was_chosen() {
    let environment = &[("POSTERN_MAX_CONNECTIONS", "99999999"), ("POSTERN_MAX_MEMORY", "16MiB")];
    let texts = Texts { flags: &["--print-config"], environment, ..Texts::default() };
    let printed = texts.printed();
    let comment = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{name}=")));
        line.and_then(|line| Some(line.split_once("  # ")?.1)).unwrap_or_else(|| panic!("{printed}"))
    };
    let most = Shares::of(allowed(), thread::available_parallelism().unwrap().get()).connections;
    assert_eq!(comment("POSTERN_MAX_CONNECTIONS"), format!("environment; {most} on this host"));
    assert_eq!(comment("POSTERN_MAX_MEMORY"), "environment");
    assert!(comment("POSTERN_LOG_QUEUE").ends_with(" on this host"));
}
