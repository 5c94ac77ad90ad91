use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::{
    DurationText, Found, MapEnvironment, Registry, SecretText, Settings, Severity, diff, exposure, report,
    schema, starter,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema of these fields matters here")]
struct Acme {
    /// The key.
    api_key: Option<SecretText>,
    /// The address.
    #[serde(default)]
    base_url: Option<String>,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, SecretText>,
    #[serde(default)]
    retries: u8,
    #[serde(default)]
    mode: Mode,
}

#[derive(Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Timeouts {
    connect: Option<DurationText>,
}

#[derive(Debug, Default, PartialEq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Slow.
    #[default]
    Slow,
    /// Fast.
    Fast,
}

impl Settings for Acme {
    const KIND: &'static str = "acme";
    const ALIASES: &[&str] = &["acme_cloud"];
}

fn registry() -> Registry<str, ()> {
    let mut registry = Registry::new();
    registry.register::<Acme>(|settings, ()| match settings.base_url.as_deref() {
        Some("bad") => Err(vec![Problem::error("base_url", "expected http or https")]),
        _ => Ok(std::sync::Arc::from(settings.api_key.map(|k| k.expose().to_owned()).unwrap_or_default())),
    });
    registry.register_absent("local", "rebuild with the feature `local`");
    registry
}

fn kinds() -> KindSchemas {
    KindSchemas { providers: registry().kinds().clone() }
}

fn env() -> MapEnvironment {
    MapEnvironment::default().with_var("ACME_KEY", "sk-verysecretvalue").with_var("MAX", "512")
}

fn load_with(text: &str, env: MapEnvironment) -> Result<Loaded, Vec<Problem>> {
    load(Path::new("penstock.yaml"), &env.with_file("penstock.yaml", text), &kinds())
}

fn good(text: &str) -> Loaded {
    load_with(text, env()).unwrap_or_else(|problems| panic!("{}", report(&problems)))
}

/// The errors and warnings as `line path: message | hint`.
fn problems(text: &str) -> Vec<String> {
    let found = match load_with(text, env()) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let line = |p: &Problem| {
        let at = p.place.as_ref().map_or(0, |place| place.line);
        let hint = p.hint.as_ref().map(|h| format!(" | {h}")).unwrap_or_default();
        format!("{at} {}: {}{hint}", p.path, p.message)
    };
    found.iter().map(line).collect()
}

fn expect(text: &str, wanted: &[&str]) {
    let found = problems(text);
    for wanted in wanted {
        assert!(found.iter().any(|f| f.contains(wanted)), "missing {wanted:?} in {found:#?}");
    }
}

const GOOD: &str = r#"version: 1
server:
  listen: 127.0.0.1:9000
  admin_listen:
  drain: 30s
  max_body: 20MiB
data_dir: ./data
stores: {database: sqlite, shared: memory}
providers:
  one:
    kind: acme
    api_key: "${ACME_KEY}"
    timeouts: {connect: 500ms}
    headers: {x-team: "abc"}
models:
  small: {provider: one, model: tiny, max_output_tokens: "${MAX}", aliases: [little]}
keys:
  - {name: ci, key: "0123456789abcdef", team: support, scopes: ["chat:*", "admin:keys"], models: [little], expires: 2027-01-31}
limits: {requests_per_minute: 60}
log: {format: json, level: debug}
"#;

