//! The consumer's ports on a simulated world. The consumer's part of a mutated protocol is here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_consumer::{ConsumerPorts, InFlight, InvokeError, Invoker, Source};
use wasq_protocol::{DeadLetter, Delivery, Timestamp};

use crate::lambda::{Lambda, deliveries, ids};
use crate::process::Process;
use crate::queue::Handed;
use crate::scenario::Mutation;
use crate::sqs::{ANSWER_TIME, delete, receive, send_dead_letters, set_visibility};
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
        };
        Ok(handed.into_iter().map(delivery).collect())
    }

    async fn release(&self, mut entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        if self.0.world.scenario.mutation == Some(Mutation::ReleasedAtOnce) {
            entries.iter_mut().for_each(|(_, after)| *after = Duration::ZERO);
        }
        set_visibility(&self.0, entries).await
    }

    async fn send_dead_letter(&self, delivery: &Delivery, letter: &DeadLetter) -> Result<()> {
        let letters = vec![(delivery.clone(), letter.clone())];
        send_dead_letters(&self.0, letters).await.into_iter().collect()
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        delete(&self.0, vec![receipt.to_owned()]).await.into_iter().collect()
    }
}

/// Lambda's asynchronous invoke, as the consumer sees it.
pub struct SimInvoker {
    pub process: Arc<Process>,
    pub lambda: Arc<Lambda>,
}

impl Invoker for SimInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let (lambda, accepted) = (self.lambda.clone(), event.clone());
        let ids = ids(&event);
        let busy = self.lambda.refuses();
        let answer = self
            .process
            .call("lambda.invoke", move |state| {
                if !busy {
                    lambda.accept(state, accepted);
                }
            })
            .await;
        match answer {
            Ok(()) if busy => {
                // The refusal may cost the messages a receive.
                self.process.world.state(|state| ids.iter().for_each(|id| state.fault(id)));
                Err(InvokeError::Throttled("TooManyRequestsException".to_owned()))
            }
            Ok(()) => {
                if self.process.world.scenario.mutation == Some(Mutation::DeleteOnHandOver) {
                    let deliveries = deliveries(&event, Timestamp::from_ms(0), Duration::ZERO);
                    delete(&self.process, deliveries.into_iter().map(|d| d.receipt).collect()).await;
                }
                // From now on, a fault of the consumer does not touch these messages.
                self.process.lets_go(&ids);
                Ok(())
            }
            // For a moment, the function is missing or may not be invoked.
            Err(e) if e.to_string().contains("Throttling") && ids.len().is_multiple_of(2) => {
                Err(InvokeError::Refused(e.to_string()))
            }
            Err(e) if e.to_string().contains("Throttling") => Err(InvokeError::Throttled(e.to_string())),
            Err(e) => Err(InvokeError::Unknown(e.to_string())),
        }
    }

    async fn in_flight(&self) -> Result<InFlight> {
        let now = self.process.world.now();
        let answer = self.process.call("sqs.attributes", move |state| state.queue.in_flight(now)).await;
        answer.map(InFlight::AtMost)
    }

    async fn has_room(&self) -> Result<bool> {
        let busy = self.lambda.refuses() || !self.lambda.has_slot();
        self.process.call("lambda.invoke", move |_| !busy).await
    }
}
