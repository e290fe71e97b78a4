//! What a person sees while the demo runs: a live screen on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::account::{Account, Counts};
use super::admin::State;
use super::format;
use super::screen::Screen;

/// Seconds of history on the screen.
const HISTORY: usize = 60;

/// One second of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    pub(super) rate: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Everything that can be shown.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) length: Duration,
    pub(super) elapsed: Duration,
    /// What is happening.
    pub(super) now: String,
    /// The last ones, oldest first.
    pub(super) seconds: VecDeque<Second>,
    pub(super) counts: Counts,
    pub(super) sockets_open: u64,
    pub(super) state: State,
    pub(super) account: Account,
}

impl Scene {
    pub(super) fn new(length: Duration, state: State) -> Self {
        Self {
            length,
            elapsed: Duration::ZERO,
            now: String::new(),
            seconds: VecDeque::new(),
            counts: Counts::default(),
            sockets_open: 0,
            state,
            account: Account::default(),
        }
    }

    /// Takes in a second.
    pub(super) fn push(&mut self, second: Second) {
        if self.seconds.len() == HISTORY {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
    }
}

/// Where and how it is shown.
#[derive(Debug)]
pub(super) enum Show {
    /// Drawn on the terminal.
    Live(Screen),
    /// Plain lines, one a second and one for each thing that happens.
    Lines(Lines),
}

/// Where plain lines go, and what was written last.
#[derive(Debug)]
pub(super) struct Lines {
    to_stderr: bool,
    now: String,
}

impl Show {
    /// A screen if standard output is a terminal that can be drawn on. With `json` everything
    /// but the result goes to standard error.
    pub(super) fn new(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if !json && !dumb && io::stdout().is_terminal() {
            return Self::Live(Screen::open());
        }
        Self::Lines(Lines {
            to_stderr: json,
            now: String::new(),
        })
    }

    /// Something changed, or a fifth of a second went by.
    pub(super) fn update(&mut self, scene: &Scene) {
        match self {
            Self::Live(screen) => screen.draw(scene),
            Self::Lines(lines) => lines.tell_now(scene),
        }
    }

    /// A second went by.
    pub(super) fn second(&mut self, scene: &Scene) {
        if let Self::Lines(lines) = self {
            lines.write(&second_line(scene));
        }
    }

    /// A step has ended.
    pub(super) fn step_ended(&mut self, scene: &Scene) {
        if let Self::Lines(lines) = self
            && let Some(chapter) = scene.account.chapters().last()
        {
            let text = match &chapter.outcome {
                Some(Ok(played)) => format!("{}: {}", played.what, played.result),
                Some(Err(problem)) => format!("FAILED: {problem}"),
                None => return,
            };
            lines.write(&format!("{:>5.1} s  > {text}", scene.elapsed.as_secs_f64()));
        }
    }
}

impl Lines {
    fn tell_now(&mut self, scene: &Scene) {
        if self.now != scene.now {
            self.now.clone_from(&scene.now);
            if !self.now.is_empty() {
                self.write(&format!(
                    "{:>5.1} s  > {}",
                    scene.elapsed.as_secs_f64(),
                    self.now
                ));
            }
        }
    }

    fn write(&self, line: &str) {
        // A reader that has gone away is no reason to end the demo.
        let _ = if self.to_stderr {
            writeln!(io::stderr(), "{line}")
        } else {
            writeln!(io::stdout(), "{line}")
        };
    }
}

fn second_line(scene: &Scene) -> String {
    let Some(second) = scene.seconds.back() else {
        return String::new();
    };
    let counts = &scene.counts;
    let state = &scene.state;
    format!(
        "{:>5.1} s  {:>6}/s  p50 {:>8}  p99 {:>8}  failed {}  truncated {}  retried {}  \
         instances {}/{} ready  WebSockets {}",
        scene.elapsed.as_secs_f64(),
        format::count(second.rate.round() as u64),
        format::time(second.p50),
        format::time(second.p99),
        counts.failed,
        counts.truncated,
        counts.retried,
        state.ready(),
        state.instances.len(),
        scene.sockets_open,
    )
}
