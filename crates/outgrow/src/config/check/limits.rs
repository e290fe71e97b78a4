//! Limits against what there is: of all instances together against the machine, where more may be meant (not
//! all are busy at a time), but somebody should know; and of bodies against the process's memory.

use outgrow_core::settings::{ByteSize, Problem};
use outgrow_fleet::cgroup::people_bytes;
use outgrow_fleet::machine::Size;

use super::Check;
use crate::config::Config;

impl Check<'_> {
    /// Tells when the limits of all services together are more than the machine has.
    pub(super) fn overcommitted(&mut self, config: &Config, machine: Option<Size>) {
        let Some(machine) = machine else { return };
        let cores = usize::try_from(machine.cpu_thousandths.div_ceil(1_000)).unwrap_or(usize::MAX);
        let (mut cpu, mut memory) = (0_u64, 0_u64);
        let mut last = None;
        for (name, service) in &config.service {
            let Some(settings) = &service.instances else {
                continue;
            };
            let count = u64::from(settings.instances_on(cores));
            let limits = settings.resources.limits();
            let sum = |limit: Option<u64>| limit.unwrap_or(0).saturating_mul(count);
            cpu = cpu.saturating_add(sum(limits.cpu_thousandths.map(u64::from)));
            memory = memory.saturating_add(sum(limits.memory_bytes));
            if limits.is_any() {
                last = Some(name.as_str());
            }
        }
        let Some(last) = last else { return };
        if cpu > machine.cpu_thousandths {
            let (all, there) = (cores_text(cpu), cores_text(machine.cpu_thousandths));
            let message = format!(
                "the processor limits of all instances together are {all} cores, and there are \
                 {there}"
            );
            self.too_much(last, "cpu", message);
        }
        if let Some(there) = machine.memory_bytes.filter(|there| memory > *there) {
            let (all, there) = (people_bytes(memory), people_bytes(there));
            let message = format!(
                "the memory limits of all instances together are {all}, and there are {there}: \
                 the machine may run out of memory before an instance reaches its limit"
            );
            self.too_much(last, "memory", message);
        }
    }

    /// Tells of windows for which there is never room.
    pub(super) fn windows(&mut self, config: &Config) {
        let memory = config.process.memory;
        for (name, route) in &config.route {
            let Some(settings) = &route.decompress else {
                continue;
            };
            let least = settings.least_memory();
            if least > memory.bytes() {
                let message = format!(
                    "a body that needs a window of {} is always refused (503) with {memory} of \
                     `process.memory`",
                    settings.max_window
                );
                let hint = format!(
                    "lower `max_window`, or set `memory` of [process] to {} or more",
                    ByteSize(least)
                );
                self.warning(&["route", name.as_str(), "decompress"], message, &hint);
            }
        }
    }

    fn too_much(&mut self, service: &str, key: &str, message: String) {
        let path = ["service", service, "resources", key];
        let written = self.root.find(&path).is_some();
        let path = if written { &path[..] } else { &path[..3] };
        let problem = Problem::warning(self.span(path), path.join("."), message);
        let hint = "lower a limit or the number of instances, unless they are never busy together";
        self.reader.push(problem.with_hint(hint));
    }
}

fn cores_text(thousandths: u64) -> String {
    let number = u32::try_from(thousandths).unwrap_or(u32::MAX);
    outgrow_core::settings::Decimal::thousandths(number).to_string()
}
