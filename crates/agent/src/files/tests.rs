//! What can be read, and what cannot.

use std::fs;

use super::*;

fn files() -> (tempfile::TempDir, AllocFiles) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("alloc-1");
    fs::create_dir_all(root.join("alloc/logs")).unwrap();
    fs::create_dir_all(root.join("web/local")).unwrap();
    fs::create_dir_all(root.join(crate::directories::STATE_FOLDER)).unwrap();
    fs::write(root.join("web/local/a.txt"), "hello world").unwrap();
    fs::write(folder.path().join("secret"), "outside").unwrap();
    for (number, text) in ["first ", "second ", "third"].iter().enumerate() {
        fs::write(root.join(format!("alloc/logs/web.stdout.{number}")), text).unwrap();
    }
    fs::write(root.join("alloc/logs/web.stderr.0"), "error").unwrap();
    (folder, AllocFiles::new(root))
}

async fn collect(mut chunks: mpsc::Receiver<Chunk>) -> String {
    let mut text = String::new();
    while let Some(chunk) = chunks.recv().await {
        text.push_str(&String::from_utf8_lossy(&chunk.data));
        text.push_str(chunk.event);
    }
    text
}

fn span(origin: Origin, offset: u64) -> Span {
    Span { origin, offset, follow: false }
}

#[test]
fn files_are_listed_and_read() {
    let (_folder, files) = files();
    let names: Vec<String> = files.list("/").unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["alloc", "web"]);
    assert_eq!(files.read("web/local/a.txt", 6, 3).unwrap(), b"wor");
    assert_eq!(files.read("/web/local/a.txt", 100, 3).unwrap(), b"");
    let info = files.stat("web/local/a.txt").unwrap();
    assert_eq!((info.name.as_str(), info.size, info.is_dir), ("a.txt", 11, false));
}

#[test]
fn nothing_outside_can_be_reached() {
    let (folder, files) = files();
    std::os::unix::fs::symlink(folder.path().join("secret"), files.root().join("web/link"))
        .unwrap();
    std::os::unix::fs::symlink("../../secret", files.root().join("web/relative")).unwrap();
    for path in ["../secret", "web/../../secret", "web/link", "web/relative", "nothing"] {
        assert_eq!(files.read(path, 0, 10), Err(FileError::NotFound(path.to_owned())), "{path}");
    }
    assert_eq!(files.read("web", 0, 10), Err(FileError::IsDirectory("web".to_owned())));
    let file = "web/local/a.txt".to_owned();
    assert_eq!(files.list(&file), Err(FileError::NotDirectory(file)));
}

#[tokio::test]
async fn logs_are_one_stream_over_all_files() {
    let (_folder, files) = files();
    let rows = [
        (span(Origin::Start, 0), "first second third"),
        (span(Origin::Start, 8), "cond third"),
        (span(Origin::End, 5), "third"),
        (span(Origin::End, 7), "d third"),
        (span(Origin::End, 1000), "first second third"),
        (span(Origin::Start, 1000), ""),
    ];
    for (span, expected) in rows {
        let chunks = files.logs("web", LogStream::Stdout, span).unwrap();
        assert_eq!(collect(chunks).await, expected, "{span:?}");
    }
    let errors = files.logs("web", LogStream::Stderr, span(Origin::Start, 0)).unwrap();
    assert_eq!(collect(errors).await, "error");
    assert!(files.logs("../x", LogStream::Stdout, span(Origin::Start, 0)).is_err());
}

#[tokio::test]
async fn a_followed_log_goes_on_into_the_next_file() {
    let (_folder, files) = files();
    let mut chunks = files
        .logs("web", LogStream::Stdout, Span { follow: true, ..span(Origin::End, 0) })
        .unwrap();
    let logs = files.root().join("alloc/logs");
    fs::write(logs.join("web.stdout.2"), "third more").unwrap();
    assert_eq!(chunks.recv().await.unwrap().data, " more");
    fs::write(logs.join("web.stdout.3"), "fourth").unwrap();
    let chunk = chunks.recv().await.unwrap();
    assert_eq!((chunk.file.as_str(), &chunk.data[..]), ("alloc/logs/web.stdout.3", &b"fourth"[..]));
}

#[tokio::test]
async fn a_followed_file_tells_that_it_was_cut() {
    let (_folder, files) = files();
    let follow = Span { follow: true, ..span(Origin::End, 5) };
    let mut chunks = files.stream("web/local/a.txt", follow).unwrap();
    assert_eq!(chunks.recv().await.unwrap().data, "world");
    fs::write(files.root().join("web/local/a.txt"), "x").unwrap();
    assert_eq!(chunks.recv().await.unwrap().event, "file truncated");
    assert_eq!(chunks.recv().await.unwrap().data, "x");
    fs::remove_file(files.root().join("web/local/a.txt")).unwrap();
    assert_eq!(chunks.recv().await.unwrap().event, "file deleted");
}
