//! The configuration of `outgrow run -- COMMAND`, without a file.
//!
//! It goes the same way as a file: the options become a tree, and the rooms read and check it.

use outgrow_core::settings::{Entry, Node, Problem, Span, Value};

use super::{Config, Surroundings, load_tree};

/// Name of the one service and the one route.
const APP: &str = "app";

/// What `outgrow run -- COMMAND` was asked for. Every text is checked by
/// [`configuration`](Self::configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The command and its arguments. One word with a blank in it is a line for the shell.
    pub command: Vec<String>,
    /// `--listen`: where the application is offered; by default `0.0.0.0:8080`.
    pub listen: Option<String>,
    /// `--instances`: how many run.
    pub instances: Option<u16>,
    /// `--admin`: address of the admin listener, or `off`.
    pub admin: Option<String>,
    /// `--access`: where the access records go.
    pub access: Option<String>,
    /// `--check`: the path that says whether an instance is ready.
    pub check: Option<String>,
}

impl CommandLine {
    /// One listener `public`, one service `app` with the command, one route `app` for everything.
    ///
    /// The paths of the errors are the options: `--listen`.
    pub fn configuration(&self, surroundings: &Surroundings<'_>) -> Result<Config, Vec<Problem>> {
        let loaded = load_tree(self.tree(), Vec::new(), surroundings);
        match loaded {
            Ok(loaded) => Ok(loaded.config),
            Err(problems) => Err(problems.into_iter().map(name_option).collect()),
        }
    }

    fn tree(&self) -> Node {
        let listen = self.listen.as_deref().unwrap_or("0.0.0.0:8080");
        let mut service = vec![entry("command", self.command_node())];
        if let Some(instances) = self.instances {
            service.push(entry("instances", node(Value::Integer(instances.into()))));
        }
        if let Some(path) = &self.check {
            service.push(entry("check", table(vec![entry("path", string(path))])));
        }
        let mut root = vec![
            entry(
                "listener",
                named("public", vec![entry("address", string(listen))]),
            ),
            entry("service", named(APP, service)),
            entry("route", named(APP, vec![entry("service", string(APP))])),
        ];
        if let Some(admin) = &self.admin {
            root.push(entry("admin", table(vec![entry("listen", string(admin))])));
        }
        if let Some(access) = &self.access {
            root.push(entry("access", table(vec![entry("to", string(access))])));
        }
        table(root)
    }

    fn command_node(&self) -> Node {
        match self.command.as_slice() {
            [line] if line.contains(char::is_whitespace) => string(line),
            words => node(Value::Array(
                words.iter().map(|word| string(word)).collect(),
            )),
        }
    }
}

/// The path of a setting becomes the option that set it.
fn name_option(problem: Problem) -> Problem {
    let options = [
        ("listener.public", "--listen"),
        ("service.app.instances", "--instances"),
        ("service.app.check", "--check"),
        ("service.app.command", "COMMAND"),
        ("admin", "--admin"),
        ("access", "--access"),
    ];
    let option = options
        .iter()
        .find(|(path, _)| problem.path.starts_with(path))
        .map(|(_, option)| (*option).to_owned());
    Problem {
        path: option.unwrap_or(problem.path),
        ..problem
    }
}

fn node(value: Value) -> Node {
    let span = Span::default();
    Node { span, value }
}

fn string(text: &str) -> Node {
    Node::string(Span::default(), text)
}

fn table(entries: Vec<Entry>) -> Node {
    node(Value::Table(entries))
}

fn named(name: &str, entries: Vec<Entry>) -> Node {
    table(vec![entry(name, table(entries))])
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.to_owned(),
        key_span: Span::default(),
        node,
    }
}
