//! What a program writes to stderr.

use std::collections::VecDeque;

/// Lines of stderr that are shown of a program that failed.
const LAST_LINES: usize = 20;
/// The longest line of stderr that is kept.
const LINE_BYTES: usize = 500;
/// Lines of stderr that may wait to be told.
const WAITING_LINES: usize = 200;

/// What a program writes to stderr, line by line.
#[derive(Default)]
pub struct Lines {
    /// The line that is not ended yet.
    open: Vec<u8>,
    last: VecDeque<String>,
    waiting: Vec<String>,
    /// Lines for which there was no place.
    lost: usize,
}

impl Lines {
    /// Goes on with more.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                // A bar that is drawn again and again ends its line by a return.
                b'\n' | b'\r' => self.end_line(),
                _ if self.open.len() < LINE_BYTES => self.open.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).into_owned();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        if self.waiting.len() < WAITING_LINES { self.waiting.push(line) } else { self.lost += 1 }
    }

    /// Takes those that wait to be told.
    pub fn take(&mut self) -> Vec<String> {
        let lost = std::mem::take(&mut self.lost);
        let mut lines = std::mem::take(&mut self.waiting);
        if lost > 0 {
            lines.push(format!("({lost} more lines)"));
        }
        lines
    }

    /// The last lines, each on one of its own.
    pub fn last(&mut self) -> String {
        self.end_line();
        self.last.iter().map(|line| format!("\n    {line}")).collect()
    }
}
