//! Hands out evidence of the node it runs on

fn main() {}
