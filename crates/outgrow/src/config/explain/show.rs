//! How an explanation is shown: for people, and for programs as JSON.

use std::fmt;

use outgrow_core::settings::{ByteSize, Name};
use serde_json::{Value as Json, json};

use super::{Explanation, Outcome, ShareTold};

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} {}{}", self.method, self.host, self.path)?;
        write_verdicts(out, "listener", &self.listeners)?;
        self.write_taken(out)?;
        write_verdicts(out, "route", &self.routes)?;
        for (name, value) in &self.parameters {
            writeln!(out, "    {{{name}}} = {value}")?;
        }
        match &self.outcome {
            Outcome::Service { .. } => self.write_service(out),
            Outcome::Redirect { status, to } => writeln!(out, "→ {status}: to {to}"),
            Outcome::Files { directory, path } => writeln!(out, "→ the file {path} of {directory}"),
            Outcome::Respond(status) => writeln!(out, "→ a fixed answer with status {status}"),
            Outcome::NotFound => writeln!(out, "→ 404: no route matches"),
            Outcome::MethodNotAllowed(methods) => {
                writeln!(out, "→ 405: the method is none of {methods}")
            }
            Outcome::BadRequest => writeln!(out, "→ 400: what is captured cannot stand there"),
            Outcome::NoListener => writeln!(out, "→ nothing listens there"),
        }
    }
}

impl Explanation {
    /// At which listener, where the URL leaves a choice: routes and limits may differ.
    fn write_taken(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(taken) = &self.listener else {
            return Ok(());
        };
        let others = self.listeners.iter();
        let others = others.filter(|(name, verdict)| verdict.is_ok() && name != taken);
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        if others.is_empty() {
            return Ok(());
        }
        let others = others.join(" or ");
        writeln!(
            out,
            "    taken: {taken}, the first that is reached; for another: --listener {others}"
        )
    }

    fn write_service(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome::Service {
            shares,
            split_by,
            chosen,
            sent,
            mirror,
        } = &self.outcome
        else {
            return Ok(());
        };
        let (lead, is_split) = match split_by {
            Some(by) => {
                writeln!(out, "→ split by {by}")?;
                ("    ", true)
            }
            None => ("→ ", false),
        };
        for share in shares {
            write!(out, "{lead}service {}", share.service)?;
            if is_split {
                write!(out, ", {}", percent(share, shares))?;
            }
            write!(out, ": {}", share.endpoints.join(", "))?;
            let is_chosen = is_split && chosen.as_ref() == Some(&share.service);
            writeln!(out, "{}", if is_chosen { " ← this request" } else { "" })?;
        }
        if let Some(sent) = sent {
            writeln!(out, "  sent as {sent}")?;
        }
        if let Some((service, share)) = mirror {
            writeln!(
                out,
                "  a copy of {share} of the requests goes to service {service}"
            )?;
        }
        if let Some(limit) = &self.body_limit {
            writeln!(out, "  a body above {limit} gets 413")?;
        }
        Ok(())
    }

    /// The same for programs.
    pub fn to_json(&self) -> Json {
        let verdicts = |list: &[(Name, Result<(), String>)]| -> Vec<Json> {
            let each = |(name, verdict): &(Name, Result<(), String>)| {
                json!({
                    "name": name.as_str(),
                    "matches": verdict.is_ok(),
                    "reason": verdict.as_ref().err(),
                })
            };
            list.iter().map(each).collect()
        };
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|(name, value)| (name.clone(), json!(value)));
        json!({
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "listeners": verdicts(&self.listeners),
            "listener": self.listener.as_ref().map(Name::as_str),
            "routes": verdicts(&self.routes),
            "route": self.route.as_ref().map(Name::as_str),
            "parameters": Json::Object(parameters.collect()),
            "outcome": self.outcome_json(),
        })
    }

    fn outcome_json(&self) -> Json {
        match &self.outcome {
            Outcome::Service {
                shares,
                split_by,
                chosen,
                sent,
                mirror,
            } => {
                let share = |share: &ShareTold| {
                    json!({
                        "service": share.service.as_str(),
                        "weight": share.weight,
                        "endpoints": share.endpoints,
                    })
                };
                let only = (split_by.is_none()).then(|| shares.first()).flatten();
                let chosen = chosen.as_ref().map(Name::as_str);
                json!({
                    "service": only.map(|share| share.service.as_str()).or(chosen),
                    "endpoints": only.map(|share| &share.endpoints),
                    "split": split_by.is_some().then(|| shares.iter().map(share).collect::<Vec<_>>()),
                    "split_by": split_by,
                    "sent": sent,
                    "mirror": mirror.as_ref().map(|(service, share)| {
                        json!({ "service": service.as_str(), "share": share })
                    }),
                    "body_limit": self.body_limit.map(ByteSize::bytes),
                })
            }
            Outcome::Redirect { status, to } => json!({ "redirect": status, "to": to }),
            Outcome::Files { directory, path } => json!({ "files": directory, "path": path }),
            Outcome::Respond(status) => json!({ "respond": status }),
            Outcome::NotFound => json!({ "respond": 404 }),
            Outcome::MethodNotAllowed(methods) => json!({ "respond": 405, "allow": methods }),
            Outcome::BadRequest => json!({ "respond": 400 }),
            Outcome::NoListener => Json::Null,
        }
    }
}

/// A share of all weights, with one place behind the point where there is one.
fn percent(share: &ShareTold, shares: &[ShareTold]) -> String {
    let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    let percent = f64::from(share.weight) * 100.0 / total.max(1) as f64;
    let text = format!("{percent:.1}");
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

fn write_verdicts(
    out: &mut fmt::Formatter<'_>,
    kind: &str,
    verdicts: &[(Name, Result<(), String>)],
) -> fmt::Result {
    for (name, verdict) in verdicts {
        match verdict {
            Ok(()) => writeln!(out, "  + {kind} {name}")?,
            Err(reason) => writeln!(out, "  - {kind} {name}: {reason}")?,
        }
    }
    Ok(())
}
