//! The run as a picture: what waited, what ran where, what got done, who led, and the faults below. Scalable vector
//! graphics, written by hand.

use std::fmt::Write;

use springtide_core::Timestamp;

use super::fault::{Action, Subject, Target};
use super::logs::Said;
use super::records::{Book, Dead};
use super::waste::end_of;

const WIDTH: f64 = 1400.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 96.0;
const GAP: f64 = 34.0;
const ROW: f64 = 22.0;
/// One colour for each node, from dark to light.
const NODES: [&str; 6] = ["#1b4965", "#2f6f95", "#4f97bd", "#8cc0dc", "#b6d7e8", "#d8eaf3"];
const LEADERS: [&str; 3] = ["#6a4c93", "#c08bd6", "#e3cdec"];
const INK: &str = "#22303c";
const FAINT: &str = "#dfe5ea";

/// What the picture shows.
pub struct Picture<'a> {
    /// Its title.
    pub title: String,
    /// The line under it.
    pub subtitle: String,
    /// What happened.
    pub book: &'a Book,
    /// What was said.
    pub said: &'a Said,
    /// When tasks ended, in order.
    pub ended: &'a [Timestamp],
    /// The first moment of it.
    pub from: Timestamp,
    /// The last.
    pub until: Timestamp,
    /// When no more faults began.
    pub faults_until: Timestamp,
    /// Agents, and control planes.
    pub members: [usize; 2],
    /// All slots.
    pub slots: u32,
}

/// A panel with a scale on its left.
struct Panel {
    y: f64,
    height: f64,
    top: f64,
}

impl Panel {
    fn at(&self, value: f64) -> f64 {
        self.y + self.height * (1.0 - (value / self.top).clamp(0.0, 1.0))
    }
}

