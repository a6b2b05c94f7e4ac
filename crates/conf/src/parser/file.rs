//! One text, from its first statement to its last.
//!
//! Owns statements, blocks and the repair of braces. Blocks are kept on a list, not on the call stack, so that no text
//! can exhaust it.

use super::cuts::{self, End, Realm};
use super::{Grammar, MAX_DEPTH, Parser, Surroundings};
use crate::ledger::Block;
use crate::lexer::{Lexed, Lexer, Token};
use crate::lua_block::{Unclosed, end_of_block};
use crate::unknown::foreign_comment;
use crate::{Body, Diagnostic, Directive, LuaCode, SourceId, Span, Word};
use bstr::ByteSlice;

/// A block that is not closed yet.
struct Frame {
    /// The directive that opened it; none for a `{` that no directive can own.
    head: Option<Directive>,
    open: Span,
    children: Vec<Directive>,
    around: Surroundings,
    /// How far its directive is indented, if that begins a line.
    indent: Option<usize>,
}

/// A guess at a brace, made while reading on as if nothing were wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Repair {
    /// So many blocks end before this offset; the text there says why.
    Close { before: u32, blocks: usize, seen: Span, why: String },
    /// The `}` at this offset is one too many.
    Skip(u32),
    /// The Lua block opened at this offset does not end where its braces say.
    CutLua(u32),
}

/// The guesses a reading takes for granted.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    list: Vec<Repair>,
    given_up: bool,
}

impl Repairs {
    /// No guess is taken for granted and none is made.
    pub(super) fn given_up() -> Self {
        Repairs { list: Vec::new(), given_up: true }
    }

    /// Takes one more; not if it is there already.
    pub(super) fn add(&mut self, repair: Repair) -> bool {
        let new = !self.list.contains(&repair);
        self.list.push(repair);
        new
    }
}

/// Reads one text.
pub(super) struct FileParser<'p, 'l> {
    pub(super) parser: &'p mut Parser<'l>,
    pub(super) source: SourceId,
    pub(super) text: &'p [u8],
    pub(super) lexer: Lexer<'p>,
    /// The statement being read.
    pub(super) words: Vec<Lexed>,
    outer: Surroundings,
    frames: Vec<Frame>,
    top: Vec<Directive>,
    repairs: &'p Repairs,
    /// The first sign that a `}` is missing.
    missing: Option<Repair>,
    /// The first sign that a `}` is too many.
    extra: Option<Repair>,
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
                    self.parser.report(fault.label("no directive stands before it").mend("remove it"));
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
            self.parser.report(fault.mend("save the file as UTF-8 without byte order mark"));
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

    /// `proxy_pass http;//backend;`: the `;` is a slip for `:`. Puts the two halves together again.
    fn rejoin(&mut self, word: &Lexed) -> bool {
        let (source, text, start) = (self.source, self.text, word.start);
        if word.quoted || !word.value.starts_with(b"//") || self.text.get(start as usize - 1) != Some(&b';') {
            return false;
        }
        let siblings = self.siblings();
        let Some(before) =
            siblings.last().filter(|last| last.span.source == source && last.span.end == start)
        else {
            return false;
        };
        let Some(scheme) = before.args.last().filter(|last| !last.quoted && last.span.end + 1 == start)
        else {
            return false;
        };
        if !scheme.value.iter().all(u8::is_ascii_alphabetic) {
            return false;
        }
        let message = if before.name.value.ends_with(b"_pass") {
            "invalid URL prefix".to_owned()
        } else {
            format!("unknown directive \"{}\"", word.value)
        };
        let mend = format!("write `{}:{}`", scheme.value, word.value);
        let first = before.name.span.start;
        let Some(before) = siblings.pop() else { return false };
        let mut line_start = self.begins_line(first);
        for part in std::iter::once(before.name).chain(before.args) {
            let (start, end) = (part.span.start, part.span.end);
            self.words.push(Lexed {
                value: part.value,
                start,
                end,
                quoted: part.quoted,
                starts_line: line_start,
            });
            line_start = false;
        }
        if let Some(last) = self.words.last_mut() {
            last.value = text[last.start as usize..word.end as usize].into();
            last.value[(start - 1 - last.start) as usize] = b':';
            last.end = word.end;
        }
        let fault = Diagnostic::error(self.span(start - 1, start), message);
        self.parser.report(fault.label("`;` stands where `:` belongs").mend(mend));
        true
    }

