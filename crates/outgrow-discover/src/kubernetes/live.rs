//! The driver against the fake of the test kit, over TLS. It is no API server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use outgrow_core::Clock;
use outgrow_testkit::authority::Authority;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::kubernetes::{FakeKubernetes, Mood, ready};
use serde_json::json;

use super::{KubernetesSettings, Port};
use crate::discovery::{Discovery, Surroundings};
use crate::http::RegistryTls;
use crate::settings::DiscoverSettings;

/// Longer than any of it may take.
const LIMIT: Duration = Duration::from_secs(30);

struct Test {
    authority: Authority,
    server: FakeKubernetes,
    folder: Folder,
    clock: Clock,
    discovery: Discovery,
}

fn at(ends: &[u8]) -> Vec<SocketAddr> {
    let address = |end: &u8| SocketAddr::from(([10, 0, 0, *end], 8_080));
    ends.iter().map(address).collect()
}

fn start(settings: KubernetesSettings, surroundings: Surroundings) -> Discovery {
    let settings = DiscoverSettings {
        kubernetes: Some(settings),
        ..DiscoverSettings::default()
    };
    Discovery::start(&settings, surroundings).expect("a source")
}

impl Test {
    fn new(prepare: impl FnOnce(&FakeKubernetes)) -> Self {
        let authority = Authority::new().expect("an authority");
        let server = FakeKubernetes::start(&authority, "first").expect("a fake");
        prepare(&server);
        let folder = Folder::new("kubernetes").expect("a folder");
        folder.write("token", "first\n").expect("a token");
        let clock = Clock::start();
        let settings = Self::settings(&authority, &server, &folder);
        let discovery = start(settings, Surroundings::with_files(clock));
        Self {
            authority,
            server,
            folder,
            clock,
            discovery,
        }
    }

    fn settings(
        authority: &Authority,
        server: &FakeKubernetes,
        folder: &Folder,
    ) -> KubernetesSettings {
        let url = format!("https://{}", server.address());
        KubernetesSettings {
            service: "app".to_owned(),
            namespace: "shop".to_owned(),
            port: Some(Port::Name("http".to_owned())),
            server: Some(url.parse().expect("a server")),
            token_file: Some(folder.path().join("token")),
            tls: Some(RegistryTls {
                ca: Some(authority.ca_file().expect("a file")),
                ..RegistryTls::default()
            }),
            ..KubernetesSettings::default()
        }
    }

    fn put(&self, slice: &str, ends: &[u8]) {
        self.server.put_ready("shop", "app", slice, &at(ends));
    }

