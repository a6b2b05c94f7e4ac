//! The conditions of `if`.

use crate::exchange::Exchange;
use crate::host::{Env, KeptOpen, Level, OpenRequest, Symlinks};
use crate::log_line;
use crate::modules::core::keep_named_captures;
use crate::modules::static_files::confine;
use crate::regex::Regex;
use crate::template::Template;
use crate::variables::{self, VariableId};

/// A test of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTest {
    /// `-f`: a regular file.
    File,
    /// `-d`: a directory.
    Directory,
    /// `-e`: anything.
    Exists,
    /// `-x`: something executable.
    Executable,
}

impl FileTest {
    fn holds(self, env: &mut Env<'_>, path: &[u8], kept: Option<KeptOpen>) -> bool {
        let request =
            OpenRequest { path, stat_only: true, symlinks: Symlinks::Follow, trusted_prefix: 0, kept };
        env.host.open(request).is_ok_and(|found| match self {
            FileTest::File => found.is_file,
            FileTest::Directory => found.is_dir,
            FileTest::Exists => true,
            FileTest::Executable => found.is_executable,
        })
    }
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// `$variable`: neither empty nor `0`.
    True(VariableId),
    /// `$variable = text`, `!=`.
    Equals {
        /// Left.
        variable: VariableId,
        /// Right.
        text: Template,
        /// `!=`.
        negated: bool,
    },
    /// `$variable ~ regex`, `~*`, `!~`, `!~*`.
    Matches {
        /// Left.
        variable: VariableId,
        /// Right.
        regex: Regex,
        /// With `!`.
        negated: bool,
    },
    /// `-f path`, `-d`, `-e`, `-x`.
    File {
        /// The path.
        path: Template,
        /// The test.
        test: FileTest,
        /// With `!`.
        negated: bool,
    },
}

impl Condition {
    /// Returns whether it holds for this request.
    ///
    /// # Errors
    /// 500 if a regular expression gave up.
    pub fn holds(&self, exchange: &mut Exchange, env: &mut Env<'_>, quote: bool) -> Result<bool, u16> {
        match self {
            Condition::True(variable) => {
                let mut value = Vec::new();
                variables::append(exchange, env, *variable, &mut value);
                Ok(!value.is_empty() && value != b"0")
            }
            Condition::Equals { variable, text, negated } => {
                let mut left = Vec::new();
                variables::append(exchange, env, *variable, &mut left);
                let right = text.value_in_rewrite(exchange, env, quote);
                Ok((left == right) != *negated)
            }
            Condition::Matches { variable, regex, negated } => {
                let mut left = Vec::new();
                variables::append(exchange, env, *variable, &mut left);
                match regex.captures(&left, &mut exchange.captures) {
                    Ok(matched) => {
                        if matched {
                            keep_named_captures(exchange, env.config, regex);
                        }
                        Ok(matched != *negated)
                    }
                    Err(_) => {
                        log_line::error(
                            exchange,
                            env,
                            Level::Alert,
                            b"a regular expression of \"if\" gave up",
                        );
                        Err(500)
                    }
                }
            }
            Condition::File { path, test, negated } => {
                let mut whole = Vec::new();
                let files = &exchange.settings(env.config).static_files;
                let kept = files.open_cache.kept();
                let is_there = confine::append_in_rewrite(path, exchange, env, quote, &mut whole).is_ok()
                    && test.holds(env, &whole, kept);
                Ok(is_there != *negated)
            }
        }
    }
}
