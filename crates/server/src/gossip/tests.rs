//! Gossip over loopback sockets that the system chose.

use base64::Engine;

use super::*;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

async fn member(name: &str, tasks: &Tasks) -> Gossip {
    member_with(name, Keyring::default(), tasks).await
}

async fn member_with(name: &str, keyring: Keyring, tasks: &Tasks) -> Gossip {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = socket.local_addr().unwrap();
    let tags = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    Gossip::start(socket, address, 1, tags, keyring, tasks)
}

/// Waits until `gossip` sees exactly these members, written `name:status`.
#[track_caller]
fn sees(gossip: &Gossip, expected: &str) -> impl Future<Output = ()> {
    let expected = expected.to_owned();
    let mut peers = gossip.watch();
    async move {
        let shown = |peers: &Peers| {
            let mut names: Vec<String> =
                peers.iter().map(|p| format!("{}:{}", p.tag("name"), p.status.name())).collect();
            names.sort();
            names.join(" ")
        };
        let wait = peers.wait_for(|peers| shown(peers) == expected);
        let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        let last = shown(&peers.borrow());
        assert!(in_time, "waited for {expected}, saw {last}");
    }
}

#[tokio::test]
async fn members_find_each_other_through_one_of_them() {
    let tasks = Tasks::new();
    let (a, b, c) =
        (member("a", &tasks).await, member("b", &tasks).await, member("c", &tasks).await);
    assert_eq!(join(&b, &[a.address().to_string()]).await, 1);
    assert_eq!(join(&c, &[a.address().to_string()]).await, 1);
    for gossip in [&a, &b, &c] {
        sees(gossip, "a:alive b:alive c:alive").await;
    }
    tasks.stop();
}

#[tokio::test]
async fn one_that_leaves_is_told_from_one_that_fails() {
    let (tasks, doomed) = (Tasks::new(), Tasks::new());
    let (a, b, c) =
        (member("a", &tasks).await, member("b", &tasks).await, member("c", &doomed).await);
    for gossip in [&b, &c] {
        assert_eq!(join(gossip, &[a.address().to_string()]).await, 1);
    }
    sees(&c, "a:alive b:alive c:alive").await;
    b.leave().await;
    sees(&a, "a:alive b:left c:alive").await;
    doomed.stop();
    sees(&a, "a:alive b:left c:failed").await;
    tasks.stop();
}

#[tokio::test]
async fn nobody_answers_where_nobody_is() {
    let tasks = Tasks::new();
    let a = member("a", &tasks).await;
    // The discard port of this machine, where no member listens.
    assert_eq!(join(&a, &["127.0.0.1:9".to_owned()]).await, 0);
    tasks.stop();
}

#[tokio::test]
async fn only_who_has_a_key_belongs() {
    let (tasks, dir) = (Tasks::new(), tempfile::tempdir().unwrap());
    let ring = |name: &str, keys: &[[u8; 16]]| {
        let place = dir.path().join(name);
        std::fs::create_dir(&place).unwrap();
        Keyring::open(&place, &keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>()).unwrap()
    };
    let a = member_with("a", ring("a", &[[1; 16]]), &tasks).await;
    let b = member_with("b", ring("b", &[[2; 16], [1; 16]]), &tasks).await;
    let wrong = member_with("wrong", ring("wrong", &[[3; 16]]), &tasks).await;
    let clear = member("clear", &tasks).await;
    let target = [a.address().to_string()];
    assert_eq!(join(&wrong, &target).await, 0);
    assert_eq!(join(&clear, &target).await, 0);
    assert_eq!(join(&b, &target).await, 0, "a does not have the key by which b encrypts");
    let text = base64::engine::general_purpose::STANDARD.encode([2; 16]);
    a.change_keys(&KeyringChange::Install(text)).unwrap();
    assert_eq!(join(&b, &target).await, 1);
    for gossip in [&a, &b] {
        sees(gossip, "a:alive b:alive").await;
    }
    for (gossip, alone) in [(&wrong, "wrong:alive"), (&clear, "clear:alive")] {
        sees(gossip, alone).await;
    }
    tasks.stop();
}
