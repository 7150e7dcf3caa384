//! `mybuild serve`, running.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::e2e::builder::{Builder, wait_for};

/// A daemon that ends with the test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(builder: &Builder, words: &[&str]) -> Self {
        let socket = builder.path("mybuild.sock");
        let address = format!("unix://{}", socket.display());
        let words = [&["serve", "--addr", &address][..], words].concat();
        let mut child = builder.spawn(&mut builder.command(&words));
        let mut said = String::new();
        let stderr = child.stderr.take().expect("it is piped");
        BufReader::new(stderr).read_line(&mut said).expect("it says where it listens");
        assert!(said.contains("listening at"), "{said}");
        Self { child, socket }
    }

    /// Asks it to end; it has to.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let status = wait_for(&mut self.child, 10);
        assert_eq!(status.code(), Some(0));
        assert!(!self.socket.exists(), "the socket stays");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
