//! Certificates for the tests of this crate, made by openssl.

use crate::pem;
use std::path::Path;
use std::process::Command;

/// Arguments that make a key.
pub(crate) const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";

/// Runs openssl in a folder, and returns its output.
pub(crate) fn openssl(folder: &Path, args: &str) -> String {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the certificate of a file.
pub(crate) fn der_of(folder: &Path, name: &str) -> Vec<u8> {
    pem::certificates(&std::fs::read(folder.join(name)).unwrap()).remove(0)
}
