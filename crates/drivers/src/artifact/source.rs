//! Reading an artifact's source and options. Pure.

use std::path::Path;

use cos_model::Artifact;
use reqwest::Url;

use super::checksum::Checksum;

/// Options that are not sent to the server.
const OWN_OPTIONS: [&str; 3] = ["checksum", "archive", "filename"];

/// Endings of archives and of single compressed files, longest first.
const FORMATS: [(&str, Format); 12] = [
    (".tar.bz2", Format::TarBzip2),
    (".tar.gz", Format::TarGzip),
    (".tar.zst", Format::TarZstd),
    (".tar", Format::Tar),
    (".tbz2", Format::TarBzip2),
    (".tgz", Format::TarGzip),
    (".tzst", Format::TarZstd),
    (".zip", Format::Zip),
    (".bz2", Format::Bzip2),
    (".gz", Format::Gzip),
    (".zst", Format::Zstd),
    (".xz", Format::Xz),
];

/// Where an artifact comes from and how it is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// By which way it is fetched.
    pub(super) kind: Kind,
    /// The address or the path.
    pub(super) location: String,
    /// The source for messages, without credentials.
    pub(super) text: String,
    /// The name that the file gets.
    pub(super) file_name: String,
    /// What it should be.
    pub(super) checksum: Option<Checksum>,
    /// How it is packed; `None` is not at all, or left as it is.
    pub(super) format: Option<Format>,
}

/// By which way an artifact is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    File,
}

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Zip,
    Tar,
    TarGzip,
    TarBzip2,
    TarZstd,
    Gzip,
    Bzip2,
    Zstd,
    Xz,
}

/// A source or an option is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No address.
    #[error("it is not an address: {0}")]
    Malformed(String),
    /// A way of fetching that is not there.
    #[error("{0} sources are not supported yet")]
    Unsupported(String),
    /// Part of an archive.
    #[error("a part of an archive (`//`) cannot be chosen yet")]
    Part,
    /// Not a checksum.
    #[error("`{0}` is not a checksum such as `sha256:…`")]
    Checksum(String),
    /// A checksum in a file.
    #[error("checksums in files (`checksum=file:`) are not supported yet")]
    ChecksumFile,
    /// A packing that is not known.
    #[error("archives of type `{0}` are not supported")]
    Archive(String),
    /// A mode that is not known.
    #[error("mode `{0}` is not any, file or dir")]
    Mode(String),
    /// A directory is wanted of something that is none.
    #[error("mode `dir` needs an archive")]
    NotADirectory,
    /// A header with letters that a header cannot have.
    #[error("header `{0}` is malformed")]
    Header(String),
    /// A directory or device.
    #[error("it is not a file")]
    NotAFile,
    /// A file that not everybody may read.
    #[error("the file is not readable by everybody on the host")]
    NotPublic,
    /// A name that is a path.
    #[error("`{0}` is not a file name")]
    FileName(String),
}

impl Source {
    /// Reads an artifact's source together with its options.
    pub(super) fn parse(artifact: &Artifact) -> Result<Self, SourceError> {
        let mut url = parse_address(&artifact.source)?;
        let options = take_options(&mut url, artifact);
        let option = |name: &str| {
            let found = options.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let kind = if url.scheme() == "file" { Kind::File } else { Kind::Http };
        let path = match kind {
            Kind::File => {
                let path = url.to_file_path().ok();
                let path = path.and_then(|path| path.to_str().map(str::to_owned));
                path.ok_or_else(|| SourceError::Malformed("it has no path".to_owned()))?
            }
            Kind::Http => url.path().to_owned(),
        };
        if path.contains("//") {
            return Err(SourceError::Part);
        }
        let format = match option("archive") {
            Some("false" | "0") => None,
            Some(name) => Some(
                format_of(&format!(".{name}"))
                    .ok_or_else(|| SourceError::Archive(name.to_owned()))?,
            ),
            None => format_of(&path),
        };
        if format == Some(Format::Xz) {
            return Err(SourceError::Archive("xz".to_owned()));
        }
        match artifact.mode.as_str() {
            "" | "any" | "file" => {}
            "dir" if format.is_some_and(|format| !format.is_single_file()) => {}
            "dir" => return Err(SourceError::NotADirectory),
            other => return Err(SourceError::Mode(other.to_owned())),
        }
        Ok(Self {
            kind,
            file_name: file_name(&path, option("filename"), format)?,
            checksum: option("checksum").map(Checksum::parse).transpose()?,
            format,
            text: redact(&artifact.source),
            location: if kind == Kind::File { path } else { url.to_string() },
        })
    }
}

impl Format {
    /// Whether there is one file inside, without a name of its own.
    pub(super) fn is_single_file(self) -> bool {
        matches!(self, Self::Gzip | Self::Bzip2 | Self::Zstd | Self::Xz)
    }
}

/// Returns a source without password and options, which may be secrets.
pub(super) fn redact(source: &str) -> String {
    let bare = source.split(['?', '#']).next().unwrap_or(source);
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let host_end = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at(host_end);
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

fn parse_address(text: &str) -> Result<Url, SourceError> {
    let unsupported = |name: &str| Err(SourceError::Unsupported(name.to_owned()));
    let (forced, rest) = match text.split_once("::") {
        Some((forced, rest)) if forced.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            (forced, rest)
        }
        _ => ("", text),
    };
    match forced {
        "" | "http" | "https" | "file" => {}
        other => return unsupported(other),
    }
    if rest.starts_with('/') {
        let url = Url::from_file_path(rest.split('?').next().unwrap_or(rest));
        let mut url = url.map_err(|()| SourceError::Malformed("a bad path".to_owned()))?;
        url.set_query(rest.split_once('?').map(|(_, query)| query));
        return Ok(url);
    }
    if rest.starts_with("git@") || rest.starts_with("github.com/") || is_git_path(rest) {
        return unsupported("git");
    }
    let url = Url::parse(rest).map_err(|error| SourceError::Malformed(error.to_string()))?;
    match url.scheme() {
        "http" | "https" | "file" => Ok(url),
        other => unsupported(other),
    }
}

fn is_git_path(text: &str) -> bool {
    Path::new(text).extension().is_some_and(|extension| extension == "git")
}

/// Takes the options that are not the server's out of the address, and adds those of the block.
fn take_options(url: &mut Url, artifact: &Artifact) -> Vec<(String, String)> {
    let is_own = |(key, _): &(String, String)| OWN_OPTIONS.contains(&key.as_str());
    let pairs = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned()));
    let block = artifact.options.iter().map(|(key, value)| (key.clone(), value.clone()));
    let (own, others): (Vec<_>, Vec<_>) = pairs.chain(block).partition(is_own);
    // An address without options of ours keeps its letters, which may be signed.
    if !own.is_empty() || !artifact.options.is_empty() {
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
    }
    own
}

