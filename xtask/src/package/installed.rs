//! The package installed, used, upgraded and purged in a copy of this machine: a mount namespace
//! whose root is an overlay over ours, so that nothing of ours is changed. What needs a systemd that
//! runs is deliberately not tried; its unit is read by `systemd-analyze`, where that is there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::command;
use crate::workspace::Workspace;

/// The worst score that the unit may have (`systemd-analyze security`: 0 is best, 10 is worst).
const EXPOSURE: &str = "2.5";
/// Prepares the copy and runs the script in it.
const ENTER: &str = r#"
set -e
room=$(mktemp -d)
mount -t tmpfs none "$room"
mkdir "$room/upper" "$room/work" "$room/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$room/root"
for one in proc dev sys; do mount --rbind "/$one" "$room/root/$one"; done
mount -t tmpfs none "$room/root/run"
cp "$2" "$room/root/run/outgrow.deb"
printf '%s' "$1" > "$room/root/run/script"
exec chroot "$room/root" /bin/sh /run/script
"#;
/// What is done there. Each line that begins with `say` tells how far it came.
const SCRIPT: &str = r#"
set -e
say() { echo "   $*"; }
fail() { echo "   FAILED: $*"; exit 1; }
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg --install /run/outgrow.deb >/run/log 2>&1 || { cat /run/log; fail installation; }
say installed: $(/usr/bin/outgrow --version)
id outgrow >/dev/null || fail "there is no user"
[ "$(stat -c %U:%G:%a /etc/outgrow)" = root:outgrow:750 ] || fail "the rights of /etc/outgrow"
[ -z "$(ls -A /etc/outgrow)" ] || fail "/etc/outgrow is not empty"
/usr/bin/outgrow check --config /etc/outgrow/outgrow.toml 2>/dev/null && fail "there is a configuration"
grep -q ConditionPathExists=/etc/outgrow/outgrow.toml /usr/lib/systemd/system/outgrow.service || fail "the unit starts without one"
zcat /usr/share/man/man1/outgrow.1.gz >/dev/null || fail "the manual page"
cat >/etc/outgrow/outgrow.toml <<END
[listener.public]
address = "127.0.0.1:89"
[route.hello]
redirect = { to = "/there" }
[admin]
listen = "unix:/run/outgrow-admin"
END
chmod 0777 /run
# As the unit does, with what root can do instead of systemd.
/usr/bin/outgrow run --user outgrow --config /etc/outgrow/outgrow.toml >/run/out 2>&1 &
export OUTGROW_ADMIN=unix:/run/outgrow-admin
for _ in $(seq 200); do /usr/bin/outgrow ready >/dev/null 2>&1 && break; sleep 0.05; done
/usr/bin/outgrow ready >/dev/null || { cat /run/out; fail "it is not ready"; }
[ "$(stat -c %U /proc/$!)" = outgrow ] || fail "it is not of its user"
say serves as $(stat -c %U /proc/$!) at port 89
# A newer package over one that runs: as postinst does it where systemd is.
dpkg --install /run/outgrow.deb >/run/log 2>&1 || { cat /run/log; fail "installation over it"; }
kill -USR2 $!
for _ in $(seq 200); do grep -q "the keeper is of version" /run/out && break; sleep 0.05; done
grep -q "the keeper is of version" /run/out || { cat /run/out; fail "the upgrade"; }
/usr/bin/outgrow ready >/dev/null || fail "it is not ready after the upgrade"
say upgraded in place
/usr/bin/outgrow stop >/dev/null
wait $! || fail "it did not stop in order"
dpkg --remove outgrow >/run/log 2>&1 || { cat /run/log; fail removal; }
[ -e /etc/outgrow/outgrow.toml ] || fail "the configuration is gone with the package"
[ -e /etc/default/outgrow ] || fail "a file of the configuration is gone before the purge"
mkdir -p /var/lib/outgrow
dpkg --purge outgrow >/run/log 2>&1 || { cat /run/log; fail purge; }
[ ! -e /etc/default/outgrow ] && [ ! -e /var/lib/outgrow ] || fail "something is left"
[ -e /etc/outgrow/outgrow.toml ] || fail "what the user wrote is gone"
say removed and purged
"#;

/// Does it all; an error says at what.
pub(super) fn try_out(workspace: &Workspace, package: &Path) -> anyhow::Result<()> {
    lint(package)?;
    unit(workspace)?;
    let package = package.canonicalize().context("there is no package")?;
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        ENTER,
        "sh",
        SCRIPT,
    ]);
    command::must(unshare.arg(package)).context(
        "the package could not be tried in a copy of this machine, which needs root and overlayfs",
    )
}

/// What lintian says of a package that is not packed.
const NOT_PACKED: &str =
    "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";

/// What Debian's own checker says, where it is installed.
fn lint(package: &Path) -> anyhow::Result<()> {
    let Some(lintian) = command::find("lintian") else {
        println!("   not checked by lintian: it is not installed");
        return Ok(());
    };
    let mut lintian = Command::new(lintian);
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    // The one that the tests make is not packed.
    lintian.args(["--suppress-tags", NOT_PACKED]);
    command::must(lintian.arg(package)).context("lintian found something")
}

/// What systemd says of the unit, where it is installed; it need not run.
fn unit(workspace: &Workspace) -> anyhow::Result<()> {
    let Some(analyze) = command::find("systemd-analyze") else {
        println!("   the unit is not checked: there is no systemd-analyze");
        return Ok(());
    };
    let unit = workspace.root.join("packaging/systemd/outgrow.service");
    let mut security = Command::new(&analyze);
    security.args(["security", "--offline=true", "--no-pager", "--threshold"]);
    let found = security
        .arg(EXPOSURE.replace('.', ""))
        .arg(&unit)
        .output()?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let verdict = text
        .lines()
        .rev()
        .find(|line| line.contains("exposure level"));
    let Some(verdict) = verdict else {
        bail!(
            "systemd-analyze security: {}",
            String::from_utf8_lossy(&found.stderr)
        );
    };
    println!("  {verdict}");
    ensure!(
        found.status.success(),
        "the unit is exposed more than {EXPOSURE}\n{text}"
    );
    let mut verify = Command::new(&analyze);
    verify.args(["verify", "--man=no"]).arg(&unit);
    let found = verify.output()?;
    let text = String::from_utf8_lossy(&found.stderr);
    // Not installed here, which the copy is for.
    let problem =
        |line: &&str| line.contains("outgrow.service") && !line.contains("is not executable");
    match text.lines().find(problem) {
        None => Ok(()),
        Some(line) => bail!("systemd-analyze verify: {line}"),
    }
}
