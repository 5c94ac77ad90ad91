/// Tokens of one answer, by kind. `None` means that nobody said, which is not zero.
///
/// Follows OpenAI's arithmetic: `input` includes `cached_input`, `output` includes `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Part of `input` that was read from a prompt cache.
    pub cached_input: Option<u64>,
    /// Part of `input` that was written to a prompt cache.
    pub cache_write: Option<u64>,
    /// Part of `output` that was spent on reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Input and output together; saturating, because a vendor may send anything.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}
