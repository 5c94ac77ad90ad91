//! From a model's name to a file whose every byte is known.
//!
//! What it is: the catalogue of the two pinned models, the search in the per-user cache, the checksum with its mark.
//!
//! What it promises: a catalogue file is never opened before its sha256 was right, and is hashed only once per file, not
//! once per start. A missing file is a sentence that says which command brings it.
//!
//! What it refuses to know: downloads (`scripts/fetch-models` does those) and the environment; the caller says where the
//! cache is.

mod gguf;
mod minilm;
mod verify;

use std::path::{Path, PathBuf};

pub(crate) use gguf::Peek;

/// What a catalogue model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Chat and completions.
    Generate,
    /// Embeddings.
    Embed,
}

/// One pinned file.
struct Pinned {
    path: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const SMOLLM2: Pinned = Pinned {
    path: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};
const MINILM_TENSORS: Pinned = Pinned {
    path: "all-MiniLM-L6-v2/model.safetensors",
    bytes: 90_868_376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};
const MINILM_WORDS: Pinned = Pinned {
    path: "all-MiniLM-L6-v2/vocab.txt",
    bytes: 231_508,
    sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
};

/// The names that need no `path`.
pub const CATALOGUE: [&str; 2] = ["smollm2-135m", "minilm"];

/// What a catalogue name is for, or `None` for a name that is not in the catalogue.
pub(crate) fn purpose(name: &str) -> Option<Purpose> {
    match name {
        "smollm2-135m" => Some(Purpose::Generate),
        "minilm" => Some(Purpose::Embed),
        _ => None,
    }
}

/// Why there is no file to load. The text is for operators and says how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("the model {name} is not installed: {path} is missing; run ./scripts/fetch-models {name}")]
    Missing { name: String, path: PathBuf },
    #[error(
        "{path} is not the pinned file of {name} (expected sha256 {expected}, found {found}); delete it and run ./scripts/fetch-models {name}"
    )]
    Foreign { name: String, path: PathBuf, expected: &'static str, found: String },
    #[error(
        "there is no model {name}: known are smollm2-135m and minilm; set path to serve a GGUF file of your own"
    )]
    Unknown { name: String },
    #[error("{path} cannot be read: {source}; check that the file exists and that the gateway may read it")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a usable GGUF file: {why}; point path at a model in GGUF format")]
    NotGguf { path: PathBuf, why: String },
    #[error("{path} cannot be converted: {why}; delete its folder and run ./scripts/fetch-models minilm")]
    Conversion { path: PathBuf, why: String },
}

/// The folder of model files: `PENSTOCK_CACHE`, else `XDG_CACHE_HOME/penstock`, else `~/.cache/penstock`, and `models`
/// below it, exactly as `scripts/fetch-models` decides. The caller says how to look a variable up.
pub fn cache_dir(lookup: impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let penstock = set("PENSTOCK_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("penstock")))
        .or_else(|| set("HOME").map(|home| home.join(".cache").join("penstock")))
        .unwrap_or_else(|| PathBuf::from(".cache"));
    penstock.join("models")
}

/// Whether the files of a model seem to be there: existence and size only, cheap enough for a health check.
pub(crate) fn glance(cache: &Path, name: &str, own: Option<&Path>) -> Result<(), ModelError> {
    if let Some(path) = own {
        let source = match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => return Ok(()),
            Ok(_) => std::io::Error::other("it is not a file"),
            Err(error) => error,
        };
        return Err(ModelError::Unreadable { path: path.to_owned(), source });
    }
    for pinned in pins(name)? {
        let path = cache.join(pinned.path);
        if !std::fs::metadata(&path).is_ok_and(|meta| meta.len() == pinned.bytes) {
            return Err(ModelError::Missing { name: name.to_owned(), path });
        }
    }
    Ok(())
}

/// The GGUF file to load: verified, and converted first where the model is not published as GGUF. Reads up to 100 MB
/// the first time, so it belongs on the engine's own thread.
pub(crate) fn resolve(cache: &Path, name: &str, own: Option<&Path>) -> Result<PathBuf, ModelError> {
    glance(cache, name, own)?;
    if let Some(path) = own {
        return Ok(path.to_owned());
    }
    for pinned in pins(name)? {
        verify::check(name, &cache.join(pinned.path), pinned)?;
    }
    match purpose(name) {
        Some(Purpose::Embed) => {
            minilm::converted(&cache.join(MINILM_TENSORS.path), &cache.join(MINILM_WORDS.path))
        }
        _ => Ok(cache.join(SMOLLM2.path)),
    }
}

fn pins(name: &str) -> Result<&'static [Pinned], ModelError> {
    static CHAT: [Pinned; 1] = [SMOLLM2];
    static EMBED: [Pinned; 2] = [MINILM_TENSORS, MINILM_WORDS];
    match purpose(name) {
        Some(Purpose::Generate) => Ok(&CHAT),
        Some(Purpose::Embed) => Ok(&EMBED),
        None => Err(ModelError::Unknown { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_script_puts_it() {
        let with = |pairs: &'static [(&str, &str)]| {
            cache_dir(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[("PENSTOCK_CACHE", "/c"), ("HOME", "/h")]), PathBuf::from("/c/models"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), PathBuf::from("/x/penstock/models"));
        assert_eq!(
            with(&[("PENSTOCK_CACHE", ""), ("HOME", "/h")]),
            PathBuf::from("/h/.cache/penstock/models")
        );
    }

    #[test]
    fn a_missing_model_says_how_to_get_it() {
        let said = resolve(Path::new("/nowhere"), "minilm", None).unwrap_err().to_string();
        assert!(said.contains("run ./scripts/fetch-models minilm"), "{said}");
        let said = resolve(Path::new("/nowhere"), "gpt-9", None).unwrap_err().to_string();
        assert!(said.contains("known are smollm2-135m and minilm"), "{said}");
    }
}
