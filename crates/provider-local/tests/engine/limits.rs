//! What is refused, what waits, what is given up: nothing hangs and everything is said.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use penstock_domain::{Code, Completion, Content, Delta, Media, MediaSource, Part};
use penstock_provider::{Health, Provider};
use penstock_provider_local::{LocalProvider, Settings};

use crate::ask::{ask, cache, chat, completion, greedy, local, open, with};

async fn refused(content: Content) -> (Code, String) {
    let error = ask(&local(), content).await.unwrap_err();
    (error.code(), error.say().to_owned())
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_work_begins() {
    let long = "word ".repeat(9000);
    let begun = Instant::now();
    let (code, said) = refused(Content::Chat(chat(&long, greedy(4)))).await;
    assert_eq!(code, Code::ContextLengthExceeded);
    assert!(said.contains("8192"), "{said}");
    assert_eq!(refused(Content::Chat(chat("hi", greedy(1_000_000)))).await.0, Code::ContextLengthExceeded);
    assert_eq!(refused(Content::Chat(chat("hi", greedy(0)))).await.0, Code::InvalidValue);
    let mut biased = greedy(4);
    biased.logit_bias = vec![(1_000_000, 1.0)];
    assert_eq!(refused(Content::Chat(chat("hi", biased))).await.0, Code::InvalidValue);
    let mut many = greedy(1);
    many.choices = Some(100_000);
    assert_eq!(refused(Content::Chat(chat("hi", many))).await.0, Code::InvalidValue);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn what_the_model_cannot_do_is_said() {
    let mut image = chat("What is this?", greedy(4));
    let media = Media::new(MediaSource::Base64("aGk=".into()), Some("image/png".into()));
    image.messages[0].parts.push(Part::Image(media));
    let error = ask(&local(), Content::Chat(image)).await.unwrap_err();
    assert_eq!((error.code(), error.param()), (Code::Unsupported, Some("messages[0].content")));
    let gap = Content::Completion(Completion {
        prompts: vec!["a".into()],
        suffix: Some("b".into()),
        sampling: greedy(2),
        ..Completion::default()
    });
    assert_eq!(refused(gap).await.0, Code::Unsupported);
    let error = open(&local(), "minilm", Content::Chat(chat("hi", greedy(2)))).await.err().unwrap();
    assert_eq!(error.code(), Code::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_answer_frees_its_place() {
    let provider = with(Settings { parallel: 1, queue: 4, ..Settings::default() });
    ask(&provider, completion("warm", greedy(1))).await.unwrap();
    let mut endless = open(&provider, "smollm2-135m", completion("1, 2, 3,", greedy(2000))).await.unwrap();
    while !matches!(endless.next().await, Some(Delta::Text { .. })) {}
    let waits = {
        let provider = provider.clone();
        tokio::spawn(async move { ask(&provider, completion("hi", greedy(1))).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waits.is_finished(), "one place, two answers");
    let dropped = Instant::now();
    drop(endless);
    waits.await.unwrap().unwrap();
    assert!(dropped.elapsed() < Duration::from_secs(2), "{:?}", dropped.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_can_be_given_up() {
    let provider = with(Settings { parallel: 1, ..Settings::default() });
    ask(&provider, completion("warm", greedy(1))).await.unwrap();
    let long = open(&provider, "smollm2-135m", completion(&"word ".repeat(7900), greedy(4))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let dropped = Instant::now();
    drop(long);
    ask(&provider, completion("hi", greedy(1))).await.unwrap();
    println!("a place was free {:?} after an 8k prompt was dropped", dropped.elapsed());
    // A step takes half a second on a free core; the whole prompt would take most of a minute.
    assert!(dropped.elapsed() < Duration::from_secs(8), "{:?}", dropped.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_said_at_once() {
    let provider = with(Settings { parallel: 1, queue: 1, ..Settings::default() });
    ask(&provider, completion("warm", greedy(1))).await.unwrap();
    let one = open(&provider, "smollm2-135m", completion("1, 2, 3,", greedy(500))).await.unwrap();
    let two = open(&provider, "smollm2-135m", completion("1, 2, 3,", greedy(500))).await.unwrap();
    let error = open(&provider, "smollm2-135m", completion("hi", greedy(1))).await.err().unwrap();
    assert_eq!(error.code(), Code::Overloaded);
    drop((one, two));
    let dropped = Instant::now();
    while let Err(error) = ask(&provider, completion("hi", greedy(1))).await {
        assert_eq!(error.code(), Code::Overloaded);
        assert!(dropped.elapsed() < Duration::from_secs(10), "dropped answers keep their places");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_pauses_answers_and_fails_none() {
    // Room for 512 tokens in all; four answers of about 250 each cannot be there at once.
    let provider =
        with(Settings { context: Some(512), memory: Some(512), parallel: 4, ..Settings::default() });
    let numbers = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,";
    let alone = ask(&provider, completion(numbers, greedy(150))).await.unwrap();
    let together: Vec<_> = (0..4)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { ask(&provider, completion(numbers, greedy(150))).await })
        })
        .collect();
    for answer in together {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.usage.output, 150);
        assert_eq!(answer.texts, alone.texts);
    }
}

#[tokio::test]
async fn missing_and_damaged_models_are_said() {
    let missing = LocalProvider::new(Settings::default(), "nowhere".into());
    let error = ask(&missing, completion("hi", greedy(1))).await.unwrap_err();
    assert_eq!(error.code(), Code::LocalModelUnavailable);
    let Health::Unavailable(said) = missing.health() else { panic!("a missing model is not healthy") };
    assert!(said.contains("run ./scripts/fetch-models smollm2-135m"), "{said}");
    let error = open(&missing, "gpt-9", completion("hi", greedy(1))).await.err().unwrap();
    assert!(error.say().contains("known are"), "{error}");

    let dir = std::env::temp_dir().join(format!("penstock-local-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let damaged = dir.join("damaged.gguf");
    let whole = std::fs::read(cache().join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    for bytes in [b"not a model".as_slice(), &whole[..200], &whole[..2_000_000], &whole[..50_000_000]] {
        std::fs::write(&damaged, bytes).unwrap();
        let provider =
            with(Settings { model: "own".into(), path: Some(damaged.clone()), ..Settings::default() });
        let error = open(&provider, "own", completion("hi", greedy(1))).await.err().unwrap();
        assert_eq!(error.code(), Code::LocalModelUnavailable);
        assert!(error.say().contains("damaged.gguf"), "{error}");
        println!("{} bytes: {}", bytes.len(), error.say());
        assert!(matches!(provider.health(), Health::Unavailable(_)));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn any_gguf_file_can_be_served() {
    let path = cache().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let begun = Instant::now();
    let provider =
        with(Settings { model: "own".into(), path: Some(path), context: Some(256), ..Settings::default() });
    assert!(begun.elapsed() < Duration::from_millis(200), "making a provider must not wait for the model");
    assert_eq!(provider.models()[0], "own");
    let deltas = open(&provider, "own", completion("The capital of France is", greedy(4))).await.unwrap();
    let reply = crate::ask::fold(deltas).await.unwrap();
    assert!(reply.text().contains("Paris"), "{reply:?}");
    assert_eq!(provider.health(), Health::Ready);
    let error = open(&provider, "own", completion(&"word ".repeat(300), greedy(4))).await.err().unwrap();
    assert_eq!(error.code(), Code::ContextLengthExceeded);
}

#[tokio::test]
async fn a_model_that_is_fetched_later_is_found() {
    let dir = std::env::temp_dir().join(format!("penstock-later-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let own = dir.join("later.gguf");
    let provider = with(Settings {
        model: "later".into(),
        path: Some(own.clone()),
        context: Some(128),
        ..Settings::default()
    });
    assert!(open(&provider, "later", completion("hi", greedy(1))).await.is_err());
    std::fs::copy(cache().join("SmolLM2-135M-Instruct.Q4_1.gguf"), dir.join("part")).unwrap();
    std::fs::rename(dir.join("part"), &own).unwrap();
    let begun = Instant::now();
    while provider.health() != Health::Ready {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", provider.health());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    crate::ask::fold(open(&provider, "later", completion("hi", greedy(1))).await.unwrap()).await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
