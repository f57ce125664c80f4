//! The languages and tools that made a component, as it names them itself (the section `producers`).

use std::collections::HashSet;

use wasmparser::{KnownCustom, Parser, Payload};

/// The name of `wasq` in a component's list of tools.
pub const SIGNATURE: &str = "wasq";

/// The languages and tools that a component names, such as `C`, `zig 0.17.1`: as `wasq build` wrote them, or else as its parts do.
/// Each name is there once.
pub fn made_with(wasm: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        // The rest of a file that is not well-formed is not looked at.
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        let mut said = Vec::new();
        let mut signed = false;
        // A malformed entry is the tool's fault, not the component's: skip it.
        for field in fields.into_iter().flatten().filter(|field| field.name != "sdk") {
            for value in field.values.into_iter().flatten() {
                signed |= value.name == SIGNATURE;
                said.push(format!("{} {}", value.name, value.version).trim().to_owned());
            }
        }
        if signed {
            return said;
        }
        found.extend(said);
    }
    let mut seen = HashSet::new();
    found.retain(|text| seen.insert(text.clone()));
    found
}
