//! `cargo xtask profiled`: the binary that packages have, compiled for what it does most.
//!
//! The compiler counts in one build what the next one is arranged by (profile-guided optimisation). What
//! is counted are the benches' own exchanges, over every protocol at once, so that none is arranged for
//! at the cost of the others. Both builds are linked as a whole: a function's name depends on how, and
//! counts are found by name.
//! Deliberately not here: measuring; `cargo xtask bench … --binary` does.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

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

/// The compiler's programs that are needed.
const PROFDATA: &str = "llvm-profdata";
const NM: &str = "llvm-nm";
/// At least one in so many of our functions must have been run: what the benches do is a part of it all.
const MOST_RUN_SHARE: usize = 20;

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output: Option<PathBuf> = arguments.parsed("--output")?;
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let built = build(&workspace, &tools()?)?;
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
    match tools() {
        Ok(tools) => build(workspace, &tools),
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
fn build(workspace: &Workspace, tools: &Path) -> anyhow::Result<PathBuf> {
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
        let mut merged = Command::new(tools.join(PROFDATA));
        merged.args(["merge", "-o"]).arg(&counts).arg(&raw);
        command::must(&mut merged)?;
    }
    let arranged = arrange(workspace, &counting, (&counts, tools));
    if arranged.is_err() {
        // They are of no use: the next run counts again.
        let _ = fs::remove_file(&counts);
    }
    arranged
}

/// Builds it once more, by the counts.
fn arrange(
    workspace: &Workspace,
    counting: &Path,
    (counts, tools): (&Path, &Path),
) -> anyhow::Result<PathBuf> {
    is_unchanged(counting)?;
    eprintln!("profiled: 3 of 3: the build that is arranged by them");
    let arranged = cargo(
        workspace,
        &workspace.target.join("profiled/arranged"),
        &format!("-Cprofile-use={}", counts.display()),
    )?;
    is_arranged_by(&arranged, counts, tools)?;
    is_unchanged(counting)?;
    Ok(arranged)
}

/// The compiler says nothing where it finds no counts: so it is looked at here.
fn is_arranged_by(arranged: &Path, counts: &Path, tools: &Path) -> anyhow::Result<()> {
    let mut show = Command::new(tools.join(PROFDATA));
    let shown = command::output(
        show.args(["show", "--all-functions", "--counts"])
            .arg(counts),
    )?;
    let counted = counted(&shown);
    let mut list = Command::new(tools.join(NM));
    let listed = command::output(list.arg("--format=just-symbols").arg(arranged))?;
    let ours = listed.lines().filter(|name| name.contains("outgrow"));
    let (mut all, mut known, mut run) = (0, 0, 0);
    for name in ours {
        all += 1;
        // What the compiler splits off (`.cold`) is as its function.
        let was_run = counted.get(name.split(".cold").next().unwrap_or(name));
        known += usize::from(was_run.is_some());
        run += usize::from(was_run == Some(&true));
    }
    eprintln!("profiled: {known} of {all} functions are in the counts, and {run} of them were run");
    ensure!(
        known * 2 > all,
        "the counts are those of other functions: both builds must be of the same settings"
    );
    ensure!(
        run * MOST_RUN_SHARE > known,
        "next to nothing was run while it was counted: look at what the benches said"
    );
    Ok(())
}

/// The functions that `llvm-profdata show --all-functions --counts` tells of, and whether they were run.
fn counted(shown: &str) -> HashMap<&str, bool> {
    let mut counted = HashMap::new();
    let mut last = None;
    for line in shown.lines() {
        if let Some(counts) = line.trim().strip_prefix("Block counts: [") {
            let was_run = counts.contains(|digit| matches!(digit, '1'..='9'));
            if let Some(name) = last {
                counted.insert(name, was_run);
            }
        } else if let Some(line) = line.strip_suffix(':') {
            // Names of functions that others do not see have the module's in front.
            last = Some(line.rsplit(';').next().unwrap_or(line).trim());
        }
    }
    counted
}

/// Whether what a binary was built of is what is there now: of the counts of functions that changed after
/// they were counted none are used.
fn is_unchanged(counting: &Path) -> anyhow::Result<()> {
    let list = counting.with_extension("d");
    let text =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    for source in sources(&text) {
        ensure!(
            source.exists() && !is_newer(&source, counting),
            "{} changed after it was counted, so the counts of its functions are not used: run it again",
            source.display()
        );
    }
    Ok(())
}

/// The files that a list of the compiler's names; spaces in them have a backslash before them.
fn sources(list: &str) -> Vec<PathBuf> {
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let marked = sources.replace("\\ ", "\0");
    let paths = marked.split_whitespace();
    paths.map(|path| path.replace('\0', " ").into()).collect()
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

/// Where the compiler's own programs are that merge counts and list names; any other's may not know their form.
fn tools() -> anyhow::Result<PathBuf> {
    let root = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Path::new(root.trim())
        .join("lib/rustlib")
        .join(triple()?)
        .join("bin");
    let are_there = || [PROFDATA, NM].iter().all(|tool| folder.join(tool).exists());
    if !are_there() {
        let mut rustup = Command::new("rustup");
        let added = command::succeeds(rustup.args(["component", "add", "llvm-tools"]));
        ensure!(
            added.unwrap_or(false) && are_there(),
            "{PROFDATA} or {NM} of this compiler is missing: rustup component add llvm-tools"
        );
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_were_run_are_told_from_others() {
        let shown = "Counters:\n  _RNvOne:\n    Hash: 0x01\n    Counters: 3\n    Block counts: [0, 10, 0]\n  \
            outgrow.abc-cgu.0;_RNvTwo:\n    Hash: 0x02\n    Counters: 2\n    Block counts: [0, 0]\n\
            Instrumentation level: IR  entry_first = 0\nFunctions shown: 2\n";
        let expected = HashMap::from([("_RNvOne", true), ("_RNvTwo", false)]);
        assert_eq!(counted(shown), expected);
    }

    #[test]
    fn sources_may_have_spaces() {
        let list = "/a/outgrow: /a/src/main.rs /a/my\\ file.rs\n";
        let expected = ["/a/src/main.rs", "/a/my file.rs"].map(PathBuf::from);
        assert_eq!(sources(list), expected);
    }
}
