//! The API: JSON over HTTP, on the control socket and in locations with `control_api`.
//!
//! Owns the paths, who may use them, the forms of questions and answers, and the description of all of it
//! (`/v1/openapi.json`). Must never decide about a switch: every order goes to the [`Office`](crate::Office), and every
//! refusal comes from there or says what is wrong with the request itself.
//!
//! A request walks: [`socket`] or [`location`] → [`entry`] (who is it, and may they) → a handler in [`questions`],
//! [`orders`], [`figures`], [`reload`] or [`events`] → the office → [`view`] (what it says, as JSON).

mod entry;
mod events;
mod figures;
mod location;
mod openapi;
mod orders;
mod own_host;
mod questions;
mod refused;
mod reload;
mod request;
mod router;
mod socket;
#[cfg(test)]
mod tests;
pub mod types;
mod view;

pub(crate) use location::answer;
pub(crate) use socket::serve;
