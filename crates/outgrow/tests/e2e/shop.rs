//! The shop as the tests' application, run by the outgrow under test or beside it, and what the
//! admin listener says of it. Not here: the shoppers, which are `outgrow_shop::shoppers`.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use outgrow_testkit::{
    child::TestChild,
    outgrow::{Outgrow, binary},
    ports, wait,
};
use serde_json::Value;

/// How long anything may take that should happen soon; generous, for machines with much to do.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The command that runs the shop, as an array of the configuration.
pub(crate) fn command() -> String {
    let binary = binary().expect("a binary to test");
    format!("[\"{}\", \"shop\"]", binary.display())
}

/// A configuration: the shop as a supervised service behind `%public%`, with `extra` in the
/// service's table.
pub(crate) fn config(instances: usize, extra: &str) -> String {
    let command = command();
    format!(
        r#"
[access]
to = "access.log"

[listener.public]
address = "%public%"

[service.shop]
command = {command}
instances = {instances}
environment = {{ SHOP_FAULTS = "1" }}
{extra}

[service.shop.check]
path = "/readyz"
interval = "500ms"
fast_interval = "50ms"

[route.shop]
service = "shop"
idempotency_key = true
"#
    )
}

/// What the admin listener says of everything.
pub(crate) fn state(outgrow: &Outgrow) -> Value {
    let response = outgrow.admin_get("/state").expect("the state");
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().expect("the state is JSON")
}

/// As [`state`], while the data process may be away.
pub(crate) fn try_state(outgrow: &Outgrow) -> Option<Value> {
    let response = outgrow.admin_get("/state").ok()?;
    response.json().ok()
}

/// The data process that serves.
pub(crate) fn data_pid(outgrow: &Outgrow) -> u32 {
    let pid = state(outgrow)["data"]["pid"].as_u64();
    u32::try_from(pid.expect("a pid")).expect("a pid")
}

/// The instances as the state shows them.
pub(crate) fn instances(outgrow: &Outgrow) -> Vec<Value> {
    let state = try_state(outgrow);
    let instances = state.and_then(|state| state["instances"].as_array().cloned());
    instances.unwrap_or_default()
}

/// The pids of the instances that are ready.
pub(crate) fn ready_pids(outgrow: &Outgrow) -> Vec<u32> {
    let instances = instances(outgrow);
    let ready = instances
        .iter()
        .filter(|instance| instance["state"] == "ready");
    let pids = ready.filter_map(|instance| instance["pid"].as_u64());
    pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
}

/// Waits until so many instances are ready, and no other is there.
pub(crate) fn wait_ready(outgrow: &Outgrow, count: usize) -> Vec<u32> {
    let what = format!("{count} instances are ready");
    let ready = outgrow.wait(&what, SOON, |outgrow| {
        let pids = ready_pids(outgrow);
        (pids.len() == count && instances(outgrow).len() == count).then_some(pids)
    });
    ready.unwrap_or_else(|error| panic!("{error}\n{:#?}", instances(outgrow)))
}

/// A shop that runs beside outgrow, as an endpoint that somebody else starts.
pub(crate) struct Beside {
    _child: TestChild,
    pub(crate) address: SocketAddr,
}

impl Beside {
    /// Starts it on a free port and waits until it accepts.
    pub(crate) fn start() -> io::Result<Self> {
        let address = ports::free(1)?[0];
        let child = TestChild::start(
            Command::new(binary().map_err(io::Error::other)?)
                .arg("shop")
                .env("PORT", address.port().to_string())
                .env("SHOP_FAULTS", "1")
                .env("OUTGROW_INSTANCE", format!("beside-{}", address.port()))
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )?;
        let shop = Self {
            _child: child,
            address,
        };
        let accepts = || TcpStream::connect(address).ok();
        wait::until("the shop accepts", SOON, accepts).map_err(io::Error::other)?;
        Ok(shop)
    }
}
