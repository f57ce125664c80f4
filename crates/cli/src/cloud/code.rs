//! The functions' code: three zips beside `wasq`, and the bucket that CloudFormation takes them from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, PublicAccessBlockConfiguration,
};
use wasq_protocol::Digest;

use crate::cloud::{Bucket, Session, explain};
use crate::output::tell;

/// Lambda's names of the architectures that there are functions for.
pub(crate) const ARCHITECTURES: [&str; 2] = ["arm64", "x86_64"];
const NAMES: [&str; 3] = ["wasq-consumer.zip", "wasq-worker.zip", "wasq-publisher.zip"];
/// Long enough for 20 MB over a slow line.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(900);
/// The folder beside `wasq` in a release.
const FOLDER: &str = "functions";

/// The functions' zips for one architecture, in memory.
pub(crate) struct Functions {
    zips: Vec<(&'static str, Vec<u8>)>,
    /// The prefix of their keys, with a digest of their contents. Another version gets another prefix, and
    /// the same version is uploaded once.
    pub(crate) prefix: String,
}

impl Functions {
    /// Reads the three zips of an architecture from a folder; without one, from `functions` beside this command.
    pub(crate) fn read(folder: Option<PathBuf>, architecture: &str) -> Result<Self> {
        let folder = match folder {
            Some(folder) => folder,
            None => {
                let beside = std::env::current_exe().context("find the folder of the wasq command")?;
                beside.parent().unwrap_or(Path::new(".")).join(FOLDER)
            }
        };
        let folder = folder.join(architecture);
        let mut zips = Vec::new();
        let mut all = Vec::new();
        for name in NAMES {
            let path = folder.join(name);
            let zip = std::fs::read(&path).with_context(|| {
                format!(
                    "read {}: a release of wasq has its functions in the folder {FOLDER} beside it; in a source tree, `cargo xtask dist` makes them, and --functions target/dist names them",
                    path.display()
                )
            })?;
            ensure!(zip.starts_with(b"PK"), "{} is no zip archive: unpack the release again", path.display());
            all.extend_from_slice(Digest::of(&zip).to_string().as_bytes());
            zips.push((name, zip));
        }
        let digest = &Digest::of(&all).to_string()[..16];
        Ok(Self { zips, prefix: format!("{architecture}/{digest}/") })
    }
}

/// The bucket that CloudFormation takes the code from. It is not part of the stack, because it must exist
/// first.
pub(crate) struct CodeBucket {
    client: Client,
    pub(crate) name: String,
    owner: String,
}

impl CodeBucket {
    /// The name of the bucket that belongs to a stack.
    pub(crate) fn name(stack: &str, account: &str, region: &str) -> String {
        format!("{stack}-code-{account}-{region}")
    }

    /// Opens the bucket of this name, which must be in this account. Creates it if it does not exist.
    pub(crate) async fn open(session: &Session, name: String, account: &str) -> Result<Self> {
        let client = Client::new(&session.sdk);
        match session.bucket(&name, account).await? {
            Bucket::Ours => {}
            Bucket::Absent => create(&client, &name, &session.region).await?,
            Bucket::NotOurs => bail!(
                "the bucket {name} is somebody else's, or you may not use it: name another by --code-bucket"
            ),
        }
        Ok(Self { client, name, owner: account.to_owned() })
    }

    /// Uploads the zips that are not in the bucket yet. Reports each upload on stderr.
    pub(crate) async fn upload(&self, functions: &Functions) -> Result<()> {
        for (name, zip) in &functions.zips {
            let key = format!("{}{name}", functions.prefix);
            let there = self.client.head_object().bucket(&self.name).key(&key).send().await;
            let length = there.ok().and_then(|object| object.content_length);
            if length == i64::try_from(zip.len()).ok() {
                continue;
            }
            tell!("  upload {name} ({:.1} MB) to {}", zip.len() as f64 / 1e6, self.name);
            let put = self.client.put_object().bucket(&self.name).expected_bucket_owner(&self.owner);
            let put = put.key(&key).body(ByteStream::from(zip.clone()));
            // The read timeout starts with the first byte that is sent, and connections may be slow.
            let patient = TimeoutConfig::builder().read_timeout(UPLOAD_TIMEOUT).build();
            let patient = aws_sdk_s3::config::Builder::new().timeout_config(patient);
            let put = put.customize().config_override(patient).send().await;
            put.map_err(explain).with_context(|| format!("upload {name} to the bucket {}", self.name))?;
        }
        Ok(())
    }
}

async fn create(client: &Client, name: &str, region: &str) -> Result<()> {
    tell!("  create the bucket {name}");
    // The request must name the region, except us-east-1, which it must not name.
    let place = (region != "us-east-1").then(|| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(region))
            .build()
    });
    let created = client.create_bucket().bucket(name).set_create_bucket_configuration(place).send().await;
    if let Err(e) = created {
        match e.code() {
            Some("BucketAlreadyOwnedByYou") => {}
            Some("BucketAlreadyExists") => {
                bail!("the bucket's name {name} is taken by another account: name another by --code-bucket")
            }
            _ => return Err(explain(e)).with_context(|| format!("create the bucket {name}")),
        }
    }
    let private = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .block_public_policy(true)
        .ignore_public_acls(true)
        .restrict_public_buckets(true)
        .build();
    let closed =
        client.put_public_access_block().bucket(name).public_access_block_configuration(private).send().await;
    closed.map_err(explain).with_context(|| format!("close the bucket {name} to the public"))?;
    Ok(())
}
