//! `wasq ui`: the page over a deployment, served on this machine.

mod deployed;
mod letters;
mod remembered;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wasq_local::{fresh_token, page_url, serve_page};
use wasq_page::Site;

use crate::dev::address;
use crate::output::{self, Ended, tell};
use crate::target::{Target, TargetArgs};
pub(crate) use crate::ui::deployed::DeployedPage;

#[derive(Debug, clap::Args)]
pub(crate) struct Ui {
    /// The address of the page on this machine; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9325", value_parser = address)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn ui(args: Ui, json: bool) -> Result<Ended> {
    let Ui { listen, target } = args;
    let deployment = match target.target().await? {
        Target::Aws(deployment) => *deployment,
        Target::Local(data) => {
            let Some(url) = page_url(&data) else {
                bail!(
                    "no `wasq dev` runs with the data folder {}: start one, which serves the page itself, or name a deployment by --stack",
                    data.display()
                );
            };
            print(&url, json);
            return Ok(Ended::Well);
        }
    };
    ensure!(
        listen.ip().is_loopback(),
        "{listen} can be reached from other machines, and the page acts with your AWS credentials: name a loopback address such as 127.0.0.1:9325"
    );
    // Listen before the address is printed: whoever reads it may end the command at once.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for ctrl-c")?;
    let name = deployment.name.clone();
    let data = DeployedPage::of(deployment)?;
    let letters = data.letters();
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("listen on {listen}: does another `wasq ui` run? Choose another address with --listen")
    })?;
    let address = listener.local_addr().context("find the port")?;
    let token = fresh_token();
    let site = Site::new(data, token.clone(), address.port());
    print(&format!("http://{address}/?token={}", token.as_str()), json);
    tell!("wasq: the page of {name}; it acts with your AWS credentials. ctrl-c ends it");
    tokio::select! {
        never = serve_page(listener, site) => match never {},
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Letters that are held would stay invisible for minutes. A second ctrl-c ends the command at once.
    tokio::select! {
        () = letters.idle() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Ended::Well)
}

fn print(url: &str, json: bool) {
    if json {
        output::value(&json!({ "page": url }));
    } else {
        output::text(&format!("{url}\n"));
    }
}
