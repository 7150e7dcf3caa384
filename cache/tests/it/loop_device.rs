//! A small file system of our own, whose power can be cut.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// `_IOR('X', 125, __u32)`: the file system stops writing, as if the power were gone.
const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d;
/// Without writing the journal first.
const NO_LOG_FLUSH: u32 = 2;

/// An ext4 of its own, mounted; everything goes with it when it is dropped.
pub(crate) struct LoopDevice {
    directory: TempDir,
    is_mounted: bool,
}

impl LoopDevice {
    /// `None`, said aloud, where that is not allowed.
    pub(crate) fn create(megabytes: u64) -> Option<Self> {
        Self::with_options(megabytes, &[])
    }

    /// The same, with room for so many files.
    pub(crate) fn with_inodes(megabytes: u64, inodes: u64) -> Option<Self> {
        Self::with_options(megabytes, &["-N", &inodes.to_string()])
    }

    fn with_options(megabytes: u64, options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        std::fs::create_dir(directory.path().join("mount")).unwrap();
        let arguments = [&["-q", "-F", "-m", "0"], options, &[image.to_str().unwrap()]].concat();
        let made = run("mkfs.ext4", &arguments);
        let mut device = Self { directory, is_mounted: false };
        if !made || !device.mount() {
            eprintln!("skipped: no loop devices or no mkfs.ext4 here");
            return None;
        }
        Some(device)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn mount(&mut self) -> bool {
        let image = self.directory.path().join("image");
        self.is_mounted =
            run("mount", &["-o", "loop", image.to_str().unwrap(), self.path().to_str().unwrap()]);
        self.is_mounted
    }

    fn unmount(&mut self) {
        if self.is_mounted {
            // A thread of the store may just be reading a directory.
            let path = self.path();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !run("umount", &[path.to_str().unwrap()]) {
                if Instant::now() > deadline {
                    run("umount", &["-l", path.to_str().unwrap()]);
                    break;
                }
            }
            self.is_mounted = false;
        }
    }

    /// Cuts the power: what has not reached the disk never will.
    pub(crate) fn cut_power(&self) {
        cut_power_at(&self.path());
    }

    /// Turns the power on again after [`LoopDevice::cut_power`]. The disk is a copy of the old
    /// one: some other process's mount namespace may still have that mounted.
    pub(crate) fn restart(&mut self) {
        self.unmount();
        let image = self.directory.path().join("image");
        let copy = self.directory.path().join("copy");
        let paths = [image.to_str().unwrap(), copy.to_str().unwrap()];
        assert!(run("cp", &["--sparse=always", paths[0], paths[1]]));
        std::fs::rename(copy, image).unwrap();
        assert!(self.mount(), "the file system mounts after a power cut");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// See [`LoopDevice::cut_power`].
pub(crate) fn cut_power_at(mount: &Path) {
    shut_down(&File::open(mount).unwrap());
}

#[expect(unsafe_code, reason = "rustix has no safe form of this ioctl")]
fn shut_down(directory: &File) {
    // SAFETY: the call reads one `u32` through a pointer to one that lives until it returns.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Fills a file system to its last block.
pub(crate) fn fill_up(directory: &Path) {
    use std::io::Write as _;
    let mut file = File::create(directory.join("filler")).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    // Small files take the blocks that one more block of the large one could not have.
    for n in 0..10_000 {
        let small = std::fs::write(directory.join(format!("filler-{n}")), [1; 200]);
        if small.is_err() {
            return;
        }
    }
}
