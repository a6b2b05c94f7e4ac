//! Where a key leads: one target, or several with shares.
//!
//! Owns how a share of the clients is chosen, and how a route is written.
//! Must never remember a client: the same point and the same shares give the same target, on every machine.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// How many targets a split may have.
pub const MAX_SHARES: usize = 32;

/// Where an entry leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Everything goes to one target.
    One(Arc<str>),
    /// Each client goes to one of several, by their shares.
    Split(Split),
}

/// Several targets with shares. Two with the same shares in another order are equal: they send each client the same way.
#[derive(Debug, Clone)]
pub struct Split {
    shares: Arc<[Share]>,
}

/// One target of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The upstream group.
    pub target: Arc<str>,
    /// Its weight against the others'. 0 gets nobody.
    pub weight: u32,
    /// Of its name, so that a pick hashes no text.
    hash: u64,
}

/// Why a text or a list of shares is no route. `Display` says it to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFault {
    /// Nothing is written.
    Empty,
    /// White space, a control character or `=` in a target's name: it could not be written in a route.
    BadTarget(String),
    /// Not a whole number from 0 to 4294967295 behind the `=`.
    BadWeight(String),
    /// A name without `=` among several.
    NoWeight(String),
    /// A target twice.
    Double(String),
    /// All weights are 0: nobody would be served.
    NoWeightAtAll,
    /// More than [`MAX_SHARES`].
    TooMany(usize),
}

impl fmt::Display for RouteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteFault::Empty => write!(f, "it names no target"),
            RouteFault::BadTarget(name) => write!(f, "{name:?} cannot be the name of a target"),
            RouteFault::BadWeight(text) => write!(f, "{text:?} is no share (a whole number)"),
            RouteFault::NoWeight(name) => write!(f, "\"{name}\" has no share ({name}=NUMBER)"),
            RouteFault::Double(name) => write!(f, "\"{name}\" is there twice"),
            RouteFault::NoWeightAtAll => write!(f, "all its shares are 0"),
            RouteFault::TooMany(count) => write!(f, "it has {count} targets, and {MAX_SHARES} are allowed"),
        }
    }
}

impl std::error::Error for RouteFault {}

impl Split {
    /// Targets with their weights, in the order in which they are shown.
    ///
    /// # Errors
    /// No target, more than [`MAX_SHARES`], one twice, a name no route can be written with, or no weight above 0.
    pub fn new(shares: Vec<(Arc<str>, u32)>) -> Result<Split, RouteFault> {
        if shares.is_empty() {
            return Err(RouteFault::Empty);
        }
        if shares.len() > MAX_SHARES {
            return Err(RouteFault::TooMany(shares.len()));
        }
        for (at, (target, _)) in shares.iter().enumerate() {
            if !Route::may_name(target) {
                return Err(RouteFault::BadTarget(target.to_string()));
            }
            if shares[..at].iter().any(|(earlier, _)| earlier == target) {
                return Err(RouteFault::Double(target.to_string()));
            }
        }
        if shares.iter().all(|&(_, weight)| weight == 0) {
            return Err(RouteFault::NoWeightAtAll);
        }
        let shares = shares
            .into_iter()
            .map(|(target, weight)| Share { hash: xxh3_64(target.as_bytes()), target, weight })
            .collect();
        Ok(Split { shares })
    }

    /// Its targets with their weights, as they were written.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The sum of the weights.
    pub fn total(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.weight)).sum()
    }

    /// Weighted rendezvous hashing: each target draws its own number from the client's point and its name, and the
    /// smallest −ln(u)/weight wins. A target's number depends on no other target, so a weight that goes up can only
    /// bring clients to its target, and one that goes down only take clients away from it.
    fn pick(&self, point: u64) -> &Arc<str> {
        let mut best = &self.shares[0];
        let mut best_score = f64::INFINITY;
        for share in self.shares.iter().filter(|share| share.weight > 0) {
            let score = exponential(mix(point ^ share.hash)) / f64::from(share.weight);
            if score < best_score || (score == best_score && share.target < best.target) {
                best = share;
                best_score = score;
            }
        }
        &best.target
    }
}

