//! The shim: one per instance, between the keeper and the command. It exists so
//! that nothing is orphaned. It is a subreaper, so every process of the
//! instance stays among its descendants, daemons too; end of file on its
//! standard input says that the keeper is gone, and then it ends them all.
//!
//! It makes no decisions: when to stop and whether to start again is the
//! keeper's. It exits when no process of the instance is left.

mod command;
mod enclosure;
mod output;
mod run;
mod source;

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::protocol::channel::{Channel, ChannelError, Received, take_stdin};
use crate::protocol::shim::{ShimSpec, ToShim};
use crate::protocol::{Decoded, decode};

/// How long the keeper may take to say what to run.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Runs the shim on its standard input and returns the exit code.
pub fn run() -> i32 {
    // Only for `ps`; nothing depends on it.
    let _ = rustix::thread::set_name(c"outgrow-shim");
    let mut channel = match take_stdin() {
        Ok(socket) => Channel::new(socket),
        Err(error) => return refuse(&error.to_string()),
    };
    match receive_spec(&mut channel) {
        Ok(Some(spec)) => match run::Shim::begin(channel, spec) {
            Ok(shim) => shim.run(),
            Err(error) => refuse(&error.to_string()),
        },
        // The keeper went away before it said anything: there is nothing to end.
        Ok(None) => 0,
        Err(error) => refuse(&error.to_string()),
    }
}

fn refuse(message: &str) -> i32 {
    let line = format!("outgrow shim: {message} (it is started by `outgrow run`, not by hand)\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    2
}

fn receive_spec(channel: &mut Channel) -> Result<Option<ShimSpec>, ChannelError> {
    loop {
        match channel.receive()? {
            Received::Record(record) => {
                let unknown = |message: &ToShim| matches!(message, ToShim::Unknown);
                match decode::<ToShim>(&record.bytes, unknown) {
                    Decoded::Message(ToShim::Start(spec)) => return Ok(Some(*spec)),
                    Decoded::Message(ToShim::Stop { .. }) => return Ok(None),
                    Decoded::Message(ToShim::Limit { .. } | ToShim::Unknown)
                    | Decoded::Ignored(_) => {}
                }
            }
            Received::Closed => return Ok(None),
            Received::Empty => {
                let mut poll = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)];
                let limit = crate::events::timespec(START_LIMIT);
                if rustix::event::poll(&mut poll, Some(&limit)).map_err(std::io::Error::from)? == 0
                {
                    return Err(ChannelError::Protocol("nothing was said within 10 s"));
                }
            }
        }
    }
}
