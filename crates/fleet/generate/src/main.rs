//! Makes the Rust of etcd's calls: `cargo run` in this folder.
//!
//! Owns: nothing but that. Must never: be part of a build.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = own.join("../proto");
    let files = protox::compile(["rpc.proto"], [&proto])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(own.join("../src/etcd/api"))
        .compile_fds(files)?;
    for (name, what, proto) in
        [("etcdserverpb", "etcd's calls", "rpc"), ("mvccpb", "etcd's keys and events", "kv")]
    {
        let file = own.join(format!("../src/etcd/api/{name}.rs"));
        let text = std::fs::read_to_string(&file)?;
        let head = format!(
            "//! {what}.\n//!\n//! Owns: the generated code of `proto/{proto}.proto`. Must never: be edited by hand.\n\n"
        );
        std::fs::write(file, head + &text)?;
    }
    Ok(())
}
