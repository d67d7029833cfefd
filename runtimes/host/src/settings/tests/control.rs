//! Secrets, and the subcommand for probes.

use super::*;

#[test]
fn a_secret_is_never_shown() {
    for name in ["POSTERN_PROXY_SECRET", "POSTERN_API_KEY"] {
        let environment = &[(name, "hunter2-hunter2-hunter2")];
        let settings = Texts { environment, ..Texts::default() }.settings();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let printed = Texts { flags: &["--print-config"], environment, ..Texts::default() }.printed();
        assert!(printed.contains(&format!("{name}=***")), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        for bad in ["hunter2", "hunter2 hunter2 hunter2"] {
            let error = Texts { environment: &[(name, bad)], ..Texts::default() }.error();
            assert!(error.starts_with(&format!("{name}=***: ")) && !error.contains("hunter2"), "{error}");
        }
        let environment = &[(name, "hunter2-hunter2-hunter2"), (&format!("{name}_FILE"), "/dev/null")];
        let error = Texts { environment, ..Texts::default() }.error();
        let expected = format!("{name}_FILE=/dev/null: {name} is set already; leave out one of the two");
        assert_eq!(error, expected);
    }
}

#[test]
fn a_healthcheck_probes_the_address_of_the_same_settings() {
    let asked = |flags: &[&str]| match (Texts { flags, ..Texts::default() }).load() {
        Ok(Outcome::Check(loaded, probe)) => {
            (loaded.settings.control.address.map(|address| address.port()), probe)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&["healthcheck"]), (Some(8081), Probe::Live));
    assert_eq!(asked(&["healthcheck", "--ready"]), (Some(8081), Probe::Ready));
    assert_eq!(asked(&["healthcheck", "--control", "127.0.0.1:1", "--ready"]), (Some(1), Probe::Ready));
    assert_eq!(asked(&["healthcheck", "--control=off"]), (None, Probe::Live));
    let help = Texts { flags: &["healthcheck", "--help"], ..Texts::default() }.printed();
    assert!(help.contains("postern healthcheck [--ready] [OPTIONS]") && help.contains("--ready"), "{help}");
    for (flags, line) in [
        (&["--ready"] as &[&str], "--ready: no such flag; --help lists them"),
        (&["--port=1", "healthcheck"], "healthcheck: must be the first argument"),
        (
            &["healthcheck", "--print-config"],
            "--print-config: not a flag of healthcheck; leave out one of the two",
        ),
    ] {
        assert_eq!(Texts { flags, ..Texts::default() }.error(), line, "{flags:?}");
    }
}
