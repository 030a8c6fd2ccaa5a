//! Artifacts from a loopback server and from files, well-behaved and hostile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cos_drivers::artifact::{ArtifactLimits, Progress, fetch, validate};
use cos_model::Artifact;
use cos_platform::{Fate, Tasks};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers every path with the same bytes, except `/moved`, `/missing` and `/secret`.
async fn serve(body: Vec<u8>) -> (String, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let tasks = Tasks::new();
    tasks.spawn("server", Fate::Ends, async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let (status, location) = if request.starts_with("get /moved") {
                ("302 Found", "location: /file\r\n")
            } else if request.starts_with("get /missing") {
                ("404 Not Found", "")
            } else if request.starts_with("get /secret") && !request.contains("x-token: abc") {
                ("403 Forbidden", "")
            } else {
                ("200 OK", "")
            };
            let head = format!(
                "HTTP/1.1 {status}\r\n{location}content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(head.as_bytes()).await);
            drop(stream.write_all(&body).await);
        }
    });
    (format!("http://{address}"), tasks)
}

/// An allocation with a task directory.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("alloc/web")).expect("mkdir");
        Self { dir }
    }

    fn task(&self) -> PathBuf {
        self.dir.path().join("alloc/web")
    }

    /// Every file below the allocation with its mode and content, links with their targets.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).expect("list").flatten() {
                let path = entry.path();
                let shown = path.strip_prefix(self.dir.path()).expect("it is below").display();
                let kind = entry.file_type().expect("stat");
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_symlink() {
                    let target = fs::read_link(&path).expect("a link");
                    found.push(format!("{shown} -> {}", target.display()));
                } else {
                    let mode = entry.metadata().expect("stat").permissions().mode() & 0o7777;
                    let text = fs::read(&path).expect("read");
                    found.push(format!("{shown} {mode:o} {}", String::from_utf8_lossy(&text)));
                }
            }
        }
        found.sort();
        found
    }
}

fn artifact(source: &str, mode: &str, destination: &str) -> Artifact {
    Artifact {
        source: source.to_owned(),
        mode: mode.to_owned(),
        destination: destination.to_owned(),
        ..Artifact::default()
    }
}

/// Fetches and compares either the files or the error.
async fn check(
    ground: &Ground,
    artifact: &Artifact,
    limits: ArtifactLimits,
    want: Result<&[&str], &str>,
) {
    let result = fetch(artifact, &ground.task(), None, &limits, &|_| {}).await;
    match (result, want) {
        (Ok(_), Ok(files)) => assert_eq!(ground.files(), files, "{}", artifact.source),
        (Err(error), Err(part)) => {
            assert!(error.to_string().contains(part), "{error}");
            let left: Vec<String> =
                ground.files().into_iter().filter(|f| f.contains(".artifact-")).collect();
            assert_eq!(left, Vec::<String>::new(), "nothing half fetched stays");
        }
        (result, want) => panic!("{}: {result:?} instead of {want:?}", artifact.source),
    }
}

enum Entry<'a> {
    File(&'a str, u32, &'a str),
    Link(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Fifo(&'a str),
}

/// Packs entries with names that a well-behaved library would refuse.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let (name, content) = match entry {
            Entry::File(name, mode, content) => {
                header.set_mode(*mode);
                (name, *content)
            }
            Entry::Link(name, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).expect("a short link");
                (name, "")
            }
            Entry::HardLink(name, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_link_name_literal(target).expect("a short link");
                (name, "")
            }
            Entry::Fifo(name) => {
                header.set_entry_type(tar::EntryType::Fifo);
                (name, "")
            }
        };
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("packs");
    }
    builder.into_inner().expect("packs")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("packs");
    encoder.finish().expect("packs")
}

fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        writer.start_file(*name, options).expect("packs");
        writer.write_all(content.as_bytes()).expect("packs");
    }
    writer.finish().expect("packs").into_inner()
}

#[tokio::test]
async fn a_plain_file_is_placed_and_executable() {
    let (server, _tasks) = serve(b"abc".to_vec()).await;
    let all = ArtifactLimits::default();
    for (path, mode, destination, want) in [
        ("tool-1.5", "", "", "alloc/web/local/tool-1.5 755 abc"),
        ("tool", "any", "local/bin", "alloc/web/local/bin/tool 755 abc"),
        ("tool", "file", "local/other", "alloc/web/local/other 755 abc"),
        ("tool", "file", "", "alloc/web/local/tool 755 abc"),
        ("tool", "", "/secrets", "alloc/web/secrets/tool 755 abc"),
        ("tool", "", "../alloc/data", "alloc/alloc/data/tool 755 abc"),
        ("moved", "", "", "alloc/web/local/moved 755 abc"),
        ("x.zip?archive=false", "", "", "alloc/web/local/x.zip 755 abc"),
    ] {
        let artifact = artifact(&format!("{server}/{path}"), mode, destination);
        check(&Ground::new(), &artifact, all, Ok(&[want])).await;
    }
}

