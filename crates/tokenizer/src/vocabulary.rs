//! Exact counts, for the models whose vocabulary is public.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::estimate;
use crate::fast::Fast;
use crate::pieces::Cut;

/// A vocabulary and whether somebody has begun to unpack it, and whether that is done.
struct Shelf {
    fast: LazyLock<Fast>,
    begun: AtomicBool,
    ready: AtomicBool,
}

impl Shelf {
    const fn new(unpack: fn() -> Fast) -> Self {
        Self { fast: LazyLock::new(unpack), begun: AtomicBool::new(false), ready: AtomicBool::new(false) }
    }

    fn get(&self) -> &Fast {
        let fast = LazyLock::force(&self.fast);
        self.ready.store(true, Ordering::Release);
        fast
    }
}

static O200K: Shelf = Shelf::new(|| Fast::new(bpe_openai::o200k_base(), Cut::O200k));
static CL100K: Shelf = Shelf::new(|| Fast::new(bpe_openai::cl100k_base(), Cut::Cl100k));

/// A public vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// OpenAI's models from GPT-4o on.
    O200k,
    /// GPT-4, GPT-3.5 Turbo and the text-embedding models.
    Cl100k,
}

/// How many tokens a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The tokens.
    pub tokens: u64,
    /// Whether they were counted with the model's own vocabulary.
    pub exact: bool,
}

/// Beginnings of model names with the vocabulary of OpenAI's `tiktoken` (`tiktoken/model.py`), the longer ones first.
const MODELS: &[(&str, Vocabulary)] = &[
    ("gpt-3.5", Vocabulary::Cl100k),
    ("gpt-35-", Vocabulary::Cl100k),
    ("gpt-4.1", Vocabulary::O200k),
    ("gpt-4.5", Vocabulary::O200k),
    ("gpt-4o", Vocabulary::O200k),
    ("gpt-4", Vocabulary::Cl100k),
    ("gpt-5", Vocabulary::O200k),
    ("gpt-oss-", Vocabulary::O200k),
    ("chatgpt-4o", Vocabulary::O200k),
    ("o1", Vocabulary::O200k),
    ("o3", Vocabulary::O200k),
    ("o4-mini", Vocabulary::O200k),
    ("text-embedding-3-", Vocabulary::Cl100k),
    ("text-embedding-ada-002", Vocabulary::Cl100k),
    ("davinci-002", Vocabulary::Cl100k),
    ("babbage-002", Vocabulary::Cl100k),
];

/// The vocabulary of a model, by the vendor's name of it; `ft:` before it and a vendor's folder (`openai/`) do not matter.
pub fn vocabulary(model: &str) -> Option<Vocabulary> {
    let name = model.strip_prefix("ft:").unwrap_or(model);
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let fits = |known: &str| {
        name.strip_prefix(known).is_some_and(|rest| {
            // `o1` is no beginning of `o100`.
            known.ends_with('-') || rest.is_empty() || !rest.starts_with(|c: char| c.is_ascii_alphanumeric())
        })
    };
    MODELS.iter().find(|(known, _)| fits(known)).map(|(_, vocabulary)| *vocabulary)
}

impl Vocabulary {
    /// Counts in linear time. The first count with a vocabulary unpacks it, which takes some tens of milliseconds and
    /// stays in memory.
    pub fn count(self, text: &str) -> u64 {
        self.shelf().get().count(text)
    }

    /// Whether it is unpacked, so that a count takes no longer than its text asks for. Where it is not, a thread begins to unpack
    /// it, once, and nobody waits for that.
    pub fn is_at_hand(self) -> bool {
        let shelf = self.shelf();
        if shelf.ready.load(Ordering::Acquire) {
            return true;
        }
        if !shelf.begun.swap(true, Ordering::AcqRel) {
            let unpack = move || {
                self.shelf().get();
            };
            // Without a thread the next one to count in earnest unpacks it.
            let _ = std::thread::Builder::new().name("vocabulary".into()).spawn(unpack);
        }
        false
    }

    fn shelf(self) -> &'static Shelf {
        match self {
            Vocabulary::O200k => &O200K,
            Vocabulary::Cl100k => &CL100K,
        }
    }
}

/// Counts a text as a model would: exactly where its vocabulary is public, else by estimate. Of the text alone: what a
/// vendor adds around messages, tools and images is not in it.
pub fn count(model: &str, text: &str) -> Count {
    match vocabulary(model) {
        Some(vocabulary) => Count { tokens: vocabulary.count(text), exact: true },
        None => Count { tokens: estimate(text), exact: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_the_beginning_of_their_name() {
        let cases = [
            ("gpt-4o-mini-2024-07-18", Some(Vocabulary::O200k)),
            ("gpt-4-turbo", Some(Vocabulary::Cl100k)),
            ("gpt-4.1-nano", Some(Vocabulary::O200k)),
            ("gpt-5.2", Some(Vocabulary::O200k)),
            ("openai/gpt-oss-120b", Some(Vocabulary::O200k)),
            ("ft:gpt-4o-2024-08-06:org::id", Some(Vocabulary::O200k)),
            ("o1", Some(Vocabulary::O200k)),
            ("o3-pro", Some(Vocabulary::O200k)),
            ("o100", None),
            ("text-embedding-3-small", Some(Vocabulary::Cl100k)),
            ("claude-sonnet-4-5", None),
            ("llama-3", None),
            ("", None),
        ];
        for (model, expected) in cases {
            assert_eq!(vocabulary(model), expected, "{model}");
        }
    }

    #[test]
    fn known_vocabularies_count_as_openai_does() {
        // From OpenAI's cookbook, "How to count tokens with tiktoken".
        assert_eq!(Vocabulary::Cl100k.count("antidisestablishmentarianism"), 6);
        assert_eq!(Vocabulary::O200k.count("antidisestablishmentarianism"), 6);
        assert_eq!(Vocabulary::Cl100k.count("2 + 2 = 4"), 7);
        assert_eq!(Vocabulary::O200k.count("2 + 2 = 4"), 7);
        assert_eq!(Vocabulary::Cl100k.count("お誕生日おめでとう"), 9);
        assert_eq!(Vocabulary::O200k.count("お誕生日おめでとう"), 8);
    }

    #[test]
    fn other_models_are_estimated_and_say_so() {
        let text = "How many tokens are in this sentence?";
        assert!(count("gpt-4o", text).exact);
        let count = count("claude-opus-4-5", text);
        assert!(!count.exact && count.tokens >= 6 && count.tokens <= 12, "{count:?}");
    }
}
