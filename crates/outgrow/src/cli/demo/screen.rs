//! The live screen: plain ANSI escapes on the terminal's second buffer, so that what was there
//! before is there again afterwards. What stands on it is in `frame`.

use std::io::{self, Write};

use super::frame;
use super::show::Scene;

const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn on; dropped, it is as it was.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> Self {
        write(OPEN);
        // https://no-color.org
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour }
    }

    /// Draws everything anew, in one write.
    pub(super) fn draw(&self, scene: &Scene) {
        let (columns, rows) = size();
        let mut text = String::from("\x1b[H");
        for (place, line) in frame::lines(scene, columns).iter().take(rows).enumerate() {
            if place > 0 {
                text.push_str("\r\n");
            }
            text.push_str(&line.render(columns, self.colour));
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        write(&text);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(CLOSE);
    }
}

/// Columns and rows; the usual ones when the terminal does not tell.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (80, 24),
    }
}

/// A terminal that has gone away is no reason to end the demo.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
