//! What of file operations enters their records (BuildKit's `FileOp`).

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use llb::{CopyOp, FileAction, FileActionKind, FileInput, FileOp, Owner, OwnerId, Timestamp};
use oci::Digest;
use serde::Serialize;

use crate::go;
use crate::path::{base, has_wildcard, topmost};
use crate::step::{Selector, Step, StepInput};

#[derive(Serialize)]
struct Keyed {
    #[serde(rename = "Type")]
    kind: &'static str,
    /// The JSON of each action, as Go writes bytes.
    #[serde(rename = "Actions")]
    actions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<Vec<[i64; 3]>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Copy<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    src: &'a str,
    dest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Chown<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "is_false")]
    follow_symlink: bool,
    #[serde(skip_serializing_if = "is_false")]
    dir_copy_contents: bool,
    #[serde(rename = "attemptUnpackDockerCompatibility", skip_serializing_if = "is_false")]
    attempt_unpack: bool,
    #[serde(skip_serializing_if = "is_false")]
    create_dest_path: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_wildcard: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_empty_wildcard: bool,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
    #[serde(rename = "include_patterns", skip_serializing_if = "<[_]>::is_empty")]
    include: &'a [String],
    #[serde(rename = "exclude_patterns", skip_serializing_if = "<[_]>::is_empty")]
    exclude: &'a [String],
    #[serde(rename = "alwaysReplaceExistingDestPaths", skip_serializing_if = "is_false")]
    always_replace_existing: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    mode_str: &'a str,
    #[serde(rename = "required_paths", skip_serializing_if = "<[_]>::is_empty")]
    required: &'a [String],
}

#[derive(Serialize)]
struct Mkfile<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Chown<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mkdir<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "is_false")]
    make_parents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Chown<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rm<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    allow_not_found: bool,
    #[serde(skip_serializing_if = "is_false")]
    allow_wildcard: bool,
}

#[derive(Serialize)]
struct Symlink<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    oldpath: &'a str,
    newpath: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Chown<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

#[derive(Serialize)]
struct Chown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<User<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(rename = "User")]
    user: UserId<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserId<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    by_name: Option<Named<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    by_id: i64,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    input: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The step of file operations.
pub(crate) fn step(op: &FileOp) -> Step {
    let numbers = numbers(op);
    let ctx = Ctx { numbers: &numbers };
    let mut taken = Taken::default();
    let mut actions = Vec::with_capacity(op.actions.len());
    for action in &op.actions {
        taken.changed.extend(ctx.place(action.input));
        actions.push(BASE64.encode(&ctx.action(action, &mut taken)));
    }
    let indexes: Vec<_> = op.actions.iter().map(|action| ctx.indexes(action)).collect();
    let indexes = (!is_usual(&indexes)).then_some(indexes);
    let keyed = Keyed { kind: "buildkit.file.v0", actions, indexes };
    let input = |(place, &number)| taken.input(place, number);
    Step {
        digests: vec![go::digest(&keyed)],
        inputs: numbers.iter().enumerate().map(input).collect(),
    }
}