fn format_of(path: &str) -> Option<Format> {
    let lower = path.to_ascii_lowercase();
    FORMATS.iter().find(|(ending, _)| lower.ends_with(ending)).map(|(_, format)| *format)
}

fn file_name(
    path: &str,
    wanted: Option<&str>,
    format: Option<Format>,
) -> Result<String, SourceError> {
    if let Some(name) = wanted {
        let is_name = !name.contains('/') && name != "." && name != "..";
        return if is_name { Ok(name.to_owned()) } else { Err(SourceError::FileName(name.into())) };
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| SourceError::Malformed("it names no file".to_owned()))?;
    // What is unpacked loses the ending of its packing.
    let packed = format.is_some_and(Format::is_single_file);
    let ending = packed.then(|| name.rfind('.')).flatten().unwrap_or(name.len());
    Ok(name[..ending].to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn artifact(source: &str, options: &[(&str, &str)]) -> Artifact {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Artifact {
            source: source.to_owned(),
            options: options.collect::<BTreeMap<_, _>>(),
            ..Artifact::default()
        }
    }

    fn check(
        source: &str,
        options: &[(&str, &str)],
        location: &str,
        name: &str,
        format: Option<Format>,
    ) {
        let found = Source::parse(&artifact(source, options)).expect("the source is right");
        assert_eq!((found.location.as_str(), found.file_name.as_str()), (location, name));
        assert_eq!(found.format, format);
    }

    #[test]
    fn sources_are_read_as_go_getter_reads_them() {
        check("https://h/a/fabio-1.5", &[], "https://h/a/fabio-1.5", "fabio-1.5", None);
        check("http::http://h/x.tgz?a=b&archive=false", &[], "http://h/x.tgz?a=b", "x.tgz", None);
        check(
            "http://h/get?id=3",
            &[("archive", "zip")],
            "http://h/get?id=3",
            "get",
            Some(Format::Zip),
        );
        check("http://h/x.gz", &[("filename", "y")], "http://h/x.gz", "y", Some(Format::Gzip));
        check("http://h/tool.zst", &[], "http://h/tool.zst", "tool", Some(Format::Zstd));
        check("file:///srv/a.tar.bz2", &[], "/srv/a.tar.bz2", "a.tar.bz2", Some(Format::TarBzip2));
        check("/srv/tool", &[], "/srv/tool", "tool", None);
        check("http://h/x?sig=a%2Fb", &[], "http://h/x?sig=a%2Fb", "x", None);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let unsupported = |name: &str| SourceError::Unsupported(name.to_owned());
        for (source, want) in [
            ("git::https://h/x", unsupported("git")),
            ("github.com/a/b", unsupported("git")),
            ("git@github.com:a/b.git", unsupported("git")),
            ("s3::https://s3.amazonaws.com/b/k", unsupported("s3")),
            ("hg::http://h/x", unsupported("hg")),
            ("ftp://h/x", unsupported("ftp")),
            ("http://h/a.zip//sub", SourceError::Part),
            ("http://h/a.tar.xz", SourceError::Archive("xz".into())),
            ("http://h/a?archive=rar", SourceError::Archive("rar".into())),
            ("http://h/a?checksum=file:http://h/sums", SourceError::ChecksumFile),
            ("http://h/", SourceError::Malformed("it names no file".into())),
            ("http://h/a?filename=../b", SourceError::FileName("../b".into())),
        ] {
            assert_eq!(Source::parse(&artifact(source, &[])), Err(want), "{source}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_source_panics_or_names_a_path_as_its_file(
            text in "(http://h/|file:///|git::|/|)[a-z./?&=:#%@ -]{0,40}",
            archive in "[a-z.]{0,8}",
            name in ".{0,8}",
        ) {
            let options = [("archive", archive.as_str()), ("filename", name.as_str())];
            if let Ok(found) = Source::parse(&artifact(&text, &options)) {
                assert!(!found.file_name.contains('/') && found.file_name != "..");
            }
            assert!(redact(&text).len() <= text.len());
        }
    }

    #[test]
    fn messages_do_not_tell_secrets() {
        for (source, want) in [
            ("https://me:word@h/a?token=x", "https://h/a"),
            ("/srv/a?checksum=1", "/srv/a"),
            ("https://me:word@h", "https://h"),
        ] {
            assert_eq!(redact(source), want);
        }
    }
}
