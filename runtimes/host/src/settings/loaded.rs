//! Settings together with where they come from.

use super::model::Settings;
use super::setting::ResolvedSetting;

/// The settings of a process, and where they come from.
#[derive(Debug)]
pub struct LoadedSettings {
    /// The values.
    pub settings: Settings,
    /// The text of each setting and its source, in the order of the table.
    pub(super) texts: Vec<ResolvedSetting>,
    /// Names that `.env` sets twice, each with both lines. The second one applies.
    pub(super) repeated: Vec<(&'static str, usize, usize)>,
    /// Names in the environment that Kubernetes or Docker made for a service. They are not settings.
    pub(super) links: Vec<String>,
}

impl LoadedSettings {
    /// Returns the settings that have an effect in this build, by name, without secrets.
    pub(super) fn shown(&self) -> Vec<(&'static str, String)> {
        let texts = self.texts.iter().filter(|known| known.setting.is_effective());
        texts.map(|known| (known.setting.name, known.setting.show(&known.text).into_owned())).collect()
    }
}
