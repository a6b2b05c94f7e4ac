//! SSI commands in a body that comes in pieces: where they are, and what state they have left.
//!
//! Owns the text of commands, byte by byte as in nginx (ngx_http_ssi_parse). It must never know what a command does.

/// The longest name of a command.
const MAX_COMMAND: usize = 32;
/// The longest name of a parameter.
const MAX_PARAMETER: usize = 32;
/// The most parameters of a command; of those behind them the number is all that is kept.
pub(super) const MAX_PARAMETERS: usize = 16;
/// What commands begin with; any beginning of it may turn out to be text.
const OPENING: &[u8] = b"<!--#";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In text, with so many bytes of the opening read.
    Text(usize),
    /// Behind the opening.
    BeforeCommand,
    Command,
    BeforeParameter,
    Parameter,
    BeforeEquals,
    BeforeValue,
    /// In a value, which ends with this quote.
    Value(u8),
    /// Behind a backslash in such a value.
    Escaped(u8),
    AfterValue,
    /// Behind the first hyphen of the end, and behind the second.
    Hyphen,
    Hyphens,
    /// The same in a command with a fault.
    Faulty,
    FaultyHyphen,
    FaultyHyphens,
}

/// A parameter of a command: its name and its value.
pub type Parameter = (Vec<u8>, Vec<u8>);

/// The part that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All was read; a command may have begun.
    Nothing,
    /// A command has come to its end.
    Command,
    /// One with a fault has.
    Faulty,
}

/// How an `if` stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Conditional {
    /// There is none.
    #[default]
    None,
    /// Behind `if` or `elif`.
    If,
    /// Behind `else`.
    Else,
}

/// What text is put out, and what is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    pub(super) conditional: Conditional,
    /// Text is put out.
    pub(super) shows: bool,
    /// A branch of the `if` was put out.
    pub(super) has_chosen: bool,
    /// Text goes into the last block.
    pub(super) is_block: bool,
}

impl Default for Branch {
    fn default() -> Branch {
        Branch { conditional: Conditional::None, shows: true, has_chosen: false, is_block: false }
    }
}

/// How `echo` writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    None,
    Url,
    Entity,
}

/// Reads one body. A command takes up to [`MAX_PARAMETERS`] values of the length that `ssi_value_length` says.
#[derive(Debug)]
pub struct SsiMachine {
    state: State,
    value_length: usize,
    pub(super) command: Vec<u8>,
    pub(super) parameters: Vec<Parameter>,
    /// How many there were, those that are not kept included.
    pub(super) parameter_count: usize,
    /// Faults to be logged, as nginx words them.
    pub(super) faults: Vec<Vec<u8>>,
    pub(super) branch: Branch,
    pub(super) encoding: Encoding,
    pub(super) error_text: Vec<u8>,
    /// The variable whose value the answer to a request becomes that was asked for.
    pub(super) awaited: Option<Vec<u8>>,
    /// The last command could not be carried out after all, and its error text is to be shown.
    pub(super) has_failed: bool,
}

impl SsiMachine {
    /// Begins at the beginning of a body.
    pub fn new(value_length: usize) -> SsiMachine {
        SsiMachine {
            state: State::Text(0),
            value_length,
            command: Vec::new(),
            parameters: Vec::new(),
            parameter_count: 0,
            faults: Vec::new(),
            branch: Branch::default(),
            encoding: Encoding::Entity,
            error_text: b"[an error occurred while processing the directive]".to_vec(),
            awaited: None,
            has_failed: false,
        }
    }

    /// Returns the last command, with its parameters.
    pub fn command(&self) -> (&[u8], &[Parameter]) {
        (&self.command, &self.parameters)
    }

    /// Reads on to the end of the next command, and appends what is text to `text`.
    pub fn parse(&mut self, input: &mut &[u8], text: &mut Vec<u8>) -> Parsed {
        while let Some((&byte, rest)) = input.split_first() {
            if self.state == State::Text(0) {
                let len = memchr::memchr(b'<', input).unwrap_or(input.len());
                text.extend_from_slice(&input[..len]);
                *input = &input[len..];
                if input.is_empty() {
                    break;
                }
                *input = &input[1..];
                self.state = State::Text(1);
                continue;
            }
            *input = rest;
            let (before, next) = (self.state, self.step(byte, text));
            self.state = next;
            if next == State::Text(0) {
                match before {
                    State::Hyphens => return Parsed::Command,
                    State::FaultyHyphens => return Parsed::Faulty,
                    _ => {}
                }
            }
        }
        Parsed::Nothing
    }

