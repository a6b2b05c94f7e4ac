//! Converts corpora between the form of the fuzzer (a folder with a file for each case) and the kept form (one file for each
//! target).

use pointsman_fuzz_targets::{TARGETS, dictionary, read_pack, seeds, write_pack};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

const USAGE: &str = "usage: corpus list | unpack TARGET FOLDER | pack TARGET FOLDER | dictionary TARGET FILE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match &words[..] {
        ["list"] => {
            TARGETS.iter().for_each(|(name, _)| println!("{name}"));
            Ok(())
        }
        ["unpack", target, folder] => unpack(target, Path::new(folder)),
        ["pack", target, folder] => pack(target, Path::new(folder)),
        ["dictionary", target, file] => fs::write(file, dictionary(target)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Writes the kept cases and the seeds of the repository into a folder.
fn unpack(target: &str, folder: &Path) -> io::Result<()> {
    let kept = fs::read(fuzz().join(format!("corpus/{target}.pack"))).unwrap_or_default();
    let mut cases = read_pack(&kept).unwrap_or_default();
    cases.extend(seeds(target, &fuzz().join("..")));
    fs::create_dir_all(folder)?;
    for (number, case) in cases.iter().enumerate() {
        fs::write(folder.join(format!("kept-{number:05}")), case)?;
    }
    println!("{target}: {} cases to begin with", cases.len());
    Ok(())
}

/// Makes the files of a folder the kept corpus.
fn pack(target: &str, folder: &Path) -> io::Result<()> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder)? {
        cases.push(fs::read(entry?.path())?);
    }
    let bytes = write_pack(&cases);
    println!("{target}: {} cases in {} bytes", cases.len(), bytes.len());
    fs::create_dir_all(fuzz().join("corpus"))?;
    fs::write(fuzz().join(format!("corpus/{target}.pack")), bytes)
}
