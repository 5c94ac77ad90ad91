//! Vendors as rows: everything that tells one vendor from another.
//!
//! What it is: one table. A new vendor that speaks a dialect of ours is a new row, or no row at all: kind
//! `openai_compatible` with a `base_url`.
//!
//! What it promises: a row holds facts of the vendor's public documentation; a setting of the operator always wins.
//!
//! What it refuses to know: how a request is sent.

use penstock_dialect::Chats;
use penstock_domain::Dialect;

/// How a vendor wants its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// The key alone, in this header.
    Header(&'static str),
}

/// Whether a key must be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Without one no request can succeed; the environment variable where people keep it.
    Required(&'static str),
    /// The vendor's server may be run without one.
    Optional,
}

/// Where the model's name goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Into the body alone.
    Body,
    /// Into the path, as a deployment, with an `api-version` query; the value is the default version.
    Deployment(&'static str),
}

/// One vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What the operator writes after `kind:`.
    pub kind: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// What it speaks.
    pub dialect: Dialect,
    /// Headers that the vendor demands beside the credential; the operator may set others for them.
    pub headers: &'static [(&'static str, &'static str)],
    /// The address when the operator gives none; `None` makes `base_url` a required setting.
    pub base_url: Option<&'static str>,
    /// The form of an address, for hints.
    pub example: &'static str,
    /// How the credential is sent.
    pub auth: Auth,
    /// Whether a credential is needed.
    pub key: Key,
    /// Where the model's name goes.
    pub naming: Naming,
    /// Path of the chat ability below the address, with its query if it has one; `{model}` in a path stands for the
    /// model's name.
    pub chat: Option<&'static str>,
    /// Path of streamed chats, where it is another one.
    pub chat_stream: Option<&'static str>,
    /// Path of the responses ability below the address, for askers of that dialect.
    pub responses: Option<&'static str>,
    /// Path of the token-counting ability below the address; of OpenAI's, in the dialect of responses.
    pub count_tokens: Option<&'static str>,
    /// Path of the completion ability below the address.
    pub completions: Option<&'static str>,
    /// Path of the embedding ability below the address.
    pub embeddings: Option<&'static str>,
    /// Whether the vendor understands `stream_options`. One that does not refuses the whole request, and reports usage
    /// without being asked.
    pub stream_options: bool,
    /// What the vendor understands of OpenAI's chats, where an asker of another dialect is translated.
    pub chats: Chats,
}

const CHAT: Option<&str> = Some("/chat/completions");
const COMPLETIONS: Option<&str> = Some("/completions");
const EMBEDDINGS: Option<&str> = Some("/embeddings");
const RESPONSES: Option<&str> = Some("/responses");

/// What most rows have in common: everything by bearer key under one address.
const USUAL: Preset = Preset {
    kind: "openai_compatible",
    aliases: &[],
    dialect: Dialect::OpenAi,
    headers: &[],
    base_url: None,
    example: "https://api.example.com/v1",
    auth: Auth::Bearer,
    key: Key::Optional,
    naming: Naming::Body,
    chat: CHAT,
    chat_stream: None,
    responses: None,
    count_tokens: None,
    completions: COMPLETIONS,
    embeddings: EMBEDDINGS,
    stream_options: true,
    chats: Chats::COMPATIBLE,
};

