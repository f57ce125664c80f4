//! Publishing over a real folder-like bucket in memory: what goes live, and what does not.

mod publish;
