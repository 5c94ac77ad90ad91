//! The loop that generates: continuous batching on one thread.
//!
//! Each step decodes one batch: the newest token of every running answer, and pieces of the prompts that are still being
//! read. A long prompt is read in pieces so small that the others' next tokens and cancellations are never far away. After
//! the step every answer whose logits are there draws its next token.
//!
//! When the shared memory is full, remembered prefixes go first; then the answer that began last gives its cells up and
//! waits; it is read again when there is room, and its client sees a pause, not an error.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Instant;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use penstock_domain::{Delta, Usage};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::busy::{Busy, stopping};
use super::sequence::{Progress, Prompt, Sequence};
use super::slots::Slots;
use super::{Order, Work, unavailable};
use crate::answer::Scratch;
use crate::journal;
use crate::loaded::{Loaded, backend};
use crate::settings::Settings;

/// How long a step should take at most while others wait for their next token, in seconds.
const OTHERS_WAIT: f64 = 0.1;
/// The same while a prompt is read alone: only its own cancellation waits. Larger steps read a little faster.
const ALONE: f64 = 0.8;
/// Steps that may fail in a row before the engine gives up.
const FAULTS: u32 = 3;

/// A request with answers that are not finished.
struct Job {
    replies: mpsc::Sender<Delta>,
    open: usize,
    usage: Usage,
    places: OwnedSemaphorePermit,
}

struct Worker<'m> {
    loaded: &'m Loaded,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    slots: Slots,
    jobs: HashMap<u64, Job>,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    parallel: usize,
    chunk: usize,
    /// Seconds per prompt token, a moving average.
    pace: f64,
    faults: u32,
    /// An answer had to give its memory back: nobody begins before another one ends.
    full: bool,
    next_job: u64,
    scratch: Scratch,
}

/// Works until the handle is gone.
pub(super) fn run(
    loaded: &Loaded,
    settings: &Settings,
    ready: impl FnOnce(),
    (mut orders, busy): (mpsc::Receiver<Work>, &mut Busy),
) -> Result<(), String> {
    let mut worker = Worker::new(loaded, settings)?;
    ready();
    loop {
        if worker.idle() {
            match busy.apart(|| orders.blocking_recv()) {
                Some(work) => worker.take(work),
                None => return Ok(()),
            }
        }
        if stopping() {
            return Ok(());
        }
        while let Ok(work) = orders.try_recv() {
            worker.take(work);
        }
        worker.drop_abandoned();
        worker.admit();
        worker.step()?;
    }
}

