//! `geo`: a value by the network an address is in (ngx_http_geo_module).

use super::networks::{Network, Table, parse_address, parse_v4};
use super::{Computed, define, entry};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::forwarded;
use crate::variables::{self, VariableId};
use conf::{Diagnostic, Word};
use http::Known;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

/// A `geo`.
#[derive(Clone, Debug)]
pub struct Geo {
    /// The value is worked out anew each time.
    pub(super) volatile: bool,
    /// The variable with the address; `None` is the client's own address.
    source: Option<VariableId>,
    /// The proxies whose `X-Forwarded-For` is trusted.
    proxies: Vec<Network>,
    recursive: bool,
    /// Written with `ranges`, which know no IPv6.
    ranges: bool,
    v4: Table<u32>,
    v6: Table<u128>,
    /// All values, each once; the first is the empty one.
    values: Vec<Box<[u8]>>,
}

impl Geo {
    pub(super) fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
        let mut address = match self.source {
            None => exchange.connection.remote.map(|remote| remote.ip()),
            Some(variable) => {
                let start = out.len();
                variables::append(exchange, env, variable, out);
                let address = parse_address(&out[start..]);
                out.truncate(start);
                address
            }
        };
        if let Some(peer) = address
            && !self.proxies.is_empty()
        {
            let fields = exchange.request.head.headers.get_all(Known::XForwardedFor);
            let is_trusted =
                |ip: Option<IpAddr>| ip.is_some_and(|ip| self.proxies.iter().any(|proxy| proxy.holds(ip)));
            let client =
                forwarded::client(Some(SocketAddr::new(peer, 0)), fields, self.recursive, is_trusted);
            address = client.map(|client| client.ip()).or(address);
        }
        // Without an address, nginx looks for 255.255.255.255.
        let number = match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) => self.v4.find(v4.to_bits()),
            Some(IpAddr::V6(v6)) if !self.ranges => self.v6.find(v6.to_bits()),
            _ => self.v4.find(u32::MAX),
        };
        out.extend_from_slice(&self.values[number as usize]);
    }
}

/// A geo while its block is read.
struct Draft {
    volatile: bool,
    proxies: Vec<Network>,
    recursive: bool,
    form: Form,
    values: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
}

/// The form of the entries.
enum Form {
    /// There is none yet.
    Open,
    Networks(HashMap<Network, u32>),
    Ranges(Ranges),
}

#[derive(Default)]
struct Ranges {
    default: Option<u32>,
    /// By the upper half of the address, in order of the lower: nginx judges overlaps within such a block.
    blocks: BTreeMap<u16, Vec<Range>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    value: u32,
}

pub(super) fn apply(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let source = match &*d.args {
        [source, _] => Some(b.variable(source)?),
        _ => None,
    };
    let [.., name] = &*d.args else { return Ok(()) };
    define(b, name)?;
    let mut draft = Draft {
        volatile: false,
        proxies: Vec::new(),
        recursive: false,
        form: Form::Open,
        values: vec![Box::default()],
        numbers: HashMap::from([(Box::default(), 0)]),
    };
    for inner in d.children() {
        if let Err(fault) = draft.entry(b, inner) {
            b.diagnostics.push(fault);
        }
    }
    b.draft.computed.push(Computed::Geo(draft.finish(source)));
    Ok(())
}

impl Draft {
    fn entry(&mut self, b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
        let (key, value) = match *entry(d) {
            [word] if word.text() == "ranges" => return self.ranges(word),
            [word] if word.text() == "proxy_recursive" => {
                self.recursive = true;
                return Ok(());
            }
            [word] if word.text() == "volatile" => {
                self.volatile = true;
                return Ok(());
            }
            [key, value] => (key, value),
            _ => {
                return Err(Diagnostic::error(d.words_span(), "invalid number of the geo parameters")
                    .help("an entry is a network and a value: `10.0.0.0/8 inside;`"));
            }
        };
        if key.text() == "proxy" {
            let network = network(b, value)?;
            self.proxies.push(network);
            return Ok(());
        }
        match self.form {
            Form::Ranges(_) => self.range(b, key, value),
            _ => self.network(b, key, value),
        }
    }

    fn ranges(&mut self, word: &Word) -> Result<(), Diagnostic> {
        if matches!(self.form, Form::Networks(_)) {
            let fault = "the \"ranges\" directive must be the first directive inside \"geo\" block";
            return Err(Diagnostic::error(word.span, fault).help("move it to the top of the block"));
        }
        self.form = Form::Ranges(Ranges::default());
        Ok(())
    }

