//! Policies of IAM and of resources, reduced to the parts that the doctor looks at.

use serde_json::Value;

/// One statement of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) allows: bool,
    /// The principals: `*`, an ARN or a service; none in a role's own policy.
    pub(crate) principals: Vec<String>,
    pub(crate) actions: Vec<String>,
    pub(crate) resources: Vec<String>,
    /// Whether it names exceptions (`NotAction`, `NotResource`, `NotPrincipal`), and applies to everything
    /// else.
    pub(crate) inverted: bool,
    /// The condition as JSON; null if there is none.
    pub(crate) condition: Value,
}

/// Condition keys that limit a statement to certain callers.
const RESTRICTING: [&str; 9] = [
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalOrgID",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIp",
    "aws:SourceVpc",
    "aws:SourceVpce",
    "aws:userid",
];

/// The statements of a policy document.
pub(crate) fn statements(document: &Value) -> Vec<Statement> {
    many(document.get("Statement")).into_iter().map(statement).collect()
}

fn statement(value: &Value) -> Statement {
    let principal = value.get("Principal");
    let principals = match principal {
        Some(Value::Object(kinds)) => kinds.values().flat_map(|kind| texts(Some(kind))).collect(),
        principal => texts(principal),
    };
    Statement {
        allows: value.get("Effect").and_then(Value::as_str) == Some("Allow"),
        principals,
        actions: texts(value.get("Action")),
        resources: texts(value.get("Resource")),
        inverted: ["NotAction", "NotResource", "NotPrincipal"].iter().any(|key| value.get(key).is_some()),
        condition: value.get("Condition").cloned().unwrap_or_default(),
    }
}

/// The values under a key. IAM writes a single value without a list.
fn many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    many(value).into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Statement {
    /// Whether it opens something to everybody: to any principal, without a condition on the caller or the
    /// source of the call.
    pub(crate) fn is_public(&self) -> bool {
        let anybody = self.inverted || self.principals.iter().any(|who| who == "*");
        self.allows && anybody && !RESTRICTING.iter().any(|key| self.condition_on(key).is_some())
    }

    /// The value that its condition has for a key, as JSON.
    pub(crate) fn condition_on(&self, key: &str) -> Option<String> {
        let operators = self.condition.as_object()?.values().filter_map(Value::as_object);
        let mut values = operators.flat_map(|operator| operator.iter());
        values.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.to_string())
    }

    /// Whether it covers an action such as `s3:PutObject`.
    pub(crate) fn covers(&self, action: &str) -> bool {
        self.inverted || self.actions.iter().any(|pattern| matches(pattern, action))
    }

    /// Whether it covers a resource itself, or anything in the resource.
    pub(crate) fn reaches(&self, arn: &str) -> bool {
        self.inverted
            || self.resources.iter().any(|pattern| {
                matches(pattern, arn)
                    || matches(pattern, &format!("{arn}/x"))
                    || pattern.starts_with(&format!("{arn}/"))
            })
    }

    /// Whether all its resources begin with this text.
    pub(crate) fn is_within(&self, prefix: &str) -> bool {
        !self.inverted && self.resources.iter().all(|resource| resource.starts_with(prefix))
    }

    /// The reason why it is too wide for a role of wasq's. Such a role names every action and every resource.
    pub(crate) fn too_wide(&self) -> Option<String> {
        if !self.allows {
            return None;
        }
        if self.inverted {
            return Some("it allows everything except the things that it names".to_owned());
        }
        let action = self.actions.iter().find(|action| action.contains('*'));
        let unnamed = self.actions.iter().all(|action| UNNAMED.contains(&action.as_str()));
        let resource = self.resources.iter().find(|resource| !unnamed && !names_one(resource));
        match (action, resource) {
            (Some(action), _) => Some(format!("it allows the action {action}")),
            (None, Some(resource)) => Some(format!("it allows {} on {resource}", self.actions.join(", "))),
            (None, None) => None,
        }
    }
}

/// Actions without resources: Lambda connects a function to subnets by network interfaces, which have no names before they are made.
const UNNAMED: [&str; 4] = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
    "scheduler:ListSchedules",
];

