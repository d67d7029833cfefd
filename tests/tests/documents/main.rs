//! README.md and the other documents: what they tell to run is run, and what they claim is looked up.
//!
//! A *scene* is a test that runs all blocks below one heading of one document, as they stand there; [`SCENES`] lists them.
//! Commands of other headings are in the table of [`elsewhere`], with the reason why they are not run here and with what
//! is checked instead. [`nothing_is_left_out`] finds blocks that have neither, by name and line: whoever writes a new block
//! adds a scene, or a line to that table.
//!
//! A scene takes all blocks of its heading by a pattern (`let [start, talk] = section.blocks()`), so a block that comes
//! or goes below the heading stops it, and one that is taken and not used does not compile without a warning.

mod codes;
mod contributing;
mod deploy;
mod elsewhere;
mod figures;
mod operation;
mod places;
mod readme;
mod security;
mod settings;
mod troubleshooting;

use postern_tests::documents;
use postern_tests::documents::markdown::Block;

/// The blocks below one heading.
struct Section {
    title: String,
    blocks: Vec<Block>,
}

impl Section {
    #[track_caller]
    fn of(document: &str, heading: &str) -> Self {
        let blocks =
            documents::document(document).blocks.into_iter().filter(|block| block.heading == heading);
        Self { title: format!("{document}, `{heading}`"), blocks: blocks.collect() }
    }

    /// All of them, if there are as many as the scene knows.
    #[track_caller]
    fn blocks<const N: usize>(&self) -> &[Block; N] {
        let lines: Vec<_> = self.blocks.iter().map(|block| block.line).collect();
        let count = self.blocks.len();
        <&[Block; N]>::try_from(&self.blocks[..]).unwrap_or_else(|_| {
            panic!("{}: the scene knows {N} blocks, and there are {count}, in lines {lines:?}", self.title)
        })
    }
}

macro_rules! scenes {
    ($($name:ident: $document:literal, $heading:literal => $scene:path;)*) => {
        /// Documents, and the headings whose blocks have a scene.
        const SCENES: &[(&str, &str)] = &[$(($document, $heading)),*];

        mod scene {
            $(
                #[test]
                fn $name() {
                    $scene(&super::Section::of($document, $heading));
                }
            )*
        }
    };
}

scenes! {
    quick_start: "README.md", "Quick start" => crate::readme::quick_start;
    the_whole_chain: "README.md", "The whole chain, without Docker" => crate::readme::the_whole_chain;
    curl: "README.md", "curl" => crate::readme::curl;
    javascript: "README.md", "JavaScript in a browser" => crate::readme::javascript;
    running_it: "README.md", "Running it" => crate::readme::running_it;
    starting: "docs/operation.md", "Starting" => crate::operation::starting;
    probes: "docs/operation.md", "Probes" => crate::operation::probes;
    stopping: "docs/operation.md", "Stopping" => crate::operation::stopping;
    restarts: "docs/operation.md", "Restarts and upgrades" => crate::operation::restarts;
    the_control_port: "docs/operation.md", "The control port" => crate::operation::the_control_port;
    keys: "docs/operation.md", "Keys and secrets" => crate::operation::keys;
    compose: "docs/deploy.md", "Compose" => crate::deploy::compose;
    images: "docs/deploy.md", "Images" => crate::deploy::images;
    systemd: "docs/deploy.md", "systemd" => crate::deploy::systemd;
    kubernetes: "docs/deploy.md", "Kubernetes" => crate::deploy::kubernetes;
    is_postern_running: "docs/troubleshooting.md", "1. Is Postern running?" => crate::troubleshooting::is_postern_running;
    is_identity_running: "docs/troubleshooting.md", "2. Is Identity running?" => crate::troubleshooting::is_identity_running;
    is_the_token_valid: "docs/troubleshooting.md", "3. Is the token valid?" => crate::troubleshooting::is_the_token_valid;
    is_traefik_running: "docs/troubleshooting.md", "4. Is Traefik running, and does it ask Identity?" => crate::troubleshooting::is_traefik_running;
    does_the_gateway_add_the_headers: "docs/troubleshooting.md", "5. Does the gateway add the headers?" => crate::troubleshooting::does_the_gateway_add_the_headers;
    is_the_proxy_trusted: "docs/troubleshooting.md", "6. Is the proxy trusted?" => crate::troubleshooting::is_the_proxy_trusted;
    does_the_origin_fit: "docs/troubleshooting.md", "7. Is the page's origin allowed?" => crate::troubleshooting::does_the_origin_fit;
    does_the_message_come_back: "docs/troubleshooting.md", "8. Does the message come back?" => crate::troubleshooting::does_the_message_come_back;
}

/// Headings whose blocks are pasted by the scenes of other headings.
const PASTED: &[(&str, &str)] = &[("docs/troubleshooting.md", "Before you begin")];

#[test]
fn nothing_is_left_out() {
    let mut left_out = Vec::new();
    for document in documents::all() {
        for block in &document.blocks {
            let place = (document.path.as_str(), block.heading.as_str());
            if SCENES.contains(&place) || PASTED.contains(&place) || block.is(&["text"]) {
                continue;
            }
            left_out.extend(elsewhere::unknown(block));
        }
    }
    assert!(
        left_out.is_empty(),
        "write a scene in tests/tests/documents, or a line with the reason in elsewhere.rs, for\n{}",
        left_out.join("\n")
    );
}

#[test]
fn no_scene_is_without_its_heading() {
    for (path, heading) in SCENES.iter().chain(PASTED) {
        let document = documents::document(path);
        let titles: Vec<_> = document.headings.iter().map(|heading| heading.title.as_str()).collect();
        assert!(titles.contains(heading), "{path} has no `{heading}`; it has {titles:?}");
    }
}