    /// Returns the number of a value; the same text has the same number.
    fn number(&mut self, word: &Word) -> u32 {
        let text: &[u8] = word.text();
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.values.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn network(&mut self, b: &mut Builder<'_>, key: &Word, value: &Word) -> Result<(), Diagnostic> {
        if matches!(self.form, Form::Open) {
            self.form = Form::Networks(HashMap::new());
        }
        let delete = key.text() == "delete";
        let networks = match &**key.text() {
            b"default" => vec![Network::V4(0, 0), Network::V6(0, 0)],
            b"delete" => vec![network(b, value)?],
            _ => vec![network(b, key)?],
        };
        let number = if delete { 0 } else { self.number(value) };
        let Form::Networks(known) = &mut self.form else { return Ok(()) };
        let mut old = None;
        for network in networks {
            old = if delete { known.remove(&network) } else { known.insert(network, number) };
        }
        match old {
            None if delete => {
                let text = format!("no network \"{}\" to delete", value.text());
                b.diagnostics.push(Diagnostic::warn(value.span, text));
            }
            Some(old) if !delete => {
                let old = String::from_utf8_lossy(&self.values[old as usize]);
                let (net, value) = (key.text(), value.text());
                let text = format!("duplicate network \"{net}\", value: \"{value}\", old value: \"{old}\"");
                b.diagnostics.push(Diagnostic::warn(key.span, text));
            }
            _ => {}
        }
        Ok(())
    }

    fn range(&mut self, b: &mut Builder<'_>, key: &Word, value: &Word) -> Result<(), Diagnostic> {
        let delete = key.text() == "delete";
        let net = if delete { value } else { key };
        let number = if delete { 0 } else { self.number(value) };
        let Form::Ranges(ranges) = &mut self.form else { return Ok(()) };
        if key.text() == "default" {
            if let Some(old) = ranges.default.replace(number) {
                let old = String::from_utf8_lossy(&self.values[old as usize]);
                let text =
                    format!("duplicate default geo range value: \"{}\", old value: \"{old}\"", value.text());
                b.diagnostics.push(Diagnostic::warn(key.span, text));
            }
            return Ok(());
        }
        let Some((first, last)) = parse_range(net.text()) else {
            return Err(Diagnostic::error(net.span, format!("invalid range \"{}\"", net.text()))
                .help("a range is two IPv4 addresses: 10.0.0.0-10.0.0.255"));
        };
        let mut missing = false;
        for high in (first >> 16) as u16..=(last >> 16) as u16 {
            let low = if high == (first >> 16) as u16 { first as u16 } else { 0 };
            let up = if high == (last >> 16) as u16 { last as u16 } else { u16::MAX };
            let new = Range { first: low, last: up, value: number };
            if delete {
                missing |= !ranges.delete(high, new);
                continue;
            }
            match ranges.add(high, new) {
                Ok(None) => {}
                Ok(Some(old)) => {
                    let old = String::from_utf8_lossy(&self.values[old as usize]);
                    let (shown, value) = (net.text(), value.text());
                    let text =
                        format!("duplicate range \"{shown}\", value: \"{value}\", old value: \"{old}\"");
                    b.diagnostics.push(Diagnostic::warn(net.span, text));
                }
                Err(other) => {
                    let [a, c] = high.to_be_bytes();
                    let ([d, e], [f, g]) = (other.first.to_be_bytes(), other.last.to_be_bytes());
                    let text =
                        format!("range \"{}\" overlaps \"{a}.{c}.{d}.{e}-{a}.{c}.{f}.{g}\"", net.text());
                    return Err(Diagnostic::error(net.span, text));
                }
            }
        }
        if missing {
            let text = format!("no address range \"{}\" to delete", net.text());
            b.diagnostics.push(Diagnostic::warn(net.span, text));
        }
        Ok(())
    }

    fn finish(self, source: Option<VariableId>) -> Geo {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut default = 0;
        let is_ranges = matches!(self.form, Form::Ranges(_));
        match self.form {
            Form::Open => {}
            Form::Networks(networks) => {
                for (network, value) in networks {
                    match network {
                        Network::V4(address, bits) => {
                            let (first, last) = Network::ends_v4(address, bits);
                            v4.push((first, last, value));
                        }
                        Network::V6(address, bits) => {
                            let (first, last) = Network::ends_v6(address, bits);
                            v6.push((first, last, value));
                        }
                    }
                }
            }
            Form::Ranges(ranges) => {
                default = ranges.default.unwrap_or(0);
                for (high, block) in ranges.blocks {
                    let whole = |low: u16| u32::from(high) << 16 | u32::from(low);
                    v4.extend(
                        block.into_iter().map(|range| (whole(range.first), whole(range.last), range.value)),
                    );
                }
            }
        }
        Geo {
            volatile: self.volatile,
            source,
            proxies: self.proxies,
            recursive: self.recursive,
            ranges: is_ranges,
            v4: Table::build(v4, default),
            v6: Table::build(v6, default),
            values: self.values,
        }
    }
}

impl Ranges {
    /// Adds a range within a block: beside others, inside one, or in the place of an equal one, whose value it
    /// answers.
    fn add(&mut self, high: u16, new: Range) -> Result<Option<u32>, Range> {
        let block = self.blocks.entry(high).or_default();
        let Some(at) = block.iter().rposition(|old| old.first <= new.last) else {
            block.insert(0, new);
            return Ok(None);
        };
        let old = block[at];
        if new.first > old.last {
            block.insert(at + 1, new);
            return Ok(None);
        }
        if (new.first, new.last) == (old.first, old.last) {
            block[at].value = new.value;
            return Ok(Some(old.value));
        }
        if new.first < old.first || new.last > old.last {
            return Err(old);
        }
        let before = (new.first > old.first).then(|| Range { last: new.first - 1, ..old });
        let after = (new.last < old.last).then(|| Range { first: new.last + 1, ..old });
        block.splice(at..=at, before.into_iter().chain([new]).chain(after));
        Ok(None)
    }

