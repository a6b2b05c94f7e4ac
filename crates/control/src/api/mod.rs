//! The API: JSON over HTTP, on the control socket and in locations with `control_api`.
//!
//! Owns the paths, authentication, the forms of requests and answers, and their description (`/v1/openapi.json`). Must
//! never decide about a switch: every order goes to the [`ControlHandle`](crate::ControlHandle), and every refusal comes
//! from there or names a fault of the request itself.
//!
//! A request passes [`socket`] or [`location`] (that of a dashboard its [`front`](crate::dashboard), too) → [`auth`] → a handler in [`queries`], [`orders`], [`status`], [`reload`]
//! or [`events`] → the control service → [`view`] (its answer as JSON).

mod auth;
mod caches;
mod certificates;
mod context;
mod diff;
pub(crate) mod error;
mod events;
mod fleet;
mod group_view;
mod groups;
mod journal;
mod location;
mod openapi;
mod orders;
mod own_host;
mod queries;
mod reload;
mod request;
mod router;
mod series;
mod server_addresses;
mod servers;
mod socket;
mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod types;
mod view;
mod write_timeout;

pub(crate) use location::answer;
pub(crate) use socket::serve;
