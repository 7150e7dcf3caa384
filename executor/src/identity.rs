//! Users and groups by name, from the root's own `/etc/passwd` and `/etc/group`.
//!
//! The files come from an image and are not trusted: links in them stay in the root, anything that
//! is not a regular file counts as missing, and a size cap bounds the work.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// More than any real user database.
const MAX_FILE: u64 = 16 << 20;
/// Ids above this are refused, as Docker does: -1 in 32 bits means "leave it" to the kernel.
const MAX_ID: u64 = (1 << 31) - 1;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory; `/` for a user the root does not know.
    pub home: String,
}

/// Why a user or group does not resolve.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user in the root.
    #[error("no user `{name}` in the image's /etc/passwd")]
    NoUser {
        /// As asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No such group in the root.
    #[error("no group `{name}` in the image's /etc/group")]
    NoGroup {
        /// As asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A number that is no id.
    #[error("`{id}` is not a user or group id: ids go from 0 to 2147483647")]
    OutOfRange {
        /// As asked for.
        id: String,
    },
    /// The caller's user namespace does not have the id.
    #[error("this user has no {kind} id {id}: `/etc/sub{file}` says which ones it has")]
    Unmapped {
        /// `user` or `group`.
        kind: &'static str,
        /// The id.
        id: u32,
        /// `uid` or `gid`.
        file: &'static str,
    },
    /// The root's file does not read.
    #[error("failed to read `{file}` of the image")]
    Read {
        /// Its path in the root.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Who `spec` is (`""`, `user`, `uid`, `user:group`, `uid:gid`) in the root open as `root`.
///
/// As Docker: digits are an id and need no entry, a user given without a group brings the groups
/// that list it, and a group given by hand replaces them.
pub fn resolve_user(root: BorrowedFd<'_>, spec: &str) -> Result<User, UserError> {
    let (user, group) = split(spec);
    let asked_default = user.is_empty();
    let user = if asked_default { "0" } else { user };
    let id = parse_id(user)?;
    let passwd = read(root, "/etc/passwd")?;
    let entry =
        passwd_entries(&passwd).find(|entry| id.map_or(entry.name == user, |id| entry.uid == id));
    let (uid, gid, home) = match (&entry, id) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home.to_owned()),
        (None, Some(id)) => (id, 0, "/".to_owned()),
        (None, None) => return Err(no_user(user, &passwd)),
    };
    let home = if home.is_empty() { "/".to_owned() } else { home };
    if let Some(group) = group {
        let gid = resolve_group(root, group)?;
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let mut groups = vec![gid];
    if let Some(entry) = &entry {
        let file = read(root, "/etc/group")?;
        let listed = group_entries(&file)
            .filter(|group| group.members.split(',').any(|member| member == entry.name))
            .map(|group| group.gid);
        for gid in listed {
            if !groups.contains(&gid) {
                groups.push(gid);
            }
        }
    }
    Ok(User { uid, gid, groups, home })
}

/// The owner that `--chown=spec` means in the root open as `root`: a name brings its own group, a
/// number stands for both.
pub fn resolve_owner(root: BorrowedFd<'_>, spec: &str) -> Result<(u32, u32), UserError> {
    let (user, group) = split(spec);
    let (uid, own_gid) = match parse_id(user)? {
        Some(id) => (id, id),
        None if user.is_empty() => (0, 0),
        None => {
            let passwd = read(root, "/etc/passwd")?;
            let entry = passwd_entries(&passwd)
                .find(|entry| entry.name == user)
                .ok_or_else(|| no_user(user, &passwd))?;
            (entry.uid, entry.gid)
        }
    };
    let gid = group.map_or(Ok(own_gid), |group| resolve_group(root, group))?;
    Ok((uid, gid))
}

fn no_user(name: &str, passwd: &str) -> UserError {
    let known = passwd_entries(passwd).map(|entry| entry.name.to_owned()).collect();
    UserError::NoUser { name: name.to_owned(), known }
}

fn resolve_group(root: BorrowedFd<'_>, group: &str) -> Result<u32, UserError> {
    if let Some(gid) = parse_id(group)? {
        return Ok(gid);
    }
    let file = read(root, "/etc/group")?;
    group_entries(&file).find(|entry| entry.name == group).map(|entry| entry.gid).ok_or_else(|| {
        let known = group_entries(&file).map(|entry| entry.name.to_owned()).collect();
        UserError::NoGroup { name: group.to_owned(), known }
    })
}

fn split(spec: &str) -> (&str, Option<&str>) {
    match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    }
}

/// `None` for a name; an error for a number that no id can be.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id as u32)),
        _ => Err(UserError::OutOfRange { id: text.to_owned() }),
    }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Entries that are whole; a line that is not is passed over, as every C library does.
fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or("");
        Some(GroupEntry { name, gid, members })
    })
}

/// The text of a regular file of the root; empty when there is none.
fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<String, UserError> {
    read_file(root, file).map_err(|source| UserError::Read { file, source })
}

fn read_file(root: BorrowedFd<'_>, file: &str) -> io::Result<String> {
    // Opened without blocking, so that a pipe put in the file's place cannot hold the build up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(root, file, flags, Mode::empty(), resolve) {
        Ok(opened) => opened,
        Err(error) if is_missing(error) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(fstat(&opened)?.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    File::from(opened).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Nothing there that could be read: no file, a loop of links, a socket, a device on `nodev`.
fn is_missing(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(
        error,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::NODEV
    )
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1000::/home/app:/bin/sh\n\
                          nogroup:x:7:99::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:1000:\nextra:x:3000:app\n";

    fn check(spec: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        check_in(dir.path(), spec)
    }

    fn check_in(dir: &Path, spec: &str) -> String {
        let root = File::open(dir).unwrap();
        match resolve_user(root.as_fd(), spec) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn users_resolve_as_docker_does() {
        let cases = [
            ("", "0:0 [0, 10] /root"),
            ("root", "0:0 [0, 10] /root"),
            ("app", "1000:1000 [1000, 10, 3000] /home/app"),
            ("1000", "1000:1000 [1000, 10, 3000] /home/app"),
            ("app:extra", "1000:3000 [3000] /home/app"),
            ("app:", "1000:1000 [1000, 10, 3000] /home/app"),
            ("1234", "1234:0 [0] /"),
            ("1234:5678", "1234:5678 [5678] /"),
            ("nogroup", "7:99 [99] /"),
            ("ghost", "no user `ghost` in the image's /etc/passwd"),
            ("app:ghosts", "no group `ghosts` in the image's /etc/group"),
            ("4294967296", "`4294967296` is not a user or group id: ids go from 0 to 2147483647"),
            ("-1", "`-1` is not a user or group id: ids go from 0 to 2147483647"),
            (
                "99999999999999999999999",
                "`99999999999999999999999` is not a user or group id: ids go from 0 to 2147483647",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(check(spec), expected, "user `{spec}`");
        }
    }

    #[test]
    fn a_pipe_a_link_out_and_a_missing_file_count_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert_eq!(check_in(dir.path(), "1000"), "1000:0 [0] /");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            etc.join("passwd"),
            FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink("/../../../../etc/group", etc.join("group")).unwrap();
        assert_eq!(check_in(dir.path(), ""), "0:0 [0] /");
        assert_eq!(check_in(dir.path(), "app"), "no user `app` in the image's /etc/passwd");
        assert_eq!(check_in(dir.path(), "1:root"), "no group `root` in the image's /etc/group");
    }

    #[test]
    fn owners_resolve_as_copy_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        let root = File::open(dir.path()).unwrap();
        for (spec, expected) in
            [("5", (5, 5)), ("nogroup", (7, 99)), ("app:wheel", (1000, 10)), ("5:6", (5, 6))]
        {
            assert_eq!(resolve_owner(root.as_fd(), spec).unwrap(), expected, "`{spec}`");
        }
    }
}
