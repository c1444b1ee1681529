//! `docs/pictures/watch.svg`: the live view as the book shows it, drawn from what the view writes to a terminal.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::view::Frame;
use super::view::tests::{NEW, NOW, OLD, caller, credential};
use super::{Standing, Used};
use crate::terminal::Paint;

/// Columns of the terminal, and the room of one character in it.
const COLUMNS: usize = 110;
const CELL: (f32, f32) = (8.0, 21.0);
/// Around the text, and the bar of the window above it.
const MARGIN: f32 = 24.0;
const BAR: f32 = 36.0;
/// A window that is dark on any page, with an edge that sets it off from a dark one.
const STYLE: &str = "text{font:13.3px ui-monospace,'SF Mono','Cascadia Mono','Liberation Mono','DejaVu Sans Mono',\
                     Menlo,Consolas,monospace;fill:#dedbd4;white-space:pre}.title{fill:#fff;font-weight:700}\
                     .dim{fill:#8f949e}.good{fill:#7fd1a2}.warning{fill:#e5b661}.bar{fill:#a5a9b1;font-size:12px}";
const SAID: &str = "A terminal: on the left the old key, which retires, with two callers that still use it and three that \
                    have left; on the right its successor with the three that have arrived.";

/// A rotation that is half done.
fn half_done() -> Standing {
    let minute = 60;
    let old = [
        ("hall 3 west", "192.0.2.31", 4 * minute, 1204),
        ("billing", "198.51.100.7", 130 * minute, 88),
        ("press 9", "192.0.2.9", 25 * 60 * minute, 6120),
        ("press 8", "192.0.2.8", 26 * 60 * minute, 5977),
        ("press 7", "192.0.2.7", 31 * 60 * minute, 6204),
    ];
    let new = [
        ("press 8", "192.0.2.8", 2, 217),
        ("press 7", "192.0.2.7", 40, 260),
        ("press 9", "192.0.2.9", 3 * minute, 198),
    ];
    let callers = |id: &str, of: &[(&str, &str, i64, i64)]| {
        of.iter().map(|(name, network, seen, uses)| caller(id, name, network, *seen, *uses)).collect()
    };
    Standing {
        at: NOW,
        old: Used { credential: credential(OLD, "hall 3", Some(NEW)), callers: callers(OLD, &old) },
        successor: Some(Used { credential: credential(NEW, "hall 3", None), callers: callers(NEW, &new) }),
    }
}

/// Text of one look, and the column at which it begins.
struct Run<'a> {
    column: usize,
    class: &'static str,
    text: &'a str,
}

/// A line as the view writes it, taken apart at its colours and at its gaps: a font that is wider or narrower than this
/// one moves no column.
fn runs(line: &str) -> Vec<Run<'_>> {
    let (mut runs, mut column, mut class) = (Vec::new(), 0, "");
    for (at, part) in line.split('\u{1b}').enumerate() {
        let text = match part.split_once('m') {
            Some((code, text)) if at > 0 => {
                class = match code {
                    "[0" => "",
                    "[1" => "title",
                    "[2" => "dim",
                    "[32" => "good",
                    "[33" => "warning",
                    other => panic!("the picture knows no look for {other}"),
                };
                text
            }
            _ => part,
        };
        for piece in text.split_inclusive("  ") {
            let word = piece.trim_end();
            let begin = column + piece.len() - piece.trim_start().len();
            if !word.trim_start().is_empty() {
                runs.push(Run { column: begin, class, text: word.trim_start() });
            }
            column += piece.width();
        }
    }
    runs
}

fn svg(shown: &str) -> String {
    let lines: Vec<_> = shown.lines().collect();
    let (width, height) = (COLUMNS as f32 * CELL.0 + 2.0 * MARGIN, BAR + lines.len() as f32 * CELL.1 + 1.5 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>keyward credential watch press-7</title>\n<desc>{SAID}</desc>\n\
         <style>{STYLE}</style>\n<rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"9\" fill=\"#16181d\" \
         stroke=\"#454a54\"/>\n<path d=\"M1 {BAR}H{}\" stroke=\"#2d3036\"/>\n",
        width - 1.0,
        height - 1.0,
        width - 1.0,
    );
    for at in 0..3 {
        let _ = writeln!(svg, "<circle cx=\"{}\" cy=\"18.5\" r=\"5.5\" fill=\"#454a54\"/>", 24 + 19 * at);
    }
    let _ = writeln!(svg, "<text class=\"bar\" x=\"92\" y=\"22.5\">keyward credential watch press-7</text>");
    for (at, line) in lines.iter().enumerate() {
        let y = BAR + MARGIN + (at as f32 + 0.5) * CELL.1;
        for Run { column, class, text } in runs(line) {
            let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            let (x, length) = (MARGIN + column as f32 * CELL.0, text.width() as f32 * CELL.0);
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let _ = writeln!(svg, "<text{class} x=\"{x}\" y=\"{y}\" textLength=\"{length}\">{text}</text>");
        }
    }
    svg + "</svg>\n"
}

#[test]
fn the_picture_in_the_book_is_what_the_view_draws_today() {
    let frame = Frame { quiet: Duration::from_secs(86400), width: COLUMNS, height: 24, paint: Paint::always() };
    let drawn = svg(&frame.render(&half_done(), ""));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures/watch.svg");
    if std::env::var_os("KEYWARD_DRAW").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "the view looks otherwise than its picture: docs/pictures/draw draws it anew");
}
