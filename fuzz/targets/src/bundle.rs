//! The record of a parse that one process hands to another: `conf::Bundle`.
//!
//! Compares accepted bytes with their encoding, and a record of an input's own files with a parse of the files themselves.

use crate::files::{MAIN, split};
use conf::{Bundle, Loader, RecordingLoader};

pub(crate) fn check(data: &[u8]) {
    if let Some(bundle) = Bundle::from_bytes(data) {
        let bytes = bundle.to_bytes();
        assert_eq!(Bundle::from_bytes(&bytes).as_ref(), Some(&bundle));
        assert!(bytes.len() <= data.len(), "no more than there was");
    }
    let (_, files) = split(data);
    let recorder = RecordingLoader::new(&files);
    let parsed = conf::parse(MAIN.as_ref(), &recorder);
    let bundle = recorder.into_bundle();
    let bytes = bundle.to_bytes();
    let Some(carried) = Bundle::from_bytes(&bytes) else { panic!("its own bytes") };
    assert_eq!(carried, bundle);
    let again = conf::parse(MAIN.as_ref(), &carried as &dyn Loader);
    assert_eq!(again.diagnostics, parsed.diagnostics);
    assert_eq!(format!("{:?}", again.tree), format!("{:?}", parsed.tree));
    for end in [bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(Bundle::from_bytes(&bytes[..end]), None, "half of it is none");
    }
}
