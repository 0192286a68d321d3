//! What a shell remembers from command to command, and how it does each.

use std::io::Write;

use esker_client::{Ack, Batch, Client, Consistency};
use esker_log::clock::{Clock, SystemClock};
use esker_wire::kv::Item;
use serde_json::json;

use super::{
    collect, reading,
    words::{self, Setting, ShellGet, Verb},
};
use crate::{
    cli::{
        AckArgs, Connection, DelArgs, IncrArgs, JsonArgs, PutArgs, ScanArgs, StaleArgs, WatchArgs, millis,
    },
    commands::{cluster, connect, del, incr, put, status, watch},
    exit::{Failure, output as output_error},
    output,
};

/// Bytes of a value that are shown on a terminal, unless set otherwise.
const CUT: usize = 256;

/// Whether the shell goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Quit,
}

/// How things are shown and asked for.
#[derive(Debug, Clone)]
pub(super) struct Preferences {
    pub(super) ack: Ack,
    pub(super) consistency: Consistency,
    pub(super) cut: usize,
    pub(super) json: bool,
    pub(super) timing: bool,
    /// Whether a person sees the output: tables, and long values cut.
    pub(super) is_terminal: bool,
}

pub(super) struct Session {
    connection: Connection,
    client: Client,
    pub(super) preferences: Preferences,
    batch: Option<Batch>,
}

