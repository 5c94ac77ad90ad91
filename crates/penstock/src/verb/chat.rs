//! `penstock chat`: one answer, streamed to the terminal, through the gateway's own API.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::BodyExt;
use penstock_dialect::sse::{Frame, SseDecoder};
use serde_json::{Value, json};

use crate::cli::Chat;
use crate::client::{Ask, fetch, send};
use crate::{Failure, data, terminal};

/// As long as the vendors' own SDKs wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// The largest event that is read.
const MAX_EVENT: usize = 1 << 20;

/// Asks and prints. The answer goes to standard output, everything else to standard error.
pub(crate) fn run(args: &Chat) -> Result<ExitCode, Failure> {
    super::block(chat(args))
}

async fn chat(args: &Chat) -> Result<ExitCode, Failure> {
    let loaded = super::load(&args.file.config).ok();
    let address =
        args.address.or(loaded.as_ref().map(|loaded| loaded.config.server.listen)).ok_or_else(|| {
            format!(
                "no gateway to ask: {} cannot be read; name one with --address HOST:PORT",
                args.file.config.display()
            )
        })?;
    let data_dir =
        loaded.map_or_else(|| Path::new("penstock-data").to_path_buf(), |loaded| loaded.config.data_dir);
    let key = match &args.key {
        Some(key) => key.clone(),
        None => data::admin_key(&data_dir)?.expose().to_owned(),
    };
    let model = match &args.model {
        Some(model) => model.clone(),
        None => first_model(address, &key).await?,
    };
    let body = json!({
        "model": model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": args.text}],
    });
    let ask = Ask { address, path: "/v1/chat/completions", key: Some(&key), body: Some(body.to_string()) };
    let response = send(ask, PATIENCE).await?;
    if !response.status().is_success() {
        let body =
            response.into_body().collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
        return Err(refusal(&body.to_bytes()).into());
    }
    stream(response).await
}

async fn first_model(address: std::net::SocketAddr, key: &str) -> Result<String, Failure> {
    let ask = Ask { address, path: "/v1/models", key: Some(key), body: None };
    let (status, text) = fetch(ask, PATIENCE).await?;
    if status != 200 {
        return Err(refusal(text.as_bytes()).into());
    }
    let list: Value =
        serde_json::from_str(&text).map_err(|error| format!("the list of models cannot be read: {error}"))?;
    let ids: Vec<&str> =
        list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
    ids.iter()
        .find(|id| super::chats(id))
        .map(|id| (*id).to_owned())
        .ok_or_else(|| "this key may use no chat model; name one with --model".into())
}

async fn stream(response: hyper::Response<hyper::body::Incoming>) -> Result<ExitCode, Failure> {
    let mut body = response.into_body();
    let mut decoder = SseDecoder::new(MAX_EVENT);
    let mut done = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Ok(chunk) = frame.into_data() else { continue };
        decoder.push(chunk).map_err(|error| format!("the answer cannot be read: {error}"))?;
        while let Some(frame) = decoder.next() {
            let Frame::Event(event) = frame else { continue };
            let data = event.data;
            if data.as_ref() == b"[DONE]" {
                done = true;
                continue;
            }
            let event: Value =
                serde_json::from_slice(&data).map_err(|error| format!("an event cannot be read: {error}"))?;
            if !event["error"].is_null() {
                terminal::line("");
                return Err(refusal(&data).into());
            }
            if let Some(text) = event["choices"][0]["delta"]["content"].as_str() {
                terminal::piece(text);
            }
            if let Some(usage) = event["usage"].as_object() {
                let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or_default();
                terminal::line("");
                terminal::note(format!(
                    "({} + {} tokens)",
                    count("prompt_tokens"),
                    count("completion_tokens")
                ));
            }
        }
    }
    if done { Ok(ExitCode::SUCCESS) } else { Err("the answer ended before it was complete".into()) }
}

/// The sentence of an error body.
fn refusal(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|value| value["error"]["message"].as_str());
    let code = parsed.as_ref().and_then(|value| value["error"]["code"].as_str()).unwrap_or("unknown");
    format!("{} ({code})", message.unwrap_or("the gateway gave an error that cannot be read"))
}
