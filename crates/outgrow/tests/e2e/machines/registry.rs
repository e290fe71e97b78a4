//! A real etcd of three members, one in each of three boxes.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use outgrow_testkit::boxes::Boxes;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::{http, wait};

use super::LIMIT;

const CLIENTS: u16 = 2_379;
const PEERS: u16 = 2_380;

/// The cluster; killed when it is dropped.
pub(super) struct Registry {
    members: Vec<Member>,
}

struct Member {
    index: u8,
    address: IpAddr,
    folder: Folder,
    child: Option<Child>,
}

impl Registry {
    /// Starts a member in each of these boxes and waits until all answer.
    pub(super) fn start(boxes: &Boxes, indices: &[u8]) -> Self {
        let member = |&index| Member {
            index,
            address: boxes.address(index),
            folder: Folder::new("etcd").expect("a folder"),
            child: None,
        };
        let mut registry = Self {
            members: indices.iter().map(member).collect(),
        };
        for &index in indices {
            registry.start_member(boxes, index);
        }
        registry.wait(boxes);
        registry
    }

    /// Waits until every member answers reads that need a majority.
    pub(super) fn wait(&self, boxes: &Boxes) {
        for member in &self.members {
            let url = format!("http://{}:{CLIENTS}/v3/kv/range", member.address);
            let ask = || {
                let body = b"{\"key\": \"YQ==\"}";
                let answer = http::request("POST", &url, &[], body).ok()?;
                (answer.status == 200).then_some(())
            };
            let answers = || boxes.inside(member.index, ask);
            wait::until("etcd answers", LIMIT, answers).expect("etcd");
        }
    }

    /// Starts the member in a box, with all that it knew.
    pub(super) fn start_member(&mut self, boxes: &Boxes, index: u8) {
        let url = |address: IpAddr, port| format!("http://{}", SocketAddr::new(address, port));
        let name = |member: &Member| format!("box-{}", member.index);
        let all: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}={}", name(member), url(member.address, PEERS)))
            .collect();
        let members = self.members.iter_mut();
        let member = members.into_iter().find(|member| member.index == index);
        let member = member.expect("a member");
        let (clients, peers) = (url(member.address, CLIENTS), url(member.address, PEERS));
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", &name(member), "--data-dir"])
            .arg(member.folder.path().join("data"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls"])
            .args([&clients, "--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &all.join(","), "--unsafe-no-fsync"])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = boxes.inside(index, || etcd.spawn().expect("etcd (Debian's etcd-server)"));
        member.child = Some(child);
    }

    /// Kills the member in a box.
    pub(super) fn kill_member(&mut self, index: u8) {
        let members = self.members.iter_mut();
        for member in members.filter(|member| member.index == index) {
            member.kill();
        }
    }
}

impl Member {
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended at worst.
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
