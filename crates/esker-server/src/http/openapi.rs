//! The description that is served: the native API's and the dialects' together.

use std::sync::LazyLock;

use utoipa::OpenApi;

use super::{
    dialects::{envelope, query, verb},
    native, refusals,
};

/// A value in the description: any bytes.
pub(crate) struct ValueBytes;

impl utoipa::PartialSchema for ValueBytes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl utoipa::ToSchema for ValueBytes {}

/// The description as JSON.
pub fn openapi_json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let mut whole = native::Description::openapi()
            .merge_from(envelope::Description::openapi())
            .merge_from(verb::Description::openapi())
            .merge_from(query::Description::openapi());
        refusals::add(&mut whole);
        whole.to_pretty_json().expect("a description is plain data")
    });
    &JSON
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dialects::{Routes, envelope, query, verb};

    #[test]
    fn values_are_binary_and_the_answers_are_listed() {
        let description: serde_json::Value = serde_json::from_str(openapi_json()).unwrap();
        let key = &description["paths"]["/api/v1/kv/{key}"];
        let binary = serde_json::json!({ "type": "string", "format": "binary" });
        let octets = |body: &serde_json::Value| body["content"]["application/octet-stream"]["schema"].clone();
        assert_eq!(octets(&key["get"]["responses"]["200"]), binary);
        assert_eq!(octets(&key["put"]["requestBody"]), binary);
        for (method, statuses) in [
            ("get", &["307", "400", "404", "500", "503"][..]),
            ("put", &["307", "400", "403", "412", "413", "415", "429", "500", "503", "507"]),
            ("delete", &["307", "400", "403", "412", "500", "503", "507"]),
        ] {
            for status in statuses {
                assert!(key[method]["responses"].get(*status).is_some(), "{method} {status}");
            }
        }
        let parameters = |operation: &serde_json::Value| operation["parameters"].as_array().unwrap().clone();
        assert!(parameters(&key["head"]).iter().any(|parameter| parameter["name"] == "If-None-Match"));
        let named = |operation: &serde_json::Value, name: &str| {
            parameters(operation).iter().any(|parameter| parameter["name"] == name)
        };
        assert!(named(&key["get"], "consistency") && named(&key["head"], "consistency"));
        let batch = &description["paths"]["/api/v1/batch"]["post"];
        for write in [&key["put"], &key["delete"], batch] {
            assert!(named(write, "ack") && named(write, "Esker-Request-Id"), "{write}");
        }
        let incr = &description["paths"]["/api/v1/kv/{key}/incr"]["post"];
        assert!(named(&key["put"], "ttl"));
        for write in [&key["put"], &key["delete"], incr] {
            assert!(named(write, "If-Match"), "{write}");
        }
        for status in ["200", "400", "409", "412"] {
            assert!(incr["responses"].get(status).is_some(), "{status}");
        }
        let list = parameters(&description["paths"]["/api/v1/kv"]["get"]);
        let limit = list.iter().find(|parameter| parameter["name"] == "limit").unwrap();
        assert_eq!(limit["schema"]["minimum"], 1);
    }

    /// Whoever is asked who it is may be turned away, and anybody for a while: all of it is said of every route.
    #[test]
    fn every_route_says_how_it_turns_callers_away() {
        let description: serde_json::Value = serde_json::from_str(openapi_json()).unwrap();
        let mut open = Vec::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                let asks = answers.contains_key("401");
                if !asks {
                    open.push(path.as_str());
                }
                for status in ["401", "403", "429", "503"].into_iter().filter(|_| asks) {
                    let body = &answers[status]["content"];
                    assert_eq!(body.is_null(), method == "head", "{method} {path} {status}: {body}");
                }
                for (status, header) in
                    [("401", "www-authenticate"), ("429", "retry-after"), ("503", "retry-after")]
                {
                    let answer = answers.get(status);
                    assert!(
                        answer.is_none_or(|answer| !answer["headers"][header].is_null()),
                        "{path} {status}"
                    );
                }
            }
        }
        assert_eq!(open, refusals::PUBLIC);
        let refused = |path: &str| description["paths"][path]["get"]["responses"]["401"].to_string();
        for (path, form) in
            [("/api/v1/kv", "ErrorAnswer"), ("/kv/{key}", "ErrorEnvelope"), ("/scan", "text/plain")]
        {
            assert!(refused(path).contains(form), "{path}: {}", refused(path));
        }
    }

    /// Every route is described, and everything described is a route.
    #[test]
    fn the_description_is_complete_and_true() {
        let description: serde_json::Value = serde_json::from_str(openapi_json()).unwrap();
        let mut described = Vec::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        let key = ["GET", "HEAD", "PUT", "DELETE"].map(|method| format!("{method} /api/v1/kv/{{key}}"));
        let mut routes = Vec::from(key);
        routes.push("POST /api/v1/kv/{key}/incr".into());
        for (path, methods, _) in native::routes() {
            // HEAD goes with every GET; `/` only tells where to look.
            let named = methods.split(", ").filter(|&method| method != "HEAD" && path != "/");
            routes.extend(named.map(|method| format!("{method} {path}")));
        }
        routes.extend(named(envelope::ROUTES));
        routes.extend(named(verb::ROUTES));
        routes.extend(named(query::ROUTES));
        described.sort();
        routes.sort();
        assert_eq!(described, routes);
    }

    fn named<A>(routes: Routes<A>) -> impl Iterator<Item = String> {
        routes.iter().map(|(method, path, _)| format!("{method} {path}"))
    }

    /// Two APIs may have shapes of one name only if they are the same: the first would stand for both.
    #[test]
    fn no_shape_stands_for_another() {
        let apis = [
            native::Description::openapi(),
            envelope::Description::openapi(),
            verb::Description::openapi(),
            query::Description::openapi(),
        ];
        let mut known = std::collections::BTreeMap::new();
        for schemas in apis.into_iter().filter_map(|api| api.components).map(|components| components.schemas)
        {
            for (name, schema) in schemas {
                let schema = serde_json::to_value(schema).unwrap();
                let before = known.insert(name.clone(), schema.clone());
                assert!(before.is_none_or(|before| before == schema), "{name}");
            }
        }
    }
}