/// The inputs that actions take, in BuildKit's order.
fn numbers(op: &FileOp) -> Vec<usize> {
    let mut numbers = Vec::new();
    let inputs = op.actions.iter().flat_map(|action| [Some(action.input), action.secondary]);
    for input in inputs.flatten() {
        if let FileInput::Input(number) = input
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    numbers
}

/// What is taken of the inputs.
#[derive(Default)]
struct Taken {
    /// Places of inputs that are changed: all of them is taken.
    changed: BTreeSet<usize>,
    selectors: BTreeMap<usize, Vec<Selector>>,
}

impl Taken {
    fn input(&self, place: usize, number: usize) -> StepInput {
        let selectors = self.selectors.get(&place).filter(|_| !self.changed.contains(&place));
        let Some(selectors) = selectors else {
            return StepInput { number, selector: String::new(), content: None };
        };
        let mut paths: Vec<&str> = selectors.iter().map(|selector| &*selector.path).collect();
        paths.sort_unstable();
        paths.reverse();
        StepInput {
            number,
            selector: Digest::of(paths.join("\0").as_bytes()).to_string(),
            content: Some(content(selectors)),
        }
    }

    /// The files that say who users and groups are are taken where one is named.
    fn look_up(&mut self, owner: Option<&Owner>, ctx: &Ctx<'_>) {
        let Some(owner) = owner else { return };
        for (id, path) in [(&owner.user, "/etc/passwd"), (&owner.group, "/etc/group")] {
            if let Some(OwnerId::Name { input: Some(number), .. }) = id
                && let Some(place) = ctx.place(FileInput::Input(*number))
            {
                let path = path.to_owned();
                let selector = Selector { path, follow_links: true, ..Selector::default() };
                self.selectors.entry(place).or_default().push(selector);
            }
        }
    }
}

/// What contents are of: plain paths without those below others, then the rest, by path.
fn content(selectors: &[Selector]) -> Vec<Selector> {
    let is_plain = |selector: &&Selector| {
        !selector.wildcard && selector.include.is_empty() && selector.exclude.is_empty()
    };
    let plain = |follow_links| {
        let same = selectors.iter().filter(is_plain).filter(|s| s.follow_links == follow_links);
        let paths = topmost(same.map(|selector| selector.path.clone()).collect());
        paths.into_iter().map(move |path| Selector { path, follow_links, ..Selector::default() })
    };
    let others = selectors.iter().filter(|selector| !is_plain(selector)).cloned();
    let mut all: Vec<Selector> = plain(false).chain(plain(true)).chain(others).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Whether each action changes what the one before made, the first one input 0, and copies from input 1.
/// Early versions wrote no indexes, and their caches stay good.
fn is_usual(indexes: &[[i64; 3]]) -> bool {
    let count = indexes.len() as i64;
    indexes.iter().enumerate().all(|(place, [input, secondary, output])| {
        let (first, place) = (place == 0, place as i64);
        let expected = if first { 0 } else { count + place - 1 };
        *input == expected
            && matches!(secondary, -1 | 1)
            && *output == if place == count - 1 { 0 } else { -1 }
    })
}

struct Ctx<'a> {
    numbers: &'a [usize],
}

impl Ctx<'_> {
    fn place(&self, input: FileInput) -> Option<usize> {
        let FileInput::Input(number) = input else { return None };
        self.numbers.iter().position(|known| *known == number)
    }

    fn index(&self, input: FileInput) -> i64 {
        match input {
            FileInput::Scratch => -1,
            FileInput::Input(_) => self.place(input).map_or(-1, |place| place as i64),
            FileInput::Action(place) => (self.numbers.len() + place) as i64,
        }
    }

    fn indexes(&self, action: &FileAction) -> [i64; 3] {
        let secondary = action.secondary.map_or(-1, |input| self.index(input));
        let output = action.output.map_or(-1, |output| output as i64);
        [self.index(action.input), secondary, output]
    }

    fn action(&self, action: &FileAction, taken: &mut Taken) -> Vec<u8> {
        match &action.kind {
            FileActionKind::Copy(op) => self.copy(action, op, taken),
            FileActionKind::Mkfile(op) => {
                taken.look_up(op.owner.as_ref(), self);
                go::to_json(&Mkfile {
                    path: &op.path,
                    mode: op.mode.into(),
                    data: BASE64.encode(&op.data),
                    owner: self.owner(op.owner.as_ref()),
                    timestamp: nanoseconds(op.timestamp),
                })
            }
            FileActionKind::Mkdir(op) => {
                taken.look_up(op.owner.as_ref(), self);
                go::to_json(&Mkdir {
                    path: &op.path,
                    mode: op.mode.into(),
                    make_parents: op.make_parents,
                    owner: self.owner(op.owner.as_ref()),
                    timestamp: nanoseconds(op.timestamp),
                })
            }
            FileActionKind::Rm(op) => go::to_json(&Rm {
                path: &op.path,
                allow_not_found: op.allow_not_found,
                allow_wildcard: op.allow_wildcard,
            }),
            FileActionKind::Symlink(op) => go::to_json(&Symlink {
                oldpath: &op.target,
                newpath: &op.path,
                owner: self.owner(op.owner.as_ref()),
                timestamp: nanoseconds(op.timestamp),
            }),
        }
    }

    /// The name under which files arrive is written, the way to them is the selector's part.
    fn copy(&self, action: &FileAction, op: &CopyOp, taken: &mut Taken) -> Vec<u8> {
        taken.look_up(op.owner.as_ref(), self);
        let selector = selector(op);
        let place = action.secondary.and_then(|secondary| self.place(secondary));
        let (mode, mode_str) = match (op.mode, &op.mode_symbolic) {
            (_, Some(text)) => (0, &**text),
            (Some(bits), None) => (bits.into(), ""),
            (None, None) => (-1, ""),
        };
        let json = go::to_json(&Copy {
            src: if place.is_some() { base(&selector.path) } else { &selector.path },
            dest: if op.dest_has_dot { format!("{}.", op.dest) } else { op.dest.clone() },
            owner: self.owner(op.owner.as_ref()),
            mode,
            follow_symlink: op.follow_symlink,
            // Of a root only the content can be copied; BuildKit says so only where wildcards are allowed.
            dir_copy_contents: op.dir_copy_contents && (op.allow_wildcard || op.src != "/"),
            attempt_unpack: op.attempt_unpack,
            create_dest_path: op.create_dest_path,
            allow_wildcard: op.allow_wildcard,
            allow_empty_wildcard: op.allow_empty_wildcard,
            timestamp: nanoseconds(op.timestamp),
            include: &selector.include,
            exclude: &selector.exclude,
            always_replace_existing: op.always_replace_existing,
            mode_str,
            required: &selector.required,
        });
        if let Some(place) = place {
            taken.selectors.entry(place).or_default().push(selector);
        }
        json
    }

    fn owner<'o>(&self, owner: Option<&'o Owner>) -> Option<Chown<'o>> {
        let user = |id: &'o OwnerId| User { user: self.user(id) };
        owner.map(|owner| Chown {
            user: owner.user.as_ref().map(user),
            group: owner.group.as_ref().map(user),
        })
    }

    fn user<'o>(&self, id: &'o OwnerId) -> UserId<'o> {
        match id {
            OwnerId::Id(number) => UserId { by_name: None, by_id: i64::from(*number) },
            OwnerId::Name { name, input } => {
                let input = input.map_or(-1, |number| self.index(FileInput::Input(number)));
                UserId { by_name: Some(Named { name, input }), by_id: 0 }
            }
        }
    }
}

/// What is copied. `--parents` is patterns below what is before the pivot.
fn selector(op: &CopyOp) -> Selector {
    let mut selector = Selector {
        path: op.src.clone(),
        wildcard: false,
        follow_links: op.follow_symlink,
        include: op.include_patterns.clone(),
        exclude: op.exclude_patterns.clone(),
        required: Vec::new(),
    };
    if op.parents && op.include_patterns.is_empty() {
        let (above, pattern) = op.src.split_once("/./").unwrap_or(("", &op.src));
        let pattern = pattern.trim_start_matches('/');
        if !has_wildcard(above) && !has_wildcard(pattern) {
            selector.required = vec![format!("{above}/{pattern}")];
        }
        selector.include = vec![pattern.to_owned()];
        selector.path = if above.is_empty() { "/" } else { above }.to_owned();
    }
    selector.wildcard = op.allow_wildcard && has_wildcard(&selector.path);
    selector
}

fn nanoseconds(time: Option<Timestamp>) -> i64 {
    time.map_or(-1, |time| {
        time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanoseconds.into())
    })
}
