//! An answer as one piece of bytes.

use bytes::Bytes;

/// An answer that is given again.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Its status.
    pub status: u16,
    /// Its headers, by name and value.
    pub headers: Vec<(Box<str>, Bytes)>,
    /// Its body.
    pub body: Bytes,
}

impl Kept {
    /// Appends it to `out`. Headers beyond 65,535, or longer than that, are left out: no server sends them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let fits = |(name, value): &&(Box<str>, Bytes)| {
            name.len() <= usize::from(u16::MAX) && value.len() <= usize::from(u16::MAX)
        };
        let headers: Vec<_> = self.headers.iter().filter(fits).take(usize::from(u16::MAX)).collect();
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&length(headers.len()));
        for (name, value) in headers {
            out.extend_from_slice(&length(name.len()));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&length(value.len()));
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&self.body);
    }

    /// Reads what [`write`](Self::write) wrote; `None` for anything else.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = Bytes::from(bytes);
        let status = number(&mut rest)?;
        let count = number(&mut rest)?;
        let mut headers = Vec::with_capacity(usize::from(count).min(64));
        for _ in 0..count {
            let name = piece(&mut rest)?;
            let name = std::str::from_utf8(&name).ok()?.into();
            headers.push((name, piece(&mut rest)?));
        }
        Some(Self { status, headers, body: rest })
    }
}

/// Says how much there is, never what.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .finish()
    }
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn number(rest: &mut Bytes) -> Option<u16> {
    (rest.len() >= 2).then(|| u16::from_le_bytes([rest[0], rest[1]])).inspect(|_| drop(rest.split_to(2)))
}

fn piece(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(number(rest)?);
    (rest.len() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else_panics(
            status: u16,
            headers in proptest::collection::vec(("[a-z-]{0,20}", proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            cut: prop::sample::Index,
        ) {
            let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let kept = Kept { status, headers, body: body.into() };
            let mut bytes = Vec::new();
            kept.write(&mut bytes);
            prop_assert_eq!(Kept::read(bytes.clone()), Some(kept));
            bytes.truncate(cut.index(bytes.len()));
            let _ = Kept::read(bytes);
        }
    }
}
