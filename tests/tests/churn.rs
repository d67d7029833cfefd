//! Connections that end in every way, some thousands per second, leak no resources in either binary.
//!
//! `benches/churn` does the same a million times, with released binaries.

use std::process::Command;
use std::thread;

use postern_tests::binaries::Binary;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::settings_in;

#[test]
fn connections_that_have_ended_leave_nothing_behind() {
    let settings = settings_in("benches/churn.env");
    let key = settings.iter().find(|(name, _)| *name == "POSTERN_API_KEY").expect("a key").1;
    let check = |runtime| {
        let mut postern = Postern::start_with_control(runtime, &settings);
        let output = Command::new(Binary::Churn.path())
            .arg(postern.address().to_string())
            .args(["--control", &postern.control().to_string(), "--api-key", key])
            .args(["--pid", &postern.id().to_string()])
            .args(["--seconds", "3", "--at-once", "64"])
            .output()
            .expect("churn starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{runtime}: {}", String::from_utf8_lossy(&said));
        assert!(postern.terminate().success(), "{runtime}");
    };
    // Most of the time is spent in time-outs, so both binaries run at the same time.
    thread::scope(|scope| {
        let both = Runtime::BOTH.map(|runtime| scope.spawn(move || check(runtime)));
        both.into_iter().for_each(|one| one.join().expect("no resources are leaked"));
    });
}
