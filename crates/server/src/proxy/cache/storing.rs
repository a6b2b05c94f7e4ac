//! A response that is kept while it passes by.

use super::files::{Unfinished, boot};
use super::name_for;
use crate::request::cx::RequestCx;
use cache::{BodyHash, KeyHash, StoredMeta};
use engine::host::Level;
use engine::modules::proxy;
use std::io;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(in crate::proxy) struct Storing {
    meta: StoredMeta,
    texts: Vec<u8>,
    name: KeyHash,
    file: Unfinished,
    hash: BodyHash,
    body_start: u64,
    body_len: u64,
}

impl Storing {
    /// Begins to keep a response. A disk that does not take it is logged, and no reason not to serve it.
    pub(in crate::proxy) fn begin(cx: &mut RequestCx<'_>, mut meta: StoredMeta) -> Option<Box<Storing>> {
        let config = Arc::clone(&cx.generation.config);
        let now_s = cx.client.thread.clock.now().epoch_s();
        let record = cx.exchange.upstream.cache.as_deref_mut()?;
        let zone = config.http.caches.get(record.zone)?;
        let name = name_for(record, &meta);
        if record.used.as_ref().is_none_or(|used| used.name() != name) {
            record.used = zone.zone.open_to_store(name, record.main, now_s);
            super::files::remove_excess(zone);
        }
        record.used.as_ref()?;
        meta.boot = boot();
        let texts = meta.texts();
        let temp = proxy::temp_path(cx.exchange, &config);
        let begun = Unfinished::begin(zone, &temp, &texts, &mut || cx.client.thread.random());
        match begun {
            Ok(file) => {
                let (body_start, hash) = (meta.body_start(), BodyHash::default());
                Some(Box::new(Storing { meta, texts, name, file, hash, body_start, body_len: 0 }))
            }
            Err(error) => {
                Self::failed(cx, &error);
                None
            }
        }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::proxy) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write(bytes, self.body_start + self.body_len)?;
        self.hash.update(bytes);
        self.body_len += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the response, which is whole.
    pub(in crate::proxy) fn finish(self: Box<Self>, cx: &mut RequestCx<'_>) {
        let Storing { mut meta, texts, name, file, hash, body_start, body_len } = *self;
        (meta.body_len, meta.body_hash) = (body_len, hash.finish());
        let config = Arc::clone(&cx.generation.config);
        let Some(record) = cx.exchange.upstream.cache.as_deref_mut() else { return };
        let Some(zone) = config.http.caches.get(record.zone) else { return };
        match file.finish(zone, name, &meta.record(&texts)) {
            Ok(()) => {
                if let Some(mut used) = record.used.take()
                    && !used.stored(body_start + body_len, record.purges)
                {
                    // Its key was purged meanwhile.
                    super::files::remove(zone, name);
                }
            }
            Err(error) => Self::failed(cx, &error),
        }
    }

    /// Logs that a response cannot be kept.
    pub(in crate::proxy) fn failed(cx: &mut RequestCx<'_>, error: &io::Error) {
        cx.log(Level::Crit, format!("a response cannot be kept: {error}"));
        super::end(cx);
    }
}
