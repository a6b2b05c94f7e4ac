//! One text, from its first statement to its last.
//!
//! Owns statements, blocks and the repair of braces. Blocks are kept on a list, not on the call stack, so that no text
//! can exhaust it.

use super::braces::{Repair, Repairs};
use super::cuts::{self, End, Realm};
use super::{Grammar, MAX_DEPTH, Parser, Surroundings};
use crate::known_directives::Block;
use crate::lexer::{Lexed, Lexer, Token};
use crate::{Body, Diagnostic, Directive, SourceId, Span, Word};
use bstr::ByteSlice;

/// A block that is not closed yet.
pub(super) struct Frame {
    /// The directive that opened it; none for a `{` that no directive can own.
    pub(super) head: Option<Directive>,
    pub(super) open: Span,
    children: Vec<Directive>,
    pub(super) around: Surroundings,
    /// How far its directive is indented, if that begins a line.
    pub(super) indent: Option<usize>,
}

/// Reads one text.
pub(super) struct FileParser<'p, 'l> {
    pub(super) parser: &'p mut Parser<'l>,
    pub(super) source: SourceId,
    pub(super) text: &'p [u8],
    pub(super) lexer: Lexer<'p>,
    /// The statement being read.
    pub(super) words: Vec<Lexed>,
    pub(super) outer: Surroundings,
    pub(super) frames: Vec<Frame>,
    top: Vec<Directive>,
    pub(super) repairs: &'p Repairs,
    /// The first sign that a `}` is missing.
    pub(super) missing: Option<Repair>,
    /// The first sign that a `}` is too many.
    pub(super) extra: Option<Repair>,
    option: bool,
}

impl<'p, 'l> FileParser<'p, 'l> {
    pub(super) fn new(
        parser: &'p mut Parser<'l>,
        source: SourceId,
        text: &'p [u8],
        outer: Surroundings,
        repairs: &'p Repairs,
    ) -> Self {
        let option = parser.sources.is_option(source);
        FileParser {
            parser,
            source,
            text,
            lexer: Lexer::new(text, !option),
            words: Vec::new(),
            outer,
            frames: Vec::new(),
            top: Vec::new(),
            repairs,
            missing: None,
            extra: None,
            option,
        }
    }

    /// The directives of the text, and a repair to read it again with if the braces do not fit.
    pub(super) fn read(mut self) -> (Vec<Directive>, Option<Repair>) {
        self.skip_byte_order_mark();
        while !self.parser.stopped {
            match self.lexer.next() {
                Token::Word(word) => self.word(word),
                Token::Semicolon(at) if self.words.is_empty() => {
                    let fault = Diagnostic::error(self.span(at, at + 1), "unexpected \";\"");
                    self.parser.report(fault.label("no directive stands before it").help("remove it"));
                }
                Token::Semicolon(at) => self.statement(End::Semicolon(at)),
                Token::Open(at) if self.words.is_empty() => {
                    let fault = Diagnostic::error(self.span(at, at + 1), "unexpected \"{\"");
                    self.parser.report(fault.label("no directive stands before it"));
                    self.push(None, at);
                }
                Token::Open(at) if self.repetition(at) => {}
                Token::Open(at) => self.statement(End::Open(at)),
                Token::Close(at) => {
                    if let Some(repair) = self.close_brace(at) {
                        return (Vec::new(), Some(repair));
                    }
                }
                Token::Fault(fault) => self.fault(fault),
                Token::End => {
                    if let Some(repair) = self.end() {
                        return (Vec::new(), Some(repair));
                    }
                    break;
                }
            }
        }
        while let Some(frame) = self.frames.pop() {
            self.attach(frame);
        }
        (self.top, None)
    }

