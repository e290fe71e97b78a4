//! A program beside a test that ends with it, whether the test passes or fails.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// A child process that is killed and reaped when this is dropped.
#[derive(Debug)]
pub struct TestChild(Child);

impl TestChild {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }
}

impl Deref for TestChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for TestChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        // It may have ended by itself; then both say so.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn it_ends_with_its_owner() {
        let mut command = Command::new("sleep");
        let child = TestChild::start(command.arg("1000")).expect("sleep starts");
        let process = format!("/proc/{}", child.id());
        assert!(Path::new(&process).exists());
        drop(child);
        assert!(!Path::new(&process).exists(), "it is not even a zombie");
        // One that has ended before is no problem.
        let mut ended = TestChild::start(&mut Command::new("true")).expect("true starts");
        assert!(ended.wait().expect("it ends").success());
        drop(ended);
    }
}
