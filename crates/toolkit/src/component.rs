//! Makes components of core modules, as C, Zig and Go produce them, and signs components with their tools.

use anyhow::{Context, Result};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{ComponentSection, ProducersField, ProducersSection};
use wasq_engine::SIGNATURE;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract;
use crate::language::Language;

/// Wraps a core module in a component. The module imports and exports the functions of our world by the
/// canonical ABI, and may also import WASI 0.1.
pub fn from_module(mut module: Vec<u8>) -> Result<Vec<u8>> {
    let (resolve, world) = contract::our_world();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .context("describe the world in the module")?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .context("read the module")?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        .context("adapt WASI 0.1 to 0.2")?
        // The adapter gets its memory from the module's own `cabi_realloc`, not from memory.grow. Go's
        // runtime, for example, takes all memory behind its own as its own, and would overwrite memory from
        // memory.grow.
        .encode()
        .context("make a component of the module")
}

/// Writes the language and the toolchain into a component: most toolchains do not name themselves.
pub(crate) fn sign(component: &mut Vec<u8>, language: Language, toolchain: &str) {
    let (tool, version) = toolchain.rsplit_once(' ').unwrap_or((toolchain, ""));
    let (mut languages, mut tools) = (ProducersField::new(), ProducersField::new());
    languages.value(&language.to_string(), "");
    tools.value(tool, version).value(SIGNATURE, env!("CARGO_PKG_VERSION"));
    let mut section = ProducersSection::new();
    section.field("language", &languages).field("processed-by", &tools);
    section.append_to_component(component);
}
