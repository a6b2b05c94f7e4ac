//! Tests of the crate from outside: seeded simulations, and comparison with a real nginx.

mod health;
mod nginx_picks;
mod seeded;
mod simulation;
