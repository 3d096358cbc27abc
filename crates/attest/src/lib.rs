//! Evidence, endorsements, policy, verdict
