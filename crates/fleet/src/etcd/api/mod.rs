//! etcd's calls, made from `proto/` by `generate/`: `cargo run` there.
//!
//! Owns: the generated code. Must never: be edited by hand.

#![allow(missing_docs, unreachable_pub, clippy::all)]

pub(crate) mod etcdserverpb;
pub(crate) mod mvccpb;
