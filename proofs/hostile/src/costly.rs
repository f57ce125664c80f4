//! Components that are made so that their compilation costs far more than their size suggests. Each kind grows with a number.

/// A kind of costly component.
#[derive(Clone, Copy, Debug)]
pub struct Costly {
    /// The things that it has too many of.
    pub name: &'static str,
    /// The component as text, for a number of these things.
    pub text: fn(usize) -> String,
    /// The number to begin with; each further one is the double.
    pub from: usize,
}

impl Costly {
    /// The component with `n` of its things. Some are not valid beyond a number; they are still a file to refuse.
    pub fn component(&self, n: usize) -> Result<Vec<u8>, wat::Error> {
        wat::parse_str((self.text)(n))
    }
}

/// A component with one module.
fn module(fields: &str) -> String {
    format!("(component (core module $m {fields}))")
}

/// A component with one function, and two others that it can call.
fn function(head: &str, body: &str) -> String {
    module(&format!(
        "(func $f (result i32) (i32.const 1)) (func $g (param i32)) (func (export \"run\") {head} {body})"
    ))
}

fn nested(block: &str, inside: &str, n: usize) -> String {
    format!("{}{}", format!("{block} {inside} ").repeat(n), "end ".repeat(n))
}

fn locals(n: usize) -> String {
    format!("(local {}) ", "i32 ".repeat(n))
}

fn repeat(n: usize, text: impl Fn(usize) -> String) -> String {
    (0..n).map(text).collect()
}

/// Each component makes two instances of the one inside it.
fn doubled(n: usize) -> String {
    let mut text = "(component $c (core module $m (func)) (core instance (instantiate $m)))".to_owned();
    for _ in 0..n {
        text = format!("(component $c {text} (instance (instantiate $c)) (instance (instantiate $c)))");
    }
    text.replacen("$c", "", 1)
}

/// A function for each of `n` types, all of them lifted, with a record of 16 fields of the type before.
fn large_types(n: usize) -> String {
    let types = repeat(n, |i| {
        let before = if i % 4 == 0 { "u8".to_owned() } else { format!("$t{}", i - 1) };
        let fields = repeat(16, |field| format!("(field \"f{field}\" {before})"));
        format!("(type $t{i} (record {fields})) (export $e{i} \"t{i}\" (type $t{i}))")
    });
    format!("(component {types})")
}

