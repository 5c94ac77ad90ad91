use super::*;

fn code(method: http::Method, path: &str) -> &'static str {
    match find(&method, path, Surface::All) {
        Ok(Found::Row(route, _)) => route.path,
        Ok(Found::Admin) => "admin",
        Err(lost) => lost.error.code().name(),
    }
}

#[test]
fn only_the_exact_path_is_a_route() {
    assert_eq!(code(http::Method::POST, "/v1/chat/completions"), "/v1/chat/completions");
    for odd in [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/%63ompletions",
        "/V1/chat/completions",
        "/v1/chat/completions;x",
        "/v1/chat/../chat/completions",
        "",
        "*",
    ] {
        assert_eq!(code(http::Method::POST, odd), "route_not_found", "{odd}");
    }
}

#[test]
fn a_wrong_method_names_the_right_ones() {
    let lost = find(&http::Method::DELETE, "/v1/models", Surface::All).unwrap_err();
    assert_eq!(lost.error.code(), Code::MethodNotAllowed);
    assert_eq!(lost.allow.as_deref(), Some("GET, HEAD"));
}

#[test]
fn a_model_id_may_hold_slashes_and_is_decoded_once() {
    let Ok(Found::Row(route, rest)) = find(&http::Method::GET, "/v1/models/a/b%2Fc%2520", Surface::All)
    else {
        panic!("no row");
    };
    assert_eq!(route.handler, Handler::Model);
    assert_eq!(parameter(rest).unwrap(), "a/b/c%20");
    for bad in ["%", "%4", "%zz", "%00", "%ff", "%+1"] {
        assert_eq!(parameter(bad), None, "{bad}");
    }
}

#[test]
fn a_split_listener_hides_the_other_half() {
    assert!(matches!(find(&http::Method::GET, "/admin/v1/keys", Surface::All), Ok(Found::Admin)));
    assert!(find(&http::Method::GET, "/admin/v1/keys", Surface::Data).is_err());
    assert!(find(&http::Method::GET, "/metrics", Surface::Data).is_err());
    assert!(find(&http::Method::POST, "/v1/embeddings", Surface::Admin).is_err());
    assert!(find(&http::Method::GET, "/readyz", Surface::Admin).is_ok());
}

#[test]
fn operation_ids_are_unique() {
    let mut ids: Vec<_> = ROUTES.iter().map(|route| route.operation.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), ROUTES.len());
}
