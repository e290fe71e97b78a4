//! Opens what lies below a directory, and nothing else. Blocks: for the pool's threads.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::settings::Symlinks;

/// How often an open is tried that a rename somewhere kept the kernel from judging.
const TRIES: usize = 4;

/// Why there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is not there, or not to be shown.
    Absent,
    /// It is a directory.
    Directory,
    /// We may not read it.
    Forbidden,
    /// Too many files are open, of all that the process has, or there is no memory.
    Overload,
    /// The file system failed.
    Failed,
}

impl Missing {
    fn of(error: Errno) -> Self {
        match error {
            // Leaving the directory is EXDEV, a link where none may be ELOOP, a socket ENXIO.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::NXIO
            | Errno::NODEV => Self::Absent,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::Overload,
            _ => Self::Failed,
        }
    }
}

/// A directory of which files are opened.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    symlinks: Symlinks,
}

impl Root {
    pub(super) fn open(path: &Path, symlinks: Symlinks) -> Result<Self, Missing> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(Missing::of)?;
        Ok(Self {
            directory,
            symlinks,
        })
    }

    /// Opens the regular file at `path`, which has neither dot segments nor a slash at an end. Nothing
    /// else is read from: a pipe would let us wait, a device could do anything.
    pub(super) fn file(&self, path: &[u8]) -> Result<File, Missing> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let path = if path.is_empty() { b"." } else { path };
        let file = File::from(self.descriptor(path, flags).map_err(Missing::of)?);
        let metadata = file.metadata().map_err(|_| Missing::Failed)?;
        if metadata.is_dir() {
            return Err(Missing::Directory);
        }
        metadata.is_file().then_some(file).ok_or(Missing::Absent)
    }

    fn descriptor(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = match self.symlinks {
            Symlinks::Follow => {
                return rustix::fs::openat(&self.directory, path, flags, Mode::empty());
            }
            Symlinks::Within => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Symlinks::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                // Older than Linux 5.6, or hidden by a container's filter.
                Err(Errno::NOSYS | Errno::PERM) => return self.step_by_step(path, flags),
                opened => return opened,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The same without a link anywhere, name by name.
    fn step_by_step(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut names = path.split(|&byte| byte == b'/').peekable();
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            let flags = match is_last {
                true => flags | OFlags::NOFOLLOW,
                false => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            };
            let opened = match &at {
                Some(directory) => rustix::fs::openat(directory, name, flags, Mode::empty()),
                None => rustix::fs::openat(&self.directory, name, flags, Mode::empty()),
            }?;
            if is_last {
                return Ok(opened);
            }
            at = Some(opened);
        }
        Err(Errno::NOENT)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use outgrow_testkit::folder::Folder;
    use rustix::fs::CWD;

    use super::*;

    /// Which of these names are files, by policy and by the way of opening.
    #[test]
    fn links_lead_where_they_may() {
        let outside = Folder::new("outside").expect("a folder");
        outside.write("secret", "s").expect("a file");
        let folder = Folder::new("root").expect("a folder");
        let root = folder.path();
        folder.write("file", "f").expect("a file");
        std::fs::create_dir(root.join("dir")).expect("a directory");
        folder.write("dir/below", "b").expect("a file");
        let link = |to: &Path, name: &str| symlink(to, root.join(name)).expect("a link");
        link(Path::new("file"), "inner");
        link(Path::new("dir"), "inner_dir");
        link(&outside.path().join("secret"), "outer");
        link(outside.path(), "outer_dir");
        link(Path::new("../.."), "above");
        link(Path::new("loop"), "loop");
        rustix::fs::mknodat(
            CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .expect("a pipe");
        let names = [
            "file",
            "dir/below",
            "inner",
            "inner_dir/below",
            "outer",
            "outer_dir/secret",
            "above",
            "loop",
            "pipe",
            "file/x",
            "dir",
            "absent",
        ];
        let table = [
            (
                Symlinks::Within,
                &["file", "dir/below", "inner", "inner_dir/below"][..],
            ),
            (Symlinks::Refuse, &["file", "dir/below"]),
            (
                Symlinks::Follow,
                &[
                    "file",
                    "dir/below",
                    "inner",
                    "inner_dir/below",
                    "outer",
                    "outer_dir/secret",
                ],
            ),
        ];
        for (symlinks, expected) in table {
            let root = Root::open(root, symlinks).expect("a root");
            let is_file = |name: &&str| root.file(name.as_bytes()).is_ok();
            let found: Vec<_> = names.into_iter().filter(is_file).collect();
            assert_eq!(found, expected, "{symlinks}");
            assert_eq!(root.file(b"dir").err(), Some(Missing::Directory));
            assert_eq!(root.file(b"").err(), Some(Missing::Directory));
            assert_eq!(root.file(b"pipe").err(), Some(Missing::Absent));
            assert_eq!(root.file(b"file/x").err(), Some(Missing::Absent));
        }
        let root = Root::open(root, Symlinks::Within).expect("a root");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let is_opened = |name: &&str| root.step_by_step(name.as_bytes(), flags).is_ok();
        let opened: Vec<_> = names.into_iter().filter(is_opened).collect();
        assert_eq!(
            opened,
            ["file", "dir/below", "pipe", "dir"],
            "without openat2 no link is followed"
        );
    }
}
