//! `GET /health`: whether the node is of use at all.

use esker_cluster::Status;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Answer,
    shapes::{Envelope, ErrorEnvelope, Refusal, success},
};
use crate::access::Door;
use crate::http::answer::AnswerRoom;

/// The answer where the node is of use.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct HealthData {
    /// `healthy`, or `disk_full`: reads go on, writes are refused until there is space; or `damaged`: stored bytes are, and all
    /// else is served.
    health: &'static str,
    /// What it is like, and what to do.
    message: String,
}

/// Whether the node is healthy: not, once writes are refused for good. A full disk is told, and is no reason: reads go on.
#[utoipa::path(get, path = "/health", tag = "envelope dialect", responses(
    (status = 200, description = "Healthy, or the disk is full: the body says which", body = Envelope<HealthData>),
    (status = 503, description = "Writes are refused until the store is reopened", body = ErrorEnvelope<'static>),
))]
pub(super) fn health(door: &Door) -> Answer {
    let data = condition(door.health().0)?;
    Ok(success(door, data, AnswerRoom::none()))
}

fn condition(status: Status) -> Result<HealthData, Refusal> {
    if let Some(why) = status.stats.poisoned {
        return Err(Refusal::unhealthy(format!("{why}. Restart the server")));
    }
    let health = match (status.stats.disk_full, &status.stats.damage.last) {
        (true, _) => "disk_full",
        (false, Some(_)) => "damaged",
        (false, None) => "healthy",
    };
    let message = status.trouble.filter(|_| health != "healthy");
    Ok(HealthData { health, message: message.unwrap_or_else(|| "Esker is running normally".into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_service;

    #[tokio::test]
    async fn only_a_store_that_refuses_for_good_is_unhealthy() {
        let (service, _dir) = test_service();
        let mut status = service.door().health().0;
        assert_eq!(condition(status.clone()).unwrap().health, "healthy");
        status.stats.disk_full = true;
        status.trouble = Some("full".into());
        let full = HealthData { health: "disk_full", message: "full".into() };
        assert_eq!(condition(status.clone()).unwrap(), full);
        status.stats.poisoned = Some("why".into());
        assert_eq!(condition(status).unwrap_err().into_answer(0).status(), 503);
    }
}
