//! Tables for people: columns two spaces apart, numbers on the right.

use crate::session::{Ink, Session};

/// A column's heading and on which side its cells lean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    heading: String,
    right: bool,
}

impl Column {
    /// A column of texts.
    pub(crate) fn left(heading: impl Into<String>) -> Self {
        let heading = heading.into();
        Self {
            heading,
            right: false,
        }
    }

    /// A column of numbers.
    pub(crate) fn right(heading: impl Into<String>) -> Self {
        let heading = heading.into();
        Self {
            heading,
            right: true,
        }
    }
}

/// Rows below headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let columns = columns.into_iter().collect();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|c| visible(&c)).collect());
    }

    /// The text, a line break at the end of every line; nothing without rows.
    pub(crate) fn text(&self, session: &Session) -> String {
        self.lines(|heading| session.ink(Ink::Strong, heading))
    }

    fn lines(&self, heading: impl Fn(&str) -> String) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let headings: Vec<String> = self.columns.iter().map(|c| c.heading.clone()).collect();
        let width = |i: usize| {
            let cells = self.rows.iter().chain([&headings]).filter_map(|r| r.get(i));
            cells.map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = heading(self.line(&headings, &widths).trim_end());
        text.push('\n');
        for row in &self.rows {
            text += self.line(row, &widths).trim_end();
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let gap = " ".repeat(width - cell.chars().count());
            if column.right {
                line += &gap;
                line += cell;
            } else {
                line += cell;
                line += &gap;
            }
            line += "  ";
        }
        line
    }
}

/// Texts come from devices and functions: what would move the cursor or
/// colour the terminal is shown instead of done.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Column, Table, visible};

    #[test]
    fn numbers_lean_right_and_texts_left() {
        let mut table = Table::new([Column::left("NAME"), Column::right("N")]);
        table.row(["a".to_owned(), "5".to_owned()]);
        table.row(["größer".to_owned(), "1234".to_owned()]);
        assert_eq!(
            table.lines(str::to_owned),
            "NAME       N\na          5\ngrößer  1234\n"
        );
    }

    #[test]
    fn nothing_is_printed_without_rows() {
        assert_eq!(Table::new([Column::left("NAME")]).lines(str::to_owned), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
