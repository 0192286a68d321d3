//! Unary calls: a message there, a message back.

use std::sync::Arc;

use esker_cluster::peer::{PeerApi, PeerError, PeerResult};
use futures_util::future::BoxFuture;
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout_at},
};

use super::{Down, Host, SimNetwork, Way, back};

/// Sends `request`, once or twice, and waits for the first answer as long as the patience lasts.
pub(super) async fn call<Request, Answer>(
    network: SimNetwork,
    between: Way,
    what: &'static str,
    request: Request,
    serve: fn(&dyn PeerApi, Request) -> BoxFuture<'static, PeerResult<Answer>>,
) -> PeerResult<Answer>
where
    Request: Clone + Send + 'static,
    Answer: Send + 'static,
{
    let deadline = network.deadline();
    let twice = network.shared.rng.chance(network.profile(&between).duplication);
    // Room for both answers: nobody waits to give one.
    let (answers, mut answered) = mpsc::channel(2);
    for _ in 0..1 + u8::from(twice) {
        let message = Message { network: network.clone(), between: between.clone(), what };
        // A task of its own: the message is under way, whatever becomes of the caller.
        tokio::spawn(message.deliver(request.clone(), serve, answers.clone()));
    }
    drop(answers);
    if let Ok(Some(answer)) = timeout_at(deadline, answered.recv()).await {
        return answer;
    }
    sleep_until(deadline).await;
    Err(PeerError::TimedOut(network.shared.patience))
}

struct Message {
    network: SimNetwork,
    between: Way,
    what: &'static str,
}

impl Message {
    async fn deliver<Request, Answer>(
        self,
        request: Request,
        serve: fn(&dyn PeerApi, Request) -> BoxFuture<'static, PeerResult<Answer>>,
        answers: mpsc::Sender<PeerResult<Answer>>,
    ) where
        Request: Send + 'static,
        Answer: Send + 'static,
    {
        if !self.travel(&self.between).await {
            return;
        }
        let process = match self.network.host_at(&self.between.1) {
            Host::Up(process) => process,
            Host::Down(Down::Silent) => return,
            Host::Down(Down::Refuses) => {
                return self.answer(Err(unreachable("nobody listens there")), answers).await;
            }
        };
        self.network.note(&self.between, self.what);
        let served = process.run(serve(Arc::clone(&process.api).as_ref(), request)).await;
        let answer = served.unwrap_or_else(|| Err(unreachable("the node went down")));
        self.answer(answer, answers).await;
    }

    async fn answer<Answer>(self, answer: PeerResult<Answer>, answers: mpsc::Sender<PeerResult<Answer>>) {
        if self.travel(&back(&self.between)).await {
            // The caller may have given up, or have the other copy's answer.
            let _late = answers.try_send(answer).is_err();
        }
    }

    /// Whether the message arrives. On a blocked way some wait until it opens, as TCP would send them again.
    async fn travel(&self, between: &Way) -> bool {
        let rng = &self.network.shared.rng;
        let lost = rng.chance(self.network.profile(between).loss);
        let sent_again = rng.chance(0.5);
        sleep(self.network.draw_delay(between)).await;
        if self.network.is_blocked(between) {
            return sent_again && self.network.wait_until_open(between).await && !lost;
        }
        !lost
    }
}

pub(super) fn unreachable(why: &str) -> PeerError {
    PeerError::Unreachable(why.to_owned())
}
