//! The programs of a toolchain: finding them, asking for their version, running them.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// A program that a language needs.
pub(crate) struct Tool {
    /// Its usual name.
    pub(crate) name: &'static str,
    /// The ways to call it, each a program and its first arguments. The first program that exists is used.
    pub(crate) calls: &'static [&'static [&'static str]],
    /// The arguments with which it prints its version.
    pub(crate) version: &'static [&'static str],
    /// The oldest version that is accepted, as numbers.
    pub(crate) oldest: &'static [u32],
    /// Advice on how to install it.
    pub(crate) install: &'static str,
}

/// A program that exists and is new enough.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    program: PathBuf,
    arguments: &'static [&'static str],
    name: &'static str,
    install: &'static str,
    version: String,
}

impl Tool {
    /// Finds the program: in these folders first, then in those of `PATH`.
    pub(crate) fn find(&self, folders: &[PathBuf]) -> Result<Found> {
        let Self { name, calls, version, oldest, install } = self;
        for call in *calls {
            let [program, arguments @ ..] = call else { continue };
            let Some(program) = locate(program, folders) else { continue };
            let mut asking = Command::new(&program);
            asking.args(arguments).args(*version);
            let shown = shown(&asking);
            let output = match asking.output() {
                Ok(output) => output,
                Err(e) => {
                    bail!("{name} is there, but does not run ({shown}: {e}); install it anew: {install}")
                }
            };
            if !output.status.success() {
                let said = said(&output);
                // Python exists, but the module does not: the program counts as missing.
                if said.contains("No module named") {
                    continue;
                }
                bail!(
                    "{name} is there, but does not work ({shown}: {}): {said}\ninstall it anew: {install}",
                    output.status
                );
            }
            let said = said(&output);
            let Some(numbers) = numbers(&said) else {
                bail!("{name}: {shown} names no version, but says {said:?}; install it anew: {install}");
            };
            let version = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            if numbers[..] < oldest[..] {
                let oldest = oldest.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
                bail!(
                    "{name} {version} ({}) is too old: {oldest} or later is needed; {install}",
                    program.display()
                );
            }
            return Ok(Found { program, arguments, name, install, version });
        }
        bail!("{name} is needed, and is not there; {install}")
    }
}

impl Found {
    /// The name and version, such as `zig 0.17.1`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Returns a command that calls the program, for further arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments);
        command
    }

    /// Runs a command of the program. If it fails, the error contains its output.
    pub(crate) fn run(&self, command: &mut Command) -> Result<Output> {
        self.run_telling(command, said)
    }

    /// Runs a command of the program. If it fails, the error contains what `told` makes of its output.
    pub(crate) fn run_telling(
        &self,
        command: &mut Command,
        told: impl FnOnce(&Output) -> String,
    ) -> Result<Output> {
        // A toolchain's own stack is of no use to an author, and would stand before the author's mistake.
        let output = command
            .env("RUST_BACKTRACE", "0")
            .output()
            .with_context(|| format!("start {} ({}); {}", self.name, self.program.display(), self.install))?;
        if output.status.success() {
            return Ok(output);
        }
        bail!("{} failed ({}):\n{}", self.title(), output.status, told(&output).trim_end())
    }
}

/// A program in one of the folders, or in one of `PATH`'s.
fn locate(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "only the environment says where programs are")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::env::split_paths(&path).collect();
    folders.iter().chain(&path).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let both = format!("{}\n{}", stdout.trim(), stderr.trim());
    both.trim().to_owned()
}

/// The first thing that looks like a version: numbers with points between them.
fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let numbers: Vec<u32> = word.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        (numbers.len() > 1).then_some(numbers)
    })
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    command.get_args().map(OsStr::to_string_lossy).for_each(|word| {
        let _ = write!(text, " {word}");
    });
    text
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, expected) in [
            ("0.17.1", [0, 17, 1].as_slice()),
            ("go version go1.27.3 linux/amd64", &[1, 27, 3]),
            ("componentize-py 0.25.1", &[0, 25, 1]),
            ("v20.20.2", &[20, 20, 2]),
            ("rustc 1.95.0 (59807616e 2026-04-14)", &[1, 95, 0]),
        ] {
            assert_eq!(numbers(said).as_deref(), Some(expected), "{said}");
        }
        assert_eq!(numbers("no version here, only 12"), None);
    }
}