    /// Some editors begin a file with three bytes that nginx would take for a part of the first name.
    fn skip_byte_order_mark(&mut self) {
        if self.text.starts_with(b"\xEF\xBB\xBF") && !self.option {
            let fault = Diagnostic::warn(self.span(0, 3), "the file begins with a byte order mark");
            let fault = fault.label("nginx takes it for a part of the first name");
            self.parser.report(fault.help("save the file as UTF-8 without byte order mark"));
            self.lexer.jump(3);
        }
    }

    fn word(&mut self, word: Lexed) {
        if self.words.is_empty() {
            self.repair_before(word.start);
            if self.around().grammar == Grammar::Directives && (self.rejoin(&word) || self.comment(&word)) {
                return;
            }
        }
        self.words.push(word);
    }

    /// The words read so far are a statement, or several whose `;` was forgotten.
    pub(super) fn statement(&mut self, end: End) {
        let around = self.around();
        let mut words = std::mem::take(&mut self.words);
        let cuts = cuts::cuts(&words, end, around.grammar, around.realm);
        let mut later: Vec<Vec<Lexed>> = cuts.iter().rev().map(|cut| words.split_off(*cut)).collect();
        while let Some(next) = later.pop() {
            self.unterminated(std::mem::replace(&mut words, next));
        }
        match end {
            End::Semicolon(at) => {
                let directive = self.directive(&words, at + 1);
                self.complete(directive);
            }
            End::Open(at) => self.open(words, at),
            End::Close | End::Text => self.unterminated(words),
        }
    }

    /// A statement that lacks its `;`, or the `{` of its block.
    fn unterminated(&mut self, words: Vec<Lexed>) {
        let Some(last) = words.last() else { return };
        let around = self.around();
        let after = self.span(last.end, last.end);
        let place = self.place(last.end);
        let directive = self.directive(&words, last.end);
        let name = &directive.name.value;
        if around.grammar == Grammar::Directives && cuts::only_block(name, around.realm) {
            let fault = Diagnostic::error(after, format!("directive \"{name}\" has no opening \"{{\""));
            self.parser.report(fault.label("`{` is missing here").help(format!("add `{{` {place}")));
            let at = last.end;
            self.push(Some(directive), at);
            return;
        }
        let message = match (around.grammar, self.option) {
            (_, true) => "unexpected end of parameter, expecting \";\"".to_owned(),
            (Grammar::Directives, _) => format!("directive \"{name}\" is not terminated by \";\""),
            _ => format!("entry \"{name}\" is not terminated by \";\""),
        };
        let fault = Diagnostic::error(after, message).label("`;` is missing here");
        self.parser.report(fault.help(format!("add `;` {place}")));
        self.complete(directive);
    }

    /// The place of an offset in words: the end of its line, if only a comment follows there.
    fn place(&self, at: u32) -> String {
        let rest = &self.text[at as usize..];
        let line = rest[..rest.find_byte(b'\n').unwrap_or(rest.len())].trim_ascii();
        if self.option || !(line.is_empty() || line.starts_with(b"#")) {
            return "here".to_owned();
        }
        format!("at the end of line {}", self.parser.sources.line(self.source, at))
    }

    /// A directive without a block.
    fn complete(&mut self, directive: Directive) {
        if directive.name.value == "include" {
            let around = Surroundings { depth: self.outer.depth + self.frames.len(), ..self.around() };
            let mut included = self.parser.include(&directive, around);
            self.siblings().append(&mut included);
        } else {
            self.siblings().push(directive);
        }
    }

