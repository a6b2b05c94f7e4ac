//! The members of etcd: which one is asked, and the token that it asks for.
//!
//! Owns: the channels. A member that fails is passed over for the next call. Must never: balance calls; one member at a time is
//! asked, so that what is known of it is known.

use super::EtcdSettings;
use super::api::etcdserverpb::AuthenticateRequest;
use super::api::etcdserverpb::auth_client::AuthClient;
use super::fault;
use crate::fault::FleetFault;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// The field of a call with the token.
const TOKEN: &str = "token";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

pub(super) struct Members {
    settings: EtcdSettings,
    /// The number of the one that is asked.
    current: Cell<usize>,
    channel: RefCell<Option<Channel>>,
    token: RefCell<Option<MetadataValue<Ascii>>>,
}

impl Members {
    pub(super) fn new(settings: EtcdSettings) -> Members {
        Members { settings, current: Cell::new(0), channel: RefCell::default(), token: RefCell::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.settings.urls.len()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Returns all members, for people.
    pub(super) fn place(&self) -> String {
        self.settings.urls.join(", ")
    }

    /// Returns the member that is asked, with a channel to it, connected and let in.
    pub(super) async fn channel(&self) -> Result<(String, Channel), FleetFault> {
        let urls = &self.settings.urls;
        let url = urls.get(self.current.get() % urls.len().max(1)).cloned().unwrap_or_default();
        let known = self.channel.borrow().clone();
        let channel = match known {
            Some(channel) => channel,
            None => {
                let endpoint = Endpoint::from_shared(url.clone())
                    .map_err(|error| fault::unusable(&url, &error.to_string()))?
                    .connect_timeout(CONNECT)
                    .tcp_nodelay(true);
                // A host that drops packets does not say so.
                let connected = tokio::time::timeout(CONNECT * 2, endpoint.connect()).await;
                let connected =
                    connected.map_err(|_| fault::unreachable(&url, "the connection takes too long"))?;
                let channel = connected.map_err(|error| fault::unreachable(&url, &causes(&error)))?;
                *self.channel.borrow_mut() = Some(channel.clone());
                channel
            }
        };
        if self.token.borrow().is_none()
            && let Some((name, password)) = self.settings.user.clone()
        {
            let asked = AuthenticateRequest { name, password };
            let mut client = AuthClient::new(channel.clone());
            let let_in = tokio::time::timeout(self.settings.timeout, client.authenticate(asked)).await;
            let let_in = let_in.map_err(|_| fault::unreachable(&url, "it does not answer in time"))?;
            let token = let_in.map_err(|status| fault::of(&url, Some(&status), self.settings.timeout).0)?;
            let token = token.into_inner().token;
            let token = token.parse().map_err(|_| fault::unusable(&url, "its token is no text"))?;
            *self.token.borrow_mut() = Some(token);
        }
        Ok((url, channel))
    }

    /// Returns a call with the token, if there is one.
    pub(super) fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &*self.token.borrow() {
            request.metadata_mut().insert(TOKEN, token.clone());
        }
        request
    }

    /// Makes the next call ask for a new token. Returns false if there was none.
    pub(super) fn forget_token(&self) -> bool {
        self.token.borrow_mut().take().is_some()
    }

    /// Makes the next call ask another member.
    pub(super) fn pass_over(&self) {
        self.current.set((self.current.get() + 1) % self.count().max(1));
        *self.channel.borrow_mut() = None;
        *self.token.borrow_mut() = None;
    }
}

/// Returns an error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