impl PartialEq for Split {
    fn eq(&self, other: &Split) -> bool {
        Arc::ptr_eq(&self.shares, &other.shares)
            || (self.shares.len() == other.shares.len()
                && self.shares.iter().all(|share| other.shares.contains(share)))
    }
}

impl Eq for Split {}

impl Route {
    /// The target of the client at `point` (see [`point_of`]).
    pub fn pick(&self, point: u64) -> &Arc<str> {
        match self {
            Route::One(target) => target,
            Route::Split(split) => split.pick(point),
        }
    }

    /// The targets it names, those with weight 0 too.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, shares) = match self {
            Route::One(target) => (Some(target), &[][..]),
            Route::Split(split) => (None, split.shares()),
        };
        one.into_iter().chain(shares.iter().map(|share| &share.target))
    }

    /// The targets that somebody would be sent to.
    pub fn live_targets(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, shares) = match self {
            Route::One(target) => (Some(target), &[][..]),
            Route::Split(split) => (None, split.shares()),
        };
        one.into_iter().chain(shares.iter().filter(|share| share.weight > 0).map(|share| &share.target))
    }

    /// Can a route be written with this name? The engine asks it about every target at load.
    pub fn may_name(target: &str) -> bool {
        !target.is_empty() && !target.chars().any(|c| c.is_whitespace() || c.is_control() || c == '=')
    }

    /// Reads `green`, or `green=10 blue=90`. One target alone is no split, whatever its share.
    ///
    /// # Errors
    /// [`RouteFault`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Route, RouteFault> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [word] = words[..]
            && Route::may_name(word)
        {
            return Ok(Route::One(word.into()));
        }
        let mut shares = Vec::with_capacity(words.len());
        for word in words {
            let Some((target, weight)) = word.rsplit_once('=') else {
                return Err(RouteFault::NoWeight(word.to_owned()));
            };
            if weight.is_empty() || !weight.bytes().all(|b| b.is_ascii_digit()) {
                return Err(RouteFault::BadWeight(weight.to_owned()));
            }
            let weight: u32 = weight.parse().map_err(|_| RouteFault::BadWeight(weight.to_owned()))?;
            shares.push((Arc::from(target), weight));
        }
        let split = Split::new(shares)?;
        Ok(match split.shares() {
            [only] => Route::One(Arc::clone(&only.target)),
            _ => Route::Split(split),
        })
    }
}

impl FromStr for Route {
    type Err = RouteFault;

    fn from_str(text: &str) -> Result<Route, RouteFault> {
        Route::parse(text)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::One(target) => f.write_str(target),
            Route::Split(split) => {
                for (at, share) in split.shares().iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{}={}", share.target, share.weight)?;
                }
                Ok(())
            }
        }
    }
}

/// The point of a client: XXH3 (64 bits, seed 0) of the text that makes it sticky.
///
/// Never changes: it decides who is in the ten per cent, and people expect that to outlive an upgrade.
pub fn point_of(text: &[u8]) -> u64 {
    xxh3_64(text)
}

/// Spreads what was xored (the finalizer of SplitMix64), so that near points of one target are far apart.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// −ln(u) for a u in (0, 1) made of 52 bits of the number.
///
/// Not `f64::ln`: its last bits are the platform's, and every machine must choose alike. Here is nothing but IEEE 754's
/// basic operations, which are exact everywhere.
fn exponential(bits: u64) -> f64 {
    // Half a step from both ends: neither 0 nor 1 comes out, and all 53 bits fit the fraction.
    let u = ((bits >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64);
    let raw = u.to_bits();
    let mut exponent = ((raw >> 52) & 0x7ff) as i32 - 1023;
    let mut fraction = f64::from_bits((raw & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if fraction > std::f64::consts::SQRT_2 {
        fraction *= 0.5;
        exponent += 1;
    }
    // ln(f) = 2·artanh((f−1)/(f+1)); |s| ≤ 0.172, so eight terms leave an error below 1e-13.
    let s = (fraction - 1.0) / (fraction + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    -(f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * sum)
}
