//! `types`: from a file's extension to its media type.

use std::collections::HashMap;

/// Extensions in lower case, and their types.
#[derive(Clone, Debug)]
pub struct Types(HashMap<Box<[u8]>, Box<[u8]>>);

impl Default for Types {
    /// Returns the types that nginx has without a `types` block.
    fn default() -> Self {
        let mut types = Types::empty();
        for (extension, kind) in [("html", "text/html"), ("gif", "image/gif"), ("jpg", "image/jpeg")] {
            types.insert(extension.as_bytes(), kind.as_bytes());
        }
        types
    }
}

impl Types {
    /// Returns a table without any type.
    pub fn empty() -> Types {
        Types(HashMap::new())
    }

    /// Enters an extension, whatever its case; answers the type it had before.
    pub fn insert(&mut self, extension: &[u8], kind: &[u8]) -> Option<Box<[u8]>> {
        self.0.insert(extension.to_ascii_lowercase().into(), kind.into())
    }

    /// Returns the type of an extension, whatever its case.
    pub fn get(&self, extension: &[u8]) -> Option<&[u8]> {
        if !extension.iter().any(u8::is_ascii_uppercase) {
            return self.0.get(extension).map(|kind| &**kind);
        }
        self.0.get(&*extension.to_ascii_lowercase()).map(|kind| &**kind)
    }
}

/// Returns the extension of a URI (ngx_http_set_exten): what follows the last dot of the last segment, unless the
/// segment
/// begins with that dot.
pub fn extension(uri: &[u8]) -> &[u8] {
    match memchr::memrchr2(b'.', b'/', uri) {
        Some(at) if at > 1 && uri[at] == b'.' && uri[at - 1] != b'/' => &uri[at + 1..],
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_nginx_s() {
        for (uri, expected) in [
            ("/a.html", "html"),
            ("/a.tar.gz", "gz"),
            ("/.htaccess", ""),
            ("/d/.x", ""),
            ("/d.e/f", ""),
            ("/a.", ""),
            ("/..x", "x"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(extension(uri.as_bytes()), expected.as_bytes(), "{uri}");
        }
    }

    #[test]
    fn extensions_ignore_case() {
        let mut types = Types::default();
        assert_eq!(types.insert(b"HTML", b"text/x"), Some(b"text/html"[..].into()));
        assert_eq!(types.get(b"hTml"), Some(&b"text/x"[..]));
        assert_eq!(types.get(b"GIF"), Some(&b"image/gif"[..]));
        assert_eq!(types.get(b"png"), None);
    }
}
