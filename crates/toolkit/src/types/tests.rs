use serde_json::{Value, json};

use super::{SenderLanguage, sender_types};

fn schema() -> Value {
    json!({
        "params": {
            "type": "object",
            "description": "Who is asked for.",
            "properties": {
                "user": {"type": "string", "description": "A user."},
                "max-count": {"type": ["integer", "null"]},
                "kind": {"enum": ["new", "old"]},
                "home": {"$ref": "#/$defs/Home"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "of": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Tree"}]},
                "scores": {"type": "object", "additionalProperties": {"type": "number"}},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "minItems": 2, "maxItems": 2},
                "any": {},
            },
            "required": ["user", "kind"],
            "$defs": {
                "Home": {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]},
                "Tree": {
                    "type": "object",
                    "properties": {"left": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}, "value": {"type": "number"}},
                    "required": ["value"],
                },
            },
        },
        "result": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    })
}

#[track_caller]
fn check(language: SenderLanguage, expected: &[&str]) {
    let text = sender_types(&"count".parse().expect("a name"), &schema(), language);
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn in_typescript() {
    check(
        SenderLanguage::TypeScript,
        &[
            "/**\n * Who is asked for.\n */\nexport interface Params {",
            "  /**\n   * A user.\n   */\n  user: string;\n",
            "  kind: \"new\" | \"old\";\n",
            "  \"max-count\"?: number | null;\n",
            "  home?: Home;\n",
            "  of?: string | Tree;\n",
            "  scores?: { [key: string]: number };\n",
            "  pair?: [string, boolean];\n",
            "  any?: unknown;\n",
            "export interface Tree {\n  value: number;\n  left?: Tree | null;\n}",
            "export type Result = Array<ResultItem>;",
            "queueUrl: string, params: Params, options",
        ],
    );
}

#[test]
fn in_python() {
    check(
        SenderLanguage::Python,
        &[
            "class Home(TypedDict):\n    street: str\n",
            // A key that is no name.
            "# Who is asked for.\nParams = TypedDict(\"Params\", {\n    \"kind\": \"Literal[\\\"new\\\", \\\"old\\\"]\",\n",
            "    \"max-count\": \"NotRequired[int | None]\",\n",
            "class Tree(TypedDict):\n    value: float\n    left: NotRequired[Tree | None]\n",
            "Result: TypeAlias = \"list[ResultItem]\"",
            "def enqueue(sqs: Any, queue_url: str, params: Params,",
        ],
    );
}

#[test]
fn in_rust() {
    check(
        SenderLanguage::Rust,
        &[
            "/// Who is asked for.\n#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]\npub struct Params {",
            "    /// A user.\n    pub user: String,\n",
            "    #[serde(rename = \"max-count\")]\n    pub max_count: Option<i64>,\n",
            "    pub kind: ParamsKind,\n",
            "pub enum ParamsKind {\n    #[serde(rename = \"new\")]\n    New,\n",
            "    pub of: Option<ParamsOf>,\n",
            "#[serde(untagged)]\npub enum ParamsOf {\n    Text(String),\n    Tree(Box<Tree>),\n}",
            "    pub left: Option<Box<Tree>>,\n",
            "    pub pair: Option<(String, bool)>,\n",
            "pub type Result = Vec<ResultItem>;",
            "pub fn message(params: &Params, id: Option<&str>)",
        ],
    );
}

/// Definitions with the names of other things, and types that name themselves.
#[test]
fn names_that_mean_something_else() {
    let schema = json!({"params": {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/Options"}, "b": {"$ref": "#/$defs/none"}, "c": {"$ref": "#/$defs/Vec"}, "d": {"$ref": "#/$defs/Json"},
            "e": {"enum": ["self", "Self"]},
        },
        "$defs": {
            "Options": {"type": "object", "properties": {"x": {}}}, "none": {"enum": ["x"]}, "Vec": {"type": "array", "items": {"$ref": "#/$defs/Vec"}},
            "Json": {"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}}]},
        },
    }});
    let made = |language| sender_types(&"t".parse().expect("a name"), &schema, language);
    let typescript = made(SenderLanguage::TypeScript);
    assert!(typescript.contains("export interface Options2 {"), "{typescript}");
    assert!(typescript.contains("export type Json = { [key: string]: Json } | null;"), "{typescript}");
    assert!(made(SenderLanguage::Python).contains("None2: TypeAlias"));
    let rust = made(SenderLanguage::Rust);
    assert!(rust.contains("pub struct Vec2(pub Vec<Vec2>);"), "{rust}");
    assert!(rust.contains("    Self_,\n") && rust.contains("    Self__,\n"), "{rust}");
}

/// Names, comments and texts that would break out of the module.
#[test]
fn hostile_schemas_stay_inside() {
    let hostile = json!({"params": {
        "type": "object",
        "description": "*/ evil(); /* \"\"\" evil()",
        "properties": {"a\"b": {"enum": ["x\"y\\u{0}", ""]}, "class": {"type": "string"}, "fn": {"type": "string"}, "": {}, "self": {}},
        "required": ["class"],
    }});
    // Each of these characters ends a line in some language.
    for end in ["\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\n", "\r\n"] {
        let hostile = json!({"params": {
            "type": "object", "description": format!("x{end}evil()"),
            "properties": {"a": {"type": "string", "description": format!("x\0{end}evil()")}},
        }});
        for language in SenderLanguage::ALL {
            let text = sender_types(&"evil".parse().expect("a name"), &hostile, language);
            let line = text.split(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']);
            for line in line.filter(|line| line.contains("evil()")) {
                let line = line.trim_start();
                assert!(
                    ["#", "*", "///"].iter().any(|mark| line.starts_with(mark)),
                    "{end:?} {language}: {line:?}"
                );
            }
            assert!(!text.contains('\0'));
        }
    }
    let made = |language| sender_types(&"evil".parse().expect("a name"), &hostile, language);
    assert!(!made(SenderLanguage::TypeScript).contains("*/ evil"));
    assert!(made(SenderLanguage::Python).contains("Params = TypedDict("));
    let rust = made(SenderLanguage::Rust);
    for part in ["pub r#fn: Option<String>", "pub class: String", "pub self_: ", "rename = \"a\\\"b\""] {
        assert!(rust.contains(part), "{part}:\n{rust}");
    }
}
