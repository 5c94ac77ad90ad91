//! Embeddings and token counts: the two answers that are no text.

use penstock_domain::{Code, Delta, Embedding, EmbeddingInput, Error, Started, Usage};
use serde::{Deserialize, Serialize};

use super::{error, request};
use crate::Encoded;
use crate::openai::error::bad_response;
use crate::request::Lost;

#[derive(Serialize)]
struct Wire<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

/// Writes the body of `models/MODEL:batchEmbedContents`.
///
/// # Errors
/// `unsupported` for inputs of token ids, which mean something to one model only.
pub fn encode_body(embedding: &Embedding, model: &str) -> Result<Encoded, Error> {
    let model = request::resource(model);
    let one = |input: &'_ EmbeddingInput| match input {
        EmbeddingInput::Text(text) => Ok(text.clone()),
        EmbeddingInput::Tokens(_) => {
            let say = "`input` is made of token ids, which mean something to one model only; send text";
            Err(Error::new(Code::Unsupported, say).with_param("input"))
        }
    };
    let texts: Vec<String> = embedding.inputs.iter().map(one).collect::<Result<_, _>>()?;
    let one = |text| One {
        model: &model,
        content: Content { parts: [Part { text }] },
        output_dimensionality: embedding.dimensions,
    };
    let wire = Wire { requests: texts.iter().map(|text| one(text)).collect() };
    Ok(Encoded { body: request::written(&wire)?, dropped: Lost::default().names() })
}

/// The deltas of an answer of `batchEmbedContents`.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for what has no vectors.
pub fn unfold(body: &[u8]) -> Result<Vec<Delta>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        embeddings: Vec<Vector>,
        #[serde(default)]
        usage_metadata: Option<Told>,
    }
    #[derive(Deserialize)]
    struct Vector {
        values: Vec<f32>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        #[serde(default)]
        prompt_token_count: Option<u64>,
    }
    let answer: Answer = read(body)?;
    if answer.embeddings.is_empty() || answer.embeddings.iter().any(|vector| vector.values.is_empty()) {
        return Err(bad_response("has no vectors", body));
    }
    let vectors = answer.embeddings.into_iter().map(|vector| vector.values).collect();
    let mut deltas = vec![Delta::Started(Started::default()), Delta::Vectors(vectors)];
    let input = answer.usage_metadata.and_then(|told| told.prompt_token_count);
    deltas.extend(input.map(|input| Delta::Usage(Usage { input, ..Usage::default() })));
    Ok(deltas)
}

/// The deltas of an answer of `countTokens`.
///
/// # Errors
/// The error that the body carries, mapped as a vendor's; `upstream_bad_response` for what has no count.
pub fn count(body: &[u8]) -> Result<Vec<Delta>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        total_tokens: Option<u64>,
    }
    let answer: Answer = read(body)?;
    let input = answer.total_tokens.ok_or_else(|| bad_response("has no count of tokens", body))?;
    Ok(vec![Delta::Counted { input, estimated: false }])
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    if let Some(error) = error::in_band(body) {
        return Err(error);
    }
    let object = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let read = serde_json::from_slice(body).ok().filter(|_| object);
    read.ok_or_else(|| bad_response("is not what its dialect says", body))
}
