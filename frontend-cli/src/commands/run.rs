//! `mybuild run`: a container in the foreground, its streams, signals and exit code ours.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use engine::run::{Container, ExitStatus, PortForward, RunError, Streams};
use engine::{BuildError, EngineOptions, Event, Progress, Reserve, Workspace};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::image::tell_warnings;
use crate::error::{self, UsageError};
use crate::exit::Exit;
use crate::progress::{Display, Mode};
use crate::run_args::Run;
use crate::{diagnostics, ui, workspace};

/// Bytes copied at once.
const CHUNK: usize = 32 << 10;

pub(super) async fn run(
    mut command: Run,
    options: &EngineOptions,
    notice: Option<String>,
) -> anyhow::Result<Exit> {
    if command.tty {
        if command.interactive && !io::stdin().is_terminal() {
            return Err(UsageError::new("standard input is not a terminal")
                .with_hint("leave `-t` out, `-i` alone forwards it")
                .into());
        }
        let (rows, columns) = terminal_size().unwrap_or((24, 80));
        command.request.streams = Streams::Terminal { rows, columns };
    }
    for warning in notice.iter().chain(&command.warnings) {
        ui::warning(warning);
    }
    let mut signals = Signals::new()?;
    let workspace = workspace::open(options, Reserve::Kept)?;
    let container = match start(&command, &workspace, &mut signals).await {
        Ok(container) => container,
        Err(error) => return Ok(report(error)),
    };
    tell_warnings(&workspace);
    let ended = attend(container, &command, &mut signals).await?;
    Ok(Exit::Code(u8::try_from(ended.code()).unwrap_or(u8::MAX)))
}

/// Starts the container; a signal meanwhile ends it.
async fn start(
    command: &Run,
    workspace: &Workspace,
    signals: &mut Signals,
) -> Result<Container, RunError> {
    let cancel = CancellationToken::new();
    let (mode, unread) = (command.progress, cancel.clone());
    let display = Arc::new(WhenNeeded { mode, unread, display: Mutex::default() });
    workspace.ends_with(&cancel);
    let request = command.request.clone();
    let starting = workspace.run(request, &command.client, display.clone(), cancel.clone());
    tokio::pin!(starting);
    let started = loop {
        tokio::select! {
            started = &mut starting => break started,
            Some(number) = signals.next() => {
                if number != WINDOW_CHANGED {
                    cancel.cancel();
                }
            }
        }
    };
    if let Some(display) = display.lock().take() {
        display.finish();
    }
    started
}

/// Shows progress only when there is something to show: a pull.
struct WhenNeeded {
    mode: Mode,
    /// Cancelled when nobody reads it.
    unread: CancellationToken,
    display: Mutex<Option<Display>>,
}

impl WhenNeeded {
    fn lock(&self) -> MutexGuard<'_, Option<Display>> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for WhenNeeded {
    fn event(&self, event: Event) {
        let mut display = self.lock();
        display
            .get_or_insert_with(|| Display::start(self.mode, &self.unread))
            .progress()
            .event(event);
    }
}

/// Tells why a container did not start, with Docker's exit code.
fn report(run_error: RunError) -> Exit {
    let code = run_error.exit_code();
    match run_error {
        RunError::Request(BuildError::Canceled) => Exit::Interrupted,
        RunError::Request(error) => {
            error::report(&error.into(), false);
            Exit::Code(u8::try_from(code).expect("125"))
        }
        error @ RunError::Spawn(_) => {
            ui::error(&diagnostics::message(&error.to_string(), error.hint().as_deref()));
            Exit::Code(u8::try_from(code).expect("125 to 127"))
        }
    }
}

/// Is the container's ears and mouth until it ends.
async fn attend(
    mut container: Container,
    command: &Run,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    for warning in &container.warnings {
        ui::warning(warning);
    }
    for (asked, address) in command.request.ports.iter().zip(container.ports()) {
        if asked.host == 0 {
            ui::error(&format!("port {} is at {}\n", asked.container, shown(asked, address)));
        }
    }
    let raw = if command.tty && command.interactive { RawMode::enter()? } else { None };
    // It may have changed while the container started.
    follow_terminal_size(&container);
    let outputs = forward(&mut container, command.interactive)?;
    let ended = wait(&container, signals).await;
    // Everything in the container is gone, so that its pipes have an end.
    tokio::task::spawn_blocking(move || outputs.into_iter().for_each(|output| drop(output.join())))
        .await?;
    drop(raw);
    let ended = ended?;
    if let Err(error) = container.end(&ended).await {
        // What its command has ended with counts more.
        ui::warning(&format!("{:#}", anyhow::Error::from(error)));
    }
    Ok(ended)
}

