//! Received chunks in a row, handed on without copying their bytes together.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Chunks in order.
#[derive(Debug, Default)]
pub(crate) struct Rope {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first `len` bytes, or all if there are fewer.
    pub(crate) fn split_front(&mut self, len: usize) -> Self {
        let mut taken = Self::default();
        while taken.len < len {
            let Some(mut first) = self.chunks.pop_front() else {
                break;
            };
            let wanted = len - taken.len;
            if first.len() > wanted {
                let rest = first.split_off(wanted);
                self.chunks.push_front(rest);
            }
            self.len -= first.len();
            taken.push(first);
        }
        taken
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, count: usize) {
        self.split_front(count);
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let pairs = to.iter_mut().zip(&self.chunks);
        pairs.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_across_chunks() {
        for step in 1..12 {
            let mut rope = Rope::default();
            for chunk in [&b"abc"[..], b"", b"defgh", b"i", b"jklm"] {
                rope.push(Bytes::from_static(chunk));
            }
            let mut all: Vec<u8> = Vec::new();
            while rope.len() > 0 {
                let mut part = rope.split_front(step);
                assert!(part.len() == step || rope.len() == 0);
                while part.has_remaining() {
                    all.extend(part.chunk().first());
                    part.advance(1);
                }
            }
            assert_eq!(all, b"abcdefghijklm");
        }
    }
}
