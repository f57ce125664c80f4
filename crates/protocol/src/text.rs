//! Text in JSON that is read and not kept.

use std::borrow::Cow;

use serde::Deserialize;

/// A string; borrowed from the JSON unless it has escapes there, or the JSON is not in memory.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
