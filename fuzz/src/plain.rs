//! Runs a target without libFuzzer: seeds first, then mutations of them, for a time.

use std::fs;
use std::io;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An input that takes longer would let a peer keep a verifier busy.
pub const SLOW: Duration = Duration::from_secs(2);
/// Inputs do not grow beyond this, the largest document any parser of ours takes.
const MAX_INPUT: usize = 256 * 1024;
const DEFAULT_SECONDS: u64 = 10;

/// Runs `target` over the seeds of `name`, then over mutations, for `--seconds N`; `--seed N` repeats a run, and
/// `--input FILE` runs one file.
pub fn run(name: &str, target: impl Fn(&[u8]) + RefUnwindSafe) -> ExitCode {
    match smoke(name, &target) {
        Ok(runs) => {
            println!("{name}: {runs} inputs, nothing found");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn smoke(name: &str, target: &(impl Fn(&[u8]) + RefUnwindSafe)) -> Result<u64, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(file) = argument(&arguments, "--input") {
        let input = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        return one(name, target, &input).map(|()| 1);
    }
    let number = |name| {
        argument(&arguments, name)
            .map(|text| text.parse::<u64>().map_err(|error| error.to_string()))
    };
    let seconds = number("--seconds").transpose()?.unwrap_or(DEFAULT_SECONDS);
    let seed = number("--seed").transpose()?.unwrap_or_else(now);
    let seeds = seeds(name).map_err(|error| format!("cannot read seeds/{name}: {error}"))?;
    if seeds.is_empty() {
        return Err(format!("seeds/{name} has no file"));
    }

    println!("{name}: {} seeds, {seconds} s, --seed {seed}", seeds.len());
    for input in &seeds {
        one(name, target, input)?;
    }
    let mut runs = seeds.len() as u64;
    let mut random = Random(seed | 1);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        let input = mutated(&seeds, &mut random);
        one(name, target, &input)?;
        runs += 1;
    }
    Ok(runs)
}

fn one(name: &str, target: &(impl Fn(&[u8]) + RefUnwindSafe), input: &[u8]) -> Result<(), String> {
    let started = Instant::now();
    let what = match catch_unwind(|| target(input)) {
        Ok(()) if started.elapsed() < SLOW => return Ok(()),
        Ok(()) => "takes too long",
        Err(_) => "panics",
    };
    let directory = root().join("artifacts").join(name);
    let file = directory.join(format!("{what}-{:016x}", fingerprint(input)).replace(' ', "-"));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&file, input))
        .map_err(|error| error.to_string())?;
    Err(format!("an input {what}; it is in {}", file.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn seeds(name: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("seeds").join(name))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    files.iter().map(fs::read).collect()
}

fn argument<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs() ^ u64::from(since.subsec_nanos()) << 20
}

fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// xorshift64*: good enough to choose bytes, and the same everywhere for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Values at which counts and lengths go wrong.
const INTERESTING: [u32; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len());
        match random.below(9) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.next() as u8,
            2 => input.truncate(at),
            3 => input.insert(at, random.next() as u8),
            4 if !input.is_empty() => drop(input.remove(at)),
            5 => {
                let value = INTERESTING[random.below(INTERESTING.len())];
                let bytes = if random.below(2) == 0 {
                    value.to_be_bytes()
                } else {
                    value.to_le_bytes()
                };
                let width = [1, 2, 4][random.below(3)];
                let bytes = if random.below(2) == 0 {
                    &bytes[..width]
                } else {
                    &bytes[4 - width..]
                };
                for (slot, byte) in input.iter_mut().skip(at).zip(bytes) {
                    *slot = *byte;
                }
            }
            6 => {
                let end = (at + 1 + random.below(64)).min(input.len());
                let chunk = input
                    .get(at..end)
                    .unwrap_or_default()
                    .repeat(1 + random.below(8));
                input.splice(at..at, chunk);
            }
            7 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ => {
                let end = (at + random.below(64)).min(input.len());
                drop(input.drain(at.min(end)..end));
            }
        }
        input.truncate(MAX_INPUT);
    }
    input
}