/// Every preset, the generic one last.
pub const PRESETS: &[Preset] = &[
    Preset {
        kind: "openai",
        base_url: Some("https://api.openai.com/v1"),
        example: "https://api.openai.com/v1",
        key: Key::Required("OPENAI_API_KEY"),
        responses: RESPONSES,
        count_tokens: Some("/responses/input_tokens"),
        chats: Chats::OPENAI,
        ..USUAL
    },
    Preset {
        kind: "anthropic",
        dialect: Dialect::Anthropic,
        headers: &[("anthropic-version", "2023-06-01")],
        base_url: Some("https://api.anthropic.com/v1"),
        example: "https://api.anthropic.com/v1",
        auth: Auth::Header("x-api-key"),
        key: Key::Required("ANTHROPIC_API_KEY"),
        chat: Some("/messages"),
        count_tokens: Some("/messages/count_tokens"),
        completions: None,
        embeddings: None,
        ..USUAL
    },
    // The model stands in the path alone, and what is asked of it after a colon.
    Preset {
        kind: "gemini",
        aliases: &["google", "google_ai_studio"],
        dialect: Dialect::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        example: "https://generativelanguage.googleapis.com/v1beta",
        auth: Auth::Header("x-goog-api-key"),
        key: Key::Required("GEMINI_API_KEY"),
        chat: Some("/models/{model}:generateContent"),
        chat_stream: Some("/models/{model}:streamGenerateContent?alt=sse"),
        count_tokens: Some("/models/{model}:countTokens"),
        completions: None,
        embeddings: Some("/models/{model}:batchEmbedContents"),
        ..USUAL
    },
    Preset {
        kind: "azure_openai",
        aliases: &["azure"],
        example: "https://RESOURCE.openai.azure.com",
        auth: Auth::Header("api-key"),
        key: Key::Required("AZURE_OPENAI_API_KEY"),
        // The first stable version whose chat knows stream_options.
        naming: Naming::Deployment("2024-10-21"),
        // At its newer address alone: `https://RESOURCE.openai.azure.com/openai/v1`.
        responses: RESPONSES,
        // A version of the API refuses what is younger than it.
        chats: Chats::DATED,
        ..USUAL
    },
    Preset {
        kind: "vllm",
        base_url: Some("http://127.0.0.1:8000/v1"),
        example: "http://vllm:8000/v1",
        responses: RESPONSES,
        ..USUAL
    },
    Preset {
        kind: "ollama",
        base_url: Some("http://127.0.0.1:11434/v1"),
        example: "http://ollama:11434/v1",
        responses: RESPONSES,
        ..USUAL
    },
    // TGI serves one text-generation model and no embeddings.
    Preset { kind: "tgi", example: "http://tgi:80/v1", embeddings: None, ..USUAL },
    // Its own default, port 8080, is Penstock's as well: no default address, rather than a gateway that calls itself.
    Preset {
        kind: "llamacpp",
        aliases: &["llama.cpp", "llama_cpp"],
        example: "http://llama:8081/v1",
        responses: RESPONSES,
        ..USUAL
    },
    Preset {
        kind: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        example: "https://api.groq.com/openai/v1",
        key: Key::Required("GROQ_API_KEY"),
        // Calls `max_tokens` deprecated, has other tiers, and refuses properties that it does not support.
        chats: Chats::GROQ,
        completions: None,
        embeddings: None,
        ..USUAL
    },
    Preset {
        kind: "mistral",
        base_url: Some("https://api.mistral.ai/v1"),
        example: "https://api.mistral.ai/v1",
        key: Key::Required("MISTRAL_API_KEY"),
        // Its fill-in-the-middle path has another request shape.
        completions: None,
        // Answers 422 `extra_forbidden` to stream_options and sends usage unasked.
        stream_options: false,
        chats: Chats::MISTRAL,
        ..USUAL
    },
    Preset {
        kind: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        example: "https://openrouter.ai/api/v1",
        key: Key::Required("OPENROUTER_API_KEY"),
        responses: RESPONSES,
        ..USUAL
    },
    Preset {
        kind: "together",
        base_url: Some("https://api.together.xyz/v1"),
        example: "https://api.together.xyz/v1",
        key: Key::Required("TOGETHER_API_KEY"),
        ..USUAL
    },
    Preset {
        kind: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        example: "https://api.deepseek.com/v1",
        key: Key::Required("DEEPSEEK_API_KEY"),
        completions: None,
        embeddings: None,
        ..USUAL
    },
    USUAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_aliases_are_unique() {
        let mut names: Vec<&str> =
            PRESETS.iter().flat_map(|p| p.aliases.iter().copied().chain([p.kind])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_default_address_is_a_valid_one() {
        for preset in PRESETS {
            let text = preset.base_url.unwrap_or(preset.example);
            let address =
                crate::address::Address::parse(text).unwrap_or_else(|e| panic!("{}: {e}", preset.kind));
            // A public vendor is reached over TLS, by default.
            assert!(address.is_encrypted() || address.is_private(), "{}", preset.kind);
        }
    }
}
