//! One demo from its first request to its last: load, script and display side by side.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outgrow_shop::shoppers::{Kind, Pace, Plan, Shoppers, Totals};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::DemoArgs;
use super::account::{Counts, Retries};
use super::admin::{Admin, State};
use super::interrupt::Interrupt;
use super::play::{Played, Props, play};
use super::records;
use super::script::{Cue, Step, script};
use super::show::{Scene, Second, Show};
use super::stage::{self, Stage};
use super::summary::Summary;

/// Between two drawings, and two looks at the state.
const TICK: Duration = Duration::from_millis(200);
/// A step that goes on at the end of the time may take so much longer.
const OVERTIME: Duration = Duration::from_secs(15);
/// How long a request may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What a shopper thinks between two requests, on average.
const THINK: Duration = Duration::from_millis(15);
/// WebSockets that are held open.
const WEB_SOCKETS: usize = 8;

/// A demo under way.
pub(super) struct Run {
    args: DemoArgs,
    stage: Stage,
    shoppers: Shoppers,
    begun: Instant,
    /// What is still to be done, the next one last.
    cues: Vec<Cue>,
    playing: Option<JoinHandle<Result<Played, String>>>,
    now: watch::Sender<String>,
    states: watch::Receiver<State>,
    retries: Retries,
    scene: Scene,
    show: Show,
    interrupted: bool,
    problems: Vec<String>,
}

/// What shoppers do here: all of it may be repeated, by its method or by its Idempotency-Key. One
/// in two hundred is the report, on which the shop itself works for 50 to 400 ms.
fn mix() -> Vec<(Kind, u32)> {
    vec![
        (Kind::Home, 50),
        (Kind::Product, 91),
        (Kind::Checkout, 30),
        (Kind::Whoami, 10),
        (Kind::Bytes(100_000), 8),
        (Kind::Chunked(10_000), 10),
        (Kind::Report, 1),
    ]
}

impl Run {
    /// Sends the shoppers in.
    pub(super) async fn start(args: &DemoArgs, stage: Stage) -> Result<Self> {
        let plan = Plan {
            shoppers: usize::from(args.shoppers),
            pace: Pace::Think(THINK),
            mix: mix(),
            web_sockets: WEB_SOCKETS,
            time_limit: TIME_LIMIT,
            ..Plan::new(stage.config.public)
        };
        let state = stage.admin.state().await.map_err(anyhow::Error::msg)?;
        let shoppers = Shoppers::start(plan).context("the shoppers cannot be started")?;
        let mut cues = script(args.length);
        cues.reverse();
        let (publisher, states) = watch::channel(state.clone());
        tokio::spawn(follow(stage.admin.clone(), publisher));
        Ok(Self {
            args: args.clone(),
            stage,
            shoppers,
            begun: Instant::now(),
            cues,
            playing: None,
            now: watch::Sender::default(),
            states,
            retries: Retries::default(),
            scene: Scene::new(args.length, state),
            show: Show::new(args.json),
            interrupted: false,
            problems: Vec::new(),
        })
    }

    /// Runs until the time is over, somebody interrupts, or Outgrow itself ends.
    pub(super) async fn go_on(&mut self, interrupt: &mut Interrupt) {
        let mut ticks = interval(TICK);
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        seconds.reset();
        while !self.is_over() {
            tokio::select! {
                () = interrupt.wait() => {
                    self.interrupted = true;
                    return;
                }
                _ = ticks.tick() => {}
                _ = seconds.tick() => self.count_second(),
                played = ended(&mut self.playing) => self.note_played(played),
            }
            self.look();
            if let Some(status) = self.stage.ended() {
                let how = stage::how(status);
                self.problems.push(format!("outgrow itself ended ({how})"));
                return;
            }
            self.begin_step();
        }
    }

    fn is_over(&self) -> bool {
        let elapsed = self.begun.elapsed();
        let limit = self.args.length;
        elapsed >= limit && (self.playing.is_none() || elapsed >= limit + OVERTIME)
    }

