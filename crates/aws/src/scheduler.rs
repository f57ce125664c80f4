//! A schedule group of EventBridge Scheduler: schedules that send messages to a queue.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::error::SdkError;
use aws_sdk_scheduler::primitives::DateTime;
use aws_sdk_scheduler::types::{
    ActionAfterCompletion, DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy,
    ScheduleState, Target,
};
use futures_util::future::join_all;
use wasq_protocol::{Clock, Digest, RunItem, SystemClock, Timestamp, VarError, Vars};

use crate::explain;

/// The names of a schedule group, and of what its schedules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `WASQ_SCHEDULE_GROUP`: the group's name.
    pub group: String,
    /// `WASQ_SCHEDULE_ROLE`: the ARN of the role with which schedules send messages.
    pub role: String,
    /// `WASQ_QUEUE_ARN`: the queue that they send to.
    pub queue: String,
    /// `WASQ_DEAD_LETTER_ARN`: the queue for messages that could not be sent.
    pub dead_letters: String,
}

impl GroupConfig {
    /// Reads the configuration; `None` if there is no group.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Option<Self>, VarError> {
        let Some(group) = vars.text("WASQ_SCHEDULE_GROUP") else { return Ok(None) };
        Ok(Some(Self {
            group,
            role: vars.required("WASQ_SCHEDULE_ROLE", "the role with which schedules send messages")?,
            queue: vars.required("WASQ_QUEUE_ARN", "the queue that schedules send to")?,
            dead_letters: vars.required(
                "WASQ_DEAD_LETTER_ARN",
                "the queue for messages of schedules that could not be sent",
            )?,
        }))
    }
}

/// A schedule that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    /// Its name in the group.
    pub name: String,
    /// `at(...)`, `rate(...)` or `cron(...)`.
    pub expression: String,
    /// The time zone of the expression; UTC if `None`.
    pub timezone: Option<String>,
    /// Nothing is sent before this.
    pub start: Option<Timestamp>,
    /// A text for people.
    pub description: String,
    /// The message body. Words such as [`SCHEDULED_TIME`] are replaced at the firing.
    pub body: String,
    /// How long it is tried to send the message of a firing.
    pub tries_for: Duration,
    /// Whether a message that could not be sent goes to the dead-letter queue.
    pub dead_letter: bool,
}

/// A message that is to be sent at a time, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAt {
    /// The name of its schedule.
    pub name: String,
    /// The message body.
    pub body: String,
    /// When to send it; a part of a second is rounded up.
    pub at: Timestamp,
}

/// A schedule as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSchedule {
    /// Its name in the group.
    pub name: String,
    /// Whether it fires.
    pub enabled: bool,
    /// The ARN that it sends to.
    pub target: Option<String>,
}

/// The stand-in for the time of a firing, in a body.
pub const SCHEDULED_TIME: &str = "<aws.scheduler.scheduled-time>";
/// The beginning of the names of schedules that send one message at its time. The worker makes them.
pub const MESSAGES_PREFIX: &str = "message.";
/// How long a one-time schedule tries to send its message. It is the longest that Scheduler allows.
const TRIES_FOR_MAX: Duration = Duration::from_secs(24 * 3600);
const RETRIES_MAX: i32 = 185;
/// The characters of a message's name that the name of its schedule has.
const NAME_CHARS: usize = 40;

/// A schedule group.
#[derive(Clone, Debug)]
pub struct ScheduleGroup {
    client: Client,
    name: String,
}

/// Makes schedules in a group.
#[derive(Clone, Debug)]
pub struct ScheduleMaker {
    group: ScheduleGroup,
    config: GroupConfig,
}

impl ScheduleMaker {
    /// A group in the account and region of this configuration.
    pub fn new(sdk: &SdkConfig, config: GroupConfig) -> Self {
        Self { group: ScheduleGroup::new(sdk, config.group.clone()), config }
    }

    /// The group.
    pub fn group(&self) -> &ScheduleGroup {
        &self.group
    }

    /// Sends messages at their times, each once. A schedule that is there already stays. There is no call for several: the calls are
    /// made at once.
    pub async fn send_all_at(&self, messages: Vec<MessageAt>) -> Vec<Result<()>> {
        join_all(messages.into_iter().map(|message| self.send_at(message))).await
    }

