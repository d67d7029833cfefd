//! The manifests of `deploy/kubernetes`, built by kubectl and judged by the schemas of Kubernetes and by the types of
//! Traefik's resources. No cluster is needed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{provision, workspace};

/// All resources that `kubectl apply -k` would send.
#[derive(Clone, Debug)]
pub struct Manifests(Vec<Value>);

impl Manifests {
    /// Returns the manifests of `deploy/kubernetes`.
    ///
    /// # Panics
    ///
    /// If kubectl cannot be downloaded, or warns of them.
    #[track_caller]
    pub fn shipped() -> Self {
        Self::of(&workspace::path("deploy/kubernetes"))
    }

    /// Returns the manifests with the component `proxy-secret`.
    ///
    /// # Panics
    ///
    /// As [`Manifests::shipped`], or if the line that enables it is missing.
    #[track_caller]
    pub fn with_proxy_secret() -> Self {
        Self::with_component("proxy-secret")
    }

    /// Returns the manifests with a component.
    ///
    /// # Panics
    ///
    /// As [`Manifests::shipped`], or if the line that enables it is missing.
    #[track_caller]
    pub fn with_component(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(workspace::path("deploy/kubernetes"))
            .arg(folder.path())
            .status();
        assert!(copied.expect("a copy").success());
        let path = folder.path().join("kubernetes/kustomization.yaml");
        let text = fs::read_to_string(&path).expect("it is there");
        let (off, on) = (format!("\n# components: [{name}]\n"), format!("\ncomponents: [{name}]\n"));
        assert_eq!(text.matches(&off).count(), 1, "{text}");
        fs::write(&path, text.replace(&off, &on)).expect("it is written");
        Self::of(&folder.path().join("kubernetes"))
    }

    #[track_caller]
    fn of(folder: &Path) -> Self {
        let kubectl = provision::kubectl().expect("kubectl");
        let output = Command::new(kubectl).arg("kustomize").arg(folder).output().expect("kubectl starts");
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{warnings}");
        let text = String::from_utf8(output.stdout).expect("text");
        let manifests: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        assert!(manifests.len() > 5, "{text}");
        Self(manifests)
    }

    /// Returns all manifests.
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Returns the manifest of this kind and name.
    ///
    /// # Panics
    ///
    /// If there is not exactly one.
    #[track_caller]
    pub fn one(&self, kind: &str, name: &str) -> &Value {
        let is_it = |manifest: &&Value| manifest["kind"] == kind && manifest["metadata"]["name"] == name;
        match self.0.iter().filter(is_it).collect::<Vec<_>>()[..] {
            [manifest] => manifest,
            ref found => panic!("{} manifests are a {kind} {name}", found.len()),
        }
    }

    /// Returns only the manifests of this kind.
    pub fn only(mut self, kind: &str) -> Self {
        self.0.retain(|manifest| manifest["kind"] == kind);
        self
    }

    /// Returns the same manifests with another value at one place of one of them.
    ///
    /// # Panics
    ///
    /// If there is no such place.
    #[track_caller]
    pub fn changed(&self, kind: &str, name: &str, place: &str, value: Value) -> Self {
        let mut changed = self.clone();
        let is_it = |manifest: &&mut Value| manifest["kind"] == kind && manifest["metadata"]["name"] == name;
        let manifest = changed.0.iter_mut().find(is_it).expect("a manifest");
        let (parent, key) = place.rsplit_once('/').expect("a place");
        manifest.pointer_mut(parent).unwrap_or_else(|| panic!("{kind} has no {place}"))[key] = value;
        changed
    }

    /// Returns the specification of Postern's pods.
    ///
    /// # Panics
    ///
    /// If there is not exactly one Deployment.
    #[track_caller]
    pub fn pod(&self) -> &Value {
        &self.one("Deployment", "postern")["spec"]["template"]["spec"]
    }

    /// Returns the container of Postern's pods.
    ///
    /// # Panics
    ///
    /// If there is not exactly one.
    #[track_caller]
    pub fn container(&self) -> &Value {
        match self.pod()["containers"].as_array().expect("containers")[..] {
            [ref container] => container,
            ref containers => panic!("{containers:?}"),
        }
    }

    /// Returns the environment of that container, from `envFrom` and `env`.
    ///
    /// # Panics
    ///
    /// If a variable comes from another source than the ConfigMap or the manifest.
    #[track_caller]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let container = self.container();
        let text =
            |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned();
        let mut environment = BTreeMap::new();
        for from in container["envFrom"].as_array().expect("a list") {
            let map = self.one("ConfigMap", &text(&from["configMapRef"]["name"]));
            let data = map["data"].as_object().expect("data");
            environment.extend(data.iter().map(|(name, value)| (name.clone(), text(value))));
        }
        for entry in container["env"].as_array().expect("a list") {
            let (name, value) = (text(&entry["name"]), text(&entry["value"]));
            assert_eq!(environment.insert(name, value), None, "{entry} is set twice");
        }
        environment
    }

    /// Returns all errors that the schemas of this version of Kubernetes and the types of Traefik find. Unknown fields
    /// are errors.
    ///
    /// # Panics
    ///
    /// If they cannot be judged.
    #[track_caller]
    pub fn complaints(&self, version: &str) -> String {
        let is_traefik = |manifest: &&Value| manifest["apiVersion"] == TRAEFIK;
        let (traefik, own): (Vec<_>, Vec<_>) = self.0.iter().partition(is_traefik);
        let mut complaints = String::new();
        if !own.is_empty() {
            complaints.push_str(&complaints_of_kubernetes(&own, version));
        }
        if !traefik.is_empty() {
            complaints.push_str(&complaints_of_traefik(&traefik));
        }
        complaints
    }
}

#[track_caller]
fn complaints_of_kubernetes(manifests: &[&Value], version: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut paths = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        // JSON is YAML.
        let path = folder.path().join(format!("{index}.yaml"));
        fs::write(&path, manifest.to_string()).expect("it is written");
        paths.push(path);
    }
    let output = Command::new("python3")
        .env("PYTHONPATH", provision::kubernetes_schemas().expect("the schemas"))
        .args(["-m", "kubernetes_validate", "--strict", "--kubernetes-version", version])
        .args(paths)
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Without a schema it only warns, so each manifest must be listed as passed.
    let passed = said.lines().filter(|line| line.starts_with("INFO ") && line.contains(" passed "));
    if passed.count() == manifests.len() && output.status.success() { String::new() } else { said }
}

#[track_caller]
fn complaints_of_traefik(manifests: &[&Value]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let modules = provision::traefik_types().expect("the types of Traefik");
    symlink(&modules, folder.path().join("node_modules")).expect("a link");
    let mut typed = format!("import type * as traefik from '{TRAEFIK_TYPES}';\n");
    for (index, manifest) in manifests.iter().enumerate() {
        let kind = manifest["kind"].as_str().expect("a kind");
        typed.push_str(&format!("export const manifest{index}: traefik.I{kind} = {manifest};\n"));
    }
    fs::write(folder.path().join("typed.mts"), typed).expect("it is written");
    let output = Command::new("node")
        .current_dir(folder.path())
        .arg(modules.join("typescript/bin/tsc"))
        .args(["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "typed.mts"])
        .output()
        .expect("node starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

const TRAEFIK: &str = "traefik.io/v1alpha1";
const TRAEFIK_TYPES: &str = "@kubernetes-models/traefik/traefik.io/v1alpha1";
