//! `cargo xtask package deb`: the Debian package, by dpkg-deb and what is in packaging/.
//!
//! `--try` installs it in a copy of this machine (a mount namespace with an overlay), runs what it
//! brings, upgrades and purges it. Deliberately not here: signing, repositories, other distributions.

mod installed;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::arguments::Arguments;
use crate::command;
use crate::profiled;
use crate::workspace::Workspace;

/// Where things of packaging/ and of the source go, with their modes.
const FILES: [(&str, &str, u32); 12] = [
    (
        "packaging/systemd/outgrow.service",
        "usr/lib/systemd/system/outgrow.service",
        0o644,
    ),
    (
        "packaging/systemd/outgrow.default",
        "etc/default/outgrow",
        // It may hold a token.
        0o640,
    ),
    (
        "packaging/systemd/outgrow.socket",
        "usr/share/doc/outgrow/examples/outgrow.socket",
        0o644,
    ),
    (
        "packaging/debian/copyright",
        "usr/share/doc/outgrow/copyright",
        0o644,
    ),
    (
        "packaging/debian/lintian-overrides",
        "usr/share/lintian/overrides/outgrow",
        0o644,
    ),
    ("packaging/debian/conffiles", "DEBIAN/conffiles", 0o644),
    ("packaging/debian/postinst", "DEBIAN/postinst", 0o755),
    ("packaging/debian/prerm", "DEBIAN/prerm", 0o755),
    ("packaging/debian/postrm", "DEBIAN/postrm", 0o755),
    ("packaging/outgrow.1", "usr/share/man/man1/outgrow.1", 0o644),
    (
        "docs/reference.md",
        "usr/share/doc/outgrow/reference.md",
        0o644,
    ),
    (
        "docs/outgrow.schema.json",
        "usr/share/doc/outgrow/outgrow.schema.json",
        0o644,
    ),
];
/// Debian wants these packed.
const PACKED: [&str; 3] = [
    "usr/share/man/man1/outgrow.1",
    "usr/share/doc/outgrow/changelog",
    "usr/share/doc/outgrow/reference.md",
];

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    let what = arguments.word();
    ensure!(
        what.as_deref() == Some("deb"),
        "package deb is what there is; see `cargo xtask help`"
    );
    let binary = arguments.value("--binary")?.map(PathBuf::from);
    let output = arguments.value("--output")?.map(PathBuf::from);
    let is_tried = arguments.flag("--try");
    arguments.finish()?;
    let workspace = Workspace::load()?;
    let binary = match binary {
        Some(binary) => binary,
        None => profiled::build_or_plain(&workspace)?,
    };
    let output = output.unwrap_or_else(|| workspace.target.join("package"));
    let package = deb(&workspace, &binary, &output, "-Zxz")?;
    println!("{}", package.display());
    if is_tried {
        installed::try_out(&workspace, &package)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The step of `cargo xtask test`: the package of the binary that the tests run.
pub(crate) fn check(workspace: &Workspace, binary: &Path) -> anyhow::Result<bool> {
    // Not packed: that takes longer than all the rest.
    let package = deb(
        workspace,
        binary,
        &workspace.target.join("package"),
        "-Znone",
    )?;
    installed::try_out(workspace, &package)?;
    Ok(true)
}

fn deb(
    workspace: &Workspace,
    binary: &Path,
    output: &Path,
    packing: &str,
) -> anyhow::Result<PathBuf> {
    let dpkg = command::find("dpkg-deb").context("dpkg-deb is not installed: this needs Debian")?;
    let version = env!("CARGO_PKG_VERSION");
    let architecture = command::output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let root = output.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let text = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    put(&root, "usr/bin/outgrow", &text, 0o755)?;
    let mut strip = Command::new("strip");
    command::must(
        strip
            .arg("--strip-unneeded")
            .arg(root.join("usr/bin/outgrow")),
    )?;
    is_documented(binary, &workspace.root.join("packaging/outgrow.1"))?;
    for (from, to, mode) in FILES {
        let path = workspace.root.join(from);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        put(&root, to, &text, mode)?;
    }
    for example in fs::read_dir(workspace.root.join("examples"))? {
        let path = example?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let to = format!("usr/share/doc/outgrow/examples/{name}");
            put(&root, &to, &fs::read(&path)?, 0o644)?;
        }
    }
    folder(&root.join("etc/outgrow"), 0o750)?;
    put(
        &root,
        "usr/share/doc/outgrow/changelog",
        changelog(workspace, version)?.as_bytes(),
        0o644,
    )?;
    for packed in PACKED {
        command::must(
            Command::new("gzip")
                .args(["-9", "-n"])
                .arg(root.join(packed)),
        )?;
    }
    let size = size(&root)?.div_ceil(1024);
    let libc = needed_libc(&text).context("the binary is not linked with the GNU C library")?;
    let control = fs::read_to_string(workspace.root.join("packaging/debian/control"))?
        .replace("%version%", version)
        .replace("%architecture%", architecture)
        .replace("%size%", &size.to_string())
        .replace("%libc%", &libc);
    put(&root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    let package = output.join(format!("outgrow_{version}_{architecture}.deb"));
    let mut build = Command::new(dpkg);
    build.args(["--root-owner-group", packing, "--build"]);
    command::output(build.arg(&root).arg(&package))?;
    Ok(package)
}

fn put(root: &Path, to: &str, text: &[u8], mode: u32) -> anyhow::Result<()> {
    let path = root.join(to);
    let parents: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|path| *path != root)
        .collect();
    folder(root, 0o755)?;
    for parent in parents.into_iter().rev() {
        if !parent.exists() {
            folder(parent, 0o755)?;
        }
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(mode),
    )?)
}