#[test]
fn a_complete_file_becomes_typed_objects() {
    let loaded = good(GOOD);
    let config = loaded.config;
    assert_eq!(config.server.listen.port(), 9000);
    assert_eq!(config.server.admin_listen, None);
    assert_eq!(config.server.max_body.0, 20 << 20);
    assert_eq!(config.models["small"].max_output_tokens, Some(512));
    assert_eq!(config.keys[0].key.expose(), "0123456789abcdef");
    assert!(config.keys[0].expires.is_some());
    assert_eq!(config.limits.requests_per_minute, Some(60));
    assert_eq!(&*registry().build(&config.providers["one"], &()).unwrap(), "sk-verysecretvalue");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = r#"version: 2
sever: {listen: x}
server:
  listen: localhost:8080
  drain: 30
  max_body: 20 megs
providers:
  one: {kind: acme, api_kye: "sk-oops-in-clear"}
  two: {kind: acmee}
  three: {api_key: x}
  local: {kind: local}
models:
  small: {provider: on, model: tiny, max_output_tokens: 0}
  large: {provider: one}
keys:
  - {name: ci, key: "${MISSING_KEY}", scopes: [chat]}
"#;
    expect(
        text,
        &[
            "1 version: expected 1, found 2",
            "2 sever: unknown setting `sever` | did you mean `server`?",
            "4 server.listen: expected an address such as 127.0.0.1:8080, found `localhost:8080`",
            "5 server.drain: expected a duration such as 30s, found the number 30",
            "6 server.max_body: expected a size such as 20MiB, found `20 megs`",
            "8 providers.one.api_kye: unknown setting `api_kye` | did you mean `api_key`?",
            "9 providers.two.kind: unknown kind `acmee` | did you mean `acme`?",
            "10 providers.three: `kind` is missing | known kinds: acme, acme_cloud, local",
            "11 providers.local.kind: kind `local` is not in this build | rebuild with the feature `local`",
            "13 models.small.provider: there is no provider `on` | did you mean `one`?",
            "13 models.small.max_output_tokens: must be at least 1, found 0",
            "14 models.large.model: `model` is missing",
            "16 keys[0].key: the environment variable `MISSING_KEY` is not set | set it",
            "16 keys[0].scopes[0]: `chat` is not a scope",
        ],
    );
}

#[test]
fn no_secret_reaches_messages_excerpts_debug_or_the_shown_configuration() {
    let text = r#"version: 1
providers:
  one: {kind: acme, api_kye: "sk-in-clear-1", api_key: "sk-in-clear-2", retries: "x"}
  two: {kind: nope, api_key: "sk-in-clear-3"}
  three:
    kind: acme
    api_key:
      nested: sk-in-clear-4
    retries: "${ACME_KEY}"
    headers: {authorization: "Bearer sk-in-clear-5", bad: 5}
    timeouts: {connect: "${ACME_KEY}"}
keys: [{name: a, key: "sk-in-clear-6", nme: x}]
"#;
    let found = load_with(text, env()).unwrap_err();
    let all = format!(
        "{}{found:?}{}",
        report(&found),
        found.iter().map(|p| p.to_json().to_string()).collect::<String>()
    );
    assert!(!all.contains("sk-in-clear"), "{all}");
    assert!(!all.contains("verysecret"), "{all}");

    let loaded = good(&GOOD.replace("x-team: \"abc\"", "x-team: \"sk-in-clear\""));
    let all = format!("{loaded:?}{}", show(&loaded));
    assert!(
        !all.contains("sk-in-clear") && !all.contains("verysecret") && !all.contains("0123456789abcdef"),
        "{all}"
    );
    assert_eq!(show(&loaded)["providers"]["one"]["api_key"], "${ACME_KEY}");
    assert_eq!(show(&loaded)["server"]["keep_alive"], "15s", "defaults are filled in");
    assert_eq!(show(&loaded)["models"]["small"]["max_output_tokens"], "${MAX}");

    let quoted = GOOD
        .replace("provider: one", "provider: \"${ACME_KEY}\"")
        .replace("[little]}", "[little, \"${ACME_KEY}\"]}");
    let all = report(&load_with(&quoted, env()).unwrap_err());
    assert!(all.contains("there is no provider `…`") && !all.contains("verysecret"), "{all}");

    let broken = "version: 1\nproviders:\n  one: {kind: acme, api_key: \"sk-in-clear-7\n";
    let all = report(&load_with(broken, env()).unwrap_err());
    assert!(!all.contains("sk-in-clear"), "{all}");
}

