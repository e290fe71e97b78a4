//! One of the command's two output pipes, with the way to the shim's own.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};

use super::output::{LineCutter, Outlet, Stream, format_line};
use crate::events::timespec;
use crate::moment::Moment;
use crate::protocol::shim::ShimSpec;

/// How many bytes of output are read at once.
const READ_SIZE: usize = 16 * 1024;

/// How much of the last line is remembered, in bytes.
const LAST_LIMIT: usize = 256;

#[derive(Debug)]
pub(super) struct Source {
    pub(super) pipe: Option<File>,
    pub(super) stream: Stream,
    pub(super) cutter: LineCutter,
    pub(super) outlet: Outlet,
    /// The beginning of the last line.
    last: Vec<u8>,
}

impl Source {
    /// `None`: a command that could not be started has no output.
    pub(super) fn new(pipe: Option<OwnedFd>, stream: Stream) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let outlet = Outlet::new(stream);
        Ok(Self {
            pipe: pipe.map(File::from),
            stream,
            cutter: LineCutter::default(),
            outlet,
            last: Vec::new(),
        })
    }

    /// The last line of all that has been written so far.
    pub(super) fn last_line(&mut self, spec: &ShimSpec) -> Option<String> {
        while self.outlet.has_room() && self.read(spec) {}
        let line = String::from_utf8_lossy(&self.last).trim().to_owned();
        (!line.is_empty()).then_some(line)
    }

    /// Passes on all that is left, as fast as it is read, at most until then; how many bytes are lost.
    pub(super) fn flush(&mut self, spec: &ShimSpec, until: Moment) -> u64 {
        loop {
            // The pipe may hold more than the outlet has room for.
            while self.outlet.has_room() && self.read(spec) {}
            if self.outlet.has_room() {
                let (outlet, stream) = (&mut self.outlet, self.stream);
                self.cutter.finish(|line| {
                    outlet.push(format_line(spec.log_format, &spec.name, stream, line));
                });
            }
            if self.outlet.is_empty() {
                return 0;
            }
            let now = Moment::now();
            if now >= until {
                let unread = self.pipe.as_ref().map(rustix::io::ioctl_fionread);
                return self.outlet.waiting() + unread.and_then(Result::ok).unwrap_or(0);
            }
            let mut poll = [PollFd::from_borrowed_fd(
                self.outlet.descriptor(),
                PollFlags::OUT,
            )];
            let limit = timespec(until.since(now));
            if matches!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1)) {
                self.outlet.write();
            }
        }
    }

    /// Reads once; `false` when there is nothing to read for now or for ever.
    pub(super) fn read(&mut self, spec: &ShimSpec) -> bool {
        let Some(pipe) = &mut self.pipe else {
            return false;
        };
        let mut buffer = [0; READ_SIZE];
        match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(count) => {
                let (outlet, stream) = (&mut self.outlet, self.stream);
                let last = &mut self.last;
                self.cutter.push(&buffer[..count], |line| {
                    last.clear();
                    last.extend_from_slice(&line[..line.len().min(LAST_LIMIT)]);
                    outlet.push(format_line(spec.log_format, &spec.name, stream, line));
                });
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.pipe = None;
                }
                false
            }
        }
    }
}