    /// A directive with a block.
    fn open(&mut self, words: Vec<Lexed>, at: u32) {
        let mut directive = self.directive(&words, at + 1);
        let brace = self.span(at, at + 1);
        if self.option {
            let fault = Diagnostic::error(brace, "block directives are not supported in -g option");
            self.parser.report(fault.label("a block begins here"));
            return self.push(None, at);
        }
        if self.around().grammar != Grammar::Directives && !self.leave_entries(&words, brace) {
            return self.push(None, at);
        }
        let name = &directive.name.value;
        if name == "include" {
            let fault = Diagnostic::error(brace, "directive \"include\" is not terminated by \";\"");
            self.parser.report(fault.label("`include` has no block"));
            return self.push(None, at);
        }
        if name.ends_with(b"_by_lua") {
            let message = format!("directive \"{name}\" is not terminated by \";\"");
            let fault =
                Diagnostic::error(directive.name.span, message).label("this form takes its code in quotes");
            self.parser.report(fault.help(format!("write `{name}_block {{ … }}`")));
            directive.name.value.extend_from_slice(b"_block");
            return self.lua(directive, at);
        }
        if name.ends_with(b"_by_lua_block") {
            return self.lua(directive, at);
        }
        self.push(Some(directive), at);
    }

    /// Opens a block.
    pub(super) fn push(&mut self, head: Option<Directive>, at: u32) {
        // Where the brace itself is missing, the text may end.
        let brace = self.span(at, (at + 1).min(self.text.len() as u32));
        if self.outer.depth + self.frames.len() >= MAX_DEPTH {
            let message = format!("blocks are nested more than {MAX_DEPTH} deep");
            self.parser.stop(Diagnostic::error(brace, message).label("one block too deep"));
            return;
        }
        let mut around = self.around();
        let mut indent = None;
        if let Some(head) = &head {
            self.suspect_place(head);
            indent = self.indent(head.name.span.start);
            around.realm = match head.name.value.as_slice() {
                b"stream" => Realm::Stream,
                b"mail" => Realm::Mail,
                b"http" => Realm::Http,
                _ => around.realm,
            };
            around.grammar = match around.realm.entries(&head.name.value).map(|entry| entry.block).next() {
                Some(Block::Words) => Grammar::Words,
                Some(Block::Pairs) => Grammar::Pairs,
                _ => Grammar::Directives,
            };
        }
        self.frames.push(Frame { head, open: brace, children: Vec::new(), around, indent });
    }

    /// Closes the innermost block and answers where it opened.
    pub(super) fn pop(&mut self) -> Option<Span> {
        let frame = self.frames.pop()?;
        let open = frame.open;
        self.attach(frame);
        Some(open)
    }

    /// Puts a closed block where it belongs. What stood in a block that nobody owns is dropped with it.
    fn attach(&mut self, frame: Frame) {
        if let Some(mut head) = frame.head {
            head.body = Body::Block(frame.children);
            self.siblings().push(head);
        }
    }

    pub(super) fn siblings(&mut self) -> &mut Vec<Directive> {
        match self.frames.last_mut() {
            Some(frame) => &mut frame.children,
            None => &mut self.top,
        }
    }

    pub(super) fn around(&self) -> Surroundings {
        self.frames.last().map_or(self.outer, |frame| frame.around)
    }

    pub(super) fn directive(&self, words: &[Lexed], end: u32) -> Directive {
        let mut words = words.iter().map(|word| self.own(word));
        let empty = || Word { value: Default::default(), span: self.span(end, end), quoted: false };
        let name = words.next().unwrap_or_else(empty);
        let span = self.span(name.span.start, end);
        Directive { name, args: words.collect(), body: Body::None, span }
    }

    pub(super) fn own(&self, word: &Lexed) -> Word {
        Word { value: word.value.clone(), span: self.span(word.start, word.end), quoted: word.quoted }
    }

    pub(super) fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.source, start, end)
    }

    /// How far the line of an offset is indented, if the offset begins it; a tab reaches to the next multiple of eight.
    pub(super) fn indent(&self, at: u32) -> Option<usize> {
        let (start, _) =
            self.parser.sources.line_range(self.source, self.parser.sources.line(self.source, at));
        let line = &self.text[start..at as usize];
        line.iter().try_fold(0, |width, byte| match byte {
            b' ' => Some(width + 1),
            b'\t' => Some(width / 8 * 8 + 8),
            _ => None,
        })
    }

    pub(super) fn begins_line(&self, at: u32) -> bool {
        self.indent(at).is_some()
    }
}
