//! Runs workloads, each on each engine in a process of its own, in turn, so that what else the machine does hits all alike.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::MemoryGroup,
    files, fio,
    result::{Ending, Figures, Line},
    stores::{Compression, Engine, Settings},
    workload::{self, Action, Dataset, Scale, Start, Task, Workload},
};

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Where the stores are kept while they are measured.
    #[arg(long)]
    dir: PathBuf,
    /// The results, a line of JSON for each run: added to.
    #[arg(long)]
    out: PathBuf,
    /// How large everything is; 1 needs 40 GB of disk and some hours, 0.01 seconds.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Runs of each workload.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only workloads that begin with one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these engines.
    #[arg(long, value_enum, value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Compression of values, of engines that have it.
    #[arg(long, value_enum, default_value = "lz4")]
    compression: Compression,
}

/// What a child process does.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    Prepare(Task, Dataset),
    FillAndStay(Task, Dataset),
    Perform(Task, Workload),
}

/// The child's side.
pub fn obey(order: &str) -> Result<()> {
    match serde_json::from_str(order)? {
        Order::Prepare(task, dataset) => workload::prepare(&task, dataset),
        Order::FillAndStay(task, dataset) => workload::fill_and_stay(&task, dataset),
        Order::Perform(task, workload) => {
            println!("{}", serde_json::to_string(&workload::perform(&task, &workload)?)?);
            Ok(())
        }
    }
}

pub fn run(args: RunArgs) -> Result<()> {
    use clap::ValueEnum as _;
    let wanted = |workload: &Workload| {
        args.only.is_empty() || args.only.iter().any(|prefix| workload.name.starts_with(prefix.as_str()))
    };
    let workloads: Vec<_> = workload::all().into_iter().filter(wanted).collect();
    if workloads.is_empty() {
        let names: Vec<_> = workload::all().into_iter().map(|workload| workload.name).collect();
        bail!("no such workload; there are {}", names.join(", "));
    }
    let engines =
        if args.engines.is_empty() { Engine::value_variants().to_vec() } else { args.engines.clone() };
    std::fs::create_dir_all(&args.dir)?;
    let bench = Bench { scale: Scale(args.scale), args };
    let of = |dataset| -> Vec<_> {
        workloads.iter().filter(|workload| workload.start.dataset() == dataset).collect()
    };
    bench.group(&of(None), &engines)?;
    // Data that is needed no more goes before the next: the disk need not hold all of it at once.
    for dataset in [Dataset::Small, Dataset::Medium, Dataset::MediumMerged] {
        bench.group(&of(Some(dataset)), &engines)?;
        engines.iter().try_for_each(|&engine| files::remove(&bench.prepared(engine, dataset)))?;
    }
    // For the same reason an engine at a time, here where each has the most.
    let beyond = of(Some(Dataset::BeyondMemory));
    bench.fio(beyond.iter().find(|workload| matches!(workload.action, Action::Read(_))))?;
    for engine in engines {
        bench.group(&beyond, &[engine])?;
        files::remove(&bench.prepared(engine, Dataset::BeyondMemory))?;
    }
    Ok(())
}

struct Bench {
    args: RunArgs,
    scale: Scale,
}

impl Bench {
    /// Workloads on the same dataset.
    fn group(&self, workloads: &[&Workload], engines: &[Engine]) -> Result<()> {
        for workload in workloads {
            for run in 0..self.args.runs {
                for &engine in engines {
                    eprint!("{} {} {run}: ", workload.name, engine.title());
                    let ending = match self.measure(workload, engine, run) {
                        Ok(figures) => Ending::Done(Box::new(figures)),
                        Err(error) => Ending::Failed(format!("{error:#}")),
                    };
                    self.record(workload, format!("{engine:?}").to_lowercase(), run, ending)?;
                }
            }
        }
        Ok(())
    }

    fn measure(&self, workload: &Workload, engine: Engine, run: u32) -> Result<Figures> {
        let task = |dir: PathBuf| Task {
            engine,
            dir,
            settings: self.settings(workload.synced, workload.value_bytes, workload.beyond_memory()),
            scale: self.scale,
            seed: u64::from(run),
        };
        let own = self.args.dir.join("own");
        files::remove(&own)?;
        let dir = match workload.start {
            Start::Empty => own.clone(),
            Start::Shared(dataset) => self.dataset(engine, dataset)?,
            Start::Copied(dataset) => {
                files::copy(&self.dataset(engine, dataset)?, &own)?;
                own.clone()
            }
            Start::Killed(dataset) => {
                files::copy(&self.dataset(engine, dataset)?, &own)?;
                kill_writer(&Order::FillAndStay(task(own.clone()), dataset))?;
                own.clone()
            }
        };
        let group = if workload.beyond_memory() {
            files::evict(&dir)?;
            Some(MemoryGroup::new(self.scale.memory_limit())?)
        } else {
            files::sync(&self.args.dir)?;
            None
        };
        let output = child(&Order::Perform(task(dir), workload.clone()), group.as_ref());
        files::remove(&own)?;
        let group_peak_bytes = group.as_ref().map_or(Ok(0), MemoryGroup::peak)?;
        Ok(Figures { group_peak_bytes, ..serde_json::from_str(&output?)? })
    }

