//! Words that our prose does without, because they read as translated: in comments, strings and documents, as whole
//! words, also where a line ends inside a phrase. Names in Rust code are not prose.
//!
//! A word alone in quotation marks is quoted, and may stay; so may nginx's user `nobody`.

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;

/// Texts of others, or written by tools.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE-APACHE"];

/// Written in halves, so that this file does not break its own lint. The second column says what to write.
const BANNED: [(&str, &str); 13] = [
    (concat!("who", "ever"), "name the party: the client, the caller, the operator"),
    (concat!("no", "body"), "name the party: no client, no one"),
    (concat!("me", "nd"), "fix, repair, correct"),
    (concat!("me", "nds"), "fixes, repairs"),
    (concat!("me", "nded"), "fixed, repaired"),
    (concat!("men", "ding"), "fixing, repairing"),
    (concat!("so ", "already"), "no change"),
    (concat!("go ", "over to"), "switch to, be applied to"),
    (concat!("goes ", "over to"), "switches to, is applied to"),
    (concat!("gone ", "over to"), "switched to, applied to"),
    (concat!("going ", "over to"), "switching to"),
    (concat!("for ", "ever"), "forever, without a limit"),
    (concat!("from ", "nothing"), "from scratch"),
];

/// Adds the banned words of a file.
pub(super) fn check(path: &str, text: &str, found: &mut Vec<Finding>) {
    if NOT_OURS.contains(&path) {
        return;
    }
    let prose = if path.ends_with(".rs") { without_names(text) } else { text.to_owned() };
    let words = words(&prose);
    for at in 0..words.len() {
        for (phrase, instead) in BANNED {
            if stands_at(&prose, &words, at, phrase) && !is_quoted(&prose, &words, at, phrase) {
                found.push(Finding::new(path, words[at].line, "word", phrase, format!("write: {instead}")));
            }
        }
    }
}

/// A word of a text.
struct Word {
    start: usize,
    end: usize,
    line: usize,
}

impl Word {
    fn is(&self, text: &str, word: &str) -> bool {
        text[self.start..self.end].eq_ignore_ascii_case(word)
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut line = 1;
    let mut inside = false;
    for (at, c) in text.char_indices() {
        let is_letter = c.is_alphanumeric() || c == '_';
        match words.last_mut() {
            Some(word) if is_letter && inside => word.end = at + c.len_utf8(),
            _ if is_letter => words.push(Word { start: at, end: at + c.len_utf8(), line }),
            _ => {}
        }
        inside = is_letter;
        line += usize::from(c == '\n');
    }
    words
}

/// Returns whether the phrase's words begin here, with blanks, line ends and the marks of comments between them.
fn stands_at(text: &str, words: &[Word], at: usize, phrase: &str) -> bool {
    phrase.split(' ').enumerate().all(|(i, part)| {
        words.get(at + i).is_some_and(|word| {
            let between = if i == 0 { " " } else { &text[words[at + i - 1].end..word.start] };
            word.is(text, part) && between.chars().all(|c| c.is_whitespace() || "/!*#>\\".contains(c))
        })
    })
}

fn is_quoted(text: &str, words: &[Word], at: usize, phrase: &str) -> bool {
    let (before, after) = (text[..words[at].start].chars().next_back(), text[words[at].end..].chars().next());
    let in_marks = before == after && matches!(before, Some('`' | '"' | '\''));
    // `user nobody;` of nginx.conf, with any blanks, quoted or not.
    let is_user = phrase == BANNED[1].0
        && at.checked_sub(1).is_some_and(|before| {
            words[before].is(text, "user")
                && text[words[before].end..words[at].start]
                    .chars()
                    .all(|c| c.is_whitespace() || "\"`".contains(c))
        });
    in_marks || is_user
}

/// Returns the text of a Rust file with its names blanked out.
fn without_names(text: &str) -> String {
    let mut lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    if let Ok(stream) = text.parse::<TokenStream>() {
        blank_names(stream, &mut lines);
    }
    lines.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
}

fn blank_names(stream: TokenStream, lines: &mut [Vec<char>]) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => blank_names(group.stream(), lines),
            TokenTree::Ident(name) => {
                let start = name.span().start();
                let letters: Vec<char> = name.to_string().chars().collect();
                let place = lines
                    .get_mut(start.line - 1)
                    .and_then(|line| line.get_mut(start.column..start.column + letters.len()));
                // A documentation comment is an attribute named `doc` to the parser: that text is no name.
                if let Some(place) = place
                    && *place == letters
                {
                    place.fill('_');
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        check(path, text, &mut found);
        found.into_iter().map(|f| (f.line, f.subject)).collect()
    }

    #[test]
    fn each_is_found_as_a_whole_word_in_any_case() {
        for (phrase, _) in BANNED {
            let one = [(2, phrase.to_owned())];
            assert_eq!(found("docs/a.md", &format!("A\nb, {phrase}.\n")), one);
            assert_eq!(found("docs/a.md", &format!("A\n{}\n", phrase.to_uppercase())), one);
            assert_eq!(found("docs/a.md", &format!("A\n({}'s)\n", phrase.replace(' ', "\n"))), one);
            assert_eq!(found("docs/a.md", &format!("A\nx{phrase} {phrase}x {phrase}_\n")), []);
        }
    }

    #[test]
    fn rust_is_looked_at_in_comments_and_strings() {
        let word = BANNED[0].0;
        for text in [
            format!("/// For {word}.\nfn a() {{}}"),
            format!("// For {word}.\nfn a() {{}}"),
            format!("fn a() {{ b(\"for {word} it is\") }}"),
            format!("//! For {word}."),
            format!("fn a() {{ b!(\"{{x}} {word} {{y}}\") }}"),
        ] {
            assert_eq!(found("a.rs", &text), [(1, word.to_owned())], "{text}");
        }
        assert_eq!(found("a.rs", &format!("fn {word}() {{ let {word} = b({word}::c, d.{word}); }}")), []);
    }

    #[test]
    fn a_phrase_goes_on_in_the_next_line_of_a_comment() {
        let (first, second) = BANNED[11].0.split_once(' ').expect("two words");
        assert_eq!(found("a.rs", &format!("/// It is {first}\n    /// {second} so.\nfn a() {{}}")).len(), 1);
        assert_eq!(found("a.sh", &format!("# It is {first}\n# {second} so.\n")).len(), 1);
        assert_eq!(found("a.md", &format!("It is {first}; {second} so.\n")), []);
    }

    #[test]
    fn quotations_may_stay() {
        let user = BANNED[1].0;
        for text in [
            format!("user {user};"),
            format!("user\t  {user} ;"),
            format!("as the user `{user}`"),
            format!("\"user\" \"{user}\";"),
            format!("runs as '{user}' then"),
        ] {
            assert_eq!(found("docs/a.md", &text), [], "{text}");
        }
        assert_eq!(found("docs/a.md", &format!("\"{user} came\"")).len(), 1);
        assert_eq!(found("docs/a.md", &format!("the user: {user}")).len(), 1);
    }

    #[test]
    fn texts_of_others_are_skipped() {
        assert_eq!(found("LICENSE-APACHE", BANNED[0].0), []);
    }
}
