//! `mybuild ps`

use engine::Workspace;
use engine::containers::{ContainerState, StoredContainer};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::image::tell_warnings;
use crate::cli::PsArgs;
use crate::docker_units::{age, at, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format, shorten};
use crate::ui;

const FIELDS: &[Field] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("ExitCode", "EXIT CODE"),
    ("Size", "SIZE"),
    ("Names", "NAMES"),
];
const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}\t{{.Size}}";
/// Columns of a command that is shown in short.
const COMMAND_COLUMNS: usize = 20;
/// Digits of an id that is shown in short.
const ID_DIGITS: usize = 12;
/// What everything in a container ends with whose `mybuild` is killed.
const KILLED: i32 = 137;

/// What `mybuild ps` has to do.
pub(super) struct List {
    all: bool,
    no_trunc: bool,
    format: Format,
}

impl List {
    pub(super) fn resolve(args: &PsArgs) -> Result<Self, UsageError> {
        let table = if args.size { TABLE_WITH_SIZE } else { TABLE };
        let format = match (args.quiet, args.format.as_deref()) {
            (true, None | Some("table")) => Some("{{.ID}}"),
            (_, format) => format,
        };
        let format = Format::parse(format, table, FIELDS)?;
        Ok(Self { all: args.all, no_trunc: args.no_trunc, format })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut containers = workspace.containers().await?;
        let runs = |container: &StoredContainer| {
            matches!(container.record.state, ContainerState::Running { .. })
        };
        containers.retain(|container| self.all || runs(container));
        let entries: Vec<_> = containers.iter().map(|container| self.entry(container)).collect();
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }

    fn entry(&self, container: &StoredContainer) -> Map<String, Value> {
        let record = &container.record;
        let now = Timestamp::now().as_second();
        let command = format!("\"{}\"", record.command.join(" ").replace(['\t', '\n'], " "));
        let created = Timestamp::from_second(record.created).ok().map(|time| time.to_string());
        let (state, status) = status(record.state, now);
        let code = match record.state {
            ContainerState::Ended { code, .. } => Value::from(code),
            ContainerState::Killed { .. } => KILLED.into(),
            ContainerState::Created | ContainerState::Running { .. } => Value::Null,
        };
        let id = if self.no_trunc { &record.id } else { &record.id[..ID_DIGITS] };
        let fields = [
            ("ID", id.into()),
            ("Image", record.image.as_str().into()),
            (
                "Command",
                match self.no_trunc {
                    true => command.into(),
                    false => shorten(&command, COMMAND_COLUMNS).into(),
                },
            ),
            ("CreatedAt", at(created.as_deref(), &TimeZone::system()).into()),
            ("RunningFor", age(now - record.created).into()),
            ("State", state.into()),
            ("Status", status.into()),
            ("ExitCode", code),
            ("Size", size(container.bytes()).into()),
            ("Names", record.name.as_str().into()),
        ];
        fields.into_iter().map(|(name, value): (_, Value)| (name.to_owned(), value)).collect()
    }
}

/// In one of Docker's words, and in a few.
fn status(state: ContainerState, now: i64) -> (&'static str, String) {
    match state {
        ContainerState::Created => ("created", "Created".to_owned()),
        ContainerState::Running { started } => {
            let age = age(now - started);
            ("running", format!("Up {}", age.trim_end_matches(" ago")))
        }
        ContainerState::Ended { finished, code, .. } => {
            ("exited", format!("Exited ({code}) {}", age(now - finished)))
        }
        ContainerState::Killed { .. } => ("exited", format!("Exited ({KILLED})")),
    }
}
