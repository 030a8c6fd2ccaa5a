//! The job files of this repository are read, valid, and the same after a trip through JSON.

use std::path::{Path, PathBuf};

use cos_jobspec::json::{job_from_json, job_to_json};
use cos_jobspec::{Diagnostic, Format, Options, parse_job};

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A value for each variable that a file declares without default.
fn missing_variables(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("\nvariable \"").skip(1);
    let blocks = blocks.map(|rest| rest.split("\n}").next().unwrap_or(rest));
    blocks
        .filter(|block| !block.contains("default"))
        .filter_map(|block| block.split('"').next())
        .map(|name| (name.to_owned(), "1".to_owned()))
        .collect()
}

#[test]
fn all_job_files_of_the_samples_are_valid() {
    let mut files = Vec::new();
    files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/jobs"), &mut files);
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the file is text");
        let options = Options { variables: missing_variables(&text), ..Options::default() };
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let parsed = parse_job(&text, &name, &options).unwrap_or_else(|e| panic!("{e}"));
        let errors: Vec<_> = parsed.problems().into_iter().filter(Diagnostic::is_error).collect();
        assert!(errors.is_empty(), "{}", errors[0]);
        let is_old = path.components().any(|part| part.as_os_str() == "old");
        assert!(is_old || parsed.format == Format::Hcl2, "{name}");
        let again = job_from_json(&job_to_json(&parsed.job)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.job, parsed.job, "{name}");
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    }
}
