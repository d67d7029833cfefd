use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn running(grace: u32, spread: u32, hard: u32) -> (Shutdown, Instant) {
    let config = DrainConfig {
        grace: SECOND * grace,
        spread: SECOND * spread,
        hard: SECOND * hard,
        requests: 2 * SECOND,
        is_port_kept: false,
    };
    (Shutdown::new(config), Instant::now())
}

/// Lets the time pass in which a signal repeats the last one. Returns the time after it.
fn settle(shutdown: &mut Shutdown, now: Instant) -> Instant {
    let later = now + Shutdown::REPEAT;
    if matches!(shutdown.signal, Signal::Recent(_)) {
        assert!(shutdown.poll_timeout() <= Some(later));
        assert_eq!(shutdown.handle_timeout(later), None);
    }
    later
}

#[test]
fn a_drain_is_announced_then_done_and_ends_in_time() {
    for request in [ShutdownRequest::Terminate, ShutdownRequest::Drain] {
        let (mut shutdown, now) = running(5, 30, 60);
        assert!(!shutdown.has_begun());
        assert_eq!(shutdown.poll_timeout(), None);
        assert_eq!(shutdown.handle(request, now), Some(ShutdownAction::Announce));
        assert!(shutdown.has_begun());
        assert_eq!(shutdown.handle(ShutdownRequest::Drain, now), None, "said twice is said once");
        settle(&mut shutdown, now);
        assert_eq!(shutdown.poll_timeout(), Some(now + 5 * SECOND));
        assert_eq!(shutdown.handle_timeout(now + 4 * SECOND), None);
        assert_eq!(shutdown.handle_timeout(now + 5 * SECOND), Some(ShutdownAction::Drain(30 * SECOND)));
        assert_eq!(shutdown.handle(ShutdownRequest::Drain, now + 6 * SECOND), None);
        assert_eq!(shutdown.poll_timeout(), Some(now + 60 * SECOND));
        assert_eq!(shutdown.handle_timeout(now + 60 * SECOND), Some(ShutdownAction::Exit));
        assert_eq!(shutdown.poll_timeout(), None);
        assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), None);
    }
}

#[test]
fn the_deadline_counts_from_what_began_the_stop() {
    let (mut shutdown, now) = running(5, 30, 60);
    assert_eq!(shutdown.deadline(), None);
    shutdown.handle(ShutdownRequest::Terminate, now);
    assert_eq!(shutdown.deadline(), Some(now + 60 * SECOND));
    shutdown.handle_timeout(now + 5 * SECOND);
    assert_eq!(shutdown.deadline(), Some(now + 60 * SECOND));
    shutdown.handle(ShutdownRequest::Terminate, now + 6 * SECOND);
    assert_eq!(shutdown.deadline(), None, "at once");
    let (mut shutdown, now) = running(5, 30, 60);
    shutdown.handle(ShutdownRequest::Restart, now);
    assert_eq!(shutdown.deadline(), None);
    shutdown.handle_successor(true, now + SECOND);
    assert_eq!(shutdown.deadline(), Some(now + 61 * SECOND));
    let (mut shutdown, now) = running(5, 30, 60);
    shutdown.handle(ShutdownRequest::Interrupt, now);
    assert_eq!(shutdown.deadline(), Some(now + 60 * SECOND));
}

#[test]
fn without_a_grace_it_begins_at_once_and_no_spread_is_longer_than_the_whole() {
    let (mut shutdown, now) = running(0, 30, 60);
    assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), Some(ShutdownAction::Drain(30 * SECOND)));
    let (mut shutdown, now) = running(5, 30, 10);
    assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), Some(ShutdownAction::Announce));
    assert_eq!(shutdown.handle_timeout(now + 6 * SECOND), Some(ShutdownAction::Drain(4 * SECOND)));
    let (mut shutdown, now) = running(20, 30, 10);
    shutdown.handle(ShutdownRequest::Terminate, now);
    assert_eq!(shutdown.handle_timeout(now + 20 * SECOND), Some(ShutdownAction::Drain(Duration::ZERO)));
    assert_eq!(shutdown.handle_timeout(now + 20 * SECOND), Some(ShutdownAction::Exit));
}

/// Two signals, of which the second one asks for no less.
const SIGNALS: [(ShutdownRequest, ShutdownRequest); 3] = [
    (ShutdownRequest::Terminate, ShutdownRequest::Terminate),
    (ShutdownRequest::Interrupt, ShutdownRequest::Interrupt),
    (ShutdownRequest::Interrupt, ShutdownRequest::Terminate),
];

#[test]
fn a_later_second_signal_ends_at_once() {
    for grace in [0, 5] {
        for (first, second) in SIGNALS {
            let (mut shutdown, now) = running(grace, 30, 60);
            assert!(shutdown.handle(first, now).is_some());
            let now = settle(&mut shutdown, now);
            assert_eq!(shutdown.handle(second, now), Some(ShutdownAction::Exit), "{first:?} {second:?}");
            assert_eq!(shutdown.poll_timeout(), None);
        }
    }
}

