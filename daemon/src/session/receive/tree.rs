//! A directory that becomes what a client's is. Everything is done beneath descriptors of folders that were made
//! here: no link leads out.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use engine::Allowance;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::fs::{linkat, mkdirat, mkfifoat, open, openat, statat, symlinkat, utimensat};
use rustix::io::Errno;

use super::ReceiveError;
use super::entry::{Entry, EntryError, Kind, parts};
use super::folder::{FOLDER, Folder, Given, beneath, failed, is};
use crate::wire::fsutil::Stat;

/// So many files may come at once; clients send four.
const OPEN_MAX: usize = 64;

/// A directory in the making.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// The way to what came last.
    folders: Vec<Folder>,
    last: String,
    /// How many entries have come: the next one's number.
    count: u32,
    /// Files that were asked for.
    waiting: HashMap<u32, Waiting>,
    coming: HashMap<u32, (File, Waiting)>,
    /// What may be written still.
    allowance: Allowance,
}

#[derive(Debug)]
struct Waiting {
    path: String,
    given: Given,
}

impl Tree {
    /// What is at `into` becomes it; it must be there.
    pub(crate) fn open(into: &Path) -> Result<Self, ReceiveError> {
        let failed = failed(".");
        let root = open(into, FOLDER, Mode::empty()).map_err(&failed)?;
        let folder = Folder::open(CWD, &into.to_string_lossy(), None).map_err(&failed)?;
        Ok(Self {
            root,
            folders: vec![folder],
            last: String::new(),
            count: 0,
            waiting: HashMap::new(),
            coming: HashMap::new(),
            allowance: Allowance::in_store(into),
        })
    }

    /// Makes what `stat` says, or keeps what is that; says by which number its content is to be asked for, if it
    /// is.
    pub(crate) fn entry(&mut self, stat: &Stat) -> Result<Option<u32>, ReceiveError> {
        let number = self.count;
        self.count += 1;
        let entry = Entry::read(stat)?;
        self.go_to(&entry)?;
        let is_wanted = self.make(&entry).map_err(|error| match error {
            Making::Io(source) => ReceiveError::Write { path: entry.path.to_owned(), source },
            Making::Entry(error) => error.into(),
        })?;
        if !is_wanted {
            return Ok(None);
        }
        let given = Given { mode: entry.mode, modified: entry.modified };
        self.waiting.insert(number, Waiting { path: entry.path.to_owned(), given });
        Ok(Some(number))
    }

    /// Takes bytes of the file `number`; none end it.
    pub(crate) fn data(&mut self, number: u32, data: &[u8]) -> Result<(), ReceiveError> {
        if let Some(waiting) = self.waiting.remove(&number) {
            if self.coming.len() == OPEN_MAX {
                return Err(ReceiveError::NotAsked);
            }
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = beneath(&self.root, &waiting.path, flags).map_err(failed(&waiting.path))?;
            self.coming.insert(number, (file.into(), waiting));
        }
        let (file, waiting) = self.coming.get_mut(&number).ok_or(ReceiveError::NotAsked)?;
        let path = waiting.path.clone();
        let failed = |source| ReceiveError::Write { path: path.clone(), source };
        if !data.is_empty() {
            let room = self.allowance.take_bytes(data.len() as u64);
            return room.and_then(|()| file.write_all(data)).map_err(failed);
        }
        waiting.given.to(&*file).map_err(|errno| failed(errno.into()))?;
        self.coming.remove(&number);
        Ok(())
    }

    /// Nothing more comes: what was not sent goes.
    pub(crate) fn listed(&mut self) -> Result<(), ReceiveError> {
        while let Some(folder) = self.folders.pop() {
            folder.leave()?;
        }
        Ok(())
    }