    /// Brings the scene up to date and shows it.
    fn look(&mut self) {
        let state = self.states.borrow_and_update().clone();
        self.retries.note(state.data.generation, state.retries());
        let totals = self.shoppers.totals();
        let scene = &mut self.scene;
        scene.counts = Counts::new(&totals, self.retries.total());
        scene.sockets_open = totals.web_sockets.open;
        scene.elapsed = self.begun.elapsed();
        scene.state = state;
        scene.now.clone_from(&self.now.borrow());
        self.show.update(scene);
    }

    fn count_second(&mut self) {
        let stats = self.shoppers.stats();
        let latency = &stats.counts.latency;
        let (p50, p99) = (latency.quantile(0.5), latency.quantile(0.99));
        self.scene.push(Second {
            rate: stats.rate(),
            p50,
            p99,
        });
        self.look();
        self.show.second(&self.scene);
    }

    fn begin_step(&mut self) {
        let elapsed = self.begun.elapsed();
        if self.playing.is_some() || elapsed >= self.args.length {
            return;
        }
        let Some(cue) = self.cues.pop_if(|cue| cue.at <= elapsed) else {
            return;
        };
        if cue.step == (Step::Reload { round: 0 }) {
            self.stage.config.instances += 1;
        }
        let props = Props {
            admin: self.stage.admin.clone(),
            config: self.stage.config.clone(),
            file: self.stage.config_path(),
            kills: self.scene.account.kills(),
            now: self.now.clone(),
        };
        self.scene.account.begin(cue, elapsed, self.scene.counts);
        self.playing = Some(tokio::spawn(play(cue.step, props)));
    }

    fn note_played(&mut self, played: Result<Played, String>) {
        self.playing = None;
        self.now.send_replace(String::new());
        self.scene.account.end(played);
        self.scene.elapsed = self.begun.elapsed();
        self.show.step_ended(&self.scene);
    }

    /// Ends everything in order: shoppers, then Outgrow, then the display.
    pub(super) async fn end(mut self, interrupt: &mut Interrupt) -> Summary {
        if let Some(playing) = self.playing.take() {
            playing.abort();
            if !self.interrupted && self.problems.is_empty() {
                let seconds = OVERTIME.as_secs();
                let problem = format!("not done {seconds} s after the end: {}", *self.now.borrow());
                self.scene.account.end(Err(problem));
            }
        }
        self.now
            .send_replace("it ends: the shoppers leave, Outgrow drains".to_owned());
        self.look();
        let totals = stop_shoppers(self.shoppers).await;
        if let Ok(state) = self.stage.admin.state().await {
            self.retries.note(state.data.generation, state.retries());
        }
        let keeper = self.stage.keeper();
        if !self.stage.stop(interrupt).await {
            self.problems.push(format!(
                "outgrow (pid {keeper}) did not stop in time: it was killed"
            ));
        }
        // The record is complete now; what the state said of a data process that went is not.
        let recorded = records::read(&self.stage.access_path());
        let retried = recorded.retried.max(self.retries.total());
        drop(self.show);
        let mut summary = Summary {
            instances: self.args.instances,
            shoppers: usize::from(self.args.shoppers),
            counts: Counts::new(&totals, retried),
            totals,
            account: self.scene.account,
            interrupted: self.interrupted,
            problems: self.problems,
            logs: None,
        };
        if !summary.verdicts().is_empty() {
            summary.logs = Some(self.stage.keep_logs());
        }
        summary
    }
}

/// Blocks a thread that may be blocked until the last request has its answer.
async fn stop_shoppers(shoppers: Shoppers) -> Totals {
    let stopped = tokio::task::spawn_blocking(move || shoppers.stop()).await;
    // It neither panics nor is it cancelled while the demo waits for it.
    stopped.unwrap_or_default()
}

/// Ends when the step that goes on, if any, has ended.
async fn ended(playing: &mut Option<JoinHandle<Result<Played, String>>>) -> Result<Played, String> {
    match playing {
        Some(handle) => handle
            .await
            .unwrap_or_else(|error| Err(format!("the demo's step broke off: {error}"))),
        None => std::future::pending().await,
    }
}

/// Publishes the state until nobody looks at it any more.
async fn follow(admin: Admin, publisher: watch::Sender<State>) {
    while !publisher.is_closed() {
        if let Ok(state) = admin.state().await {
            publisher.send_replace(state);
        }
        tokio::time::sleep(TICK).await;
    }
}
