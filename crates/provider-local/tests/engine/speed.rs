//! Figures, printed. Only a wide margin is asserted, because test machines are shared.

use std::time::Instant;

use penstock_domain::Content;

use crate::ask::{ask, chat, greedy, local};

#[tokio::test(flavor = "multi_thread")]
async fn four_at_once_are_faster_than_one_after_another() {
    let provider = local();
    let one = async |text: &str| {
        ask(&provider, Content::Chat(chat(text, greedy(64)))).await.unwrap().usage.output as f64
    };
    one("Warm up, please.").await;
    let begun = Instant::now();
    let tokens = one("Tell me a story about a fox.").await;
    let alone = tokens / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let stories = ["a dog", "a cat", "a hen", "an owl"].map(|who| format!("Tell me a story about {who}."));
    let tokens: f64 =
        futures_util::future::join_all(stories.iter().map(|story| one(story))).await.iter().sum();
    let together = tokens / begun.elapsed().as_secs_f64();
    println!("one answer {alone:.1} tokens/s, four at once {together:.1} tokens/s");
    assert!(together > alone * 0.6, "{together} against {alone}");
}
