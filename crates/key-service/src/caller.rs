//! From a token to a caller: the API server says whose the token is, this module only asks it and remembers.
//!
//! An answer is remembered for a minute, and never longer than the token lives: a token of a pod that is gone stops working
//! within that minute. Refusals are not remembered. What is remembered is bounded, and keyed by the token's hash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use keys::access::Caller;
use kube::{Api, Client, api::PostParams};
use tokio::sync::Semaphore;

use crate::AUDIENCE;

const REMEMBER: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 256;
/// Far above what an API server signs.
const TOKEN_MAX: usize = 8 * 1024;
/// Reviews that may run at once: a flood of bad tokens must not become a flood on the API server.
const REVIEWS: usize = 8;

/// Why a token names no caller. The text is for the log; the peer learns a code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("no token was sent")]
    Missing,
    #[error("the authorization header is not \"Bearer <token>\"")]
    Malformed,
    #[error("the token is expired")]
    Expired,
    #[error("the token is not for the audience {AUDIENCE}")]
    Audience,
    #[error("the API server does not know the token: {0}")]
    Refused(String),
    #[error("{0} has no row in the table of callers")]
    Unknown(String),
    #[error("ask the API server whose the token is")]
    Review(#[source] kube::Error),
}

/// Who calls, and as which service account's which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identified {
    pub(crate) caller: Caller,
    pub(crate) user: String,
    pub(crate) pod: Option<String>,
}

/// Finds callers.
pub(crate) struct Callers {
    reviews: Api<TokenReview>,
    slots: Semaphore,
    remembered: Mutex<Remembered>,
}

impl Callers {
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            reviews: Api::all(client),
            slots: Semaphore::new(REVIEWS),
            remembered: Mutex::default(),
        })
    }

    /// The caller of a request with this `authorization` header.
    pub(crate) async fn identify(&self, header: Option<&[u8]>) -> Result<Identified, CallerError> {
        let token = bearer(header)?;
        let claims = Claims::read(token)?;
        let now = Now::read();
        claims.check(now.wall)?;
        let hash = hash(token);
        if let Some(known) = self.memory().get(&hash, now) {
            return Ok(known);
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let answer = self
            .reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(CallerError::Review)?;
        let identified = verdict(answer.status.unwrap_or_default())?;
        self.memory()
            .put(hash, identified.clone(), claims.expiry, now);
        Ok(identified)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two clocks: the host sets the one that tokens are dated by, so how long an answer holds is measured by the other.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall: Duration,
    steady: Instant,
}

impl Now {
    fn read() -> Self {
        Self {
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            steady: Instant::now(),
        }
    }
}

fn bearer(header: Option<&[u8]>) -> Result<&str, CallerError> {
    let header = header.ok_or(CallerError::Missing)?;
    let token = header
        .strip_prefix(b"Bearer ")
        .and_then(|token| std::str::from_utf8(token).ok())
        .ok_or(CallerError::Malformed)?;
    match token.len() {
        0 => Err(CallerError::Missing),
        length if length > TOKEN_MAX => Err(CallerError::Malformed),
        _ => Ok(token),
    }
}

/// What a token says of itself. Never trusted: it only saves the API server a question and bounds how long an answer holds.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    expiry: Duration,
    for_us: bool,
}

impl Claims {
    fn read(token: &str) -> Result<Self, CallerError> {
        #[derive(serde::Deserialize)]
        struct Payload {
            exp: u64,
            aud: Audiences,
        }
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Audiences {
            One(String),
            Many(Vec<String>),
        }
        let payload = token.split('.').nth(1).ok_or(CallerError::Malformed)?;
        let payload = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| CallerError::Malformed)?;
        // A token without an expiry or an audience is a legacy one, which lives for ever and is for everyone: not for us.
        let payload: Payload =
            serde_json::from_slice(&payload).map_err(|_| CallerError::Audience)?;
        let for_us = match &payload.aud {
            Audiences::One(audience) => audience == AUDIENCE,
            Audiences::Many(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        Ok(Self {
            expiry: Duration::from_secs(payload.exp),
            for_us,
        })
    }

    fn check(&self, now: Duration) -> Result<(), CallerError> {
        if !self.for_us {
            Err(CallerError::Audience)
        } else if self.expiry <= now {
            Err(CallerError::Expired)
        } else {
            Ok(())
        }
    }
}

/// Reads the API server's answer; everything it does not say counts against the token.
fn verdict(status: TokenReviewStatus) -> Result<Identified, CallerError> {
    if status.authenticated != Some(true) {
        let why = status
            .error
            .unwrap_or_else(|| "without a reason".to_owned());
        return Err(CallerError::Refused(why));
    }
    // An API server that does not know audiences leaves the list empty, and has not checked ours.
    if !status
        .audiences
        .unwrap_or_default()
        .iter()
        .any(|audience| audience == AUDIENCE)
    {
        return Err(CallerError::Audience);
    }
    let info = status.user.unwrap_or_default();
    let user = info.username.unwrap_or_default();
    let caller = Caller::from_user_name(&user).ok_or_else(|| CallerError::Unknown(user.clone()))?;
    let pod = info
        .extra
        .and_then(|mut extra| extra.remove("authentication.kubernetes.io/pod-name"))
        .and_then(|names| names.into_iter().next());
    Ok(Identified { caller, user, pod })
}

type TokenHash = [u8; 32];

fn hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref(),
    );
    hash
}

/// Answers of the API server and until when they hold.
#[derive(Default)]
struct Remembered(BTreeMap<TokenHash, (Instant, Identified)>);

impl Remembered {
    fn get(&self, hash: &TokenHash, now: Now) -> Option<Identified> {
        self.0
            .get(hash)
            .filter(|(until, _)| now.steady < *until)
            .map(|(_, identified)| identified.clone())
    }

    fn put(&mut self, hash: TokenHash, identified: Identified, expiry: Duration, now: Now) {
        self.0.retain(|_, (until, _)| now.steady < *until);
        if self.0.len() >= REMEMBERED_MAX {
            // Forgetting costs one more question; which entry goes does not matter.
            self.0.pop_first();
        }
        let holds = expiry.saturating_sub(now.wall).min(REMEMBER);
        self.0.insert(hash, (now.steady + holds, identified));
    }
}

#[cfg(test)]
mod tests;
