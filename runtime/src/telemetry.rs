//! Traces and metrics of the function, sent at the end of each invoke: Lambda freezes the process then.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use wasq_aws::{SdkConfig, SecretReader};
use wasq_protocol::{Clock, RunRecord, SecretSource, SecretStore, SystemClock, Timestamp, VarError, Vars};
use wasq_telemetry::{Exporter, OtlpConfig, Signer};

/// Where traces and metrics go.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// `WASQ_OTLP_ENDPOINT` and `WASQ_OTLP_HEADERS`.
    pub otlp: OtlpConfig,
    /// `WASQ_OTLP_HEADERS_SECRET`: where further headers are kept, in the form of `WASQ_OTLP_HEADERS`.
    pub headers: Option<SecretSource>,
}

impl TelemetryConfig {
    pub(crate) fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Option<Self>, VarError> {
        let headers = vars.text(HEADERS_SECRET).map(|text| {
            text.parse().map_err(|problem| VarError::Invalid { name: HEADERS_SECRET, value: text, problem })
        });
        let headers = headers.transpose()?;
        Ok(OtlpConfig::from_vars(vars)?.map(|otlp| Self { otlp, headers }))
    }
}

const HEADERS_SECRET: &str = "WASQ_OTLP_HEADERS_SECRET";
/// The longest time that an invoke waits for its traces and metrics.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// The time that is left for the answer of an invoke.
const ANSWER: Duration = Duration::from_secs(1);
/// A secret that could not be read is read again after this.
const SECRET_AGAIN: Duration = Duration::from_secs(60);

/// The traces and metrics of this process.
pub(crate) struct Telemetry {
    exporter: Exporter,
    headers: Option<SecretSource>,
    secrets: SecretReader,
    /// Whether the headers are there; after a fault, when to read them again.
    has_headers: Mutex<Result<(), Instant>>,
}

impl Telemetry {
    pub(crate) fn new(config: TelemetryConfig, sdk: &SdkConfig, function: &str) -> Self {
        let TelemetryConfig { otlp, headers } = config;
        let signer = sdk.credentials_provider().and_then(|credentials| Signer::of(&otlp, credentials));
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let of_function = [
            ("cloud.provider", "aws".to_owned()),
            ("cloud.region", region),
            ("faas.name", function.to_owned()),
            // Each process has metrics of its own.
            ("service.instance.id", format!("{:016x}", fastrand::u64(..))),
        ];
        let has_headers = if headers.is_some() { Err(Instant::now()) } else { Ok(()) };
        Self {
            exporter: Exporter::new(otlp, "wasq", &of_function).signed(signer),
            headers,
            secrets: SecretReader::new(sdk),
            has_headers: Mutex::new(has_headers),
        }
    }

    pub(crate) fn observe(&self, record: &RunRecord) {
        self.exporter.observe(record);
    }

    /// Sends what was observed, before Lambda ends the invoke. What goes wrong is logged, and costs no message.
    pub(crate) async fn export(&self, ends: Timestamp) {
        let deadline = Instant::now() + WAIT_MAX.min(ends.since(SystemClock.now()).saturating_sub(ANSWER));
        if self.read_headers(deadline).await {
            self.exporter.export(deadline.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Reads the headers, unless they are there. Returns whether they are.
    async fn read_headers(&self, deadline: Instant) -> bool {
        let mut has_headers = self.has_headers.lock().await;
        let (Some(from), Err(again)) = (&self.headers, *has_headers) else { return true };
        if Instant::now() < again {
            return false;
        }
        let reading = self.secrets.secret(HEADERS_SECRET, from);
        let why = match timeout_at(deadline, reading).await {
            Ok(Ok(value)) => match self.exporter.add_headers(value.reveal().trim()) {
                Ok(()) => {
                    *has_headers = Ok(());
                    return true;
                }
                Err(problem) => problem,
            },
            Ok(Err(e)) => e.to_string(),
            Err(_) => "it was not read in time".to_owned(),
        };
        *has_headers = Err(Instant::now() + SECRET_AGAIN);
        tracing::warn!("traces and metrics wait: {HEADERS_SECRET}: {why}");
        false
    }
}
