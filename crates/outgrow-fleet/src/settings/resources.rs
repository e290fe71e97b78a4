//! `[service.NAME.resources]` and `workers`: how much an instance may use, and how much it shall make
//! of it. How limits are enforced is in `cgroup`.

use outgrow_core::settings::{
    ByteSize, ChoiceDescription, Decimal, Kind, Node, Reader, Setting, TableReader, Value,
};

use super::InstanceSettings;
use crate::protocol::Limits;

/// The most workers that can be told.
const WORKERS_LIMIT: u16 = 1_024;

outgrow_core::settings! {
    /// What each instance of the service may use at most, with all processes that it starts. The
    /// kernel enforces it by control groups (v1 or v2), which outgrow makes below its own where it
    /// may: as root, as a systemd service with `Delegate=yes`, in a container with writable control
    /// groups. Where it may not, the instances run without these limits, and the log and `/state`
    /// say why. A change is written to the instances that run; none is replaced for it, unless
    /// `workers = "auto"` comes to another number by it.
    pub struct ResourceSettings {
        /// Processor time, in cores: 0.5 is half of one, 2 is two. An instance that wants more is
        /// held back for the rest of each tenth of a second. Left out: no limit.
        pub cpu: Option<Decimal> = None,
            in Some(Decimal::thousandths(10))..=Some(Decimal::thousandths(1_024_000));
        /// Memory, with what the kernel keeps of files for it; swap is not limited. An instance that
        /// needs more has a process killed by the kernel: mostly itself, and then it is started
        /// again. A limit that is lowered below what the instance holds is refused, the one before
        /// stays, and the new one holds from the next start. An instance that had no limit at all is
        /// not charged for what it took before. Left out: no limit.
        pub memory: Option<ByteSize> = None,
            in Some(ByteSize::mib(4))..=Some(ByteSize(1 << 50));
        /// Processes and threads together. One more cannot be started then. Left out: no limit.
        pub processes: Option<u32> = None, in Some(2)..=Some(4_194_304);
        /// Whether an instance is not started where these limits cannot be enforced.
        pub required: bool = false;
    }
}

impl ResourceSettings {
    /// For the keeper.
    pub fn limits(&self) -> Limits {
        Limits {
            cpu_thousandths: self.cpu.map(Decimal::as_thousandths),
            memory_bytes: self.memory.map(ByteSize::bytes),
            processes: self.processes,
            required: self.required,
        }
    }
}

/// How many workers an instance shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many.
    Count(u16),
    /// By the processor time that it may use.
    Auto,
}

impl Setting for Workers {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Value::String { text, .. } = &node.value
            && text == "auto"
        {
            return Some(Self::Auto);
        }
        if let Value::String {
            text,
            from_environment: false,
        } = &node.value
        {
            let hint = "write for example 4, or \"auto\"".to_owned();
            reader.wrong_value(node, text, "is neither a number nor \"auto\"", hint);
            return None;
        }
        let count = u16::read(node, reader)?;
        if (1..=WORKERS_LIMIT).contains(&count) {
            return Some(Self::Count(count));
        }
        let message = format!("{count} is outside of what is possible: 1 to {WORKERS_LIMIT}");
        reader.error_with_hint(node.span, message, "write for example 4, or \"auto\"");
        None
    }

    fn kind() -> Kind {
        Kind::Any(vec![
            Kind::Integer {
                minimum: 1,
                maximum: WORKERS_LIMIT.into(),
            },
            Kind::Choice(vec![ChoiceDescription {
                name: "auto",
                doc: "By the processor time that an instance may use.".to_owned(),
            }]),
        ])
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Count(count) => Some(count.to_string()),
            Self::Auto => Some("\"auto\"".to_owned()),
        }
    }
}

/// The variable of `workers` has one value only.
pub(super) fn check_workers(settings: &InstanceSettings, table: &mut TableReader<'_, '_>) {
    let name = settings.workers_variable.as_str();
    if settings.workers.is_none() {
        if table.has("workers_variable") {
            let message = "`workers_variable` means nothing without `workers`";
            table.problem("workers_variable", message, "add workers = \"auto\"");
        }
        return;
    }
    if settings
        .environment
        .keys()
        .any(|other| other.as_str() == name)
    {
        let message = format!("`workers` sets {name}, which `environment` sets as well");
        let hint = format!("remove {name} from `environment`, or `workers`");
        table.problem("workers", message, hint);
    }
    let is_ours = ["PORT", "HOST", "SOCKET"].contains(&name) || name.starts_with("OUTGROW_");
    if is_ours {
        let message = format!("{name} tells the instance something else");
        let hint = "use another name, such as WEB_CONCURRENCY";
        table.problem("workers_variable", message, hint);
    }
}
