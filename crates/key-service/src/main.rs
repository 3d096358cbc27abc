//! Derives data keys for callers it knows

fn main() {}
