//! The effect of SIGHUP: it reads the files of secrets and the keys of assertions and tokens again. Connections, listeners
//! and the log stay open.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use postern_channels::ChannelsConfig;
use slog::{Logger, info, warn};

use crate::assertion::Refresh;
use crate::channels::Node;
use crate::channels_file;
use crate::settings::{Plan, SecretFile};

/// Reads secrets and keys again.
#[derive(Clone)]
pub(crate) struct Reload(Arc<Sources>);

struct Sources {
    files: Vec<SecretFile>,
    /// The keys of assertions, and of tokens.
    keys: [Option<Refresh>; 2],
    channels: Option<ChannelsFile>,
    /// Held while the files are read, so that the result of the last request remains.
    turn: Mutex<()>,
    log: Logger,
}

impl Reload {
    /// Creates a reload of the files that the settings name, and of the keys that `keys` fetches, of assertions and of tokens.
    pub(crate) fn new(plan: &Plan, keys: [Option<Refresh>; 2], node: &Arc<Node>, log: &Logger) -> Reload {
        let files = plan.settings.secret_files.clone();
        let has_backend = plan.settings.hooks.is_some();
        let file = plan.settings.channels.file.clone();
        let channels = file.map(|path| ChannelsFile { path, node: node.clone(), has_backend });
        Reload(Arc::new(Sources { files, keys, channels, turn: Mutex::new(()), log: log.clone() }))
    }

    /// Begins to read, on a separate thread, because a file system may be slow. A secret that cannot be read stays as it was,
    /// and the log has the error.
    pub(crate) fn begin(&self) {
        let reload = self.clone();
        let run = move || reload.0.read();
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(run) {
            warn!(self.0.log, # "reload_failed", "SIGHUP: nothing could be read again"; "error" => %error);
        }
    }
}

impl Sources {
    fn read(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = Vec::new();
        for file in &self.files {
            match file.read_again() {
                Ok(()) => read.push(file.setting()),
                Err(error) => {
                    warn!(self.log, # "reload_failed", "SIGHUP: a file cannot be used; the secrets before it stay valid";
                    "setting" => file.setting(), "error" => %error)
                }
            }
        }
        for (keys, setting) in self.keys.iter().zip(["POSTERN_ASSERTION_JWKS", "POSTERN_TOKEN_JWKS"]) {
            if let Some(keys) = keys {
                keys.request();
                read.push(setting);
            }
        }
        if let Some(channels) = &self.channels {
            match channels.read_again() {
                Ok(()) => read.push(CHANNELS_FILE),
                Err(error) => {
                    warn!(self.log, # "reload_failed", "SIGHUP: the channels file cannot be used; the options before it stay valid";
                    "setting" => CHANNELS_FILE, "error" => %error)
                }
            }
        }
        if read.is_empty() {
            info!(self.log, # "reloaded", "SIGHUP: no keys and no secrets were read again");
        } else {
            info!(self.log, # "reloaded", "SIGHUP: keys and secrets are read again"; "settings" => read.join(" "));
        }
    }
}

/// The channels file, and the channels that use its options.
struct ChannelsFile {
    path: PathBuf,
    node: Arc<Node>,
    /// Whether a backend answers hooks.
    has_backend: bool,
}

impl ChannelsFile {
    /// Reads the file. Its options apply to everything that happens afterwards; subscriptions stay.
    fn read_again(&self) -> Result<(), String> {
        let namespaces = channels_file::read_or_first_error(&self.path)?;
        channels_file::check_hooks(&namespaces, self.has_backend)?;
        let config = ChannelsConfig { namespaces, ..ChannelsConfig::clone(&self.node.config()) };
        self.node.set_config(Arc::new(config));
        Ok(())
    }
}

/// The setting that names the channels file.
const CHANNELS_FILE: &str = "POSTERN_CHANNELS_FILE";

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("files", &self.0.files).finish_non_exhaustive()
    }
}
