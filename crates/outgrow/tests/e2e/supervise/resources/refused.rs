//! Where limits cannot be enforced, that is said, and what runs goes on; unless it must not.

use std::{fs, os::unix::fs::PermissionsExt};

use outgrow_testkit::{
    folder::Folder,
    outgrow::{Launch, Outgrow, binary},
};
use serde_json::{Value, json};

use super::{greedy, greedy_config, instance, one_pid, wait_limits};
use crate::shop::SOON;

/// Starts outgrow as a user without rights.
fn start_as_nobody(folder: &Folder, config: &str) -> Outgrow {
    let binary = binary().expect("a binary");
    let program = format!(
        "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups -- {} \"$@\"\n",
        binary.display()
    );
    let path = folder.write("as-nobody", program).expect("written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, executable).expect("executable");
    // Its folder is ours, and not to be written by others.
    let config = config.replace("to = \"access.log\"", "to = \"off\"");
    Launch::config(&config)
        .binary(path)
        .start()
        .expect("outgrow starts")
}

#[test]
fn without_rights_instances_run_and_it_is_said_that_nothing_limits_them() {
    let folder = greedy();
    let resources = "resources = { cpu = 0.5, memory = \"64MiB\" }";
    let outgrow = start_as_nobody(&folder, &greedy_config(&folder, resources));
    one_pid(&outgrow);
    let limits = wait_limits(&outgrow, "not enforced", "cpu_cores", Value::Null);
    let reasons = limits["reasons"].to_string();
    for part in [
        "cpu: outgrow cannot make control groups",
        "memory: ",
        "Permission denied",
    ] {
        assert!(reasons.contains(part), "{reasons}");
    }
    let told = outgrow.wait_told("app.1 is not limited as wanted: cpu: ");
    assert!(told.expect("told").contains("Delegate=yes"));
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    let line = "outgrow_instance_limits_enforced{instance=\"app.1\"} 0";
    assert!(metrics.contains(line), "{metrics}");
    outgrow.stop().expect("everything has ended");
}

#[test]
fn an_instance_whose_limits_are_required_is_not_started_without_them() {
    let folder = greedy();
    let config = |required: bool| {
        let table = format!("[service.app.resources]\nmemory = \"64MiB\"\nrequired = {required}\n");
        greedy_config(&folder, &table).replace("to = \"access.log\"", "to = \"off\"")
    };
    let mut outgrow = start_as_nobody(&folder, &config(false));
    let pid = one_pid(&outgrow);
    // What runs goes on; its next start does not come.
    outgrow.reload(&config(true)).expect("a reload");
    wait_limits(&outgrow, "not enforced", "memory_bytes", Value::Null);
    assert_eq!(one_pid(&outgrow), pid);
    outgrow.kill9(pid).expect("killed");
    let reason = "resources.required = true: memory: outgrow cannot make control groups";
    let told = |outgrow: &Outgrow| {
        let instance = instance(outgrow);
        let exit = instance["last_exit"].as_str()?;
        (exit.contains(reason) && instance["pid"] == Value::Null).then_some(())
    };
    outgrow.wait("the reason", SOON, told).expect("told");
    outgrow.stop().expect("everything has ended");
    // With rights the same file is good.
    let outgrow = super::super::start(&config(true));
    wait_limits(&outgrow, "enforced", "memory_bytes", json!(64 << 20));
    outgrow.stop().expect("everything has ended");
}
