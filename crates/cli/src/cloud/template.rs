//! The CloudFormation template that this version deploys.

/// The template's text.
pub(super) const TEMPLATE: &str = include_str!("../../../../deploy/template.yaml");
/// CloudFormation accepts a larger template only through S3.
const _: () = assert!(TEMPLATE.len() <= 51_200);

/// Whether the template has a parameter of this name.
pub(super) fn template_has(parameter: &str) -> bool {
    parameters().any(|name| name == parameter)
}

/// The names of the template's parameters: the keys of its section `Parameters`.
fn parameters() -> impl Iterator<Item = &'static str> {
    let section = TEMPLATE.lines().skip_while(|line| *line != "Parameters:").skip(1);
    let section = section.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    section.filter_map(|line| {
        let name = line.strip_prefix("  ")?.strip_suffix(':')?;
        name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{parameters, template_has};
    use crate::deploy::StackOptions;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        options: StackOptions,
    }

    #[test]
    fn every_option_of_a_deployment_is_a_parameter() {
        let words = "wasq --arch arm64 --mode window --longest-task 1m --concurrency 1 --tasks-per-worker 1 \
                     --worker-memory 256 --largest-task 1MiB --runs on --longest-keep 1d --allow-addresses 10.0.0.0/8 --subnets a --security-groups a --permissions-boundary a --secrets-key a --key a --bucket-namespace global --metrics off --otlp-endpoint cloudwatch --otlp-headers-secret ssm:/a/b \
                     --log-retention 1 --alarm-topic a";
        let given = Options::parse_from(words.split_whitespace()).options.parameters();
        assert_eq!(given.len(), 21);
        for name in given.keys() {
            assert!(template_has(name), "{name} is not among {:?}", parameters().collect::<Vec<_>>());
        }
        assert!(!template_has("Type") && !template_has("Conditions"));
    }
}
