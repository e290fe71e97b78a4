//! What stands on the live screen, as lines of styled text. Pure; drawn by `screen`.

use std::fmt::Write;

use super::account::Chapter;
use super::admin::{Instance, State};
use super::format;
use super::show::{Scene, Second};

/// Width of the bar that shows how far the demo is.
const BAR: usize = 30;
/// Where the numbers begin.
const MARGIN: usize = 13;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Faint,
    Good,
    Bad,
    Warn,
}

impl Style {
    fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
            Self::Warn => "\x1b[33m",
        }
    }
}

/// One line of the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pieces: Vec<(Style, String)>,
}

impl Line {
    fn new(style: Style, text: impl Into<String>) -> Self {
        Self::default().with(style, text)
    }

    fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.pieces.push((style, text.into()));
        self
    }

    fn label(text: &str) -> Self {
        Self::new(Style::Faint, format!(" {text:<width$}", width = MARGIN - 1))
    }

    /// With escapes, at most so many columns wide. Control characters are left out.
    pub(super) fn render(&self, columns: usize, colour: bool) -> String {
        let mut left = columns;
        let mut text = String::new();
        for (style, piece) in &self.pieces {
            let shown: String = piece
                .chars()
                .filter(|one| !one.is_control())
                .take(left)
                .collect();
            left -= shown.chars().count();
            if colour && *style != Style::Plain {
                let _ = write!(text, "{}{shown}\x1b[0m", style.escape());
            } else {
                text.push_str(&shown);
            }
        }
        text
    }
}

/// The whole screen.
pub(super) fn lines(scene: &Scene, columns: usize) -> Vec<Line> {
    let mut lines = vec![title(scene), Line::default()];
    let doing = if scene.now.is_empty() {
        "shoppers shop"
    } else {
        scene.now.as_str()
    };
    lines.push(Line::label("now").with(Style::Bold, doing));
    lines.push(Line::default());
    lines.extend(graphs(scene, columns));
    lines.push(Line::default());
    lines.push(counts(scene));
    lines.push(Line::default());
    lines.extend(instances(&scene.state));
    lines.push(Line::default());
    lines.extend(scene.account.chapters().iter().rev().map(chapter));
    lines.push(Line::default());
    lines.push(Line::new(Style::Faint, " Ctrl-C ends it"));
    lines
}

fn title(scene: &Scene) -> Line {
    let share = scene.elapsed.as_secs_f64() / scene.length.as_secs_f64().max(0.001);
    let full = ((share * BAR as f64) as usize).min(BAR);
    Line::new(Style::Bold, " outgrow demo  ")
        .with(Style::Good, "█".repeat(full))
        .with(Style::Faint, "░".repeat(BAR - full))
        .with(
            Style::Plain,
            format!(
                "  {:.0} of {:.0} s",
                scene.elapsed.as_secs_f64(),
                scene.length.as_secs_f64()
            ),
        )
}

fn graphs(scene: &Scene, columns: usize) -> [Line; 3] {
    // The label, the number and a space on each side stand before it.
    let room = columns.saturating_sub(MARGIN + 14);
    let graph = |name: &str, number: String, value: fn(&Second) -> f64| {
        let skipped = scene.seconds.len().saturating_sub(room);
        let spark = format::sparkline(scene.seconds.iter().skip(skipped).map(value));
        Line::label(name)
            .with(Style::Bold, format!("{number:<12}"))
            .with(Style::Good, spark)
    };
    let last = scene.seconds.back();
    let rate = last.map_or(0.0, |second| second.rate).round() as u64;
    let time = |value: fn(&Second) -> std::time::Duration| {
        last.map_or_else(String::new, |second| format::time(value(second)))
    };
    [
        graph(
            "throughput",
            format!("{}/s", format::count(rate)),
            |second| second.rate,
        ),
        graph("p50", time(|second| second.p50), |second| {
            second.p50.as_secs_f64()
        }),
        graph("p99", time(|second| second.p99), |second| {
            second.p99.as_secs_f64()
        }),
    ]
}