#[tokio::test]
async fn a_file_is_only_placed_if_its_checksum_is_right() {
    let (server, _tasks) = serve(b"abc".to_vec()).await;
    let good = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let all = ArtifactLimits::default();
    let mut wanted = artifact(&format!("{server}/t"), "", "");
    wanted.options = BTreeMap::from([("checksum".to_owned(), good.to_owned())]);
    check(&Ground::new(), &wanted, all, Ok(&["alloc/web/local/t 755 abc"])).await;
    let wrong = artifact(&format!("{server}/t?checksum=md5:{}", "0".repeat(32)), "", "");
    check(&Ground::new(), &wrong, all, Err("checksums did not match")).await;
}

#[tokio::test]
async fn answers_that_are_no_file_are_told() {
    let (server, _tasks) = serve(b"abc".to_vec()).await;
    let all = ArtifactLimits::default();
    let missing = artifact(&format!("{server}/missing"), "", "");
    check(&Ground::new(), &missing, all, Err("the server answered 404")).await;
    let mut secret = artifact(&format!("{server}/secret"), "", "");
    check(&Ground::new(), &secret, all, Err("the server answered 403")).await;
    secret.headers = BTreeMap::from([("X-Token".to_owned(), "abc".to_owned())]);
    check(&Ground::new(), &secret, all, Ok(&["alloc/web/local/secret 755 abc"])).await;
    let small = ArtifactLimits { bytes_max: 2, ..all };
    check(
        &Ground::new(),
        &artifact(&format!("{server}/t"), "", ""),
        small,
        Err("more than 2 bytes"),
    )
    .await;
}

#[tokio::test]
async fn progress_is_told() {
    let (server, _tasks) = serve(vec![7; 300_000]).await;
    let ground = Ground::new();
    let seen = Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().expect("not poisoned").push(progress);
    let wanted = artifact(&format!("{server}/t"), "", "");
    fetch(&wanted, &ground.task(), None, &ArtifactLimits::default(), &note).await.expect("fetched");
    let last = seen.lock().expect("not poisoned").last().copied();
    assert_eq!(last, Some(Progress { received: 300_000, total: Some(300_000) }));
}

#[tokio::test]
async fn archives_are_unpacked_with_their_modes() {
    let all = ArtifactLimits::default();
    let packed = tar(&[
        Entry::File("a/run", 0o4755, "one"),
        Entry::File("b", 0o640, "two"),
        Entry::Link("a/link", "../b"),
        Entry::HardLink("c", "b"),
    ]);
    let want = [
        "alloc/web/local/a/link -> ../b",
        "alloc/web/local/a/run 755 one",
        "alloc/web/local/b 640 two",
        "alloc/web/local/c 640 two",
    ];
    let bzip2 = {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&packed).expect("packs");
        encoder.finish().expect("packs")
    };
    let zstd = zstd::encode_all(packed.as_slice(), 1).expect("packs");
    for (name, body) in [
        ("x.tar", packed.clone()),
        ("x.tgz", gzip(&packed)),
        ("x.tar.bz2", bzip2),
        ("x.tar.zst", zstd),
    ] {
        let (server, _tasks) = serve(body).await;
        check(&Ground::new(), &artifact(&format!("{server}/{name}"), "", ""), all, Ok(&want)).await;
    }
    let (server, _tasks) = serve(zip(&[("a/run", "one"), ("b", "two")])).await;
    let want = ["alloc/web/local/a/run 755 one", "alloc/web/local/b 755 two"];
    check(&Ground::new(), &artifact(&format!("{server}/x?archive=zip"), "dir", ""), all, Ok(&want))
        .await;
    let (server, _tasks) = serve(gzip(b"abc")).await;
    check(
        &Ground::new(),
        &artifact(&format!("{server}/tool.gz"), "", ""),
        all,
        Ok(&["alloc/web/local/tool 755 abc"]),
    )
    .await;
}

