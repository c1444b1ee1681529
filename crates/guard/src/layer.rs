//! The guard in front of services of `tower`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Caller, Guard, Refusal};

/// Puts a [`Caller`] among the extensions of each request, or answers it with the challenge.
#[derive(Debug, Clone)]
pub struct GuardLayer {
    guard: Guard,
    scope: Option<Arc<str>>,
}

/// A service behind a guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    layer: GuardLayer,
    inner: S,
}

/// Who was let through by which guard: behind a layer of the same guard nobody is checked twice.
#[derive(Clone)]
pub(crate) struct Admitted {
    by: Guard,
    caller: Caller,
}

impl Admitted {
    /// The caller, if it was this guard.
    pub(crate) fn caller(&self, guard: &Guard) -> Option<&Caller> {
        self.by.is(guard).then_some(&self.caller)
    }
}

impl Guard {
    /// In front of a router or a route: `router.layer(guard.layer())`.
    pub fn layer(&self) -> GuardLayer {
        GuardLayer { guard: self.clone(), scope: None }
    }
}

impl GuardLayer {
    /// Refuses callers without this scope too. What they may touch is for the handler to ask: [`Caller::require`].
    #[must_use]
    pub fn require_scope(self, scope: impl Into<Arc<str>>) -> Self {
        Self { scope: Some(scope.into()), ..self }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { layer: self.clone(), inner }
    }
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let GuardLayer { guard, scope } = self.layer.clone();
        // The one that is ready is taken; its clone may not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let caller = match guard.admit(request.headers()).await {
                Ok(caller) => caller,
                Err(refusal) => return Ok(refusal.response(guard.realm())),
            };
            if let Some(Err(refusal)) = scope.map(|scope| caller.require_scope(&scope)) {
                guard.count_refusal(&refusal);
                return Ok(refusal.response(guard.realm()));
            }
            request.extensions_mut().insert(Admitted { by: guard.clone(), caller: caller.clone() });
            request.extensions_mut().insert(caller);
            let mut response = inner.call(request).await?;
            // Refused by the handler, which does not know the realm.
            if let Some(refusal) = response.extensions().get::<Refusal>().cloned() {
                guard.count_refusal(&refusal);
                refusal.write_challenge(guard.realm(), response.headers_mut());
            }
            Ok(response)
        })
    }
}
