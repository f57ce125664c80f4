//! Traces and metrics of the function, sent at the end of each invoke: Lambda freezes the process then.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use wasq_aws::{SdkConfig, SecretReader};
use wasq_protocol::{RunRecord, SecretSource, SecretStore, VarError, Vars};
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
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The traces and metrics of this process.
pub(crate) struct Telemetry {
    exporter: Exporter,
    headers: Option<SecretSource>,
    secrets: SecretReader,
    has_headers: OnceCell<()>,
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
        ];
        Self {
            exporter: Exporter::new(otlp, "wasq", &of_function).signed(signer),
            headers,
            secrets: SecretReader::new(sdk),
            has_headers: OnceCell::new(),
        }
    }

    pub(crate) fn observe(&self, record: &RunRecord) {
        self.exporter.observe(record);
    }

    /// Sends what was observed. What goes wrong is logged, and costs no message.
    pub(crate) async fn export(&self) {
        let exporting = async {
            self.has_headers.get_or_try_init(|| self.read_headers()).await?;
            self.exporter.export().await;
            anyhow::Ok(())
        };
        match timeout(WAIT_MAX, exporting).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("traces and metrics were not sent: {HEADERS_SECRET}: {e:#}"),
            Err(_) => tracing::warn!("traces and metrics were not sent within {} s", WAIT_MAX.as_secs()),
        }
    }

    async fn read_headers(&self) -> Result<()> {
        let Some(from) = &self.headers else { return Ok(()) };
        let value = self.secrets.secret(HEADERS_SECRET, from).await?;
        self.exporter.add_headers(value.reveal().trim()).map_err(|problem| anyhow!(problem))
    }
}