/// All kinds.
pub const COSTLY: &[Costly] = &[
    Costly { name: "loops inside each other", from: 64, text: |n| function("", &nested("loop", "", n)) },
    Costly {
        name: "loops inside each other, with locals",
        from: 64,
        text: |n| {
            function(
                "",
                &(locals(n.min(5_000))
                    + &nested("loop", "(local.set 0 (i32.add (local.get 1) (local.get 0)))", n)),
            )
        },
    },
    Costly {
        name: "loops one after the other, with many locals",
        from: 64,
        text: |n| {
            function(
                "",
                &(locals(2_000)
                    + &repeat(n, |i| {
                        format!(
                            "(loop (local.set {0} (i32.add (local.get {0}) (i32.const 1))) (br_if 0 (local.get {1})))",
                            i % 2_000,
                            (i * 7) % 2_000
                        )
                    })),
            )
        },
    },
    Costly { name: "blocks inside each other", from: 64, text: |n| function("", &nested("block", "", n)) },
    Costly {
        name: "conditions inside each other",
        from: 64,
        text: |n| {
            function("(param i32)", &format!("{}{}", "(if (local.get 0) (then ".repeat(n), "))".repeat(n)))
        },
    },
    Costly {
        name: "a branch table to blocks inside each other",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &format!(
                    "{} (br_table {} (local.get 0)) {}",
                    "block ".repeat(n),
                    repeat(n, |i| format!("{i} ")),
                    "end ".repeat(n)
                ),
            )
        },
    },
    Costly {
        name: "a branch table that carries 500 values",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &format!(
                    "(block (result {}) {} (br_table {} (local.get 0))) {}",
                    "i32 ".repeat(500),
                    "(i32.const 1)".repeat(500),
                    "0 ".repeat(n),
                    "drop ".repeat(500)
                ),
            )
        },
    },
    Costly {
        name: "branch tables one after the other",
        from: 16,
        text: |n| {
            function(
                "(param i32)",
                &repeat(n, |_| format!("(block (block (br_table {} (local.get 0))))", "0 1 ".repeat(250))),
            )
        },
    },
    Costly {
        name: "branches that carry 500 values",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &format!(
                    "(block (result {}) {} {}) {}",
                    "i32 ".repeat(500),
                    "(i32.const 1)".repeat(500),
                    "(br_if 0 (local.get 0))".repeat(n),
                    "drop ".repeat(500)
                ),
            )
        },
    },
    Costly { name: "functions", from: 64, text: |n| module(&"(func)".repeat(n)) },
    Costly {
        name: "functions that call each other",
        from: 64,
        text: |n| module(&repeat(n, |i| format!("(func (call {}))", (i * 31) % n))),
    },
    Costly {
        name: "modules",
        from: 16,
        text: |n| format!("(component {})", "(core module (func))".repeat(n)),
    },
    Costly {
        name: "instances of one module",
        from: 16,
        text: |n| {
            format!(
                "(component (core module $m (memory 0) (func)) {})",
                "(core instance (instantiate $m))".repeat(n)
            )
        },
    },
    Costly { name: "components inside each other, each made twice", from: 8, text: |n| doubled(n) },
    Costly {
        name: "components inside each other",
        from: 8,
        text: |n| format!("{}{}", "(component ".repeat(n), ")".repeat(n)),
    },
    Costly {
        name: "instances of one component",
        from: 16,
        text: |n| {
            format!(
                "(component (component $c (core module $m (func)) (core instance (instantiate $m))) {})",
                "(instance (instantiate $c))".repeat(n)
            )
        },
    },
    Costly {
        name: "types of functions",
        from: 64,
        text: |n| module(&repeat(n, |i| format!("(type (func (param {})))", "i32 ".repeat(i % 200)))),
    },
    Costly {
        name: "types of values, each twice the one before",
        from: 8,
        text: |n| {
            format!(
                "(component (type $t0 (tuple u8)) {})",
                repeat(n, |i| format!("(type $t{} (tuple $t{i} $t{i}))", i + 1))
            )
        },
    },
    Costly { name: "exported functions with large types", from: 8, text: |n| large_types(n) },
    Costly { name: "locals", from: 64, text: |n| function("", &locals(n)) },
    Costly {
        name: "locals that live across calls",
        from: 64,
        text: |n| {
            function(
                "",
                &(locals(n)
                    + &repeat(n, |i| format!("(local.set {i} (call $f))"))
                    + &repeat(n, |i| format!("(call $g (local.get {i}))"))),
            )
        },
    },
    Costly {
        name: "values on the stack",
        from: 64,
        text: |n| function("", &format!("{}{}", "(call $f)".repeat(n), "call $g ".repeat(n))),
    },
    Costly {
        name: "sums inside each other",
        from: 64,
        text: |n| function("", &format!("{}{}call $g", "(call $f) ".repeat(n), "i32.add ".repeat(n - 1))),
    },
    Costly {
        name: "globals",
        from: 64,
        text: |n| {
            module(&format!(
                "{} (func {})",
                repeat(n, |i| format!("(global $g{i} (mut i32) (i32.const {i}))")),
                repeat(n, |i| format!("(global.set $g{i} (global.get $g{}))", (i * 7) % n))
            ))
        },
    },
    Costly {
        name: "exports",
        from: 64,
        text: |n| module(&format!("(func $f) {}", repeat(n, |i| format!("(export \"e{i}\" (func $f))")))),
    },
    Costly {
        name: "segments of data",
        from: 64,
        text: |n| module(&format!("(memory 1) {}", "(data (i32.const 0) \"x\")".repeat(n))),
    },
    Costly {
        name: "segments of a table",
        from: 64,
        text: |n| {
            module(&format!(
                "(table 10000 funcref) (func $f) {}",
                "(elem (i32.const 0) func $f $f $f $f)".repeat(n)
            ))
        },
    },
    Costly {
        name: "one long function of sums",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &repeat(n, |i| format!("(local.set 0 (i32.add (local.get 0) (i32.const {i})))")),
            )
        },
    },
    Costly {
        name: "one long function of divisions",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &repeat(n, |i| format!("(local.set 0 (i32.div_s (local.get 0) (i32.const {})))", i + 1)),
            )
        },
    },
    Costly {
        name: "one long function of loads",
        from: 64,
        text: |n| {
            module(&format!(
                "(memory 1) (func (param i32) {})",
                repeat(n, |i| format!(
                    "(local.set 0 (i32.load offset={} (local.get 0)))",
                    i * 65536 % 4_000_000_000
                ))
            ))
        },
    },
    Costly {
        name: "one long function of conversions",
        from: 64,
        text: |n| {
            function(
                "(param f64)",
                &"(local.set 0 (f64.convert_i64_s (i64.trunc_f64_s (local.get 0))))".repeat(n),
            )
        },
    },
    Costly {
        name: "one long function of vectors",
        from: 64,
        text: |n| {
            function("(local v128)", &"(local.set 0 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31 (local.get 0) (local.get 0)))".repeat(n))
        },
    },
    Costly {
        name: "one long function of calls through a table",
        from: 64,
        text: |n| {
            module(&format!(
                "(type $t (func)) (table 10 funcref) (func (param i32) {})",
                "(call_indirect (type $t) (local.get 0))".repeat(n)
            ))
        },
    },
    Costly {
        name: "one long function that copies memory",
        from: 64,
        text: |n| {
            module(&format!(
                "(memory 1) (func (param i32) {})",
                "(memory.copy (local.get 0) (local.get 0) (local.get 0))".repeat(n)
            ))
        },
    },
    Costly {
        name: "calls with many params",
        from: 64,
        text: |n| {
            let pair = |i| {
                let (params, values) = ("i64 ".repeat(900), "(i64.const 1)".repeat(900));
                format!("(func $c{i} (param {params})) (func (call $c{i} {values}))")
            };
            module(&repeat(n.div_ceil(64), pair))
        },
    },
    Costly {
        name: "functions with many results",
        from: 8,
        text: |n| {
            module(&repeat(n, |i| {
                format!("(func $r{i} (result {}) {})", "i32 ".repeat(900), "(i32.const 1)".repeat(900))
            }))
        },
    },
    Costly {
        name: "choices one after the other",
        from: 64,
        text: |n| {
            function(
                "(param i32 i32)",
                &"(local.set 0 (select (local.get 0) (local.get 1) (i32.eqz (local.get 0))))".repeat(n),
            )
        },
    },
    Costly {
        name: "blocks that each jump to the end",
        from: 64,
        text: |n| {
            function(
                "(param i32)",
                &(locals(200)
                    + &format!(
                        "(block $end {})",
                        repeat(n, |i| format!(
                            "(block (br_if $end (local.get {})) (local.set {} (local.get 0)))",
                            1 + i % 200,
                            1 + (i * 3) % 200
                        ))
                    )),
            )
        },
    },
];
