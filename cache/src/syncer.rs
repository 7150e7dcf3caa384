//! Bringing the store's file system to the disk.
//!
//! Nobody gets out of `syncfs` before the disk has taken all that was written, by other programs too, and no
//! process ends while one of its threads is in there, killed or not. So a process of its own goes
//! in there, and who waits for it can stop waiting.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat, syncfs};
use rustix::io::Errno;

use crate::mutex::lock;

/// The name by which this program knows that it is to sync for another.
const NAME: &str = "mybuild-sync";

/// How long the disk is waited for once the program is to end.
const GRACE: Duration = Duration::from_millis(50);
/// How often it is looked whether the program is to end.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Whether this program can be started to sync for another: its `main` begins with [`sync_if_asked`].
static CAN_START: AtomicBool = AtomicBool::new(false);

/// Tells a store that the program is about to end, see [`crate::Store::stopper`].
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<OnceLock<Instant>>);

impl Stopper {
    /// The program is about to end.
    pub fn stop(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Whether the program is about to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether there is no more time to wait.
    pub(crate) fn is_over(&self) -> bool {
        self.0.get().is_some_and(|since| since.elapsed() >= GRACE)
    }
}

/// Syncs one file system.
#[derive(Debug)]
pub(crate) struct Syncer {
    pub(crate) stopper: Stopper,
    /// A directory of the file system, open from the start so that `syncfs` tells of every write that
    /// has failed since.
    directory: File,
    helper: Mutex<Option<Helper>>,
    /// A thread of this process syncs ahead of a commit.
    writing_back: Arc<AtomicBool>,
}

/// Why a file system was not synced.
#[derive(Debug)]
pub(crate) enum SyncError {
    /// The program ends before the disk was done.
    Stopped,
    Io(io::Error),
}

impl From<io::Error> for SyncError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a helper is asked for, a byte each. Every one is answered with the error's number, or 0.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Order {
    /// Tell of everything that could not be written since the store was opened.
    Commit = b'c',
    /// Errors are left for a commit to hear of: the kernel tells each open file of them once.
    WriteBack = b'w',
}

impl Syncer {
    /// Syncs the file system of `directory`.
    pub(crate) fn new(directory: File) -> Self {
        let (helper, writing_back) = Default::default();
        Self { stopper: Stopper::default(), directory, helper, writing_back }
    }

    /// Starts the process that syncs, which takes a moment, before there is anything for it to do.
    pub(crate) fn prepare(&self) {
        if CAN_START.load(Ordering::Relaxed)
            && let Ok(mut helper) = self.helper.try_lock()
        {
            // The next caller tries again.
            let _ = self.started(&mut helper);
        }
    }

    /// Has everything that was written to the file system on the disk.
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        let mut helper = lock(&self.helper);
        match self.ask(&mut helper) {
            // It was killed, or could not be started: then it is done here.
            Err(SyncError::Io(_)) => {
                *helper = None;
                Ok(syncfs(&self.directory).map_err(io::Error::from)?)
            }
            Err(SyncError::Stopped) => Err(SyncError::Stopped),
            Ok(0) => Ok(()),
            Ok(number) => Err(io::Error::from_raw_os_error(number).into()),
        }
    }

    /// Starts to bring what was written to the disk. Does nothing while this goes on already.
    pub(crate) fn start(&self) {
        if !CAN_START.load(Ordering::Relaxed) {
            return self.start_here();
        }
        let mut helper = match self.helper.try_lock() {
            Ok(helper) => helper,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A commit is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        if self.started(&mut helper).and_then(Helper::write_back).is_err() {
            *helper = None;
        }
    }

    fn start_here(&self) {
        let writing_back = self.writing_back.clone();
        let Ok(directory) = reopened(&self.directory) else { return };
        if writing_back.swap(true, Ordering::Relaxed) {
            return;
        }
        std::thread::spawn(move || {
            let _ = syncfs(&directory);
            writing_back.store(false, Ordering::Relaxed);
        });
    }

    fn ask(&self, helper: &mut Option<Helper>) -> Result<i32, SyncError> {
        if !CAN_START.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        }
        let helper = self.started(helper)?;
        helper.channel.write_all(&[Order::Commit as u8])?;
        helper.owed += 1;
        while helper.owed > 1 {
            helper.answer(&self.stopper)?;
        }
        helper.answer(&self.stopper)
    }

    fn started<'h>(&self, helper: &'h mut Option<Helper>) -> io::Result<&'h mut Helper> {
        match helper {
            Some(helper) => Ok(helper),
            None => Ok(helper.insert(Helper::start(&self.directory)?)),
        }
    }
}

/// The process that syncs.
#[derive(Debug)]
struct Helper {
    child: Child,
    channel: UnixStream,
    /// Orders that were not answered yet.
    owed: usize,
}

impl Helper {
    fn start(directory: &File) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            // A signal from the terminal is for the builder to deal with.
            .process_group(0)
            .env_clear()
            .stdin(directory.try_clone()?)
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, channel, owed: 0 })
    }

    fn write_back(&mut self) -> io::Result<()> {
        if self.owed > 0 && !self.is_answered(Some(&Timespec::default()))? {
            return Ok(());
        }
        while self.owed > 0 {
            self.read_answer()?;
        }
        self.channel.write_all(&[Order::WriteBack as u8])?;
        self.owed += 1;
        Ok(())
    }

    fn answer(&mut self, stopper: &Stopper) -> Result<i32, SyncError> {
        while !self.is_answered(Some(&SLICE))? {
            if stopper.is_over() {
                return Err(SyncError::Stopped);
            }
        }
        Ok(self.read_answer()?)
    }

    fn is_answered(&self, patience: Option<&Timespec>) -> io::Result<bool> {
        match poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], patience) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    fn read_answer(&mut self) -> io::Result<i32> {
        let mut number = [0; 4];
        self.channel.read_exact(&mut number)?;
        self.owed -= 1;
        Ok(i32::from_ne_bytes(number))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // While it syncs it cannot die, so nothing waits for it.
        if self.owed == 0 {
            let _ = self.child.wait();
        }
    }
}

/// If this process was started to sync for another, does so until that one has ended, and ends. To be
/// called first thing in `main`; a program that does not do so syncs in its own threads, and
/// [`Stopper::stop`] does not keep it from waiting for the disk.
pub fn sync_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        // The other end has gone, or never was there: there is no one to report to.
        let _ = serve();
        std::process::exit(0);
    }
    CAN_START.store(true, Ordering::Relaxed);
}

fn serve() -> io::Result<()> {
    // No directory is kept from being removed or unmounted.
    std::env::set_current_dir("/")?;
    let directory = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut channel = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut order = [0];
    loop {
        channel.read_exact(&mut order)?;
        let synced = match order[0] == Order::Commit as u8 {
            true => syncfs(&directory),
            false => reopened(&directory).and_then(|directory| syncfs(&directory)),
        };
        let number = synced.map_or_else(Errno::raw_os_error, |()| 0);
        channel.write_all(&number.to_ne_bytes())?;
    }
}

/// The same directory as a file that the kernel tells of errors by itself.
fn reopened(directory: &File) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(directory, ".", flags, Mode::empty()).map(File::from)
}