/// Whatever the umask says.
fn folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn size(path: &Path) -> anyhow::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let data = entry.metadata()?;
        size += if data.is_dir() {
            self::size(&entry.path())?
        } else {
            data.len()
        };
    }
    Ok(size)
}

/// What users see is in CHANGELOG.md; here is what Debian's tools want.
fn changelog(workspace: &Workspace, version: &str) -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root);
    let date = command::output(git.args(["log", "-1", "--format=%aD"]))?;
    Ok(format!(
        "outgrow ({version}) unstable; urgency=medium\n\n  * Built from the source; CHANGELOG.md of it says what is new.\n\n \
         -- The Outgrow authors <outgrow@outgrow.example>  {}\n",
        date.trim()
    ))
}

/// The newest version of the C library that a symbol of the binary is of.
fn needed_libc(binary: &[u8]) -> Option<String> {
    let mark = b"GLIBC_2.";
    let mut newest = None;
    for at in 0..binary.len().saturating_sub(mark.len()) {
        if !binary[at..].starts_with(mark) {
            continue;
        }
        let digits = binary[at + mark.len()..].iter();
        let digits: Vec<u8> = digits
            .copied()
            .take_while(u8::is_ascii_digit)
            .take(4)
            .collect();
        let minor = String::from_utf8_lossy(&digits).parse::<u32>().ok();
        newest = newest.max(minor);
    }
    newest.map(|minor| format!("2.{minor}"))
}

/// Every command that `outgrow help` shows is in the manual page.
fn is_documented(binary: &Path, page: &Path) -> anyhow::Result<()> {
    let help = command::output(Command::new(binary).arg("--help"))?;
    let page =
        fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    for command in commands(&help) {
        ensure!(
            page.contains(&format!(".B outgrow {command}")),
            "packaging/outgrow.1 says nothing of `outgrow {command}`"
        );
    }
    Ok(())
}

/// The commands that a help text of clap lists.
fn commands(help: &str) -> Vec<&str> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    let list = list.split("\nOptions:").next().unwrap_or_default();
    // The descriptions' further lines are further in.
    let lines = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let binary = b"x GLIBC_2.2.5 y GLIBC_2.34 GLIBC_2.17\0 GLIBC_2.x";
        assert_eq!(needed_libc(binary).as_deref(), Some("2.34"));
        assert_eq!(needed_libc(b"static"), None);
    }

    #[test]
    fn commands_are_those_at_the_margin() {
        let help = "Usage: x\n\nCommands:\n  run   Runs\n          more\n  stop  Ends\n  help  Print\n\nOptions:\n  -h\n";
        assert_eq!(commands(help), ["run", "stop"]);
    }
}
