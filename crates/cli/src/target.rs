//! The target of a command: `wasq dev` on this machine, a deployment on AWS, or just a queue.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, Region};
use wasq_aws::{QueueEndpoint, SdkConfig};
use wasq_local::{DEAD_LETTERS, LastStack, QUEUE, RunningStacks, is_running, queue_url};

use crate::cloud::Deployment;
use crate::deployed::DeployedQueues;

/// The options that name a wasq.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// The deployment on AWS; without this, `wasq dev` on this machine
    #[arg(long, global = true, value_name = "NAME", env = "WASQ_STACK", value_parser = stack_name)]
    pub(crate) stack: Option<String>,
    /// Its AWS region; without this, the region that the AWS CLI would use
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The data folder of `wasq dev`; without this, .wasq in this folder or in one above it, or that of the one
    /// `wasq dev` that runs
    #[arg(long, global = true, value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// The options that name a queue.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// The URL of any SQS queue, also of one that wasq did not make
    #[arg(long, global = true, value_name = "URL", env = "WASQ_QUEUE_URL")]
    pub(crate) queue_url: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// The `wasq dev` of a data folder, or a deployment.
pub(crate) enum Target {
    /// Of `wasq dev`, with its data folder.
    Local(PathBuf),
    /// On AWS.
    Aws(Box<Deployment>),
}

/// A queue, and how to reach it.
pub(crate) struct QueueAddress {
    pub(crate) url: String,
    /// Its dead-letter queue, where that is known without asking.
    pub(crate) dead_letters: Option<String>,
    /// The endpoint, if it is that of `wasq dev`.
    pub(crate) local: Option<String>,
    /// The configuration of the SDK, if it is known already.
    sdk: Option<SdkConfig>,
}

impl TargetArgs {
    pub(crate) async fn target(self) -> Result<Target> {
        let Self { stack, region, data } = self;
        match stack {
            Some(stack) => Ok(Target::Aws(Box::new(Deployment::find(stack, region).await?))),
            None if region.is_some() => {
                bail!("--region works only for a deployment on AWS: name the deployment by --stack")
            }
            None => Ok(Target::Local(data_folder(data)?)),
        }
    }
}

/// The data folder of a `wasq dev`: the given one, or that of this folder, or that of the one that runs.
pub(crate) fn data_folder(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(data) = given {
        return Ok(data);
    }
    let usual = PathBuf::from(".wasq");
    let here = std::env::current_dir().context("find the current folder")?;
    let in_folder = |folder: &Path| if folder == here { usual.clone() } else { folder.join(&usual) };
    if let Some(folder) = here.ancestors().find(|folder| is_running(&folder.join(&usual))) {
        return Ok(in_folder(folder));
    }
    if usual.join("dev.json").is_file() {
        return Ok(usual);
    }
    match &RunningStacks::read()[..] {
        [] => {
            let used = here.ancestors().find(|folder| folder.join(&usual).join("dev.json").is_file());
            Ok(used.map_or(usual.clone(), in_folder))
        }
        [data] => {
            tracing::info!("the `wasq dev` with the data folder {}", data.display());
            Ok(data.clone())
        }
        several => {
            let names: Vec<_> = several.iter().map(|data| data.display().to_string()).collect();
            bail!("several `wasq dev` run; name the data folder of one by --data: {}", names.join(", "))
        }
    }
}

impl Target {
    pub(crate) fn queue(&self) -> Result<QueueAddress> {
        match self {
            Self::Local(data) => {
                let LastStack { listen: address, .. } = LastStack::of(data).with_context(|| {
                    format!(
                        "no `wasq dev` has run with the data folder {}: start one, or name a deployment by --stack",
                        data.display()
                    )
                })?;
                let mut queue = QueueAddress::of(queue_url(address, QUEUE));
                queue.dead_letters = Some(queue_url(address, DEAD_LETTERS));
                Ok(queue)
            }
            Self::Aws(deployment) => {
                let DeployedQueues { queue, dead_letters, sdk } = deployment.queues()?;
                Ok(QueueAddress { url: queue, dead_letters: Some(dead_letters), local: None, sdk: Some(sdk) })
            }
        }
    }
}

impl QueueArgs {
    pub(crate) async fn address(self) -> Result<QueueAddress> {
        match self.queue_url {
            Some(url) => {
                ensure!(
                    self.target.stack.is_none(),
                    "both a queue (--queue-url or WASQ_QUEUE_URL) and a deployment (--stack or WASQ_STACK) are named: which is meant?"
                );
                Ok(QueueAddress::of(url))
            }
            None => self.target.target().await?.queue(),
        }
    }
}

impl QueueAddress {
    pub(crate) fn of(url: String) -> Self {
        Self { local: local_endpoint(&url), url, dead_letters: None, sdk: None }
    }

    /// The queue and its dead-letter queue: the known one, or else the one that the queue's redrive policy
    /// names.
    pub(crate) async fn queues(&self) -> Result<(QueueEndpoint, QueueEndpoint)> {
        let client = self.client().await;
        let queue = QueueEndpoint::new(client.clone(), &self.url);
        let letters = match &self.dead_letters {
            Some(url) => QueueEndpoint::new(client, url),
            None => {
                let what = || format!("find the dead-letter queue of {}{}", self.url, self.hint());
                queue.dead_letter_queue().await.with_context(what)?
            }
        };
        Ok((queue, letters))
    }

    /// An SQS client. The local endpoint needs no credentials, but the SDK must sign its requests.
    pub(crate) async fn client(&self) -> Client {
        if let Some(sdk) = &self.sdk {
            return Client::new(sdk);
        }
        let config = wasq_aws::sdk_config();
        let config = match &self.local {
            Some(endpoint) => config
                .endpoint_url(endpoint)
                .region(Region::from_static("us-east-1"))
                .credentials_provider(Credentials::new("wasq", "wasq", None, None, "wasq dev")),
            None => match region_of(&self.url) {
                Some(region) => config.region(Region::new(region)),
                None => config,
            },
        };
        Client::new(&config.load().await)
    }

    /// A hint for the user when the queue does not answer.
    pub(crate) fn hint(&self) -> &'static str {
        if self.local.is_some() { " (is `wasq dev` running?)" } else { "" }
    }
}

/// The maximum length of a stack's name. The names of its buckets begin with it, and S3 allows them 63
/// characters.
const STACK_NAME_MAX: usize = 26;

/// Parses a stack's name. The names of its buckets begin with it.
pub(crate) fn stack_name(text: &str) -> Result<String, String> {
    let valid = text.len() <= STACK_NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.ends_with('-');
    let problem = || format!("1 to {STACK_NAME_MAX} of a-z, 0-9 and -, beginning with a letter");
    valid.then(|| text.to_owned()).ok_or_else(problem)
}

/// The region in a queue address of AWS.
fn region_of(url: &str) -> Option<String> {
    let host = url.strip_prefix("https://sqs.")?.split('/').next()?;
    let (region, rest) = host.split_once('.')?;
    rest.starts_with("amazonaws.com").then(|| region.to_owned())
}

/// The endpoint of a queue address on this machine; `None` for any other.
fn local_endpoint(url: &str) -> Option<String> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    loopback.then(|| format!("http://{authority}"))
}
