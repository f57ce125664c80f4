//! Requests as they are signed and sent, and answers as they are read. The signatures were computed by botocore.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::time::StaticTimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_types::region::Region;
use wasq_aws::{OtherFunction, S3Objects, SdkConfig, SecretReader};
use wasq_protocol::{SecretError, SecretSource, SecretStore};

/// The time of the signatures: 2026-01-02T03:04:05Z.
const TIME: Duration = Duration::from_secs(1_767_323_045);

/// Answers each request with the next of its answers. Their bodies are streams, as those from the network are.
#[derive(Clone, Debug, Default)]
struct Scripted {
    requests: Arc<Mutex<Vec<HttpRequest>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

/// A status, headers and a body; `None`: the connection breaks.
type Answer = Option<(u16, &'static str, &'static str)>;

impl HttpConnector for Scripted {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.requests.lock().expect("no panic").push(request);
        let answer = self.answers.lock().expect("no panic").pop_front().expect("an answer is left");
        HttpConnectorFuture::ready(match answer {
            None => Err(ConnectorError::io("the connection broke".into())),
            Some((status, error_type, body)) => {
                let mut response = HttpResponse::new(
                    status.try_into().expect("a status"),
                    SdkBody::from_body_1_x(body.to_owned()),
                );
                if !error_type.is_empty() {
                    response.headers_mut().insert("x-amzn-errortype", error_type);
                }
                Ok(response)
            }
        })
    }
}

impl Scripted {
    fn new(answers: &[Answer]) -> Self {
        Self { requests: Arc::default(), answers: Arc::new(Mutex::new(answers.iter().copied().collect())) }
    }

    fn sdk(&self) -> SdkConfig {
        self.sdk_in("eu-central-1", None)
    }

    fn sdk_in(&self, region: &str, endpoint: Option<&str>) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        let client =
            http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone());
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret, Some("session".to_owned()), None, "test");
        let mut sdk = SdkConfig::builder()
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .time_source(StaticTimeSource::new(UNIX_EPOCH + TIME))
            .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
            .http_client(client);
        sdk.set_endpoint_url(endpoint.map(str::to_owned));
        sdk.build()
    }

    /// The method and address of each request.
    fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("no panic");
        requests.iter().map(|request| format!("{} {}", request.method(), request.uri())).collect()
    }

    #[track_caller]
    fn check_signature(&self, signed: &str, signature: &str) {
        let requests = self.requests.lock().expect("no panic");
        let authorization = requests.last().and_then(|request| request.headers().get("authorization"));
        let authorization = authorization.expect("it is signed");
        assert!(authorization.contains(&format!("SignedHeaders={signed}, ")), "{authorization}");
        assert!(authorization.ends_with(&format!("Signature={signature}")), "{authorization}");
    }
}

const OK: Answer = Some((200, "", "{}"));
const BUSY: Answer = Some((
    503,
    "",
    "<Error><Code>SlowDown</Code><Message>Please reduce &lt;your&gt; rate.</Message></Error>",
));
const NO_KEY: Answer = Some((
    404,
    "",
    "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>",
));

#[tokio::test]
async fn an_object_is_read_and_written() {
    let s3 = Scripted::new(&[OK, OK]);
    let objects = S3Objects::new(&s3.sdk(), "registry");
    assert_eq!(objects.get_whole("live/a task.json").await.expect("an answer"), Some(b"{}".to_vec()));
    s3.check_signature(
        "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "29f4055bafe87852a7b4ff00cd773989cb3490421728a9e1ad52d800b4f7b99f",
    );
    objects.put_json("results/a-1.json", b"{}".to_vec()).await.expect("an answer");
    s3.check_signature(
        "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "9e3225493c789d91095801cd62211e08781e15581b7e8b43bfa5fbf2446d3466",
    );
    assert_eq!(
        s3.asked(),
        [
            "GET https://registry.s3.eu-central-1.amazonaws.com/live/a%20task.json",
            "PUT https://registry.s3.eu-central-1.amazonaws.com/results/a-1.json"
        ]
    );
    let requests = s3.requests.lock().expect("no panic");
    assert_eq!(requests[1].body().bytes(), Some(b"{}".as_slice()));
}

