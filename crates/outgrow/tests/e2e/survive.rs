//! Nothing is lost by a reload, an upgrade or the death of an instance, and what the death of a
//! data process costs: the requests in flight. Under continuous load by shoppers that count.

use std::time::Duration;

use crate::soak::{Event, Losses, Soak};

/// How often each event happens.
struct Times {
    reloads: usize,
    endpoints: usize,
    upgrades: usize,
    kill_instances: usize,
    kill_data: usize,
    /// How soon service must be back after a data process was killed.
    back: Duration,
}

/// What happened in all.
#[derive(Default)]
struct Outcome {
    reload: Losses,
    endpoints: Losses,
    upgrade: Losses,
    kill_instance: Losses,
    kill_data: Losses,
}

impl Outcome {
    fn of(&mut self, event: Event) -> &mut Losses {
        match event {
            Event::Reload => &mut self.reload,
            Event::Endpoints => &mut self.endpoints,
            Event::Upgrade => &mut self.upgrade,
            Event::KillInstance => &mut self.kill_instance,
            Event::KillData => &mut self.kill_data,
        }
    }
}

/// All events, mixed: each kind is spread over the whole time. Data processes are killed in the middle
/// between upgrades: they are to have lasted.
fn order(times: &Times) -> Vec<Event> {
    let kinds = [
        (Event::Reload, times.reloads),
        (Event::Endpoints, times.endpoints),
        (Event::KillInstance, times.kill_instances),
        (Event::Upgrade, times.upgrades),
        (Event::KillData, times.kill_data),
    ];
    let mut all: Vec<(usize, Event)> = Vec::new();
    for (event, count) in kinds {
        let quarter = match event {
            Event::KillData => 1,
            _ => 0,
        };
        all.extend((0..count).map(|place| ((4 * place + 2 + quarter) * 1000 / (4 * count), event)));
    }
    all.sort_by_key(|one| one.0);
    all.into_iter().map(|one| one.1).collect()
}

#[expect(
    clippy::print_stdout,
    reason = "the summary that `cargo xtask soak` promises"
)]
fn run(times: &Times) {
    let mut soak = Soak::start();
    let mut outcome = Outcome::default();
    for event in order(times) {
        soak.suffer(event, outcome.of(event));
    }
    let (supervised, others, complaints) = soak.end();
    let Outcome {
        reload,
        endpoints,
        upgrade,
        kill_instance,
        kill_data,
    } = outcome;
    eprintln!("reloads:            {reload}");
    eprintln!("endpoints changed:  {endpoints}");
    eprintln!("upgrades:           {upgrade}");
    eprintln!("instances killed:   {kill_instance}");
    eprintln!("data process killed: {kill_data}");
    let all = supervised.all().requests + others.all().requests;
    // What may be in flight at what is killed, and was; and what nothing had to fail.
    let in_flight = |killed: Losses| killed.failed_others + killed.truncated;
    let lost = kill_data.failed_idempotent + in_flight(kill_data) + in_flight(kill_instance);
    let failed = supervised.all().failed + others.all().failed;
    let truncated = supervised.all().truncated + others.all().truncated;
    let failed = failed + truncated - lost;
    println!("{all} requests, {failed} failed, {lost} lost");

    assert_eq!(failed, 0, "{complaints}");
    for (name, losses) in [
        ("reload", reload),
        ("endpoints", endpoints),
        ("upgrade", upgrade),
    ] {
        let wrong =
            losses.failed_idempotent + losses.failed_others + losses.truncated + losses.web_sockets;
        assert_eq!(wrong, 0, "{name}: {losses}\n{complaints}");
        // No client has to repair what nothing had to break.
        assert_eq!(losses.resent, 0, "{name}: {losses}\n{complaints}");
    }
    let by_kill = kill_instance.failed_idempotent + kill_instance.resent;
    assert_eq!(by_kill, 0, "{kill_instance}\n{complaints}");
    for (killed, most) in [
        (kill_data, Soak::in_flight()),
        (kill_instance, Soak::in_flight_supervised()),
    ] {
        let lost = killed.failed_idempotent + in_flight(killed);
        assert!(
            lost <= most * killed.events,
            "more than were in flight: {killed}\n{complaints}"
        );
    }
    let back = times.back.as_millis() as u64;
    assert!(
        kill_data.away_ms <= back,
        "service was away for longer: {kill_data}"
    );
    let opened = supervised.web_sockets.opened + others.web_sockets.opened;
    assert!(opened > 0 && all > 100, "there was no load: {all} requests");
}

#[test]
fn nothing_is_lost_under_load() {
    run(&Times {
        reloads: 4,
        endpoints: 4,
        upgrades: 2,
        kill_instances: 4,
        kill_data: 1,
        // The one second on a machine that has something else to do as well.
        back: Duration::from_secs(3),
    });
}

#[test]
#[ignore = "long: cargo xtask soak edge"]
fn nothing_is_lost_under_load_for_long() {
    run(&Times {
        reloads: 20,
        endpoints: 20,
        upgrades: 5,
        kill_instances: 20,
        kill_data: 5,
        back: Duration::from_secs(1),
    });
}
