//! A fault in a configuration, as data.
//!
//! Owns what is said about a fault; [`crate::render`] owns how it looks. The message is nginx's own wording wherever
//! nginx has one, so that a search for it on the web still helps; cause and help are ours.

use crate::{SourceMap, Span, render};

/// Whether a fault refuses the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does: nginx's `[emerg]`.
    Emerg,
    /// It does not: nginx's `[warn]`.
    Warn,
}

impl Severity {
    /// Returns the word nginx's log has for it.
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
    /// The error, in nginx's words where it has them.
    pub message: String,
    /// Where the cause is.
    pub span: Option<Span>,
    /// The error at that place.
    pub label: Option<String>,
    /// The remedy.
    pub help: Option<String>,
    /// Related places, each with a label.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    /// Creates a fault that refuses the configuration.
    pub fn error(span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Self::new(Severity::Emerg, span.into(), message.into())
    }

    /// Creates a fault that does not refuse the configuration.
    pub fn warn(span: impl Into<Option<Span>>, message: impl Into<String>) -> Diagnostic {
        Self::new(Severity::Warn, span.into(), message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        Diagnostic { severity, message, span, label: None, help: None, also: Vec::new() }
    }

    /// Sets the label of the span.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Sets what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Adds a related place.
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.also.push((span, label.into()));
        self
    }

    /// Returns true if it refuses the configuration.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Emerg
    }

    /// Draws it for people: file, line, column, the line itself, the cause and the help, on lines that end in `\n`.
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        render::render(self, sources, colour)
    }

    /// Returns nginx's one line for tools, without the level: `MESSAGE in FILE:LINE`. The line is that of the cause.
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
