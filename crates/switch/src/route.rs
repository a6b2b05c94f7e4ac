//! The route of a key: one target, or several with weights.
//!
//! Owns how each client gets its target, and how a route is written.
//! Must never remember a client: the same point and the same weights give the same target, on every machine.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The most targets of a split.
pub const MAX_SHARES: usize = 32;

/// Where an entry routes its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Everything goes to one target.
    One(Arc<str>),
    /// Each client goes to one of several, by their weights.
    Split(Split),
}

/// Several targets with weights. Two splits with the same shares in another order are equal: they route each client
/// alike.
#[derive(Debug, Clone)]
pub struct Split {
    shares: Arc<[Share]>,
}

/// One target of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The upstream group.
    pub target: Arc<str>,
    /// Its weight against the others'. 0 gets no client.
    pub weight: u32,
    /// The hash of its name, so that a pick hashes no text.
    hash: u64,
}

/// Why a text or a list of shares is not a valid route. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFault {
    /// It names no target.
    Empty,
    /// White space, a control character or `=` in a target's name: it could not be written in a route.
    BadTarget(String),
    /// A share whose weight is not a whole number from 0 to 4294967295.
    BadWeight(String),
    /// A name without `=` among several.
    NoWeight(String),
    /// A target twice.
    Double(String),
    /// All weights are 0: no client would be served.
    NoWeightAtAll,
    /// More than [`MAX_SHARES`].
    TooMany(usize),
}

impl fmt::Display for RouteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteFault::Empty => write!(f, "expected a target"),
            RouteFault::BadTarget(name) => write!(f, "invalid target name {name:?}"),
            RouteFault::BadWeight(share) => {
                write!(f, "invalid weight in {share:?}: expected a whole number")
            }
            RouteFault::NoWeight(name) => write!(f, "\"{name}\" has no weight: expected {name}=NUMBER"),
            RouteFault::Double(name) => write!(f, "target \"{name}\" appears twice"),
            RouteFault::NoWeightAtAll => write!(f, "all weights are 0"),
            RouteFault::TooMany(count) => write!(f, "{count} targets; at most {MAX_SHARES} are allowed"),
        }
    }
}

impl std::error::Error for RouteFault {}

impl Split {
    /// Creates a split of targets with their weights, in the order in which they are shown.
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

    /// Returns its targets with their weights, in the order in which they were written.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Returns the sum of the weights.
    pub fn total(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.weight)).sum()
    }

    /// Picks by weighted rendezvous hashing: each target draws a number from the client's point and its name, and the
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
    /// Returns the target of the client at `point` (see [`point_of`]).
    pub fn pick(&self, point: u64) -> &Arc<str> {
        match self {
            Route::One(target) => target,
            Route::Split(split) => split.pick(point),
        }
    }

    /// Returns the targets it names, those with weight 0 too.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, shares) = match self {
            Route::One(target) => (Some(target), &[][..]),
            Route::Split(split) => (None, split.shares()),
        };
        one.into_iter().chain(shares.iter().map(|share| &share.target))
    }

    /// Returns the targets with a weight above 0.
    pub fn live_targets(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, shares) = match self {
            Route::One(target) => (Some(target), &[][..]),
            Route::Split(split) => (None, split.shares()),
        };
        one.into_iter().chain(shares.iter().filter(|share| share.weight > 0).map(|share| &share.target))
    }

    /// Returns true if a route can be written with this name. The engine checks every target at load.
    pub fn may_name(target: &str) -> bool {
        !target.is_empty() && !target.chars().any(|c| c.is_whitespace() || c.is_control() || c == '=')
    }

    /// Parses `green`, or `green=10 blue=90`. One target alone is no split, whatever its weight.
    ///
    /// # Errors
    /// [`RouteFault`] says what is wrong with the text.
    ///
    /// ```
    /// use pointsman_switch::{Route, point_of};
    ///
    /// let canary = Route::parse("green=10 blue=90")?;
    /// let target = canary.pick(point_of(b"client 7"));
    /// // The same client gets the same target, on every machine.
    /// assert_eq!(canary.pick(point_of(b"client 7")), target);
    /// let fault = Route::parse("green=x blue=90").unwrap_err();
    /// assert_eq!(fault.to_string(), "invalid weight in \"green=x\": expected a whole number");
    /// # Ok::<(), pointsman_switch::RouteFault>(())
    /// ```
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
                return Err(RouteFault::BadWeight(word.to_owned()));
            }
            let weight: u32 = weight.parse().map_err(|_| RouteFault::BadWeight(word.to_owned()))?;
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

