//! The line that is being edited, and the lines before it.

use super::terminal::Key;

/// Lines that are remembered.
const REMEMBERED: usize = 1000;

/// A line and its cursor.
#[derive(Debug, Default, Clone)]
pub struct Line {
    text: Vec<char>,
    cursor: usize,
    cut: Vec<char>,
}

impl Line {
    /// The text.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text before the cursor.
    pub fn before(&self) -> String {
        self.text[..self.cursor].iter().collect()
    }

    /// Whether the line is empty.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Another text, the cursor at its end.
    pub fn set(&mut self, text: &str) {
        self.text = text.chars().collect();
        self.cursor = self.text.len();
    }

    /// Puts text in place of so many characters before the cursor.
    pub fn replace(&mut self, before: usize, text: &str) {
        let start = self.cursor.saturating_sub(before);
        self.text.splice(start..self.cursor, text.chars());
        self.cursor = start + text.chars().count();
    }

    /// Does what a key says about the line; keys that are about something else do nothing.
    pub fn edit(&mut self, key: Key) {
        match key {
            Key::Char(char) => {
                self.text.insert(self.cursor, char);
                self.cursor += 1;
            }
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete | Key::EndOfInput if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Key::Left { word: false } => self.cursor = self.cursor.saturating_sub(1),
            Key::Right { word: false } => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::Left { word: true } => self.cursor = self.word_start(),
            Key::Right { word: true } => self.cursor = self.word_end(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.text.len(),
            Key::CutEnd => self.cut = self.text.split_off(self.cursor),
            Key::CutStart => self.cut_from(0),
            Key::CutWord => self.cut_from(self.word_start()),
            Key::Paste => {
                let cut = self.cut.clone();
                self.replace(0, &cut.iter().collect::<String>());
            }
            _ => {}
        }
    }

    fn cut_from(&mut self, start: usize) {
        self.cut = self.text.drain(start..self.cursor).collect();
        self.cursor = start;
    }

    fn word_start(&self) -> usize {
        let mut at = self.cursor;
        while at > 0 && !self.text[at - 1].is_alphanumeric() {
            at -= 1;
        }
        while at > 0 && self.text[at - 1].is_alphanumeric() {
            at -= 1;
        }
        at
    }

    fn word_end(&self) -> usize {
        let mut at = self.cursor;
        while at < self.text.len() && !self.text[at].is_alphanumeric() {
            at += 1;
        }
        while at < self.text.len() && self.text[at].is_alphanumeric() {
            at += 1;
        }
        at
    }

    /// What of the line fits into so many columns, the cursor among it, and the cursor's column.
    pub fn window(&self, columns: usize) -> (String, usize) {
        let width = |text: &[char]| console::measure_text_width(&text.iter().collect::<String>());
        let mut start = 0;
        while width(&self.text[start..self.cursor]) >= columns.max(1) {
            start += 1;
        }
        let mut end = self.cursor;
        while end < self.text.len() && width(&self.text[start..=end]) < columns {
            end += 1;
        }
        (self.text[start..end].iter().collect(), width(&self.text[start..self.cursor]))
    }
}

/// Earlier lines.
#[derive(Debug, Default)]
pub struct History {
    lines: Vec<String>,
    /// The line that is shown, where it is not the new one.
    at: Option<usize>,
    /// The new one, while another is shown.
    draft: String,
}

impl History {
    /// The lines of a file's text.
    pub fn read(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect(), ..Self::default() }
    }

    /// A file's text: the last lines.
    pub fn write(&self) -> String {
        let from = self.lines.len().saturating_sub(REMEMBERED);
        self.lines[from..].iter().map(|line| format!("{line}\n")).collect()
    }

    /// Adds a line, unless it is the last one again.
    pub fn add(&mut self, line: &str) {
        self.at = None;
        if !line.trim().is_empty() && self.lines.last().is_none_or(|last| last != line) {
            self.lines.push(line.to_owned());
        }
    }

    /// Shows the line before the one that is shown.
    pub fn earlier(&mut self, line: &mut Line) {
        let at = self.at.unwrap_or(self.lines.len());
        if at == 0 {
            return;
        }
        if self.at.is_none() {
            self.draft = line.text();
        }
        self.at = Some(at - 1);
        line.set(&self.lines[at - 1]);
    }

    /// Shows the line behind the one that is shown.
    pub fn later(&mut self, line: &mut Line) {
        let Some(at) = self.at else { return };
        self.at = (at + 1 < self.lines.len()).then_some(at + 1);
        line.set(self.at.map_or(&self.draft, |at| &self.lines[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Line {
        let mut line = Line::default();
        text.chars().for_each(|char| line.edit(Key::Char(char)));
        line
    }

    #[test]
    fn keys_edit() {
        let mut line = typed("select a.b from t");
        for (key, expected) in [
            (Key::CutWord, "select a.b from "),
            (Key::Left { word: true }, "select a.b from "),
            (Key::Char('x'), "select a.b xfrom "),
            (Key::Backspace, "select a.b from "),
            (Key::CutEnd, "select a.b "),
            (Key::Home, "select a.b "),
            (Key::Paste, "from select a.b "),
            (Key::Delete, "from elect a.b "),
            (Key::CutStart, "elect a.b "),
            (Key::Right { word: true }, "elect a.b "),
            (Key::Char('s'), "elects a.b "),
            (Key::EndOfInput, "electsa.b "),
            (Key::End, "electsa.b "),
            (Key::EndOfInput, "electsa.b "),
        ] {
            line.edit(key);
            assert_eq!(line.text(), expected, "{key:?}");
        }
        line.replace(2, "c");
        assert_eq!((line.text().as_str(), line.before().as_str()), ("electsa.c", "electsa.c"));
    }

    #[test]
    fn long_lines_are_seen_in_part() {
        let mut line = typed("0123456789");
        assert_eq!(line.window(20), ("0123456789".into(), 10));
        assert_eq!(line.window(4), ("789".into(), 3));
        line.edit(Key::Home);
        assert_eq!(line.window(4), ("012".into(), 0));
        assert_eq!(typed("图图图").window(5), ("图图".into(), 4));
    }

    #[test]
    fn lines_come_back() {
        let mut history = History::read("one\ntwo\n");
        history.add("two");
        history.add(" ");
        let mut line = typed("new");
        let mut seen = Vec::new();
        for _ in 0..3 {
            history.earlier(&mut line);
            seen.push(line.text());
        }
        for _ in 0..3 {
            history.later(&mut line);
            seen.push(line.text());
        }
        assert_eq!(seen, ["two", "one", "one", "two", "new", "new"]);
        assert_eq!(history.write(), "one\ntwo\n");
    }
}