#[test]
fn signals_that_are_sent_together_are_one() {
    for grace in [0, 5] {
        for (first, second) in SIGNALS {
            let (mut shutdown, now) = running(grace, 30, 60);
            assert!(shutdown.handle(first, now).is_some());
            for after in [Duration::ZERO, Shutdown::REPEAT / 2, Shutdown::REPEAT] {
                // A runtime that wakes late reads the signal before it reports the time.
                assert_eq!(shutdown.handle(second, now + after), None, "{first:?} {second:?} {after:?}");
            }
            // A repetition does not make the time longer.
            assert!(shutdown.poll_timeout() <= Some(now + Shutdown::REPEAT));
            assert_eq!(shutdown.handle_timeout(now + Shutdown::REPEAT), None);
            assert_eq!(shutdown.handle(second, now + Shutdown::REPEAT), Some(ShutdownAction::Exit));
        }
    }
    // Even if the runtime never reports the time.
    let (mut shutdown, now) = running(5, 30, 60);
    shutdown.handle(ShutdownRequest::Terminate, now);
    assert_eq!(
        shutdown.handle(ShutdownRequest::Terminate, now + 2 * Shutdown::REPEAT),
        Some(ShutdownAction::Exit)
    );
}

#[test]
fn a_first_signal_never_ends_a_drain_that_was_requested_in_another_way() {
    for at in [0, 6] {
        let (mut shutdown, now) = running(5, 30, 60);
        assert_eq!(shutdown.handle(ShutdownRequest::Drain, now), Some(ShutdownAction::Announce));
        let now = now + at * SECOND;
        shutdown.handle_timeout(now);
        assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), None);
        assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), None);
        let now = settle(&mut shutdown, now);
        assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), Some(ShutdownAction::Exit));
    }
}

#[test]
fn an_interrupt_during_a_drain_closes_the_rest_at_once() {
    let (mut shutdown, now) = running(0, 30, 60);
    assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), Some(ShutdownAction::Drain(30 * SECOND)));
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, now), None, "they were sent together");
    let later = settle(&mut shutdown, now);
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, later), Some(ShutdownAction::Close));
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, later), None);
    assert_eq!(shutdown.handle(ShutdownRequest::Terminate, later), None);
    let later = settle(&mut shutdown, later);
    assert_eq!(shutdown.poll_timeout(), Some(now + 60 * SECOND));
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, later), Some(ShutdownAction::Exit));
    // Of a drain that was requested in another way, too.
    let (mut shutdown, now) = running(0, 30, 60);
    shutdown.handle(ShutdownRequest::Drain, now);
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, now), Some(ShutdownAction::Close));
}

#[test]
fn a_successor_takes_over_and_those_who_have_come_are_served_before_the_drain() {
    // With any grace period: the port stays open, so no load balancer has to notice.
    for grace in [0, 5] {
        let (mut shutdown, now) = running(grace, 30, 60);
        assert_eq!(shutdown.handle(ShutdownRequest::Restart, now), Some(ShutdownAction::SpawnSuccessor));
        assert_eq!(shutdown.handle(ShutdownRequest::Restart, now), None, "one is enough");
        assert!(!shutdown.has_begun());
        assert_eq!(shutdown.poll_timeout(), None);
        assert_eq!(shutdown.handle_successor(true, now), Some(ShutdownAction::StopAccepting));
        assert!(shutdown.has_begun());
        assert_eq!(shutdown.handle(ShutdownRequest::Restart, now), None);
        assert_eq!(shutdown.poll_timeout(), Some(now + 2 * SECOND));
        assert_eq!(shutdown.handle_timeout(now + 2 * SECOND), Some(ShutdownAction::Drain(30 * SECOND)));
        assert_eq!(shutdown.handle_timeout(now + 60 * SECOND), Some(ShutdownAction::Exit));
    }
}

#[test]
fn when_the_whole_service_stops_who_has_yielded_drains_and_does_not_drop_anybody() {
    for (request, action) in [
        (ShutdownRequest::Terminate, ShutdownAction::Drain(30 * SECOND)),
        (ShutdownRequest::Drain, ShutdownAction::Drain(30 * SECOND)),
        (ShutdownRequest::Interrupt, ShutdownAction::Close),
    ] {
        let (mut shutdown, now) = running(5, 30, 60);
        shutdown.handle(ShutdownRequest::Restart, now);
        shutdown.handle_successor(true, now);
        assert_eq!(shutdown.handle(request, now + SECOND), Some(action));
        shutdown.handle(ShutdownRequest::Terminate, now + SECOND);
        let later = settle(&mut shutdown, now + SECOND);
        assert_eq!(shutdown.handle(ShutdownRequest::Terminate, later), Some(ShutdownAction::Exit));
    }
}

