//! The text of docs/balance.md.

use super::queues::Figures;
use super::{COMPARED, LOADS, Results, SCENARIOS, SHOWN_MS};

const INTRODUCTION: &str = "\
# Which balancing algorithm

Simulated, and written by a test of `outgrow-balance` (`cargo xtask docs`): an open loop with Poisson
arrivals, one balancer, 8 endpoints that serve one request after the other, 30,000 requests per
figure, the same requests for every algorithm. Times in milliseconds from arrival to answer. The
load is in percent of what all endpoints together can do. `> 2000`: the queue of some endpoint grows
for as long as the load lasts.

![p99 by load](balance-p99.svg)
";

const CONCLUSIONS: &str = "
## What to take from it

The test that writes this holds the comparisons below against the figures; the cost
of a pick was measured apart.

- **Least connections** has, from half load on, the shortest p99 of all wherever requests differ in
  length, and is the only one that is good up to 90 % when the endpoints are of very different
  speed. It looks at all endpoints (above 16 at 16 that it draws), which costs up to 0.1 us per
  request.
- **Power of two**, the default, is better than round robin from half load on where requests differ
  in length, without looking at more than two endpoints however many there are. With few endpoints
  of very different speed and little to spare it often draws two slow ones: least time and least
  connections are better then.
- **Least time** knows which endpoints are slow, not only which are busy. Where they are alike it is
  as good as power of two. After a stall it avoids the endpoint for longer than there is reason to,
  which costs a little.
- **Round robin** is the best where all endpoints and all requests are alike, and only there. Where
  endpoints differ and the weights do not say so, the slow ones get more than they can do at a load
  that the service as a whole could carry with ease.
- **Random** has the queues of M/M/1, which its figures are checked against.
- **One that stalls** holds up what was sent there before anybody could know. What looks at requests
  in flight stops sending after a few; round robin and random go on.

Not simulated: many balancers that each know only their own requests. Least connections of all then
sends everybody to the same newest endpoint, which drawing two does not.
";

/// The whole document.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (scenario, of_scenario) in SCENARIOS.iter().zip(results) {
        text += &format!(
            "\n## {}\n\n{}.\n\n| load |",
            capitalised(scenario.name),
            scenario.about
        );
        for (_, name) in COMPARED {
            text += &format!(" {name} p50 | p99 |");
        }
        text += "\n|---:|";
        text += &"---:|".repeat(2 * COMPARED.len());
        for (load, of_load) in LOADS.iter().zip(of_scenario) {
            text += &format!("\n| {load} % |");
            for Figures { p50_ms, p99_ms } in of_load {
                text += &format!(" {} | {} |", rounded(*p50_ms), rounded(*p99_ms));
            }
        }
        text += "\n";
    }
    text + CONCLUSIONS
}

/// To a digit that says something.
fn rounded(milliseconds: f64) -> String {
    if milliseconds > SHOWN_MS {
        format!("> {SHOWN_MS:.0}")
    } else {
        format!("{milliseconds:.0}")
    }
}

fn capitalised(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}
