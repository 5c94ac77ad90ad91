//! The one-time conversion of all-MiniLM-L6-v2 from safetensors to GGUF.
//!
//! The pinned package has the weights as published by the authors; the engine reads GGUF only. The matrices become Q8_0
//! (24 MB, cosine 0.9996 against the original), the WordPiece vocabulary is rewritten the way the engine expects it: words
//! get U+2581 in front, continuations lose their `##`. The result stands beside the source, written whole or not at all.

use std::collections::HashMap;
use std::fs;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ModelError;
use super::gguf::{self, Store, Tensor, Value};
use super::verify::scratch;

/// Changes with the way of converting, so that an older result is not used.
const RESULT: &str = "all-MiniLM-L6-v2.q8.1.gguf";
const LAYERS: usize = 6;
const CONTROL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [usize; 2],
}

struct Source {
    bytes: Vec<u8>,
    entries: HashMap<String, (Vec<u64>, Range<usize>)>,
}

/// The path of the converted file; converts if nobody did before.
pub(super) fn converted(tensors: &Path, words: &Path) -> Result<PathBuf, ModelError> {
    let result = tensors.with_file_name(RESULT);
    if result.is_file() {
        return Ok(result);
    }
    convert(tensors, words, &result)
        .map_err(|why| ModelError::Conversion { path: tensors.to_owned(), why })?;
    tracing::debug!(file = %result.display(), "the embedding model was converted");
    Ok(result)
}

fn convert(tensors: &Path, words: &Path, result: &Path) -> Result<(), String> {
    let source = Source::parse(fs::read(tensors).map_err(|error| error.to_string())?)?;
    let words = fs::read_to_string(words).map_err(|error| error.to_string())?;
    let list = source.tensors()?;
    let (tokens, kinds) = vocabulary(&words);
    let id = |word: &str| {
        let place = words.lines().position(|line| line == word);
        place.map(|place| Value::U32(place as u32)).ok_or_else(|| format!("the vocabulary lacks {word}"))
    };
    let header = [
        ("general.architecture", Value::Text("bert")),
        ("general.name", Value::Text("all-MiniLM-L6-v2")),
        ("general.license", Value::Text("apache-2.0")),
        ("general.file_type", Value::U32(7)),
        ("general.quantization_version", Value::U32(2)),
        ("bert.block_count", Value::U32(LAYERS as u32)),
        ("bert.context_length", Value::U32(512)),
        ("bert.embedding_length", Value::U32(384)),
        ("bert.feed_forward_length", Value::U32(1536)),
        ("bert.attention.head_count", Value::U32(12)),
        ("bert.attention.layer_norm_epsilon", Value::F32(1e-12)),
        ("bert.attention.causal", Value::Bool(false)),
        ("bert.pooling_type", Value::U32(1)),
        ("tokenizer.ggml.model", Value::Text("bert")),
        ("tokenizer.ggml.token_type_count", Value::U32(2)),
        ("tokenizer.ggml.bos_token_id", id("[CLS]")?),
        ("tokenizer.ggml.eos_token_id", id("[SEP]")?),
        ("tokenizer.ggml.cls_token_id", id("[CLS]")?),
        ("tokenizer.ggml.seperator_token_id", id("[SEP]")?),
        ("tokenizer.ggml.unknown_token_id", id("[UNK]")?),
        ("tokenizer.ggml.padding_token_id", id("[PAD]")?),
        ("tokenizer.ggml.mask_token_id", id("[MASK]")?),
        ("tokenizer.ggml.tokens", Value::Texts(&tokens)),
        ("tokenizer.ggml.token_type", Value::I32s(&kinds)),
    ];
    let scratch = scratch(result);
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(fs::File::create(&scratch)?);
        gguf::write(&mut out, &header, &list)?;
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        fs::rename(&scratch, result)
    };
    write().map_err(|error| {
        drop(fs::remove_file(&scratch));
        format!("writing {} failed: {error}", result.display())
    })
}

/// The vocabulary as the engine's WordPiece wants it, and each token's kind (1 normal, 3 control).
fn vocabulary(words: &str) -> (Vec<String>, Vec<i32>) {
    words
        .lines()
        .map(|word| {
            if CONTROL.contains(&word) {
                return (word.to_owned(), 3);
            }
            let rewritten = match word.strip_prefix("##") {
                Some(rest) => rest.to_owned(),
                None => format!("\u{2581}{word}"),
            };
            (rewritten, 1)
        })
        .unzip()
}

impl Source {
    fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let length = bytes.first_chunk::<8>().map(|eight| u64::from_le_bytes(*eight) as usize);
        let start = length.and_then(|length| length.checked_add(8)).filter(|start| *start <= bytes.len());
        let start = start.ok_or("it is cut short")?;
        let mut header: HashMap<String, serde_json::Value> = serde_json::from_slice(&bytes[8..start])
            .map_err(|error| format!("its header is not JSON: {error}"))?;
        header.remove("__metadata__");
        let mut entries = HashMap::new();
        for (name, value) in header {
            let entry: Entry = serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))?;
            let range = start + entry.data_offsets[0]..start + entry.data_offsets[1];
            if entry.dtype == "F32" && range.start <= range.end && range.end <= bytes.len() {
                entries.insert(name, (entry.shape, range));
            }
        }
        Ok(Self { bytes, entries })
    }

    fn tensors(&self) -> Result<Vec<Tensor<'_>>, String> {
        let mut list = Vec::new();
        for (theirs, ours) in [
            ("word_embeddings.weight", "token_embd.weight"),
            ("position_embeddings.weight", "position_embd.weight"),
            ("token_type_embeddings.weight", "token_types.weight"),
            ("LayerNorm.weight", "token_embd_norm.weight"),
            ("LayerNorm.bias", "token_embd_norm.bias"),
        ] {
            list.push(self.tensor(&format!("embeddings.{theirs}"), ours.to_owned())?);
        }
        for layer in 0..LAYERS {
            for (theirs, ours) in [
                ("attention.self.query", "attn_q"),
                ("attention.self.key", "attn_k"),
                ("attention.self.value", "attn_v"),
                ("attention.output.dense", "attn_output"),
                ("attention.output.LayerNorm", "attn_output_norm"),
                ("intermediate.dense", "ffn_up"),
                ("output.dense", "ffn_down"),
                ("output.LayerNorm", "layer_output_norm"),
            ] {
                for part in ["weight", "bias"] {
                    let theirs = format!("encoder.layer.{layer}.{theirs}.{part}");
                    list.push(self.tensor(&theirs, format!("blk.{layer}.{ours}.{part}"))?);
                }
            }
        }
        Ok(list)
    }

    fn tensor(&self, theirs: &str, ours: String) -> Result<Tensor<'_>, String> {
        let (shape, range) =
            self.entries.get(theirs).ok_or_else(|| format!("the tensor {theirs} is missing"))?;
        if shape.iter().product::<u64>() * 4 != range.len() as u64 {
            return Err(format!("the tensor {theirs} does not have the size of its shape"));
        }
        // The engine adds positions and token types row by row and wants them as they are.
        let plain = ours.starts_with("position") || ours.starts_with("token_types");
        let matrix = shape.len() == 2 && shape[1].is_multiple_of(32);
        let store = if matrix && !plain { Store::Q8 } else { Store::F32 };
        Ok(Tensor {
            name: ours,
            shape: shape.iter().rev().copied().collect(),
            store,
            numbers: &self.bytes[range.clone()],
        })
    }
}
