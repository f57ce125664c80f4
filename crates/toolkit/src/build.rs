//! From a project's sources to a component that fits the world.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use wasq_protocol::Settings;

use crate::contract::Contract;
use crate::languages::{Made, Output, make};
use crate::project::Project;
use crate::{component, schema, sdk};

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The component.
    pub component: PathBuf,
    /// Its settings beside it, if the project has some.
    pub settings: Option<PathBuf>,
    /// The component's size.
    pub bytes: u64,
    /// The toolchain that built it, such as `zig 0.17.1`.
    pub toolchain: String,
}

/// Builds a project into its folder `build`. If something is wrong, the result of the build before stays.
pub fn build(project: &Project) -> Result<Built> {
    // A mistake in the settings is seen at once, and not when the task is published.
    let settings = project.settings();
    let settings_text = match std::fs::read_to_string(&settings) {
        Ok(text) => {
            Settings::from_toml(&text).with_context(|| format!("read {}", settings.display()))?;
            Some(text)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(e).with_context(|| format!("read {}", settings.display())),
    };
    // `wasq dev` and `wasq test` may build the same project at once; the second waits.
    let folder = project.build_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lock = folder.join("lock");
    let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
    lock.lock().context("wait for another build of the project")?;
    sdk::write(project)?;
    let language = project.language();
    let schema_file = schema::file(project.folder())?;
    let Output { made, schema: of_types, toolchain } = make(project, schema_file.is_none())
        .with_context(|| format!("build {} ({language})", project.folder().display()))?;
    let mut wasm = match made {
        Made::Component(wasm) => wasm,
        Made::Module(module) => component::from_module(module)?,
    };
    let contract = Contract::of(&wasm)?;
    if !contract.problems.is_empty() {
        bail!(
            "the component that {toolchain} built does not fit the world wasq:task/task: {}",
            contract.problems.join("; ")
        );
    }
    component::sign(&mut wasm, language, &toolchain);
    if let Some(content) = &schema_file {
        schema::embed(content, schema::Source::File(project.folder()), &mut wasm)?;
    } else if let Some(content) = &of_types {
        schema::embed(content, schema::Source::Types, &mut wasm)?;
    }
    let component = project.component();
    put(&component, &wasm)?;
    let beside = component.with_extension("toml");
    let settings = match settings_text {
        Some(text) => {
            put(&beside, text.as_bytes())?;
            Some(beside)
        }
        None => {
            let _ = std::fs::remove_file(&beside);
            None
        }
    };
    Ok(Built { component, settings, bytes: wasm.len() as u64, toolchain })
}

/// Writes a file as a whole or not at all: another process may be copying it.
pub(crate) fn put(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    let mut file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("write {}", path.display()))?;
    std::io::Write::write_all(&mut file, bytes).with_context(|| format!("write {}", path.display()))?;
    // Only its owner may read a temporary file. Everyone who may read the folder may read this one.
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path).with_context(|| format!("write {}", path.display()))?;
    Ok(())
}
