//! The exchange that turns a TLS session into an attested connection, the same code for both ends.
//!
//! Steps, as numbered in the model (`docs/attested-channel.md`): 1 and 2 are the TLS handshake and its checks (`tls`, `danger`);
//! 3 both hellos; 4 transcript, exporter and bindings; 5 evidence; 6 appraisal; 7 verdicts; 8 application data. Each step
//! needs what the step before returned, and only step 7 makes an [`Attested`].
//!
//! Within a step both directions run at once, so two peers with full socket buffers cannot wait for one another.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use attest::{Binding, Issue, Refusal, Role};
use aws_lc_rs::{
    digest::{Context, SHA256},
    rand,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    task,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsStream;
use tracing::{info, warn};

use crate::{
    Error,
    admission::Admission,
    attested::{Attested, Peer},
    frame::{self, Kind},
    message::{self, Hello, Verdict},
    tls::{self, ClientCertificate},
    verifier::sealed::Judge,
};

/// Which end of the TLS session this side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// One side of an exchange, complete but for the session.
pub(crate) struct Party<'a, D> {
    pub(crate) side: Side,
    pub(crate) role: Role,
    pub(crate) peer_role: Role,
    /// `None` for the administrator's program only.
    pub(crate) issuer: Option<Arc<dyn Issue>>,
    pub(crate) demand: D,
    /// `SubjectPublicKeyInfo` of the own certificate, if this side has one.
    pub(crate) public_key: Option<&'a [u8]>,
    pub(crate) admission: Admission,
    /// The end of the whole exchange, which the caller sets.
    pub(crate) until: Instant,
}

/// How long a peer that is refused may take to read that.
const FAREWELL: Duration = Duration::from_secs(2);