#[tokio::test]
async fn mode_file_takes_the_only_file_of_an_archive() {
    let all = ArtifactLimits::default();
    let (one, _one) = serve(zip(&[("deep/tool", "one")])).await;
    check(
        &Ground::new(),
        &artifact(&format!("{one}/x.zip"), "file", "local/t"),
        all,
        Ok(&["alloc/web/local/t 755 one"]),
    )
    .await;
    let (two, _two) = serve(zip(&[("a", "one"), ("b", "two")])).await;
    check(
        &Ground::new(),
        &artifact(&format!("{two}/x.zip"), "file", "local/t"),
        all,
        Err("exactly one file"),
    )
    .await;
}

#[tokio::test]
async fn hostile_archives_get_nowhere() {
    let all = ArtifactLimits::default();
    for (body, want) in [
        (tar(&[Entry::File("../../evil", 0o644, "x")]), "`../../evil` leads out"),
        (tar(&[Entry::File("/etc/evil", 0o644, "x")]), "`/etc/evil` leads out"),
        (tar(&[Entry::Link("l", "../../../..")]), "link `l` leads out"),
        (tar(&[Entry::Link("l", "/etc")]), "link `l` leads out"),
        (tar(&[Entry::Link("l", "a/../b")]), "link `l` leads out"),
        (tar(&[Entry::Link("l", "."), Entry::File("l/evil", 0o644, "x")]), "`l/evil` leads out"),
        (tar(&[Entry::HardLink("h", "../../../../etc/passwd")]), "leads out"),
        (tar(&[Entry::Fifo("p")]), "`p` is neither"),
    ] {
        let (server, _tasks) = serve(body).await;
        check(&Ground::new(), &artifact(&format!("{server}/x.tar"), "", ""), all, Err(want)).await;
    }
    let (server, _tasks) = serve(zip(&[("../../evil", "x")])).await;
    check(&Ground::new(), &artifact(&format!("{server}/x.zip"), "", ""), all, Err("leads out"))
        .await;
    let air = gzip(&tar(&[Entry::File("air", 0o644, &"0".repeat(1_000_000))]));
    let (server, _tasks) = serve(air).await;
    let few = ArtifactLimits { unpacked_bytes_max: 1000, ..all };
    check(
        &Ground::new(),
        &artifact(&format!("{server}/x.tgz"), "", ""),
        few,
        Err("more than 1000 bytes"),
    )
    .await;
    let (server, _tasks) =
        serve(tar(&[Entry::File("a", 0o644, ""), Entry::File("b", 0o644, "")])).await;
    let few = ArtifactLimits { files_max: 1, ..all };
    check(
        &Ground::new(),
        &artifact(&format!("{server}/x.tar"), "", ""),
        few,
        Err("more than 1 files"),
    )
    .await;
    let (server, _tasks) = serve(b"this is no archive at all".to_vec()).await;
    for name in ["x.zip", "x.tgz", "x.tar.bz2", "x.tar.zst", "x.gz"] {
        check(
            &Ground::new(),
            &artifact(&format!("{server}/{name}"), "", ""),
            all,
            Err("failed to unpack"),
        )
        .await;
    }
}

#[tokio::test]
async fn destinations_stay_in_the_allocation() {
    let (server, _tasks) = serve(b"abc".to_vec()).await;
    let all = ArtifactLimits::default();
    for destination in ["../../evil", "../..", ".."] {
        let wanted = artifact(&format!("{server}/t"), "", destination);
        assert!(validate(&wanted).is_err(), "{destination}");
        check(&Ground::new(), &wanted, all, Err("leaves the allocation")).await;
    }
    let ground = Ground::new();
    symlink("/tmp", ground.task().join("out")).expect("symlink");
    check(&ground, &artifact(&format!("{server}/t"), "", "out"), all, Err("leaves the allocation"))
        .await;
}

#[tokio::test]
async fn files_of_the_host_must_be_readable_by_everybody() {
    let all = ArtifactLimits::default();
    let ground = Ground::new();
    let place = tempfile::tempdir().expect("a temporary directory");
    let make = |name: &str, mode: u32| -> String {
        let path = place.path().join(name);
        File::create(&path).and_then(|mut file| file.write_all(b"abc")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        format!("file://{}", path.display())
    };
    let public = artifact(&make("public", 0o644), "", "");
    check(&ground, &public, all, Ok(&["alloc/web/local/public 755 abc"])).await;
    let private = artifact(&make("private", 0o640), "", "");
    check(&ground, &private, all, Err("not readable by everybody")).await;
    let dir = artifact(&format!("file://{}", Path::new("/tmp").display()), "", "");
    check(&ground, &dir, all, Err("it is not a file")).await;
}