    async fn wait(&mut self, ends: &[u8]) {
        let expected: Vec<String> = at(ends).iter().map(ToString::to_string).collect();
        let wait = async {
            loop {
                let _ = self.discovery.step(self.clock.now());
                let found = self.discovery.endpoints().iter();
                let found = found.map(|one| one.address.to_string());
                if found.eq(expected.iter().cloned()) && !self.discovery.is_awaited() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(
            waited.is_ok(),
            "{expected:?}: {state:?} {:?}",
            self.discovery.endpoints()
        );
    }

    async fn wait_problem(&mut self, expected: &str) {
        let wait = async {
            loop {
                let problem = self.discovery.state(self.clock.now()).problem;
                if problem.is_some_and(|problem| problem.contains(expected)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(waited.is_ok(), "{expected}: {state:?}");
    }

    async fn wait_good(&mut self) {
        let wait = async {
            while self.discovery.state(self.clock.now()).problem.is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let state = self.discovery.state(self.clock.now());
        assert!(waited.is_ok(), "{state:?}");
    }

    /// How many questions had this in their target.
    fn asked(&self, part: &str) -> usize {
        let asked = self.server.asked();
        asked.iter().filter(|one| one.target.contains(part)).count()
    }

    async fn wait_asked(&self, part: &str, count: usize) {
        let wait = async {
            while self.asked(part) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "{part}: {:?}", self.server.asked());
    }

    fn failures(&self) -> u64 {
        self.discovery.state(self.clock.now()).failures
    }
}

#[tokio::test]
async fn slices_are_listed_once_and_watched() {
    let mut test = Test::new(|server| {
        server.put_ready("shop", "app", "app-a", &at(&[1, 2]));
        server.put_ready("shop", "other", "other-a", &at(&[66]));
        server.put_ready("else", "app", "app-a", &at(&[67]));
    });
    test.wait(&[1, 2]).await;
    let target = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=\
                  kubernetes.io%2Fservice-name%3Dapp";
    let asked = test.server.asked();
    assert_eq!(asked[0].target, format!("{target}&limit=20"));
    assert_eq!(asked[0].token, "first");
    test.put("app-b", &[2, 3]);
    test.wait(&[1, 2, 3]).await;
    test.put("app-a", &[4]);
    test.wait(&[2, 3, 4]).await;
    test.server.delete("shop", "app-b");
    test.wait(&[4]).await;
    // A slice that becomes another service's.
    test.put("app-c", &[5]);
    test.wait(&[4, 5]).await;
    test.server.put_ready("shop", "other", "app-c", &at(&[5]));
    test.wait(&[4]).await;
    // Over the ends of some watches, each of which goes on where the one before it ended: the
    // bookmarks tell that other things have changed.
    for other in 0..20 {
        test.server
            .put_ready("shop", "other", "other-b", &at(&[other]));
    }
    test.wait_asked("watch=1", 3).await;
    test.put("app-a", &[6]);
    test.wait(&[6]).await;
    assert_eq!(test.asked("limit="), 1, "{:?}", test.server.asked());
    assert_eq!(test.failures(), 0);
    let asked = test.server.asked();
    let watches: Vec<_> = asked
        .iter()
        .filter(|one| one.target.contains("watch=1"))
        .collect();
    assert!(
        watches[0]
            .target
            .ends_with("&resourceVersion=103&timeoutSeconds=2"),
        "{watches:?}"
    );
    // 103 and 25 changes since, of which the last bookmark of a watch told.
    assert!(
        watches[2].target.contains("&resourceVersion=128&"),
        "{watches:?}"
    );
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_listed_anew() {
    let mut test = Test::new(|server| server.put_ready("shop", "app", "app-a", &at(&[1])));
    test.wait(&[1]).await;
    test.wait_asked("watch=1", 1).await;
    // While nobody watches there is a change, and then all is forgotten.
    for mood in [Mood::Failing, Mood::Gone] {
        test.server.set_mood(mood);
        let before = test.asked("limit=");
        match mood {
            Mood::Failing => {
                let expected = "status 500: etcdserver: request timed out";
                test.wait_problem(expected).await;
            }
            _ => test.wait_asked("limit=", before + 1).await,
        }
        test.put("app-a", &[2]);
        test.server.delete("shop", "app-a");
        test.put("app-b", &[3]);
        test.server.compact();
        let lists = test.asked("limit=");
        test.server.set_mood(Mood::Good);
        test.wait(&[3]).await;
        test.wait_good().await;
        assert!(test.asked("limit=") > lists || mood == Mood::Gone);
        test.put("app-a", &[1]);
        test.wait(&[1, 3]).await;
        test.server.delete("shop", "app-b");
        test.wait(&[1]).await;
    }
    // A server that cuts us off and knows our version: nothing is listed.
    let watches = test.asked("watch=1");
    test.wait_asked("watch=1", watches + 1).await;
    let lists = test.asked("limit=");
    test.server.cut();
    test.wait_problem("cut off").await;
    test.put("app-a", &[9]);
    test.wait(&[9]).await;
    assert_eq!(test.asked("limit="), lists);
}

#[tokio::test]
async fn long_lists_come_in_pages_also_when_one_is_forgotten() {
    let fill = |server: &FakeKubernetes| {
        for number in 0..120_u8 {
            server.put_ready("shop", "app", &format!("app-{number:03}"), &at(&[number]));
        }
    };
    let all: Vec<u8> = (0..120).collect();
    let mut test = Test::new(fill);
    test.discovery.step(test.clock.now());
    let mut sorted: Vec<u8> = all.clone();
    sorted.sort_by_key(|end| at(&[*end])[0].ip());
    let wait = async {
        while test.discovery.endpoints().len() != sorted.len() {
            let _ = test.discovery.step(test.clock.now());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .expect("all of them");
    let asked = test.server.asked();
    let lists: Vec<_> = asked
        .iter()
        .filter(|one| one.target.contains("limit=20"))
        .collect();
    assert_eq!(lists.len(), 6, "{lists:?}");
    assert!(
        lists[1]
            .target
            .ends_with("&limit=20&continue=220%2Fapp-020"),
        "{lists:?}"
    );
    assert_eq!(test.failures(), 0);
}

#[tokio::test]
async fn tokens_are_replaced_and_refusals_say_what_is_missing() {
    let mut test = Test::new(|server| server.put_ready("shop", "app", "app-a", &at(&[1])));
    test.wait(&[1]).await;
    test.wait_asked("watch=1", 1).await;
    // A new token, in the file before the old one is refused: nobody notices.
    test.folder.write("token", "second").expect("a token");
    test.server.set_token("second");
    let watches = test.asked("watch=1");
    test.wait_asked("watch=1", watches + 2).await;
    assert_eq!(test.failures(), 0);
    // One that has expired.
    test.server.set_token("third");
    test.wait_problem("is not accepted (401): it has expired")
        .await;
    test.folder.write("token", "third").expect("a token");
    test.wait_good().await;
    test.put("app-a", &[2]);
    test.wait(&[2]).await;
    test.server.set_mood(Mood::Forbidden);
    test.wait_problem(
        "system:serviceaccount:shop:outgrow may not list and watch EndpointSlices (403): bind it \
         to a Role in the namespace shop with apiGroups [\"discovery.k8s.io\"], resources \
         [\"endpointslices\"], verbs [\"get\", \"list\", \"watch\"]",
    )
    .await;
    test.server.set_mood(Mood::Unknown);
    test.wait_problem("Kubernetes 1.21 or newer is needed")
        .await;
    test.server.set_mood(Mood::Good);
    test.folder.write("token", "").expect("a token");
    test.wait_problem("token is empty, or no text").await;
    std::fs::remove_file(test.folder.path().join("token")).expect("removed");
    test.wait_problem("token cannot be read: No such file")
        .await;
    assert_eq!(test.discovery.endpoints().len(), 1, "nothing is dropped");
}

#[tokio::test]
async fn a_watch_that_is_dead_or_restless_or_mad_is_given_up() {
    let mut test = Test::new(|server| server.put_ready("shop", "app", "app-a", &at(&[1])));
    test.server.set_mood(Mood::Dead);
    test.wait(&[1]).await;
    test.put("app-a", &[2]);
    test.wait_problem("the connection is dead").await;
    test.server.set_mood(Mood::Good);
    test.wait(&[2]).await;
    test.wait_good().await;
    test.server.set_mood(Mood::Nonsense);
    test.wait_problem("an event of an unknown kind").await;
    test.server.set_mood(Mood::Hasty);
    test.put("app-a", &[3]);
    test.wait(&[3]).await;
    // Watches that end at once are not begun without a pause.
    let before = test.asked("watch=1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let more = test.asked("watch=1") - before;
    assert!(more <= 6, "{more} watches in two seconds");
}

#[tokio::test]
async fn conditions_and_ports_are_followed_and_a_flood_is_a_few_changes() {
    let mut test = Test::new(|server| server.put_ready("shop", "app", "app-a", &at(&[1, 2])));
    test.wait(&[1, 2]).await;
    let mut fields = ready(&at(&[1, 2]));
    let leaves = json!({ "ready": false, "serving": true, "terminating": true });
    fields["endpoints"][0]["conditions"] = leaves.clone();
    test.server.put("shop", "app", "app-a", fields.clone());
    test.wait(&[2]).await;
    // All terminate: they serve as long as they can.
    fields["endpoints"][1]["conditions"] = leaves;
    test.server.put("shop", "app", "app-a", fields.clone());
    test.wait(&[1, 2]).await;
    fields["ports"][0]["name"] = json!("web");
    test.server.put("shop", "app", "app-a", fields);
    test.wait_problem("no port with a number called \"http\" (of TCP there is \"web\" at 8080)")
        .await;
    assert_eq!(test.discovery.endpoints().len(), 2, "nothing is dropped");
    test.put("app-a", &[1]);
    test.wait(&[1]).await;
    test.wait_good().await;
    let before = test.discovery.state(test.clock.now()).changes;
    for turn in 0..500_u32 {
        test.put("app-a", &[(turn % 200) as u8]);
    }
    test.wait(&[99]).await;
    let changes = test.discovery.state(test.clock.now()).changes - before;
    assert!(changes <= 10, "{changes} changes");
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_told_and_gets_no_token() {
    let test = Test::new(|_| {});
    let other = Authority::new().expect("an authority");
    let mut settings = Test::settings(&test.authority, &test.server, &test.folder);
    settings.tls.as_mut().expect("TLS").ca = Some(other.ca_file().expect("a file"));
    test.wait_asked("limit=", 1).await;
    let asked = test.server.asked().len();
    let mut stranger = Test {
        discovery: start(settings, Surroundings::with_files(test.clock)),
        ..test
    };
    stranger.wait_problem("unknown issuer").await;
    assert!(stranger.discovery.is_awaited());
    let targets = stranger.server.asked();
    assert!(
        targets[asked..]
            .iter()
            .all(|one| one.target.contains("watch=1")),
        "{targets:?}"
    );
}

/// What a pod is told, but for the server's place, which each test has for itself.
fn account(name: &str) -> Option<PathBuf> {
    let file = name.strip_prefix("/var/run/secrets/kubernetes.io/serviceaccount/")?;
    Some(std::env::temp_dir().join(format!("outgrow-pod-{}-{file}", std::process::id())))
}

#[tokio::test]
async fn in_a_pod_nothing_but_the_service_is_written() {
    let authority = Authority::new().expect("an authority");
    let server = FakeKubernetes::start(&authority, "of-the-pod").expect("a fake");
    server.put_ready("shop", "app", "app-a", &at(&[1]));
    let clock = Clock::start();
    let settings = KubernetesSettings {
        service: "app".to_owned(),
        ..KubernetesSettings::default()
    };
    let nowhere = Surroundings::without_files(clock);
    let folder = Folder::new("pod").expect("a folder");
    let mut test = Test {
        discovery: start(settings.clone(), nowhere),
        authority,
        server,
        folder,
        clock,
    };
    test.wait_problem(
        "KUBERNETES_SERVICE_HOST and _PORT are not set: outgrow does not run in a pod",
    )
    .await;
    let ca = test.authority.certificate().to_owned();
    let files = [
        ("token", "of-the-pod\n"),
        ("namespace", "shop"),
        ("ca.crt", ca.as_str()),
    ];
    for (name, content) in files {
        let path = account(&format!(
            "/var/run/secrets/kubernetes.io/serviceaccount/{name}"
        ));
        std::fs::write(path.expect("a path"), content).expect("written");
    }
    // Functions without surroundings of their own: the port goes by a file.
    let port = account("/var/run/secrets/kubernetes.io/serviceaccount/port").expect("a path");
    std::fs::write(&port, test.server.address().port().to_string()).expect("written");
    let surroundings = Surroundings {
        clock,
        read_file: |path, _| {
            let path = path.to_str().and_then(account);
            std::fs::read(path.ok_or(std::io::ErrorKind::NotFound)?)
        },
        variable: |name| match name {
            "KUBERNETES_SERVICE_HOST" => Some("127.0.0.1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => {
                let path = account("/var/run/secrets/kubernetes.io/serviceaccount/port")?;
                std::fs::read_to_string(path).ok()
            }
            _ => None,
        },
    };
    test.discovery = start(settings, surroundings);
    test.wait(&[1]).await;
    for (name, _) in files.into_iter().chain([("port", "")]) {
        let path = account(&format!(
            "/var/run/secrets/kubernetes.io/serviceaccount/{name}"
        ));
        std::fs::remove_file(path.expect("a path")).expect("removed");
    }
}