    /// Whether nothing that was asked for is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.waiting.is_empty() && self.coming.is_empty()
    }

    /// Leaves folders until the last is the one that `entry` is in.
    fn go_to(&mut self, entry: &Entry<'_>) -> Result<(), ReceiveError> {
        let path = || entry.path.to_owned();
        if !self.last.is_empty() && !self.last.split('/').lt(entry.parts.iter().copied()) {
            let last = self.last.clone();
            return Err(EntryError::Order { path: path(), last }.into());
        }
        let parents = &entry.parts[..entry.parts.len() - 1];
        let way = self.folders.iter().skip(1).zip(parents);
        let shared = way.take_while(|(folder, parent)| folder.name == **parent).count();
        while self.folders.len() > shared + 1 {
            self.folders.pop().expect("the root stays").leave()?;
        }
        if shared < parents.len() {
            return Err(EntryError::Parent(path()).into());
        }
        self.last = path();
        Ok(())
    }

    /// Makes what is not there as it is to be; says whether its content is wanted.
    fn make(&mut self, entry: &Entry<'_>) -> Result<bool, Making> {
        let parent = self.folders.last_mut().expect("the root stays");
        let name = *entry.parts.last().expect("a path has a name");
        let was_there = parent.others.remove(std::ffi::OsStr::new(name));
        let given = Given { mode: entry.mode, modified: entry.modified };
        let before = match was_there {
            true => Some(statat(&parent.file, name, AtFlags::SYMLINK_NOFOLLOW)?),
            false => None,
        };
        if let Kind::Directory = entry.kind {
            let is_kept = before.is_some_and(|status| is(&status, FileType::Directory));
            if !is_kept {
                parent.clear(name, was_there)?;
                self.allowance.take_file(0).map_err(Making::Io)?;
                mkdirat(&parent.file, name, Mode::RWXU)?;
            }
            let folder = Folder::open(&parent.file, name, Some(given))?;
            self.folders.push(folder);
            return Ok(false);
        }
        if before.is_some_and(|status| parent.keeps(name, &status, entry)) {
            return Ok(false);
        }
        parent.clear(name, was_there)?;
        self.allowance.take_file(0).map_err(Making::Io)?;
        match &entry.kind {
            Kind::Directory => unreachable!("it is made above"),
            Kind::File { size } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = openat(&parent.file, name, flags, Mode::RUSR | Mode::WUSR)?;
                if *size == 0 {
                    given.to(&file)?;
                }
                return Ok(*size > 0);
            }
            Kind::Hardlink(target) => {
                let file = self.link_target(entry, target)?;
                let parent = self.folders.last().expect("the root stays");
                let (from, to) = (format!("/proc/self/fd/{}", file.as_raw_fd()), &parent.file);
                linkat(CWD, from.as_str(), to, name, AtFlags::SYMLINK_FOLLOW)?;
            }
            Kind::Symlink(target) => {
                symlinkat(target.as_str(), &parent.file, name)?;
                let times = given.times();
                utimensat(&parent.file, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Kind::Pipe => {
                mkfifoat(&parent.file, name, Mode::from_raw_mode(entry.mode & 0o777))?;
                let times = given.times();
                utimensat(&parent.file, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(false)
    }

    /// The file that a hard link is another name of: one that came before.
    fn link_target(&self, entry: &Entry<'_>, target: &str) -> Result<OwnedFd, Making> {
        let wrong = || {
            let (path, target) = (entry.path.to_owned(), target.to_owned());
            Making::Entry(EntryError::Link { path, target })
        };
        let target_parts = parts(target).map_err(|_| wrong())?;
        if target_parts >= entry.parts {
            return Err(wrong());
        }
        let file = beneath(&self.root, target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        let file = file.map_err(|_| wrong())?;
        match is(&rustix::fs::fstat(&file)?, FileType::RegularFile) {
            true => Ok(file),
            false => Err(wrong()),
        }
    }
}

/// Why an entry was not made.
enum Making {
    Io(std::io::Error),
    Entry(EntryError),
}

impl From<Errno> for Making {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    const DIRECTORY: u32 = 1 << 31 | 0o755;
    const LINK: u32 = 1 << 27 | 0o777;

    fn stat(path: &str, mode: u32, size: i64, linkname: &str) -> Stat {
        let (path, linkname) = (path.to_owned(), linkname.to_owned());
        Stat { path, mode, size, linkname, mod_time: 1_700_000_000_123_456_789, ..Stat::default() }
    }

    /// Receives files of a letter for each byte; says which were asked for.
    fn receive(into: &Path, stats: &[Stat]) -> Result<Vec<String>, ReceiveError> {
        let mut tree = Tree::open(into)?;
        let mut asked = Vec::new();
        for stat in stats {
            if let Some(number) = tree.entry(stat)? {
                tree.data(number, &vec![b'x'; stat.size as usize])?;
                tree.data(number, &[])?;
                asked.push(stat.path.clone());
            }
        }
        tree.listed()?;
        assert!(tree.is_whole());
        Ok(asked)
    }

    #[test]
    fn what_is_as_it_was_is_not_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path();
        let first = [
            stat("a", 0o640, 3, ""),
            stat("b", 1 << 23 | 0o755, 5, ""),
            stat("empty", 0o644, 0, ""),
            stat("sub", DIRECTORY, 0, ""),
            stat("sub/c", 0o644, 1, ""),
            stat("sub/hard", 0o640, 3, "a"),
            stat("sub/link", LINK, 0, "/etc/passwd"),
        ];
        assert_eq!(receive(into, &first).unwrap(), ["a", "b", "sub/c"]);
        assert_eq!(std::fs::read(into.join("sub/c")).unwrap(), b"x");
        let found = |name: &str| into.join(name).symlink_metadata().unwrap();
        assert_eq!(found("b").permissions().mode() & 0o7777, 0o4755);
        assert_eq!(found("sub/hard").ino(), found("a").ino());
        assert_eq!((found("sub").mtime(), found("sub").mtime_nsec()), (1_700_000_000, 123_456_789));
        assert_eq!(std::fs::read_link(into.join("sub/link")).unwrap(), Path::new("/etc/passwd"));
        // A file with two names may hold what came under the other.
        assert_eq!(receive(into, &first).unwrap(), ["a"]);
        let second = [
            stat("a", 0o640, 3, ""),
            stat("b", 0o755, 5, ""),
            stat("sub", 0o644, 2, ""),
            Stat { mod_time: 1, ..stat("z", 0o644, 1, "") },
        ];
        assert_eq!(receive(into, &second).unwrap(), ["a", "b", "sub", "z"]);
        let mut names: Vec<_> =
            std::fs::read_dir(into).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b", "sub", "z"]);
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("into");
        let outside = directory.path().join("outside");
        std::fs::create_dir(&into).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        let link = outside.to_str().unwrap();
        for stats in [
            vec![stat("../outside/a", 0o644, 1, "")],
            vec![stat("b", LINK, 0, link), stat("b/a", 0o644, 1, "")],
            vec![stat("b", LINK, 0, link), stat("c", 0o644, 1, "b/secret")],
            vec![stat("b", 0o644, 1, ""), stat("a", 0o644, 1, "")],
            vec![stat("a", 0o644, 1, ""), stat("a", 0o644, 1, "")],
            vec![stat("a/b", 0o644, 1, "")],
            vec![stat("a", 0o644, 1, "z")],
            vec![stat("a", 0o644, 1, "a")],
            vec![stat("d", DIRECTORY, 0, ""), stat("e", 0o644, 1, "d")],
        ] {
            assert!(receive(&into, &stats).is_err(), "{stats:?}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{stats:?}");
        }
        // What a link of the last time leads to is not what takes its place.
        receive(&into, &[stat("b", LINK, 0, link)]).unwrap();
        receive(&into, &[stat("b", DIRECTORY, 0, ""), stat("b/secret", 0o644, 0, "")]).unwrap();
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"s");
        receive(&into, &[]).unwrap();
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0);
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::open(directory.path()).unwrap();
        assert!(matches!(tree.data(0, b"x"), Err(ReceiveError::NotAsked)));
        assert_eq!(tree.entry(&stat("a", 0o644, 1, "")).unwrap(), Some(0));
        assert!(!tree.is_whole());
        tree.data(0, b"x").unwrap();
        tree.data(0, &[]).unwrap();
        assert!(matches!(tree.data(0, b"y"), Err(ReceiveError::NotAsked)));
        assert!(tree.is_whole());
    }

    /// Numbers that are as good as random, and the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }
    }

    #[test]
    fn whatever_is_sent_stays_inside() {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("into");
        std::fs::create_dir(&into).unwrap();
        std::fs::write(directory.path().join("mine"), "mine").unwrap();
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        let names = ["a", "b", "..", ".", "", "c", "mine", "..\u{0}"];
        for _ in 0..300 {
            let mut tree = Tree::open(&into).unwrap();
            for _ in 0..12 {
                let parts = 1 + numbers.below(3);
                let name = |numbers: &mut Numbers| names[numbers.below(8) as usize];
                let path: Vec<_> = (0..parts).map(|_| name(&mut numbers)).collect();
                let kinds = [0o644, DIRECTORY, LINK, 1 << 25, 1 << 26, u32::MAX];
                let mode = kinds[numbers.below(6) as usize];
                let link = ["", "a", "../mine", "..", "/"][numbers.below(5) as usize];
                let size = numbers.below(3) as i64 - 1;
                if let Ok(Some(number)) = tree.entry(&stat(&path.join("/"), mode, size, link)) {
                    let _ = tree.data(number, b"theirs");
                    let _ = tree.data(number, &[]);
                }
                let _ = tree.data(numbers.below(12) as u32, b"theirs");
            }
            tree.listed().unwrap();
        }
        assert_eq!(std::fs::read(directory.path().join("mine")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
