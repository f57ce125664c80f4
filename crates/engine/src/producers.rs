//! The languages and tools that made a component, as it names them itself (the section `producers`).

use wasmparser::{BinaryReader, BinaryReaderError, Parser, Payload, ProducersSectionReader};

/// The name of `wasq` in a component's list of tools.
pub const SIGNATURE: &str = "wasq";

/// The most names that are returned.
const NAMES_MAX: usize = 20;
/// The most characters of a name with its version. The longest that was seen, of clang, has 100.
const NAME_CHARS_MAX: usize = 120;
/// The most entries that are looked at, over all sections.
const ENTRIES_MAX: usize = 1000;

/// The languages and tools that a component names, such as `C`, `zig 0.17.1`: as `wasq build` wrote them, or else as its parts do.
/// Each name is there once, without control characters. At most 20 names of 120 characters are returned, whatever the component says.
pub fn made_with(wasm: &[u8]) -> Vec<String> {
    let mut all = Names::default();
    let mut entries = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        // The rest of a file that is not well-formed is not looked at.
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        if section.name() != "producers" {
            continue;
        }
        let mut of_section = Names::default();
        let mut is_signed = false;
        // A malformed section is the tool's fault, not the component's: keep the entries before it.
        let _ = each(section.data_reader(), |name, version| {
            entries += 1;
            is_signed |= name == SIGNATURE;
            of_section.add(name, version);
            entries < ENTRIES_MAX
        });
        if is_signed {
            return of_section.0;
        }
        for name in of_section.0 {
            all.push(name);
        }
        if entries >= ENTRIES_MAX {
            break;
        }
    }
    all.0
}

/// Calls `use_entry` with each name and version of a section, but for those of libraries, until it returns false.
fn each<'a>(
    section: BinaryReader<'a>,
    mut use_entry: impl FnMut(&'a str, &'a str) -> bool,
) -> Result<(), BinaryReaderError> {
    for field in ProducersSectionReader::new(section)? {
        let field = field?;
        if field.name == "sdk" {
            continue;
        }
        for value in field.values {
            let value = value?;
            if !use_entry(value.name, value.version) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Distinct names, in the order in which they came.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn add(&mut self, name: &str, version: &str) {
        let text = name.chars().chain([' ']).chain(version.chars()).filter(|c| !c.is_control());
        let text: String = text.take(NAME_CHARS_MAX).collect();
        self.push(text.trim().to_owned());
    }

    fn push(&mut self, name: String) {
        if !name.is_empty() && self.0.len() < NAMES_MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with sections of these tools.
    fn component(sections: &[&[(&str, &str)]]) -> Vec<u8> {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        for tools in sections {
            let mut content = text("producers");
            content.push(1);
            content.extend(text("processed-by"));
            content.extend(number(tools.len()));
            for (name, version) in *tools {
                content.extend(text(name));
                content.extend(text(version));
            }
            wasm.push(0);
            wasm.extend(number(content.len()));
            wasm.extend(content);
        }
        wasm
    }

    fn text(text: &str) -> Vec<u8> {
        [number(text.len()), text.into()].concat()
    }

    fn number(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }

    #[test]
    fn the_names_of_all_sections_each_once() {
        let wasm =
            component(&[&[("rustc", "1.95.0"), ("clang", "21 \n(wasi)")], &[("rustc", "1.95.0"), ("", "")]]);
        assert_eq!(made_with(&wasm), ["rustc 1.95.0", "clang 21 (wasi)"]);
    }

    #[test]
    fn a_signed_section_is_the_only_one() {
        let wasm = component(&[&[("rustc", "1.75.0")], &[("zig", "0.17.1"), (SIGNATURE, "0.1.0")]]);
        assert_eq!(made_with(&wasm), ["zig 0.17.1", "wasq 0.1.0"]);
    }

    #[test]
    fn what_is_returned_is_bounded() {
        let names: Vec<_> = (0..200_000).map(|i| format!("tool-{i}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert_eq!(made_with(&component(&[&many])).len(), NAMES_MAX);
        let empty = vec![("", ""); 200_000];
        assert!(made_with(&component(&[&empty, &[("rustc", "1")]])).is_empty(), "not looked at any more");
        let long = "ä".repeat(10_000);
        let [name] = &made_with(&component(&[&[(&long, "1")]]))[..] else { panic!("one name") };
        assert_eq!(name.chars().count(), NAME_CHARS_MAX);
    }
}
