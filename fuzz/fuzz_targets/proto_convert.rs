//! Messages of peers, from the wire into the domain: join request, tickets, components, recovery, statement.
#![cfg_attr(fuzzing, no_main)]

use attest::Evidence;
use cluster::admission::JoinRequest;
use cluster::join::Ticket;
use cluster::{Role, recovery, rejoin};
use prost::Message;
use proto::components::Component;
use proto::init::InitRequest;
use proto::join::{
    IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
    IssueRejoinTicketResponse,
};
use proto::recover::{DescribeResponse, RecoverRequest};
use proto::verify::{GetAttestationRequest, GetAttestationResponse};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(wire) = IssueJoinTicketRequest::decode(bytes)
        && let Ok(request) = JoinRequest::try_from(&wire)
    {
        let written = IssueJoinTicketRequest::from(&request);
        assert_eq!(
            JoinRequest::try_from(&written).ok(),
            Some(request),
            "what is written reads back"
        );
    }
    if let Ok(wire) = IssueRejoinTicketRequest::decode(bytes) {
        drop(wire.parse_disk());
    }
    if let Ok(wire) = IssueJoinTicketResponse::decode(bytes)
        && let Ok(ticket) = Ticket::try_from(wire)
    {
        let role = if ticket.control_plane_files.is_empty() {
            Role::Worker
        } else {
            Role::ControlPlane
        };
        drop(ticket.check(role));
    }
    if let Ok(wire) = IssueRejoinTicketResponse::decode(bytes) {
        drop(rejoin::Ticket::from(wire).parse());
    }
    if let Ok(wire) = RecoverRequest::decode(bytes) {
        drop(recovery::Request::from(wire).check());
    }
    if let Ok(wire) = DescribeResponse::decode(bytes)
        && let Ok(waiting) = recovery::Waiting::try_from(wire)
    {
        let written = DescribeResponse::from(&waiting);
        assert_eq!(
            recovery::Waiting::try_from(written).ok(),
            Some(waiting),
            "what is written reads back"
        );
    }
    if let Ok(wire) = InitRequest::decode(bytes) {
        drop(Component::parse_list(wire.kubernetes_components));
    }
    if let Ok(wire) = GetAttestationRequest::decode(bytes) {
        drop(wire.parse_nonce());
    }
    if let Ok(wire) = GetAttestationResponse::decode(bytes)
        && let Ok(evidence) = Evidence::try_from(wire)
    {
        let written = GetAttestationResponse::from(&evidence);
        assert_eq!(
            Evidence::try_from(written).ok(),
            Some(evidence),
            "what is written reads back"
        );
    }
});
