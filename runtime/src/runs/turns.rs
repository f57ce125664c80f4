//! Turns: of a schedule that says `overlap = "skip"`, one firing runs at a time. An item of its own says which.

use wasq_protocol::{
    Failure, FailureKind, ItemState, ItemWrite, Overlap, RunItem, Schedule, Settings, TaskName, Timestamp,
    Written,
};

use crate::delivery::Facts;
use crate::ports::Runs;
use crate::runs::{Claim, ROUNDS, put, revision};

/// The schedule of a firing that may not run beside another one.
fn turn_of<'a>(task: &TaskName, id: &str, settings: &'a Settings) -> Option<&'a Schedule> {
    let mut skipping = settings.schedule.iter().filter(|schedule| schedule.overlap == Overlap::Skip);
    skipping.find(|schedule| schedule.is_firing(task, id))
}

/// Takes the turn of a claimed firing, if its schedule has turns. The failure says that another firing has it.
pub(crate) async fn take_turn<R: Runs>(
    runs: &R,
    facts: &mut Facts,
    task: &TaskName,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(schedule) = turn_of(task, &facts.id, settings) else { return Ok(()) };
    let id = facts.id.clone();
    let Some(claim) = facts.claim_mut().filter(|claim| claim.certain) else {
        tracing::warn!("it runs although another firing may be running: the table of runs does not answer");
        return Ok(());
    };
    let name = schedule.full_name(task);
    let turn = turn(&name, &id, claim, now);
    let mut replaces = None;
    for _ in 0..ROUNDS {
        let item = RunItem { revision: revision(), ..turn.clone() };
        let write = ItemWrite { item: item.clone(), replaces: replaces.take() };
        match put(runs, &[write]).await.remove(0) {
            Ok(Written::Yes) => {
                claim.turn = Some(item);
                return Ok(());
            }
            // An earlier call has written it, and its answer was lost.
            Ok(Written::Refused(Some(stored))) if stored.revision == item.revision => {
                claim.turn = Some(item);
                return Ok(());
            }
            Ok(Written::Refused(None)) => {}
            Ok(Written::Refused(Some(stored))) => {
                let runs_now = stored.state == ItemState::Running
                    && stored.lease_until.is_some_and(|until| until > now)
                    && !stored.is_expired(now);
                if runs_now && stored.owner != turn.owner {
                    let other = stored.owner.as_deref().unwrap_or_default();
                    let why = format!("{other}, another firing of the schedule {name}, is running");
                    return Err(Failure::new(FailureKind::Skipped, why));
                }
                replaces = Some(stored.revision);
            }
            Ok(Written::Unreadable(why)) => {
                tracing::warn!("it runs although another firing may be running: {why}");
                return Ok(());
            }
            Err(e) => {
                tracing::warn!("it runs although another firing may be running: {e:#}");
                return Ok(());
            }
        }
    }
    Err(Failure::new(FailureKind::Unavailable, format!("others write the turn of the schedule {name}")))
}

/// The item of a turn. Its owner is the firing, by its id.
fn turn(name: &str, id: &str, claim: &Claim, now: Timestamp) -> RunItem {
    let mut turn = RunItem::new(RunItem::turn_id(name), ItemState::Running, now);
    turn.owner = Some(id.to_owned());
    turn.lease_until = claim.item.lease_until;
    turn.expires = claim.item.expires;
    turn
}

/// Ends the turns of runs that have ended. If that fails, a turn ends with the lease of its run.
pub(crate) async fn end_turns<R: Runs>(runs: &R, claims: impl Iterator<Item = &mut Claim>, now: Timestamp) {
    for claim in claims {
        let Some(turn) = claim.turn.take() else { continue };
        // Only over this turn: the lease may be over, and another firing may have it.
        let ended = RunItem {
            revision: revision(),
            state: ItemState::Done,
            lease_until: None,
            updated: now,
            ..turn.clone()
        };
        let write = ItemWrite { item: ended, replaces: Some(turn.revision) };
        if let Err(e) = put(runs, &[write]).await.remove(0) {
            tracing::warn!("the turn of {} ends with its lease: {e:#}", turn.id.trim_start());
        }
    }
}
