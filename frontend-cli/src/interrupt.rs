//! The first Ctrl-C (or SIGTERM, SIGHUP) asks the build to stop, the second ends the program.

use std::ffi::c_int;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use engine::{Event, Progress, Workspace};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// How soon after the signal the program ends once the user was told, and how long that takes at least:
/// for its own threads and its store.
const PATIENCE: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(50);
/// How soon it ends whatever it does.
const LIMIT: Duration = Duration::from_secs(2);

/// What ends a program.
const SIGNALS: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];

/// When the first signal came.
static SINCE: OnceLock<Instant> = OnceLock::new();

/// Watches for signals from now on; cancels `cancel` at the first, and says so. On a thread of its own: the
/// first is heard, too, while the runtime is held up or cannot be woken.
pub(crate) fn cancel_on_signals(
    cancel: CancellationToken,
    progress: Arc<dyn Progress>,
) -> io::Result<()> {
    end_at_the_second()?;
    let mut signals = Signals::new(SIGNALS)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_none() {
            return;
        }
        SINCE.get_or_init(Instant::now);
        end_within(LIMIT, Exit::Interrupted);
        cancel.cancel();
        let message = "canceled: steps are being stopped (once more to end at once)".to_owned();
        progress.event(Event::Warning { message });
    })?;
    Ok(())
}

/// The same for commands that show nothing meanwhile; gives what a signal cancels.
pub(crate) fn cancel_on_signals_quietly(workspace: &Workspace) -> io::Result<CancellationToken> {
    let cancel = CancellationToken::new();
    workspace.ends_with(&cancel);
    cancel_on_signals(cancel.clone(), Arc::new(Silence))?;
    Ok(cancel)
}

/// The work was stopped and the user was told: what has not heard of it before long ends with the program,
/// as if that had been killed.
pub fn end_soon(exit: Exit) {
    let since = SINCE.get_or_init(Instant::now).elapsed();
    end_within(PATIENCE.saturating_sub(since).max(MOMENT), exit);
}

fn end_within(patience: Duration, exit: Exit) {
    // Without a thread the program ends when its work has.
    let _ = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(patience);
        std::process::exit(exit.code().into());
    });
}

/// The same for one that serves others: it says nothing, and has a while to end what runs.
pub(crate) fn cancel_on_signals_of_a_daemon(cancel: CancellationToken) -> io::Result<()> {
    end_at_the_second()?;
    let mut signals = Signals::new(SIGNALS)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            end_within(LIMIT, Exit::Interrupted);
            cancel.cancel();
        }
    })?;
    Ok(())
}

struct Silence;

impl Progress for Silence {
    fn event(&self, _: Event) {}
}

/// The second ends the program from within the handler: whatever the program does, it is heard. Steps
/// carry a parent-death signal: nothing of them outlives this process.
fn end_at_the_second() -> io::Result<()> {
    let first = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        let code = Exit::Interrupted.code().into();
        flag::register_conditional_shutdown(signal, code, Arc::clone(&first))?;
        flag::register(signal, Arc::clone(&first))?;
    }
    Ok(())
}