#[test]
fn where_the_port_is_kept_open_nobody_who_has_come_is_refused() {
    for grace in [0, 5] {
        let (Shutdown { config, .. }, now) = running(grace, 30, 60);
        let mut shutdown = Shutdown::new(DrainConfig { is_port_kept: true, ..config });
        let after_grace = now + grace * SECOND;
        let action = match shutdown.handle(ShutdownRequest::Terminate, now) {
            Some(ShutdownAction::Announce) => shutdown.handle_timeout(after_grace),
            action => action,
        };
        assert_eq!(action, Some(ShutdownAction::StopAccepting));
        assert_eq!(shutdown.handle(ShutdownRequest::Drain, after_grace), None);
        let after_grace = settle(&mut shutdown, after_grace);
        let mut hasty = shutdown;
        assert_eq!(
            hasty.handle(ShutdownRequest::Terminate, after_grace),
            Some(ShutdownAction::Exit),
            "the second time"
        );
        assert_eq!(shutdown.handle_timeout(after_grace + SECOND), None);
        let action = shutdown.handle_timeout(after_grace + 2 * SECOND);
        assert_eq!(action, Some(ShutdownAction::Drain(30 * SECOND)));
        assert_eq!(shutdown.poll_timeout(), Some(now + 60 * SECOND));
    }
}

#[test]
fn the_wait_for_handshakes_ends_soon_after_the_last_of_them() {
    let kept = || {
        let (Shutdown { config, .. }, now) = running(0, 30, 60);
        let mut shutdown = Shutdown::new(DrainConfig { is_port_kept: true, ..config });
        shutdown.handle_handshakes(0, now);
        assert!(!shutdown.waits_for_handshakes());
        assert_eq!(shutdown.handle(ShutdownRequest::Drain, now), Some(ShutdownAction::StopAccepting));
        assert!(shutdown.waits_for_handshakes());
        (shutdown, now)
    };
    let drain = Some(ShutdownAction::Drain(30 * SECOND));
    // Without one, and after the last one. Reports after that do not make the wait longer.
    for last in [Duration::ZERO, SECOND] {
        let (mut shutdown, now) = kept();
        shutdown.handle_handshakes(1, now);
        assert_eq!(shutdown.poll_timeout(), Some(now + 2 * SECOND));
        let end = now + last + Shutdown::SETTLE;
        for late in [Duration::ZERO, Shutdown::SETTLE / 2] {
            shutdown.handle_handshakes(0, now + last + late);
            assert_eq!(shutdown.poll_timeout(), Some(end));
        }
        assert_eq!(shutdown.handle_timeout(end), drain);
        assert!(!shutdown.waits_for_handshakes());
    }
    // A report that was too early is corrected by the next one. The wait is never longer than configured.
    let (mut shutdown, now) = kept();
    shutdown.handle_handshakes(0, now);
    shutdown.handle_handshakes(1, now);
    assert_eq!(shutdown.handle_timeout(now + SECOND), None);
    shutdown.handle_handshakes(0, now + 2 * SECOND - Shutdown::SETTLE / 2);
    assert_eq!(shutdown.handle_timeout(now + 2 * SECOND), drain);
}

#[test]
fn without_a_successor_it_goes_on_as_if_nothing_had_been_said() {
    let (mut shutdown, now) = running(5, 30, 60);
    for _ in 0..2 {
        assert_eq!(shutdown.handle(ShutdownRequest::Restart, now), Some(ShutdownAction::SpawnSuccessor));
        assert_eq!(shutdown.handle_successor(false, now), None);
        assert!(!shutdown.has_begun());
        assert_eq!(shutdown.handle_successor(true, now), None, "no successor was requested");
    }
    assert_eq!(shutdown.handle(ShutdownRequest::Terminate, now), Some(ShutdownAction::Announce));
    assert_eq!(shutdown.handle(ShutdownRequest::Restart, now), None, "it is too late for one");
}

#[test]
fn a_process_that_is_told_to_stop_waits_for_no_successor() {
    for (request, action) in [
        (ShutdownRequest::Terminate, ShutdownAction::Announce),
        (ShutdownRequest::Drain, ShutdownAction::Announce),
        (ShutdownRequest::Interrupt, ShutdownAction::Close),
    ] {
        let (mut shutdown, now) = running(5, 30, 60);
        shutdown.handle(ShutdownRequest::Restart, now);
        assert_eq!(shutdown.handle(request, now), Some(action));
        assert_eq!(shutdown.handle_successor(true, now), None);
        assert!(shutdown.has_begun());
    }
}

#[test]
fn who_sits_in_front_of_it_waits_for_no_grace() {
    let (mut shutdown, now) = running(5, 30, 60);
    shutdown.handle(ShutdownRequest::Terminate, now);
    assert_eq!(shutdown.handle(ShutdownRequest::Interrupt, now), Some(ShutdownAction::Close));
    assert_eq!(shutdown.handle_timeout(now + 60 * SECOND), Some(ShutdownAction::Exit));
}
