//! The SQS endpoint of `wasq dev`, over its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use wasq_local::{Log, Secrets, Stack, StackConfig};
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
        tasks: folder.path().join("tasks"),
        log: Log::open(&data).expect("a log"),
        data,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        concurrency: 2,
        memory: ByteCount::mib(4096),
        lease: Duration::from_secs(30),
        allow_addresses: Vec::new(),
        secrets: Secrets::new(|_| None, folder.path().join("secrets.toml")),
    };
    let stack = runtime.block_on(Stack::start(config)).expect("a stack");
    Server { address: stack.address(), _stack: stack, _runtime: runtime, _folder: folder }
});

/// Who waits longer than this (for the end of a long poll, or of what never ends) goes away.
const PATIENCE: Duration = Duration::from_millis(200);
/// Who asks for something that takes no time can wait for a busy machine.
const LONG_PATIENCE: Duration = Duration::from_secs(20);

/// A request: the action on the first line and its JSON behind it; or, behind a first line `RAW`, what goes over the socket.
pub fn sqs_endpoint(data: &[u8]) {
    let (action, body) = match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    if action == b"RAW" {
        let _ = exchange(body, PATIENCE);
    } else if let Some(answer) = call(action, body, PATIENCE) {
        let status = status(&answer);
        assert!((200..500).contains(&status), "{}", String::from_utf8_lossy(&answer));
    }
    let answer = call(b"ListQueues", b"{}", LONG_PATIENCE).expect("it answers everybody else");
    assert_eq!(status(&answer), 200, "{}", String::from_utf8_lossy(&answer));
}

fn call(action: &[u8], body: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut request =
        b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-amz-target: AmazonSQS.".to_vec();
    // What is no header is tried by RAW.
    request.extend(action.iter().filter(|byte| byte.is_ascii_graphic()));
    request.extend(format!("\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend(body);
    exchange(&request, patience)
}

/// The answer; `None` if there was none in time.
fn exchange(request: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER.address).expect("it listens");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    // It may have heard enough.
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
