//! `outgrow explain`: where a request would go, and why not elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use outgrow_core::settings::{Name, nearest};

use super::source::{ConfigSource, look};
use crate::config::{self, Question};

/// What `outgrow explain` takes.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The URL of the request; tcp://HOST:PORT or tls://NAME:PORT?alpn=h2 for a connection that is
    /// passed on as it is.
    url: String,
    /// The configuration file.
    #[arg(short, long, default_value = "outgrow.toml")]
    config: PathBuf,
    /// The method.
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// A header field of the request, as NAME: VALUE; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A cookie of the request, as NAME=VALUE; may be repeated.
    #[arg(long = "cookie", value_name = "NAME=VALUE", value_parser = cookie)]
    cookies: Vec<String>,
    /// The listener at which the request comes; the first one that the URL reaches when left out.
    #[arg(short, long, value_name = "NAME")]
    listener: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn cookie(text: &str) -> Result<String, String> {
    let is_pair = text.contains('=') && !text.contains(';');
    is_pair
        .then(|| text.to_owned())
        .ok_or("a cookie is NAME=VALUE".to_owned())
}

/// Explains; 0 when a route or a service would answer, 1 when nothing would.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let (config, _) = match ConfigSource::File(args.config.clone()).load(look(args.json)) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprint!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    match config::Connection::parse(&args.url) {
        None => {}
        Some(Err(error)) => return super::complain(&error.to_string()),
        Some(Ok(connection)) => {
            let passage = config::explain_connection(&config, &connection);
            super::print(&match args.json {
                true => format!("{}\n", passage.to_json()),
                false => passage.text(),
            });
            return of_answer(passage.is_answered());
        }
    }
    let question = Question {
        url: args.url.clone(),
        method: args.method.clone(),
        headers: args.headers.clone(),
        cookies: args.cookies.clone(),
        listener: args.listener.clone(),
    };
    if let Some(listener) = &args.listener
        && !config.listener.keys().any(|name| name.as_str() == listener)
    {
        let known: Vec<&str> = config.listener.keys().map(Name::as_str).collect();
        let hint = match nearest(listener, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are: {}", known.join(", ")),
        };
        return super::complain(&format!("there is no listener {listener:?}: {hint}"));
    }
    match config::explain(&config, &question) {
        Ok(explanation) => {
            super::print(&match args.json {
                true => format!("{}\n", explanation.to_json()),
                false => explanation.to_string(),
            });
            of_answer(explanation.is_answered())
        }
        Err(error) => super::complain(&error.to_string()),
    }
}

fn of_answer(is_answered: bool) -> ExitCode {
    match is_answered {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
