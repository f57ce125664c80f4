//! The custom section `wasq:schema` of a component.

/// The name of the section.
pub const SECTION: &str = "wasq:schema";
/// The largest content of the section, in bytes.
pub const BYTES_MAX: usize = 64 << 10;

/// The magic number and the version of a module or component.
const HEADER: usize = 8;
/// The id of custom sections.
const CUSTOM: u8 = 0;

/// The content of the section, if a component has it. A file that is not well-formed has none: the compiler says what is wrong with it.
pub fn find(wasm: &[u8]) -> Result<Option<&[u8]>, String> {
    let mut found = None;
    let mut rest = wasm.get(HEADER..).unwrap_or_default();
    while let Some((section, after)) = next(rest) {
        rest = after;
        if section.id != CUSTOM {
            continue;
        }
        let Some((name, content)) = text(section.content) else { break };
        if name != SECTION.as_bytes() {
            continue;
        }
        if found.is_some() {
            return Err(format!("it has the section {SECTION} twice"));
        }
        if content.len() > BYTES_MAX {
            let bytes = content.len();
            return Err(format!("its section {SECTION} has {bytes} bytes; the most is {BYTES_MAX}"));
        }
        found = Some(content);
    }
    Ok(found)
}

struct Section<'a> {
    id: u8,
    content: &'a [u8],
}

/// The next section, and what follows it.
fn next(bytes: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (id, rest) = bytes.split_first()?;
    let (content, after) = text(rest)?;
    Some((Section { id: *id, content }, after))
}

/// Bytes with their number before them, and what follows them.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(length)
}

/// A number as WebAssembly writes it (unsigned LEB128), and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the section to a component.
    fn add(wasm: &mut Vec<u8>, content: &[u8]) {
        let mut body = Vec::with_capacity(content.len() + SECTION.len() + 2);
        put_number(&mut body, SECTION.len());
        body.extend(SECTION.as_bytes());
        body.extend(content);
        wasm.push(CUSTOM);
        put_number(wasm, body.len());
        wasm.extend(body);
    }

    fn put_number(bytes: &mut Vec<u8>, mut value: usize) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return;
            }
            bytes.push(low | 0x80);
        }
    }

    const EMPTY_COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_is_added_is_found() {
        for bytes in [0, 1, 127, 128, 20_000, BYTES_MAX] {
            let content = vec![b' '; bytes];
            let mut wasm = EMPTY_COMPONENT.to_vec();
            assert_eq!(find(&wasm), Ok(None));
            // Another custom section stands before it.
            wasm.extend(*b"\0\x05\x04name");
            add(&mut wasm, &content);
            assert_eq!(find(&wasm), Ok(Some(&content[..])));
        }
    }

    #[test]
    fn too_large_or_twice() {
        let mut wasm = EMPTY_COMPONENT.to_vec();
        add(&mut wasm, &vec![b' '; BYTES_MAX + 1]);
        let said = find(&wasm).expect_err("too large");
        assert_eq!(said, "its section wasq:schema has 65537 bytes; the most is 65536");
        let mut wasm = EMPTY_COMPONENT.to_vec();
        add(&mut wasm, b"{}");
        add(&mut wasm, b"{}");
        assert_eq!(find(&wasm), Err("it has the section wasq:schema twice".to_owned()));
    }

    #[test]
    fn no_component() {
        for wasm in [
            &b""[..],
            b"\0asm",
            b"\0asm\x0d\0\x01\0\0",
            b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff",
            b"\0asm\x0d\0\x01\0\0\x02\x09",
        ] {
            assert_eq!(find(wasm), Ok(None));
        }
    }
}