impl Session {
    pub(super) fn new(connection: Connection, json: bool, is_terminal: bool) -> Result<Self, Failure> {
        let client = connect(&connection)?;
        let preferences = Preferences {
            ack: Ack::default(),
            consistency: Consistency::default(),
            cut: CUT,
            json,
            timing: is_terminal,
            is_terminal,
        };
        Ok(Self { connection, client, preferences, batch: None })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What stands before a line: how many writes the batch has, if there is one.
    pub(super) fn prompt(&self) -> String {
        match &self.batch {
            Some(batch) => format!("esker batch({})> ", batch.len()),
            None => "esker> ".to_owned(),
        }
    }

    /// Does a command.
    pub(super) async fn run(&mut self, verb: Verb) -> Result<Next, Failure> {
        match verb {
            Verb::Get(args) => self.get(args).await?,
            Verb::Put(args) => self.put(args).await?,
            Verb::Del(args) => self.del(args).await?,
            Verb::Incr(args) => self.incr(args).await?,
            Verb::Scan(args) => self.scan(args).await?,
            Verb::Ttl { key, json } => self.ttl(key.as_encoded_bytes(), self.json(json)).await?,
            Verb::Begin => self.begin()?,
            Verb::Commit(json) => self.commit(self.json(json)).await?,
            Verb::Discard => self.discard()?,
            Verb::Watch(args) => self.watch(args).await?,
            Verb::Status(json) => status::run(&self.client, self.json(json)).await?,
            Verb::Nodes(json) => {
                cluster::show_nodes(&self.client, JsonArgs { json: self.json(json) }).await?;
            }
            Verb::Use { endpoint } => self.use_endpoint(endpoint)?,
            Verb::Set { name: None, .. } => self.show_settings()?,
            Verb::Set { name: Some(name), value } => self.set(name, value.as_deref())?,
            Verb::Help { command } => output::line(words::help(command.as_deref())?)?,
            Verb::Quit => return self.quit(),
        }
        Ok(Next::Go)
    }

    fn json(&self, asked: JsonArgs) -> bool {
        asked.json || self.preferences.json
    }

    fn ack(&self, asked: AckArgs) -> AckArgs {
        AckArgs { ack: asked.ack.or(Some(self.preferences.ack)) }
    }

    fn stale(&self, asked: StaleArgs) -> StaleArgs {
        StaleArgs { stale: asked.stale || self.preferences.consistency == Consistency::Stale }
    }

    async fn get(&self, mut args: ShellGet) -> Result<(), Failure> {
        args.get.stale = self.stale(args.get.stale);
        // What is to be written as it is, is.
        args.get.json |= self.preferences.json && !args.raw && !args.get.hex && args.get.output.is_none();
        reading::get(&self.client, args, &self.preferences).await
    }

    async fn scan(&self, mut args: ScanArgs) -> Result<(), Failure> {
        args.stale = self.stale(args.stale);
        args.json |= self.preferences.json;
        reading::scan(&self.client, args, &self.preferences).await
    }

    async fn put(&mut self, mut args: PutArgs) -> Result<(), Failure> {
        if words::reads_standard_input(&args) {
            return Err(Failure::Usage("give the value, or --file FILE; an empty one is ''".into()));
        }
        if let Some(batch) = &mut self.batch {
            return collect::put(batch, args).and_then(|()| collect::told(batch));
        }
        args.ack = self.ack(args.ack);
        args.json |= self.preferences.json;
        put::run(&self.client, args).await
    }

    async fn del(&mut self, mut args: DelArgs) -> Result<(), Failure> {
        if let Some(batch) = &mut self.batch {
            return collect::del(batch, &args).and_then(|()| collect::told(batch));
        }
        args.ack = self.ack(args.ack);
        args.json |= self.preferences.json;
        del::run(&self.client, args).await
    }

    async fn incr(&mut self, mut args: IncrArgs) -> Result<(), Failure> {
        if let Some(batch) = &mut self.batch {
            return collect::incr(batch, &args).and_then(|()| collect::told(batch));
        }
        args.ack = self.ack(args.ack);
        args.json |= self.preferences.json;
        incr::run(&self.client, args).await
    }

    async fn watch(&self, mut args: WatchArgs) -> Result<(), Failure> {
        args.json |= self.preferences.json;
        watch::run(&self.connection, args).await
    }

    async fn ttl(&self, key: &[u8], json: bool) -> Result<(), Failure> {
        let Some(meta) = self.client.head(key).await? else {
            return Err(Failure::NotFound(format!("no such key: {}", output::printable(key))));
        };
        if json {
            return output::json(&Item::new(key, None, meta.version, false).expiring(meta.expires_at));
        }
        let Some(at) = meta.expires_at else { return output::line("it stays") };
        let now = u64::try_from(SystemClock::new().wall().as_millis()).unwrap_or(u64::MAX);
        output::line(format_args!("{} ms, until {at}", at.saturating_sub(now)))
    }

    fn begin(&mut self) -> Result<(), Failure> {
        if self.batch.is_some() {
            return Err(Failure::Usage("there is a batch: commit or discard it first".into()));
        }
        self.batch = Some(Batch::new());
        match self.preferences.is_terminal {
            true => output::line("put, del and incr are collected until commit; reads do not see them"),
            false => Ok(()),
        }
    }

    fn take_batch(&mut self) -> Result<Batch, Failure> {
        self.batch.take().ok_or_else(|| Failure::Usage("there is no batch: begin one".into()))
    }

    async fn commit(&mut self, json: bool) -> Result<(), Failure> {
        let batch = self.take_batch()?;
        if batch.is_empty() {
            return Err(Failure::Usage("the batch was empty: nothing was done".into()));
        }
        let options = self.ack(AckArgs { ack: None }).options();
        // A batch that failed is gone: whether it can be sent again is for the user to say.
        let done = self.client.batch(batch, options).await?;
        match json {
            true => output::json(&json!({ "version": done.version, "operations": done.operations })),
            false => output::line(format_args!("{} operations, version {}", done.operations, done.version)),
        }
    }

    fn discard(&mut self) -> Result<(), Failure> {
        let batch = self.take_batch()?;
        output::line(format_args!("discarded {}", output::count(batch.len() as u64, "write")))
    }

    fn use_endpoint(&mut self, endpoint: Option<String>) -> Result<(), Failure> {
        if let Some(endpoint) = endpoint {
            self.reconnect(Connection { endpoint, ..self.connection.clone() })?;
        }
        output::line(format_args!("{}", self.client.endpoint()))
    }

    fn reconnect(&mut self, connection: Connection) -> Result<(), Failure> {
        self.client = connect(&connection)?;
        self.connection = connection;
        Ok(())
    }

    fn show_settings(&self) -> Result<(), Failure> {
        let Preferences { ack, consistency, cut, json, timing, .. } = &self.preferences;
        let on = |on: &bool| if *on { "on" } else { "off" };
        let timeout = self.connection.timeout().as_millis();
        let mut out = output::stdout();
        writeln!(out, "ack          {ack}")
            .and_then(|()| writeln!(out, "consistency  {consistency}"))
            .and_then(|()| writeln!(out, "timeout      {timeout}ms"))
            .and_then(|()| writeln!(out, "cut          {cut}"))
            .and_then(|()| writeln!(out, "json         {}", on(json)))
            .and_then(|()| writeln!(out, "timing       {}", on(timing)))
            .and_then(|()| out.flush())
            .map_err(output_error)
    }

    fn set(&mut self, name: Setting, value: Option<&str>) -> Result<(), Failure> {
        let Some(value) = value else { return self.show_settings() };
        let preferences = &mut self.preferences;
        match name {
            Setting::Ack => preferences.ack = value.parse().map_err(usage)?,
            Setting::Consistency => preferences.consistency = value.parse().map_err(usage)?,
            Setting::Cut => preferences.cut = value.parse().map_err(usage)?,
            Setting::Json => preferences.json = switch(value)?,
            Setting::Timing => preferences.timing = switch(value)?,
            Setting::Timeout => {
                let timeout = Some(millis(value).map_err(usage)?);
                self.reconnect(Connection { timeout, ..self.connection.clone() })?;
            }
        }
        Ok(())
    }

    /// There are no more commands: what was collected and neither committed nor discarded is told.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self.batch.take() {
            Some(batch) if !batch.is_empty() => Err(Failure::Usage(
                "the batch was not committed: the commands ended, and it is discarded".into(),
            )),
            _ => Ok(()),
        }
    }

    fn quit(&mut self) -> Result<Next, Failure> {
        match self.batch.take() {
            Some(batch) if !batch.is_empty() => Err(Failure::Usage(
                "the batch was not committed: it is discarded now; quit once more to leave".into(),
            )),
            _ => Ok(Next::Quit),
        }
    }
}

fn usage(why: impl std::fmt::Display) -> Failure {
    Failure::Usage(why.to_string())
}

fn switch(value: &str) -> Result<bool, Failure> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(usage("give on or off")),
    }
}
