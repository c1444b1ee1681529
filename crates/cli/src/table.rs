//! Tables for people. In a pipe they are as wide as their content, one line a row.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::Paint;
use crate::terminal::visible;

/// Blanks between two columns.
const GAP: usize = 2;
/// A column that may be cut keeps this many characters, or its title if that is longer.
const LEAST: usize = 8;

/// A column: its title, and what happens to it where the terminal is too narrow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Text,
    Spare,
}

/// A column with something to copy, such as an id: never cut.
pub(crate) const fn whole(title: &'static str) -> Column {
    Column { title, kind: Kind::Whole }
}

/// A column that ends in `…` where there is not enough room.
pub(crate) const fn text(title: &'static str) -> Column {
    Column { title, kind: Kind::Text }
}

/// A column that is left out where there is not enough room.
pub(crate) const fn spare(title: &'static str) -> Column {
    Column { title, kind: Kind::Spare }
}

/// The rows under their titles, no wider than `width` if that can be; a word if there are none.
pub(crate) fn render(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>, paint: Paint) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let shown = |row: &Vec<String>| row.iter().map(|cell| visible(cell)).collect::<Vec<_>>();
    let rows: Vec<_> = rows.iter().map(shown).collect();
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max().unwrap_or(0);
    let natural = columns.iter().enumerate().map(|(at, column)| (at, widest(at).max(column.title.width())));
    let natural: Vec<_> = natural.collect();
    let kept = match width {
        Some(width) => fit(columns, natural, width.into()),
        None => natural,
    };
    let titles: Vec<_> = columns.iter().map(|column| column.title.to_owned()).collect();
    let mut out = paint.bold(&line(&titles, &kept)) + "\n";
    for row in &rows {
        out.push_str(&line(row, &kept));
        out.push('\n');
    }
    out
}

/// Leaves out columns from the right, then narrows the widest, until the rest fits.
fn fit(columns: &[Column], mut kept: Vec<(usize, usize)>, width: usize) -> Vec<(usize, usize)> {
    let kind = |at: usize| columns.get(at).map(|column| column.kind);
    let least = |at: usize| columns.get(at).map_or(LEAST, |column| column.title.width().max(LEAST));
    let total = |kept: &[(usize, usize)]| kept.iter().map(|(_, w)| w + GAP).sum::<usize>().saturating_sub(GAP);
    while total(&kept) > width {
        let Some(last) = kept.iter().rposition(|(at, _)| kind(*at) == Some(Kind::Spare)) else { break };
        kept.remove(last);
    }
    while total(&kept) > width {
        let cuttable = kept.iter_mut().filter(|(at, w)| kind(*at) == Some(Kind::Text) && *w > least(*at));
        let Some((_, widest)) = cuttable.max_by_key(|(_, w)| *w) else { break };
        *widest -= 1;
    }
    kept
}

fn line(cells: &[String], kept: &[(usize, usize)]) -> String {
    let mut out = String::new();
    for (at, width) in kept {
        let cell = cut(cells.get(*at).map_or("", String::as_str), *width);
        let blanks = width.saturating_sub(cell.width()) + GAP;
        out.push_str(&cell);
        out.extend(std::iter::repeat_n(' ', blanks));
    }
    out.truncate(out.trim_end().len());
    out
}

/// The text, ending in `…` where there is not enough room.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut room = width.saturating_sub(1);
    for character in text.chars() {
        let Some(left) = room.checked_sub(character.width().unwrap_or(0)) else { break };
        room = left;
        out.push(character);
    }
    out + "…"
}

/// One thing: its properties under each other, those without a value left out.
pub(crate) fn properties(list: &[(&str, String)]) -> String {
    let width = list.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = list.iter().filter(|(_, value)| !value.is_empty());
    lines.fold(String::new(), |text, (name, value)| {
        let value: Vec<_> = value.lines().map(visible).collect();
        text + &format!("{name:width$}  {}\n", value.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [text("NAME"), whole("ID"), spare("SCOPE")];

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
        let table = render(&COLUMNS, rows(), Some(50), Paint::never());
        let expected = "\
NAME             ID
press            client_01h455vb4pex5vsknk084sn02q
Förderband in …  client_x
";
        assert_eq!((table.as_str(), widest(&table)), (expected, 50));
    }

    #[test]
    fn what_is_spare_goes_first_and_ids_stay_whole_in_any_terminal() {
        let table = render(&COLUMNS, rows(), Some(63), Paint::never());
        assert!(table.contains("Förderband in Halle 3, Nord") && !table.contains("SCOPE"), "{table}");
        let table = render(&COLUMNS, rows(), Some(1), Paint::never());
        assert!(table.contains("Förderb…") && table.contains("client_01h455vb4pex5vsknk084sn02q"), "{table}");
    }

    #[test]
    fn wide_characters_count_double() {
        let rows =
            vec![vec!["\u{5de5}\u{5382}\u{4e03}".to_owned(), "x".to_owned()], vec!["a".to_owned(), "y".to_owned()]];
        let table = render(&[text("N"), whole("ID")], rows, None, Paint::never());
        assert_eq!(table, "N       ID\n\u{5de5}\u{5382}\u{4e03}  x\na       y\n");
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