impl Picture<'_> {
    /// Draws it.
    pub fn draw(&self) -> String {
        let mut body = String::new();
        let bottom = self.panels(&mut body).expect("a String takes all that is written");
        let height = bottom + 20.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\" \
             fill=\"{INK}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }

    fn x(&self, at: Timestamp) -> f64 {
        let whole = self.until.since(self.from).as_secs_f64().max(1e-3);
        LEFT + (WIDTH - LEFT - RIGHT) * (at.since(self.from).as_secs_f64() / whole).min(1.0)
    }

    fn panels(&self, out: &mut String) -> Result<f64, std::fmt::Error> {
        writeln!(
            out,
            "<text x=\"24\" y=\"36\" font-size=\"20\" font-weight=\"bold\">{}</text>",
            escape(&self.title)
        )?;
        writeln!(out, "<text x=\"24\" y=\"60\" font-size=\"13\">{}</text>", escape(&self.subtitle))?;
        let mut y = TOP;
        let most = self.book.samples.iter().map(|sample| sample.waiting + sample.released).max().unwrap_or(0);
        let waiting = Panel { y, height: 110.0, top: nice(most as f64) };
        Self::frame(out, &waiting, "waiting", "tasks")?;
        self.waiting(out, &waiting)?;
        y += waiting.height + GAP;
        let running = Panel { y, height: 130.0, top: f64::from(self.slots) };
        Self::frame(out, &running, "running", "slots")?;
        self.running(out, &running)?;
        y += running.height + GAP;
        let rates = self.rates();
        let most = rates.iter().map(|(.., rate)| *rate).fold(0.0, f64::max);
        let rate = Panel { y, height: 110.0, top: nice(most) };
        Self::frame(out, &rate, "ended", "tasks/s")?;
        for (from, until, rate_then) in &rates {
            let (x, top) = (self.x(*from), rate.at(*rate_then));
            let (width, height) = (self.x(*until) - x - 0.5, rate.y + rate.height - top);
            writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#5aa469\"/>"
            )?;
        }
        y += rate.height + GAP;
        y = self.leaders(out, y)?;
        y = self.faults(out, y)?;
        self.seconds(out, y)?;
        self.legend(out, y + 34.0)
    }

    fn frame(out: &mut String, panel: &Panel, name: &str, unit: &str) -> std::fmt::Result {
        let right = WIDTH - RIGHT;
        for share in [0.0, 0.5, 1.0] {
            let (y, value) = (panel.at(panel.top * share), panel.top * share);
            writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{FAINT}\"/>"
            )?;
            let (x, y) = (LEFT - 8.0, y + 4.0);
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\" font-size=\"11\">{value}</text>"
            )?;
        }
        let y = panel.y + panel.height / 2.0;
        writeln!(out, "<text x=\"24\" y=\"{y:.1}\" font-weight=\"bold\">{name}</text>")?;
        writeln!(out, "<text x=\"24\" y=\"{:.1}\" font-size=\"11\" fill=\"#6b7a87\">{unit}</text>", y + 15.0)
    }

    fn waiting(&self, out: &mut String, panel: &Panel) -> std::fmt::Result {
        let points =
            self.book.samples.iter().map(|sample| (sample.at, (sample.waiting + sample.released) as f64));
        let line = self.steps(panel, points);
        let (first, last, floor) = (self.x(self.from), self.x(self.until), panel.at(0.0));
        writeln!(
            out,
            "<path d=\"M{first:.1},{floor:.1} {line} L{last:.1},{floor:.1} Z\" fill=\"#f2b872\" stroke=\"#d98f32\" stroke-width=\"0.8\"/>"
        )
    }

    /// Stacked by node, from what the agents said.
    fn running(&self, out: &mut String, panel: &Panel) -> std::fmt::Result {
        let nodes = self.members[0];
        let mut changes: Vec<(Timestamp, usize, f64)> = Vec::new();
        for run in &self.said.runs {
            let (end, _) = end_of(run, &self.book.deaths, self.until);
            changes.extend([(run.begin, run.node, 1.0), (end, run.node, -1.0)]);
        }
        changes.sort_by_key(|(at, ..)| *at);
        // From the top of the stack down: what is drawn later covers what was drawn before.
        for node in (0..nodes).rev() {
            let mut sum = 0.0;
            let heights = changes.iter().filter(|(_, of, _)| *of <= node).map(|(at, _, change)| {
                sum += change;
                (*at, sum)
            });
            let line = self.steps(panel, averaged(heights, self.from, self.until));
            let (first, last, floor) = (self.x(self.from), self.x(self.until), panel.at(0.0));
            let colour = NODES[node % NODES.len()];
            writeln!(
                out,
                "<path d=\"M{first:.1},{floor:.1} {line} L{last:.1},{floor:.1} Z\" fill=\"{colour}\"/>"
            )?;
        }
        Ok(())
    }

    fn steps(&self, panel: &Panel, points: impl Iterator<Item = (Timestamp, f64)>) -> String {
        let mut path = String::new();
        let mut last = panel.at(0.0);
        for (at, value) in points {
            let (x, y) = (self.x(at), panel.at(value));
            let _ = write!(path, "L{x:.1},{last:.1} L{x:.1},{y:.1} ");
            last = y;
        }
        let _ = write!(path, "L{:.1},{last:.1}", self.x(self.until));
        path
    }

    /// Tasks that ended, for each second, over pieces of the whole.
    fn rates(&self) -> Vec<(Timestamp, Timestamp, f64)> {
        let whole = self.until.since(self.from);
        let pieces = (whole.as_secs() / 2).clamp(1, 240) as u32;
        let piece = whole / pieces;
        let bounds = (0..pieces).map(|number| (self.from + piece * number, self.from + piece * (number + 1)));
        let before = |at: Timestamp| self.ended.partition_point(|ended| *ended < at);
        bounds
            .map(|(from, until)| (from, until, (before(until) - before(from)) as f64 / piece.as_secs_f64()))
            .collect()
    }

    fn leaders(&self, out: &mut String, y: f64) -> Result<f64, std::fmt::Error> {
        writeln!(out, "<text x=\"24\" y=\"{:.1}\" font-weight=\"bold\">who led</text>", y + 12.0)?;
        let ends = self.said.leaders.iter().skip(1).map(|(at, _)| *at).chain([self.until]);
        for ((since, index), until) in self.said.leaders.iter().zip(ends) {
            let (x, colour) = (self.x(*since), LEADERS[index % LEADERS.len()]);
            let width = self.x(until) - x;
            writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>"
            )?;
        }
        Ok(y + 16.0 + GAP)
    }

    fn faults(&self, out: &mut String, top: f64) -> Result<f64, std::fmt::Error> {
        let [agents, control_planes] = self.members;
        let rows = (0..agents).map(Subject::Node).chain((0..control_planes).map(Subject::ControlPlane));
        let rows: Vec<Subject> = rows.chain([Subject::Broker, Subject::Objects]).collect();
        let right = WIDTH - RIGHT;
        let y_of = |row: usize| top + ROW * row as f64;
        for (row, subject) in rows.iter().enumerate() {
            let y = y_of(row) + ROW / 2.0;
            writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{FAINT}\"/>"
            )?;
            writeln!(out, "<text x=\"24\" y=\"{:.1}\" font-size=\"11\">{subject}</text>", y + 4.0)?;
        }
        let row_of = |subject: Subject| rows.iter().position(|row| *row == subject).unwrap_or(0);
        for injected in self.book.faults.iter().filter(|injected| injected.skipped.is_none()) {
            let fault = &injected.fault;
            let y = y_of(row_of(fault.target.subject())) + ROW / 2.0;
            let (x, end) = (self.x(injected.began), self.x(injected.ended.unwrap_or(self.until)));
            let title = format!("{:.1} s: {fault}", injected.began.since(self.from).as_secs_f64());
            write!(out, "<g><title>{}</title>", escape(&title))?;
            mark(out, [x, end], y, fault.action, is_small(fault.target))?;
            writeln!(out, "</g>")?;
        }
        for death in self.book.deaths.iter().filter(|death| !death.injected) {
            if let Dead::Agent(node) = death.who {
                let (x, y) = (self.x(death.at), y_of(row_of(Subject::Node(node))) + ROW / 2.0);
                writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"none\" stroke=\"#c1121f\" stroke-width=\"1.6\"/>"
                )?;
            }
        }
        Ok(y_of(rows.len()))
    }

    fn seconds(&self, out: &mut String, y: f64) -> std::fmt::Result {
        let whole = self.until.since(self.from).as_secs();
        let step = [10, 20, 30, 60, 120, 300].into_iter().find(|step| whole / step <= 14).unwrap_or(600);
        for second in (0..=whole).step_by(step as usize) {
            let x = self.x(self.from + std::time::Duration::from_secs(second));
            writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{y:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.08\"/>"
            )?;
            let anchor = if x > WIDTH - 2.0 * RIGHT { "end" } else { "middle" };
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"11\">{second} s</text>",
                y + 14.0
            )?;
        }
        let x = self.x(self.faults_until);
        writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{y:.1}\" stroke=\"{INK}\" stroke-dasharray=\"3 3\"/>"
        )?;
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">no more faults</text>",
            x - 5.0,
            TOP + 10.0
        )
    }

    fn legend(&self, out: &mut String, y: f64) -> Result<f64, std::fmt::Error> {
        let mut x = 30.0;
        let (text_y, mark_y) = (y + 4.0, y);
        let mut word = |out: &mut String, text: &str, mark: &dyn Fn(&mut String, f64) -> std::fmt::Result| {
            mark(out, x)?;
            writeln!(out, "<text x=\"{:.1}\" y=\"{text_y:.1}\" font-size=\"11\">{text}</text>", x + 26.0)?;
            x += 40.0 + 6.4 * text.chars().count() as f64;
            std::fmt::Result::Ok(())
        };
        for action in [
            Action::Kill,
            Action::Stop,
            Action::Restart,
            Action::Cut,
            Action::Stall,
            Action::Slow,
            Action::Fill,
        ] {
            word(out, action.as_str(), &|out, x| mark(out, [x, x + 20.0], mark_y, action, false))?;
        }
        word(out, "of a worker", &|out, x| mark(out, [x + 10.0, x + 10.0], mark_y, Action::Kill, true))?;
        word(out, "agent killed by a task", &|out, x| {
            let x = x + 12.0;
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{mark_y}\" r=\"4\" fill=\"none\" stroke=\"#c1121f\" stroke-width=\"1.6\"/>"
            )
        })?;
        let swatch = |colour: &'static str| {
            move |out: &mut String, x: f64| {
                writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"20\" height=\"12\" fill=\"{colour}\"/>",
                    mark_y - 6.0
                )
            }
        };
        for (node, colour) in NODES.iter().enumerate().take(self.members[0]) {
            word(out, &Subject::Node(node).to_string(), &swatch(colour))?;
        }
        for (index, colour) in LEADERS.iter().enumerate().take(self.members[1]) {
            word(out, &format!("control-plane-{}", index + 1), &swatch(colour))?;
        }
        Ok(y + 12.0)
    }
}

