//! `/debug/pprof`: where the process spends its time and who holds its memory, for `go tool pprof` and whoever reads its format.

use std::{
    ops::RangeInclusive,
    sync::{Arc, mpsc},
    time::Duration,
};

use axum::body::Body;
use esker_wire::ErrorCode;
use http::{HeaderName, HeaderValue, Request, Response, header};
use tokio::sync::oneshot;

use super::admin::refuse_parameters;
use crate::{
    Probe, ProfileError,
    access::Door,
    http::{
        answer::{AnswerBody, OCTET_STREAM},
        error::ApiError,
        openapi::ValueBytes,
        query::Query,
    },
};

const SECONDS: RangeInclusive<u32> = 1..=300;
const SECONDS_DEFAULT: u32 = 30;
/// Not a round number: what happens a hundred times a second would be seen always or never.
const HZ_DEFAULT: u32 = 99;
const HZ: RangeInclusive<u32> = 1..=999;
/// Of the thread that makes a profile: libraries that do so go deep. It is reserved, and used where it is needed.
const STACK_BYTES: usize = 16 << 20;

/// Where the process spends processor time, as a profile in the format of pprof, gzipped. The answer comes when the time is over. One
/// profile is taken at a time.
#[utoipa::path(get, path = "/debug/pprof/profile", tag = "operations",
    params(
        ("seconds" = Option<u32>, Query, minimum = 1, maximum = 300, description = "For how long; 30 if not given"),
        ("hz" = Option<u32>, Query, minimum = 1, maximum = 999, description = "Samples for each second of processor time; 99 if not given"),
    ),
    responses(
        (status = 200, description = "The profile", content_type = "application/octet-stream", body = ValueBytes),
        (status = 400, description = "The parameters are wrong, or the process cannot be profiled", body = esker_wire::ErrorAnswer),
        (status = 409, description = "A profile is being taken", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The profile could not be made", body = esker_wire::ErrorAnswer),
        (status = 503, description = "The server is shutting down", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn profile(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    door.may_administer("profile")?;
    let query = Query::parse(request.uri().query(), &["seconds", "hz"])?;
    let seconds = within(&query, "seconds", SECONDS)?.unwrap_or(SECONDS_DEFAULT);
    let hz = within(&query, "hz", HZ)?.unwrap_or(HZ_DEFAULT);
    let length = Duration::from_secs(seconds.into());
    take(&door, "profile", move |probe, gone| probe.cpu_profile(length, hz, gone)).await
}

/// Who holds the memory that is in use now, as a profile in the format of pprof, gzipped: of a sample of all allocations, one in
/// 512 KiB. One profile is taken at a time.
#[utoipa::path(get, path = "/debug/pprof/heap", tag = "operations", responses(
    (status = 200, description = "The profile", content_type = "application/octet-stream", body = ValueBytes),
    (status = 400, description = "The process was started so that no heap profiles can be taken", body = esker_wire::ErrorAnswer),
    (status = 409, description = "A profile is being taken", body = esker_wire::ErrorAnswer),
    (status = 500, description = "The profile could not be made", body = esker_wire::ErrorAnswer),
    (status = 503, description = "The server is shutting down", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn heap(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    door.may_administer("heap_profile")?;
    refuse_parameters(&request)?;
    take(&door, "heap", |probe, _gone| probe.heap_profile()).await
}

fn within(query: &Query<'_>, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
    let allowed = format!("a number from {} to {}", range.start(), range.end());
    let given = query.parsed::<u32>(name, &allowed)?;
    match given {
        Some(number) if !range.contains(&number) => {
            Err(ApiError::bad_request(format!("the parameter `{name}` is {number}: it takes {allowed}")))
        }
        given => Ok(given),
    }
}

/// Takes a profile on a thread of its own: it takes long, and no thread that serves requests shall wait for it. The thread learns
/// from its channel that the client went away.
async fn take(
    door: &Door,
    name: &str,
    work: impl FnOnce(&dyn Probe, &mpsc::Receiver<()>) -> Result<Vec<u8>, ProfileError> + Send + 'static,
) -> Result<Response<AnswerBody>, ApiError> {
    let Some(probe) = door.config.probe.clone() else {
        return Err(ApiError::not_supported("profiles: this process has nobody who takes them; that"));
    };
    let Ok(turn) = Arc::clone(&door.profiles).try_acquire_owned() else {
        let why = "a profile is being taken: wait until it is done";
        return Err(ApiError::new(ErrorCode::Conflict, why));
    };
    let (_wanted, gone) = mpsc::channel();
    let (done, taken) = oneshot::channel();
    let thread = std::thread::Builder::new().name("esker-profile".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        let profile = work(&*probe, &gone);
        drop(turn);
        let _client_went_away = done.send(profile).is_err();
    });
    if let Err(e) = started {
        return Err(ApiError::new(ErrorCode::Internal, format!("cannot start a thread: {e}")));
    }
    let mut drain = door.drain.subscribe();
    tokio::select! {
        taken = taken => answer(name, taken),
        () = drain.begun() => Err(ApiError::new(ErrorCode::Draining, "the server is shutting down: retry later")),
    }
}

type Taken = Result<Result<Vec<u8>, ProfileError>, oneshot::error::RecvError>;

fn answer(name: &str, taken: Taken) -> Result<Response<AnswerBody>, ApiError> {
    let profile = match taken {
        Ok(Ok(profile)) => profile,
        Ok(Err(ProfileError::NotSupported(what))) => return Err(ApiError::not_supported(what)),
        Ok(Err(ProfileError::Failed(why))) => {
            return Err(ApiError::new(ErrorCode::Internal, format!("the profile could not be made: {why}")));
        }
        Err(_) => return Err(ApiError::new(ErrorCode::Internal, "the thread that makes the profile died")),
    };
    let mut answer = Response::new(AnswerBody::full(profile));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, OCTET_STREAM);
    let name = HeaderValue::from_str(&format!("attachment; filename=\"{name}.pb.gz\""));
    headers.insert(header::CONTENT_DISPOSITION, name.expect("a word in quotes is a header"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    Ok(answer)
}