#[test]
fn a_problem_prints_like_a_compiler_error() {
    let found = load_with("version: 1\nserver:\n  drian: 30s\n", env()).unwrap_err();
    insta::assert_snapshot!(found.iter().find(|p| p.is_error()).unwrap(), @r"
    error: unknown setting `drian`
     --> penstock.yaml:3:3 (server.drian)
      |
    3 |   drian: …
      |   ^^^^^
      = help: did you mean `drain`?
    ");
}

#[test]
fn settings_of_later_versions_are_refused_and_not_ignored() {
    expect(
        "version: 1\nguardrails: {default: {input: [secrets]}}\nmodels: {a: {provider: x, model: m, router: {simple: b}}}\n",
        &[
            "2 guardrails: `guardrails` is not available in this version",
            "3 models.a.router: `router` is not available in this version",
        ],
    );
}

#[test]
fn a_bound_of_answers_that_a_provider_would_not_keep_is_refused() {
    let text = "version: 1\nproviders:\n  one: {kind: acme, limits: {requests_per_minute: 5, max_output_tokens: 9}}\n";
    let found = problems(text).join("\n");
    assert!(
        found.contains("providers.one.limits.max_output_tokens: a provider bounds no single answer"),
        "{found}"
    );
}

#[test]
fn the_addresses_of_stores_are_secrets_and_the_words_are_not() {
    let stores = |database: &str, shared: &str| {
        format!("version: 1\nstores:\n  database: {database}\n  shared: {shared}\n")
    };
    let only = |shown: &serde_json::Value| {
        let mut shown = shown.clone();
        let stores = shown["stores"].as_object_mut().unwrap();
        stores.retain(|name, _| name == "database" || name == "shared");
        shown["stores"].take()
    };
    let shown = |text: &str| only(show(&good(text)));

    assert_eq!(
        shown(&stores("sqlite", "memory")),
        serde_json::json!({"database": "sqlite", "shared": "memory"})
    );
    assert_eq!(good("version: 1\n").config.stores, crate::Stores::default());
    assert_eq!(show(&good("version: 1\n"))["stores"]["database"], "sqlite");

    let text = stores("postgres://u:hunter2@h/d", "rediss://:hunter2@h");
    assert_eq!(shown(&text), serde_json::json!({"database": "…", "shared": "…"}));
    let config = good(&text).config;
    assert!(!format!("{config:?}").contains("hunter2"));
    let crate::Database::Postgres(address) = &config.stores.database else { panic!("not PostgreSQL") };
    assert_eq!(address.expose(), "postgres://u:hunter2@h/d");

    let env = env()
        .with_var("DATABASE_URL", "postgresql://u:hunter2@h/d")
        .with_file("redis", "redis://:hunter2@h\n");
    let loaded = load_with(&stores("${DATABASE_URL}", "file:redis"), env).unwrap();
    assert_eq!(
        only(show(&loaded)),
        serde_json::json!({"database": "${DATABASE_URL}", "shared": "file:redis"})
    );
    assert!(matches!(loaded.config.stores.shared, crate::SharedState::Redis(_)));

    let found = problems(&stores("mysql://u:hunter2@h/d", "hunter2")).join("\n");
    assert!(found.contains(
        "3 stores.database: expected `sqlite` or an address that begins with postgres://, found mysql://"
    ));
    assert!(found.contains(
        "4 stores.shared: expected `memory` or an address that begins with redis://, found another text"
    ));
    assert!(!found.contains("hunter2"), "{found}");
    let excerpts =
        report(&load_with(&stores("mysql://u:hunter2@h/d", "hunter2"), super::tests::env()).unwrap_err());
    assert!(!excerpts.contains("hunter2"), "{excerpts}");
}

#[test]
fn duplicate_keys_in_yaml_are_refused_with_both_lines() {
    let found = load_with("version: 1\nlog: {level: info}\nlog: {level: debug}\n", env()).unwrap_err();
    let duplicate = found.iter().find(|p| p.message.contains("second time")).unwrap();
    assert_eq!(duplicate.place.as_ref().unwrap().line, 3);
    assert_eq!(duplicate.cause.as_deref(), Some("it already has a value in line 2"));
}

#[test]
fn references_take_defaults_escapes_and_files() {
    let text = "version: 1\nlog: {level: \"${LEVEL:-warn}\"}\nproviders:\n  one: {kind: acme, api_key: \"file:secrets/key\", base_url: \"$${ACME_KEY}\"}\n";
    let files = env().with_file("secrets/key", "sk-from-file\n");
    let loaded = load_with(text, files).unwrap();
    assert_eq!(loaded.config.log.level, "warn");
    assert_eq!(loaded.config.providers["one"].value["api_key"], "sk-from-file");
    assert_eq!(loaded.config.providers["one"].value["base_url"], "${ACME_KEY}");
    assert!(loaded.source.files.contains(&"secrets/key".into()));

    expect(text, &["4 providers.one.api_key: the file secrets/key cannot be read"]);
    let open = load_with(text, env().with_open_file("secrets/key", "sk")).unwrap_err();
    assert!(open.iter().any(|p| p.is_error() && p.message.contains("can be read by everybody")), "{open:?}");
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        aliases.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    expect(&aliases, &["more than 20000 values"]);
    expect(&format!("{}{}", "[".repeat(40), "]".repeat(40)), &["nested more than 32 levels"]);
    expect(&"[".repeat(100_000), &["nested too deeply"]);
    expect(&format!("version: 1\n{}: 1\n", "k".repeat(1000)), &["longer than 256 bytes"]);
    expect("version: 1\na: &a [*a]\n", &["alias"]);
    expect("version: 1\n---\nversion: 1\n", &["a second one"]);
    expect("version: 1\nlog: !!python/object {a: b}\n", &["tags"]);
}

#[test]
fn a_factory_problem_gets_path_and_line() {
    let loaded = good(&GOOD.replace("kind: acme", "kind: acme_cloud\n    base_url: bad"));
    let found = registry().build(&loaded.config.providers["one"], &()).unwrap_err();
    assert_eq!(found[0].path, "providers.one.base_url");
    assert_eq!(found[0].place.as_ref().unwrap().line, 12);
}

#[test]
fn names_that_clash_or_lead_nowhere_are_found() {
    expect(
        "version: 1\nproviders: {one: {kind: acme}, spare: {kind: acme}}\nmodels:\n  a: {provider: one, model: m, aliases: [b]}\n  b: {provider: one, model: m}\nkeys:\n  - {name: k, key: \"0123456789abcdef\", scopes: [\"chat:*\"], models: [c]}\n  - {name: k, key: \"0123456789abcdef\"}\n",
        &[
            "4 models.a.aliases[0]: the name `b` already belongs to the model `b`",
            "2 providers.spare: no model uses the provider `spare`",
            "7 keys[0].models[0]: there is no model `c`",
            "8 keys[1].name: `k` is already the name of keys[0]",
            "8 keys[1].key: keys[0] has the same key",
            "8 keys[1]: the key `k` has no scope",
        ],
    );
}

#[test]
fn a_difference_names_what_needs_a_restart() {
    let old = good(GOOD).config;
    let new = good(
        &GOOD
            .replace("9000", "9001")
            .replace("model: tiny", "model: huge")
            .replace("  one:\n", "  two: {kind: acme}\n  one:\n")
            .replace("name: ci", "name: cd"),
    )
    .config;
    let changes: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "server.listen changed (takes effect after a restart)",
            "providers.two added",
            "models.small changed",
            "keys.ci removed",
            "keys.cd added"
        ]
    );
    assert_eq!(
        diff(&old, &good(&format!("\n# moved down\n{GOOD}")).config),
        [],
        "moving a section changes nothing"
    );
}