    async fn send_at(&self, MessageAt { name, body, at }: MessageAt) -> Result<()> {
        let seconds = at.ms().div_ceil(1000);
        let time = Timestamp::from_ms(seconds * 1000).to_string();
        let schedule = NewSchedule {
            expression: format!("at({})", time.trim_end_matches('Z')),
            timezone: None,
            start: None,
            description: "A message that waits for its not_before".to_owned(),
            tries_for: TRIES_FOR_MAX,
            dead_letter: true,
            body: without_words(&body),
            name,
        };
        self.create(&schedule, true).await.map(drop)
    }

    /// Makes a schedule. Returns `false` if there is one with its name.
    async fn create(&self, schedule: &NewSchedule, once: bool) -> Result<bool> {
        let NewSchedule { name, expression, timezone, start, description, .. } = schedule;
        let create = self.group.client.create_schedule().group_name(&self.group.name).name(name);
        let create =
            create.schedule_expression(expression).set_schedule_expression_timezone(timezone.clone());
        let create = create.set_start_date(start.map(date)).description(description);
        let create = create.flexible_time_window(no_window()?).target(self.target(schedule)?);
        let after = if once { ActionAfterCompletion::Delete } else { ActionAfterCompletion::None };
        match create.action_after_completion(after).send().await {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(e)) if e.err().is_conflict_exception() => Ok(false),
            Err(e) => Err(explain(e)).with_context(|| self.group.what("create", name)),
        }
    }

    /// Makes a schedule as it is given, whether it is there or not. One that is paused stays paused.
    pub async fn set(&self, schedule: &NewSchedule) -> Result<()> {
        if self.create(schedule, false).await? {
            return Ok(());
        }
        let there =
            self.group.client.get_schedule().group_name(&self.group.name).name(&schedule.name).send().await;
        let there = there.map_err(explain).with_context(|| self.group.what("read", &schedule.name))?;
        let same = there.schedule_expression.as_deref() == Some(&schedule.expression)
            && there.schedule_expression_timezone.as_deref().unwrap_or("UTC")
                == schedule.timezone.as_deref().unwrap_or("UTC")
            && there.target.as_ref() == Some(&self.target(schedule)?);
        if same {
            // The start of a rate stays what it was.
            return Ok(());
        }
        self.update(schedule, there.state).await
    }

    async fn update(&self, schedule: &NewSchedule, state: Option<ScheduleState>) -> Result<()> {
        let NewSchedule { name, expression, timezone, start, description, .. } = schedule;
        let update = self.group.client.update_schedule().group_name(&self.group.name).name(name);
        let update =
            update.schedule_expression(expression).set_schedule_expression_timezone(timezone.clone());
        let update = update.set_start_date(start.map(date)).description(description);
        let update = update.flexible_time_window(no_window()?).target(self.target(schedule)?);
        let updated = update.set_state(state).send().await;
        updated.map_err(explain).with_context(|| self.group.what("change", name))?;
        Ok(())
    }

    fn target(&self, schedule: &NewSchedule) -> Result<Target> {
        let seconds = i32::try_from(schedule.tries_for.as_secs())?;
        let retries =
            RetryPolicy::builder().maximum_retry_attempts(RETRIES_MAX).maximum_event_age_in_seconds(seconds);
        let letters = DeadLetterConfig::builder().arn(&self.config.dead_letters).build();
        let letters = schedule.dead_letter.then_some(letters);
        let target = Target::builder().arn(&self.config.queue).role_arn(&self.config.role);
        let target =
            target.input(&schedule.body).retry_policy(retries.build()).set_dead_letter_config(letters);
        target.build().context("make a target")
    }
}

impl ScheduleGroup {
    /// A group by its name, in the account and region of this configuration.
    pub fn new(sdk: &SdkConfig, name: String) -> Self {
        Self { client: Client::new(sdk), name }
    }

    /// The name of the schedule of a message, by the name under which the timer keeps it.
    pub fn message_name(kept_as: &Digest) -> String {
        format!("{MESSAGES_PREFIX}{}", &kept_as.to_string()[..NAME_CHARS])
    }

