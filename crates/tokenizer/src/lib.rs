//! How many tokens a text has.
//!
//! What it is: [`count`], exact with OpenAI's own vocabularies; and [`Estimator`], an automaton over bytes with learned
//! weights for everything else: one table look-up per byte, fed piece by piece, in a few bytes of memory.
//!
//! What it promises: linear time for any text, no allocation while estimating, no error and no panic for any bytes. A
//! vocabulary is unpacked when somebody first counts with it and not before: until then it costs room in the program file
//! and no memory.
//!
//! How good the estimate is: learned from and held against `o200k_base` in pieces of about 600 bytes (English chat, mail,
//! questions, code, JSON, documentation; program messages in Czech, German, Spanish, French, Italian, Japanese, Korean,
//! Polish, Portuguese, Russian, Turkish and Chinese). On pieces that were kept out it is off by 3.5 % on average, 95 % of
//! them within 9.3 %. On English texts of sets that it never saw (questions with passages, school mathematics): 4.9 % on
//! average, 95 % within 11.5 %. In scripts that it has not learned (Arabic, Hindi, Thai) expect a quarter and more. Other
//! vendors' vocabularies differ from this one by more than that. Tuning figures, not a benchmark.
//!
//! What the vocabularies cost: 47 MB of the program file; 38 MiB of memory and up to a quarter of a second for the first count
//! with the newer one, 17 MiB and a tenth for the older; 1 MiB for each thread that counts.
//!
//! How fast it counts with `o200k_base`, by `examples/speed` on one of two shared and busy cores, 2026-11-24, in MB/s of processor
//! time: licences in English 97, program text 80, JSON 87, tables of figures 75 (two runs); Hindi 87 (one); below the 50 that are asked
//! for: documentation 38, Arabic 36, emoji 34, Russian 31, and program messages in Japanese 22, Chinese 19, German 12, where words
//! are new and `bpe-openai` has to merge them. `bpe-openai` alone at the same time: 8 to 22.
//!
//! What it refuses to know: who asks, requests, prices. Of JSON it knows only where strings begin and end.

mod estimate;
mod fast;
mod json;
mod letters;
mod pieces;
mod vocabulary;
mod weights;

pub use estimate::{Estimator, estimate};
pub use json::estimate_json;
pub use vocabulary::{Count, Vocabulary, count, vocabulary};

/// For the example that learns the weights; not for anybody else.
#[doc(hidden)]
pub mod learning {
    pub use crate::estimate::{CLASSES, STATES, UNIT, walk};
}