impl<'m> Worker<'m> {
    fn new(loaded: &'m Loaded, settings: &Settings) -> Result<Self, String> {
        let parallel = settings.parallel as usize;
        let chunk = settings.prompt_chunk as usize;
        let memory = settings.memory.unwrap_or(loaded.context.saturating_mul(2)).max(loaded.context);
        let room = u32::try_from(parallel + chunk).map_err(|error| error.to_string())?;
        let threads = i32::try_from(settings.threads).map_err(|error| error.to_string())?;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(memory))
            .with_n_batch(room)
            .with_n_ubatch(room)
            .with_n_seq_max(settings.parallel * 2)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_kv_unified(true)
            .with_no_perf(true);
        let context = loaded.model.new_context(backend()?, params).map_err(|error| {
            format!("no memory for {memory} tokens could be set up: {error}; lower context or memory in the settings")
        })?;
        let partial = !loaded.model.is_recurrent() && !loaded.model.is_hybrid();
        Ok(Self {
            loaded,
            context,
            batch: LlamaBatch::new(parallel + chunk, 1),
            slots: Slots::new(parallel * 2, partial),
            jobs: HashMap::new(),
            waiting: VecDeque::new(),
            running: Vec::with_capacity(parallel),
            parallel,
            chunk,
            pace: 0.008,
            faults: 0,
            full: false,
            next_job: 0,
            scratch: Scratch::default(),
        })
    }

    fn idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    fn take(&mut self, work: Work) {
        let (order, places) = match work {
            Work::Generate(order, places) => (order, places),
            Work::Embed(order, _) => {
                // The provider asks what the model is before it sends; only a fault gets here.
                drop(order.reply.send(Err(unavailable("this model does not embed"))));
                return;
            }
        };
        let Order { prompts, choices, plan, replies } = *order;
        let job = self.next_job;
        self.next_job += 1;
        let mut usage = Usage { cached_input: Some(0), ..Usage::default() };
        let mut open = 0;
        for (index, prompt) in prompts.into_iter().enumerate() {
            usage.input += prompt.len() as u64;
            for choice in 0..choices {
                let number = index as u32 * choices + choice;
                let prompt = Prompt { job, index, leads: choice == 0, tokens: prompt.clone() };
                self.waiting.push_back(Sequence::new(prompt, number, &plan, replies.clone()));
                open += 1;
            }
        }
        self.jobs.insert(job, Job { replies, open, usage, places });
    }

    fn drop_abandoned(&mut self) {
        let gone = |sequence: &Sequence| sequence.abandoned();
        for index in (0..self.running.len()).rev() {
            if gone(&self.running[index]) {
                let sequence = self.running.remove(index);
                self.close(sequence);
            }
        }
        for index in (0..self.waiting.len()).rev() {
            if gone(&self.waiting[index])
                && let Some(sequence) = self.waiting.remove(index)
            {
                self.close(sequence);
            }
        }
    }

    /// Gives waiting answers a place, first come first served. The second answer to a prompt waits until the first one has
    /// read it, and then shares its memory.
    fn admit(&mut self) {
        while self.running.len() < self.parallel && (!self.full || self.running.is_empty()) {
            let reading = |s: &Sequence| {
                s.slot.is_some_and(|slot| self.slots.length(slot) + 1 < s.tokens.len() && s.generated == 0)
            };
            let next = self.waiting.iter().position(|waits| {
                !self
                    .running
                    .iter()
                    .any(|runs| runs.job == waits.job && runs.prompt == waits.prompt && reading(runs))
            });
            let Some(mut sequence) = next.and_then(|index| self.waiting.remove(index)) else { return };
            let Some((slot, kept)) = self.slots.claim(&mut self.context, &sequence.tokens) else {
                self.waiting.push_front(sequence);
                return;
            };
            sequence.slot = Some(slot);
            // What of the prompt was remembered counts once per prompt, as the prompt itself does.
            if !sequence.begun
                && sequence.leads
                && let Some(job) = self.jobs.get_mut(&sequence.job)
            {
                job.usage.cached_input = job.usage.cached_input.map(|sum| sum + kept as u64);
            }
            sequence.begun = true;
            self.running.push(sequence);
        }
    }

    /// Decodes one batch and draws.
    fn step(&mut self) -> Result<(), String> {
        loop {
            if self.running.is_empty() {
                return Ok(());
            }
            let (parts, read) = self.fill()?;
            let begun = Instant::now();
            match self.context.decode(&mut self.batch) {
                Ok(()) => {
                    self.faults = 0;
                    if read > 8 {
                        let now = begun.elapsed().as_secs_f64() / f64::from(self.batch.n_tokens().max(1));
                        self.pace += 0.5 * (now - self.pace);
                    }
                    for (index, count) in parts {
                        let sequence = &self.running[index];
                        if let Some(slot) = sequence.slot {
                            let from = self.slots.length(slot);
                            self.slots.extend(slot, &sequence.tokens[from..from + count]);
                        }
                    }
                    self.draw();
                    return Ok(());
                }
                Err(DecodeError::NoKvCacheSlot) => self.make_room(),
                Err(error) => return self.fail_all(&error),
            }
        }
    }

    /// Puts the newest tokens and pieces of prompts into the batch. Returns how many tokens of which answer went in, and how
    /// many of them belong to prompts.
    fn fill(&mut self) -> Result<(Vec<(usize, usize)>, usize), String> {
        self.batch.clear();
        let missing = |worker: &Self, index: usize| {
            let sequence = &worker.running[index];
            sequence.tokens.len() - sequence.slot.map_or(0, |slot| worker.slots.length(slot))
        };
        let readers = (0..self.running.len()).filter(|index| missing(self, *index) > 1).count();
        let others = self.running.len() > readers;
        let goal = if others { OTHERS_WAIT } else { ALONE };
        let budget = ((goal / self.pace) as usize).clamp(16, self.chunk);
        let share = budget.checked_div(readers).unwrap_or(0).max(8);
        let mut left = budget;
        let mut parts = Vec::with_capacity(self.running.len());
        for index in 0..self.running.len() {
            let missing = missing(self, index);
            let count = match missing {
                0 | 1 => missing,
                _ => missing.min(share).min(left),
            };
            self.running[index].row = None;
            if count == 0 {
                continue;
            }
            if missing > 1 {
                left -= count;
            }
            let sequence = &mut self.running[index];
            let Some(slot) = sequence.slot else { continue };
            let from = self.slots.length(slot);
            for at in from..from + count {
                let last = at + 1 == sequence.tokens.len();
                if last {
                    sequence.row = Some(self.batch.n_tokens());
                }
                self.batch
                    .add(sequence.tokens[at], at as i32, &[slot as i32], last)
                    .map_err(|error| format!("the batch is full: {error}"))?;
            }
            parts.push((index, count));
        }
        Ok((parts, budget - left))
    }

    fn draw(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &mut self.running[index];
            let Some(row) = sequence.row.take() else {
                index += 1;
                continue;
            };
            let logits = self.context.get_logits_ith(row);
            match sequence.advance(self.loaded, logits, &mut self.scratch) {
                Progress::Going => index += 1,
                Progress::Finished | Progress::Abandoned => {
                    let sequence = self.running.remove(index);
                    self.close(sequence);
                }
                Progress::Broken(error) => {
                    let sequence = self.running.remove(index);
                    if let Some(job) = self.jobs.get(&sequence.job) {
                        drop(job.replies.try_send(Delta::Failed(error)));
                    }
                    self.close(sequence);
                }
            }
        }
    }

    /// The memory is full: forgets what is only remembered, else lets the newest answer wait.
    fn make_room(&mut self) {
        journal::flush();
        if self.slots.forget_oldest(&mut self.context) {
            return;
        }
        let Some(mut newest) = self.running.pop() else { return };
        if let Some(slot) = newest.slot.take() {
            self.slots.forget(&mut self.context, slot);
            self.slots.release(slot);
        }
        if self.running.is_empty() {
            // Alone it always fits, because the memory is at least one context long; so this is a fault of the engine.
            if let Some(job) = self.jobs.get(&newest.job) {
                drop(job.replies.try_send(Delta::Failed(unavailable(
                    "the memory of the engine is full; raise memory in its settings",
                ))));
            }
            self.close(newest);
        } else {
            self.waiting.push_front(newest);
            self.full = true;
        }
    }

    /// An answer is over, however it ended.
    fn close(&mut self, mut sequence: Sequence) {
        self.full = false;
        if let Some(slot) = sequence.slot.take() {
            self.slots.release(slot);
        }
        let Some(job) = self.jobs.get_mut(&sequence.job) else { return };
        job.usage.output += u64::from(sequence.generated);
        job.open -= 1;
        if job.open == 0
            && let Some(Job { replies, usage, places, .. }) = self.jobs.remove(&sequence.job)
        {
            // The place first: whoever has the last delta may ask again at once.
            drop(places);
            drop(replies.try_send(Delta::Usage(usage)));
        }
    }

    fn fail_all(&mut self, error: &DecodeError) -> Result<(), String> {
        journal::flush();
        tracing::error!(%error, "a decode step failed; its requests are ended");
        let error =
            unavailable("the engine failed while it decoded; try again").with_source(error.to_string());
        for mut sequence in std::mem::take(&mut self.running) {
            if let Some(slot) = sequence.slot.take() {
                self.slots.forget(&mut self.context, slot);
                self.slots.release(slot);
            }
            if let Some(job) = self.jobs.get(&sequence.job) {
                drop(job.replies.try_send(Delta::Failed(error.clone())));
            }
            self.close(sequence);
        }
        self.faults += 1;
        if self.faults >= FAULTS {
            Err(format!("the engine failed {FAULTS} times in a row; restart the gateway"))
        } else {
            Ok(())
        }
    }
}
