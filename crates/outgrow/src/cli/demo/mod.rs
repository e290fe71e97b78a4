//! `outgrow demo`: shows what Outgrow does for an application, on the real thing.
//!
//! It starts `outgrow run` as a child process with a shop as its application, sends shoppers in,
//! kills instances, reloads and upgrades meanwhile, and tells what that cost. Everything it says
//! about the inside comes from the admin listener and the access record, everything about
//! requests from the client that counts (`outgrow_shop::shoppers`). Nothing is simulated.
//!
//! Not here: the shop (examples/shop), and anything that a user's own application would not get.

mod account;
mod admin;
mod config;
mod folder;
mod format;
mod frame;
mod interrupt;
mod play;
mod records;
mod run;
mod screen;
mod script;
mod show;
mod stage;
mod summary;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use interrupt::Interrupt;
use run::Run;
use stage::Stage;

use super::complain;

/// What `outgrow demo` takes.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long it is under load: 4s to 1h.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = length)]
    length: Duration,
    /// Progress on standard error; the last line of standard output is one JSON object.
    #[arg(long)]
    json: bool,
    /// Instances of the shop at the start: 2 to 32.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(2..=32))]
    instances: u16,
    /// Shoppers, each with one connection: 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    shoppers: u16,
}

/// Runs the demo; fails when a request failed, or anything else that must not.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime can be started: {error}")),
    };
    let code = runtime.block_on(perform(args));
    // A call to an admin listener that is gone must not hold up the end.
    runtime.shutdown_background();
    code.unwrap_or_else(|error| complain(&format!("{error:#}")))
}

async fn perform(args: &DemoArgs) -> Result<ExitCode> {
    let mut interrupt = Interrupt::listen()?;
    eprintln!(
        "outgrow demo: {} instances of the shop start",
        args.instances
    );
    let Some(stage) = Stage::start(args.instances, &mut interrupt).await? else {
        eprintln!("outgrow demo: ended before it began");
        return Ok(ExitCode::FAILURE);
    };
    let mut run = Run::start(args, stage).await?;
    run.go_on(&mut interrupt).await;
    let summary = run.end(&mut interrupt).await;
    if args.json {
        let _ = write!(std::io::stderr(), "\n{}", summary.text());
        super::print(&format!("{}\n", summary.json()));
    } else {
        super::print(&format!("\n{}", summary.text()));
    }
    Ok(if summary.verdicts().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn length(text: &str) -> Result<Duration, String> {
    let possible = Duration::from_secs(4)..=Duration::from_secs(3_600);
    match outgrow_core::settings::quantity::parse_duration(text) {
        Some(length) if possible.contains(&length) => Ok(length),
        Some(_) => Err("must be 4s to 1h".to_owned()),
        None => Err("write a number with a unit, such as 20s or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(length("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(length("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "20", "3s", "2h", "soon"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }
}