    fn step(&mut self, byte: u8, text: &mut Vec<u8>) -> State {
        let is_space = matches!(byte, b' ' | b'\r' | b'\n' | b'\t');
        match self.state {
            State::Text(read) if byte == OPENING[read] => match read + 1 {
                all if all == OPENING.len() => State::BeforeCommand,
                read => State::Text(read),
            },
            State::Text(read) => {
                text.extend_from_slice(&OPENING[..read]);
                if byte == b'<' {
                    return State::Text(1);
                }
                text.push(byte);
                State::Text(0)
            }
            State::BeforeCommand if is_space => State::BeforeCommand,
            State::BeforeCommand => {
                self.command.clear();
                self.command.push(byte);
                self.parameters.clear();
                self.parameter_count = 0;
                State::Command
            }
            State::Command if is_space => State::BeforeParameter,
            State::Command | State::BeforeParameter if byte == b'-' => State::Hyphen,
            State::Command if self.command.len() == MAX_COMMAND => {
                self.fault(&[b"the \"", &self.command.clone(), &[byte], b"...\" SSI command is too long"])
            }
            State::Command => {
                self.command.push(byte);
                State::Command
            }
            State::BeforeParameter if is_space => State::BeforeParameter,
            State::BeforeParameter => {
                self.parameter_count += 1;
                self.parameters.truncate(MAX_PARAMETERS);
                self.parameters.push((vec![byte], Vec::new()));
                State::Parameter
            }
            State::Parameter if is_space => State::BeforeEquals,
            State::Parameter | State::BeforeEquals if byte == b'=' => State::BeforeValue,
            State::Parameter if byte == b'-' => self.unexpected(byte, " after ", " parameter"),
            State::Parameter
                if self.parameters.last().is_some_and(|(name, _)| name.len() == MAX_PARAMETER) =>
            {
                let (name, command) = (self.last().0.clone(), self.command.clone());
                let name = [&name[..], &[byte]].concat();
                self.fault(&[b"too long \"", &name, b"...\" parameter in \"", &command, b"\" SSI command"])
            }
            State::Parameter => {
                self.last().0.push(byte);
                State::Parameter
            }
            State::BeforeEquals if is_space => State::BeforeEquals,
            State::BeforeEquals => self.unexpected(byte, " after ", " parameter"),
            State::BeforeValue if is_space => State::BeforeValue,
            State::BeforeValue if matches!(byte, b'"' | b'\'') => State::Value(byte),
            State::BeforeValue => self.unexpected(byte, " before value of ", " parameter"),
            State::Value(quote) if byte == quote => State::AfterValue,
            State::Value(quote) => {
                self.value(byte, if byte == b'\\' { State::Escaped(quote) } else { State::Value(quote) })
            }
            State::Escaped(quote) => self.value(byte, State::Value(quote)),
            State::AfterValue if is_space => State::BeforeParameter,
            State::AfterValue if byte == b'-' => State::Hyphen,
            State::AfterValue => {
                let (name, value) = self.last().clone();
                let command = self.command.clone();
                self.fault(&[
                    b"unexpected \"",
                    &[byte],
                    b"\" symbol after \"",
                    &value,
                    b"\" value of \"",
                    &name,
                    b"\" parameter in \"",
                    &command,
                    b"\" SSI command",
                ])
            }
            State::Hyphen if byte == b'-' => State::Hyphens,
            State::Hyphens if byte == b'>' => State::Text(0),
            State::Hyphen | State::Hyphens => {
                let command = self.command.clone();
                self.fault(&[b"unexpected \"", &[byte], b"\" symbol in \"", &command, b"\" SSI command"])
            }
            State::Faulty if byte == b'-' => State::FaultyHyphen,
            State::FaultyHyphen if byte == b'-' => State::FaultyHyphens,
            State::FaultyHyphens if byte == b'>' => State::Text(0),
            State::Faulty | State::FaultyHyphen | State::FaultyHyphens => State::Faulty,
        }
    }

    /// Returns the parameter that is being read.
    fn last(&mut self) -> &mut (Vec<u8>, Vec<u8>) {
        let at = self.parameters.len() - 1;
        &mut self.parameters[at]
    }

    fn value(&mut self, byte: u8, next: State) -> State {
        let longest = self.value_length;
        if self.last().1.len() < longest {
            self.last().1.push(byte);
            return next;
        }
        let (name, value) = self.last().clone();
        let command = self.command.clone();
        self.fault(&[
            b"too long \"",
            &value,
            &[byte],
            b"...\" value of \"",
            &name,
            b"\" parameter in \"",
            &command,
            b"\" SSI command",
        ])
    }

