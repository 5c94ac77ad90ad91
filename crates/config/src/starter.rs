//! The file that `penstock up` writes when there is none.

use std::fmt::Write;

/// What `up` found on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Vendors whose API key is in the environment: kind and variable, such as `("openai", "OPENAI_API_KEY")`.
    pub keys: Vec<(String, String)>,
    /// Model servers that answer on this machine: kind, base URL, names of their models.
    pub servers: Vec<(String, String, Vec<String>)>,
    /// Whether the embedded model is in this build and its file is there.
    pub local: bool,
}

/// A well-known model per vendor, so that the first request needs no look into the vendor's list.
const FIRST_MODELS: &[(&str, &str)] = &[
    ("anthropic", "claude-sonnet-4-5"),
    ("deepseek", "deepseek-chat"),
    ("gemini", "gemini-2.5-flash"),
    ("groq", "llama-3.3-70b-versatile"),
    ("mistral", "mistral-small-latest"),
    ("openai", "gpt-5-mini"),
    ("openrouter", "openrouter/auto"),
];

/// A commented configuration that uses everything that was found. Its first line lets editors complete and check it.
/// With nothing found it has a scripted provider, so that the first request is answered anyway.
pub fn starter(found: &Found) -> String {
    let mut providers = String::new();
    let mut models = String::new();
    for (kind, variable) in &found.keys {
        let _ = writeln!(providers, "  {kind}: {{kind: {kind}, api_key: \"${{{variable}}}\"}}");
        if let Some((_, model)) = FIRST_MODELS.iter().find(|(k, _)| k == kind) {
            let _ = writeln!(models, "  {model}: {{provider: {kind}, model: {model}}}");
        } else {
            let _ = writeln!(models, "  # NAME: {{provider: {kind}, model: …}}");
        }
    }
    for (kind, url, names) in &found.servers {
        let _ = writeln!(providers, "  {kind}: {{kind: {kind}, base_url: {}}}", quote(url));
        for name in names.iter().take(20) {
            let name = quote(name);
            let _ = writeln!(models, "  {name}: {{provider: {kind}, model: {name}}}");
        }
    }
    if found.local {
        providers
            .push_str("  local: {kind: local}          # the embedded model: nothing leaves this machine\n");
        models.push_str("  smollm2-135m: {provider: local, model: smollm2-135m}\n");
        models.push_str("  minilm: {provider: local, model: minilm}   # embeddings\n");
    }
    if providers.is_empty() {
        providers.push_str(
            "  mock: {kind: mock}            # scripted answers, to try everything without a vendor\n",
        );
        models.push_str("  mock: {provider: mock, model: mock}\n");
    }
    format!(
        "# yaml-language-server: $schema=./penstock.schema.json\n\
         # Written by `penstock up`; yours to edit. `penstock check` finds mistakes, a running gateway reloads it on save.\n\
         # Secrets come from the environment (${{NAME}}) or from a file (file:PATH), never from here.\n\
         version: 1\n\
         \n\
         server:\n\
         \x20 listen: 127.0.0.1:8080        # 0.0.0.0:8080 serves other machines too\n\
         \x20 # drain: 30s                  # how long streams may finish after SIGTERM\n\
         \x20 # max_body: 20MiB\n\
         \n\
         data_dir: ./penstock-data       # keys and records\n\
         \n\
         providers:                      # where answers come from\n\
         {providers}\n\
         models:                         # the names that clients ask for\n\
         {models}\n\
         # keys:                         # more keys: `penstock keys create --name NAME --scope 'chat:*'`, or here\n\
         #   - {{name: ci, key: \"${{CI_KEY}}\", scopes: [\"chat:*\"], limits: {{requests_per_minute: 60}}}}\n"
    )
}

/// Text as a YAML word, quoted where it must be: in a flow map that is nearly everywhere.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let wordy = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain);
    if wordy && !matches!(text, "true" | "false" | "null") {
        return text.to_owned();
    }
    // JSON strings are YAML strings.
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}
