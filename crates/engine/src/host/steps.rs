//! `wasq:task/steps`: parts of a run that later attempts do not execute again.

use wasmtime::Result;

use crate::bindings::wasq::task::steps::{Host, StepError};
use crate::state::RunState;
use crate::steps::SaveError;

impl Host for RunState {
    fn load(&mut self, name: String) -> Result<Option<String>, StepError> {
        let Self { steps, limits, secrets, .. } = self;
        let loaded = steps.load(&name, limits, |name| secrets.are_in(name));
        self.outgoing.set_step(self.steps.open());
        loaded
    }

    async fn save(&mut self, name: String, value: String) -> Result<Result<(), StepError>> {
        let Self { steps, limits, secrets, .. } = self;
        let saved = steps.save(&name, value, limits, |value| secrets.are_in(value)).await;
        self.outgoing.set_step(self.steps.open());
        match saved {
            Ok(()) => Ok(Ok(())),
            Err(SaveError::Failed(e)) => Ok(Err(e)),
            Err(SaveError::Lost) => {
                Err(wasmtime::Error::msg("another delivery of this id has taken the run over"))
            }
        }
    }

    fn abandon(&mut self, name: String) {
        self.steps.abandon(&name);
        self.outgoing.set_step(self.steps.open());
    }
}
