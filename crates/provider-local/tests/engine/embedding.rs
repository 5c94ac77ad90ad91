//! Embeddings: the same vectors as the original model's, in order, normalised, counted.

use penstock_domain::{Code, EmbeddingInput, Error};
use penstock_provider_local::Settings;
use serde_json::Value;

use crate::ask::{Reply, embedding, fold, local, open, with};

async fn embed(inputs: Vec<EmbeddingInput>) -> Result<Reply, Error> {
    fold(open(&local(), "minilm", embedding(inputs)).await?).await
}

fn texts(texts: &[&str]) -> Vec<EmbeddingInput> {
    texts.iter().map(|text| EmbeddingInput::Text((*text).to_owned())).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    dot / (norm(a) * norm(b))
}

#[tokio::test]
async fn vectors_are_those_of_the_original_model() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/minilm.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    let words: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    let reply = embed(texts(&words)).await.unwrap();
    assert_eq!(reply.vectors.len(), cases.len());
    let mut tokens = 0;
    for (case, vector) in cases.iter().zip(&reply.vectors) {
        let expected: Vec<f32> =
            case["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let likeness = cosine(vector, &expected);
        assert!(likeness > 0.999, "{likeness} for {}", case["text"]);
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4);
        tokens += case["tokens"].as_u64().unwrap();
    }
    assert_eq!(reply.usage.input, tokens);
}

#[tokio::test]
async fn batches_keep_their_order_and_meaning() {
    let words: Vec<String> =
        (0..90).map(|n| format!("sentence number {n} about {}", ["cats", "ships", "money"][n % 3])).collect();
    let many = embed(words.iter().map(|text| EmbeddingInput::Text(text.clone())).collect()).await.unwrap();
    assert_eq!(many.vectors.len(), 90);
    for index in [0, 31, 32, 89] {
        let alone = embed(texts(&[&words[index]])).await.unwrap();
        let likeness = cosine(&alone.vectors[0], &many.vectors[index]);
        assert!(likeness > 0.9995, "{likeness} for {index}");
    }
    let near =
        embed(texts(&["a dog plays", "a puppy is playing", "interest rates rise"])).await.unwrap().vectors;
    assert!(cosine(&near[0], &near[1]) > cosine(&near[0], &near[2]) + 0.3);
}

#[tokio::test]
async fn tokens_are_inputs_too() {
    // [CLS] hello world [SEP]
    let ids = embed(vec![EmbeddingInput::Tokens(vec![101, 7592, 2088, 102])]).await.unwrap();
    let text = embed(texts(&["hello world"])).await.unwrap();
    assert!(cosine(&ids.vectors[0], &text.vectors[0]) > 0.9999);
    assert_eq!((ids.usage.input, text.usage.input), (4, 4));
}

#[tokio::test]
async fn inputs_that_cannot_be_embedded_are_refused() {
    let code = async |inputs| embed(inputs).await.unwrap_err().code();
    assert_eq!(code(texts(&[&"word ".repeat(600)])).await, Code::ContextLengthExceeded);
    assert_eq!(code(Vec::new()).await, Code::InvalidValue);
    assert_eq!(code(vec![EmbeddingInput::Tokens(vec![40_000_000])]).await, Code::InvalidValue);
    assert_eq!(code(vec![EmbeddingInput::Tokens(Vec::new())]).await, Code::InvalidValue);
    assert_eq!(code(vec![EmbeddingInput::Text("a".into()); 3000]).await, Code::InvalidValue);
    let error = open(&local(), "smollm2-135m", embedding(texts(&["hi"]))).await.err().unwrap();
    assert_eq!(error.code(), Code::Unsupported);
}

#[tokio::test]
async fn the_embedding_model_can_be_the_first_one() {
    let provider = with(Settings { model: "minilm".into(), ..Settings::default() });
    let reply = fold(open(&provider, "minilm", embedding(texts(&["hi"]))).await.unwrap()).await.unwrap();
    assert_eq!(reply.vectors[0].len(), 384);
}