/// Whether an ARN names one resource, or the contents of one. A star may be only at the end, after a name.
fn names_one(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':').skip(2);
    let service = parts.next().unwrap_or_default();
    let resource = parts.nth(2).unwrap_or_default();
    let name = resource.strip_suffix(":*").or_else(|| resource.strip_suffix("/*")).unwrap_or(resource);
    // ARNs of most services have a type before the name. A type alone matches many resources.
    let typed = !["s3", "sqs", "sns"].contains(&service);
    let place = &arn[..arn.len() - resource.len()];
    !place.contains('*') && !name.is_empty() && !name.contains('*') && (!typed || name.contains([':', '/']))
}

/// Matches IAM's patterns: `*` is any text, `?` any character. Case is ignored: IAM ignores it in actions,
/// and no two ARNs of wasq differ only in case.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    fn rest(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', pattern)) => (0..=text.len()).any(|n| rest(pattern, &text[n..])),
            Some((b'?', pattern)) => text.split_first().is_some_and(|(_, text)| rest(pattern, text)),
            Some((byte, pattern)) => {
                text.split_first().is_some_and(|(b, text)| b == byte && rest(pattern, text))
            }
        }
    }
    rest(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(statement: Value) -> Statement {
        let [statement] = <[_; 1]>::try_from(statements(&json!({ "Statement": statement }))).expect("one");
        statement
    }

    #[test]
    fn what_names_everything_is_not_too_wide() {
        let own = one(
            json!({"Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": "arn:aws:sqs:eu-west-1:1:q"}),
        );
        assert_eq!(own.too_wide(), None);
        let objects =
            one(json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::b/live/*"]}));
        assert_eq!(objects.too_wide(), None);
        let logs = "arn:aws:logs:eu-west-1:1:log-group:/aws/lambda/wasq-worker:*";
        assert_eq!(
            one(json!({"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": logs})).too_wide(),
            None
        );
        let network = json!({"Effect": "Allow", "Action": ["ec2:CreateNetworkInterface"], "Resource": "*"});
        assert_eq!(one(network).too_wide(), None);
        let denied = one(json!({"Effect": "Deny", "Action": "*", "Resource": "*"}));
        assert_eq!(denied.too_wide(), None);
    }

    #[test]
    fn stars_are_too_wide() {
        for (action, resource) in [
            ("*", "arn:aws:sqs:eu-west-1:1:q"),
            ("sqs:*", "arn:aws:sqs:eu-west-1:1:q"),
            ("sqs:Send*", "arn:aws:sqs:eu-west-1:1:q"),
            ("sqs:SendMessage", "*"),
            ("sqs:SendMessage", "arn:aws:sqs:*:1:q"),
            ("s3:GetObject", "arn:aws:s3:::*"),
            ("lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:1:function:*"),
        ] {
            let statement = one(json!({"Effect": "Allow", "Action": action, "Resource": resource}));
            assert!(statement.too_wide().is_some(), "{action} {resource}");
        }
        assert!(
            one(json!({"Effect": "Allow", "NotAction": "s3:PutObject", "Resource": "a:b"}))
                .too_wide()
                .is_some()
        );
    }

    #[test]
    fn the_public_is_everybody_without_a_condition() {
        let open = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"});
        assert!(one(open.clone()).is_public());
        let mut conditional = open.clone();
        conditional["Condition"] = json!({"StringEquals": {"aws:SourceAccount": "1"}});
        assert!(!one(conditional).is_public());
        let mut encrypted = open.clone();
        encrypted["Condition"] = json!({"Bool": {"aws:SecureTransport": "true"}});
        assert!(one(encrypted).is_public(), "TLS keeps nobody out");
        let mut denied = open;
        denied["Effect"] = json!("Deny");
        assert!(!one(denied).is_public());
    }

    #[test]
    fn a_statement_reaches_what_its_patterns_match() {
        let writes =
            one(json!({"Effect": "Allow", "Action": "s3:Put*", "Resource": "arn:aws:s3:::reg/compiled/*"}));
        assert!(writes.covers("s3:PutObject") && !writes.covers("s3:GetObject"));
        assert!(writes.reaches("arn:aws:s3:::reg") && !writes.reaches("arn:aws:s3:::registry"));
        assert!(one(json!({"Effect": "Allow", "Action": "*", "Resource": "*"})).reaches("arn:aws:s3:::reg"));
    }
}
