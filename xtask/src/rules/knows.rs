//! Who may know whom: between our crates, and which of them may reach sockets, axum and feature flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::Finding;
use crate::tree::{Tree, short};

/// Ground and floor 2: everybody may know these, except each other where the table says so.
const GROUND: &[&str] = &["domain", "config"];

/// Crate → what it may know besides [`GROUND`]. `ARCHITECTURE.md` has the picture; a new arrow needs a decision record.
const KNOWS: &[(&str, &[&str])] = &[
    ("dialect", &[]),
    ("observe", &[]),
    ("tokenizer", &[]),
    // The guard of connections that others have a say in: for leaves, which open sockets anyway.
    ("egress", &[]),
    // Heads: port, policy, in-memory version. They do not know each other.
    ("identity", &[]),
    ("idempotency", &[]),
    ("admission", &[]),
    ("alert", &[]),
    ("guardrail", &[]),
    ("cache", &[]),
    ("retrieval", &[]),
    ("release", &[]),
    ("routing", &[]),
    ("provider", &[]),
    ("jobs", &[]),
    ("conversation", &[]),
    // The path and what stands above it.
    (
        "flow",
        &[
            "observe",
            "tokenizer",
            "identity",
            "admission",
            "guardrail",
            "cache",
            "retrieval",
            "release",
            "routing",
            "provider",
        ],
    ),
    ("agent", &["flow"]),
    // The route table names scopes (identity); readiness asks providers for their health (provider); stored responses are
    // objects of the API like models (conversation).
    (
        "edge",
        &[
            "flow",
            "agent",
            "jobs",
            "conversation",
            "idempotency",
            "dialect",
            "observe",
            "identity",
            "provider",
        ],
    ),
    (
        "admin",
        &[
            "observe",
            "alert",
            "identity",
            "idempotency",
            "admission",
            "guardrail",
            "cache",
            "retrieval",
            "release",
            "routing",
            "provider",
            "jobs",
        ],
    ),
    ("console", &[]),
    // Leaves: one technology each; they know their own head.
    ("identity-oidc", &["identity", "egress"]),
    ("provider-http", &["provider", "dialect"]),
    ("provider-local", &["provider"]),
    ("provider-mock", &["provider", "dialect"]),
    (
        "store-sql",
        &[
            "identity",
            "idempotency",
            "admission",
            "alert",
            "cache",
            "retrieval",
            "release",
            "jobs",
            "conversation",
            "observe",
        ],
    ),
    ("retrieval-qdrant", &["retrieval"]),
    ("retrieval-milvus", &["retrieval"]),
    ("retrieval-weaviate", &["retrieval"]),
    ("retrieval-pinecone", &["retrieval"]),
    ("retrieval-pgvector", &["retrieval"]),
    ("jobs-amqp", &["jobs"]),
    ("jobs-kafka", &["jobs"]),
    ("jobs-nats", &["jobs"]),
    ("store-redis", &["admission"]),
    ("guardrail-http", &["guardrail"]),
    ("observe-otlp", &["observe"]),
    ("webhook", &["alert", "egress"]),
    (
        "testkit",
        &[
            "dialect",
            "observe",
            "identity",
            "admission",
            "guardrail",
            "cache",
            "retrieval",
            "release",
            "routing",
            "provider",
            "jobs",
        ],
    ),
];

/// What the two crates of the ground may know of each other.
const BELOW: &[(&str, &[&str])] = &[("domain", &[]), ("config", &["domain"])];

/// Crates that open no socket.
const QUIET: &[&str] = &[
    "domain",
    "config",
    "dialect",
    "observe",
    "tokenizer",
    "identity",
    "idempotency",
    "admission",
    "guardrail",
    "cache",
    "retrieval",
    "release",
    "routing",
    "provider",
    "jobs",
    "conversation",
    "alert",
    "flow",
    "agent",
];