    /// Pauses a schedule, or lets it go on. Returns `false` if there is none with this name.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<bool> {
        let there = self.client.get_schedule().group_name(&self.name).name(name).send().await;
        let there = match there {
            Ok(there) => there,
            Err(SdkError::ServiceError(e)) if e.err().is_resource_not_found_exception() => return Ok(false),
            Err(e) => return Err(explain(e)).with_context(|| self.what("read", name)),
        };
        let expression = there.schedule_expression.clone().unwrap_or_default();
        let start = there.start_date.map(|start| next_start(&expression, start, SystemClock.now()));
        // A change replaces everything that it does not name.
        let update = self.client.update_schedule().group_name(&self.name).name(name);
        let update = update
            .set_schedule_expression(there.schedule_expression)
            .set_schedule_expression_timezone(there.schedule_expression_timezone)
            .set_start_date(start)
            .set_end_date(there.end_date)
            .set_kms_key_arn(there.kms_key_arn)
            .set_description(there.description)
            .set_flexible_time_window(there.flexible_time_window)
            .set_action_after_completion(there.action_after_completion)
            .set_target(there.target);
        let state = if paused { ScheduleState::Disabled } else { ScheduleState::Enabled };
        update.state(state).send().await.map_err(explain).with_context(|| self.what("change", name))?;
        Ok(true)
    }

    /// The schedules whose names begin so, but no more than about `max`.
    pub async fn list(&self, prefix: &str, max: usize) -> Result<Vec<ListedSchedule>> {
        let mut listed = Vec::new();
        let list = self.client.list_schedules().group_name(&self.name).name_prefix(prefix);
        let mut pages = list.into_paginator().page_size(100).send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain).with_context(|| self.what("list", prefix))?;
            listed.extend(page.schedules.into_iter().filter_map(|schedule| {
                Some(ListedSchedule {
                    name: schedule.name?,
                    enabled: schedule.state != Some(ScheduleState::Disabled),
                    target: schedule.target.map(|target| target.arn),
                })
            }));
            if listed.len() >= max {
                break;
            }
        }
        Ok(listed)
    }

    /// Whether EventBridge Scheduler can be connected to. Any answer counts, also a refusal.
    pub async fn answers(&self) -> bool {
        let asked = self.client.get_schedule().group_name(&self.name).name("no-schedule").send().await;
        !matches!(asked, Err(SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)))
    }

    /// Deletes a schedule, if it is there.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.client.delete_schedule().group_name(&self.name).name(name).send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(e)) if e.err().is_resource_not_found_exception() => Ok(()),
            Err(e) => Err(explain(e)).with_context(|| self.what("delete", name)),
        }
    }

    fn what(&self, verb: &str, name: &str) -> String {
        format!("{verb} the schedule {name} of the group {}", self.name)
    }
}

/// A body without words that EventBridge Scheduler replaces. It is the same JSON.
pub fn without_words(body: &str) -> String {
    body.replace(RunItem::WORD, RunItem::ESCAPED_WORD)
}

/// The start that a rate may be given again: the first firing that lies ahead. A start that is over may be refused, and without one
/// a rate fires at once.
fn next_start(expression: &str, start: DateTime, now: Timestamp) -> DateTime {
    let minutes =
        expression.strip_prefix("rate(").and_then(|rate| rate.split(' ').next()?.parse::<i64>().ok());
    let now = i64::try_from(now.ms() / 1000).unwrap_or(i64::MAX);
    match minutes.map(|minutes| minutes * 60).filter(|seconds| *seconds > 0) {
        Some(seconds) if start.secs() <= now => {
            let firings = (now - start.secs()) / seconds + 1;
            DateTime::from_secs(start.secs() + firings * seconds)
        }
        _ => start,
    }
}

fn no_window() -> Result<FlexibleTimeWindow> {
    FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build().context("make a time window")
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_secs(i64::try_from(time.ms() / 1000).expect("the clock ends in the year 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_goes_on_in_its_rhythm() {
        let start = |expression: &str, start: i64, now: u64| {
            next_start(expression, DateTime::from_secs(start), Timestamp::from_ms(now * 1000)).secs()
        };
        assert_eq!(start("rate(15 minutes)", 9_000, 10_000), 10_800);
        assert_eq!(start("rate(15 minutes)", 9_000, 10_800), 11_700);
        assert_eq!(start("rate(1 minute)", 9_000, 9_000), 9_060);
        assert_eq!(start("rate(15 minutes)", 9_000, 8_000), 9_000, "it lies ahead");
        assert_eq!(start("cron(0 7 * * ? *)", 9_000, 10_000), 9_000);
    }
}