/// Where a port is open: at one address, or at all of them.
fn shown(asked: &PortForward, open: &SocketAddr) -> String {
    match (asked.address, open) {
        (None, SocketAddr::V6(_)) => format!("0.0.0.0:{0} and [::]:{0}", open.port()),
        _ => open.to_string(),
    }
}

/// Waits for the end, passing signals on. The second one that asks to end it kills it.
async fn wait(container: &Container, signals: &mut Signals) -> Result<ExitStatus, BuildError> {
    let waiting = container.wait();
    tokio::pin!(waiting);
    let mut asked = false;
    loop {
        tokio::select! {
            ended = &mut waiting => return ended,
            Some(number) = signals.next() => match number {
                WINDOW_CHANGED => follow_terminal_size(container),
                INTERRUPT | TERMINATE if asked => container.kill(),
                INTERRUPT | TERMINATE => {
                    asked = true;
                    let number = if number == TERMINATE { container.stop_signal } else { number };
                    // One that has just ended needs no signal.
                    let _ = container.signal(number);
                }
                number => drop(container.signal(number)),
            },
        }
    }
}

/// Gives the container's terminal, if it has one, the size of ours.
fn follow_terminal_size(container: &Container) {
    if let Some((rows, columns)) = terminal_size() {
        // One that has just ended needs no size.
        let _ = container.resize(rows, columns);
    }
}

/// Starts a thread for each stream; gives back those that end with the container.
fn forward(container: &mut Container, interactive: bool) -> io::Result<Vec<JoinHandle<()>>> {
    let mut outputs = Vec::new();
    let input = match container.terminal.take() {
        Some(terminal) => {
            let output = terminal.try_clone()?;
            outputs.push(copy(output, io::stdout()));
            Some(terminal)
        }
        None => container.stdin.take(),
    };
    outputs.extend(container.stdout.take().map(|stdout| copy(stdout, io::stdout())));
    outputs.extend(container.stderr.take().map(|stderr| copy(stderr, io::stderr())));
    if let Some(input) = input.filter(|_| interactive) {
        // It may wait for a key for ever; the program's end is its end.
        std::thread::spawn(move || copy_input(input));
    }
    Ok(outputs)
}

/// Copies until the container's end, or until nobody reads any more: then the pipe is closed, and
/// the container finds out by writing to it.
fn copy(from: OwnedFd, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; CHUNK];
        loop {
            match from.read(&mut buffer) {
                Ok(count @ 1..) => {
                    if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal without anybody at its other end fails to read.
                Ok(0) | Err(_) => return,
            }
        }
    })
}

/// Copies our input to the container's, which sees its end.
fn copy_input(to: OwnedFd) {
    let mut to = File::from(to);
    let mut buffer = vec![0; CHUNK];
    let mut stdin = io::stdin().lock();
    while let Ok(count @ 1..) = stdin.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Lines and columns of our terminal.
fn terminal_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Our terminal passes every key on; dropped, it is as before.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<Option<Self>> {
        let Ok(before) = tcgetattr(io::stdin()) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Without a terminal there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;
const WINDOW_CHANGED: i32 = 28;
/// Signals that are passed on.
const PASSED_ON: [i32; 7] = [1, INTERRUPT, 3, 10, 12, TERMINATE, WINDOW_CHANGED];

/// Signals to us, one stream for all.
struct Signals(tokio::sync::mpsc::Receiver<i32>);

impl Signals {
    fn new() -> io::Result<Self> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        for number in PASSED_ON {
            let mut signal: Signal = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signal.recv().await.is_some() && sender.send(number).await.is_ok() {}
            });
        }
        Ok(Self(receiver))
    }

    async fn next(&mut self) -> Option<i32> {
        self.0.recv().await
    }
}