/// Workers are a part of what their row is about.
const fn is_small(target: Target) -> bool {
    matches!(target, Target::Worker(..))
}

/// A bar for as long as it lasted, and a cross where something died.
fn mark(out: &mut String, [x, end]: [f64; 2], y: f64, action: Action, small: bool) -> std::fmt::Result {
    let (colour, dashes) = match action {
        Action::Kill => ("#c1121f", ""),
        Action::Stop => ("#e07a1f", ""),
        Action::Restart => ("#8a5a44", ""),
        Action::Cut => ("#2a6fdb", ""),
        Action::Stall => ("#2a6fdb", " stroke-dasharray=\"2.5 2\""),
        Action::Slow => ("#8fb4ee", ""),
        Action::Fill => ("#7a8b2e", ""),
    };
    let width = if small { 3.0 } else { 6.0 };
    let end = end.max(x + 2.5);
    let opacity = if action == Action::Kill { "0.35" } else { "0.9" };
    write!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{end:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\" \
         stroke-opacity=\"{opacity}\"{dashes}/>"
    )?;
    if action == Action::Kill {
        let arm = if small { 2.8 } else { 4.2 };
        let (left, right, top, bottom) = (x - arm, x + arm, y - arm, y + arm);
        write!(
            out,
            "<path d=\"M{left:.1},{top:.1} L{right:.1},{bottom:.1} M{left:.1},{bottom:.1} L{right:.1},{top:.1}\" \
             stroke=\"{colour}\" stroke-width=\"1.8\"/>"
        )?;
    }
    Ok(())
}

