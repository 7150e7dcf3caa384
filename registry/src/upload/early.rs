//! Uploading a blob while it is made: its bytes go first, and its digest when it is known.

use std::sync::{Arc, OnceLock};

use http_client::header::{CONTENT_TYPE, HeaderValue};
use http_client::{BodySource, Deadline, Method, Payload, Request, Url};
use oci::Reference;
use tokio_util::task::AbortOnDropHandle;

use super::session::{BYTES, Session, Started, Target};
use crate::registries::Registries;

/// The upload of a blob whose digest nobody knows yet. Dropped, it ends.
pub struct EarlyUpload {
    target: Target,
    sending: AbortOnDropHandle<Option<Session>>,
    /// Where the registry receives it.
    location: Arc<OnceLock<Url>>,
}

impl Registries {
    /// Begins to upload a blob that is still being made, as soon as it is known that this `is_worth` it. Give
    /// it to [`Registries::push_blob`]. What fails is not told: the blob is uploaded in the ordinary way then. To
    /// be called inside a runtime.
    pub fn push_early(
        &self,
        repository: &Reference,
        source: Arc<dyn BodySource>,
        is_worth: impl Future<Output = bool> + Send + 'static,
    ) -> EarlyUpload {
        let target = Target {
            endpoint: self.origin(repository.domain()),
            repository: repository.clone(),
            deadline: self.transfer_deadline(u64::MAX),
        };
        let (sender, location) = (target.clone(), Arc::<OnceLock<Url>>::default());
        let begun = location.clone();
        let sending = tokio::spawn(async move {
            if is_worth.await { send(&sender, source, &begun).await } else { None }
        });
        EarlyUpload { target, sending: AbortOnDropHandle::new(sending), location }
    }
}

impl EarlyUpload {
    /// What the registry has when all is sent; nothing if something failed.
    pub(super) async fn sent(self) -> Option<Session> {
        self.sending.await.ok().flatten()
    }

    /// Stops, and has the registry forget what it has got.
    pub(super) async fn refuse(self) {
        let Self { target, sending, location } = self;
        let whole = match sending.is_finished() {
            true => sending.await.ok().flatten(),
            false => {
                sending.abort();
                None
            }
        };
        if let Some(location) = whole.as_ref().map(|session| &session.location).or(location.get()) {
            forget(&target, location).await;
        }
    }
}

async fn send(
    target: &Target,
    source: Arc<dyn BodySource>,
    begun: &OnceLock<Url>,
) -> Option<Session> {
    // Whoever must send something goes first.
    let _permit = target.endpoint.connections().try_permit()?;
    let Ok(Started::At(mut session)) = target.start(None).await else { return None };
    let location = begun.get_or_init(|| session.location.clone());
    let mut request = Request::new(Method::PATCH, location.clone());
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(BYTES));
    request.payload = Payload::Growing { source };
    let sent = target.send(&request).await.and_then(|response| session.follow(&response));
    if sent.is_err() {
        forget(target, location).await;
    }
    sent.ok().map(|()| session)
}

/// Ends a session of which nobody wants anything. A registry that does not do it (Docker's
/// knows a session that was cut no more) clears it up some day.
async fn forget(target: &Target, location: &Url) {
    let limits = target.endpoint.connections().limits();
    let target = Target { deadline: Deadline::for_request(limits), ..target.clone() };
    let _ = target.send(&Request::new(Method::DELETE, location.clone())).await;
}
