//! `verify.API/GetAttestation`.

use proto::verify::{GetAttestationRequest, GetAttestationResponse, api_server::Api};
use tonic::{Request, Response, Status};

use crate::evidence::{EvidenceError, Evidences};

pub(crate) struct Verification(Evidences);

impl Verification {
    pub(crate) fn new(evidences: Evidences) -> Self {
        Self(evidences)
    }
}

#[tonic::async_trait]
impl Api for Verification {
    async fn get_attestation(
        &self,
        request: Request<GetAttestationRequest>,
    ) -> Result<Response<GetAttestationResponse>, Status> {
        // A connection that is gone already has no address any more.
        let from = request
            .remote_addr()
            .ok_or_else(|| Status::unavailable("the connection is closed"))?;
        let nonce = request
            .get_ref()
            .parse_nonce()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let made = self.0.make(&nonce, from.into()).await;
        let evidence = made.map_err(|error| match error {
            EvidenceError::Busy => Status::resource_exhausted("too many requests, try again later"),
            EvidenceError::Issue(_) | EvidenceError::Thread(_) => {
                Status::internal("this machine cannot make evidence")
            }
        })?;
        Ok(Response::new(GetAttestationResponse::from(&evidence)))
    }
}
