//! The options for what tasks on this machine may reach: addresses and secrets.

use std::path::{Path, PathBuf};

use wasq_local::LocalSecrets;
use wasq_protocol::AddressRange;

/// The option that says where the values of tasks' secrets are on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// File with the values of the secrets that settings name, in lines like NAME = "VALUE". WASQ_SECRET_NAME
    /// in the environment takes precedence. On AWS, the settings say where the values are
    ///
    /// [default: secrets.toml in the data folder]
    #[arg(long, value_name = "FILE.toml", env = "WASQ_SECRETS")]
    pub(crate) secrets: Option<PathBuf>,
}

impl SecretArgs {
    pub(crate) fn open(self, data: &Path) -> LocalSecrets {
        #[allow(clippy::disallowed_methods, reason = "names of secrets are known by the settings only")]
        let env = |name: &str| std::env::var(name).ok();
        LocalSecrets::new(env, self.secrets.unwrap_or_else(|| data.join("secrets.toml")))
    }
}

/// The option for addresses that tasks may reach in addition to the public internet.
#[derive(Debug, clap::Args)]
pub(crate) struct AddressArgs {
    /// Let tasks reach these addresses in addition to the public internet, such as 127.0.0.0/8; separate
    /// several with commas. A task's allow_hosts must name the host as well
    #[arg(long, value_name = "RANGE", env = "WASQ_ALLOW_ADDRESSES", value_delimiter = ',')]
    pub(crate) allow_address: Vec<AddressRange>,
}