    /// Memory limits of this run; where memory is scarce, a quarter of it is the cache's and a sixteenth a memtable's.
    fn settings(&self, synced: bool, value_bytes: usize, beyond_memory: bool) -> Settings {
        let limit = self.scale.memory_limit();
        let (cache_bytes, memtable_bytes) = if beyond_memory {
            (limit / 4, limit / 16)
        } else {
            (self.scale.bytes(2 << 30, 32 << 20), self.scale.bytes(64 << 20, 4 << 20))
        };
        let compression = self.args.compression;
        Settings { synced, compression, cache_bytes, memtable_bytes, value_bytes, beyond_memory }
    }

    fn prepared(&self, engine: Engine, dataset: Dataset) -> PathBuf {
        self.args.dir.join(format!("{engine:?}-{dataset:?}").to_lowercase())
    }

    /// The store with `dataset`, made when it is first asked for.
    fn dataset(&self, engine: Engine, dataset: Dataset) -> Result<PathBuf> {
        let dir = self.prepared(engine, dataset);
        let done = dir.with_extension("done");
        if dir.exists() && done.exists() {
            return Ok(dir);
        }
        files::remove(&dir)?;
        let settings = self.settings(false, dataset.value_bytes(), dataset == Dataset::BeyondMemory);
        let task = Task { engine, dir: dir.clone(), settings, scale: self.scale, seed: 0 };
        child(&Order::Prepare(task, dataset), None).context("the data could not be prepared")?;
        files::sync(&dir)?;
        std::fs::write(done, "")?;
        Ok(dir)
    }

    /// What the disk can do with as many threads, under the same limit.
    fn fio(&self, workload: Option<&&Workload>) -> Result<()> {
        let Some(workload) = workload else { return Ok(()) };
        let (dir, bytes) = (self.args.dir.join("fio"), 8 * self.scale.memory_limit());
        let seconds = self.scale.seconds(workload.seconds).max(1.0);
        fio::prepare(&dir, bytes)?;
        for run in 0..self.args.runs {
            for (name, direct) in [("fio, O_DIRECT", true), ("fio, page cache", false)] {
                eprint!("{} {name} {run}: ", workload.name);
                files::evict(&dir)?;
                let group = MemoryGroup::new(self.scale.memory_limit())?;
                let figures = fio::read(&group, &dir, bytes, workload.threads, seconds, direct)?;
                let figures = Figures { group_peak_bytes: group.peak()?, ..figures };
                self.record(workload, name.into(), run, Ending::Done(Box::new(figures)))?;
            }
        }
        files::remove(&dir)
    }

    fn record(&self, workload: &Workload, engine: String, run: u32, outcome: Ending) -> Result<()> {
        match &outcome {
            Ending::Done(figures) => eprintln!("{:.0}/s in {:.2} s", figures.rate(), figures.seconds),
            Ending::Failed(why) => eprintln!("failed: {why}"),
        }
        let line = Line { workload: workload.name.clone(), engine, run, scale: self.scale.0, outcome };
        let mut out = OpenOptions::new().create(true).append(true).open(&self.args.out)?;
        Ok(writeln!(out, "{}", serde_json::to_string(&line)?)?)
    }
}

fn command(order: &Order, group: Option<&MemoryGroup>) -> Result<Command> {
    let program = std::env::current_exe()?;
    let mut command = group.map_or_else(|| Command::new(&program), |group| group.command(&program));
    if group.is_some() {
        // Huge pages that are mostly empty count in full, and a thread has several: with little memory, none for anybody.
        command.env("MIMALLOC_ALLOW_THP", "0");
    }
    command.arg("child").arg(serde_json::to_string(order)?);
    Ok(command)
}

/// Runs a child to its end and returns what it printed.
fn child(order: &Order, group: Option<&MemoryGroup>) -> Result<String> {
    let output = command(order, group)?.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, stderr.trim().lines().next_back().unwrap_or("it said nothing"));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a child until it says that it is ready, and kills it by its number.
fn kill_writer(order: &Order) -> Result<()> {
    let mut writer = command(order, None)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(writer.stdout.take().context("it was piped")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    writer.kill()?;
    writer.wait()?;
    // Nothing may follow, or it was not killed in the middle of its work.
    output.read_to_string(&mut line)?;
    if line != "ready\n" {
        bail!("the writer ended before it was killed");
    }
    Ok(())
}

/// Reads a results file.
pub fn read_lines(path: &Path) -> Result<Vec<Line>> {
    let file = BufReader::new(std::fs::File::open(path)?);
    file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
