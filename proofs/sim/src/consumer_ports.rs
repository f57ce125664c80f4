//! The consumer's ports on a simulated world. The consumer's part of a mutated protocol is here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_consumer::{ConsumerPorts, InvokeError, Invoker, Source};
use wasq_protocol::{Delivery, Timestamp};

use crate::lambda::{Lambda, deliveries, ids};
use crate::process::Process;
use crate::queue::{Handed, chance};
use crate::scenario::Mutation;
use crate::sqs::{ANSWER_TIME, delete, receive, set_visibility};
use crate::world::VirtualClock;

/// The kinds of a simulated consumer's ports.
pub struct SimConsumerPorts;

impl ConsumerPorts for SimConsumerPorts {
    type Source = SimSource;
    type Invoker = SimInvoker;
    type Clock = VirtualClock;
}

/// The task queue, as the consumer sees it.
pub struct SimSource(pub Arc<Process>);

impl Source for SimSource {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        let handed = receive(&self.0, wait).await?;
        let world = &self.0.world;
        let lease_until = world.now().plus(world.scenario.lease()).minus(ANSWER_TIME);
        let forgotten = world.scenario.mutation == Some(Mutation::AttemptsForgotten);
        let delivery = |Handed { message_id, receipt, stored, unkind: _ }: Handed| Delivery {
            message_id,
            receipt,
            receive_count: if forgotten { 1 } else { stored.receive_count },
            lease_until,
            first_received: stored.first_received.expect("it was received"),
            sent: stored.sent,
            attributes: stored.attributes,
            body: stored.body,
            group: None,
            trace_header: None,
            deaths: 0,
        };
        Ok(handed.into_iter().map(delivery).collect())
    }

    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        set_visibility(&self.0, receipts.into_iter().map(|receipt| (receipt, lease)).collect()).await
    }

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        set_visibility(&self.0, entries).await
    }
}

/// Lambda's invoke, as the consumer sees it.
pub struct SimInvoker {
    pub process: Arc<Process>,
    pub lambda: Arc<Lambda>,
}

impl Invoker for SimInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let mutation = self.process.world.scenario.mutation;
        if mutation == Some(Mutation::Asynchronous) {
            return self.invoke_asynchronously(event).await;
        }
        let ids = ids(&event);
        let (lambda, offered) = (self.lambda.clone(), event.clone());
        let offer = Offer { process: &self.process, ids: &ids };
        let answer = self
            .process
            .call("lambda.invoke", move |state| {
                let place = lambda.admit(state.storm)?;
                Some(lambda.start_invoke(state, offered, place))
            })
            .await;
        std::mem::forget(offer);
        let ended = match answer {
            Ok(Some(ended)) => ended,
            Ok(None) => return Err(InvokeError::Busy("TooManyRequestsException".to_owned())),
            Err(e) => {
                self.arrives_late(event);
                return Err(unanswered(e.to_string(), &ids));
            }
        };
        if mutation == Some(Mutation::DeleteOnHandOver) {
            let deliveries = deliveries(&event, Timestamp::from_ms(0), Duration::ZERO);
            delete(&self.process, deliveries.into_iter().map(|d| d.receipt).collect()).await;
        }
        // From now on, a fault of the consumer does not touch these messages.
        self.process.lets_go(&ids);
        let cut_after = self.process.world.state(|state| {
            let cut = state.storm && chance(&mut state.rng, 0.01);
            cut.then(|| Duration::from_millis(state.rng.u64(1..20_000)))
        });
        let answered = async {
            match cut_after {
                Some(after) => tokio::time::timeout(after, ended).await.ok(),
                None => Some(ended.await),
            }
        };
        let answered = answered.await;
        self.process.step().await;
        match answered {
            Some(Ok(Some(_))) => Ok(()),
            Some(_) if mutation == Some(Mutation::DeathsUnseen) => {
                Err(InvokeError::Unknown("Runtime.ExitError".to_owned()))
            }
            Some(_) => {
                // The consumer has them in its hands again.
                self.process.holds(ids, BTreeSet::new());
                Err(InvokeError::Died("Runtime.ExitError".to_owned()))
            }
            None => Err(InvokeError::Unknown("connection reset".to_owned())),
        }
    }
}

impl SimInvoker {
    /// A request without an answer may be on its way still: what a consumer has sent before it was frozen arrives when it wakes
    /// up.
    fn arrives_late(&self, event: String) {
        let world = &self.process.world;
        let late = world.state(|state| {
            let late = state.storm && chance(&mut state.rng, 0.3);
            late.then(|| Duration::from_millis(state.rng.u64(1_000..120_000)))
        });
        let Some(late) = late else { return };
        let (world, lambda) = (world.clone(), self.lambda.clone());
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            world.state(|state| {
                if let Some(place) = lambda.admit(state.storm) {
                    lambda.start_invoke(state, event, place);
                }
            });
        });
    }

    /// The hand-over that wasq had before: Lambda accepts the event into a queue of its own.
    async fn invoke_asynchronously(&self, event: String) -> Result<(), InvokeError> {
        let ids = ids(&event);
        let lambda = self.lambda.clone();
        let accepted = self.process.call("lambda.invoke", move |state| lambda.accept(state, event)).await;
        accepted.map_err(|e| unanswered(e.to_string(), &ids))?;
        self.process.lets_go(&ids);
        Ok(())
    }
}

/// An invoke that Lambda has not answered. A consumer that ends before cannot know whether a worker has the messages.
struct Offer<'a> {
    process: &'a Process,
    ids: &'a [String],
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        self.process.world.state(|state| self.ids.iter().for_each(|id| state.fault(id)));
    }
}

/// An invoke without an answer of the function.
fn unanswered(e: String, ids: &[String]) -> InvokeError {
    match e.contains("Throttling") {
        // For a moment, the function is missing or may not be invoked.
        true if ids.len().is_multiple_of(2) => InvokeError::Refused(e),
        true => InvokeError::Busy(e),
        false => InvokeError::Unknown(e),
    }
}
