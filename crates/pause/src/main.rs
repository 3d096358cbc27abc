//! Holds a pod's namespaces: waits for a signal, reaps children

fn main() {}
