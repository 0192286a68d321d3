//! Connections of this front, as the accept loop hands them over, and the services behind them.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use esker_cluster::metrics::Counter;
use esker_proto::v1::{cluster_server::ClusterServer, kv_server::KvServer};
use esker_wire::ErrorCode;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tonic::{Status, body::Body, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb;
use tower_service::Service;

use super::{away::Unavailable, cluster::ClusterCalls, connection::serve, health::HealthCalls, kv::KvCalls};
use crate::{
    accept::{Serves, Told},
    access::{Arrival, Door, Entrance},
    homes::Lodging,
    http::{ApiError, Front},
    stream::Stream,
};

/// A question to the reflection service is a name.
const REFLECTION_BYTES_MAX: usize = 64 << 10;

/// Serves connections of this front.
#[derive(Clone)]
pub(crate) struct GrpcService(Services);

impl GrpcService {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self(Services::new(front))
    }
}

impl Serves for GrpcService {
    fn front(&self) -> &Arc<Front> {
        self.0.front()
    }

    fn accepted(&self) -> &Counter {
        &self.0.front().grpc.metrics.connections_accepted
    }

    fn refused(&self) -> &Counter {
        &self.0.front().grpc.metrics.connections_refused
    }

    fn turned_away(&self) -> Told {
        Told::Calls(Unavailable::new(
            ErrorCode::TooManyConnections,
            "the server has as many connections as it may: retry later or raise its connection limit",
        ))
    }

    fn entrance(&self) -> Entrance {
        Entrance::Grpc
    }

    async fn serve(self, stream: Stream, _lodging: Option<Arc<Lodging>>) {
        stream.set_nodelay();
        let _open = Open::new(Arc::clone(self.0.front()));
        let services = self.0.of(stream.arrival(Entrance::Grpc));
        serve(TokioIo::new(stream), services).await;
    }
}

/// Counts an open connection.
struct Open(Arc<Front>);

impl Open {
    fn new(front: Arc<Front>) -> Self {
        front.grpc.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(front)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.grpc.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All services. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Services {
    /// Of whoever shows nothing.
    door: Door,
    reflection: Nameless,
    reflection_alpha: Nameless,
}

/// A service whose type has no name.
type Nameless = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Where the two versions of reflection are asked; they answer the same.
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

impl Services {
    fn new(front: Arc<Front>) -> Self {
        Self {
            reflection: reflection(),
            reflection_alpha: reflection_alpha(),
            door: Door::arrive(front, Arrival::new(Entrance::Grpc, None)),
        }
    }

    /// The same for whoever comes in so.
    fn of(&self, arrival: Arrival) -> Self {
        Self { door: Door::arrive(Arc::clone(self.front()), arrival), ..self.clone() }
    }

    pub(super) fn front(&self) -> &Arc<Front> {
        self.door.front()
    }

    /// How the client came in.
    pub(super) fn arrival(&self) -> &Arrival {
        self.door.arrival()
    }

    /// The door of whoever makes a call. Errors: what is shown is wrong, or nothing is where something has to be.
    pub(super) async fn admit<B>(&self, request: &Request<B>) -> Result<Door, ApiError> {
        let access = &self.door.access;
        if !access.is_locked() {
            return Ok(self.door.clone());
        }
        let Some(shown) = self.door.shown(request.headers())? else {
            let mut door = self.door.clone();
            door.refresh();
            let is_open =
                service_of(request.uri().path()) == <HealthServer<HealthCalls> as NamedService>::NAME;
            return if is_open { Ok(door) } else { Ok(door.may_know("call").map(|()| door)?) };
        };
        let arrival = self.door.arrival().clone();
        let caller = access.authenticate(arrival, shown.shown(), self.door.clock().monotonic()).await?;
        Ok(self.door.with_caller(caller))
    }

    /// Hands a call to the service that its path names.
    pub(super) async fn call(&self, door: Door, request: Request<Body>) -> Response<Body> {
        match service_of(request.uri().path()) {
            <KvServer<KvCalls> as NamedService>::NAME => {
                let service = KvServer::new(KvCalls(door)).max_decoding_message_size(usize::MAX);
                run(service, request).await
            }
            <ClusterServer<ClusterCalls> as NamedService>::NAME => {
                run(ClusterServer::new(ClusterCalls(door)), request).await
            }
            <HealthServer<HealthCalls> as NamedService>::NAME => {
                run(HealthServer::new(HealthCalls(door)), request).await
            }
            REFLECTION => (self.reflection)(request).await,
            REFLECTION_ALPHA => (self.reflection_alpha)(request).await,
            _ => Status::unimplemented("there is no such service here: reflection lists those there are")
                .into_http(),
        }
    }
}

/// All that reflection tells of.
fn described() -> tonic_reflection::server::Builder<'static> {
    let all = [
        esker_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        pb::v1::FILE_DESCRIPTOR_SET,
        pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    all.into_iter().fold(tonic_reflection::server::Builder::configure(), |builder, descriptors| {
        builder.register_encoded_file_descriptor_set(descriptors)
    })
}

fn reflection() -> Nameless {
    let service = described().include_reflection_service(false).build_v1();
    let service = service.expect("the compiler wrote the descriptors");
    let service = service.max_decoding_message_size(REFLECTION_BYTES_MAX);
    Arc::new(move |request| Box::pin(run(service.clone(), request)))
}

fn reflection_alpha() -> Nameless {
    let service = described().include_reflection_service(false).build_v1alpha();
    let service = service.expect("the compiler wrote the descriptors");
    let service = service.max_decoding_message_size(REFLECTION_BYTES_MAX);
    Arc::new(move |request| Box::pin(run(service.clone(), request)))
}

/// The service in `/service/method`.
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}

async fn run<S>(mut service: S, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    match service.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_service() {
        assert_eq!(service_of("/esker.v1.Kv/Get"), "esker.v1.Kv");
        assert_eq!((service_of("/"), service_of("/x"), service_of("x/y")), ("", "", ""));
    }
}
