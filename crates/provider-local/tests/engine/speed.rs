//! Figures, printed. Only a wide margin is asserted, because test machines are shared.

use std::time::Instant;

use penstock_domain::Content;

use crate::ask::{ask, chat, completion, greedy, local};

/// Processor time of this process in seconds; on a shared machine it says more than the clock. Linux only.
fn processor() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// Tokens per second of the clock, and of processor time.
async fn rate(work: impl Future<Output = f64>) -> (f64, Option<f64>) {
    let (begun, used) = (Instant::now(), processor());
    let tokens = work.await;
    let used = processor().zip(used).map(|(after, before)| tokens / (after - before).max(0.01));
    (tokens / begun.elapsed().as_secs_f64(), used)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_at_once_are_faster_than_one_after_another() {
    let provider = local();
    let one = async |text: &str| {
        ask(&provider, Content::Chat(chat(text, greedy(64)))).await.unwrap().usage.output as f64
    };
    one("Warm up, please.").await;
    let alone = rate(one("Tell me a story about a fox.")).await;
    let stories = ["a dog", "a cat", "a hen", "an owl"].map(|who| format!("Tell me a story about {who}."));
    let all = futures_util::future::join_all(stories.iter().map(|story| one(story)));
    let together = rate(async { all.await.iter().sum() }).await;
    let long = completion(&"The river runs past the mill and the old gate. ".repeat(90), greedy(1));
    let prompt = rate(async { ask(&provider, long).await.unwrap().usage.input as f64 }).await;
    println!(
        "tokens per second, by the clock and by processor time where known (other tests may run beside):"
    );
    println!("one answer {alone:.1?}, four at once {together:.1?}, reading a prompt {prompt:.1?}");
    assert!(together.0 > alone.0 * 0.6, "{together:?} against {alone:?}");
}
