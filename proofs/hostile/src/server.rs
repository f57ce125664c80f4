//! Servers that mean harm, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a server with these paths:
///
/// - `/endless` never stops sending.
/// - `/slow` sends one byte every second.
/// - `/silent` sends nothing.
/// - `/headers` sends headers without an end.
/// - `/garbage` sends bytes that are not HTTP.
/// - `/short` sends less than it promised.
/// - `/moved` redirects to the metadata service.
pub async fn start() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // When the client closes the connection, writing fails, and the task ends.
            tokio::spawn(async move {
                let _ = answer(stream).await;
            });
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let begin = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    match path {
        "/endless" => {
            stream.write_all(begin).await?;
            stream.write_all(b"\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 16 << 10]).await?;
            }
        }
        "/slow" => {
            stream.write_all(begin).await?;
            stream.write_all(b"content-length: 1000\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        "/headers" => {
            stream.write_all(begin).await?;
            loop {
                stream.write_all(b"x-more: and more\r\n").await?;
            }
        }
        "/garbage" => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await,
        "/short" => {
            stream.write_all(begin).await?;
            stream.write_all(b"content-length: 1000\r\n\r\nshort").await
        }
        "/moved" => {
            stream
                .write_all(
                    b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
                )
                .await
        }
        // "/silent": waits until the client closes the connection.
        _ => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(drop)
        }
    }
}