#[test]
fn the_schema_offers_the_kinds_and_hides_secrets() {
    let schema = schema(&kinds());
    let branches = schema["$defs"]["Provider"]["anyOf"].as_array().unwrap();
    assert_eq!(branches.len(), 1, "an absent kind has no branch");
    assert_eq!(branches[0]["properties"]["kind"]["enum"], serde_json::json!(["acme", "acme_cloud"]));
    assert_eq!(branches[0]["properties"]["api_key"]["writeOnly"], true);
    let text = schema.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#/$defs/") {
        let name = text[at + 16..].split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name} is referred to and missing");
    }
    assert!(!text.contains("x-family"));
}

#[test]
fn the_starter_file_is_accepted_whatever_was_found() {
    let mut registry: Registry<str, ()> = Registry::new();
    for kind in ["openai", "anthropic", "ollama", "local", "mock"] {
        registry.register_kind(kind, schema_of::<Acme>(), |_, ()| Ok("".into()));
    }
    let kinds = KindSchemas { providers: registry.kinds().clone() };
    let found = Found {
        keys: vec![
            ("openai".into(), "OPENAI_API_KEY".into()),
            ("anthropic".into(), "ANTHROPIC_API_KEY".into()),
        ],
        servers: vec![(
            "ollama".into(),
            "http://127.0.0.1:11434/v1".into(),
            vec!["qwen3:8b".into(), "${x}".into()],
        )],
        local: true,
    };
    let env = MapEnvironment::default().with_var("OPENAI_API_KEY", "a").with_var("ANTHROPIC_API_KEY", "b");
    for (found, models) in [(found, 6), (Found::default(), 1)] {
        let text = starter(&found);
        assert!(text.starts_with("# yaml-language-server: $schema=./penstock.schema.json\n"));
        let loaded = load(Path::new("p.yaml"), &env.clone().with_file("p.yaml", text), &kinds);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}", report(&problems)));
        assert_eq!(loaded.config.models.len(), models);
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn a_public_address_without_any_key_is_a_problem() {
    let public = good("version: 1\nserver: {listen: \"0.0.0.0:80\"}\n").config;
    assert_eq!(exposure(&public, 0).map(|p| p.path).as_deref(), Some("server.listen"));
    assert_eq!(exposure(&public, 1), None);
    assert_eq!(exposure(&good("version: 1\n").config, 0), None, "loopback is not public");
}

#[test]
fn warnings_do_not_refuse_the_file() {
    let loaded = good("version: 1\n");
    assert!(loaded.warnings.iter().all(|p| p.severity == Severity::Warning));
    assert!(!loaded.warnings.is_empty());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn yamlish() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("version: 1\n".to_owned()),
            Just("providers:\n".to_owned()),
            Just("  one: {kind: acme, api_key: \"${ACME_KEY}\"}\n".to_owned()),
            Just("keys: [{name: a, key: \"${".to_owned()),
            "[ \\-:{}\\[\\],&*!|>'\"%@`#?\n\ta-z0-9$~<.]{0,12}",
            "\\PC{0,6}",
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_text_never_panics(text in yamlish()) {
            let _ = load_with(&text, env()).map_err(|problems| report(&problems));
        }

        #[test]
        fn a_wrong_kind_of_value_in_a_good_file_is_always_found_in_its_line(pick in 0usize..100) {
            let lines: Vec<&str> = GOOD.lines().collect();
            let single: Vec<usize> = (0..lines.len())
                .filter(|n| lines[*n].split_once(": ").is_some_and(|(key, value)| !key.contains('{') && !value.starts_with('{')))
                .collect();
            let at = single[pick % single.len()];
            let (key, _) = lines[at].split_once(": ").unwrap();
            let wrong = format!("{key}: {{a: [{{b: 1}}]}}");
            let text: Vec<&str> = lines.iter().enumerate().map(|(n, line)| if n == at { &*wrong } else { *line }).collect();
            let found = load_with(&text.join("\n"), env()).expect_err("a map is not a word");
            let on_line = |p: &Problem| p.is_error() && p.place.as_ref().is_some_and(|place| place.line as usize == at + 1);
            prop_assert!(found.iter().any(on_line), "{}", report(&found));
        }

        #[test]
        fn a_misspelt_key_of_a_good_file_is_always_found_in_its_line(pick in 0usize..25, letter in "[q-z]") {
            let at: Vec<usize> = GOOD.match_indices(": ").map(|(at, _)| at).collect();
            let at = at[pick % at.len()];
            // Names that the operator chooses and header names are free; everything else is not.
            let before = &GOOD[..at];
            prop_assume!(!before.ends_with("small") && !before.ends_with("x-team"));
            let text = format!("{before}{letter}{letter}{}", &GOOD[at..]);
            let line = before.matches('\n').count() + 1;
            let found = load_with(&text, env()).expect_err("a misspelt key is refused");
            prop_assert!(
                found.iter().any(|p| p.is_error() && p.place.as_ref().is_some_and(|place| place.line as usize == line)),
                "{}", report(&found)
            );
        }
    }
}
