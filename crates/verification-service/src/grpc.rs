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
        let nonce = request.into_inner().nonce;
        let nonce = <[u8; 32]>::try_from(nonce.as_slice())
            .map_err(|_| Status::invalid_argument("the nonce must have 32 bytes"))?;
        let evidence = self.0.make(&nonce).await.map_err(|error| match error {
            EvidenceError::Busy => Status::resource_exhausted("too many requests, try again later"),
            EvidenceError::Issue(_) | EvidenceError::Thread(_) => {
                Status::internal("this machine cannot make evidence")
            }
        })?;
        Ok(Response::new(GetAttestationResponse {
            attestation: evidence.document().to_vec(),
            variant: evidence.variant().to_string(),
        }))
    }
}
