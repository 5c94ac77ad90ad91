//! The loop that embeds: several texts in one pass, each as its own sequence.
//!
//! Embedding models see all of a text at once, so a text must fit into one pass; short texts share one. Vectors leave
//! normalised to length 1.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use penstock_domain::Error;
use tokio::sync::mpsc;

use super::busy::{Busy, stopping};
use super::{EmbedOrder, Work, unavailable};
use crate::loaded::{Loaded, backend};
use crate::settings::Settings;

/// Most texts in one pass.
const TOGETHER: usize = 32;
/// More tokens than this in one pass only cost: each token looks at all others and ignores those of other texts.
const USUAL_PASS: u32 = 512;

/// Works until the handle is gone.
pub(super) fn run(
    loaded: &Loaded,
    settings: &Settings,
    ready: impl FnOnce(),
    (mut orders, busy): (mpsc::Receiver<Work>, &mut Busy),
) -> Result<(), String> {
    let pass = loaded.context.max(USUAL_PASS);
    let threads = i32::try_from(settings.threads).map_err(|error| error.to_string())?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(pass))
        .with_n_batch(pass)
        .with_n_ubatch(pass)
        .with_n_seq_max(TOGETHER as u32)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_embeddings(true)
        .with_pooling_type(LlamaPoolingType::Unspecified)
        .with_kv_unified(true)
        .with_no_perf(true);
    let context = loaded.model.new_context(backend()?, params).map_err(|error| {
        format!("no memory for {pass} tokens could be set up: {error}; lower context in the settings")
    })?;
    let mut embedder = Embedder { context, batch: LlamaBatch::new(pass as usize, 1), pass: pass as usize };
    ready();
    while let Some(work) = busy.apart(|| orders.blocking_recv()) {
        if stopping() {
            return Ok(());
        }
        match work {
            Work::Embed(order, _places) => embedder.answer(order),
            Work::Generate(order, _places) => {
                // The provider asks what the model is before it sends; only a fault gets here.
                drop(
                    order
                        .replies
                        .try_send(penstock_domain::Delta::Failed(unavailable("this model only embeds"))),
                );
            }
        }
    }
    Ok(())
}

struct Embedder<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    pass: usize,
}

impl Embedder<'_> {
    fn answer(&mut self, order: EmbedOrder) {
        let EmbedOrder { inputs, reply } = order;
        let mut vectors = Vec::with_capacity(inputs.len());
        let mut rest = inputs.as_slice();
        while !rest.is_empty() {
            if reply.is_closed() {
                return;
            }
            let mut tokens = 0;
            let fitting = rest.iter().take(TOGETHER).take_while(|input| {
                tokens += input.len();
                tokens <= self.pass
            });
            // One text alone always goes in; its length was checked when it was asked for.
            let (now, later) = rest.split_at(fitting.count().max(1));
            if let Err(error) = self.pass(now, &mut vectors) {
                drop(reply.send(Err(error)));
                return;
            }
            rest = later;
        }
        drop(reply.send(Ok(vectors)));
    }

    fn pass(&mut self, inputs: &[Vec<LlamaToken>], vectors: &mut Vec<Vec<f32>>) -> Result<(), Error> {
        let fault =
            |error: String| unavailable("the embedding model failed on this input").with_source(error);
        self.batch.clear();
        self.context.clear_kv_cache();
        for (sequence, input) in (0_i32..).zip(inputs) {
            for (place, token) in (0_i32..).zip(input) {
                self.batch.add(*token, place, &[sequence], true).map_err(|error| fault(error.to_string()))?;
            }
        }
        self.context.decode(&mut self.batch).map_err(|error| fault(error.to_string()))?;
        for (sequence, _) in (0_i32..).zip(inputs) {
            let raw = self.context.embeddings_seq_ith(sequence).map_err(|error| fault(error.to_string()))?;
            vectors.push(normalised(raw));
        }
        Ok(())
    }
}

fn normalised(raw: &[f32]) -> Vec<f32> {
    let length = raw.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    raw.iter().map(|x| (f64::from(*x) * factor) as f32).collect()
}
