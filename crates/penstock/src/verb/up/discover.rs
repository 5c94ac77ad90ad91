//! What this machine offers: vendor keys in the environment, model servers on loopback, the embedded model.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use penstock_config::{Environment, Found, ProcessEnvironment};
use serde_json::Value;

use crate::client::{Ask, fetch};
use crate::wiring;

/// Vendors by the variable that their own SDKs read.
const VENDORS: [(&str, &str); 8] = [
    ("anthropic", "ANTHROPIC_API_KEY"),
    ("openai", "OPENAI_API_KEY"),
    ("gemini", "GEMINI_API_KEY"),
    ("groq", "GROQ_API_KEY"),
    ("mistral", "MISTRAL_API_KEY"),
    ("openrouter", "OPENROUTER_API_KEY"),
    ("together", "TOGETHER_API_KEY"),
    ("deepseek", "DEEPSEEK_API_KEY"),
];

/// Model servers by their default port.
const SERVERS: [(&str, u16); 2] = [("ollama", 11434), ("vllm", 8000)];

/// A server on this machine answers at once or is not there.
const PATIENCE: Duration = Duration::from_millis(300);

/// Looks at the environment and at the default ports of loopback.
pub(super) async fn find() -> Found {
    let set = |variable: &str| ProcessEnvironment.var(variable).is_some_and(|value| !value.is_empty());
    let keys = VENDORS.iter().filter(|(_, variable)| set(variable));
    let mut servers = Vec::new();
    for (kind, port) in SERVERS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Some(models) = models(address).await {
            servers.push((kind.to_owned(), format!("http://{address}/v1"), models));
        }
    }
    Found {
        keys: keys.map(|(kind, variable)| ((*kind).to_owned(), (*variable).to_owned())).collect(),
        servers,
        local: wiring::has_local(),
    }
}

/// The names that a server lists at `/v1/models`; `None` when it is no model server.
async fn models(address: SocketAddr) -> Option<Vec<String>> {
    let ask = Ask { address, path: "/v1/models", key: None, body: None };
    let (200, text) = fetch(ask, PATIENCE).await.ok()? else { return None };
    let list: Value = serde_json::from_str(&text).ok()?;
    let names = list.get("data")?.as_array()?.iter().filter_map(|model| model["id"].as_str());
    Some(names.map(str::to_owned).take(50).collect())
}
