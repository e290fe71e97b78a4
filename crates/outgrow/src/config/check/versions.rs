//! What routes ask of the version of HTTP that their services are spoken to with.

use outgrow_upstream::settings::HttpVersion;

use super::Check;
use crate::config::Config;

impl Check<'_> {
    /// gRPC is spoken by HTTP/2 alone.
    pub(super) fn calls(&mut self, config: &Config) {
        for (route, settings) in config.route.iter().filter(|(_, route)| route.grpc_web) {
            let path = ["route", route.as_str(), "grpc_web"];
            let mut services = settings.services().peekable();
            if services.peek().is_none() {
                let hint = "set service, or remove grpc_web";
                self.error(&path, "calls of gRPC-Web need a service to go to", hint);
            }
            for (service, _) in services {
                let other = config.service.iter().find(|(name, settings)| {
                    name.as_str() == service.as_str()
                        && settings.upstream.http_version != HttpVersion::Two
                });
                if let Some((name, _)) = other {
                    let name = name.as_str();
                    let message =
                        format!("service {name:?} is not spoken to by HTTP/2, as gRPC is");
                    let hint = format!("set http_version = \"2\" in [service.{name}]");
                    self.error(&path, message, hint);
                }
            }
        }
    }
}
