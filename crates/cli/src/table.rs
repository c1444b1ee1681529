//! Tables for people. In a pipe they are as wide as their content, one line a row.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table as Grid};

use crate::terminal::Paint;

/// Blanks between two columns.
const GAP: u16 = 2;

/// A column: its title, and whether its content must never be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    whole: bool,
}

/// A column with something to copy, such as an id.
pub(crate) const fn whole(title: &'static str) -> Column {
    Column { title, whole: true }
}

/// A column that ends in `…` where the terminal is too narrow.
pub(crate) const fn text(title: &'static str) -> Column {
    Column { title, whole: false }
}

/// The rows under their titles, no wider than `width`; a sentence if there are none.
pub(crate) fn render(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>, paint: Paint) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let mut grid = Grid::new();
    grid.load_style(NOTHING).set_truncation_indicator("…");
    grid.set_header(columns.iter().map(|column| column.title));
    for row in rows {
        let mut row = Row::from(row);
        row.max_height(1);
        grid.add_row(row);
    }
    if let Some(width) = width {
        grid.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    for (column, grid) in columns.iter().zip(grid.column_iter_mut()) {
        grid.set_padding((0, GAP));
        if column.whole && width.is_some() {
            grid.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let lines = grid.lines().enumerate().map(|(at, line)| {
        let line = line.trim_end().to_owned();
        if at == 0 { paint.bold(&line) } else { line }
    });
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

/// One thing: its properties under each other, those without a value left out.
pub(crate) fn properties(list: &[(&str, String)]) -> String {
    let width = list.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = list.iter().filter(|(_, value)| !value.is_empty());
    lines.fold(String::new(), |text, (name, value)| text + &format!("{name:width$}  {value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [text("NAME"), whole("ID"), text("SCOPE")];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["press", "client_01h455vb4pex5vsknk084sn02q", "Worker"]),
            row(["Förderband in Halle 3, Nord", "client_x", ""]),
        ]
    }

    fn widest(table: &str) -> usize {
        table.lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn in_a_pipe_nothing_is_cut() {
        let table = render(&COLUMNS, rows(), None, Paint::never());
        let expected = "\
NAME                         ID                                 SCOPE
press                        client_01h455vb4pex5vsknk084sn02q  Worker
Förderband in Halle 3, Nord  client_x
";
        assert_eq!(table, expected);
    }

    #[test]
    fn in_a_narrow_terminal_names_are_cut_and_ids_are_not() {
        let table = render(&COLUMNS, rows(), Some(60), Paint::never());
        assert!(widest(&table) <= 60, "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("client_01h455vb4pex5vsknk084sn02q") && table.contains('…'), "{table}");
    }

    #[test]
    fn no_rows_are_said_in_a_word() {
        assert_eq!(render(&COLUMNS, Vec::new(), None, Paint::never()), "none\n");
    }

    #[test]
    fn properties_without_a_value_are_left_out() {
        let list = [("name", "press".to_owned()), ("email", String::new()), ("id", "x".to_owned())];
        assert_eq!(properties(&list), "name   press\nid     x\n");
    }
}
