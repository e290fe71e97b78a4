//! HTTP/2.

use std::sync::Arc;
use outgrow_net::Transport;
use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::worker::Worker;

pub(crate) async fn serve<T: Transport + 'static>(_: Arc<Worker>, _: Arc<ListenerPlan>, _: T, _: Vec<u8>, _: Peer) {}
