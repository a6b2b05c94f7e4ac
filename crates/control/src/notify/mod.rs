//! The newest commit of each history, sent elsewhere: what is kept there shows a history that was cut off or put back.
//!
//! Owns what is sent ([`HeadNotice`]), and how it gets there ([`Delivery`]): in its order, and again until it was taken, where the
//! place can say so. Must never hold up an order.

mod delivery;
mod notice;

pub(crate) use delivery::Delivery;
pub(crate) use notice::HeadNotice;