/// What opens sockets: HTTP, TLS, SQL, RPC.
const SOCKETS: &[&str] = &[
    "axum",
    "hyper",
    "hyper-util",
    "reqwest",
    "ureq",
    "rustls",
    "tokio-rustls",
    "openssl",
    "native-tls",
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "libsqlite3-sys",
    "tonic",
    "redis",
    "fred",
    "lapin",
    "rdkafka",
    "async-nats",
];

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    if tree.crates().next().is_none() {
        found.push(Finding::new(
            "knows",
            "Cargo.toml",
            "cargo metadata gave nothing",
            "run `cargo metadata --no-deps --offline` and mend what it says",
        ));
    }
    let lock = lock(&fs::read_to_string(tree.root.join("Cargo.lock")).unwrap_or_default());
    for (name, package) in tree.crates() {
        versions(tree, package, found);
        // Tools beside the product (xtask, bench) may know what they like.
        if !manifest(tree, package).starts_with("crates/") {
            continue;
        }
        arrows(name, package, found);
        axum(name, package, found);
        features(name, package, found);
        if QUIET.contains(&name) {
            sockets(name, package, &lock, found);
        }
    }
    for file in tree.rust() {
        let inside = file.path.starts_with("crates/penstock/") || !file.path.starts_with("crates/");
        if !inside && (file.text.contains("cfg(feature") || file.text.contains("cfg!(feature")) {
            found.push(Finding::new(
                "features",
                &file.path,
                "asks for a feature flag",
                "features exist only in crates/penstock: register the plug-in there or leave it out there",
            ));
        }
    }
}

/// A crate's manifest as a path from the root.
fn manifest(tree: &Tree, package: &Value) -> String {
    let path = package.get("manifest_path").and_then(Value::as_str).unwrap_or_default();
    let inside = std::path::Path::new(path).strip_prefix(&tree.root);
    inside.map(|p| p.to_string_lossy().replace('\\', "/")).unwrap_or_default()
}

/// Dependencies of a kind (`None` is normal) by package name.
fn dependencies<'p>(package: &'p Value, kind: Option<&'p str>) -> impl Iterator<Item = &'p str> {
    let all = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
    all.filter(move |d| d.get("kind").and_then(Value::as_str) == kind).filter_map(|d| d.get("name")?.as_str())
}

fn allowed(name: &str) -> Option<BTreeSet<&'static str>> {
    if let Some((_, known)) = BELOW.iter().find(|(n, _)| *n == name) {
        return Some(known.iter().copied().collect());
    }
    let (_, known) = KNOWS.iter().find(|(n, _)| *n == name)?;
    Some(known.iter().chain(GROUND).copied().collect())
}

fn arrows(name: &str, package: &Value, found: &mut Vec<Finding>) {
    if name == "penstock" {
        return;
    }
    let Some(allowed) = allowed(name) else {
        found.push(Finding::new(
            "knows",
            format!("crates/{name}"),
            "is not in the who-knows-whom table",
            "write a decision record, then a row in xtask/src/rules/knows.rs and in ARCHITECTURE.md",
        ));
        return;
    };
    let ours = |d: &&str| d.starts_with("penstock-") || *d == "penstock";
    for known in dependencies(package, None).filter(ours).map(short) {
        if !allowed.contains(known) {
            let list = allowed.iter().copied().collect::<Vec<_>>().join(", ");
            found.push(Finding::new(
                "knows",
                format!("crates/{name}"),
                format!("knows {known}, which is not for it to know"),
                format!("it may know {list}: move the shared word down to domain, or let flow or the binary connect the two"),
            ));
        }
    }
    // Tests may look sideways, never up.
    for known in dependencies(package, Some("dev")).filter(ours).map(short) {
        if name != "edge" && name != "admin" && matches!(known, "penstock" | "edge" | "admin" | "agent") {
            found.push(Finding::new(
                "knows",
                format!("crates/{name}"),
                format!("its tests know {known}, which stands above it"),
                "test it from tests/it of crates/penstock instead",
            ));
        }
    }
}

fn axum(name: &str, package: &Value, found: &mut Vec<Finding>) {
    if matches!(name, "edge" | "admin") {
        return;
    }
    if dependencies(package, None).any(|d| d == "axum" || d.starts_with("axum-")) {
        found.push(Finding::new(
            "axum",
            format!("crates/{name}"),
            "depends on axum",
            "HTTP in and out belongs to edge and admin; a test double serves with hyper",
        ));
    }
}