impl<D: Judge> Party<'_, D> {
    /// Runs the exchange.
    pub(crate) async fn attest<S>(
        self,
        mut stream: TlsStream<S>,
        address: Option<SocketAddr>,
    ) -> Result<Attested<S, D::Proof>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let peer_public_key = self.check_session(&stream)?;

        let own_frame = self.hello()?;
        let (peer, peer_frame) = self.exchange_hellos(&mut stream, &own_frame).await?;
        self.check_hello(&peer)?;
        self.admission.spoke().await;

        let session = self.bind(&stream, &own_frame, &peer_frame, peer_public_key.as_deref())?;
        let received = self.exchange_evidence(&mut stream, &session).await?;
        let judged = self.judge(received, &session, &peer, address).await?;
        if self.issuer.is_none() && judged.is_ok() {
            // Nothing is due from the peer any more until it has our verdict.
            nothing_pending(&mut stream).await?;
        }
        if judged.is_ok() && !self.admission.rests() {
            return Err(Error::TooMany);
        }
        let proof = self.exchange_verdicts(&mut stream, judged).await?;
        Ok(Attested::new(stream, Peer::new(proof, address)))
    }

    /// Step 2: a full TLS 1.3 handshake of this protocol, with exactly the certificates the roles demand.
    fn check_session<S>(&self, stream: &TlsStream<S>) -> Result<Option<Vec<u8>>, Error> {
        let (_, state) = stream.get_ref();
        let certificate = match self.side {
            Side::Client => ClientCertificate::Demanded,
            Side::Server if D::ASKS => ClientCertificate::Demanded,
            Side::Server => ClientCertificate::NotAsked,
        };
        Ok(tls::check_session(state, certificate)?)
    }

    fn hello(&self) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; message::NONCE];
        rand::fill(&mut nonce).expect("the system has randomness");
        let hello = Hello {
            nonce,
            role: self.role,
            accepts: self
                .demand
                .accepts()
                .into_iter()
                .map(|variant| variant.as_str().to_owned())
                .collect(),
        };
        Ok(frame::encode(Kind::Hello, &hello.encode())?)
    }

    /// Step 3.
    async fn exchange_hellos<S>(
        &self,
        stream: &mut TlsStream<S>,
        own_frame: &[u8],
    ) -> Result<(Hello, Vec<u8>), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ((), body) = tokio::try_join!(
            frame::send(&mut writer, Kind::Hello, own_frame),
            frame::receive(&mut reader, Kind::Hello)
        )?;
        let hello = Hello::parse(&body)?;
        let frame = frame::encode(Kind::Hello, &body)?;
        Ok((hello, frame))
    }

    /// The peer must be who belongs at the other end, and ask for exactly what the roles say.
    fn check_hello(&self, peer: &Hello) -> Result<(), Error> {
        if peer.role != self.peer_role {
            return Err(Error::Role {
                expected: self.peer_role,
                actual: peer.role,
            });
        }
        match &self.issuer {
            Some(_) if !peer.asks_for_evidence() => Err(Error::Demand),
            Some(issuer) if !peer.accepts(issuer.variant()) => {
                Err(Error::VariantNotAccepted(issuer.variant()))
            }
            None if peer.asks_for_evidence() => Err(Error::Demand),
            Some(_) | None => Ok(()),
        }
    }

    /// Step 4: what evidence of either side has to be made over.
    fn bind<S>(
        &self,
        stream: &TlsStream<S>,
        own_frame: &[u8],
        peer_frame: &[u8],
        peer_public_key: Option<&[u8]>,
    ) -> Result<Session, Error> {
        let (client_frame, server_frame) = self.side.client_first(own_frame, peer_frame);
        let (client_key, server_key) = self.side.client_first(self.public_key, peer_public_key);
        let server_key = server_key.ok_or(tls::SessionError::Certificate)?;

        let mut transcript = Context::new(&SHA256);
        transcript.update(client_frame);
        transcript.update(server_frame);
        let mut digest = [0; 32];
        digest.copy_from_slice(transcript.finish().as_ref());

        let exporter = tls::export(stream, &digest)?;
        let binding = |role| Binding::for_channel(role, &exporter, &digest, server_key, client_key);
        Ok(Session {
            own: binding(self.role),
            peer: binding(self.peer_role),
        })
    }

    /// Step 5: evidence where it is due, in both directions at once.
    async fn exchange_evidence<S>(
        &self,
        stream: &mut TlsStream<S>,
        session: &Session,
    ) -> Result<D::Received, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let send = async {
            let Some(issuer) = self.issuer.clone() else {
                return Ok(());
            };
            let (binding, work) = (session.own.clone(), self.admission.work());
            let evidence = task::spawn_blocking(move || {
                let evidence = issuer.issue(&binding);
                drop(work);
                evidence
            });
            let evidence = evidence
                .await
                .map_err(Error::Interrupted)?
                .map_err(Error::Issue)?;
            let frame = frame::encode(Kind::Evidence, &message::encode_evidence(&evidence))?;
            Ok(frame::send(&mut writer, Kind::Evidence, &frame).await?)
        };
        let ((), received) = tokio::try_join!(send, self.demand.receive(&mut reader))?;
        Ok(received)
    }

    /// Step 6. The log of the verifier is the only place, beside the error, that has the whole verdict.
    async fn judge(
        &self,
        received: D::Received,
        session: &Session,
        peer: &Hello,
        address: Option<SocketAddr>,
    ) -> Result<Result<D::Proof, Refusal>, Error> {
        let demand = self.demand.clone();
        let endorsed = demand.endorse(&received).await;
        let (binding, work) = (session.peer.clone(), self.admission.work());
        let judged = task::spawn_blocking(move || {
            let judged = demand.judge(received, endorsed, &binding);
            drop(work);
            judged
        });
        let judged = judged.await.map_err(Error::Interrupted)?;
        if D::ASKS {
            let address = address.map(tracing::field::display);
            match &judged {
                Ok(proof) => info!(
                    target: "attestation",
                    peer = address,
                    role = %peer.role,
                    ak = D::machine(proof),
                    "accepted a machine"
                ),
                Err(refusal) => warn!(
                    target: "attestation",
                    peer = address,
                    role = %peer.role,
                    code = %refusal.code(),
                    "refused a machine\n{refusal}"
                ),
            }
        }
        Ok(judged)
    }

    /// Step 7: every verdict that is owed is sent and read before there is an attested connection.
    async fn exchange_verdicts<S>(
        &self,
        stream: &mut TlsStream<S>,
        judged: Result<D::Proof, Refusal>,
    ) -> Result<D::Proof, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let verdict = match &judged {
            Ok(_) => Verdict::Accepted,
            Err(refusal) => Verdict::Refused(Some(refusal.code())),
        };
        let (mut reader, mut writer) = tokio::io::split(&mut *stream);
        let send = async {
            if !D::ASKS {
                return Ok(());
            }
            let frame = frame::encode(Kind::Verdict, &verdict.encode())?;
            Ok::<(), Error>(frame::send(&mut writer, Kind::Verdict, &frame).await?)
        };
        let receive = async {
            if self.issuer.is_none() {
                return Ok(None);
            }
            let body = frame::receive(&mut reader, Kind::Verdict).await?;
            Ok::<_, Error>(Some(Verdict::parse(&body)?))
        };
        let both = async { tokio::join!(send, receive) };
        let proof = match judged {
            Ok(proof) => proof,
            Err(refusal) => {
                // Only to let the verdict arrive. The connection ends here in any case, and the refusal is what has to be
                // reported, also of a peer that closes at once or does nothing any more until the deadline.
                let until = self.until.min(Instant::now() + FAREWELL);
                let _verdicts = timeout_at(until, both).await;
                let _closed = timeout_at(until, stream.shutdown()).await;
                return Err(Error::Refused(Box::new(refusal)));
            }
        };
        let (sent, received) = both.await;
        sent?;
        match received? {
            // Who proves nothing is owed no verdict.
            None | Some(Verdict::Accepted) => Ok(proof),
            Some(Verdict::Refused(code)) => Err(Error::RefusedByPeer(code)),
        }
    }
}

/// The bindings of one session, one per direction.
struct Session {
    own: Binding,
    peer: Binding,
}

impl Side {
    /// Own and peer's, in the order of the protocol: the client's first.
    fn client_first<T>(self, own: T, peer: T) -> (T, T) {
        match self {
            Self::Client => (own, peer),
            Self::Server => (peer, own),
        }
    }
}

/// An error if bytes of the peer are waiting; does not wait for any.
async fn nothing_pending<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), Error> {
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    poll_fn(
        |context| match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Err(frame::FrameError::Truncated(Kind::Verdict).into()))
            }
            Poll::Ready(Ok(())) => Poll::Ready(Err(Error::EarlyData)),
            Poll::Ready(Err(source)) => Poll::Ready(Err(frame::FrameError::Read {
                kind: Kind::Verdict,
                source,
            }
            .into())),
        },
    )
    .await
}

#[cfg(test)]
mod tests;
