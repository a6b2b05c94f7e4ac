//! ACME beside the control plane: a worker process orders what its configuration names.
//!
//! Owns the way of what is issued to handshakes, and of challenges to handshakes and requests.

use acme::{AcmeHost, ClientConfig, OnDemandOrders};
use control::ControlHandle;
use engine::Config;
use engine::host::Level;
use engine::modules::acme::{AcmeLive, CertificateFacts, Issuer, Wanted};
use engine::modules::ssl::CertificateExpiry;
use process::log::ErrorLog;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use tls::{Issued, SYSTEM_AUTHORITIES, client_config};
use tokio::sync::watch;

/// The task that orders. Dropping it ends the task, and lets another process order.
pub(super) struct AcmeTask(watch::Sender<Arc<Config>>);

impl AcmeTask {
    /// Starts it on the control thread.
    pub(super) fn start(
        control: &ControlHandle,
        on_demand_orders: OnDemandOrders,
        config: Arc<Config>,
        issued: Issued,
        log: Arc<Mutex<ErrorLog>>,
    ) -> AcmeTask {
        let live = config.http.acme.live.clone();
        let (sender, configs) = watch::channel(config);
        control.run_beside(move || {
            acme::run(configs, Rc::new(WorkerAcmeHost { issued, live, log }), on_demand_orders)
        });
        AcmeTask(sender)
    }

    /// Orders what this configuration names from now on.
    pub(super) fn follow(&self, config: Arc<Config>) {
        self.0.send_replace(config);
    }
}

/// The traffic of this process.
struct WorkerAcmeHost {
    issued: Issued,
    live: AcmeLive,
    log: Arc<Mutex<ErrorLog>>,
}

impl AcmeHost for WorkerAcmeHost {
    fn client_config(&self, issuer: &Issuer) -> Result<Arc<ClientConfig>, String> {
        if !issuer.verify {
            return client_config(None, None).map(Arc::new);
        }
        if let Some(file) = &issuer.trusted {
            let made = client_config(Some(file.bytes()), None);
            return made.map(Arc::new).map_err(|why| format!("\"{}\": {why}", file.name));
        }
        self.web_config().map_err(|why| format!("{why}; use ssl_trusted_certificate"))
    }

    fn web_config(&self) -> Result<Arc<ClientConfig>, String> {
        let found = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
        let pem = found.ok_or("this system has no list of trusted authorities")?;
        client_config(Some(&pem), None).map(Arc::new)
    }

    fn install(&self, wanted: &Wanted, place: &str, pem: &[u8]) -> Result<CertificateFacts, String> {
        let facts = self.issued.install(wanted, pem)?;
        let expiry = CertificateExpiry { file: place.into(), until_s: facts.until_s };
        self.live.set_expiry(&wanted.id, expiry);
        Ok(facts)
    }

    fn answer_request(&self, token: &str, text: Option<&str>) {
        self.live.set_answer(token, text);
    }

    fn answer_handshake(&self, name: &str, certificate: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        self.issued.set_answer(name, certificate)
    }

    fn log(&self, level: Level, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write(level, 0, text.as_bytes());
    }
}
