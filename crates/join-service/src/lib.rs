//! Admits attested nodes to the cluster and issues their tickets
