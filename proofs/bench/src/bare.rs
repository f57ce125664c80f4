//! wasmtime without wasq: the least that a program must do to run the same component in a fresh sandbox.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The world, for synchronous calls.
mod blocking {
    #![allow(missing_docs, reason = "the WIT file has the documentation")]
    wasmtime::component::bindgen!({ path: "../../tasks-wit/wit", world: "task" });
}

/// The world, for asynchronous ones.
mod asynchronous {
    #![allow(missing_docs, reason = "the WIT file has the documentation")]
    wasmtime::component::bindgen!({ path: "../../tasks-wit/wit", world: "task", exports: { default: async } });
}

/// wasmtime with the engine settings of wasq that make a run faster. It has nothing that only a service
/// needs: no epochs, no limits, no asynchronous calls, no log, no policy.
pub(crate) struct Bare {
    engine: Engine,
    task: blocking::TaskPre<State>,
}

/// The same, with the two parts that can interrupt a run: epochs, and calls on stacks of their own. A service
/// cannot do without them.
pub(crate) struct Interruptible {
    engine: Engine,
    task: asynchronous::TaskPre<State>,
}

/// A sandbox that was used already.
pub(crate) struct Used {
    store: Store<State>,
    task: blocking::Task,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Compiles a component into a file for [`Bare::load`], or for [`Interruptible::load`].
pub(crate) fn compile(wasm: &Path, artifact: &Path, interruptible: bool) -> Result<()> {
    let engine = engine(1, interruptible)?;
    let component = Component::from_file(&engine, wasm).map_err(wrap)?;
    std::fs::write(artifact, component.serialize().map_err(wrap)?).context("write the artifact")
}

impl Bare {
    /// Loads and links an artifact of [`compile`], with slots for `slots` runs at once.
    pub(crate) fn load(artifact: &Path, slots: u32) -> Result<Self> {
        let engine = engine(slots, false)?;
        let component = load(&engine, artifact)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(wrap)?;
        // The no-op imports the interfaces of wasq, but never calls them.
        linker.define_unknown_imports_as_traps(&component).map_err(wrap)?;
        let task = linker.instantiate_pre(&component).and_then(blocking::TaskPre::new).map_err(wrap)?;
        Ok(Self { engine, task })
    }

    /// One run in a fresh sandbox.
    pub(crate) fn run(&self, params: &str) -> Result<()> {
        self.sandbox()?.run(params)
    }

    /// A sandbox that can be used again and again. Each run finds what the run before left in it.
    pub(crate) fn sandbox(&self) -> Result<Used> {
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        let task = self.task.instantiate(&mut store).map_err(wrap)?;
        Ok(Used { store, task })
    }
}

impl Interruptible {
    /// Loads and links an artifact of [`compile`], with slots for `slots` runs at once.
    pub(crate) fn load(artifact: &Path, slots: u32) -> Result<Self> {
        let engine = engine(slots, true)?;
        let component = load(&engine, artifact)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(wrap)?;
        linker.define_unknown_imports_as_traps(&component).map_err(wrap)?;
        let task = linker.instantiate_pre(&component).and_then(asynchronous::TaskPre::new).map_err(wrap)?;
        Ok(Self { engine, task })
    }

    /// One run in a fresh sandbox.
    pub(crate) async fn run(&self, params: &str) -> Result<()> {
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let task = self.task.instantiate_async(&mut store).await.map_err(wrap)?;
        match task.call_run(&mut store, params).await.map_err(wrap)? {
            Ok(output) if output == "null" => Ok(()),
            other => bail!("the no-op answered {other:?}"),
        }
    }
}

impl Used {
    /// One more run.
    pub(crate) fn run(&mut self, params: &str) -> Result<()> {
        match self.task.call_run(&mut self.store, params).map_err(wrap)? {
            Ok(output) if output == "null" => Ok(()),
            other => bail!("the no-op answered {other:?}"),
        }
    }
}

fn load(engine: &Engine, artifact: &Path) -> Result<Component> {
    // Safety: compiled by ourselves, a moment ago, and nobody else has it.
    unsafe { Component::deserialize_file(engine, artifact) }.map_err(wrap)
}

fn engine(slots: u32, interruptible: bool) -> Result<Engine> {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(slots)
        .total_core_instances(slots * 10)
        .total_memories(slots * 2)
        .total_tables(slots * 4)
        .total_stacks(slots)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(64 << 10)
        .max_core_instances_per_component(100)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    // Without a target, wasmtime would use all features of this CPU. Valgrind does not have all of them, and
    // a no-op does not need them.
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).map_err(wrap)?;
    config.epoch_interruption(interruptible);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    Engine::new(&config).map_err(wrap)
}

fn wrap(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
