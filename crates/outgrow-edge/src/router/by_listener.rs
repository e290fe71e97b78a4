//! Which routes a listener has: a router for each listener where routes say `listener`, and one for
//! all of them otherwise.

use super::{Router, Rule};
use crate::settings::{ListenerName, RouteSettings};

/// The routers of all listeners.
#[derive(Clone, Debug, Default)]
pub struct Routers {
    /// The listeners that have another one than the rest, by name.
    own: Vec<(String, Router)>,
    /// Of all others: the routes that say no listener.
    others: Router,
}

impl Routers {
    /// Compiles the routes. What the routers give is the place of the route in `routes`.
    pub fn compile<'r>(routes: impl IntoIterator<Item = &'r RouteSettings>) -> Self {
        let routes: Vec<&RouteSettings> = routes.into_iter().collect();
        let mut names: Vec<&str> = routes
            .iter()
            .flat_map(|route| route.listener.iter().map(ListenerName::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        let router = |listener: Option<&str>| {
            let all = routes.iter().enumerate();
            let those = all.filter(|(_, route)| has(route, listener));
            Router::compile_some(those.map(|(index, route)| (index, Rule::of(route))))
        };
        Self {
            own: names
                .into_iter()
                .map(|name| (name.to_owned(), router(Some(name))))
                .collect(),
            others: router(None),
        }
    }

    /// The router of a listener.
    #[inline]
    pub fn of(&self, listener: &str) -> &Router {
        if self.own.is_empty() {
            return &self.others;
        }
        let found = self
            .own
            .binary_search_by(|(name, _)| name.as_str().cmp(listener));
        found.map_or(&self.others, |place| &self.own[place].1)
    }
}

/// Whether a listener's requests can take the route; `None` is a listener that no route names.
fn has(route: &RouteSettings, listener: Option<&str>) -> bool {
    let named = |listener| route.listener.iter().any(|name| name.as_str() == listener);
    route.listener.is_empty() || listener.is_some_and(named)
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::{Name, OneOrMany};
    use outgrow_message::RequestHead;

    use super::super::Captures;
    use super::*;

    fn route(listeners: &[&str]) -> RouteSettings {
        let name = |name: &&str| ListenerName(Name::new(name).expect("a name"));
        RouteSettings {
            listener: OneOrMany(listeners.iter().map(name).collect()),
            ..RouteSettings::default()
        }
    }

    #[test]
    fn a_route_is_at_its_listeners() {
        let check = |routes: &[RouteSettings], listener: &str, expected| {
            let mut head = RequestHead::default();
            head.clear();
            head.raw_path = head.fields.push_bytes(b"/");
            head.normalise_path().expect("a path");
            let routers = Routers::compile(routes);
            let found = routers.of(listener).find(&head, &mut Captures::default());
            assert_eq!(found, expected, "{listener}");
        };
        let routes = [route(&["inner", "more"]), route(&["public"])];
        check(&routes, "inner", Some(0));
        check(&routes, "more", Some(0));
        check(&routes, "public", Some(1));
        check(&routes, "other", None);
        let routes = [route(&["inner"]), route(&[])];
        check(&routes, "inner", Some(0));
        check(&routes, "public", Some(1));
        check(&[route(&[])], "public", Some(0));
        check(&[], "public", None);
    }
}
