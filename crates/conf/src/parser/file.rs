//! One text, from its first statement to its last.
//!
//! Owns nginx's grammar: statements, blocks and Lua blocks. Where a text breaks it, [`recovery`](crate::recovery) says
//! how to read on. Blocks are kept on a list, not on the call stack, so that no text can exhaust it.

use super::{MAX_DEPTH, Parser};
use crate::known_directives::Block;
use crate::lexer::{Lexed, Lexer, Resumed, Token};
use crate::lua_block::end_of_block;
use crate::recovery::braces::{Brace, BraceFix, BraceFixes};
use crate::recovery::missing_semicolon::{self, Missing};
use crate::recovery::{
    Action, ParseState, Recovery, SyntaxError, block_in_option, block_of_include, recover,
};
use crate::syntax::{End, Grammar, OpenBlock, Realm, Scope};
use crate::{Body, Diagnostic, Directive, LuaCode, SourceId, Span, Word};

/// Reads one text.
pub(super) struct FileParser<'p, 'l> {
    parser: &'p mut Parser<'l>,
    source: SourceId,
    text: &'p [u8],
    lexer: Lexer<'p>,
    /// The statement being read.
    words: Vec<Lexed>,
    outer: Scope,
    blocks: Vec<OpenBlock>,
    top: Vec<Directive>,
    fixes: &'p BraceFixes,
    /// Every brace so far.
    braces: Vec<Brace>,
}

impl<'p, 'l> FileParser<'p, 'l> {
    pub(super) fn new(
        parser: &'p mut Parser<'l>,
        source: SourceId,
        text: &'p [u8],
        outer: Scope,
        fixes: &'p BraceFixes,
    ) -> Self {
        let lexer = Lexer::new(text, !parser.sources.is_option(source));
        let (words, blocks, top, braces) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        FileParser { parser, source, text, lexer, words, outer, blocks, top, fixes, braces }
    }

    /// Returns the directives of the text, and a guess to read it again with if its braces do not fit.
    pub(super) fn read(mut self) -> (Vec<Directive>, Option<BraceFix>) {
        if let Some(warning) = self.state().byte_order_mark() {
            self.parser.report(warning);
            self.lexer.jump(3);
        }
        while !self.parser.stopped {
            match self.lexer.next() {
                Token::Word(word) => self.word(word),
                Token::Semicolon(at) if self.words.is_empty() => {
                    self.recover(SyntaxError::EmptyStatement { at });
                }
                Token::Semicolon(at) => self.statement(End::Semicolon(at)),
                Token::Open(at) if self.words.is_empty() => self.recover(SyntaxError::NamelessBlock { at }),
                Token::Open(at) => match self.state().repetition(at) {
                    Some(recovery) => self.apply(recovery),
                    None => self.statement(End::Open(at)),
                },
                Token::Close(at) => self.close(at),
                Token::LexFault(fault) => self.recover(SyntaxError::NoToken(fault)),
                Token::End => {
                    self.end();
                    break;
                }
            }
        }
        let fix = if self.parser.stopped { None } else { self.state().guess_braces(&self.braces) };
        while self.pop().is_some() {}
        (self.top, fix)
    }

    fn word(&mut self, word: Lexed) {
        if self.words.is_empty() {
            self.close_before(word.start);
            if let Some(recovery) = self.state().odd_first_word(&word) {
                return self.apply(recovery);
            }
        }
        self.words.push(word);
    }

