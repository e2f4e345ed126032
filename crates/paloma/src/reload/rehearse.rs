//! What another configuration would do to clients that are connected.

use std::path::PathBuf;

use paloma_tokio::Client;

use super::Reloader;
use crate::cli::ConfigArgs;
use crate::listeners::Wanted;

/// Most lines of a rehearsal.
const LINES_MAX: usize = 1_000;
/// Most subscriptions of one client that a rehearsal looks at.
const FILTERS_MAX: usize = 256;

/// What would come of another configuration: lines for whoever asked.
#[derive(Debug)]
pub(crate) enum Rehearsed {
    /// It would change nothing, since it is wrong.
    Wrong(Vec<String>),
    /// Somebody would be cut off or lose a right.
    Affected(Vec<String>),
    /// Nobody would.
    Nobody(Vec<String>),
}

impl Reloader {
    /// Says what [`reload`](Self::reload) would do to clients that are connected if this were the configuration. Nothing
    /// changes.
    pub(crate) fn rehearse(&self, config: PathBuf) -> Rehearsed {
        let arguments = ConfigArgs {
            config: Some(config),
            ..self.arguments.clone()
        };
        let (config, security) = match crate::read_configuration(&arguments) {
            Ok(read) => read,
            Err(problems) => {
                return Rehearsed::Wrong(problems.0.iter().map(ToString::to_string).collect());
            }
        };
        let wanted = match Wanted::all(&config) {
            Ok(wanted) => wanted,
            Err(error) => return Rehearsed::Wrong(vec![error.to_string()]),
        };
        let plan = self.plan(wanted);
        let kept = plan
            .kept
            .iter()
            .map(|(number, wanted)| (*number, wanted.place));
        let rehearsal = self.gatekeeper.rehearse(&security, &kept.collect());
        let mut lines = Vec::new();
        let mut affected = 0_usize;
        for client in self.control.clients() {
            let losses = match rehearsal.expels(client.listener, &client.identity) {
                Some(reason) => vec![format!("would be cut off: {reason}")],
                None => {
                    let filters = self.control.filters(&client.client_id, FILTERS_MAX);
                    let who = (&client.identity, &*client.client_id);
                    let rules = client.rules.as_ref();
                    let losses = rehearsal.losses(client.listener, rules, who, &filters);
                    let losses = losses.into_iter().map(|loss| format!("would lose {loss}"));
                    losses.collect()
                }
            };
            affected += usize::from(!losses.is_empty());
            if lines.len() < LINES_MAX {
                lines.extend(
                    losses
                        .iter()
                        .map(|loss| format!("{}: {loss}", name(&client))),
                );
            }
        }
        if lines.len() >= LINES_MAX {
            lines.truncate(LINES_MAX);
            lines.push(format!("and so on: {affected} clients in all"));
        }
        if rehearsal.asks_again() {
            let told = "whoever a token or the HTTP hook let in is asked about again";
            lines.push(told.to_owned());
        }
        if affected == 0 {
            lines.push("no client would be cut off or lose a right".to_owned());
            Rehearsed::Nobody(lines)
        } else {
            Rehearsed::Affected(lines)
        }
    }
}

/// A client for an operator to read: the names are its own words.
fn name(client: &Client) -> String {
    let user = client.identity.user.as_ref();
    let user = user.map_or_else(String::new, |user| format!(" of user {:?}", &**user));
    let address = client.address.map(|address| format!(" at {address}"));
    let address = address.unwrap_or_default();
    format!("client {:?}{user}{address}", &*client.client_id)
}
