/// Tokens of one answer, by kind. `None` means that nobody said, which is not zero.
///
/// Follows OpenAI's arithmetic: `input` includes `cached_input` and `cache_write`, `output` includes `reasoning`.
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
    /// Part of `cache_write` that is kept for an hour instead of five minutes (Anthropic).
    pub cache_write_hour: Option<u64>,
    /// Part of `output` that was spent on reasoning.
    pub reasoning: Option<u64>,
    /// The vendor's own total is not the sum of its parts: whoever read it from the wire saw that.
    pub doubtful: bool,
}

/// More tokens than any request can have: a vendor that says so has counted something else.
const ABSURD: u64 = 1 << 40;

impl Usage {
    /// Input and output together; saturating, because a vendor may send anything.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Both together, as two calls are paid for; what one of them did not tell counts as nothing beside the other's word.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        let part = |mine: Option<u64>, other: Option<u64>| match (mine, other) {
            (Some(mine), Some(other)) => Some(mine.saturating_add(other)),
            (mine, other) => mine.or(other),
        };
        Usage {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached_input: part(self.cached_input, other.cached_input),
            cache_write: part(self.cache_write, other.cache_write),
            cache_write_hour: part(self.cache_write_hour, other.cache_write_hour),
            reasoning: part(self.reasoning, other.reasoning),
            doubtful: self.doubtful || other.doubtful,
        }
    }

    /// Whether the numbers contradict each other or nature: parts larger than their whole, a total that is not the sum,
    /// more than 2^40 tokens.
    pub fn is_contradictory(&self) -> bool {
        let part = |part: Option<u64>| part.unwrap_or(0);
        let cache = part(self.cached_input).saturating_add(part(self.cache_write));
        self.doubtful
            || self.input > ABSURD
            || self.output > ABSURD
            || cache > self.input
            || part(self.cache_write_hour) > part(self.cache_write)
            || part(self.reasoning) > self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_larger_than_their_whole_are_contradictory() {
        let sound = Usage {
            input: 10,
            output: 5,
            cached_input: Some(6),
            cache_write: Some(4),
            cache_write_hour: Some(4),
            reasoning: Some(5),
            doubtful: false,
        };
        assert!(!sound.is_contradictory());
        for wrong in [
            Usage { cached_input: Some(7), ..sound },
            Usage { cached_input: Some(u64::MAX), ..sound },
            Usage { cache_write_hour: Some(5), ..sound },
            Usage { reasoning: Some(6), ..sound },
            Usage { doubtful: true, ..sound },
            Usage { input: ABSURD + 1, ..sound },
            Usage { output: u64::MAX, ..sound },
        ] {
            assert!(wrong.is_contradictory(), "{wrong:?}");
        }
    }
}
