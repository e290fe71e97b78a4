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
    let resources = "[service.app.resources]\nmemory = \"64MiB\"\nrequired = true\n";
    let config = greedy_config(&folder, resources);
    let limits = "resources.required = true: memory: outgrow cannot make control groups";
    let program = |outgrow: &Outgrow| {
        let exit = instance(outgrow)["last_exit"].as_str()?.to_owned();
        exit.contains(limits).then_some(())
    };
    // It is never ready, which is waited for: so there is another one.
    let two = format!(
        "{config}\n[service.other]\nendpoints = [\"%admin%\"]\n\n[route.other]\npath = \"/other\"\n\
         service = \"other\"\n"
    );
    let outgrow = start_as_nobody(&folder, &two);
    outgrow.wait("the reason", SOON, program).expect("told");
    assert_eq!(instance(&outgrow)["pid"], Value::Null);
    outgrow.stop().expect("everything has ended");
    // With rights the same file is good.
    let outgrow = super::super::start(&config);
    wait_limits(&outgrow, "enforced", "memory_bytes", json!(64 << 20));
    outgrow.stop().expect("everything has ended");
}
