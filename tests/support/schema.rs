use super::http::Reply;
pub fn documented(_: &str, _: &str, _: &str, _: &Reply) {}