    /// Removes a range that is exactly this one.
    fn delete(&mut self, high: u16, gone: Range) -> bool {
        let Some(block) = self.blocks.get_mut(&high) else { return false };
        let Some(at) = block.iter().position(|old| (old.first, old.last) == (gone.first, gone.last)) else {
            return false;
        };
        block.remove(at);
        true
    }
}

fn parse_range(text: &[u8]) -> Option<(u32, u32)> {
    let dash = memchr::memchr(b'-', text)?;
    let (first, last) = (parse_v4(&text[..dash])?.to_bits(), parse_v4(&text[dash + 1..])?.to_bits());
    (first <= last).then_some((first, last))
}

fn network(b: &mut Builder<'_>, word: &Word) -> Result<Network, Diagnostic> {
    let Some((network, low_bits)) = Network::parse(word.text()) else {
        return Err(Diagnostic::error(word.span, format!("invalid network \"{}\"", word.text()))
            .help("a network is an address, or an address and a number of bits: 10.0.0.0/8, 2001:db8::/32"));
    };
    if low_bits {
        let text = format!("low address bits of {} are meaningless", word.text());
        b.diagnostics.push(Diagnostic::warn(word.span, text));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_split_what_they_lie_in_and_refuse_what_they_cross() {
        let mut ranges = Ranges::default();
        let range = |first, last, value| Range { first, last, value };
        assert_eq!(ranges.add(0, range(10, 100, 1)), Ok(None));
        assert_eq!(ranges.add(0, range(200, 300, 2)), Ok(None));
        assert_eq!(ranges.add(0, range(1, 5, 3)), Ok(None));
        assert_eq!(ranges.add(0, range(20, 30, 4)), Ok(None));
        assert_eq!(ranges.add(0, range(20, 30, 5)), Ok(Some(4)));
        assert_eq!(ranges.add(0, range(200, 210, 6)), Ok(None));
        assert_eq!(ranges.add(0, range(290, 300, 7)), Ok(None));
        assert_eq!(ranges.add(0, range(25, 35, 8)), Err(range(31, 100, 1)));
        assert_eq!(ranges.add(0, range(5, 12, 8)), Err(range(10, 19, 1)));
        let block: Vec<_> = ranges.blocks[&0].iter().map(|r| (r.first, r.last, r.value)).collect();
        assert_eq!(
            block,
            [(1, 5, 3), (10, 19, 1), (20, 30, 5), (31, 100, 1), (200, 210, 6), (211, 289, 2), (290, 300, 7)]
        );
        assert!(ranges.delete(0, range(20, 30, 0)));
        assert!(!ranges.delete(0, range(20, 30, 0)));
    }
}
