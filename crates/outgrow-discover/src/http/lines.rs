//! Cuts what a watch sends into lines.

use super::Problem;

/// The line that has begun.
#[derive(Debug)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let begun = Vec::new();
        Self { begun, limit }
    }

    /// The lines that end in the next piece, without empty ones.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
        let mut lines = Vec::new();
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.begun.extend(&rest[..end]);
            let line = std::mem::take(&mut self.begun);
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
            rest = &rest[end + 1..];
        }
        self.begun.extend(rest);
        if self.begun.len() > self.limit {
            return Err(Problem::Length);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"\n{\"a\":1}\n\r\n{\"b\":2}\r\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::new(16);
            let mut taken = Vec::new();
            for piece in text.chunks(size) {
                taken.extend(lines.take(piece).expect("short lines"));
            }
            assert_eq!(taken, [&b"{\"a\":1}"[..], b"{\"b\":2}\r"], "{size}");
        }
        assert!(Lines::new(16).take(&[b'x'; 17]).is_err());
    }
}
