//! The compiler behind its port: wasmtime, in a process of its own.
//!
//! A small component can make the compiler need gigabytes or hours. So each compilation runs in a child process, which has
//! limits of memory and processor time, and a deadline. If it dies, only that upload is refused. The child is this program
//! itself, started with [`COMPILE`]; its `main` calls [`compile_if_asked`] first.
//!
//! On one machine, the child has a cache of compiled functions. On AWS it has none: a component that took the child over could write
//! machine code of other tasks into it.
//!
//! The module goes to the child's stdin. On stdout comes one byte, and then the machine code (`FITS`) or the reason (`REFUSED`).

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Resource, Rlimit, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use wasq_engine::{CacheStore, Engine, fingerprint};
use wasq_protocol::{ByteCount, Digest, Fingerprint, format_duration};

use crate::ports::{Compiled, Compiler};

/// The first argument of a process that compiles.
const COMPILE: &str = "__compile";
/// The first byte of its answer: machine code follows.
const FITS: u8 = 0;
/// The first byte of its answer: a reason follows.
const REFUSED: u8 = 1;
/// The bytes of the child's stderr that are read.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// The limits of one compilation.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// The memory that the process may write to.
    pub memory: ByteCount,
    /// The processor time, over all its threads.
    pub processor: Duration,
    /// The time from its start to its end.
    pub time: Duration,
    /// How many may run at once; others wait.
    pub at_once: usize,
}

/// Compiles components with wasmtime, each in a process of its own.
pub struct Wasm {
    fingerprint: Fingerprint,
    limits: CompileLimits,
    program: PathBuf,
    function_cache: Option<PathBuf>,
    slots: Arc<Semaphore>,
    /// The modules whose compilation was killed from outside. At the second time, the module is to blame.
    killed: Mutex<HashSet<Digest>>,
}

impl Wasm {
    /// A compiler that starts this program again. Its `main` must call [`compile_if_asked`] first.
    pub fn new(limits: CompileLimits) -> Result<Self> {
        // On Linux this is the program that runs, also after its file was replaced.
        let program = match cfg!(target_os = "linux") {
            true => PathBuf::from("/proc/self/exe"),
            false => std::env::current_exe().context("find this program")?,
        };
        Ok(Self {
            fingerprint: fingerprint(),
            limits,
            program,
            function_cache: None,
            slots: Arc::new(Semaphore::new(limits.at_once)),
            killed: Mutex::default(),
        })
    }

    /// The same compiler in another program, whose `main` calls [`compile_if_asked`] first.
    pub fn in_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// The same compiler with a cache of compiled functions in this file. The program opens it; see [`OpenCache`].
    pub fn with_function_cache(self, file: Option<PathBuf>) -> Self {
        Self { function_cache: file, ..self }
    }

    fn start(&self) -> Result<Child> {
        let CompileLimits { memory, processor, .. } = self.limits;
        let mut command = Command::new(&self.program);
        command
            .args([COMPILE, &memory.0.to_string(), &processor.as_secs().max(1).to_string()])
            .args(&self.function_cache)
            // Nothing that the compiler reads, and nothing that it could tell.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A ctrl-c in the terminal is for its parent.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().context("start the compiler's process")
    }

    /// The verdict on a module whose process ended without an answer.
    fn judge(&self, status: ExitStatus, stderr: &str, digest: Digest) -> Result<String> {
        let CompileLimits { memory, processor, .. } = self.limits;
        let signal = status.signal().and_then(Signal::from_named_raw);
        match signal {
            Some(Signal::ABORT) if stderr.contains("memory allocation") || stderr.contains("capacity") => {
                Ok(format!("its compilation takes more than {memory} of memory"))
            }
            Some(Signal::XCPU) => Ok(format!(
                "its compilation takes more than {} of processor time",
                format_duration(processor)
            )),
            Some(Signal::KILL) if self.killed().insert(digest) => {
                bail!("the compilation was killed, perhaps because the machine has too little memory")
            }
            Some(Signal::KILL) => {
                Ok("its compilation was killed twice: it takes too much memory or processor time".to_owned())
            }
            Some(Signal::ABORT | Signal::SEGV | Signal::BUS | Signal::ILL) => {
                Ok(format!("the compiler crashed: {status}"))
            }
            // Rust's exit code after a panic.
            None if status.code() == Some(101) => {
                let panic = stderr.split_once("panicked at ").map_or(stderr, |(_, panic)| panic);
                Ok(format!(
                    "the compiler cannot compile it: {}",
                    panic.lines().take(2).collect::<Vec<_>>().join(" ")
                ))
            }
            _ => Err(anyhow!("the compiler's process ended with {status}: {}", stderr.trim())),
        }
    }

