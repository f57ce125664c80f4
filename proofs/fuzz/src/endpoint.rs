//! The SQS endpoint of `wasq dev`, over its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use wasq_local::{CompileLimits, LocalSecrets, Log, Stack, StackConfig};
use wasq_protocol::ByteCount;

struct Server {
    address: SocketAddr,
    _stack: Stack,
    _runtime: Runtime,
    _folder: TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let runtime = Runtime::new().expect("a runtime");
    let config = StackConfig {
        exporter: None,
        projects: Vec::new(),
        tasks: folder.path().join("tasks"),
        log: Log::open(&data).expect("a log"),
        // Nothing is compiled: there is no task.
        compile: CompileLimits {
            memory: ByteCount::mib(512),
            processor: Duration::from_secs(60),
            time: Duration::from_secs(60),
            at_once: 1,
        },
        function_cache: None,
        data,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        allow_hosts: Vec::new(),
        concurrency: 2,
        memory: ByteCount::mib(4096),
        lease: Duration::from_secs(30),
        allow_addresses: Vec::new(),
        secrets: LocalSecrets::new(|_| None, folder.path().join("secrets.toml")),
    };
    let stack = runtime.block_on(Stack::start(config)).expect("a stack");
    Server { address: stack.address(), _stack: stack, _runtime: runtime, _folder: folder }
});

/// The time after which the client gives up: at a long poll, or at an answer that never ends.
const PATIENCE: Duration = Duration::from_millis(200);
/// The time after which the client gives up on a request that needs no time; long, because the machine may be
/// busy.
const LONG_PATIENCE: Duration = Duration::from_secs(20);

/// A request. The first line is the action, and the rest is its JSON. After a first line `FORM`, the rest is a form of the
/// older protocol. After a first line `RAW`, the rest goes over the socket as it is.
pub fn sqs_endpoint(data: &[u8]) {
    let (action, body) = match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    if action == b"RAW" {
        let _ = exchange(body, PATIENCE);
    } else if action == b"FORM" {
        if let Some(answer) = post(b"content-type: application/x-www-form-urlencoded", body, PATIENCE) {
            let status = status(&answer);
            let text = String::from_utf8_lossy(&answer);
            assert!((200..500).contains(&status) && text.contains("<?xml"), "{text}");
        }
    } else if let Some(answer) = call(action, body, PATIENCE) {
        let status = status(&answer);
        assert!((200..500).contains(&status), "{}", String::from_utf8_lossy(&answer));
    }
    let answer = call(b"ListQueues", b"{}", LONG_PATIENCE).expect("the endpoint still answers");
    assert_eq!(status(&answer), 200, "{}", String::from_utf8_lossy(&answer));
}

fn call(action: &[u8], body: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut header = b"x-amz-target: AmazonSQS.".to_vec();
    // Inputs with `RAW` try the bytes that a header cannot contain.
    header.extend(action.iter().filter(|byte| byte.is_ascii_graphic()));
    post(&header, body, patience)
}

fn post(header: &[u8], body: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut request = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".to_vec();
    request.extend(header);
    request.extend(format!("\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend(body);
    exchange(&request, patience)
}

/// The answer; `None` if there was none in time.
fn exchange(request: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER.address).expect("it listens");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    // The server may have closed the connection already.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        _ => Some(answer),
    }
}

fn status(answer: &[u8]) -> u16 {
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    head.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {head:?}"))
}
