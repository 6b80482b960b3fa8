//! Progress on standard error. indicatif draws nothing if standard error is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);

/// Starts a spinner, for work whose extent is not known before its end.
pub fn spinner(template: &str) -> ProgressBar {
    started(ProgressBar::new_spinner(), template)
}

/// Starts a bar for work that is measured in bytes. The caller sets its length with the first report.
pub fn bytes(verb: &str) -> ProgressBar {
    let template =
        format!("{verb} {{wide_bar}} {{bytes}}/{{total_bytes}} {{bytes_per_sec}} {{eta}}");
    started(ProgressBar::new(0), &template)
}

fn started(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
