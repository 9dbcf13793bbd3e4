//! Requests over a node's own connection, between its events: `RESTRequest` and `RESTResponse` (Asterisk 20.14, 22.4 and later).

use super::request::Request;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;

/// What a node answered to a request over its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestAnswer {
    /// The number of the request; `None`: of none that was asked here.
    pub number: Option<u64>,
    /// As HTTP has it.
    pub status: u16,
    /// JSON, or empty.
    pub body: String,
}

/// A request with its number.
pub fn ask(number: u64, request: &Request) -> String {
    let mut asked = json!({
        "type": "RESTRequest",
        "request_id": number.to_string(),
        "method": request.method.as_str(),
        "uri": request.path.trim_start_matches('/'),
    });
    if let (Some(all), false) = (asked.as_object_mut(), request.body.is_empty()) {
        all.insert("content_type".to_owned(), json!("application/json"));
        all.insert("message_body".to_owned(), json!(request.body));
    }
    asked.to_string()
}

/// Reads an answer; `None`: it is something else, an event.
pub fn answer(text: &str) -> Option<RestAnswer> {
    #[derive(Deserialize)]
    struct AnswerJson<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        request_id: Cow<'a, str>,
        #[serde(default)]
        status_code: i64,
        #[serde(borrow, default)]
        message_body: Cow<'a, str>,
    }
    let json: AnswerJson<'_> = serde_json::from_str(text).ok()?;
    (json.kind == "RESTResponse").then(|| RestAnswer {
        number: json.request_id.parse().ok(),
        status: u16::try_from(json.status_code).unwrap_or(0),
        body: json.message_body.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::request;
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_request_has_a_number_and_no_slash_before_it() {
        let asked: Value =
            serde_json::from_str(&ask(7, &request::ring(&"a/b-1.2".parse().unwrap()))).unwrap();
        let expected = json!({
            "type": "RESTRequest", "request_id": "7", "method": "POST", "uri": "channels/a%2Fb-1.2/ring",
        });
        assert_eq!(asked, expected);
        let mut with_body = request::channels();
        with_body.body = "{\"a\":1}".to_owned();
        let asked: Value = serde_json::from_str(&ask(8, &with_body)).unwrap();
        assert_eq!(
            (&asked["content_type"], &asked["message_body"]),
            (&json!("application/json"), &json!("{\"a\":1}"))
        );
    }

    #[test]
    fn an_answer_is_told_from_an_event() {
        let text = r#"{"type":"RESTResponse","transaction_id":"","request_id":"7","status_code":404,"reason_phrase":"Not Found","uri":"x","message_body":"{\"message\":\"no\"}","asterisk_id":"02:00"}"#;
        let expected = RestAnswer { number: Some(7), status: 404, body: "{\"message\":\"no\"}".to_owned() };
        assert_eq!(answer(text), Some(expected));
        let bare = r#"{"type":"RESTResponse","request_id":"x","status_code":-1}"#;
        assert_eq!(answer(bare), Some(RestAnswer { number: None, status: 0, body: String::new() }));
        for other in [r#"{"type":"StasisStart","request_id":"7"}"#, "", "[]", r#"{"type":1}"#] {
            assert_eq!(answer(other), None, "{other}");
        }
    }
}
