//! The files for TLS to Redis, to RabbitMQ and to NATS.

use std::path::PathBuf;

use super::error::{SettingsError, SettingsErrors};
use super::hints;
use super::model::TlsFiles;
use super::names::{
    AMQP_CA_FILE, AMQP_CERT_FILE, AMQP_KEY_FILE, NATS_CA_FILE, NATS_CERT_FILE, NATS_KEY_FILE, REDIS_CA_FILE,
    REDIS_CERT_FILE, REDIS_KEY_FILE,
};
use super::setting::ResolvedSetting;
use crate::tls::{self, FileError, TlsFile};

/// The settings of the files of a server: the authorities, the certificate and its key.
pub(super) type Names = [&'static str; 3];

/// The settings of Redis.
pub(super) const REDIS: Names = [REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE];

/// The settings of RabbitMQ.
pub(super) const AMQP: Names = [AMQP_CA_FILE, AMQP_CERT_FILE, AMQP_KEY_FILE];

/// The settings of NATS.
pub(super) const NATS: Names = [NATS_CA_FILE, NATS_CERT_FILE, NATS_KEY_FILE];

/// Returns the files of a server. Adds to `errors` if they cannot be used.
pub(super) fn files(chosen: &[ResolvedSetting], names: Names, errors: &mut SettingsErrors) -> TlsFiles {
    let [authorities, certificate, key] = names.map(|name| {
        let text = chosen.iter().find(|chosen| chosen.setting.name == name).map(|chosen| &*chosen.text);
        text.filter(|text| !text.is_empty()).map(PathBuf::from)
    });
    let files = TlsFiles { authorities, certificate, key };
    if files == TlsFiles::default() {
        return files;
    }
    let [authorities, certificate, key] = names;
    let mut refuse = |name: &str, complaint: &str| {
        if let Some(chosen) = chosen.iter().find(|chosen| chosen.setting.name == name) {
            errors.add(SettingsError::value(chosen.setting, &chosen.text, chosen.source, complaint));
        }
    };
    for (one, other, is_alone) in [
        (certificate, key, files.certificate.is_some() && files.key.is_none()),
        (key, certificate, files.key.is_some() && files.certificate.is_none()),
    ] {
        if is_alone {
            refuse(one, &format!("it has no effect without {other}; write both"));
        }
    }
    if let Err((file, error)) = tls::read(&files) {
        let name = match file {
            TlsFile::Authorities => authorities,
            TlsFile::Certificate => certificate,
            TlsFile::Key => key,
        };
        let complaint = match error {
            FileError::Read(error) => format!("cannot read the file: {}", hints::file(&error)),
            FileError::Content(text) => text,
        };
        refuse(name, &complaint);
    }
    files
}
