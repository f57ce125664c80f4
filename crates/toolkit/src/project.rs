//! A folder with the sources of one task.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wasq_protocol::TaskName;

use crate::language::Language;

/// A folder with the sources of one task.
#[derive(Clone, Debug)]
pub struct Project {
    folder: PathBuf,
    name: TaskName,
    language: Language,
}

/// A task's settings are `NAME.toml`, and must not be another file of the project.
pub(crate) fn free_name(name: &TaskName) -> Result<()> {
    match name.as_str() {
        "tests" | "Cargo" => {
            bail!("a project cannot be called {name}, because of its file {name}.toml; take another name")
        }
        _ => Ok(()),
    }
}

impl Project {
    /// Looks at a folder: its name is the task's, and a file in it tells the language.
    pub fn open(given: &Path) -> Result<Self> {
        let shown = given.display();
        let folder = given.canonicalize().with_context(|| format!("open the project {shown}"))?;
        if !folder.is_dir() {
            bail!("{shown} is not a folder; a project is a folder, such as `wasq new` makes");
        }
        let found: Vec<_> =
            Language::ALL.into_iter().filter(|language| folder.join(language.mark()).is_file()).collect();
        let language = match found[..] {
            [language] => language,
            [] => {
                let known: Vec<_> = Language::ALL
                    .iter()
                    .map(|language| format!("{} ({language})", language.mark()))
                    .collect();
                bail!(
                    "{shown}: no project of a language that wasq knows; it has none of {}. `wasq new NAME --lang LANGUAGE` \
                     makes one; a component that was built in another way needs no project: `wasq check FILE.wasm`",
                    known.join(", ")
                );
            }
            _ => {
                let marks: Vec<_> = found.iter().map(|language| language.mark()).collect();
                bail!(
                    "{shown}: {} stand side by side, so it is not clear which is the task; keep one of them",
                    marks.join(" and ")
                );
            }
        };
        // The name of a link is what its author calls the project.
        let absolute = std::path::absolute(given).unwrap_or_else(|_| folder.clone());
        let name =
            absolute.file_name().or(folder.file_name()).and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.parse().with_context(|| format!("{shown}: the folder's name is the task's"))?;
        free_name(&name)?;
        Ok(Self { folder, name, language })
    }

    /// The folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The task's name: the folder's.
    pub fn name(&self) -> &TaskName {
        &self.name
    }

    /// The language of the task.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The folder for all files that a build makes.
    pub fn build_folder(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The component, once it is built.
    pub fn component(&self) -> PathBuf {
        self.build_folder().join(format!("{}.wasm", self.name))
    }

    /// The task's settings, which may be there or not.
    pub fn settings(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// The task's tests, which may be there or not.
    pub fn cases(&self) -> PathBuf {
        self.folder.join("tests.toml")
    }
}
