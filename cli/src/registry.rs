//! What is live: the registry of `wasq dev` or of a deployment, read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use serde::de::DeserializeOwned;
use wasq_local::{Listed, list_tasks};
use wasq_protocol::{LiveRecord, Rejection};

use crate::cloud::{Deployment, explain};
use crate::target::Target;

/// The tasks of a wasq, by name.
pub(crate) async fn tasks(target: &Target) -> Result<Vec<Listed>> {
    match target {
        Target::Local(data) => {
            ensure!(
                data.is_dir(),
                "there is no data folder {}: start `wasq dev` here, name its folder by --data, or a deployment by --stack",
                data.display()
            );
            list_tasks(data)
        }
        Target::Aws(deployment) => deployed(deployment).await,
    }
}

async fn deployed(deployment: &Deployment) -> Result<Vec<Listed>> {
    let client = Client::new(&deployment.session.sdk);
    let bucket = deployment.output("RegistryBucketName")?;
    let mut tasks = BTreeMap::new();
    for record in read_all::<LiveRecord>(&client, bucket, "live/").await? {
        tasks.insert(record.task.clone(), Listed { live: Some(record), rejected: None });
    }
    for rejection in read_all::<Rejection>(&client, bucket, "rejected/").await? {
        let task = tasks.entry(rejection.task.clone()).or_insert(Listed { live: None, rejected: None });
        task.rejected = Some(rejection);
    }
    Ok(tasks.into_values().collect())
}

async fn read_all<T: DeserializeOwned>(client: &Client, bucket: &str, prefix: &str) -> Result<Vec<T>> {
    let mut records = Vec::new();
    let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(explain).with_context(|| format!("list s3://{bucket}/{prefix}"))?;
        for key in page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key) {
            let what = || format!("read s3://{bucket}/{key}");
            let object = match client.get_object().bucket(bucket).key(&key).send().await {
                Ok(object) => object,
                // The publisher has removed it since.
                Err(e) if e.as_service_error().is_some_and(|e| e.is_no_such_key()) => continue,
                Err(e) => return Err(explain(e)).with_context(what),
            };
            let bytes = object.body.collect().await.with_context(what)?.into_bytes();
            records.push(serde_json::from_slice(&bytes).with_context(what)?);
        }
    }
    Ok(records)
}
