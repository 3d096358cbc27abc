//! The command line of Constellation

fn main() {}
