//! Secrets that are not there, change, or cannot be read.

use std::time::Duration;

use serde_json::json;
use wasq_protocol::{FailureKind, RunOutcome, SecretError, Settings};

use crate::{Recorder, hand_over, verb, worker_with_secrets_for};

const FROM: &str = "ssm:/wasq/token";

fn settings() -> Settings {
    Settings::from_toml("[secrets]\nTOKEN = { from = \"ssm:/wasq/token\", expose = true }").expect("settings")
}

fn asked(queue: &Recorder) -> usize {
    queue.calls().iter().filter(|call| *call == "secret TOKEN").count()
}

#[tokio::test]
async fn a_value_is_read_once_and_again_when_its_time_is_over() {
    let env = |id: &str| verb(id, json!({"verb": "env"}));
    let (worker, queue, _folder) = worker_with_secrets_for(settings(), Duration::from_secs(600));
    queue.keep_secret(FROM, Ok("the first value"));
    assert!(hand_over(&worker, vec![env("a"), env("b"), env("c")]).await.is_empty());
    assert_eq!(asked(&queue), 1, "three runs at once ask once");

    let (worker, queue, _folder) = worker_with_secrets_for(settings(), Duration::ZERO);
    queue.keep_secret(FROM, Ok("the first value"));
    assert!(hand_over(&worker, vec![env("a")]).await.is_empty());
    // The secret store does not answer for a moment: the worker uses the last value.
    queue.keep_secret(FROM, Err(SecretError::Unavailable("throttled".to_owned())));
    assert!(hand_over(&worker, vec![env("b")]).await.is_empty());
    assert_eq!(asked(&queue), 2);
    queue.keep_secret(FROM, Ok("the second value"));
    assert!(hand_over(&worker, vec![env("c")]).await.is_empty());
    assert_eq!(asked(&queue), 3);
    // The last value of a secret that was removed is not used.
    queue.keep_secret(FROM, Err(SecretError::Missing("ParameterNotFound".to_owned())));
    assert!(hand_over(&worker, vec![env("d")]).await.contains("d"));
}

#[tokio::test]
async fn what_has_no_value_is_given_back_without_a_run() {
    for value in [
        None,
        Some(Ok("hush")),
        Some(Err(SecretError::Missing("AccessDeniedException".to_owned()))),
        Some(Err(SecretError::Unavailable("throttled".to_owned()))),
    ] {
        let (worker, queue, _folder) = worker_with_secrets_for(settings(), Duration::ZERO);
        if let Some(value) = value.clone() {
            queue.keep_secret(FROM, value);
        }
        let again = hand_over(&worker, vec![verb("a", json!({"verb": "env"}))]).await;
        assert!(again.contains("a"), "{value:?}");
        let told = queue.told().remove(0);
        assert_eq!(
            (told.outcome, told.kind),
            (RunOutcome::Failure, Some(FailureKind::Unavailable)),
            "{value:?}"
        );
        assert_eq!(told.digest, None, "nothing ran");
        assert!(told.message.contains("the secret TOKEN (ssm:/wasq/token)"), "{}", told.message);
        assert!(!told.message.contains("hush"), "{}", told.message);
        assert!(!queue.calls().iter().any(|call| call.starts_with("dead")), "{:?}", queue.calls());
    }
}