#[tokio::test]
async fn the_address_of_a_bucket() {
    let address = async |region, endpoint, bucket| {
        let s3 = Scripted::new(&[OK]);
        S3Objects::new(&s3.sdk_in(region, endpoint), bucket).get("key").await.expect("an answer");
        s3.asked().remove(0).split_off("GET ".len())
    };
    let stand_in = Some("http://127.0.0.1:4566/");
    assert_eq!(address("eu-central-1", stand_in, "registry").await, "http://127.0.0.1:4566/registry/key");
    assert_eq!(
        address("us-east-1", None, "a.registry").await,
        "https://s3.us-east-1.amazonaws.com/a.registry/key"
    );
    assert_eq!(
        address("cn-north-1", None, "registry").await,
        "https://registry.s3.cn-north-1.amazonaws.com.cn/key"
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let s3 = Scripted::new(&[None, BUSY, OK]);
    let objects = S3Objects::new(&s3.sdk(), "registry");
    assert!(objects.get("key").await.expect("the third answer").is_some());
    assert_eq!(s3.asked().len(), 3);

    let s3 = Scripted::new(&[BUSY, BUSY, BUSY]);
    let objects = S3Objects::new(&s3.sdk(), "registry");
    let e = objects.put_json("key", b"{}".to_vec()).await.expect_err("three refusals");
    assert_eq!(format!("{e:#}"), "write s3://registry/key: SlowDown: Please reduce <your> rate.");
}

#[tokio::test]
async fn what_stays_is_not_tried_again() {
    let denied: Answer =
        Some((403, "", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"));
    let s3 = Scripted::new(&[NO_KEY, denied]);
    let objects = S3Objects::new(&s3.sdk(), "registry");
    assert_eq!(objects.get_whole("key").await.expect("an answer"), None);
    let e = objects.get_whole("key").await.expect_err("a refusal");
    assert_eq!(format!("{e:#}"), "read s3://registry/key: AccessDenied: Access Denied");
    assert_eq!(s3.asked().len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_no_error_of_aws() {
    let s3 = Scripted::new(&[Some((403, "", "<html>a proxy</html>"))]);
    let e = S3Objects::new(&s3.sdk(), "registry").get("key").await.expect_err("a refusal");
    assert_eq!(format!("{e:#}"), "read s3://registry/key: status 403: the service gave no reason");
}

#[tokio::test]
async fn another_function_is_invoked() {
    let lambda = Scripted::new(&[
        Some((202, "", "")),
        Some((404, "ResourceNotFoundException", "{\"Message\":\"Function not found\"}")),
    ]);
    let function = OtherFunction::new(&lambda.sdk(), "arn:aws:lambda:eu-central-1:123456789012:function:p");
    function.send(b"{}".to_vec()).await.expect("Lambda has it");
    lambda.check_signature(
        "content-type;host;x-amz-date;x-amz-invocation-type;x-amz-security-token",
        "e08d18c9e5dbccacf04b2a63f200b04f2cbf5120c2df140dfcb814004536e7a9",
    );
    let e = function.send(b"{}".to_vec()).await.expect_err("there is none");
    let said = format!("{e:#}");
    assert!(said.ends_with("function:p: ResourceNotFoundException: Function not found"), "{said}");
}

#[tokio::test]
async fn secrets() {
    let throttled: Answer =
        Some((400, "", "{\"__type\":\"ThrottlingException\",\"message\":\"Rate exceeded\"}"));
    let ssm = Scripted::new(&[throttled, Some((200, "", "{\"Parameter\":{\"Value\":\"a value\"}}"))]);
    let parameter = SecretSource::Parameter("/wasq/token".to_owned());
    let value = SecretReader::new(&ssm.sdk()).secret("TOKEN", &parameter).await.expect("the second answer");
    assert_eq!(value.reveal(), "a value");
    assert_eq!(ssm.asked()[1], "POST https://ssm.eu-central-1.amazonaws.com/");
    ssm.check_signature(
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
        "ff8bf7988c5c2a7bf9d6b987b02c31add7bad1ce59da67f7420daad93250ad96",
    );
    {
        let requests = ssm.requests.lock().expect("no panic");
        assert_eq!(requests[0].headers().get("x-amz-target"), Some("AmazonSSM.GetParameter"));
        assert_eq!(
            requests[0].body().bytes(),
            Some(br#"{"Name":"/wasq/token","WithDecryption":true}"#.as_slice())
        );
    }

    let missing = "{\"__type\":\"com.amazonaws.ssm#ParameterNotFound\"}";
    let denied = "{\"Message\":\"not authorized\"}";
    for (answer, said) in [
        ((400, "", missing), "SSM Parameter Store: ParameterNotFound: the service gave no reason"),
        (
            (400, "AccessDeniedException:http://x/", denied),
            "SSM Parameter Store: AccessDeniedException: not authorized",
        ),
    ] {
        let ssm = Scripted::new(&[Some(answer)]);
        let refused = SecretReader::new(&ssm.sdk()).secret("TOKEN", &parameter).await;
        assert!(matches!(&refused, Err(SecretError::Missing(why)) if why == said), "{refused:?}");
    }

    let manager = Scripted::new(&[
        Some((200, "", r#"{"SecretString":"{\"key\":\"of the manager\"}"}"#)),
        Some((200, "", r#"{"SecretBinary":"AA=="}"#)),
        Some((200, "", "no JSON, but a secret")),
    ]);
    let reader = SecretReader::new(&manager.sdk());
    let source = SecretSource::Secret { name: "all".to_owned(), key: Some("key".to_owned()) };
    assert_eq!(reader.secret("KEY", &source).await.expect("a value").reveal(), "of the manager");
    assert_eq!(manager.asked()[0], "POST https://secretsmanager.eu-central-1.amazonaws.com/");
    let refused = reader.secret("KEY", &source).await;
    assert!(matches!(&refused, Err(SecretError::Missing(why)) if why.contains("only bytes")), "{refused:?}");
    let refused = reader.secret("KEY", &source).await;
    let Err(SecretError::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert_eq!(why, "Secrets Manager: its answer cannot be read");
}

/// Collects the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_gets_into_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    // For all tests of this program: one that belongs to a thread misses what other threads have used first.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let ssm = Scripted::new(&[Some((200, "", "{\"Parameter\":{\"Value\":\"a value to hide\"}}"))]);
    let parameter = SecretSource::Parameter("/wasq/token".to_owned());
    SecretReader::new(&ssm.sdk()).secret("TOKEN", &parameter).await.expect("an answer");
    let log = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    assert!(log.contains("transmitting request"), "the SDK logs nothing: {log}");
    // As text, and as a list of bytes.
    assert!(!log.contains("a value to hide") && !log.contains("97, 32, 118, 97"), "{log}");
}
