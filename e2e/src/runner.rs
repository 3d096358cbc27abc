//! Runs named tests in order on one shared world and counts them.
//!
//! libtest gives neither an order nor a world that lives from one test to the next; a cluster takes minutes to make, so
//! the tests on machines need both. A test whose name does not contain the first argument is left out, as in libtest.

use std::process::ExitCode;
use std::time::Instant;

/// One test on the world `W`.
pub struct Test<W> {
    /// Name as it is printed and selected.
    pub name: &'static str,
    /// The test; an error is a failure.
    pub body: fn(&mut W) -> anyhow::Result<()>,
    /// Whether later tests can pass when this one failed.
    pub vital: bool,
}

/// Runs `tests` in order; after a vital one failed the rest count as failed, for they were not shown.
pub fn run<W>(world: &mut W, tests: &[Test<W>]) -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let mut broken = None;
    for test in tests
        .iter()
        .filter(|test| test.vital || test.name.contains(&filter))
    {
        if let Some(cause) = broken {
            eprintln!("test {} ... FAILED (not run: {cause} failed)", test.name);
            failed += 1;
            continue;
        }
        eprintln!("test {} ...", test.name);
        let start = Instant::now();
        let result = (test.body)(world);
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                eprintln!("test {} ... ok ({seconds:.1} s)", test.name);
                passed += 1;
            }
            Err(error) => {
                eprintln!("test {} ... FAILED ({seconds:.1} s): {error:#}", test.name);
                failed += 1;
                if test.vital {
                    broken = Some(test.name);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
