//! The plot of docs/balance-p99.svg: p99 by load, a panel per scenario, a line per algorithm.

use super::queues::ln;
use super::{COMPARED, LOADS, Results, SCENARIOS, SHOWN_MS};

const PANEL_WIDTH: f64 = 400.0;
const PANEL_HEIGHT: f64 = 280.0;
/// Of the axes within a panel.
const LEFT: f64 = 60.0;
const TOP: f64 = 36.0;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 200.0;
const LEGEND: f64 = 36.0;
const LEAST_MS: f64 = 10.0;
const TICKS_MS: [f64; 8] = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0];
/// The fourth is dashed: it lies on the third where endpoints are alike.
const DASHES: [&str; 5] = ["none", "none", "none", "5 4", "none"];
/// Distinct for the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 5] = ["#999999", "#e69f00", "#0072b2", "#cc79a7", "#009e73"];

/// The whole picture.
pub(super) fn svg(results: &Results) -> String {
    let (width, height) = (2.0 * PANEL_WIDTH, 2.0 * PANEL_HEIGHT + LEGEND);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>p99 by load, simulated</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (place, (_, name)) in COMPARED.iter().enumerate() {
        let x = LEFT + 145.0 * place as f64;
        let (colour, dashes) = (COLOURS[place], DASHES[place]);
        text += &format!(
            "<path d=\"M{x} 18h24\" stroke=\"{colour}\" stroke-width=\"3\" \
             stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"22\">{name}</text>\n",
            x + 30.0
        );
    }
    for (place, (scenario, of_scenario)) in SCENARIOS.iter().zip(results).enumerate() {
        let x = PANEL_WIDTH * (place % 2) as f64;
        let y = LEGEND + PANEL_HEIGHT * (place / 2) as f64;
        text += &format!("<g transform=\"translate({x} {y})\">\n");
        text += &axes(scenario.name);
        for (algorithm, colour) in COLOURS.iter().enumerate() {
            let p99_of = |load: usize| of_scenario[load][algorithm].p99_ms;
            text += &line(colour, DASHES[algorithm], p99_of);
        }
        text += "</g>\n";
    }
    text + "</svg>\n"
}

fn axes(name: &str) -> String {
    let bottom = TOP + HEIGHT;
    let mut text = format!(
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{name}</text>\n",
        TOP - 12.0
    );
    for tick in TICKS_MS {
        let y = y_of(tick);
        let label = if tick < SHOWN_MS {
            format!("{tick} ms")
        } else {
            "2 s +".to_owned()
        };
        text += &format!(
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for (place, load) in LOADS.iter().enumerate() {
        let x = x_of(place);
        text += &format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{load} %</text>\n",
            bottom + 18.0
        );
    }
    text + &format!(
        "<path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>\n",
        LEFT + WIDTH
    )
}

fn line(colour: &str, dashes: &str, p99_of: impl Fn(usize) -> f64) -> String {
    let points: Vec<(f64, f64)> = (0..LOADS.len())
        .map(|load| (x_of(load), y_of(p99_of(load))))
        .collect();
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let mut text = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dashes}\"/>\n",
        path.join(" ")
    );
    for (x, y) in points {
        text += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n");
    }
    text
}

fn x_of(load: usize) -> f64 {
    LEFT + WIDTH * (load as f64 + 0.5) / LOADS.len() as f64
}

/// Logarithmic.
fn y_of(milliseconds: f64) -> f64 {
    let part = ln(milliseconds.clamp(LEAST_MS, SHOWN_MS) / LEAST_MS) / ln(SHOWN_MS / LEAST_MS);
    TOP + HEIGHT * (1.0 - part)
}
