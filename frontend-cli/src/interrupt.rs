//! The first Ctrl-C (or SIGTERM, SIGHUP) asks the build to stop, the second ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{Engine, Event, Progress};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Watches for signals from now on; cancels `cancel` at the first, and says so.
pub(crate) fn cancel_on_signals(
    cancel: CancellationToken,
    progress: Arc<dyn Progress>,
) -> io::Result<()> {
    end_at_the_second()?;
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        cancel.cancel();
        let message = "canceled: steps are being stopped (once more to end at once)".to_owned();
        progress.event(Event::Warning { message });
    });
    Ok(())
}

/// The same for commands that show nothing meanwhile; gives what a signal cancels.
pub(crate) fn cancel_on_signals_quietly(engine: &Engine) -> io::Result<CancellationToken> {
    let cancel = CancellationToken::new();
    engine.ends_with(&cancel);
    cancel_on_signals(cancel.clone(), Arc::new(Silence))?;
    Ok(cancel)
}

struct Silence;

impl Progress for Silence {
    fn event(&self, _: Event) {}
}

/// The second ends the program from within the handler: whatever the program does, it is heard. Steps
/// carry a parent-death signal: nothing of them outlives this process.
fn end_at_the_second() -> io::Result<()> {
    let first = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = Exit::Interrupted.code().into();
        flag::register_conditional_shutdown(signal, code, Arc::clone(&first))?;
        flag::register(signal, Arc::clone(&first))?;
    }
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}
