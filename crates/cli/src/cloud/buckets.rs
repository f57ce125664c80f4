//! The two buckets of a deployment.

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use serde::de::DeserializeOwned;
use wasq_aws::S3Objects;
use wasq_protocol::{TaskName, Timestamp};

use crate::cloud::{Deployment, explain};
use crate::registry::whole;

/// The tasks bucket and the registry bucket of a deployment.
pub(crate) struct Buckets {
    client: Client,
    tasks: String,
    registry: String,
    in_tasks: S3Objects,
    in_registry: S3Objects,
    /// The account that owns them. A write fails if another one does.
    owner: Option<String>,
}

impl Deployment {
    /// The buckets of this deployment.
    pub(crate) fn buckets(&self) -> Result<Box<Buckets>> {
        let sdk = &self.session.sdk;
        let (tasks, registry) = (self.output("TasksBucketName")?, self.output("RegistryBucketName")?);
        Ok(Box::new(Buckets {
            client: Client::new(sdk),
            tasks: tasks.to_owned(),
            registry: registry.to_owned(),
            in_tasks: S3Objects::new(sdk, tasks),
            in_registry: S3Objects::new(sdk, registry),
            owner: self.account.clone(),
        }))
    }
}

impl Buckets {
    /// An object of the registry.
    pub(crate) async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.in_registry.get_whole(key).await
    }

    /// An object of the tasks bucket.
    pub(crate) async fn uploaded(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.in_tasks.get_whole(key).await
    }

    /// Writes an object of the tasks bucket.
    pub(crate) async fn upload(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let body = ByteStream::from(bytes);
        let put = self.client.put_object().bucket(&self.tasks).key(key).body(body);
        let put = put.set_expected_bucket_owner(self.owner.clone()).send().await;
        put.map_err(explain).with_context(|| format!("write s3://{}/{key}", self.tasks))?;
        Ok(())
    }

    /// Deletes an object of the tasks bucket; it need not be there.
    pub(crate) async fn withdraw(&self, key: &str) -> Result<()> {
        let deleted = self.client.delete_object().bucket(&self.tasks).key(key);
        let deleted = deleted.set_expected_bucket_owner(self.owner.clone()).send().await;
        deleted.map_err(explain).with_context(|| format!("delete s3://{}/{key}", self.tasks))?;
        Ok(())
    }

    /// The modules in the tasks bucket, and when each was uploaded.
    pub(crate) async fn modules(&self) -> Result<Vec<(TaskName, Timestamp)>> {
        let (mut modules, bucket) = (Vec::new(), &self.tasks);
        let mut pages = self.client.list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain).with_context(|| format!("list s3://{bucket}"))?;
            for object in page.contents.unwrap_or_default() {
                let name = object.key.as_deref().and_then(|key| key.strip_suffix(".wasm")?.parse().ok());
                let uploaded = object.last_modified.and_then(|at| u64::try_from(at.secs()).ok());
                modules.extend(name.zip(uploaded.map(|seconds| Timestamp::from_ms(seconds * 1000))));
            }
        }
        Ok(modules)
    }

    /// All records of the registry under a prefix.
    pub(crate) async fn registered<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>> {
        let (mut records, bucket) = (Vec::new(), &self.registry);
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain).with_context(|| format!("list s3://{bucket}/{prefix}"))?;
            for key in page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key) {
                // The publisher may have removed it since.
                if let Some(bytes) = self.stored(&key).await? {
                    records.extend(whole(&key, &bytes));
                }
            }
        }
        Ok(records)
    }
}
