//! `esker top`: how busy a server is, live.
//!
//! [`openmetrics`] and [`histogram`] read what the server measures, [`model`] makes figures of two readings, [`view`] text of
//! those; all of them are pure. [`screen`] is the terminal. This module takes the samples.

mod histogram;
mod model;
mod openmetrics;
mod screen;
mod view;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use esker_client::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::Instant,
};

use crate::{
    cli::TopArgs,
    exit::{Failure, output as output_error},
    output,
};
use model::{Figures, Sample, figures};
use openmetrics::Metrics;
use screen::Screen;

pub(super) async fn run(client: &Client, args: TopArgs) -> Result<(), Failure> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut sampler = Sampler::new(client, args.interval).await?;
    match terminal && !args.once && !args.json {
        true => live(&mut sampler).await,
        false => loop {
            let figures = sampler.next().await?;
            print(&figures, args.json)?;
            if args.once {
                return Ok(());
            }
        },
    }
}

/// One sample after another.
fn print(figures: &Figures, json: bool) -> Result<(), Failure> {
    match json {
        true => output::json(figures),
        false => output::line(format_args!("{}\n", view::lines(figures).join("\n"))),
    }
}

/// The picture, until q or Ctrl-C. A server that is away for a while is said to be.
async fn live(sampler: &mut Sampler<'_>) -> Result<(), Failure> {
    let interrupts = signal(SignalKind::interrupt());
    let mut interrupts = interrupts.map_err(Failure::doing("waiting for Ctrl-C"))?;
    let screen = Screen::enter().map_err(Failure::doing("the terminal"))?;
    let mut keys = screen.keys();
    let mut lines = vec![format!("the first figures come in {} ms; q leaves", sampler.interval.as_millis())];
    loop {
        let (columns, rows) = screen.size();
        screen.write(&view::picture(&lines, columns, rows)).map_err(output_error)?;
        tokio::select! {
            next = sampler.next() => lines = match next {
                Ok(figures) => view::lines(&figures),
                Err(Failure::Error(why) | Failure::Unreachable(why)) => vec![why],
                Err(other) => return Err(other),
            },
            () = pressed(&mut keys, b'q') => return Ok(()),
            _ = interrupts.recv() => return Ok(()),
        }
    }
}

/// Waits until a key is pressed; for ever where no more keys come.
async fn pressed(keys: &mut mpsc::Receiver<u8>, wanted: u8) {
    loop {
        match keys.recv().await {
            Some(key) if key == wanted => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

struct Sampler<'a> {
    client: &'a Client,
    interval: Duration,
    start: Instant,
    last: Sample,
    /// When the next one is due.
    due: Instant,
}

impl<'a> Sampler<'a> {
    async fn new(client: &'a Client, interval: Duration) -> Result<Self, Failure> {
        let start = Instant::now();
        let last = sample(client, start).await?;
        Ok(Self { client, interval, start, last, due: Instant::now() + interval })
    }

    /// The figures of the next interval. Where another node answers than before, they begin anew.
    async fn next(&mut self) -> Result<Figures, Failure> {
        loop {
            tokio::time::sleep_until(self.due).await;
            // Late samples are not made up for.
            self.due = Instant::now() + self.interval;
            let now = sample(self.client, self.start).await?;
            let between = figures(&self.last, &now);
            self.last = now;
            if let Some(figures) = between {
                return Ok(figures);
            }
        }
    }
}

async fn sample(client: &Client, start: Instant) -> Result<Sample, Failure> {
    let metrics = Metrics::parse(&client.metrics().await?);
    let at = start.elapsed();
    let (status, nodes) = (client.status().await?, client.nodes().await?);
    Ok(Sample { at, endpoint: client.endpoint().to_string(), metrics, status, nodes })
}
