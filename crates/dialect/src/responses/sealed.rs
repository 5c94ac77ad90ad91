//! Reasoning that only its vendor can read, as it travels in `encrypted_content`.
//!
//! What it promises: what one vendor sealed or signed comes back to it as it was; whose it is can be told, so that no
//! other vendor is sent it. What it refuses to know: what is inside.

/// Before a signature of reasoning that stands beside it in the clear (Anthropic, Gemini).
const SIGNED: &str = "penstock-signature:";
/// Before reasoning that a vendor without item ids sealed (Anthropic's `redacted_thinking`).
const SEALED: &str = "penstock-sealed:";

/// What `encrypted_content` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seal {
    /// The signature of the reasoning beside it.
    Signature(String),
    /// Sealed reasoning, in the words of [`penstock_domain::Part::Sealed`].
    Sealed(String),
}

impl Seal {
    /// Reads `encrypted_content` of the item with this id.
    pub(super) fn read(id: &str, text: &str) -> Self {
        if let Some(signature) = text.strip_prefix(SIGNED) {
            return Self::Signature(signature.to_owned());
        }
        if let Some(sealed) = text.strip_prefix(SEALED) {
            return Self::Sealed(sealed.to_owned());
        }
        // A vendor of this dialect wants its own id back with it.
        Self::Sealed(format!("{id}:{text}"))
    }

    /// The id of the item, where the vendor has one, and its `encrypted_content`.
    pub(super) fn write(&self) -> (Option<&str>, String) {
        match self {
            Self::Signature(text) => (None, format!("{SIGNED}{text}")),
            Self::Sealed(text) => match own(text) {
                Some((id, text)) => (Some(id), text.to_owned()),
                None => (None, format!("{SEALED}{text}")),
            },
        }
    }
}

/// Id and `encrypted_content` of what a vendor of this dialect sealed; `None` when it was another.
pub(super) fn own(sealed: &str) -> Option<(&str, &str)> {
    sealed.split_once(':').filter(|(id, _)| id.starts_with("rs_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_come_back_as_they_were() {
        for seal in [
            Seal::Signature("sig==".to_owned()),
            Seal::Sealed("rs_1:gAAA:x".to_owned()),
            Seal::Sealed("EqQB:c".to_owned()),
        ] {
            let (id, text) = seal.write();
            assert_eq!(Seal::read(id.unwrap_or("rs_ours"), &text), seal);
        }
    }

    #[test]
    fn a_vendors_own_seal_is_told_from_anothers() {
        assert_eq!(own("rs_1:gAAA"), Some(("rs_1", "gAAA")));
        assert_eq!(own("EqQB:c"), None);
    }
}
