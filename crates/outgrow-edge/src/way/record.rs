//! What remains of a request: its metrics, and its line in the access record.

use outgrow_core::context::Context;
use outgrow_core::{Phase, Side, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::Known;

use super::{Destination, Way};
use crate::identity;
use crate::plan::Action;
use crate::record::Line;

impl<D: Downstream + Tunnel> Way<'_, D> {
    pub(super) fn record(&self, context: &Context, destination: &Destination) {
        let worker = self.worker;
        let listener = self.listener.metrics.workers.of(worker.index);
        listener.received_bytes.add(context.request_bytes);
        listener.sent_bytes.add(context.response_bytes);
        count(context, destination, worker.index);
        self.count_compressed(context, destination);
        if !worker.records.is_on() {
            return;
        }
        let request = &self.exchange.request;
        let route = destination.route.as_deref();
        let endpoint = destination.permit_label.as_deref();
        let service = match route.map(|route| &route.action) {
            Some(Action::Forward(backends)) => backends
                .at(destination.backend)
                .map_or("", |backend| backend.service.name()),
            _ => "",
        };
        let peer = self.peer.address();
        let trusts = |address| self.listener.trusts(Some(address));
        let client = identity::client(&request.fields, self.peer, trusts);
        worker.records.put(&Line {
            context,
            client,
            peer: if client == peer { b"" } else { peer },
            method: request.text(request.method_text),
            host: request.text(destination.asked.unwrap_or(request.authority)),
            path: request.text(request.raw_path),
            query: request.query.map(|query| request.text(query)),
            route: route.map_or("", |route| &route.name),
            service,
            endpoint: endpoint.map_or("", |endpoint| {
                endpoint.instance().unwrap_or_else(|| endpoint.label())
            }),
            detail: self.detail,
            user_agent: request.fields.get(Known::UserAgent).unwrap_or_default(),
            given_id: identity::given_id(&request.fields, self.peer),
        });
    }

    fn count_compressed(&self, context: &Context, destination: &Destination) {
        let told = self.exchange.compressing.told;
        let Some(route) = destination.route.as_deref() else {
            return;
        };
        let cells = route.cells.of(self.worker.index);
        if let Some((coding, coded, plain)) = self.exchange.decompressing.told() {
            let cells = &cells.decompressed[coding as usize];
            cells.requests.add(1);
            cells.coded_bytes.add(coded);
            cells.plain_bytes.add(plain);
        }
        cells.uncompressed.add(u64::from(told.lacked_memory));
        if let Some(coding) = told.coding {
            let cells = &cells.compressed[coding as usize];
            cells.responses.add(1);
            cells.plain_bytes.add(context.plain_bytes);
            cells.coded_bytes.add(context.response_bytes);
        }
    }
}

/// Adds the request to its route's numbers.
fn count(context: &Context, destination: &Destination, worker: usize) {
    let Some(route) = destination.route.as_deref() else {
        return;
    };
    let cells = route.cells.of(worker);
    let stages = &context.stages;
    cells.by_class[usize::from(context.status / 100).min(5)].add(1);
    cells.duration.record(stages.end.micros_since(stages.start));
    if stages.first_byte != Ticks::ZERO {
        let micros = stages.first_byte.micros_since(stages.sent);
        cells.first_byte.record(micros);
    }
    let cut = context
        .fault
        .is_some_and(|fault| fault.side == Side::Upstream && fault.phase == Phase::ResponseBody);
    cells.truncated.add(u64::from(cut));
}
