//! Text that needs no allocation of its own while it is short.

use alloc::boxed::Box;

/// Bytes that are kept in place: with its other fields a node of the wildcard tree then fills one cache line.
pub(crate) const SHORT: usize = 38;

/// The bytes of a text, in place up to [`SHORT`] of them.
#[derive(Clone)]
pub(crate) enum ShortText {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl ShortText {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text);
                Self::Short { len, bytes }
            }
            (None, _) | (_, Err(_)) => Self::Long(Box::from(text)),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }

    /// Bytes of heap that it owns.
    pub(crate) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => size_of_val::<[u8]>(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_every_length_comes_back() {
        for len in 0..400 {
            let text = std::vec![b'x'; len];
            let kept = ShortText::new(&text);
            assert_eq!(kept.as_bytes(), text);
            let on_heap = if len <= SHORT { 0 } else { len };
            assert_eq!(kept.heap_bytes(), on_heap, "{len} bytes");
        }
    }
}
