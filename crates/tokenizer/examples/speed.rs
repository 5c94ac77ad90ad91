//! How fast texts are counted, on one core.
//!
//! `cargo run --release -p penstock-tokenizer --example speed -- FOLDER…`
//!
//! Every file below each folder is a text; each folder has a line of its own, with the megabytes per second of the time that
//! the thread had a processor. Beside it stand `bpe-openai` alone, the estimator, and texts that are written to be slow.
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use penstock_tokenizer::{Vocabulary, estimate};

/// How long each measurement takes.
const LONG: Duration = Duration::from_millis(400);
/// Bytes of a hostile text.
const HOSTILE: usize = 1 << 20;

fn main() {
    for (name, vocabulary) in [("o200k_base", Vocabulary::O200k), ("cl100k_base", Vocabulary::Cl100k)] {
        let before = resident();
        let clock = Instant::now();
        vocabulary.count("");
        let took = clock.elapsed().as_millis();
        let after = resident();
        let [own, file] = [0, 1].map(|n| after[n].saturating_sub(before[n]) >> 20);
        println!(
            "{name}: unpacked in {took} ms; {own} MiB of memory more, and {file} MiB of the program's file"
        );
    }
    for folder in std::env::args().skip(1) {
        let mut texts = Vec::new();
        read(Path::new(&folder), &mut texts);
        show(&folder, &texts);
    }
    for unit in ["a", " ", "!", "aB", "é", "中", "a\u{301}", " \n", "'s"] {
        show(&format!("{unit:?} again and again"), &[unit.repeat(HOSTILE / unit.len())]);
    }
}

fn show(name: &str, texts: &[String]) {
    let bytes: usize = texts.iter().map(String::len).sum();
    let speed = |count: &dyn Fn(&str) -> u64| {
        let round = || black_box(texts.iter().map(|text| count(black_box(text))).sum::<u64>());
        round();
        let (begin, mut rounds) = (busy(), 0);
        while busy() - begin < LONG {
            round();
            rounds += 1;
        }
        (bytes * rounds) as f64 / (busy() - begin).as_secs_f64() / 1e6
    };
    let o200k = speed(&|text| Vocabulary::O200k.count(text));
    let cl100k = speed(&|text| Vocabulary::Cl100k.count(text));
    let alone = speed(&|text| bpe_openai::o200k_base().count(text) as u64);
    let guessed = speed(&estimate);
    println!(
        "{name}: {:.2} MB; o200k_base {o200k:.1} MB/s, cl100k_base {cl100k:.1} MB/s; bpe-openai alone {alone:.1} MB/s; estimate {guessed:.0} MB/s",
        bytes as f64 / 1e6
    );
}

/// The time that this thread has had a processor: what others do meanwhile does not count. The kernel tells it in ticks.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Bytes of memory that this process has for itself, and of files that the kernel can take back; 0 where nobody counts them.
fn resident() -> [usize; 2] {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0)
    };
    [kilobytes("RssAnon:") << 10, kilobytes("RssFile:") << 10]
}

fn read(path: &Path, texts: &mut Vec<String>) {
    if let Ok(folder) = path.read_dir() {
        let mut paths: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().for_each(|path| read(path, texts));
    } else if let Ok(text) = std::fs::read_to_string(path) {
        texts.push(text);
    }
}
