//! `grpc.health.v1.Health`: what `/ready` says, for load balancers that ask so.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use esker_proto::v1::{cluster_server::ClusterServer, kv_server::KvServer};
use futures_util::stream::unfold;
use tokio::sync::watch::{Receiver, Sender};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::{cluster::ClusterCalls, kv::KvCalls};
use crate::{access::Door, http::readiness};

/// Who watches learns of a change within this.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What all who watch are told. One task looks for all of them, as long as there are any: a watch that waits costs no time.
#[derive(Default)]
pub(super) struct HealthBoard(Mutex<Option<Sender<ServingStatus>>>);

impl HealthBoard {
    fn lock(&self) -> MutexGuard<'_, Option<Sender<ServingStatus>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status as it is, and its changes.
    fn watch(&self, door: &Door) -> Receiver<ServingStatus> {
        let mut told = self.lock();
        if let Some(told) = &*told {
            return told.subscribe();
        }
        let (sender, receiver) = tokio::sync::watch::channel(serving(door));
        *told = Some(sender.clone());
        tokio::spawn(look(door.clone(), sender));
        receiver
    }

    /// Whether nobody watches any more; then the next one begins anew.
    fn ends(&self, told: &Sender<ServingStatus>) -> bool {
        // Nobody subscribes meanwhile.
        let mut board = self.lock();
        let ends = told.receiver_count() == 0;
        if ends {
            *board = None;
        }
        ends
    }
}

/// Looks for all who watch.
async fn look(door: Door, told: Sender<ServingStatus>) {
    while !door.grpc.health.ends(&told) {
        let now = serving(&door);
        told.send_if_modified(|last| std::mem::replace(last, now) != now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The service.
pub(super) struct HealthCalls(pub(super) Door);

/// What can be asked about: the server as a whole, and the services that need the Store.
const ASKABLE: [&str; 3] =
    ["", <KvServer<KvCalls> as NamedService>::NAME, <ClusterServer<ClusterCalls> as NamedService>::NAME];

fn is_askable(service: &str) -> bool {
    ASKABLE.contains(&service)
}

/// Not while the node shuts down, nor while its cluster has no leader that it knows of, nor once writes are refused for good.
fn serving(door: &Door) -> ServingStatus {
    match readiness(door) {
        Ok(_) => ServingStatus::Serving,
        Err(_) => ServingStatus::NotServing,
    }
}

#[tonic::async_trait]
impl Health for HealthCalls {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match is_askable(&request.get_ref().service) {
            true => Ok(Response::new(HealthCheckResponse { status: serving(&self.0).into() })),
            false => Err(Status::not_found("there is no such service here")),
        }
    }

    type WatchStream = HealthStream;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthStream>, Status> {
        if !is_askable(&request.get_ref().service) {
            return Ok(Response::new(Box::pin(unknown_for_ever())));
        }
        let mut told = self.0.grpc.health.watch(&self.0);
        // What it is now is told, too.
        told.mark_changed();
        let changes = unfold(told, |mut told| async {
            told.changed().await.ok()?;
            let status = *told.borrow_and_update();
            Some((Ok(is(status)), told))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// The status, and every change of it.
type HealthStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

fn is(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// As the protocol has it: whoever watches a service that there is not is told so, and waits for one.
fn unknown_for_ever() -> impl Stream<Item = Result<HealthCheckResponse, Status>> + Send {
    unfold(false, |is_told| async move {
        if is_told {
            std::future::pending::<()>().await;
        }
        Some((Ok(is(ServingStatus::ServiceUnknown)), true))
    })
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;
    use crate::http::test_service;

    #[tokio::test]
    async fn who_drains_is_not_serving_and_whoever_watches_is_told() {
        let (service, _dir) = test_service();
        let health = HealthCalls(service.door().clone());
        let asked = |service: &str| Request::new(HealthCheckRequest { service: service.into() });
        let mut watched = health.watch(asked("esker.v1.Kv")).await.unwrap().into_inner();
        let next = watched.next().await.unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::Serving);
        for service in ASKABLE {
            let answer = health.check(asked(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        assert_eq!(health.check(asked("other")).await.unwrap_err().code(), tonic::Code::NotFound);
        service.front().drain.announce();
        assert_eq!(health.check(asked("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
        assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        // One looks for both; when the last has gone nobody does.
        let other = health.watch(asked("")).await.unwrap().into_inner();
        let board = &service.front().grpc.health;
        let watching = || board.lock().as_ref().map_or(0, Sender::receiver_count);
        assert_eq!(watching(), 2);
        drop((watched, other));
        while board.lock().is_some() {
            tokio::task::yield_now().await;
        }
        let mut again = health.watch(asked("")).await.unwrap().into_inner();
        assert_eq!(again.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert_eq!(watching(), 1);
        let mut unknown = health.watch(asked("other")).await.unwrap().into_inner();
        assert_eq!(unknown.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    }
}
