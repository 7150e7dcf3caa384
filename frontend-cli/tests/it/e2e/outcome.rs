//! What a run of the program came to.

use serde_json::Value;

/// The end of a run, and all it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A step of a build, as `--progress=json` tells of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Step {
    /// `[build 2/5] RUN make`
    pub(crate) name: String,
    /// `cached`, `done`, `failed`, `canceled`, or empty.
    pub(crate) end: String,
    /// When it began and when it ended, as sorts by time.
    pub(crate) times: (String, String),
    pub(crate) log: String,
    /// Its first line in the Dockerfile.
    pub(crate) line: Option<u64>,
}

impl Step {
    /// Whether it did something: naming an image and putting layers on others is nothing.
    pub(crate) fn ran(&self) -> bool {
        let names_only = ["] FROM ", "] LINK "].iter().any(|word| self.name.contains(word));
        self.end != "cached" && !self.end.is_empty() && !names_only
    }

    /// `build 2/5`; nothing for steps that are not the user's.
    pub(crate) fn number(&self) -> Option<String> {
        let (number, _) = self.name.strip_prefix('[')?.split_once(']')?;
        let words: Vec<&str> = number.split_whitespace().collect();
        (!matches!(words[0], "internal" | "context")).then(|| words.join(" "))
    }
}

impl Outcome {
    /// Fails the test if the program failed.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.words());
        self
    }

    /// Fails the test unless the program ended with `code`.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.words());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error without the events.
    pub(crate) fn words(&self) -> String {
        self.stderr
            .lines()
            .filter(|line| !line.starts_with('{'))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for event in self.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            tell(&mut steps, &event);
        }
        steps
    }

    /// The steps of the Dockerfile that ran, by number, without those that only name an image.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut ran: Vec<String> =
            (self.steps().iter()).filter(|step| step.ran()).filter_map(Step::number).collect();
        ran.sort();
        ran
    }

    /// What the steps wrote.
    pub(crate) fn log(&self) -> String {
        self.steps().iter().map(|step| step.log.as_str()).collect()
    }
}

fn tell(steps: &mut Vec<Step>, event: &Value) {
    let Some(number) = event["step"].as_u64() else { return };
    let index = usize::try_from(number).expect("a step number") - 1;
    if steps.len() <= index {
        steps.resize(index + 1, Step::default());
    }
    let step = &mut steps[index];
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    match event["type"].as_str().expect("each event has a type") {
        "step-added" => {
            step.name = text("name");
            step.line = event["lines"][0].as_u64();
        }
        "step-started" => step.times.0 = text("time"),
        "log" => step.log += &text("text"),
        kind => {
            if let Some(end @ ("cached" | "done" | "failed" | "canceled")) =
                kind.strip_prefix("step-")
            {
                step.end = end.to_owned();
                step.times.1 = text("time");
            }
        }
    }
}
