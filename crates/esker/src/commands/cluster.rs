//! `esker cluster`: what a cluster is, and changes of its membership.

use std::io::Write;

use esker_client::{
    Client, Retry,
    cluster::{AddMember, MembersAnswer, MembersRequest, Node, NodesAnswer, StatusAnswer},
};

use super::{block_on, client, connect, demo, patient, status};
use crate::{
    cli::{ClusterCommand, Connection, JsonArgs},
    exit::{Failure, output as output_error},
    output,
};

pub(super) fn run(connection: &Connection, command: ClusterCommand) -> Result<(), Failure> {
    let (change, json) = match command {
        ClusterCommand::Status(args) => return block_on(show_status(&connect(connection)?, args)),
        ClusterCommand::Demo(args) => return demo::run(args),
        ClusterCommand::Nodes(args) => return block_on(show_nodes(&connect(connection)?, args)),
        ClusterCommand::Add { peer_address, learner, json } => {
            (MembersRequest::Add(AddMember { peer_address, voter: !learner }), json)
        }
        ClusterCommand::Promote { node, json } => (MembersRequest::Promote(node), json),
        ClusterCommand::Remove { node, json } => (MembersRequest::Remove(node), json),
        ClusterCommand::Transfer { node, json } => (MembersRequest::Transfer(node), json),
    };
    let mut retry = Retry::default();
    retry.unreachable = false;
    let client = client(&patient(connection), retry)?;
    block_on(async {
        let node = client.change_members(&change).await?;
        match json.json {
            true => output::json(&MembersAnswer { node }),
            false => output::line(done(&change, node)),
        }
    })
}

fn done(change: &MembersRequest, node: u64) -> String {
    match change {
        MembersRequest::Add(AddMember { peer_address, voter: true }) => {
            format!("node {node} at {peer_address} is a member")
        }
        MembersRequest::Add(AddMember { peer_address, voter: false }) => {
            format!("node {node} at {peer_address} is a learner")
        }
        MembersRequest::Promote(_) => format!("node {node} has a vote"),
        MembersRequest::Remove(_) => format!("node {node} is no member any more"),
        MembersRequest::Transfer(_) => format!("node {node} leads"),
    }
}

async fn show_status(client: &Client, args: JsonArgs) -> Result<(), Failure> {
    let answer = client.status().await?;
    match args.json {
        true => output::json(&answer)?,
        false => print_status(&answer).map_err(output_error)?,
    }
    status::healthy(answer)
}

fn print_status(status: &StatusAnswer) -> std::io::Result<()> {
    let mut out = output::stdout();
    writeln!(out, "node       {}, {}", status.node_id, status.role)?;
    writeln!(out, "mode       {}", status.mode)?;
    writeln!(out, "cluster    {}", status.cluster_id.as_deref().unwrap_or("-"))?;
    writeln!(out, "leader     {}", or_unknown(status.leader_id))?;
    writeln!(out, "term       {}", status.term)?;
    writeln!(out, "committed  {}", status.commit_index)?;
    writeln!(out, "applied    {}", status.applied_index)?;
    out.flush()
}

pub(super) async fn show_nodes(client: &Client, args: JsonArgs) -> Result<(), Failure> {
    let answer = client.nodes().await?;
    match args.json {
        true => output::json(&answer),
        false => {
            let mut out = output::stdout();
            print_nodes(&mut out, &answer).and_then(|()| out.flush()).map_err(output_error)
        }
    }
}

fn print_nodes(out: &mut impl Write, answer: &NodesAnswer) -> std::io::Result<()> {
    let width = |address: fn(&Node) -> &str, title: &str| {
        answer.nodes.iter().map(|node| address(node).len()).fold(title.len(), usize::max)
    };
    let (http, peer) = (width(|node| &node.http_address, "http"), width(peer_address, "peers"));
    writeln!(
        out,
        "{:>4}  {:9}  {:5}  {:http$}  {:peer$}  {:>9}  {:>9}  healthy",
        "node", "role", "voter", "http", "peers", "lag", "silent"
    )?;
    for node in &answer.nodes {
        let voter = if node.voter { "yes" } else { "no" };
        let silent = node.silent_ms.map(|millis| format!("{millis}ms"));
        let healthy = node.healthy.map(|healthy| if healthy { "yes" } else { "no" });
        writeln!(
            out,
            "{:>4}  {:9}  {voter:5}  {:http$}  {:peer$}  {:>9}  {:>9}  {}",
            node.id,
            node.role,
            node.http_address,
            peer_address(node),
            or_unknown(node.lag),
            silent.as_deref().unwrap_or("?"),
            healthy.unwrap_or("?")
        )?;
    }
    Ok(())
}

fn peer_address(node: &Node) -> &str {
    node.peer_address.as_deref().unwrap_or("-")
}

fn or_unknown(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_in_columns_and_what_is_not_known_is_said() {
        let nodes = serde_json::json!({ "nodes": [
            { "id": 1, "http_address": "host:8080", "peer_address": "host:7070", "role": "leader", "voter": true,
              "lag": 0, "healthy": true },
            { "id": 12, "http_address": "h:8081", "peer_address": "h:7071", "role": "learner", "voter": false,
              "lag": null, "silent_ms": 5000, "healthy": false },
        ] });
        let mut text = Vec::new();
        print_nodes(&mut text, &serde_json::from_value(nodes).unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["1", "leader", "yes", "host:8080", "host:7070", "0", "?", "yes"]);
        assert_eq!(lines[2], ["12", "learner", "no", "h:8081", "h:7071", "?", "5000ms", "no"]);
        let column = |line: &str, word: &str| line.find(word).unwrap();
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(column(rows[0], "peers"), column(rows[2], "h:7071"));
    }

    #[test]
    fn what_was_done_is_told() {
        let add = |voter| MembersRequest::Add(AddMember { peer_address: "h:1".into(), voter });
        assert_eq!(done(&add(false), 4), "node 4 at h:1 is a learner");
        assert_eq!(done(&add(true), 4), "node 4 at h:1 is a member");
        assert_eq!(done(&MembersRequest::Transfer(None), 2), "node 2 leads");
    }
}
