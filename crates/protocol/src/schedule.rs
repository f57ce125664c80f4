//! A task's schedules: the `[[schedule]]` tables of its settings.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::units::format_duration;
use crate::{Cron, Message, TaskName, Timestamp, parse_duration};

/// A time at which wasq sends a message for the task, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Schedule {
    /// Names it, if the task has several: 1 to 32 characters of `a-z A-Z 0-9 _ -`.
    pub name: Option<String>,
    /// When it fires.
    pub when: When,
    /// The params of its messages; default `{}`.
    pub params: Value,
    /// Whether a firing is made up for that could not take place within 15 minutes.
    pub missed: Missed,
    /// Whether a firing runs while another one of the same schedule does.
    pub overlap: Overlap,
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At the times of the expression on the clocks of the time zone, an IANA name such as `Europe/Berlin`.
    Cron(Cron, String),
    /// At every multiple of this time since 1970-01-01T00:00:00Z: whole minutes, 1 minute to 365 days.
    Every(Duration),
}

/// The fate of a firing that could not take place in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// It is left out.
    #[default]
    Skip,
    /// It is made up for as soon as possible. Of several, the last one is.
    Run,
}

/// The fate of a firing that would run while another one of the same schedule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It runs beside the other.
    #[default]
    Allow,
    /// It does not run. This needs the table of runs.
    Skip,
}

impl Schedule {
    /// A firing that is later than this counts as missed.
    pub const LATE: Duration = Duration::from_secs(15 * 60);

    /// Its name among all schedules of all tasks: `TASK`, or `TASK/NAME`.
    pub fn full_name(&self, task: &TaskName) -> String {
        match &self.name {
            // A task name has no slash.
            Some(name) => format!("{task}/{name}"),
            None => task.to_string(),
        }
    }

    /// Whether this is the id of a firing's message.
    pub fn is_firing(&self, task: &TaskName, id: &str) -> bool {
        id.strip_prefix(&self.full_name(task)).is_some_and(|rest| rest.starts_with('@'))
    }

    /// The body of the message of one firing. `time` is the time of the firing, as RFC 3339, or a text that stands for it. Two messages of
    /// one firing have the same id.
    pub fn body(&self, task: &TaskName, time: &str) -> String {
        let params = serde_json::value::to_raw_value(&self.params).expect("a value is JSON");
        let mut message = Message::new(task.clone(), params);
        message.id = Some(format!("{}@{time}", self.full_name(task)));
        message.to_json()
    }
}

/// The state of a schedule, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Its name among all schedules: `TASK`, or `TASK/NAME`.
    pub name: String,
    /// The task that its messages are for.
    pub task: TaskName,
    /// Its table in the settings of the task.
    pub schedule: Schedule,
    /// Whether somebody has paused it.
    pub paused: bool,
    /// When it fires next; none while it is paused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Timestamp>,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron, timezone) => write!(f, "{cron} ({timezone})"),
            Self::Every(every) => write!(f, "every {}", format_duration(*every)),
        }
    }
}

/// A `[[schedule]]` as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    cron: Option<Cron>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    missed: Option<Missed>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    overlap: Option<Overlap>,
    // Last, because a table in TOML ends the keys before it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    params: Option<Value>,
}

const EVERY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const NAME_MAX: usize = 32;
const UTC: &str = "UTC";

impl TryFrom<Wire> for Schedule {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        let Wire { name, cron, every, timezone, missed, overlap, params } = wire;
        if let Some(name) = &name {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(valid) {
                return Err(format!(
                    "the name of a schedule has 1 to {NAME_MAX} characters of a-z A-Z 0-9 _ -, and this is {name:?}"
                ));
            }
        }
        let when = match (cron, every) {
            (Some(cron), None) => When::Cron(cron, timezone.unwrap_or_else(|| UTC.to_owned())),
            (None, Some(every)) => {
                if timezone.is_some() {
                    return Err("a schedule with every has no timezone: it fires at multiples of that time since 1970 in UTC".to_owned());
                }
                When::Every(parse_every(&every)?)
            }
            (Some(_), Some(_)) => {
                return Err("a schedule has either cron or every, and this one has both".to_owned());
            }
            (None, None) => {
                return Err(
                    "a schedule needs cron, such as cron = \"0 7 * * *\", or every, such as every = \"15m\""
                        .to_owned(),
                );
            }
        };
        let params = params.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if has_date(&params) {
            return Err("params of a schedule: JSON has no dates; write the date in quotes".to_owned());
        }
        let (missed, overlap) = (missed.unwrap_or_default(), overlap.unwrap_or_default());
        Ok(Self { name, when, params, missed, overlap })
    }
}

fn parse_every(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text).map_err(|e| format!("every: {e}"))?;
    let minutes = every.as_millis().is_multiple_of(60_000);
    if !minutes || every.is_zero() || every > EVERY_MAX {
        return Err(format!("every = {text:?}: a whole number of minutes is needed, from 1m to 365d"));
    }
    Ok(every)
}

/// Whether TOML has read a date without quotes.
fn has_date(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.keys().any(|key| key.starts_with("$__toml")) || map.values().any(has_date),
        Value::Array(values) => values.iter().any(has_date),
        _ => false,
    }
}

impl From<Schedule> for Wire {
    fn from(schedule: Schedule) -> Self {
        let Schedule { name, when, params, missed, overlap } = schedule;
        let (cron, every, timezone) = match when {
            When::Cron(cron, timezone) => (Some(cron), None, Some(timezone).filter(|zone| zone != UTC)),
            When::Every(every) => (None, Some(format_duration(every)), None),
        };
        let params = Some(params).filter(|params| params.as_object().is_none_or(|map| !map.is_empty()));
        Self {
            name,
            cron,
            every,
            timezone,
            missed: Some(missed).filter(|missed| *missed != Missed::default()),
            overlap: Some(overlap).filter(|overlap| *overlap != Overlap::default()),
            params,
        }
    }
}
