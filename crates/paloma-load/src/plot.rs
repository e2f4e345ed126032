//! The cost of each scenario as bars, in SVG.

use std::fmt::Write;

/// One scenario and the figure of each broker in order; none where there is none.
pub(crate) type Bars<'a> = (&'a str, Vec<Option<f64>>);

const LABEL_WIDTH: f64 = 330.0;
const BAR_WIDTH: f64 = 480.0;
const VALUE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 11.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 64.0;

/// Distinct for those who see colours differently, and on paper.
const COLOURS: [&str; 7] = [
    "#9e9e9e", "#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#0072b2", "#009e73",
];

/// Draws every scenario as a group of bars on a logarithmic scale.
pub(crate) fn draw(title: &str, names: &[&str], scenarios: &[Bars<'_>]) -> String {
    let values = scenarios.iter().flat_map(|(_, values)| values).flatten();
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    let (first, last) = (low.max(1e-9).log10().floor(), high.log10().ceil());
    let scale = BAR_WIDTH / (last - first).max(1.0);
    let drawn = scenarios.iter().flat_map(|(_, values)| values).flatten();
    let height = HEAD + lines(drawn.count()) * BAR_HEIGHT + lines(scenarios.len()) * GAP + 24.0;
    let width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let mut x = 8.0;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        let _infallible = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"41\">{}</text>",
            x + 14.0,
            escaped(name)
        );
        x += 110.0;
    }
    let mut power = first;
    while power <= last {
        let x = LABEL_WIDTH + (power - first) * scale;
        let _infallible = writeln!(
            svg,
            "<path d=\"M{x:.1} {HEAD}V{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            height - 20.0,
            height - 6.0,
            10f64.powf(power)
        );
        power += 1.0;
    }
    let mut y = HEAD + 2.0;
    for (name, values) in scenarios {
        let _infallible = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LABEL_WIDTH - 6.0,
            y + 9.0,
            escaped(name)
        );
        for (value, colour) in values.iter().zip(COLOURS.iter().cycle()) {
            let Some(value) = value else {
                continue;
            };
            let length = ((value.max(1e-9).log10() - first) * scale).max(1.0);
            let _infallible = writeln!(
                svg,
                "<rect x=\"{LABEL_WIDTH}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{value:.2}</text>",
                BAR_HEIGHT - 1.0,
                LABEL_WIDTH + length + 3.0,
                y + 9.0,
            );
            y += BAR_HEIGHT;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn lines(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_bar_and_each_decade_a_line() {
        let scenarios = [
            ("a < b", vec![Some(0.2), None, Some(40.0)]),
            ("c", vec![None, Some(1.0), None]),
        ];
        let svg = draw("cost & price", &["x", "y", "z"], &scenarios);
        assert_eq!(svg.matches("height=\"10\" fill").count(), 3 + 3, "{svg}");
        assert_eq!(svg.matches("stroke=\"#ddd\"").count(), 4, "{svg}");
        assert!(svg.contains("cost &amp; price") && svg.contains("a &lt; b"));
    }
}