fn features(name: &str, package: &Value, found: &mut Vec<Finding>) {
    let has = package.get("features").and_then(Value::as_object).is_some_and(|f| !f.is_empty());
    if has && name != "penstock" {
        found.push(Finding::new(
            "features",
            format!("crates/{name}"),
            "has feature flags or optional dependencies",
            "features exist only in crates/penstock, which leaves out whole leaves",
        ));
    }
}

/// Versions stand once, in the workspace table.
fn versions(tree: &Tree, package: &Value, found: &mut Vec<Finding>) {
    let path = manifest(tree, package);
    let Some(file) = tree.file(&path) else { return };
    let mut inside = false;
    for line in file.text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
            continue;
        }
        let own = line.contains("version =") || line.contains("path =") || line.contains("= \"");
        if inside && own && !line.starts_with('#') {
            found.push(Finding::new(
                "versions",
                &path,
                format!(
                    "`{}` gives a version of its own",
                    line.split(['=', '.']).next().unwrap_or_default().trim()
                ),
                "put version and features into [workspace.dependencies] and write `NAME.workspace = true`",
            ));
        }
    }
}

/// Package → what it depends on, from the lock file. For packages from a registry that is normal and build dependencies of
/// every platform and feature in use, so it can name more than one build has, never less.
fn lock(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let name =
            block.lines().find_map(|l| l.strip_prefix("name = ")).unwrap_or_default().trim_matches('"');
        let known =
            block.split_once("dependencies = [").map_or("", |(_, rest)| rest.split(']').next().unwrap_or(""));
        let known = known.lines().filter_map(|line| {
            let word = line.trim().trim_end_matches(',').trim_matches('"');
            word.split(' ').next().filter(|w| !w.is_empty()).map(str::to_owned)
        });
        graph.entry(name.to_owned()).or_default().extend(known);
    }
    graph
}

fn sockets(name: &str, package: &Value, lock: &BTreeMap<String, Vec<String>>, found: &mut Vec<Finding>) {
    // From the manifest's normal dependencies on: the lock file mixes in those of our own tests.
    let mut came: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open: Vec<&str> = Vec::new();
    for first in dependencies(package, None).filter(|d| !d.starts_with("penstock-")) {
        came.insert(first, name);
        open.push(first);
    }
    while let Some(at) = open.pop() {
        if SOCKETS.contains(&at) {
            let mut way = vec![at];
            while let Some(before) = way.last().and_then(|last| came.get(last)).filter(|b| **b != name) {
                way.push(before);
            }
            way.reverse();
            found.push(Finding::new(
                "sockets",
                format!("crates/{name}"),
                format!("can open a socket through {}", way.join(" → ")),
                "heads open no socket: put the technology into a leaf named after the head and the technology",
            ));
            continue;
        }
        for next in lock.get(at).into_iter().flatten() {
            if !came.contains_key(next.as_str()) {
                came.insert(next, at);
                open.push(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(dependencies: &[(&str, Option<&str>)]) -> Value {
        let list: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({ "dependencies": list })
    }

    #[test]
    fn a_head_that_knows_a_head_is_found() {
        let mut found = Vec::new();
        arrows("routing", &package(&[("penstock-domain", None), ("penstock-provider", None)]), &mut found);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("provider"));
    }

    #[test]
    fn a_socket_behind_two_steps_is_found_with_its_way() {
        let text = "[[package]]\nname = \"a\"\ndependencies = [\n \"b 1.0\",\n]\n[[package]]\nname = \"b\"\ndependencies = [\n \"hyper\",\n]\n";
        let mut found = Vec::new();
        sockets("cache", &package(&[("a", None)]), &lock(text), &mut found);
        assert!(found[0].message.ends_with("a → b → hyper"), "{found:?}");
        found.clear();
        sockets("cache", &package(&[("a", Some("dev"))]), &lock(text), &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn the_table_has_no_circle() {
        // Whoever is removed has nothing left above it; what remains stands in a circle.
        let mut left: BTreeMap<&str, BTreeSet<&str>> =
            KNOWS.iter().chain(BELOW).map(|(name, _)| (*name, allowed(name).unwrap())).collect();
        loop {
            let known: BTreeSet<&str> = left.keys().copied().collect();
            let before = left.len();
            left.retain(|_, knows| knows.iter().any(|k| known.contains(k)));
            if left.len() == before {
                break;
            }
        }
        assert!(left.is_empty(), "circle among {:?}", left.keys());
    }
}
