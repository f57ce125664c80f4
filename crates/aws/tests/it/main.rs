//! The calls that the functions make without the crate of a service.

mod calls;
