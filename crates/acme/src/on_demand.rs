//! Orders that only handshakes ask for: whether they may have one, and what they have had before.

use crate::certificate::Certificate;
use crate::client::{self, now_s};
use crate::folder::Folder;
use crate::on_demand_orders::OnDemandOrder;
use crate::service::IssuerTask;
use engine::host::Level;
use engine::modules::acme::Permission;

/// How long a name is left alone that a server does not allow.
const NOT_ALLOWED_S: u64 = 60;

impl IssuerTask {
    /// Finds the certificates that handshakes have asked for before.
    pub(crate) fn find_demanded(&mut self, folder: &Folder) {
        if self.on_demand.is_empty() {
            return;
        }
        for file in folder.certificates() {
            if self.certificates.iter().any(|known| known.file == file) {
                continue;
            }
            let Some((name, _)) = file.rsplit_once('-') else { continue };
            let all = self.on_demand.iter().map(|it| Certificate::on_demand(&it.wanted(name)));
            let found = all.into_iter().find(|certificate| certificate.file == file);
            self.certificates.extend(found);
        }
    }

    /// Orders what a handshake has asked for, if it may have it.
    pub(crate) async fn order_demanded(&mut self, order: OnDemandOrder, folder: Option<&Folder>) {
        let OnDemandOrder { on_demand, name, wanted } = order;
        let now = now_s();
        let until_s = match self.may_order(&on_demand.permission, &name, now).await {
            Ok(()) => {
                let known = self.certificates.iter().position(|known| known.wanted.id == wanted.id);
                let at = known.unwrap_or_else(|| {
                    self.certificates.push(Certificate::on_demand(&wanted));
                    self.certificates.len() - 1
                });
                let until_s = self.attempt(at, folder).await;
                self.certificates[at].due_s = u64::MAX;
                until_s
            }
            Err(until_s) => Some(until_s),
        };
        if let Some(until_s) = until_s {
            self.on_demand_orders.refuse(&wanted.id, until_s);
        }
    }

    /// Returns whether a certificate may be ordered on demand now; the error is until when not.
    async fn may_order(&mut self, permission: &Permission, name: &str, now: u64) -> Result<(), u64> {
        if now < self.pause.0 {
            return Err(self.pause.0);
        }
        // Of a switch, the thread of the handshake has looked into the table.
        if let Permission::Ask(address) = permission {
            let answer = match self.host.web_config() {
                Ok(config) => client::may_have(address, name, config).await,
                Err(why) => Err(why),
            };
            let (level, why) = match answer {
                Ok(true) => (Level::Info, None),
                Ok(false) => (Level::Info, Some("it does not allow it".to_owned())),
                Err(why) => (Level::Error, Some(why)),
            };
            if let Some(why) = why {
                self.log(level, format_args!("no certificate for {name}: {address}: {why}"));
                return Err(now + NOT_ALLOWED_S);
            }
        }
        let limit = self.issuer.on_demand_per_hour;
        self.on_demand_orders.spend(&self.issuer.name, limit, now).inspect_err(|_| {
            let text = "orders on demand in an hour are its on_demand_limit";
            self.log(Level::Warn, format_args!("no certificate for {name}: {limit} {text}"));
        })
    }
}
