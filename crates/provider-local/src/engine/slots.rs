//! Which tokens lie in the key-value memory, under which sequence number.
//!
//! The memory is one pool that all sequences share (llama.cpp's unified cache): its size is the total over all sequences,
//! and a cell can belong to several sequences at once. So a prefix that two requests have in common is stored once, and
//! giving it to another sequence costs no copy. There are more numbers than requests run at once; the others remember the
//! prompts and answers of finished requests until their cells are needed.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::token::LlamaToken;

/// The contents of one sequence number.
#[derive(Debug, Default)]
struct Slot {
    tokens: Vec<LlamaToken>,
    busy: bool,
    used: u64,
}

/// The book of all sequence numbers.
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
    /// Whether a part of a sequence can be kept; recurrent models cannot.
    partial: bool,
}

impl Slots {
    pub(super) fn new(count: usize, partial: bool) -> Self {
        Self { slots: (0..count).map(|_| Slot::default()).collect(), clock: 0, partial }
    }

    /// How many tokens of the sequence are in memory.
    pub(super) fn length(&self, slot: usize) -> usize {
        self.slots[slot].tokens.len()
    }

    /// Notes that tokens were decoded.
    pub(super) fn extend(&mut self, slot: usize, tokens: &[LlamaToken]) {
        self.slots[slot].tokens.extend_from_slice(tokens);
    }

    /// Takes a number for a request. Returns it with the count of leading tokens that are in memory already; at least the
    /// last token of a prompt must be decoded again, because its logits are not kept.
    pub(super) fn claim(
        &mut self,
        context: &mut LlamaContext<'_>,
        tokens: &[LlamaToken],
    ) -> Option<(usize, usize)> {
        self.clock += 1;
        let most = tokens.len().saturating_sub(1);
        let common =
            |slot: &Slot| slot.tokens.iter().zip(tokens).take(most).take_while(|(a, b)| a == b).count();
        let (source, shared) = self
            .slots
            .iter()
            .enumerate()
            .map(|(index, slot)| (index, common(slot)))
            .max_by_key(|(index, shared)| (*shared, !self.slots[*index].busy))
            .filter(|_| self.partial)
            .unwrap_or((0, 0));
        let oldest = self
            .idle()
            .min_by_key(|index| (self.slots[*index].tokens.len().min(1), self.slots[*index].used))?;
        // A memory that is mostly this prompt is continued in place; a longer one stays as it is, and its cells are shared.
        let continues =
            !self.slots[source].busy && shared > 0 && shared * 2 >= self.slots[source].tokens.len();
        let taken = if continues { source } else { oldest };
        let kept = if taken == source {
            self.cut(context, taken, shared)
        } else {
            self.share(context, source, taken, shared)
        };
        let slot = &mut self.slots[taken];
        slot.busy = true;
        slot.used = self.clock;
        slot.tokens.clear();
        slot.tokens.extend_from_slice(&tokens[..kept]);
        Some((taken, kept))
    }

    /// Gives a number back; what it holds is remembered.
    pub(super) fn release(&mut self, slot: usize) {
        self.clock += 1;
        self.slots[slot].busy = false;
        self.slots[slot].used = self.clock;
    }

    /// Forgets what a number holds.
    pub(super) fn forget(&mut self, context: &mut LlamaContext<'_>, slot: usize) {
        self.cut(context, slot, 0);
        self.slots[slot].tokens.clear();
    }

    /// Forgets the remembered sequence that was used longest ago. `false` when none is left.
    pub(super) fn forget_oldest(&mut self, context: &mut LlamaContext<'_>) -> bool {
        let filled = self.idle().filter(|index| !self.slots[*index].tokens.is_empty());
        let Some(oldest) = filled.min_by_key(|index| self.slots[*index].used) else { return false };
        self.forget(context, oldest);
        true
    }

    fn idle(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|index| !self.slots[*index].busy)
    }

    /// Keeps the first `kept` tokens of a sequence; returns how many it could keep.
    fn cut(&self, context: &mut LlamaContext<'_>, slot: usize, kept: usize) -> usize {
        if kept > 0 && context.kv_cache_seq_rm(slot as i32, u32::try_from(kept).ok(), None).is_ok() {
            return kept;
        }
        // Removing a whole sequence cannot fail.
        drop(context.kv_cache_seq_rm(slot as i32, None, None));
        0
    }

    fn share(&self, context: &mut LlamaContext<'_>, source: usize, target: usize, shared: usize) -> usize {
        self.cut(context, target, 0);
        let end = u32::try_from(shared).ok();
        if shared > 0 && context.kv_cache_seq_cp(source as i32, target as i32, Some(0), end).is_ok() {
            shared
        } else {
            0
        }
    }
}
