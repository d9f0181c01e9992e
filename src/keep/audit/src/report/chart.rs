//! Charts as inline SVG: one series each, so that the label says what the colour need not.

use maud::{Markup, html};

const WIDTH: u64 = 720;
const LABEL: u64 = 300;
const BAR: u64 = 300;
const ROW: u64 = 24;
const SHOWN: usize = 20;

/// Horizontal bars, most first; what is beyond the first twenty is one bar of its own.
pub(super) fn bars(title: &str, items: &[(String, u64)]) -> Markup {
    let mut rows: Vec<(String, u64)> = items.iter().take(SHOWN).cloned().collect();
    let rest: u64 = items.iter().skip(SHOWN).map(|(_, count)| count).sum();
    if rest > 0 {
        rows.push((format!("其他 {} 项 others", items.len() - SHOWN), rest));
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let height = ROW * rows.len() as u64 + 4;
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) role="img" aria-label=(title) {
                @for (at, (name, count)) in (0..).zip(&rows) {
                    @let y: u64 = at * ROW;
                    @let length = scaled(*count, most, BAR);
                    text x=(LABEL - 8) y=(y + 16) text-anchor="end" { (short(name)) title { (name) } }
                    rect x=(LABEL) y=(y + 4) width=(length) height="16" rx="2" class="bar" {}
                    text x=(LABEL + length + 6) y=(y + 16) class="value" { (grouped(*count)) }
                }
            }
        }
    }
}

/// Columns in order, at most 200: whoever has more days gives months.
pub(super) fn columns(title: &str, items: &[(String, u64)]) -> Markup {
    let most = items.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let count = items.len().max(1) as u64;
    let step = (WIDTH - 20) / count.clamp(12, 200);
    let (first, last) = (items.first(), items.last());
    html! {
        figure {
            figcaption { (title) " · max " (grouped(most)) }
            svg viewBox=(format!("0 0 {WIDTH} 140")) width=(WIDTH) height="140" role="img" aria-label=(title) {
                line x1="10" x2=(WIDTH - 10) y1="110.5" y2="110.5" class="axis" {}
                @for (at, (name, count)) in (0..).zip(items) {
                    @let height = scaled(*count, most, 100);
                    @let at: u64 = at;
                    rect x=(10 + at * step) y=(110 - height) width=(step.saturating_sub(1).max(1)) height=(height) class="bar" {
                        title { (name) ": " (grouped(*count)) }
                    }
                }
                @if let Some((name, _)) = first { text x="10" y="128" { (name) } }
                @if let (Some((name, _)), true) = (last, items.len() > 1) {
                    text x=(WIDTH - 10) y="128" text-anchor="end" { (name) }
                }
            }
        }
    }
}

/// `count` of `most` on a scale of `length`; what is there is seen.
fn scaled(count: u64, most: u64, length: u64) -> u64 {
    let scaled = u128::from(count) * u128::from(length) / u128::from(most.max(1));
    u64::try_from(scaled).unwrap_or(length).max(u64::from(count > 0))
}

fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= 42 {
        return name.to_owned();
    }
    // The end of a name tells clients and keys apart.
    let end: String = name.chars().skip(count - 41).collect();
    format!("…{end}")
}

/// 1234567 as 1 234 567.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_scales() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(123_456), "123\u{202f}456");
        assert_eq!([scaled(0, 9, 300), scaled(1, 1_000_000, 300), scaled(9, 9, 300)], [0, 1, 300]);
        assert_eq!(scaled(u64::MAX, u64::MAX, 300), 300);
    }

    #[test]
    fn names_are_escaped_and_the_rest_is_one_bar() {
        let items: Vec<_> = (0..30).map(|at| (format!("<b>{at}"), 100 - at)).collect();
        let svg = bars("t", &items).into_string();
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;0"));
        assert_eq!(svg.matches("<rect").count(), 21);
        assert!(columns("t", &[]).into_string().contains("<svg"));
    }
}
