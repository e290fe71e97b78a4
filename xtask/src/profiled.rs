//! `cargo xtask profiled`: the binary that packages have, compiled for what it does most.
//!
//! The compiler counts in one build what the next one is arranged by (profile-guided optimisation). What
//! is counted are the benches' own exchanges, over every protocol at once, so that none is arranged for
//! at the cost of the others. Both builds are linked as a whole: a function's name depends on how, and
//! counts are found by name.
//! Deliberately not here: measuring; `cargo xtask bench … --binary` does.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

use crate::arguments::Arguments;
use crate::bench;
use crate::command;
use crate::workspace::Workspace;

/// What is run to be counted: benches, for a second each, since counters are exact, not sampled.
const WORK: [&[&str]; 4] = [
    &["edge", "--seconds", "1"],
    &["tls", "--seconds", "1"],
    &["h2", "--seconds", "1"],
    &["postgres", "--for", "1s", "--scenarios", "select,tpcb"],
];

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output: Option<PathBuf> = arguments.parsed("--output")?;
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let built = build(&workspace, &profdata()?)?;
    let binary = match output {
        None => built,
        Some(output) => {
            fs::copy(&built, &output)
                .with_context(|| format!("cannot write {}", output.display()))?;
            output
        }
    };
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// The binary that packages have; or the plain release build where the compiler's tools cannot be had,
/// which is said.
pub(crate) fn build_or_plain(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    match profdata() {
        Ok(merger) => build(workspace, &merger),
        Err(error) => {
            eprintln!("profiled: {error:#}: this is a plain release build");
            plain(workspace)
        }
    }
}

/// The plain release build.
pub(crate) fn plain(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let mut cargo = command::cargo();
    cargo.current_dir(&workspace.root);
    command::must(cargo.args(["build", "--release", "--locked", "-p", "outgrow"]))?;
    Ok(workspace.target.join("release/outgrow"))
}

/// Builds it: counts, works, builds again. What has not changed is not done again.
fn build(workspace: &Workspace, merger: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace.target.join("profiled");
    let (raw, counts) = (folder.join("raw"), folder.join("counts.profdata"));
    eprintln!("profiled: 1 of 3: a build that counts");
    let counting = cargo(
        workspace,
        &folder.join("counting"),
        &format!("-Cprofile-generate={}", raw.display()),
    )?;
    if is_newer(&counting, &counts) {
        eprintln!("profiled: 2 of 3: the work that is counted");
        count(&counting, &raw)?;
        let mut merged = Command::new(merger);
        merged.args(["merge", "-o"]).arg(&counts).arg(&raw);
        command::must(&mut merged)?;
    }
    eprintln!("profiled: 3 of 3: the build that is arranged by them");
    let arranged = cargo(
        workspace,
        &folder.join("arranged"),
        &format!("-Cprofile-use={}", counts.display()),
    )?;
    is_arranged_by(&arranged, &counts, merger)?;
    if let Some(source) = newest_source(&counting)?.filter(|source| is_newer(source, &counting)) {
        bail!(
            "{} changed after it was counted, so the counts of its functions were not used: run it again",
            source.display()
        );
    }
    Ok(arranged)
}

/// The compiler says nothing where it finds no counts: so it is looked at here.
fn is_arranged_by(arranged: &Path, counts: &Path, merger: &Path) -> anyhow::Result<()> {
    let mut show = Command::new(merger);
    let shown = command::output(show.args(["show", "--all-functions"]).arg(counts))?;
    // Names of functions that others do not see have the module's in front.
    let names = shown.lines().filter_map(|line| line.strip_suffix(':'));
    let counted: HashSet<&str> = names
        .map(|line| line.rsplit(';').next().unwrap_or(line).trim())
        .collect();
    let mut list = Command::new(merger.with_file_name("llvm-nm"));
    let listed = command::output(list.arg("--format=just-symbols").arg(arranged))?;
    let ours = listed.lines().filter(|name| name.contains("outgrow"));
    let (mut all, mut known) = (0, 0);
    for name in ours {
        all += 1;
        // What the compiler splits off (`.cold`) is as its function.
        known += usize::from(counted.contains(name.split(".cold").next().unwrap_or(name)));
    }
    eprintln!("profiled: {known} of {all} functions have counts");
    ensure!(
        known * 2 > all,
        "the counts are those of other functions: both builds must be of the same settings"
    );
    Ok(())
}

/// Of the sources that a binary is built of, the one that was changed last, by the list beside it.
fn newest_source(binary: &Path) -> anyhow::Result<Option<PathBuf>> {
    let list = binary.with_extension("d");
    let text =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let sources = text.split_once(": ").map_or("", |(_, sources)| sources);
    let sources = sources.split_whitespace().map(PathBuf::from);
    Ok(sources.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok()))
}

fn is_newer(one: &Path, other: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    changed(one) >= changed(other)
}

/// Has the counting build work. What cannot be run on this machine is told, and not counted.
fn count(counting: &Path, raw: &Path) -> anyhow::Result<()> {
    if raw.exists() {
        fs::remove_dir_all(raw).context("cannot empty the folder of old counts")?;
    }
    fs::create_dir_all(raw).with_context(|| format!("cannot create {}", raw.display()))?;
    let mut counted = 0;
    for work in WORK {
        let alone = ["--peers", "", "--rounds", "1", "--binary"];
        let words = work.iter().chain(&alone).map(|word| (*word).to_owned());
        let words = words.chain([counting.display().to_string()]);
        match bench::run(Arguments::new(words)) {
            Ok(code) if code == ExitCode::SUCCESS => counted += 1,
            Ok(_) => eprintln!("profiled: bench {} missed something", work[0]),
            Err(error) => eprintln!("profiled: bench {} is not counted: {error:#}", work[0]),
        }
    }
    ensure!(counted > 0, "no bench could be run, so nothing was counted");
    Ok(())
}

/// The binary of a release build with one more flag for our code and what it depends on, but not for
/// what only the build runs.
fn cargo(workspace: &Workspace, target: &Path, flag: &str) -> anyhow::Result<PathBuf> {
    let triple = triple()?;
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push(' ');
    flags.push_str(flag);
    let mut cargo = command::cargo();
    cargo
        .current_dir(&workspace.root)
        .args([
            "build",
            "--release",
            "--locked",
            "-p",
            "outgrow",
            "--bin",
            "outgrow",
        ])
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTFLAGS", flags.trim());
    command::must(&mut cargo)?;
    Ok(target.join(triple).join("release/outgrow"))
}

/// What the compiler compiles for when nothing is said.
fn triple() -> anyhow::Result<String> {
    let told = command::output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The compiler's own program that merges counts; any other's may not know their form.
fn profdata() -> anyhow::Result<PathBuf> {
    let root = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let path = Path::new(root.trim())
        .join("lib/rustlib")
        .join(triple()?)
        .join("bin/llvm-profdata");
    if !path.exists() {
        let mut rustup = Command::new("rustup");
        let added = command::succeeds(rustup.args(["component", "add", "llvm-tools"]));
        ensure!(
            added.unwrap_or(false) && path.exists(),
            "llvm-profdata of this compiler is missing: rustup component add llvm-tools"
        );
    }
    Ok(path)
}