/// The mean over each of 600 pieces: a line for each run would be a carpet.
fn averaged(
    heights: impl Iterator<Item = (Timestamp, f64)>,
    from: Timestamp,
    until: Timestamp,
) -> impl Iterator<Item = (Timestamp, f64)> {
    const PIECES: usize = 600;
    let piece = (until.since(from).as_secs_f64() / PIECES as f64).max(1e-6);
    let mut sums = vec![0.0; PIECES];
    let mut fill = |begin: f64, end: f64, height: f64| {
        let (first, last) = ((begin / piece) as usize, (end / piece) as usize);
        for (index, sum) in sums.iter_mut().enumerate().take(last + 1).skip(first) {
            let (from, until) = (piece * index as f64, piece * (index + 1) as f64);
            *sum += height * (end.min(until) - begin.max(from)).max(0.0);
        }
    };
    let (mut last, mut height) = (0.0, 0.0);
    for (at, next) in heights {
        let at = at.since(from).as_secs_f64();
        fill(last, at, height);
        (last, height) = (at, next);
    }
    fill(last, piece * PIECES as f64, height);
    let at = move |index: usize| from + std::time::Duration::from_secs_f64(piece * index as f64);
    sums.into_iter().enumerate().map(move |(index, sum)| (at(index), sum / piece))
}

/// The next of 1, 2, 5, 10, … that is not below.
fn nice(value: f64) -> f64 {
    let mut scale = 1.0;
    loop {
        for step in [1.0, 2.0, 4.0, 6.0, 8.0] {
            if scale * step >= value {
                return (scale * step).max(2.0);
            }
        }
        scale *= 10.0;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fault::Fault;
    use super::super::records::{Injected, Sample};
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(second)
    }

    #[test]
    fn it_has_a_mark_for_each_fault_and_a_row_for_each_subject() {
        let fault = |number, action, target| Injected {
            fault: Fault {
                number,
                at: Duration::from_secs(3),
                action,
                target,
                lasts: Duration::from_secs(2),
            },
            began: at(3),
            ended: Some(at(5)),
            skipped: None,
        };
        let faults = vec![
            fault(0, Action::Kill, Target::Agent(1)),
            fault(1, Action::Stall, Target::ControlPlaneToStore(0)),
            Injected { skipped: Some("nobody".into()), ..fault(2, Action::Kill, Target::Agent(0)) },
        ];
        let samples = vec![Sample { at: at(1), waiting: 7, released: 2, running: 1 }];
        let book = Book { faults, samples, ..Book::default() };
        let said = Said { leaders: vec![(at(0), 0), (at(6), 1)], ..Said::default() };
        let picture = Picture {
            title: "a < b".into(),
            subtitle: String::new(),
            book: &book,
            said: &said,
            ended: &[at(2), at(2), at(9)],
            from: at(0),
            until: at(10),
            faults_until: at(8),
            members: [2, 1],
            slots: 8,
        };
        let svg = picture.draw();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<title>").count(), 2, "{svg}");
        for row in ["node-1<", "node-2<", "control-plane-1<", "broker<", "objects<"] {
            assert!(svg.contains(row), "no row {row}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn heights_are_averaged_over_time() {
        let heights = [(at(0), 4.0), (at(5), 0.0)].into_iter();
        let means: Vec<f64> = averaged(heights, at(0), at(10)).map(|(_, mean)| mean).collect();
        let whole = means.iter().sum::<f64>() / means.len() as f64;
        assert!((whole - 2.0).abs() < 1e-6, "{whole}");
    }

    #[test]
    fn scales_end_at_round_numbers() {
        let tops = [0.0, 3.0, 41.0, 600.0, 601.0].map(|value| nice(value) as u32);
        assert_eq!(tops, [2, 4, 60, 600, 800]);
    }
}
