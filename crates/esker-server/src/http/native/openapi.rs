//! `/api/v1/openapi.json`: the API described for programs, derived from the handlers.

use std::sync::LazyLock;

use http::Response;
use utoipa::OpenApi;

use super::{admin, backup, batch, cluster, delete_range, health, incr, key, list, mget};
use crate::http::answer::{AnswerBody, json_bytes};

#[derive(OpenApi)]
#[openapi(
    info(title = "Esker", description = "The native HTTP API of Esker, a persistent key/value store"),
    paths(
        key::get,
        key::head,
        key::put,
        key::delete,
        incr::incr,
        list::list,
        delete_range::delete_range,
        mget::mget,
        batch::batch,
        cluster::status,
        cluster::nodes,
        cluster::members,
        backup::backup,
        admin::checkpoint,
        admin::compact,
        admin::merge_now,
        admin::verify,
        health::health,
        health::ready,
        super::metrics,
        openapi
    )
)]
struct Description;

/// The description as JSON.
pub fn openapi_json() -> &'static str {
    static JSON: LazyLock<String> =
        LazyLock::new(|| Description::openapi().to_pretty_json().expect("a description is plain data"));
    &JSON
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object),
))]
pub(super) async fn openapi() -> Response<AnswerBody> {
    json_bytes(openapi_json())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (path, methods, _) in super::super::routes() {
            // HEAD goes with every GET; `/` only tells where to look.
            let named = methods.split(", ").filter(|&method| method != "HEAD" && path != "/");
            routes.extend(named.map(|method| format!("{method} {path}")));
        }
        described.sort();
        routes.sort();
        assert_eq!(described, routes);
    }
}
