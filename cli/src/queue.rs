//! Which queue a command is about: that of `wasq dev` on this machine, or any on SQS.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, Region};
use wasq_local::{QUEUE, last_address, queue_url};

/// The options that name a queue.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// The queue; without this, that of `wasq dev` on this machine
    #[arg(long, global = true, value_name = "URL", env = "WASQ_QUEUE_URL")]
    pub(crate) queue_url: Option<String>,
    /// The data folder of `wasq dev`, where its address is written
    #[arg(long, global = true, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
}

/// A queue, and how to reach it.
pub(crate) struct QueueAddress {
    pub(crate) url: String,
    /// The endpoint, if it is on this machine.
    pub(crate) local: Option<String>,
}

impl QueueArgs {
    pub(crate) fn address(self) -> Result<QueueAddress> {
        let url = match self.queue_url {
            Some(url) => url,
            None => {
                let address = last_address(&self.data).with_context(|| {
                    format!(
                        "no `wasq dev` has run with the data folder {}: start one, or name the queue by --queue-url",
                        self.data.display()
                    )
                })?;
                queue_url(address, QUEUE)
            }
        };
        Ok(QueueAddress::of(url))
    }
}

impl QueueAddress {
    pub(crate) fn of(url: String) -> Self {
        Self { local: local_endpoint(&url), url }
    }

    /// An SQS client. The local endpoint wants no credentials, but the SDK wants to sign.
    pub(crate) async fn client(&self) -> Client {
        let config = wasq_aws::sdk_config();
        let config = match &self.local {
            Some(endpoint) => config
                .endpoint_url(endpoint)
                .region(Region::from_static("us-east-1"))
                .credentials_provider(Credentials::new("wasq", "wasq", None, None, "wasq dev")),
            None => config,
        };
        Client::new(&config.load().await)
    }

    /// What to think of when the queue does not answer.
    pub(crate) fn hint(&self) -> &'static str {
        if self.local.is_some() { " (is `wasq dev` running?)" } else { "" }
    }
}

/// The endpoint of a queue address on this machine; `None` for any other.
fn local_endpoint(url: &str) -> Option<String> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    loopback.then(|| format!("http://{authority}"))
}
