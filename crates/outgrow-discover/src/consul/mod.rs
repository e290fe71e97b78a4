//! Consul: the instances of a service whose checks pass, by blocking queries.

mod health;
#[cfg(test)]
mod live;

use std::time::Duration;

use outgrow_core::Random;
use outgrow_core::settings::{Secret, TableReader};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::discovery::{Reporter, Surroundings};
use crate::http::{Client, Problem, Question, RegistryTls, Server, check_use, encoded};

/// For how long a question is left open while nothing changes.
const WAIT: Duration = Duration::from_secs(20);
/// How long an answer may take beyond that: Consul adds up to a sixteenth by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const ANSWER: usize = 16 << 20;
/// From one question to the next at least: an index that changes all the time would have us ask
/// without a pause.
const PACE: Duration = Duration::from_millis(200);

outgrow_core::settings! {
    /// Where to look in Consul: the instances of a service whose checks all pass. Their weights
    /// are Consul's.
    #[check = check]
    pub struct ConsulSettings {
        /// The agent that is asked.
        pub server: Server = Server::loopback(8_500);
        /// The name of the service.
        pub service: String = "web".to_owned(), required = true;
        /// Only instances with this tag; empty: all.
        pub tag: String = String::new();
        /// The datacenter; empty: the agent's own.
        pub datacenter: String = String::new();
        /// The token (`X-Consul-Token`), when one is needed.
        pub token: Secret = Secret::default();
        /// How an agent with `https://` is verified.
        pub tls: Option<RegistryTls> = None;
    }
}

fn check(settings: &ConsulSettings, table: &mut TableReader<'_, '_>) {
    check_use(settings.tls.as_ref(), [&settings.server], table);
    let names = [
        ("service", &settings.service),
        ("tag", &settings.tag),
        ("datacenter", &settings.datacenter),
    ];
    for (key, name) in names {
        if name.len() > 256 || (key == "service" && name.is_empty()) {
            table.problem(
                key,
                "a name has 1 to 256 bytes",
                "write Consul's name for it",
            );
        }
    }
    let is_text = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_text(settings.token.expose()) {
        let hint = "a token has no blanks and only ASCII";
        table.problem("token", "this is no token", hint);
    }
}

/// Asks until it is dropped.
pub(crate) async fn run(settings: ConsulSettings, surroundings: Surroundings, reporter: Reporter) {
    let client = Client::new(settings.tls.as_ref(), surroundings);
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    let mut index = 0;
    loop {
        let began = Instant::now();
        let pause = match ask(&client, &settings, &mut index, &reporter).await {
            Ok(true) => {
                backoff.succeeded();
                PACE.saturating_sub(began.elapsed())
            }
            Ok(false) => backoff.failed(&mut random),
            Err(problem) => {
                // Whatever it was: all is asked for anew, at once.
                index = 0;
                reporter.failed(&format!("{}: {problem}", settings.server));
                backoff.failed(&mut random)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn ask(
    client: &Client,
    settings: &ConsulSettings,
    index: &mut u64,
    reporter: &Reporter,
) -> Result<bool, Problem> {
    let target = target(settings, *index);
    let token = settings.token.expose();
    let fields: &[(&str, &str)] = if token.is_empty() {
        &[]
    } else {
        &[("X-Consul-Token", token)]
    };
    let question = Question {
        target: &target,
        fields,
        ..Question::default()
    };
    let patience = if *index == 0 {
        PATIENCE
    } else {
        WAIT + PATIENCE
    };
    let (head, body) = client
        .ask_whole(&settings.server, &question, patience, ANSWER)
        .await?;
    let header = head.fields.get_named(b"X-Consul-Index");
    *index = health::next_index(*index, header).map_err(Problem::Content)?;
    let discovered = health::read(&body).map_err(Problem::Content)?;
    Ok(reporter.answered(discovered))
}

/// The path and the query of the next question.
fn target(settings: &ConsulSettings, index: u64) -> String {
    let mut target = format!(
        "/v1/health/service/{}?passing=1",
        encoded(&settings.service)
    );
    for (name, value) in [("tag", &settings.tag), ("dc", &settings.datacenter)] {
        if !value.is_empty() {
            target.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    if index > 0 {
        target.push_str(&format!("&index={index}&wait={}s", WAIT.as_secs()));
    }
    target
}
