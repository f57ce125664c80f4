//! The files in `.github`: schemas, and the mistakes that zizmor knows of workflows.

use std::process::Command;

use anyhow::Result;

use crate::setup::{pip, root, run};

const TOOLS: &str = "zizmor==1.32.0\ncheck-jsonschema==0.39.0\n";

/// Files, and the schema of each.
const SCHEMAS: [(&str, &[&str]); 4] = [
    ("vendor.github-workflows", &["workflows/ci.yml", "workflows/release.yml"]),
    ("vendor.dependabot", &["dependabot.yml"]),
    ("vendor.github-issue-forms", &["ISSUE_TEMPLATE/bug.yml", "ISSUE_TEMPLATE/idea.yml"]),
    ("vendor.github-issue-config", &["ISSUE_TEMPLATE/config.yml"]),
];

pub(crate) fn check() -> Result<()> {
    let tools = pip("github-tools", TOOLS)?;
    let folder = root().join(".github");
    for (schema, files) in SCHEMAS {
        let mut check = Command::new(tools.join("check-jsonschema"));
        check.args(["--builtin-schema", schema]).args(files.iter().map(|file| folder.join(file)));
        run(&mut check)?;
    }
    run(Command::new(tools.join("zizmor")).args(["--offline", "--quiet"]).arg(&folder))
}
