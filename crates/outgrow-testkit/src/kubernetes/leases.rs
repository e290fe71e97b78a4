//! The fake's Leases: read, made, written and patched one by one. What it answers is what
//! kube-apiserver 1.36 was seen to answer: a name that is there (409), a version that is not the
//! newest (409), none at all (422), another object of that name or none any more (409, by its uid),
//! and a writing that changes nothing, which makes no new version.
//!
//! Not here: lists, watches, deletion by a question, apply patches.

use serde_json::{Value, json};

use super::{Mood, State, serve::status};

const PREFIX: &str = "/apis/coordination.k8s.io/v1/namespaces/";

/// What is asked, and of which Lease.
#[derive(Debug)]
pub(super) struct Question<'q> {
    pub(super) method: &'q str,
    pub(super) namespace: &'q str,
    /// `None`: of all of them.
    pub(super) name: Option<&'q str>,
    pub(super) body: Value,
}

impl<'q> Question<'q> {
    /// Whether it is about Leases.
    pub(super) fn parse(method: &'q str, target: &'q str, body: &[u8]) -> Option<Self> {
        let path = target.split('?').next()?;
        let (namespace, rest) = path.strip_prefix(PREFIX)?.split_once('/')?;
        let name = match rest.strip_prefix("leases")? {
            "" => None,
            rest => Some(rest.strip_prefix('/')?),
        };
        Some(Self {
            method,
            namespace,
            name,
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        })
    }
}

impl State {
    /// The status and the object, or the API's `Status`.
    pub(super) fn answer_lease(&mut self, question: &Question<'_>) -> (u16, Value) {
        let answer = match (question.method, question.name) {
            ("GET", Some(name)) => self.read(question.namespace, name),
            ("POST", None) => self.make(question.namespace, &question.body),
            ("PUT", Some(name)) => self.write(question.namespace, name, &question.body),
            ("PATCH", Some(name)) => self.patch(question.namespace, name, &question.body),
            _ => Err(status(405, "MethodNotAllowed", "not of the fake")),
        };
        answer.unwrap_or_else(|refusal| {
            let code = refusal["code"]
                .as_u64()
                .and_then(|code| code.try_into().ok());
            (code.unwrap_or(500), refusal)
        })
    }

    pub(super) fn put_lease(
        &mut self,
        namespace: &str,
        name: &str,
        mut metadata: Value,
        spec: Value,
    ) {
        self.version += 1;
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(namespace);
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", self.version));
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        });
        let key = (namespace.to_owned(), name.to_owned());
        self.leases.insert(key, lease);
    }

    fn lease(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.leases.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn read(&mut self, namespace: &str, name: &str) -> Result<(u16, Value), Value> {
        let found = self.lease(namespace, name).cloned();
        let found = found.ok_or_else(|| {
            let message = format!("leases.coordination.k8s.io \"{name}\" not found");
            status(404, "NotFound", &message)
        })?;
        if self.mood == Mood::Restless {
            let mut metadata = found["metadata"].clone();
            metadata["labels"] = json!({ "turn": self.version.to_string() });
            self.put_lease(namespace, name, metadata, found["spec"].clone());
        }
        Ok((200, found))
    }

    fn make(&mut self, namespace: &str, body: &Value) -> Result<(u16, Value), Value> {
        let Some(name) = body["metadata"]["name"].as_str() else {
            return Err(status(422, "Invalid", "metadata.name: Required value"));
        };
        if self.lease(namespace, name).is_some() {
            let message = format!("leases.coordination.k8s.io \"{name}\" already exists");
            return Err(status(409, "AlreadyExists", &message));
        }
        self.store(namespace, name, body, 201)
    }

    fn write(&mut self, namespace: &str, name: &str, body: &Value) -> Result<(u16, Value), Value> {
        let (version, uid) = (
            body["metadata"]["resourceVersion"].as_str(),
            &body["metadata"]["uid"],
        );
        let Some(before) = self.lease(namespace, name) else {
            // The API makes Leases by PUT as well, whatever version comes with them.
            return match uid {
                Value::Null => self.store(namespace, name, body, 201),
                _ => Err(conflict(name, "Precondition failed: UID in precondition")),
            };
        };
        if !uid.is_null() && *uid != before["metadata"]["uid"] {
            return Err(conflict(name, "Precondition failed: UID in precondition"));
        }
        match version {
            None | Some("") => {
                let message = format!(
                    "leases.coordination.k8s.io \"{name}\" is invalid: metadata.resourceVersion: \
                     Invalid value: 0: must be specified for an update"
                );
                Err(status(422, "Invalid", &message))
            }
            Some(version) if before["metadata"]["resourceVersion"] != version => {
                let message = "the object has been modified; please apply your changes to the \
                               latest version and try again";
                Err(conflict(name, message))
            }
            Some(_) => self.store(namespace, name, body, 200),
        }
    }

    /// A merge patch (RFC 7386); a version in it is a condition, none is none.
    fn patch(&mut self, namespace: &str, name: &str, body: &Value) -> Result<(u16, Value), Value> {
        let mut object = self.read(namespace, name)?.1;
        merge(&mut object, body);
        self.write(namespace, name, &object)
    }

    fn store(
        &mut self,
        namespace: &str,
        name: &str,
        body: &Value,
        code: u16,
    ) -> Result<(u16, Value), Value> {
        let spec = &body["spec"];
        let seconds = &spec["leaseDurationSeconds"];
        if !seconds.is_null() && seconds.as_u64().is_none_or(|seconds| seconds == 0) {
            let message = "spec.leaseDurationSeconds: must be greater than 0";
            return Err(status(422, "Invalid", message));
        }
        let before = self.lease(namespace, name).cloned();
        let mut metadata = body["metadata"].clone();
        match &before {
            Some(before) if before["spec"] == *spec && before["metadata"] == metadata => {
                return Ok((code, before.clone()));
            }
            Some(before) => metadata["uid"] = before["metadata"]["uid"].clone(),
            None => metadata["uid"] = Value::Null,
        }
        self.put_lease(namespace, name, metadata, spec.clone());
        let stored = self.lease(namespace, name).cloned().unwrap_or_default();
        if self.mood == Mood::Forgetful {
            let key = (namespace.to_owned(), name.to_owned());
            match before {
                Some(before) => {
                    self.leases.insert(key, before.clone());
                    return Ok((code, before));
                }
                None => drop(self.leases.remove(&key)),
            }
        }
        Ok((code, stored))
    }
}

fn conflict(name: &str, why: &str) -> Value {
    let message =
        format!("Operation cannot be fulfilled on leases.coordination.k8s.io \"{name}\": {why}");
    status(409, "Conflict", &message)
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                if let Some(object) = object.as_object_mut() {
                    object.remove(key);
                }
            }
            value => merge(&mut object[key.as_str()], value),
        }
    }
}
