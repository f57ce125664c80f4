//! A component in a file, for the commands that need no queue.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use wasq_engine::{Addresses, Engine, Limits, Module, Pool};
use wasq_protocol::{AddressRange, Caps, Digest, Settings, TaskName};
use wasq_schema::{Schema, Schemas};
use wasq_toolkit::Project;

use crate::build;
use crate::compiled::{CompiledComponents, FunctionCache, function_cache_file};
use crate::output::Progress;

/// A component in a file, with its settings.
pub(crate) struct Component {
    file: PathBuf,
    /// The task's name, taken from the file's name.
    pub(crate) task: TaskName,
    pub(crate) wasm: Vec<u8>,
    /// Whether there is a settings file.
    pub(crate) settings_file: bool,
    /// The text of the settings file; empty if there is none.
    pub(crate) settings_text: String,
    pub(crate) settings: Settings,
}

impl Component {
    /// Builds a project, or reads a component.
    pub(crate) fn open(path: &Path, settings: Option<&Path>) -> Result<Self> {
        if !path.is_dir() {
            return Self::read(path, settings);
        }
        let built = build::make(&Project::open(path)?)?;
        Self::read(&built.component, settings.or(built.settings.as_deref()))
    }

    /// Reads `FILE.wasm` and its settings: the given file, or else `FILE.toml` in the same folder if it
    /// exists.
    pub(crate) fn read(file: &Path, settings: Option<&Path>) -> Result<Self> {
        let wasm = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        if !wasm.starts_with(b"\0asm") {
            bail!("{} is not WebAssembly; give a component, or a project's folder", file.display());
        }
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let task = stem
            .parse()
            .with_context(|| format!("{}: the file's name must be a task's name", file.display()))?;
        let beside = file.with_extension("toml");
        let path = match settings {
            Some(path) => Some(path),
            None if beside.exists() => {
                tracing::info!("settings from {}", beside.display());
                Some(beside.as_path())
            }
            None => None,
        };
        let (settings_text, settings) = match path {
            Some(path) => {
                let reading = || format!("read {}", path.display());
                let text = std::fs::read_to_string(path).with_context(reading)?;
                let settings = Settings::from_toml(&text).with_context(reading)?;
                (text, settings)
            }
            None => (String::new(), Settings::default()),
        };
        let settings_file = path.is_some();
        Ok(Self { file: file.to_owned(), task, wasm, settings_file, settings_text, settings })
    }

    /// The schema of its params, if it has one.
    pub(crate) fn params_schema(&self) -> Result<Option<Schema>> {
        let in_file = |problem| anyhow!("{}: {problem}", self.file.display());
        let Some(content) = wasq_schema::find(&self.wasm).map_err(in_file)? else { return Ok(None) };
        Ok(Schemas::parse(content).map_err(in_file)?.params)
    }

    /// Compiles and loads the component, or loads what was compiled of it before. The engine runs one task at a time, and tasks may reach these
    /// addresses.
    pub(crate) async fn load(self, allow: Vec<AddressRange>) -> Result<(Engine, Module)> {
        let engine = engine(allow)?;
        let (kept, digest) = (CompiledComponents::open(), Digest::of(&self.wasm));
        if let Some(artifact) = kept.get(&digest) {
            // Safety: only this user can write the folder, and wasq wrote the file, as its digest says.
            if let Ok(module) = unsafe { engine.load_bytes(&artifact) } {
                return Ok((engine, module));
            }
        }
        let compiling = Progress::start(format!("compiling {}", self.file.display()));
        let cache = function_cache_file().and_then(|file| FunctionCache::open(&file));
        let compiler = cache.and_then(|cache| Engine::compiler_with(cache).ok()).unwrap_or(engine.clone());
        let compiled = tokio::task::spawn_blocking(move || compiler.compile(&self.wasm)).await?;
        drop(compiling);
        let artifact = compiled.with_context(|| self.file.display().to_string())?;
        // Safety: this process compiled the artifact a moment ago, and nobody else has it.
        let module = unsafe { engine.load_bytes(&artifact) }?;
        kept.keep(&digest, &artifact);
        Ok((engine, module))
    }
}

/// An engine for one run at a time, whose tasks may reach these addresses.
pub(crate) fn engine(allow: Vec<AddressRange>) -> Result<Engine> {
    let pool = Pool { concurrency: 1, memory: Caps::default().memory };
    let limits = Limits { addresses: Addresses { allow, never: Vec::new() }, ..Limits::default() };
    Engine::new(pool, limits).map_err(|e| anyhow!("start the engine: {e:#}"))
}
