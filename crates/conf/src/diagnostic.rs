//! A fault in a configuration, as data.
//!
//! Owns what is said about a fault; [`crate::render`] owns how it looks. The message is nginx's own wording wherever
//! nginx has one, so that what people find on the web about it still helps; cause and mend are ours.

use crate::{SourceMap, Span, render};

/// Does the fault refuse the configuration?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does (nginx's `[emerg]`).
    Emerg,
    /// It does not (nginx's `[warn]`).
    Warn,
}

impl Severity {
    /// The word nginx's log has for it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Emerg => "emerg",
            Severity::Warn => "warn",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// What is wrong, in nginx's words where it has them.
    pub message: String,
    /// Where the cause is.
    pub span: Option<Span>,
    /// What is to be seen there.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that have to do with it, each with what is to be seen there.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A fault that refuses the configuration.
    pub fn error(span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Self::new(Severity::Emerg, span.into(), message.into())
    }

    /// A fault that does not.
    pub fn warn(span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Self::new(Severity::Warn, span.into(), message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        Diagnostic { severity, message, span, label: None, help: None, also: Vec::new() }
    }

    /// Says what is to be seen at the span.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Says what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Adds another place.
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.also.push((span, label.into()));
        self
    }

    /// Does it refuse the configuration?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Emerg
    }

    /// For people: file, line, column, the line itself, the cause and the mend, on several lines that end in `\n`.
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        render::render(self, sources, colour)
    }

    /// For tools: nginx's one line without level, `MESSAGE in FILE:LINE`. The line is that of the cause.
    pub fn nginx_line(&self, sources: &SourceMap) -> String {
        match self.span {
            None => self.message.clone(),
            Some(span) if sources.is_option(span.source) => format!("{} in command line", self.message),
            Some(span) => {
                let path = sources.path(span.source).display();
                format!("{} in {path}:{}", self.message, sources.line(span.source, span.start))
            }
        }
    }
}