/// Returns the point of a client: XXH3 (64 bits, seed 0) of the text that makes it sticky.
///
/// Never changes: it decides which clients are in the ten per cent, and that must outlive an upgrade.
pub fn point_of(text: &[u8]) -> u64 {
    xxh3_64(text)
}

/// Returns the point of a client that depends on a salt too, so that other clients come first: XXH3 with the salt as its seed.
/// Salt 0 is none.
///
/// Never changes, as [`point_of`].
pub fn salted_point_of(text: &[u8], salt: u64) -> u64 {
    xxh3_64_with_seed(text, salt)
}

/// Spreads what was xored (the finalizer of SplitMix64), so that near points of one target are far apart.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns −ln(u) for a u in (0, 1) made of 52 bits of the number.
///
/// Not `f64::ln`: its last bits depend on the platform, and every machine must choose alike. This uses only the basic
/// operations of IEEE 754, which are exact everywhere.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn split(shares: &[(&str, u32)]) -> Route {
        let shares = shares.iter().map(|&(target, weight)| (Arc::from(target), weight)).collect();
        Route::Split(Split::new(shares).unwrap())
    }

    /// A generator of our own, so that a seed replays.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(self.0) % n
        }
    }

    #[test]
    fn a_written_route_parses_back() {
        for text in ["green", "green=10 blue=90", "green=0 blue=1", "a-b.c_d", "a=4294967295 b=4294967295"] {
            assert_eq!(Route::parse(text).unwrap().to_string(), text);
            assert_eq!(text.parse::<Route>().as_ref().map(Route::to_string).as_deref(), Ok(text));
        }
        assert_eq!(Route::parse("  green=10\t blue=90 ").unwrap().to_string(), "green=10 blue=90");
        assert_eq!(Route::parse("green=7"), Ok(Route::One("green".into())), "one target is no split");
        assert_eq!(Route::parse("green=10 blue=90"), Route::parse("blue=90 green=10"));
        assert_ne!(Route::parse("green=10 blue=90"), Route::parse("green=90 blue=10"));
        assert_ne!(Route::parse("green=10 blue=90"), Route::parse("green=10 blue=90 red=0"));
        assert_eq!(Route::parse("g=0 b=1").unwrap().targets().count(), 2);
        assert_eq!(Route::parse("g=0 b=1").unwrap().live_targets().map(|t| &**t).collect::<Vec<_>>(), ["b"]);
        let Route::Split(shares) = Route::parse("a=4294967295 b=4294967295").unwrap() else { panic!() };
        assert_eq!(shares.total(), 2 * u64::from(u32::MAX));
    }

    #[test]
    fn an_invalid_route_has_its_fault() {
        use RouteFault::*;
        let many = |n: usize| (0..n).map(|i| format!("t{i}=1 ")).collect::<String>();
        for (text, fault) in [
            ("", Empty),
            (" \n", Empty),
            ("green blue", NoWeight("green".into())),
            ("green=1 blue", NoWeight("blue".into())),
            ("green=", BadWeight("green=".into())),
            ("green=-1 blue=2", BadWeight("green=-1".into())),
            ("green=+1 blue=2", BadWeight("green=+1".into())),
            ("green=1.5 blue=2", BadWeight("green=1.5".into())),
            ("green=4294967296 blue=1", BadWeight("green=4294967296".into())),
            ("=1 blue=1", BadTarget("".into())),
            ("a=b=1 c=1", BadTarget("a=b".into())),
            ("green=1 green=2", Double("green".into())),
            ("green=0 blue=0", NoWeightAtAll),
            ("green=0", NoWeightAtAll),
            (&many(33), TooMany(33)),
        ] {
            assert_eq!(Route::parse(text), Err(fault.clone()), "{text:?}");
            assert!(!fault.to_string().is_empty());
        }
        assert!(Route::parse(&many(32)).is_ok());
        assert_eq!(Split::new(vec![("a b".into(), 1)]), Err(BadTarget("a b".into())));
    }

    #[test]
    fn each_target_gets_clients_by_its_weight() {
        const CLIENTS: u32 = 100_000;
        let shares = [("green", 10), ("blue", 60), ("red", 29), ("grey", 1), ("none", 0)];
        let route = split(&shares);
        let mut got = shares.map(|(target, weight)| (target, weight, 0_u32));
        for client in 0..CLIENTS {
            let target = route.pick(point_of(format!("client {client}").as_bytes()));
            got.iter_mut().find(|(name, ..)| *name == &**target).unwrap().2 += 1;
        }
        for (target, weight, count) in got {
            let p = f64::from(weight) / 100.0;
            let expected = p * f64::from(CLIENTS);
            // Five standard deviations of a binomial distribution.
            let slack = 5.0 * (expected * (1.0 - p)).sqrt();
            assert!((f64::from(count) - expected).abs() <= slack, "{target}: {count} of {expected}");
        }
    }

    #[test]
    fn a_raised_weight_moves_clients_only_to_its_target() {
        let mut seeded = Seeded(7);
        for _ in 0..200 {
            let count = 2 + seeded.below(5) as usize;
            let names = ["a", "b", "c", "d", "e", "f"];
            let before: Vec<(&str, u32)> =
                (0..count).map(|i| (names[i], seeded.below(50) as u32 + u32::from(i == 0))).collect();
            let mut after = before.clone();
            let raised = seeded.below(count as u64) as usize;
            after[raised].1 += 1 + seeded.below(100) as u32;
            let (low, high) = (split(&before), split(&after));
            for client in 0_u64..500 {
                let point = point_of(&client.to_le_bytes());
                let (old, new) = (low.pick(point), high.pick(point));
                assert!(old == new || &**new == names[raised], "{before:?} {after:?} client {client}");
            }
        }
    }

    #[test]
    fn a_growing_canary_keeps_its_clients() {
        let mut on_green = vec![false; 20_000];
        for percent in [1, 5, 10, 50, 90, 99] {
            let route = split(&[("green", percent), ("blue", 100 - percent)]);
            for (client, was) in on_green.iter_mut().enumerate() {
                let is = &**route.pick(point_of(format!("{client}").as_bytes())) == "green";
                assert!(is || !*was, "client {client} went back at {percent} %");
                *was = is;
            }
        }
    }

    #[test]
    fn the_order_of_the_shares_does_not_matter() {
        let (one, other) = (split(&[("a", 3), ("b", 5), ("c", 7)]), split(&[("c", 7), ("a", 3), ("b", 5)]));
        assert!((0..10_000).all(|point| one.pick(mix(point)) == other.pick(mix(point))));
    }

    #[test]
    fn the_choice_is_the_same_in_every_version() {
        // A client in the ten per cent stays there across upgrades: these values are a promise. Another
        // implementation of XXH3, and of the formula, gave the same.
        assert_eq!(point_of(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(point_of(b"uid=42"), 0x2695_a5cb_c690_7346);
        assert_eq!(salted_point_of(b"uid=42", 0), point_of(b"uid=42"));
        assert_eq!(salted_point_of(b"uid=42", point_of(b"live")), 0x22c5_20c6_4f8c_4897);
        let route = split(&[("green", 10), ("blue", 60), ("red", 30)]);
        let picked: String = (0_u64..40)
            .map(|client| route.pick(point_of(format!("client {client}").as_bytes())).as_bytes()[0] as char)
            .collect();
        assert_eq!(picked, "bbgrbbbgbbbbrbbrrbbrbrrrbbbbgbbbbbrrbbbb");
    }

    #[test]
    fn the_logarithm_agrees_with_libm() {
        let mut seeded = Seeded(1);
        for bits in (0..10_000).map(|_| seeded.below(u64::MAX)).chain([0, 1 << 12, u64::MAX, 1 << 63]) {
            let u = ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
            let (ours, libm) = (exponential(bits), -u.ln());
            assert!(ours > 0.0 && ours.is_finite());
            assert!((ours - libm).abs() <= libm * 1e-11 + 1e-16, "{u}: {ours} {libm}");
        }
    }
}