fn counts(scene: &Scene) -> Line {
    let counts = &scene.counts;
    let good_at_zero = |count: u64, bad: Style| if count == 0 { Style::Good } else { bad };
    Line::label("requests")
        .with(
            Style::Bold,
            format!("{:<12}", format::count(counts.requests)),
        )
        .with(Style::Plain, "failed ")
        .with(
            good_at_zero(counts.failed, Style::Bad),
            counts.failed.to_string(),
        )
        .with(Style::Plain, "  truncated ")
        .with(
            good_at_zero(counts.truncated, Style::Warn),
            counts.truncated.to_string(),
        )
        .with(Style::Plain, format!("  retried {}", counts.retried))
        .with(
            Style::Plain,
            format!(
                "  WebSockets {} open, {} broken",
                scene.sockets_open, counts.sockets_broken
            ),
        )
}

fn instances(state: &State) -> Vec<Line> {
    let head = format!(
        " {:<12}{:<12}{:>8}{:>10}{:>11}{:>10}{:>11}",
        "instance", "state", "pid", "restarts", "requests", "cpu", "memory"
    );
    let mut lines = vec![Line::new(Style::Faint, head)];
    lines.extend(state.instances.iter().map(|one| instance(state, one)));
    let data = &state.data;
    let text = format!(" data process {}, generation {}", data.pid, data.generation);
    lines.push(Line::new(Style::Faint, text));
    lines
}

fn instance(state: &State, one: &Instance) -> Line {
    let style = match one.state.as_str() {
        "ready" => Style::Good,
        "exited" | "backoff" | "crash_loop" => Style::Bad,
        _ => Style::Warn,
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Line::new(Style::Plain, format!(" {:<12}", one.name))
        .with(style, format!("{:<12}", one.state))
        .with(
            Style::Plain,
            format!(
                "{:>8}{:>10}{:>11}{:>10}{:>11}",
                or_dash(one.pid.map(|pid| pid.to_string())),
                one.restarts,
                format::count(state.requests_of(one)),
                or_dash(
                    one.cpu_ms
                        .map(|millis| format!("{:.1} s", millis as f64 / 1e3))
                ),
                or_dash(one.memory_bytes.map(format::megabytes)),
            ),
        )
}

fn chapter(chapter: &Chapter) -> Line {
    let at = format!(" {:>5.1} s  ", chapter.at.as_secs_f64());
    let line = Line::new(Style::Faint, at);
    match &chapter.outcome {
        None => line.with(Style::Warn, "…"),
        Some(Ok(played)) => line
            .with(Style::Plain, format!("{}: ", played.what))
            .with(Style::Good, played.result.clone()),
        Some(Err(problem)) => line.with(Style::Bad, problem.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state() -> State {
        serde_json::from_value(serde_json::json!({
            "data": { "pid": 7, "generation": 2, "workers": 2 },
            "instances": [{
                "name": "shop.1", "state": "ready", "address": "127.0.0.1:4000", "pid": 812,
                "restarts": 1, "cpu_ms": 1234, "memory_bytes": 5_600_000, "processes": 1,
            }],
            "services": [{ "endpoints": [{ "address": "127.0.0.1:4000", "requests": 4321 }] }],
            "routes": [{ "retries": 3 }],
        }))
        .unwrap()
    }

    #[test]
    fn the_screen_shows_what_there_is_within_its_width() {
        let mut scene = Scene::new(Duration::from_secs(20), state());
        scene.elapsed = Duration::from_secs(10);
        scene.now = "kill\x1b[31m -9".to_owned();
        for second in 0..100_u16 {
            let p50 = Duration::from_millis(1);
            scene.push(Second {
                rate: f64::from(second),
                p50,
                p99: p50 * u32::from(second),
            });
        }
        let text: Vec<String> = lines(&scene, 60)
            .iter()
            .map(|line| line.render(60, false))
            .collect();
        assert!(
            text.iter().all(|line| line.chars().count() <= 60),
            "{text:#?}"
        );
        let whole = text.join("\n");
        for part in [
            "10 of 20 s",
            "99/s",
            "99.0 ms",
            "shop.1",
            "812",
            "4,321",
            "kill[31m -9",
        ] {
            assert!(whole.contains(part), "{part} is not in\n{whole}");
        }
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let line = Line::new(Style::Bad, "abc").with(Style::Plain, "def");
        assert_eq!(line.render(5, true), "\x1b[1;31mabc\x1b[0mde");
        assert_eq!(line.render(2, false), "ab");
    }
}
