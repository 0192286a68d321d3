//! A server of the same services that keeps nothing: tonic as it comes.

use std::net::SocketAddr;

use bytes::Bytes;
use esker_proto::v1::{
    BatchRequest, BatchResponse, DeleteRangeRequest, DeleteRangeResponse, DeleteRequest, DeleteResponse, Entry,
    GetRequest, GetResponse, IncrementRequest, IncrementResponse, MultiGetRequest, MultiGetResponse, PutRequest,
    PutResponse, ScanRequest, ScanResponse, WatchRequest, WatchResponse,
    kv_server::{Kv, KvServer},
};
use tonic::{Request, Response, Status, transport::Server};

struct Constant(Bytes);

type Answer<T> = Result<Response<T>, Status>;

fn absent<T>() -> Answer<T> {
    Err(Status::unimplemented("it answers Get and Put"))
}

#[tonic::async_trait]
impl Kv for Constant {
    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        std::hint::black_box(request.into_inner());
        Ok(Response::new(PutResponse { version: 12345 }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        std::hint::black_box(request.into_inner());
        let entry = Entry { value: self.0.clone(), version: 12345, expires_at_ms: None };
        Ok(Response::new(GetResponse { entry: Some(entry), applied_version: None, value_bytes: None }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        absent()
    }

    async fn batch(&self, _: Request<BatchRequest>) -> Answer<BatchResponse> {
        absent()
    }

    async fn multi_get(&self, _: Request<MultiGetRequest>) -> Answer<MultiGetResponse> {
        absent()
    }

    async fn increment(&self, _: Request<IncrementRequest>) -> Answer<IncrementResponse> {
        absent()
    }

    async fn delete_range(&self, _: Request<DeleteRangeRequest>) -> Answer<DeleteRangeResponse> {
        absent()
    }

    type ScanStream = tokio_stream::Empty<Result<ScanResponse, Status>>;

    async fn scan(&self, _: Request<ScanRequest>) -> Answer<Self::ScanStream> {
        absent()
    }

    type WatchStream = tokio_stream::Empty<Result<WatchResponse, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        absent()
    }
}

pub async fn serve(address: SocketAddr) {
    let service = KvServer::new(Constant(Bytes::from(vec![b'7'; 100])));
    Server::builder().tcp_nodelay(true).add_service(service).serve(address).await.expect("serving");
}
