//! Content codings of responses (RFC 9110, 8.4): `wasq:task/http` asks for them and decodes them.

use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The codings that [`decode`] knows, as a request asks for them.
pub(crate) const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// A response may have this many codings, one over the other. Servers use one.
const CODINGS_MAX: usize = 3;
/// The window that a zstd response may ask for, in bytes. RFC 9659 allows no more.
const ZSTD_WINDOW_MAX: u64 = 8 << 20;
/// A frame without content takes a few bytes, and starting a decoder takes longer than that.
const ZSTD_FRAMES_MAX: usize = 1000;
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// Why a body could not be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It has more than the allowed bytes when it is decoded.
    TooLarge,
    /// It is not what its header says.
    Invalid(String),
}

/// Decodes a body by the value of its header `content-encoding`. Returns `None` if one of the codings is not
/// known, or there is none; then the body stays as it is.
///
/// The work stops when more than `bytes_max` bytes have come out, of any of the codings.
pub(crate) fn decode(header: &str, body: &[u8], bytes_max: usize) -> Option<Result<Vec<u8>, DecodeError>> {
    let names = header.split(',').map(|name| name.trim().to_ascii_lowercase());
    let codings: Vec<_> = names.filter(|name| name != "identity" && !name.is_empty()).collect();
    if codings.is_empty() || codings.len() > CODINGS_MAX || body.is_empty() {
        return None;
    }
    let mut codings =
        codings.iter().rev().map(|name| Coding::of(name)).collect::<Option<Vec<_>>>()?.into_iter();
    let first = codings.next()?.decode(body, bytes_max);
    Some(codings.fold(first, |body, coding| coding.decode(&body?, bytes_max)))
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn decode(self, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoded = Vec::new();
        // One byte more shows that there are too many.
        let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        let read = match self {
            Self::Gzip => MultiGzDecoder::new(body).take(most).read_to_end(&mut decoded),
            // Some servers send deflate without the zlib header that the standard asks for.
            Self::Deflate if has_zlib_header(body) => {
                ZlibDecoder::new(body).take(most).read_to_end(&mut decoded)
            }
            Self::Deflate => DeflateDecoder::new(body).take(most).read_to_end(&mut decoded),
            Self::Brotli => Decompressor::new(body, BROTLI_BUFFER_BYTES).take(most).read_to_end(&mut decoded),
            Self::Zstd => read_zstd(body, most, &mut decoded),
        };
        if let Err(e) = read {
            return Err(DecodeError::Invalid(format!("the body is not valid {}: {e}", self.name())));
        }
        if decoded.len() > bytes_max {
            return Err(DecodeError::TooLarge);
        }
        Ok(decoded)
    }
}

/// Reads all frames of a zstd body, until `most` bytes have come out.
fn read_zstd(mut body: &[u8], most: u64, decoded: &mut Vec<u8>) -> io::Result<usize> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_MAX);
    for _ in 0..ZSTD_FRAMES_MAX {
        if body.is_empty() {
            return Ok(decoded.len());
        }
        match StreamingDecoder::new_with_decoder(&mut body, &mut decoder) {
            Ok(frame) => {
                let left = most.saturating_sub(decoded.len() as u64);
                frame.take(left).read_to_end(decoded)?;
                if decoded.len() as u64 >= most {
                    return Ok(decoded.len());
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let skipped = body.get(length as usize..);
                body = skipped.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Err(e) => return Err(io::Error::other(e)),
        }
    }
    Err(io::Error::other(format!("it has more than {ZSTD_FRAMES_MAX} frames")))
}

fn has_zlib_header(body: &[u8]) -> bool {
    let [method, flags, ..] = *body else { return false };
    method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
}