    /// `-- text`: a comment of another language. Reads on after its line.
    fn comment(&mut self, word: &Lexed) -> bool {
        let Some(fault) = foreign_comment(&self.own(word)) else { return false };
        self.parser.report(fault);
        self.lexer.skip_line(word.start);
        true
    }

    /// `location ~ ^/\d{2}/ {`: the `{2}` of a pattern without quotes opens a block, whose first word `2}/` is no
    /// directive. Puts the pattern together again.
    fn repetition(&mut self, at: u32) -> bool {
        let inside = &self.text[at as usize + 1..];
        let digits = inside.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
        let number = inside.first().is_some_and(u8::is_ascii_digit) && inside.get(digits) == Some(&b'}');
        let Some(word) = self.words.last().filter(|word| word.end == at && !word.quoted && number) else {
            return false;
        };
        if self.around().grammar != Grammar::Directives {
            return false;
        }
        let tail = &inside[digits + 1..];
        let len = tail
            .iter()
            .take_while(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{'))
            .count();
        let end = at as usize + 1 + digits + 1 + len;
        let name = self.text[at as usize + 1..end].as_bstr();
        let fault = Diagnostic::error(self.span(at, at + 1), format!("unknown directive \"{name}\""));
        let whole = self.text[word.start as usize..end].as_bstr();
        let fault =
            fault.label("outside quotes, this `{` begins a block").mend(format!("write `\"{whole}\"`"));
        self.parser.report(fault);
        if let Some(word) = self.words.last_mut() {
            word.value = self.text[word.start as usize..end].into();
            word.end = end as u32;
        }
        self.lexer.jump(end);
        true
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
            self.parser.report(fault.label("`{` is missing here").mend(format!("add `{{` {place}")));
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
        self.parser.report(fault.mend(format!("add `;` {place}")));
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
            self.parser.report(fault.mend(format!("write `{name}_block {{ … }}`")));
            directive.name.value.extend_from_slice(b"_block");
            return self.lua(directive, at);
        }
        if name.ends_with(b"_by_lua_block") {
            return self.lua(directive, at);
        }
        self.push(Some(directive), at);
    }

    /// A `{` among entries: if a directive opens it, the block of entries was not closed. Leaves that block then.
    fn leave_entries(&mut self, words: &[Lexed], brace: Span) -> bool {
        let realm = self.around().realm;
        let fault = Diagnostic::error(brace, "unexpected \"{\"");
        let Some(frame) = self.frames.last().filter(|_| cuts::opens(words, realm)) else {
            self.parser.report(fault.label("an entry has no block"));
            return false;
        };
        let line = self.parser.sources.line(self.source, words[0].start);
        let fault = fault.also(frame.open, "this block is not closed");
        self.parser
            .report(fault.label("no block may begin here").mend(format!("add `}}` before line {line}")));
        self.pop();
        true
    }

    /// The block of a `*_by_lua_block`.
    fn lua(&mut self, mut directive: Directive, at: u32) {
        let start = at as usize + 1;
        let head = directive.name.span.start;
        let found = end_of_block(self.text, start);
        let end = match found {
            Ok(end) if !self.repairs.list.contains(&Repair::CutLua(at)) => {
                // A block that ends further out than it began may have taken a brace that is not its own.
                if self
                    .indent(head)
                    .zip(self.indent(end as u32))
                    .is_some_and(|(opened, closed)| closed < opened)
                {
                    self.missing.get_or_insert(Repair::CutLua(at));
                }
                end
            }
            found => {
                let likely = self.likely_end(head, start);
                self.unclosed_lua(at, found.err(), likely);
                likely
            }
        };
        let line = self.parser.sources.line(self.source, at);
        let code = self.text[start..end].into();
        directive.body = Body::Lua(LuaCode { code, span: self.span(start as u32, end as u32), line });
        self.siblings().push(directive);
        self.lexer.jump(end + 1);
    }

    /// Reports a Lua block without an end.
    fn unclosed_lua(&mut self, at: u32, why: Option<Unclosed>, likely_end: usize) {
        let brace = self.span(at, at + 1);
        let fault = match why {
            Some(Unclosed::LongBracket(from)) if from < likely_end => {
                let level = self.text[from + 1..].iter().take_while(|byte| **byte == b'=').count();
                let closing = format!("]{}]", "=".repeat(level));
                let message = format!("Lua code block missing the closing long bracket \"{closing}\"");
                let span = self.span(from as u32, (from + level + 2) as u32);
                let fault = Diagnostic::error(span, message).label("this long bracket is not closed");
                fault.also(brace, "in this block of Lua code").mend(format!("add `{closing}`"))
            }
            _ => {
                let message = "unexpected end of file, expecting terminating characters for lua code block";
                let fault = Diagnostic::error(brace, message).label("this block of Lua code is not closed");
                match self.text.get(likely_end) {
                    Some(_) => fault.also(
                        self.span(likely_end as u32, likely_end as u32 + 1),
                        "by its indentation it ends here, but a `{` of the code is not closed before",
                    ),
                    None => fault.mend("add `}`"),
                }
            }
        };
        self.parser.report(fault);
    }

    /// Where a block without an end most likely ends: at the first `}` as far indented as its directive.
    fn likely_end(&self, head: u32, start: usize) -> usize {
        let Some(indent) = self.indent(head) else { return self.text.len() };
        let closes = |at: &usize| self.text[*at] == b'}' && self.indent(*at as u32) == Some(indent);
        let braces = self.text[start..].find_iter(b"}").map(|at| start + at);
        braces.into_iter().find(closes).unwrap_or(self.text.len())
    }

    /// Opens a block.
    pub(super) fn push(&mut self, head: Option<Directive>, at: u32) {
        let brace = self.span(at, at + 1);
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

    /// A directive that may not stand here but may stand further out is a sign that a `}` is missing before it.
    fn suspect_place(&mut self, head: &Directive) {
        let Some(inner) = self.frames.len().checked_sub(1) else { return };
        let name = &head.name.value;
        let entries = self.around().realm.entries(name);
        let allowed = |context: &str| entries.clone().any(|entry| entry.contexts.contains(&context));
        let contexts: Vec<Option<&str>> = self.frames.iter().map(Frame::context).collect();
        let Some(here) = contexts[inner] else { return };
        if allowed(here) || allowed("any") {
            return;
        }
        let outer = (0..inner).rev().find(|nth| contexts[*nth].is_some_and(allowed));
        let blocks = match outer {
            Some(nth) => inner - nth,
            None if allowed("main") => inner + 1,
            None => return,
        };
        let here = here.rsplit('-').next().unwrap_or(here);
        let why = format!("`{name}` may not stand in `{here}`");
        let before = head.name.span.start;
        self.missing.get_or_insert(Repair::Close { before, blocks, seen: head.name.span, why });
    }

    /// A `}`.
    fn close_brace(&mut self, at: u32) -> Option<Repair> {
        if !self.words.is_empty() {
            self.statement(End::Close);
        }
        let brace = self.span(at, at + 1);
        if self.repairs.list.contains(&Repair::Skip(at)) {
            let fault = Diagnostic::error(brace, "unexpected \"}\"")
                .label("by its indentation, this one is too many");
            self.parser.report(fault.mend("remove it"));
            return None;
        }
        self.repair_before(at);
        let Some(frame) = self.frames.last() else {
            if let Some(extra) = self.extra.take().filter(|_| !self.repairs.given_up) {
                return Some(extra);
            }
            let fault = Diagnostic::error(brace, "unexpected \"}\"").label("no block is open here");
            self.parser.report(fault.mend("remove it"));
            return None;
        };
        if let (Some(opened), Some(closed)) = (frame.indent, self.indent(at)) {
            if closed < opened {
                let why = "by its indentation, this `}` closes a block further out".to_owned();
                self.missing.get_or_insert(Repair::Close { before: at, blocks: 1, seen: brace, why });
            } else if closed > opened {
                self.extra.get_or_insert(Repair::Skip(at));
            }
        }
        self.pop();
        None
    }

    /// Closes the blocks that an earlier reading found unclosed before this place.
    fn repair_before(&mut self, at: u32) {
        let repairs = self.repairs;
        for repair in &repairs.list {
            let Repair::Close { before, blocks, seen, why } = repair else { continue };
            if *before != at {
                continue;
            }
            for _ in 0..*blocks {
                let Some(open) = self.pop() else { return };
                let line = self.parser.sources.line(self.source, at);
                let fault = Diagnostic::error(open, "unexpected end of file, expecting \"}\"");
                let fault = fault.label("this block is not closed").also(*seen, why.as_str());
                self.parser.report(fault.mend(format!("add `}}` before line {line}")));
            }
        }
    }

    /// The end of the text.
    fn end(&mut self) -> Option<Repair> {
        if !self.words.is_empty() {
            self.statement(End::Text);
        }
        let frame = self.frames.last()?;
        if let Some(missing) = self.missing.take().filter(|_| !self.repairs.given_up) {
            return Some(missing);
        }
        let label = match self.frames.len() {
            1 => "this block is not closed".to_owned(),
            open => format!("{open} blocks are not closed, this one is the innermost"),
        };
        let fault = Diagnostic::error(frame.open, "unexpected end of file, expecting \"}\"");
        self.parser.report(fault.label(label).mend("add `}`"));
        None
    }

    /// Closes the innermost block and answers where it opened.
    fn pop(&mut self) -> Option<Span> {
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

    fn siblings(&mut self) -> &mut Vec<Directive> {
        match self.frames.last_mut() {
            Some(frame) => &mut frame.children,
            None => &mut self.top,
        }
    }

    fn around(&self) -> Surroundings {
        self.frames.last().map_or(self.outer, |frame| frame.around)
    }

    fn directive(&self, words: &[Lexed], end: u32) -> Directive {
        let mut words = words.iter().map(|word| self.own(word));
        let empty = || Word { value: Default::default(), span: self.span(end, end), quoted: false };
        let name = words.next().unwrap_or_else(empty);
        let span = self.span(name.span.start, end);
        Directive { name, args: words.collect(), body: Body::None, span }
    }

    fn own(&self, word: &Lexed) -> Word {
        Word { value: word.value.clone(), span: self.span(word.start, word.end), quoted: word.quoted }
    }

    pub(super) fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.source, start, end)
    }

    /// How far the line of an offset is indented, if the offset begins it; a tab reaches to the next multiple of eight.
    fn indent(&self, at: u32) -> Option<usize> {
        let before = &self.text[..at as usize];
        let line = &before[before.rfind_byte(b'\n').map_or(0, |newline| newline + 1)..];
        line.iter().try_fold(0, |width, byte| match byte {
            b' ' => Some(width + 1),
            b'\t' => Some(width / 8 * 8 + 8),
            _ => None,
        })
    }

    fn begins_line(&self, at: u32) -> bool {
        self.indent(at).is_some()
    }
}

impl Frame {
    /// The context its directives stand in, in the ledger's words, if that is certain.
    fn context(&self) -> Option<&'static str> {
        let name = self.head.as_ref()?.name.value.as_slice();
        match (self.around.realm, name) {
            (_, b"events") => Some("events"),
            (_, b"http") => Some("http"),
            (_, b"stream") => Some("stream"),
            (_, b"mail") => Some("mail"),
            (Realm::Http, b"server") => Some("server"),
            (Realm::Http, b"location") => Some("location"),
            (Realm::Http, b"upstream") => Some("upstream"),
            (Realm::Stream, b"server") => Some("stream-server"),
            (Realm::Stream, b"upstream") => Some("stream-upstream"),
            (Realm::Mail, b"server") => Some("mail-server"),
            _ => None,
        }
    }
}