    /// Takes the words read so far as a statement, or as several whose `;` was forgotten.
    fn statement(&mut self, end: End) {
        let mut words = std::mem::take(&mut self.words);
        let starts = missing_semicolon::starts(&words, end, self.scope());
        let mut later: Vec<Vec<Lexed>> = starts.iter().rev().map(|start| words.split_off(*start)).collect();
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

    /// Takes a statement that lacks its `;`, or the `{` of its block.
    fn unterminated(&mut self, words: Vec<Lexed>) {
        let Some(end) = words.last().map(|last| last.end) else { return };
        let directive = self.directive(&words, end);
        let (fault, missing) = self.state().unterminated(&directive, end);
        self.parser.report(fault);
        match missing {
            Missing::Semicolon => self.complete(directive),
            Missing::Brace => self.push(Some(directive), end),
        }
    }

    /// Takes a directive without a block.
    fn complete(&mut self, directive: Directive) {
        if directive.name.value == "include" {
            let scope = Scope { depth: self.outer.depth + self.blocks.len(), ..self.scope() };
            let mut included = self.parser.include(&directive, scope);
            self.siblings().append(&mut included);
        } else {
            self.siblings().push(directive);
        }
    }

    /// Takes a directive with a block, whose `{` is at this offset.
    fn open(&mut self, words: Vec<Lexed>, at: u32) {
        if self.parser.sources.is_option(self.source) {
            let fault = block_in_option(&self.state(), at);
            self.parser.report(fault);
            return self.push(None, at);
        }
        if self.scope().grammar != Grammar::Directives {
            let (fault, is_head) = self.state().block_in_entries(&words, at);
            self.parser.report(fault);
            if !is_head {
                return self.push(None, at);
            }
            self.end_block();
        }
        let mut directive = self.directive(&words, at + 1);
        if directive.name.value == "include" {
            let fault = block_of_include(&self.state(), at);
            self.parser.report(fault);
            return self.push(None, at);
        }
        if let Some(fault) = self.state().quoted_lua(&directive) {
            self.parser.report(fault);
            directive.name.value.extend_from_slice(b"_block");
        }
        if directive.name.value.ends_with(b"_by_lua_block") {
            return self.lua(directive, at);
        }
        self.push(Some(directive), at);
    }

    /// Reads the block of a `*_by_lua_block`.
    fn lua(&mut self, mut directive: Directive, open: u32) {
        let start = open as usize + 1;
        let name = directive.name.span.start;
        let end = match end_of_block(self.text, start) {
            Ok(end) if !self.fixes.cuts_lua(open) => {
                self.braces.push(Brace::Lua { name, open, close: end as u32 });
                end
            }
            found => {
                let state = self.state();
                let likely = state.likely_lua_end(name, start);
                let fault = state.unclosed_lua(open, found.err(), likely);
                self.parser.report(fault);
                likely
            }
        };
        let line = self.parser.sources.line(self.source, open);
        let code = self.text[start..end].into();
        directive.body = Body::Lua(LuaCode { code, span: self.span(start as u32, end as u32), line });
        self.siblings().push(directive);
        self.lexer.jump(end + 1);
    }

    /// Opens a block.
    fn push(&mut self, head: Option<Directive>, at: u32) {
        // Where the brace itself is missing, the text may end.
        let open = self.span(at, (at + 1).min(self.text.len() as u32));
        if self.outer.depth + self.blocks.len() >= MAX_DEPTH {
            let message = format!("blocks are nested more than {MAX_DEPTH} deep");
            self.parser.stop(Diagnostic::error(open, message).label("one block too deep"));
            return;
        }
        let mut scope = self.scope();
        if let Some(head) = &head {
            scope.realm = match head.name.value.as_slice() {
                b"stream" => Realm::Stream,
                b"mail" => Realm::Mail,
                b"http" => Realm::Http,
                _ => scope.realm,
            };
            scope.grammar = match scope.realm.entries(&head.name.value).map(|entry| entry.block).next() {
                Some(Block::Words) => Grammar::Words,
                Some(Block::Pairs) => Grammar::Pairs,
                _ => Grammar::Directives,
            };
        }
        let name = head.as_ref().map(|head| head.name.span);
        self.braces.push(Brace::Open { name, realm: scope.realm });
        self.blocks.push(OpenBlock { head, open, scope, children: Vec::new() });
    }

    /// Takes a `}`.
    fn close(&mut self, at: u32) {
        if !self.words.is_empty() {
            self.statement(End::Close);
        }
        if self.fixes.skips(at) {
            let fault = self.state().superfluous_brace(at);
            return self.parser.report(fault);
        }
        self.close_before(at);
        if self.pop().is_some() {
            self.braces.push(Brace::Close(at));
        } else {
            self.braces.push(Brace::Stray);
            self.recover(SyntaxError::StrayClose { at });
        }
    }

    /// Closes the blocks that end before this offset according to a guess.
    fn close_before(&mut self, at: u32) {
        let fixes = self.fixes;
        for (blocks, seen, why) in fixes.closings(at) {
            for _ in 0..blocks {
                let Some(open) = self.end_block() else { return };
                let fault = self.state().unclosed_before(at, open, seen, why);
                self.parser.report(fault);
            }
        }
    }

    /// Takes the end of the text.
    fn end(&mut self) {
        if !self.words.is_empty() {
            self.statement(End::Text);
        }
        if !self.blocks.is_empty() {
            self.recover(SyntaxError::UnclosedBlocks);
        }
    }

    /// Closes the innermost block where no `}` does.
    fn end_block(&mut self) -> Option<Span> {
        self.braces.push(Brace::Ended);
        self.pop()
    }

    /// Closes the innermost block and returns where it opened. The directives of a block without a head are dropped.
    fn pop(&mut self) -> Option<Span> {
        let block = self.blocks.pop()?;
        if let Some(mut head) = block.head {
            head.body = Body::Block(block.children);
            self.siblings().push(head);
        }
        Some(block.open)
    }

    /// Reports an error and reads on behind it.
    fn recover(&mut self, error: SyntaxError) {
        let recovery = recover(&self.state(), error);
        self.apply(recovery);
    }

    fn apply(&mut self, Recovery { diagnostic, action }: Recovery) {
        self.parser.report(diagnostic);
        match action {
            Action::TakeWord(word) => {
                self.lexer.jump(word.end as usize);
                self.words.push(word);
            }
            Action::ExtendWord { end } => {
                if let Some(word) = self.words.last_mut() {
                    word.value = self.text[word.start as usize..end as usize].into();
                    word.end = end;
                }
                self.lexer.jump(end as usize);
            }
            Action::Reopen(words) => {
                self.siblings().pop();
                self.words = words;
            }
            Action::SkipLine { from } => self.lexer.skip_line(from),
            Action::DropStatement { from } => {
                self.words.clear();
                if let Resumed::Open(at) = self.lexer.resume(from) {
                    self.push(None, at);
                }
            }
            Action::OpenNameless { at } => self.push(None, at),
            Action::Continue => {}
        }
    }

    fn state(&self) -> ParseState<'_> {
        let siblings = self.blocks.last().map_or(&self.top, |block| &block.children);
        ParseState {
            text: self.text,
            source: self.source,
            sources: &self.parser.sources,
            words: &self.words,
            blocks: &self.blocks,
            scope: self.scope(),
            last: siblings.last(),
        }
    }

    fn siblings(&mut self) -> &mut Vec<Directive> {
        match self.blocks.last_mut() {
            Some(block) => &mut block.children,
            None => &mut self.top,
        }
    }

    fn scope(&self) -> Scope {
        self.blocks.last().map_or(self.outer, |block| block.scope)
    }

    fn directive(&self, words: &[Lexed], end: u32) -> Directive {
        let mut words = words.iter().map(|word| word.to_word(self.source));
        let empty = || Word { value: Default::default(), span: self.span(end, end), quoted: false };
        let name = words.next().unwrap_or_else(empty);
        let span = self.span(name.span.start, end);
        Directive { name, args: words.collect(), body: Body::None, span }
    }

    fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.source, start, end)
    }
}
