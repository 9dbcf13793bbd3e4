//! The HTTP server, over real sockets: every path, every refusal, and peers that do not behave.

mod support;

use serde_json::json;
use support::http::{Reply, Server, ask_body, curl, options, request, talk};

#[tokio::test]
async fn a_call_from_the_lookup_to_its_end() {
    let server = Server::start().await;
    let reply = server.route(r#""c1@host""#).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let document = reply.json();
    let token = document["mqs"]["token"].as_str().unwrap();
    assert_eq!(document["routes"].as_array().unwrap().len(), 3);
    let body = json!({"token": token}).to_string();
    assert_eq!(server.ask("POST", "/v1/confirm", &body).await.json(), json!({"result": "confirmed"}));
    assert_eq!(server.ask("POST", "/v1/done", &body).await.json(), json!({"result": "ended"}));
}
