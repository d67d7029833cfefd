//! The load generators: `load`, which the benches run, and `talk`.

use std::process::Command;
use std::thread;

use postern_tests::binaries::Binary;
use postern_tests::postern::{Postern, Runtime};
use serde_json::Value;

#[test]
fn load_answers_pings_while_it_opens_connections_and_while_it_waits() {
    let settings = [
        ("POSTERN_PING_INTERVAL", "20ms"),
        ("POSTERN_PONG_TIMEOUT", "500ms"),
        ("POSTERN_LOG_MESSAGES", "off"),
    ];
    let check = |runtime| {
        let postern = Postern::start_with_control(runtime, &settings);
        let output = Command::new(Binary::Load.path())
            .arg(postern.address().to_string())
            .args(["--connections", "400", "--size", "60000", "--idle", "2", "--seconds", "0"])
            .output()
            .expect("load starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{runtime}: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["connections"], 400, "{runtime}: {report}");
        assert_eq!(postern.count("code: 4408"), 0, "{runtime}");
        let pongs = postern.metric("postern_pong_rtt_seconds_count").expect("a metric");
        assert!(pongs > 800.0, "{runtime}: {pongs}");
    };
    // Most of the time is spent waiting, so both binaries run at the same time.
    thread::scope(|scope| {
        let both = Runtime::BOTH.map(|runtime| scope.spawn(move || check(runtime)));
        both.into_iter().for_each(|one| one.join().expect("the load ends without an error"));
    });
}

/// 100 clients in one room, on two workers where there are several: all receive everything once, in order.
#[test]
fn no_message_of_a_room_is_lost_doubled_or_out_of_order() {
    let namespaces = r#"
        [without_namespace]
        allow_subscribe_for_client = true
        allow_publish_for_client = true
        history_size = 100
        history_ttl = "1m"
        force_recovery = true
    "#;
    for runtime in Runtime::BOTH {
        let mut settings = vec![("POSTERN_LOG_MESSAGES", "off")];
        settings.extend((runtime == Runtime::Mio).then_some(("POSTERN_WORKERS", "2")));
        let postern = Postern::with(runtime, &settings).channels(namespaces).control().start();
        let output = Command::new(Binary::Talk.path())
            .arg(postern.address().to_string())
            .args(["--clients", "100", "--count", "20", "--pipeline", "2"])
            .output()
            .expect("talk starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{runtime}: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["deliveries"], 200_000, "{runtime}: {report}");
        assert_eq!(postern.metric("postern_deliveries_total"), Some(200_000.0), "{runtime}");
        assert_eq!(postern.metric("postern_inbox_overflows_total"), Some(0.0), "{runtime}");
    }
}
