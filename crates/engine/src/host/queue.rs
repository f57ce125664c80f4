//! `wasq:task/queue`: child tasks, held back until their parent has succeeded.

use std::sync::Weak;
use std::time::Duration;

use wasq_protocol::{
    AHEAD_IN_QUEUE, AHEAD_MAX, DELAYED_BYTES_MAX, Digest, MAX_MESSAGE_BYTES, Message, can_leave_the_queue,
};

use crate::bindings::wasq::task::queue::{EnqueueError, EnqueueOptions, Host};
use crate::limits::Limits;
use crate::run::{Child, RunContext};
use crate::state::RunState;

/// The bytes that `not_before` and `descendants` add to a message.
const ADDED_BYTES: usize = 100;

impl Host for RunState {
    async fn enqueue(
        &mut self,
        task: String,
        params: String,
        options: EnqueueOptions,
    ) -> Result<String, EnqueueError> {
        let child =
            child(&self.context, &self.limits, self.children.len(), Request { task, params, options })?;
        let id = child.message.id.clone().expect("every child has an id");
        self.children_bytes += child.message.params.get().len();
        if self.children_bytes > self.limits.children_bytes_max {
            return Err(EnqueueError::Invalid(format!(
                "params: all children of a run together have at most {} bytes",
                self.limits.children_bytes_max
            )));
        }
        if let Some(checks) = self.child_checks.as_ref().and_then(Weak::upgrade) {
            let (task, params) = (&child.message.task, child.message.params.get());
            let checked = checks.check_child(task, params).await;
            checked.map_err(|why| EnqueueError::Invalid(format!("params: {why}")))?;
        }
        self.children.push(child);
        Ok(id)
    }
}

/// How many messages a run and those below it may still send.
fn budget(parent: &RunContext, limits: &Limits) -> u32 {
    parent.descendants.unwrap_or(limits.descendants_max).min(limits.descendants_max)
}

/// Divides what is left of the parent's budget among its children, when it has sent all of them. If some of them are of the
/// parent's own task, these get one half together, and the others the other half. So a task can go on page by page, and send a
/// message for each thing on a page.
pub(crate) fn divide_budget(children: &mut [Child], parent: &RunContext, limits: &Limits) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let left = budget(parent, limits).saturating_sub(number(children.len()));
    let own = number(children.iter().filter(|child| child.message.task == parent.task).count());
    let others = number(children.len()) - own;
    let (for_own, for_others) = match (own, others) {
        (_, 0) => (left, 0),
        (0, _) => (0, left),
        _ => (left / 2, left / 2),
    };
    for child in children {
        let (part, count) =
            if child.message.task == parent.task { (for_own, own) } else { (for_others, others) };
        child.message.descendants = Some(part / count);
    }
}

struct Request {
    task: String,
    params: String,
    options: EnqueueOptions,
}

fn child(
    parent: &RunContext,
    limits: &Limits,
    ordinal: usize,
    request: Request,
) -> Result<Child, EnqueueError> {
    let most = limits.children_max.min(budget(parent, limits));
    if ordinal >= most as usize {
        return Err(EnqueueError::TooMany(most));
    }
    if parent.depth >= limits.depth_max {
        return Err(EnqueueError::TooDeep(limits.depth_max));
    }
    let Request { task, params, options: EnqueueOptions { delay_seconds, id } } = request;
    let task = task.parse().map_err(|e| EnqueueError::Invalid(format!("task: {e}: {task:?}")))?;
    let params =
        serde_json::from_str(&params).map_err(|e| EnqueueError::Invalid(format!("params: not JSON: {e}")))?;
    let mut message = Message::new(task, params);
    message.id = Some(id.unwrap_or_else(|| derived_id(&parent.id, ordinal)));
    message.parent = Some(parent.id.clone());
    message.root = Some(parent.root.clone());
    message.depth = parent.depth + 1;
    message.traceparent = parent.traceparent.clone();
    // Refuse every message here that the queue or the next worker would refuse. The task can still react
    // here.
    let json = message.to_json();
    if json.len() + ADDED_BYTES > MAX_MESSAGE_BYTES {
        return Err(EnqueueError::Invalid(format!(
            "params: the message has {} bytes; the most is {MAX_MESSAGE_BYTES}",
            json.len()
        )));
    }
    Message::parse(&json).map_err(|e| EnqueueError::Invalid(format!("{}: {}", e.path, e.problem)))?;
    let delay = Duration::from_secs(delay_seconds.unwrap_or(0).into());
    check_delay(delay, json.len() + ADDED_BYTES, limits)?;
    Ok(Child { message, delay, trace_header: parent.trace_header.clone(), group: None })
}

/// A queue may forget messages after 4 days, so a child that stays in it may wait for 3.
fn check_delay(delay: Duration, message_bytes: usize, limits: &Limits) -> Result<(), EnqueueError> {
    let (most, why) = match can_leave_the_queue(message_bytes) {
        true if limits.delay_max >= AHEAD_MAX => (AHEAD_MAX, String::new()),
        true => (limits.delay_max, " for a deployment without a schedule group".to_owned()),
        false => (AHEAD_IN_QUEUE, format!(" for a message of more than {DELAYED_BYTES_MAX} bytes")),
    };
    if delay <= most {
        return Ok(());
    }
    let (asked, most, days) = (delay.as_secs(), most.as_secs(), most.as_secs() / 86_400);
    Err(EnqueueError::Invalid(format!(
        "delay-seconds: {asked} is more than {most} ({days} days), the most{why}"
    )))
}

/// The same for every attempt of the parent, and different for each of its children.
fn derived_id(parent: &str, ordinal: usize) -> String {
    Digest::of(format!("{parent}\0{ordinal}").as_bytes()).to_string()[..32].to_owned()
}