    fn killed(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compiler for Wasm {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn compile(&self, module: Vec<u8>) -> Result<Compiled> {
        let _slot = self.slots.acquire().await.context("the compiler is stopped")?;
        let mut child = self.start()?;
        let (mut stdin, stdout, stderr) = match (child.stdin.take(), child.stdout.take(), child.stderr.take())
        {
            (Some(stdin), Some(stdout), Some(stderr)) => (stdin, stdout, stderr),
            _ => bail!("the compiler's process has no pipes"),
        };
        let (mut kind, mut answer, mut said) = (None, Vec::new(), String::new());
        let talk = async {
            let send = async {
                // A process that died has said why.
                let _ = stdin.write_all(&module).await;
                drop(stdin);
            };
            let hear = async {
                // No answer is larger than the memory of the process.
                let mut stdout = stdout.take(self.limits.memory.0);
                kind = stdout.read_u8().await.ok();
                stdout.read_to_end(&mut answer).await
            };
            let listen = async {
                let mut beginning = stderr.take(STDERR_BYTES_MAX);
                let _ = beginning.read_to_string(&mut said).await;
                // The rest is read as well, so that the process does not wait for that.
                let _ = tokio::io::copy(&mut beginning.into_inner(), &mut tokio::io::sink()).await;
            };
            let ((), heard, ()) = tokio::join!(send, hear, listen);
            heard.context("read the compiler's answer")?;
            child.wait().await.context("wait for the compiler's process")
        };
        let Ok(ended) = tokio::time::timeout(self.limits.time, talk).await else {
            let time = format_duration(self.limits.time);
            return Ok(Compiled::Refused(format!("its compilation takes more than {time}")));
        };
        let status = ended?;
        match kind {
            Some(FITS) if status.success() => Ok(Compiled::Fits { module, machine_code: answer }),
            Some(REFUSED) if status.success() => {
                Ok(Compiled::Refused(String::from_utf8_lossy(&answer).into_owned()))
            }
            _ => self.judge(status, &said, Digest::of(&module)).map(Compiled::Refused),
        }
    }
}

/// Opens a cache of compiled functions. `None` if it cannot: everything is compiled then.
pub type OpenCache = fn(&Path) -> Option<Arc<dyn CacheStore>>;

/// If this process was started to compile, compiles and ends the process. `open` opens the file of [`Wasm::with_function_cache`].
pub fn compile_if_asked(open: OpenCache) {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != COMPILE) {
        return;
    }
    let number = |text: Option<OsString>| text?.to_str()?.parse().ok();
    let (Some(memory), Some(processor)) = (number(arguments.next()), number(arguments.next())) else {
        eprintln!("{COMPILE} is for wasq itself");
        std::process::exit(2);
    };
    let cache = arguments.next().map(PathBuf::from);
    let done =
        limit_this_process(memory, processor).and_then(|()| compile(cache.and_then(|file| open(&file))));
    std::process::exit(match done {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{e:#}");
            2
        }
    })
}

/// Takes the limits on. A limit that the process has already may be lower.
fn limit_this_process(memory: u64, processor_seconds: u64) -> Result<()> {
    let limit = |resource, soft: u64, hard: u64| {
        let hard = rustix::process::getrlimit(resource).maximum.map_or(hard, |most| most.min(hard));
        let limit = Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) };
        rustix::process::setrlimit(resource, limit)
            .with_context(|| format!("limit {resource:?} of the compiler"))
    };
    limit(Resource::Data, memory, memory)?;
    // At the soft limit comes a signal that says so, at the hard one the end.
    limit(Resource::Cpu, processor_seconds, processor_seconds + 5)?;
    limit(Resource::Core, 0, 0)?;
    #[cfg(target_os = "linux")]
    {
        // If the machine has too little memory, the system ends this process rather than its parent.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        // It ends with its parent, however that ends.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("end with the parent")?;
    }
    // Runs of tasks come first.
    let _ = rustix::process::nice(10);
    Ok(())
}

fn compile(cache: Option<Arc<dyn CacheStore>>) -> Result<()> {
    let mut module = Vec::new();
    std::io::stdin().read_to_end(&mut module).context("read the module")?;
    let cached = cache.and_then(|cache| Engine::compiler_with(cache).ok());
    let engine =
        cached.map_or_else(Engine::compiler, Ok).map_err(|e| anyhow!("start the compiler: {e:#}"))?;
    let (kind, answer) = match engine.compile(&module) {
        Ok(machine_code) => (FITS, machine_code),
        Err(e) => (REFUSED, e.to_string().into_bytes()),
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&[kind])
        .and_then(|()| stdout.write_all(&answer))
        .and_then(|()| stdout.flush())
        .context("write the answer")
}