    fn unexpected(&mut self, byte: u8, place: &str, what: &str) -> State {
        let (name, command) = (self.last().0.clone(), self.command.clone());
        let next = self.fault(&[
            b"unexpected \"",
            &[byte],
            b"\" symbol",
            place.as_bytes(),
            b"\"",
            &name,
            b"\"",
            what.as_bytes(),
            b" in \"",
            &command,
            b"\" SSI command",
        ]);
        if byte == b'-' { State::FaultyHyphen } else { next }
    }

    fn fault(&mut self, text: &[&[u8]]) -> State {
        self.faults.push(text.concat());
        State::Faulty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows what is read: text as it is, commands in brackets.
    fn read(body: &str, piece: usize) -> (String, Vec<String>) {
        let mut machine = SsiMachine::new(20);
        let mut out = String::new();
        for mut piece in body.as_bytes().chunks(piece) {
            loop {
                let mut text = Vec::new();
                let parsed = machine.parse(&mut piece, &mut text);
                out.push_str(std::str::from_utf8(&text).unwrap());
                match parsed {
                    Parsed::Nothing => break,
                    Parsed::Faulty => out.push_str("[!]"),
                    Parsed::Command => {
                        out.push_str(&format!("[{}", String::from_utf8_lossy(&machine.command)));
                        for (name, value) in &machine.parameters {
                            let (name, value) =
                                (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                            out.push_str(&format!(" {name}={value}"));
                        }
                        out.push(']');
                    }
                }
            }
            assert!(piece.is_empty());
        }
        let faults = machine.faults.iter().map(|fault| String::from_utf8_lossy(fault).into_owned());
        (out, faults.collect())
    }

    #[test]
    fn commands_are_found_whatever_the_pieces() {
        for (body, expected) in [
            ("plain", "plain"),
            ("a<!--#echo var=\"x\" -->b", "a[echo var=x]b"),
            ("a<!--#  echo\n\tvar = 'x'-->", "a[echo var=x]"),
            ("<!--#endif-->", "[endif]"),
            ("<!--#set var='a' value='b\\'c' -->", "[set var=a value=b\\'c]"),
            ("<<!--#x -->", "<[x]"),
            ("<!<!-<!--<!--#x -->", "<!<!-<!--[x]"),
            ("<!-- comment -->", "<!-- comment -->"),
            ("<b>", "<b>"),
            ("<!--#x a='1' b-- c -->y", "[!]y"),
            ("<!--#x a 1 -->y", "[!]y"),
            ("<!--#x a=1 -->y", "[!]y"),
            ("<!--#x a='1'b -->y", "[!]y"),
            ("<!--#x - -->y", "[!]y"),
            ("<!--#x a='123456789012345678901' -->y", "[!]y"),
        ] {
            for piece in 1..=body.len() {
                assert_eq!(read(body, piece).0, expected, "{body} by {piece}");
            }
        }
    }

    #[test]
    fn faults_have_nginx_s_words() {
        for (body, expected) in [
            ("<!--#x a- -->", "unexpected \"-\" symbol after \"a\" parameter in \"x\" SSI command"),
            ("<!--#x a b -->", "unexpected \"b\" symbol after \"a\" parameter in \"x\" SSI command"),
            (
                "<!--#x a=b -->",
                "unexpected \"b\" symbol before value of \"a\" parameter in \"x\" SSI command",
            ),
            (
                "<!--#x a='1'b -->",
                "unexpected \"b\" symbol after \"1\" value of \"a\" parameter in \"x\" SSI command",
            ),
            ("<!--#x - -->", "unexpected \" \" symbol in \"x\" SSI command"),
            (
                "<!--#x a='123456789012345678901' -->",
                "too long \"123456789012345678901...\" value of \"a\" parameter in \"x\" SSI command",
            ),
        ] {
            assert_eq!(read(body, 100).1, [expected], "{body}");
        }
        let long = "c".repeat(33);
        let fault = format!("the \"{long}...\" SSI command is too long");
        assert_eq!(read(&format!("<!--#{long} -->"), 7).1, [fault]);
    }

    #[test]
    fn parameters_without_end_take_no_memory() {
        let mut machine = SsiMachine::new(255);
        machine.parse(&mut &b"<!--#echo "[..], &mut Vec::new());
        for _ in 0..10_000 {
            machine.parse(&mut &b"a='b' "[..], &mut Vec::new());
        }
        assert_eq!(machine.parameter_count, 10_000);
        assert_eq!(machine.parameters.len(), MAX_PARAMETERS + 1);
    }
}
