//! Opens what the access record is written to.

use std::fs::OpenOptions;
use std::io::{self, Write};

use outgrow_edge::settings::{AccessDestination, AccessSettings};

/// Where records go.
pub(super) type Target = Box<dyn Write + Send>;

/// Opens what the settings say, none for `off`; a file is opened anew at each reload, so that it
/// can be rotated.
pub(super) fn open(settings: &AccessSettings) -> Result<Option<Target>, String> {
    Ok(match &settings.to {
        AccessDestination::Off => None,
        AccessDestination::Stdout => Some(Box::new(WholeLines(io::stdout()))),
        AccessDestination::Stderr => Some(Box::new(WholeLines(io::stderr()))),
        AccessDestination::File(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| {
                    format!(
                        "[access] to = {}: {error}: choose a path that can be written",
                        path.display()
                    )
                })?;
            Some(Box::new(file))
        }
    })
}

/// What a pipe takes in one piece or not at all (`PIPE_BUF`).
const ATOMIC_LIMIT: usize = 4096;

/// Hands on whole lines in pieces that a pipe does not split: the instances' lines come to the same
/// one, and must not come into the middle of a record.
struct WholeLines<W>(W);

impl<W: Write> Write for WholeLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(ATOMIC_LIMIT)];
        // A line that is longer than that cannot be kept whole.
        let end = piece.iter().rposition(|byte| *byte == b'\n');
        let piece = end.map_or(piece, |end| &bytes[..=end]);
        self.0.write_all(piece)?;
        // Standard output keeps what comes after the last line end, which is nothing.
        self.0.flush()?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes each piece.
    #[derive(Default)]
    struct Pieces(Vec<Vec<u8>>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_is_split_that_fits_into_a_piece() {
        let mut text = Vec::new();
        for number in 0..600 {
            text.extend(format!("{number} {}\n", "x".repeat(number)).bytes());
        }
        let mut lines = WholeLines(Pieces::default());
        lines.write_all(&text).expect("written");
        let pieces = lines.0.0;
        assert_eq!(pieces.concat(), text);
        let is_whole = |piece: &Vec<u8>| piece.len() <= ATOMIC_LIMIT && piece.ends_with(b"\n");
        assert!(pieces.len() > 40 && pieces.iter().all(is_whole));
        // A longer one goes on.
        let mut lines = WholeLines(Pieces::default());
        let long = [b"y".repeat(2 * ATOMIC_LIMIT + 7), b"\nz\n".to_vec()].concat();
        lines.write_all(&long).expect("written");
        assert_eq!(lines.0.0.concat(), long);
    }
}
