//! The attested channel: TLS 1.3, evidence bound to the session, tonic glue
